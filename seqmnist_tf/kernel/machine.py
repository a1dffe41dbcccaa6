"""The program of a cell's step, how it runs over sequences, and its gradient in TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ..system import available_cores
from . import native
from .internals import on_a_tape
from .noise import Noise
from .tracing import first_states


class RowInputs(NamedTuple):
    """What a row has besides its sequence; None is what it has not.

    Attributes:
        first: the states before the first step beside each other, float32 (n, width); None for zeros.
        ends: how many steps of each row count, at least 1, int32 (n,); the states after them are its last ones.
        drawn: the dropout masks beside each other, float32 (n, width).
    """

    first: Any = None
    ends: Any = None
    drawn: Any = None


@dataclass(frozen=True)
class Passes:
    """The forward and the backward pass of the kernel, for TensorFlow, which hands over arrays as one list.

    The list begins with the inputs; then come those of ``first``, ``ends`` and ``drawn`` that there are. An array that
    the kernel does not return is left out.

    Attributes:
        forward, backward: as in :func:`differentiable`.
        inputs: their number, without the first states.
        given: for each field of RowInputs, whether it is given.
    """

    forward: Callable[..., tuple[np.ndarray, np.ndarray | None, np.ndarray | None]]
    backward: Callable[..., Sequence[np.ndarray]]
    inputs: int
    given: RowInputs

    def split(self, arrays: Sequence[np.ndarray]) -> tuple[Sequence[np.ndarray], RowInputs, Sequence[np.ndarray]]:
        """Return the inputs, what rows have besides, and what follows them in the list."""
        end = self.inputs + sum(self.given)
        of_rows = iter(arrays[self.inputs : end])
        rows = RowInputs(*(next(of_rows) if is_given else None for is_given in self.given))
        return arrays[: self.inputs], rows, arrays[end:]

    def run_forward(self, *arrays: np.ndarray, keep: bool) -> list[np.ndarray]:
        """Return the outputs; the last states, with first states; and what the backward pass reads, with ``keep``."""
        inputs, rows, _ = self.split(arrays)
        return [array for array in self.forward(*inputs, rows=rows, keep=keep) if array is not None]

    def run_backward(self, *arrays: np.ndarray, want_sequences: bool) -> Sequence[np.ndarray]:
        """Return the gradients; after the inputs and rows come what was kept and the gradients of the results."""
        inputs, rows, (kept, *upstream) = self.split(arrays)
        last_gradient = upstream[1] if self.given.first else None
        return self.backward(
            *inputs, kept, upstream[0], rows=rows, last_gradient=last_gradient, want_sequences=want_sequences
        )


def differentiable(
    forward: Callable[..., tuple[np.ndarray, np.ndarray | None, np.ndarray | None]],
    backward: Callable[..., Sequence[np.ndarray]],
    inputs: Sequence[tf.Tensor],
    rows: RowInputs,
    *,
    units: int,
    all_steps: bool,
    training: bool,
    stock: str,
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Return what the kernel computes: outputs float32 (n, units) or, with ``all_steps``, (n, steps, units).

    With first states in ``rows``, the last states follow, float32 (n, width), else None.

    Args:
        forward: of the inputs, with ``rows`` and ``keep``: the outputs, the last states or None, and what the backward
            pass reads or None.
        backward: of the inputs, what was kept and the outputs' gradient, with ``rows``, ``last_gradient`` and
            ``want_sequences``: the gradients of all inputs, or of all but the first, then those of the first states.
        inputs: sequences float32 (n, steps, features), then whatever else gradients are asked for.
        training: keep what the backward pass reads. If false, a gradient computes the forward pass again.
        stock: the layer of Keras that has gradients of gradients.
    """
    follows_layers = on_a_tape(inputs[:1])  # a tape will ask for the gradient of the sequences too
    passes = Passes(forward, backward, len(inputs), RowInputs(*(tensor is not None for tensor in rows)))
    has_states = rows.first is not None
    constants = [tensor for tensor in (rows.ends, rows.drawn) if tensor is not None]  # they have no gradients
    results = [tf.float32] * (1 + has_states)

    def second_order(*_: tf.Tensor) -> Any:
        raise NotImplementedError(
            f"the native kernel has first-order gradients only; use keras.layers.{stock} for higher-order ones"
        )

    # These operations have no state, so that a graph drops unused results, above all the gradient of the sequences.
    @tf.custom_gradient
    def compute(*inputs: tf.Tensor) -> Any:
        given = [*inputs, *constants]

        def run_and_keep() -> Any:
            run = partial(passes.run_forward, keep=True)
            return tf.numpy_function(run, given, [*results, tf.float32], stateful=False)

        found: list[Any]
        kept = None
        if training:
            *found, kept = run_and_keep()
        else:
            run = partial(passes.run_forward, keep=False)
            found = tf.nest.flatten(tf.numpy_function(run, given, results, stateful=False))
        n, steps, _ = inputs[0].shape
        found[0].set_shape((n, steps, units) if all_steps else (n, units))
        if has_states:
            found[1].set_shape(inputs[-1].shape)

        @tf.custom_gradient
        def first_order(*tensors: tf.Tensor) -> Any:
            types = [tf.float32] * len(inputs)
            read = [*tensors[: len(inputs)], *constants, *tensors[len(inputs) :]]
            every, others = (partial(passes.run_backward, want_sequences=wanted) for wanted in (True, False))
            gradients = list(tf.numpy_function(every, read, types, stateful=False))
            if not follows_layers and not tf.executing_eagerly():  # else nothing would be dropped
                gradients[1:] = tf.numpy_function(others, read, types[1:], stateful=False)
            for tensor, source in zip(gradients, inputs, strict=True):
                tensor.set_shape(source.shape)
            return gradients, second_order

        def gradient(*upstream: tf.Tensor) -> list[tf.Tensor]:
            # IndexedSlices where rows of the states were selected.
            whole = [tf.convert_to_tensor(tensor) for tensor in upstream]
            return first_order(*inputs, run_and_keep()[-1] if kept is None else kept, *whole)

        return found, gradient

    outputs, *last = compute(*inputs, *([rows.first] if has_states else []))
    return outputs, last[0] if last else None


@dataclass(frozen=True)
class StepProgram:
    """The step of a cell, forward and backward, as the native machine runs it.

    Attributes:
        features, units, states, drawn: widths of the input, the output, the states and the dropout masks.
        noise: draws what each step reads beside its features; ``features`` counts it. None: a step draws nothing.
        numbers, constants: the program, as the library reads it.
        parameters: shapes of what is computed from the cell's weights before the first step, and enters all of them.
        differentiable: how many of them, the first ones, have gradients.
        kept: floats that a row keeps at a step for the backward pass.
        weights_to_parameters: computes the parameters in TensorFlow, which differentiates it.
        computed: how it computes them, for the comparison with another trace.
        text: the program as ``print`` shows it; docs/kernel.md explains it.
        tiles: whether AMX is exact enough for the cell; else it runs on AVX-512.
    """

    features: int
    units: int
    states: tuple[int, ...]
    drawn: tuple[int, ...]
    noise: Noise | None
    numbers: np.ndarray
    constants: np.ndarray
    parameters: tuple[tuple[int, ...], ...]
    differentiable: int
    kept: int
    zero_start: bool
    weights_to_parameters: Callable[..., list[tf.Tensor]]
    computed: list[Any]
    text: str
    tiles: bool = True

    def __str__(self) -> str:
        return self.text

    def instruction_set(self) -> str:
        """Return the instruction set that the program runs on here."""
        isa = native.instruction_set()
        return "avx512" if isa == "amx" and not self.tiles else isa


def rnn_outputs(
    program: StepProgram,
    cell: keras.Layer,
    sequences: tf.Tensor,
    rows: RowInputs = RowInputs(),  # noqa: B008  # it does not change
    *,
    all_steps: bool,
    threads: int,
    training: bool,
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Return the outputs of a cell, float32 (n, units) of the last step or, of all steps, (n, steps, units).

    If ``rows`` has first states, the last ones follow, float32 (n, width), else None. The results are differentiable
    once with respect to the sequences, float32 (n, steps, features), the cell's weights and the first states.
    """
    threads = threads or min(available_cores(), native.MAX_THREADS)
    weights = [tf.convert_to_tensor(variable) for variable in cell.variables]
    parameters = program.weights_to_parameters(*weights)
    wants_last = rows.first is not None
    if not (wants_last or program.zero_start):
        rows = rows._replace(first=tf.concat(first_states(cell, tf.shape(sequences)[0]), axis=1))
    flat = tf.concat([tf.zeros(0), *(tf.reshape(parameter, [-1]) for parameter in parameters)], axis=0)

    def forward(x: np.ndarray, flat: np.ndarray, **options: Any) -> Any:
        return step_forward(program, x, flat, threads=threads, all_steps=all_steps, **options)

    def backward(x: np.ndarray, flat: np.ndarray, kept: np.ndarray, upstream: np.ndarray, **options: Any) -> Any:
        found = step_backward(program, x, flat, kept, upstream, threads=threads, **options)
        return [gradient for gradient in found if gradient is not None]

    options: Any = {"units": program.units, "all_steps": all_steps, "training": training, "stock": "RNN"}
    outputs, last = differentiable(forward, backward, (sequences, flat), rows, **options)
    return outputs, last if wants_last else None


def step_forward(
    program: StepProgram,
    sequences: np.ndarray,
    parameters: np.ndarray,
    *,
    rows: RowInputs,
    threads: int,
    keep: bool,
    all_steps: bool,
) -> tuple[np.ndarray, np.ndarray | None, Any]:
    """Return the outputs, the last states or None, and what :func:`step_backward` reads or None.

    The outputs are float32 (n, units) or (n, steps, units), the last states (n, width) where ``rows`` has first ones.
    ``parameters`` are the program's, float32 (size,).
    """
    sequences = native.contiguous(sequences)
    n, steps, features = sequences.shape
    if features != program.features or not steps:
        raise ValueError(f"sequences must be (n, steps, {program.features}) (got {sequences.shape})")
    isa = program.instruction_set()
    outputs = np.empty((n, steps, program.units) if all_steps else (n, program.units), np.float32)
    first, ends = native.checked(rows.first, rows.ends, n, steps, sum(program.states))
    last = None if first is None else np.empty_like(first)
    kept = None
    if keep:
        kept = native.take((n + 1) * steps * program.kept + 1)
        kept[-1] = native.ISAS.index(isa)  # the backward pass runs on the same
    if n:
        given = (program.numbers, program.constants, n, steps, int(all_steps))
        read = (sequences, native.contiguous(parameters), first)
        more = (ends, None if rows.drawn is None else native.contiguous(rows.drawn), last)
        native.call("machine_forward", native.ISAS.index(isa), threads, *given, *read, outputs, kept, *more)
    return outputs, last, kept


def step_backward(
    program: StepProgram,
    sequences: np.ndarray,
    parameters: np.ndarray,
    kept: np.ndarray,
    gradient: np.ndarray,
    *,
    rows: RowInputs,
    last_gradient: np.ndarray | None,
    threads: int,
    want_sequences: bool,
) -> tuple[Any, np.ndarray, Any]:
    """Return the gradients of the sequences or None, of the parameters, and of the first states or None.

    ``gradient`` and ``last_gradient`` are with respect to the outputs and states that :func:`step_forward` returned for
    the same ``rows``, and ``kept`` is what it kept.
    """
    sequences, gradient, kept = native.contiguous(sequences), native.contiguous(gradient), native.aligned(kept)
    n, steps, _ = sequences.shape
    first, ends = native.checked(rows.first, rows.ends, n, steps, sum(program.states))
    wrt_parameters = np.zeros(parameters.shape, np.float32)
    wrt_sequences = np.zeros(sequences.shape, np.float32) if want_sequences else None
    wrt_first = None if first is None else np.zeros((n, sum(program.states)), np.float32)
    if n:
        given = (program.numbers, program.constants, n, steps, int(gradient.ndim == 3))
        results = (wrt_sequences, wrt_parameters, wrt_first)
        read = (sequences, native.contiguous(parameters), kept, gradient)
        drawn, last = (None if a is None else native.contiguous(a) for a in (rows.drawn, last_gradient))
        native.call("machine_backward", int(kept[-1]), threads, *given, *read, *results, ends, drawn, last)
    return wrt_sequences, wrt_parameters, wrt_first

"""The program of a cell's step, how it runs over sequences, and its gradient in TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import record

from ..system import available_cores
from . import native
from .tracing import first_states


def differentiable(
    forward: Callable[..., tuple[np.ndarray, np.ndarray | None]],
    backward: Callable[..., Sequence[np.ndarray]],
    inputs: Sequence[tf.Tensor],
    *,
    units: int,
    all_steps: bool,
    training: bool,
    stock: str,
) -> tf.Tensor:
    """Return the outputs of the kernel, float32 (n, units) or, with ``all_steps``, (n, steps, units).

    Args:
        forward: of the inputs and ``keep``: the outputs, and what the backward pass reads or None.
        backward: of the inputs, what was kept, the outputs' gradient and ``want_sequences``: the gradients of all
            inputs, or of all but the first.
        inputs: sequences float32 (n, steps, features), then whatever else gradients are asked for.
        training: keep what the backward pass reads. If false, a gradient computes the forward pass again.
        stock: the layer of Keras that has gradients of gradients.
    """
    follows_layers = record.should_record_backprop(inputs[:1])  # a tape will ask for the gradient of the sequences too

    def outputs(*arrays: np.ndarray) -> np.ndarray:
        return forward(*arrays, keep=False)[0]

    def second_order(*_: tf.Tensor) -> Any:
        raise NotImplementedError(
            f"the native kernel has first-order gradients only; use keras.layers.{stock} for higher-order ones"
        )

    # These operations have no state, so that a graph drops unused results, above all the gradient of the sequences.
    @tf.custom_gradient
    def compute(*inputs: tf.Tensor) -> Any:
        def run_and_keep() -> Any:
            return tf.numpy_function(partial(forward, keep=True), inputs, (tf.float32, tf.float32), stateful=False)

        states, kept = run_and_keep() if training else (None, None)
        if states is None:
            states = tf.numpy_function(outputs, inputs, tf.float32, stateful=False)
        n, steps, _ = inputs[0].shape
        states.set_shape((n, *((steps,) if all_steps else ()), units))

        @tf.custom_gradient
        def first_order(*given: tf.Tensor) -> Any:
            types = (tf.float32,) * len(inputs)
            every, others = (partial(backward, want_sequences=wanted) for wanted in (True, False))
            gradients = list(tf.numpy_function(every, given, types, stateful=False))
            if not follows_layers and not tf.executing_eagerly():  # else nothing would be dropped
                gradients[1:] = tf.numpy_function(others, given, types[1:], stateful=False)
            for tensor, source in zip(gradients, inputs, strict=True):
                tensor.set_shape(source.shape)
            return gradients, second_order

        def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
            upstream = tf.convert_to_tensor(upstream)  # IndexedSlices where rows of the states were selected
            return first_order(*inputs, run_and_keep()[1] if kept is None else kept, upstream)

        return states, gradient

    return compute(*inputs)


@dataclass(frozen=True)
class StepProgram:
    """The step of a cell, forward and backward, as the native machine runs it.

    Attributes:
        features, units, states: widths of the input, the output and the states.
        numbers, constants: the program, as the library reads it.
        parameters: shapes of what is computed from the cell's weights before the first step, and enters all of them.
        differentiable: how many of them, the first ones, have gradients.
        kept: floats that a row keeps at a step for the backward pass.
        weights_to_parameters: computes the parameters in TensorFlow, which differentiates it.
        computed: how it computes them, for the comparison with another trace.
    """

    features: int
    units: int
    states: tuple[int, ...]
    numbers: np.ndarray
    constants: np.ndarray
    parameters: tuple[tuple[int, ...], ...]
    differentiable: int
    kept: int
    zero_start: bool
    weights_to_parameters: Callable[..., list[tf.Tensor]]
    computed: list[Any]


def rnn_outputs(
    program: StepProgram, cell: keras.Layer, sequences: tf.Tensor, *, all_steps: bool, threads: int, training: bool
) -> tf.Tensor:
    """Return the outputs of a cell, float32 (n, units) of the last step or, of all steps, (n, steps, units).

    They are differentiable once with respect to the sequences, float32 (n, steps, features), and the cell's weights.
    """
    threads = threads or min(available_cores(), native.MAX_THREADS)
    weights = [tf.convert_to_tensor(variable) for variable in cell.variables]
    parameters = program.weights_to_parameters(*weights)
    first = [] if program.zero_start else [tf.concat(first_states(cell, tf.shape(sequences)[0]), axis=1)]
    flat = tf.concat([tf.zeros(0), *(tf.reshape(parameter, [-1]) for parameter in parameters)], axis=0)

    def forward(x: np.ndarray, flat: np.ndarray, initial: np.ndarray | None = None, *, keep: bool) -> Any:
        return step_forward(program, x, flat, initial, threads=threads, keep=keep, all_steps=all_steps)

    def backward(x: np.ndarray, flat: np.ndarray, *rest: np.ndarray, want_sequences: bool) -> list[np.ndarray]:
        *initial, kept, upstream = rest
        options: Any = {"threads": threads, "want_sequences": want_sequences, "want_initial": bool(initial)}
        found = step_backward(program, x, flat, kept, upstream, **options)
        return [gradient for gradient in found if gradient is not None]

    return differentiable(
        forward,
        backward,
        (sequences, flat, *first),
        units=program.units,
        all_steps=all_steps,
        training=training,
        stock="RNN",
    )


def step_forward(
    program: StepProgram,
    sequences: np.ndarray,
    parameters: np.ndarray,
    initial: np.ndarray | None,
    *,
    threads: int,
    keep: bool,
    all_steps: bool,
) -> tuple[np.ndarray, Any]:
    """Return the outputs, float32 (n, units) or (n, steps, units), and what :func:`step_backward` reads, or None.

    ``parameters`` are the program's, float32 (size,); ``initial`` the states before the first step beside each other,
    float32 (n, width), or None for zeros.
    """
    sequences = native.contiguous(sequences)
    n, steps, features = sequences.shape
    if features != program.features or not steps:
        raise ValueError(f"sequences must be (n, steps, {program.features}) (got {sequences.shape})")
    isa = native.ISAS.index(native.instruction_set())
    outputs = np.empty((n, steps, program.units) if all_steps else (n, program.units), np.float32)
    kept = None
    if keep:
        kept = native.take((n + 1) * steps * program.kept + 1)
        kept[-1] = isa
    if n:
        given = (program.numbers, program.constants, n, steps, int(all_steps))
        read = (sequences, native.contiguous(parameters), None if initial is None else native.contiguous(initial))
        native.call("machine_forward", isa, threads, *given, *read, outputs, kept)
    return outputs, kept


def step_backward(
    program: StepProgram,
    sequences: np.ndarray,
    parameters: np.ndarray,
    kept: np.ndarray,
    gradient: np.ndarray,
    *,
    threads: int,
    want_sequences: bool,
    want_initial: bool,
) -> tuple[Any, np.ndarray, Any]:
    """Return the gradients of the sequences or None, of the parameters, and of the first states or None.

    ``gradient`` is with respect to the outputs that :func:`step_forward` returned, and ``kept`` what it kept.
    """
    sequences, gradient, kept = native.contiguous(sequences), native.contiguous(gradient), native.aligned(kept)
    n, steps, _ = sequences.shape
    wrt_parameters = np.zeros(parameters.shape, np.float32)
    wrt_sequences = np.zeros(sequences.shape, np.float32) if want_sequences else None
    wrt_initial = np.zeros((n, sum(program.states)), np.float32) if want_initial else None
    if n:
        given = (program.numbers, program.constants, n, steps, int(gradient.ndim == 3))
        results = (wrt_sequences, wrt_parameters, wrt_initial)
        read = (sequences, native.contiguous(parameters), kept, gradient)
        native.call("machine_backward", int(kept[-1]), threads, *given, *read, *results)
    return wrt_sequences, wrt_parameters, wrt_initial

"""A cell's step as a program for the native machine: traced, translated, and compared with what was traced."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from . import native
from .expressions import Cuts, Expressions, GradientTerm, Pieces, Source, columns_of, is_zero
from .machine import RowInputs, StepProgram, step_backward, step_forward
from .noise import Noise
from .operations import Summed, Translator
from .program import Assembly
from .schedule import Results, is_linear, simplified
from .tracing import CONSTANT, ROWS, Step, Untranslatable, first_states, trace, unlike

# Environment variable of our tests: an exception of the translation other than Untranslatable is a bug, and is raised.
STRICT = "SEQMNIST_STRICT"
MAX_TRANSLATIONS = 16


def translate(cell: keras.Layer, features: int, training: bool | None = None) -> StepProgram:
    """Return the program of a built cell, or of ``StackedRNNCells``, for inputs of so many features, or Untranslatable.

    The step is traced twice, with other numbers of rows. With ``training`` None, it is traced in training and out of
    it; what depends on either is refused. A cell with Keras's dropout has two programs; that of training reads masks.
    The program is then compared with the traced graph on random steps. On AMX, it runs on AVX-512 if the cell needs it.
    """
    step, again = _traced_twice(cell, features, training)
    try:
        cuts: Cuts = {}
        program, other = program_of(step, cuts), program_of(again, cuts)
        if not (
            np.array_equal(program.numbers, other.numbers)
            and np.array_equal(program.constants, other.constants, equal_nan=True)
            and (program.parameters, program.computed) == (other.parameters, other.computed)
        ):
            raise Untranslatable("the step depends on the size of the batch, or is another one in training")
        if native.instruction_set() == "amx" and _error_of_tiles(cell, step, program) > MAX_TILE_ERROR:
            program = replace(program, tiles=False)
        _compare(cell, step, program)
    except Untranslatable:
        raise
    except Exception as error:
        if os.environ.get(STRICT):
            raise
        raise Untranslatable(f"its step cannot be translated: {type(error).__name__}: {error}") from error
    return program


def _traced_twice(cell: keras.Layer, features: int, training: bool | None) -> list[Step]:
    """Return the step traced with two numbers of rows that no axis of either has otherwise."""
    try:
        sizes = [features, *keras.tree.flatten(cell.state_size)]
        sizes += [size for weight in cell.variables for size in weight.shape]
        while True:
            first, second = unlike(sizes)
            modes = (True, False) if training is None else (training, training)
            steps = [trace(cell, features, n, mode) for n, mode in zip((first, second), modes, strict=True)]
            if not (widths := {first} & steps[1].lengths() | {second} & steps[0].lengths()):
                return steps
            sizes += widths
    except Untranslatable:
        raise
    except Exception as error:  # TensorFlow's and Keras's inner parts may change, and cells do what they like
        raise Untranslatable(f"its step cannot be traced: {type(error).__name__}: {error}") from error


def program_of(step: Step, cuts: Cuts) -> StepProgram:
    """Return the program of a step; ``cuts``, the columns at which leaves and products are cut, get what it needs."""
    return _assembled(step, *expressions_of(step, cuts))


def expressions_of(step: Step, cuts: Cuts) -> tuple[Translator, Results]:
    """Return the expressions of a step, with their translator, which knows its parameters.

    The step is translated until it reads no slice of a leaf or product that is not cut there.
    """
    constants = _constants(step)
    for _ in range(MAX_TRANSLATIONS):
        translator = Translator(step, Expressions(cuts), constants)
        results = _results(translator, step)
        if not translator.expressions.needs_cuts:
            return translator, results
    raise Untranslatable("the step cuts its tensors into too many pieces")


def _constants(step: Step) -> dict[str, np.ndarray]:
    """Return the values of the constants that operations on rows read."""
    graph = step.function.graph
    found = {
        given.name: given
        for operation in graph.get_operations()
        if any(step.kind(output) == ROWS for output in operation.outputs)
        for given in operation.inputs
        if step.kind(given) == CONSTANT
    }
    for tensor in (step.output, *step.new_states, *step.gradients):
        if tensor is not None and step.kind(tensor) == CONSTANT:
            found[tensor.name] = tensor
    return dict(zip(found, step.values(list(found.values())), strict=True))


def _results(translator: Translator, step: Step) -> Results:
    make = translator.expressions

    def rows(tensor: tf.Tensor | None, width: int) -> Pieces:
        if tensor is None:
            return [make.wide_constant(0, width)]
        value = translator.value(tensor)
        if isinstance(value, Summed) or sum(piece.width for piece in value.pieces) != width:
            raise Untranslatable("a result of the step mixes the rows of a batch")
        return value.pieces

    def like_states(pieces: Pieces, which: int, width: int) -> Pieces:
        """Return pieces that are cut as the state is; the state is cut where they are."""
        spans = make.spans(Source("state", which), width)
        ends = {first + piece.width for first, piece in columns_of(pieces)}
        if missing := ends - {high for _, high in spans}:
            make.cut(Source("state", which), *missing)
        return [piece for low, high in spans for piece in make.window(pieces, low, high - low)]

    features, units, *sizes = (int(tensor.shape[1]) for tensor in (step.x, step.output, *step.states))
    states = [like_states(rows(new, n), i, n) for i, (new, n) in enumerate(zip(step.new_states, sizes, strict=True))]
    output = rows(step.output, units) if step.output_state is None else states[step.output_state]
    wrt_x, before, borders = step.gradients[0], step.gradients[1 : len(sizes) + 1], step.gradients[len(sizes) + 1 :]
    gradients = [like_states(rows(g, n), i, n) for i, (g, n) in enumerate(zip(before, sizes, strict=True))]
    parameter_gradients: dict[int, list[GradientTerm]] = {}
    for which, gradient in enumerate(borders):
        if gradient is None or (step.kind(gradient) == CONSTANT and not np.any(translator.constants[gradient.name])):
            continue
        value = translator.value(gradient)
        if not isinstance(value, Summed):
            raise Untranslatable("a weight's gradient is no sum over rows")
        parameter_gradients[which] = [term for term in value.terms if not is_zero(term.right)]
    drawn = tuple(int(mask.shape[1]) for mask in step.drawn)
    noise = tuple(int(tensor.shape[1]) for tensor in step.noise)
    shapes = ((features, *noise), units, tuple(sizes), drawn, step.output_state)
    wrt_inputs = [*rows(wrt_x, features), *(make.wide_constant(0, width) for width in noise)]
    return Results(*shapes, states, output, gradients, wrt_inputs, parameter_gradients)


def _assembled(step: Step, translator: Translator, results: Results) -> StepProgram:
    parameters = [*translator.parameters.values()]
    shapes = tuple(tuple(int(n) for n in parameter.shape) for parameter in parameters)
    assembly = Assembly(translator.expressions, simplified(translator.expressions, results), shapes)
    numbers = assembly.numbers(step.zero_start and is_linear(results))
    if max(numbers) > native.MAX_LENGTH:
        raise Untranslatable("its weights or states are too large")
    return StepProgram(
        features=sum(results.inputs),
        units=results.units,
        states=results.widths,
        drawn=results.drawn,
        noise=Noise(step) if step.noise or step.seeds else None,
        numbers=np.array(numbers, np.int64),
        constants=np.concatenate([np.zeros(0, np.float32), *assembly.fixed.constants]),
        parameters=shapes,
        differentiable=len(step.borders),
        kept=assembly.kept_size,
        zero_start=step.zero_start,
        weights_to_parameters=step.cut(step.weights, parameters) if shapes else lambda *_: [],
        computed=step.computed(parameters),
        text="\n".join(assembly.texts),
    )


# ---- the choice between AMX and AVX-512 ----

SEQUENCE = 50  # steps: a normalization divides by small spreads, and magnifies errors a little at each step
# Some 1e-5 were seen for the published cells, and 6e-5 or more for cells that normalize; docs/speed.md promises 5e-5.
MAX_TILE_ERROR = 3e-5


def _error_of_tiles(cell: keras.Layer, step: Step, program: StepProgram) -> float:
    """Return how far a program's results on AMX are from those on AVX-512, which multiplies all bits of a number.

    The cell has its own weights and first states here.
    """
    random = np.random.RandomState(0)
    weights = [np.asarray(weight.numpy()) for weight in cell.variables]
    states = [np.asarray(state) for state in first_states(cell, step.rows)]
    shape = (SEQUENCE, step.rows)
    x = random.standard_normal((*shape, program.features)).astype(np.float32)
    upstream = random.standard_normal((*shape, program.units)).astype(np.float32)
    drawn = [np.ones((step.rows, width), np.float32) for width in program.drawn]
    on_tiles, exact = (
        by_the_machine(replace(program, tiles=tiles), weights, x, states, upstream, drawn) for tiles in (True, False)
    )
    return max(relative_errors(on_tiles, exact))


# ---- the comparison with the traced graph ----

STEPS = 3
# Errors of the machine against float64, relative to the largest number, that are always allowed; and as a multiple of
# what rounding explains: the graph's own error in float32, or the effect of rounding what the graph reads.
MAX_ERROR, MAX_RATIO = 2e-4, 10
ROUNDING, ROUNDING_ON_AMX = 2.0**-24, 2.0**-16  # on AMX, products are of two bfloat16 each
TRIES = 3  # a comparison within the cell may fall out otherwise where rounding moves a number across its edge


def _compare(cell: keras.Layer, step: Step, program: StepProgram) -> None:
    """Run the machine and the graph on random steps, with the cell's weights and with others near them.

    Untranslatable is raised where the machine is further from the graph in float64 than rounding explains.
    """
    own = [np.asarray(weight.numpy()) for weight in cell.variables]
    exact = step.in_float64()
    for distance in (0.0, 0.1):
        reasons = []
        for seed in range(TRIES):
            with np.errstate(all="ignore"):  # overflows are compared, too; NumPy would warn the user of them
                reasons.append(_difference(step, exact, program, own, distance, np.random.RandomState(seed)))
            if reasons[-1] is None:
                break
        else:
            raise Untranslatable(f"the machine's numbers are not the graph's: {reasons[-1]}")


def _difference(
    step: Step, exact: Step, program: StepProgram, own: list[np.ndarray], distance: float, random: np.random.RandomState
) -> str | None:
    """Return how the machine's results differ from the graph's, or None.

    An error may be as large as the largest of three: MAX_ERROR; MAX_RATIO times what float32 does to the graph;
    MAX_RATIO times the effect of rounding all that the graph reads.
    """

    def normal(*shape: int) -> np.ndarray:
        return np.asarray(random.standard_normal(shape), np.float32)

    weights = [np.asarray(w + distance * normal(*w.shape), w.dtype) if w.dtype == np.float32 else w for w in own]
    x, upstream = normal(STEPS, step.rows, program.features), normal(STEPS, step.rows, program.units)
    states = [0.5 * normal(step.rows, width) for width in program.states]
    drawn = [normal(step.rows, width) for width in program.drawn]
    in_float32 = by_the_graph(step, program, [*weights, *drawn], x, states, upstream)
    in_float64 = by_the_graph(exact, program, [*weights, *drawn], x, states, upstream)
    by_machine = by_the_machine(program, weights, x, states, upstream, drawn)
    near_weights, near_x, near_states = _rounded([[*weights, *drawn], x, states], program, random)
    of_rounded = by_the_graph(exact, program, near_weights, near_x, near_states, upstream)
    errors = (relative_errors(results, in_float64) for results in (by_machine, in_float32, of_rounded))
    for a, b, error, *explained in zip(by_machine, in_float32, *errors, strict=True):
        if not np.array_equal(np.isfinite(a), np.isfinite(b)):
            if distance:  # away from its own weights, a cell may leave what its functions are defined for
                continue
            return "they are not finite where it has numbers, or the reverse"
        if not error <= max(MAX_ERROR, MAX_RATIO * max(explained)):
            return f"they are off by {error:.1e}"
    return None


def _rounded(arrays: Any, program: StepProgram, random: np.random.RandomState) -> Any:
    """Return arrays, nested in lists, that differ at random from others as much as rounding does on this machine."""
    if isinstance(arrays, list):
        return [_rounded(one, program, random) for one in arrays]
    if arrays.dtype != np.float32:
        return arrays
    rounding = ROUNDING_ON_AMX if program.instruction_set() == "amx" else ROUNDING
    return arrays * (1 + rounding * random.standard_normal(arrays.shape))


def relative_errors(found: list[np.ndarray], exact: list[np.ndarray]) -> list[float]:
    """Return the largest error of each array where both are finite, relative to the largest number (at least 1e-6)."""
    errors = []
    for a, b in zip(found, exact, strict=True):
        finite = np.isfinite(a) & np.isfinite(b)
        errors.append(float(np.abs(a[finite] - b[finite]).max(initial=0) / (np.abs(b[finite]).max(initial=0) + 1e-6)))
    return errors


def by_the_graph(
    step: Step, program: StepProgram, weights: list[Any], x: Any, states: list[Any], upstream: Any
) -> list[np.ndarray]:
    """Return outputs, gradients of x, of the first states and of the parameters, by the traced graph.

    ``weights`` are followed by what is drawn.
    """
    dtype = step.x.dtype.as_numpy_dtype
    x, upstream = x.astype(dtype), upstream.astype(dtype)
    weights, states = ([a.astype(dtype) if a.dtype == np.float32 else a for a in some] for some in (weights, states))
    edges = np.cumsum([step.x.shape[1], *(tensor.shape[1] for tensor in step.noise)])
    outputs, before = [], []
    for values in x:
        before.append(states)
        values, *noise, _ = np.split(values, edges, axis=1)
        output, *states = step.run([step.output, *step.new_states], [values, *states, *weights, *noise])
        outputs.append(output)
    carry = [np.zeros(np.shape(state), dtype) for state in states]
    wrt_x = []
    totals = [np.zeros(shape, dtype) for shape in program.parameters[: program.differentiable]]
    for t in reversed(range(len(x))):
        given = [*carry, upstream[t]]
        if step.output_state is not None:
            given[step.output_state] = given[step.output_state] + given.pop()
        fetches = [gradient for gradient in step.gradients if gradient is not None]
        values, *noise, _ = np.split(x[t], edges, axis=1)
        found = iter(step.run(fetches, [values, *before[t], *weights, *noise, *given]))
        shapes = [values.shape, *(np.shape(state) for state in states), *(total.shape for total in totals)]
        gradients = [
            np.zeros(shape, dtype) if gradient is None else next(found)
            for shape, gradient in zip(shapes, step.gradients, strict=True)
        ]
        wrt_x.append(np.concatenate([gradients[0], *map(np.zeros_like, noise)], axis=1))
        carry, new = gradients[1 : len(states) + 1], gradients[len(states) + 1 :]
        totals = [total + more for total, more in zip(totals, new, strict=True)]
    return [np.stack(outputs), np.stack(wrt_x[::-1]), *carry, *totals]


def by_the_machine(
    program: StepProgram, weights: list[Any], x: Any, states: list[Any], upstream: Any, drawn: Sequence[Any] = ()
) -> list[np.ndarray]:
    """Return the same by the machine."""
    parameters = program.weights_to_parameters(*map(tf.constant, weights))
    flat = np.concatenate([np.zeros(0, np.float32), *map(np.ravel, parameters)])
    sequences = np.ascontiguousarray(x.transpose(1, 0, 2))
    initial = np.concatenate([np.zeros((len(sequences), 0), np.float32), *states], axis=1)
    given = RowInputs(initial, drawn=np.concatenate(drawn, axis=1) if drawn else None)
    outputs, _, kept = step_forward(program, sequences, flat, rows=given, threads=1, keep=True, all_steps=True)
    gradients = step_backward(
        program,
        sequences,
        flat,
        kept,
        upstream.transpose(1, 0, 2),
        rows=given,
        last_gradient=None,
        threads=1,
        want_sequences=True,
    )
    wrt_x, wrt_parameters, wrt_states = gradients
    edges = np.cumsum(program.states)[:-1]
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in program.parameters])
    pieces = np.split(wrt_parameters, ends)[: program.differentiable]
    totals = [piece.reshape(shape) for piece, shape in zip(pieces, program.parameters, strict=False)]
    return [outputs.transpose(1, 0, 2), wrt_x.transpose(1, 0, 2), *np.split(wrt_states, edges, axis=1), *totals]

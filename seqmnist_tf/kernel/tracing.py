"""Traces one step of a cell, and its gradient, as a TensorFlow graph of a fixed number of rows."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .internals import dropout_masks, forward_operation, is_seed_state, masks_from, outside_calls

# What an operation of the graph reads: only constants, weights too, or rows (the input, states or their gradients).
CONSTANT, WEIGHTS, ROWS = 0, 1, 2
# Operations that draw: the operands are a shape, then key, counter and algorithm, which those of ``KEYS`` make.
DRAWING = {"StatelessRandomUniformV2", "StatelessRandomNormalV2", "StatelessTruncatedNormalV2"}
KEYS = {"StatelessRandomGetKeyCounter", "StatelessRandomGetAlg"}
LIBRARIES = ("/site-packages/", "/seqmnist_tf/kernel/", "/lib/python", "/__autograph_generated_file")  # in paths
STATIC = {"Shape", "ShapeN", "Size", "Rank", "BroadcastGradientArgs"}  # constants where all shapes are known


class Untranslatable(Exception):
    """The native machine cannot compute a cell; the message names the operation and the line that asked for it."""


def location(operation: tf.Operation) -> str:
    """Return ``, asked for in FILE, line N``: the innermost line of the operation that is no library's."""
    found = user_frame(forward_operation(operation).traceback or [])
    return f", asked for in {found[0]}, line {found[1]}" if found else ""


def user_frame(frames: Sequence[Any]) -> tuple[str, int] | None:
    """Return file and line of the innermost frame that is no library's, or None."""
    for frame in reversed(frames):
        path = frame.filename.replace("\\", "/")
        if not any(part in path for part in LIBRARIES):
            return frame.filename, frame.lineno
    return None


@dataclass
class Step:
    """A step as a graph: placeholders, results, and their gradients.

    Attributes:
        function: the wrapped graph, from which functions are cut out.
        rows: its number of rows.
        output_state: which of the new states the output is, or None.
        borders: the program's parameters that have gradients: tensors computed from weights alone, where an operation
            on rows reads them. Of ``x @ (2 * W)`` it is ``2 * W``, and TensorFlow differentiates that.
        drawn: dropout masks of Keras's cells: drawn once a call, and the same at all steps.
        noise: what each step draws anew, (rows, width) each.
        seeds: the seed generators' states after the step, by their number among the weights.
        upstream: gradients of the new states, then of the output unless it is one of them.
        gradients: of x, the states and the borders; None where there is none.
        moves: where operations that move numbers take them from, for translations after the first.
    """

    function: Any
    rows: int
    x: tf.Tensor
    states: list[tf.Tensor]
    weights: list[tf.Tensor]
    output: tf.Tensor
    new_states: list[tf.Tensor]
    output_state: int | None = None
    borders: list[tf.Tensor] = field(default_factory=list)
    drawn: list[tf.Tensor] = field(default_factory=list)
    noise: list[tf.Tensor] = field(default_factory=list)
    seeds: dict[int, tf.Tensor] = field(default_factory=dict)
    upstream: list[tf.Tensor] = field(default_factory=list)
    gradients: list[tf.Tensor | None] = field(default_factory=list)
    zero_start: bool = False
    kinds: dict[str, int] = field(default_factory=dict)
    moves: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def placeholders(self) -> list[tf.Tensor]:
        return [self.x, *self.states, *self.weights, *self.drawn, *self.noise, *self.upstream]

    def kind(self, tensor: tf.Tensor) -> int:
        return self.kinds[tensor.name]

    def cut(self, feeds: Sequence[tf.Tensor], fetches: Sequence[tf.Tensor]) -> Callable[..., list[tf.Tensor]]:
        """Return the part of the graph between tensors as a function, which a gradient tape sees into."""
        specs = [tf.TensorSpec(feed.shape, feed.dtype) for feed in feeds]  # without them, each call prints its tensors
        return self.function.prune(list(feeds), list(fetches), input_signature=(specs, {}))

    @functools.cached_property
    def _session(self) -> tf.compat.v1.Session:
        """Runs the graph on the CPU, in the caller's thread; it begins faster than a function that is cut out."""
        options = {"device_count": {"GPU": 0}, "inter_op_parallelism_threads": -1, "allow_soft_placement": True}
        return tf.compat.v1.Session(graph=self.function.graph, config=tf.compat.v1.ConfigProto(**options))

    def run(self, fetches: Sequence[tf.Tensor], values: Sequence[Any]) -> list[np.ndarray]:
        """Return tensors of the graph; ``values`` are of its first placeholders, the others are not needed."""
        feeds = {feed.name: value for feed, value in zip(self.placeholders(), values, strict=False)}
        return [np.asarray(value) for value in self._session.run(list(fetches), feeds)]

    def lengths(self) -> set[int]:
        """Return the lengths of all axes in the graph."""
        outputs = [tensor.shape for operation in self.function.graph.get_operations() for tensor in operation.outputs]
        return {length for shape in outputs if shape.rank is not None for length in shape if length is not None}

    def in_float64(self) -> Step:
        """Return the same graph in float64."""
        definition = self.function.graph.as_graph_def()
        single, double = tf.float32.as_datatype_enum, tf.float64.as_datatype_enum
        functions = definition.library.function
        for function in functions:
            function.signature.name += "_float64"  # the process has one of the old name
            for argument in (*function.signature.input_arg, *function.signature.output_arg):
                argument.type = double if argument.type == single else argument.type
        for node in [*definition.node, *(n for f in functions for n in f.node_def)]:
            for attribute in node.attr.values():
                kind = attribute.WhichOneof("value")
                if kind == "list":
                    attribute.list.type[:] = [double if one == single else one for one in attribute.list.type]
                if kind == "func":
                    attribute.func.name += "_float64"
                if kind == "type" and attribute.type == single:
                    attribute.type = double
                if kind == "tensor" and attribute.tensor.dtype == single:
                    values = tf.make_ndarray(attribute.tensor).astype(np.float64)
                    attribute.tensor.CopyFrom(tf.make_tensor_proto(values))
        function = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(definition, name=""), [])

        def same(tensors: Sequence[tf.Tensor | None]) -> list[Any]:
            return [None if t is None else function.graph.get_tensor_by_name(t.name) for t in tensors]

        x, output = same([self.x, self.output])
        lists = ("states", "weights", "drawn", "noise", "new_states", "borders", "upstream", "gradients")
        others: dict[str, Any] = {name: same(getattr(self, name)) for name in lists}
        return replace(self, function=function, x=x, output=output, **others)

    def values(self, constants: Sequence[tf.Tensor]) -> list[np.ndarray]:
        """Return what does not depend on the placeholders."""
        return self.run(constants, [np.zeros(feed.shape, feed.dtype.as_numpy_dtype) for feed in self.placeholders()])

    def computed(self, ends: Sequence[tf.Tensor]) -> list[Any]:
        """Return how tensors are computed from weights: each operation once, without its name, and the constants."""
        weights = {tensor.op.name: which for which, tensor in enumerate(self.weights)}
        numbers: dict[str, int] = {}
        constants: dict[str, tf.Tensor] = {}
        found: list[Any] = []

        def place(tensor: tf.Tensor) -> tuple[int, int]:
            if self.kind(tensor) == CONSTANT:
                constants.setdefault(tensor.name, tensor)
                return -1, list(constants).index(tensor.name)
            return numbers[tensor.op.name], tensor.value_index

        waiting = [tensor.op for tensor in ends if self.kind(tensor) != CONSTANT]
        while waiting:
            operation = waiting[-1]
            given = [tensor for tensor in operation.inputs if self.kind(tensor) != CONSTANT]
            missing = [tensor.op for tensor in given if tensor.op.name not in numbers]
            if missing and operation.name not in numbers:
                waiting.extend(missing)
                continue
            waiting.pop()
            if operation.name not in numbers:
                numbers[operation.name] = len(numbers)
                functions = _functions(operation)  # their names differ from trace to trace
                attributes = {
                    k: v.SerializeToString()
                    for k, v in operation.node_def.attr.items()
                    if k[0] != "_" and k not in functions
                }
                found.append((operation.type, weights.get(operation.name), attributes, [*map(place, operation.inputs)]))
        found.append([*map(place, ends)])
        values = self.values([*constants.values()])
        return [*found, [(value.dtype.str, value.shape, value.tobytes()) for value in values]]


def trace(cell: keras.Layer, features: int, rows: int, training: bool) -> Step:
    """Return a step of a built cell as a graph; Untranslatable if it does more than compute its results."""
    steps: list[Step] = []
    with outside_calls(), masks_from(_placeholder_like, cell):
        function = tf.compat.v1.wrap_function(lambda: steps.append(_build(cell, features, rows, training)), [])
    (step,) = steps
    step.function = function
    if function.graph.captures:
        raise Untranslatable("the step reads a tensor or variable that is neither its input, a state nor a weight")
    return step


def _build(cell: keras.Layer, features: int, rows: int, training: bool) -> Step:
    """Build the graph of a step: the operations of the cell, then those of its gradient."""
    sizes = keras.tree.flatten(cell.state_size)
    x = tf.compat.v1.placeholder(tf.float32, (rows, features), "x")
    states = [tf.compat.v1.placeholder(tf.float32, (rows, size), "state") for size in sizes]
    variables = list(cell.variables)
    weights = [tf.compat.v1.placeholder(variable.dtype, variable.shape, "weight") for variable in variables]
    graph = tf.compat.v1.get_default_graph()
    first = len(graph.get_operations())
    with keras.StatelessScope(list(zip(variables, weights, strict=True)), collect_losses=True) as scope:
        # Keras hands ``training`` on to the layers of a cell whose own ``call`` does not take it.
        alone = isinstance(cell.state_size, int)
        packed = list(states) if alone else keras.tree.pack_sequence_as(cell.state_size, list(states))
        output, new_states = cell(x, packed, training=training)
        start = first_states(cell, rows)
    if scope.losses:
        raise Untranslatable("the step adds a loss")
    new_states = [tf.convert_to_tensor(state) for state in keras.tree.flatten(new_states)]
    step = Step(None, rows, x, states, weights, tf.convert_to_tensor(output), new_states)
    step.seeds = _new_seeds(variables, weights, [scope.get_current_value(variable) for variable in variables])
    _require_float32(step, start, sizes)
    operations = graph.get_operations()[first:]
    step.drawn = dropout_masks(cell) if training else []
    drawn = [operation.outputs[0] for operation in operations if operation.type in DRAWING]
    step.noise = [tensor for tensor in drawn if tensor.shape.rank == 2 and tensor.shape[0] == rows]
    _classify(step, graph)
    _require_arithmetic(step, operations)
    step.zero_start = all(_is_zero(step, state) for state in start)
    same = [which for which, state in enumerate(new_states) if _source(state) is _source(step.output)]
    step.output_state = same[0] if same else None
    step.borders = _borders(step)
    _differentiate(step)
    _classify(step, graph)
    return step


def _new_seeds(variables: Sequence[keras.Variable], before: list[Any], after: list[Any]) -> dict[int, tf.Tensor]:
    """Return the new states of the seed generators among a cell's variables; nothing else may change."""
    changed = [which for which, value in enumerate(after) if value is not before[which]]
    for which in changed:
        if not is_seed_state(variables[which]):
            raise Untranslatable(f"it assigns to {variables[which].path}")
    return {which: tf.convert_to_tensor(after[which]) for which in changed}


def _require_float32(step: Step, start: list[tf.Tensor], sizes: list[int]) -> None:
    """Require that first states, new states and output are float32 (rows, width)."""
    wanted = [("float32", (step.rows, size)) for size in sizes]
    for what, tensors, kinds in (
        ("first states are", start, wanted),
        ("new states are", step.new_states, wanted),
        ("an output is", [step.output], [("float32", (step.rows, step.output.shape[-1]))]),
    ):
        if (found := [(tensor.dtype.name, tuple(tensor.shape)) for tensor in tensors]) != kinds:
            raise Untranslatable(f"{what} {found}, not {kinds}")


def _is_zero(step: Step, state: tf.Tensor) -> bool:
    """Return whether a first state is 0, whatever the weights are."""
    value = tf.get_static_value(state) if step.kind(state) == CONSTANT else None
    return value is not None and not np.any(value)


def _differentiate(step: Step) -> None:
    """Add the gradients of x, the states and the borders to the graph, for any gradients of the results."""
    step.upstream = [tf.compat.v1.placeholder(tf.float32, state.shape, "upstream") for state in step.new_states]
    ends = list(step.new_states)
    if step.output_state is None:
        step.upstream.append(tf.compat.v1.placeholder(tf.float32, step.output.shape, "upstream"))
        ends.append(step.output)
    sources = [step.x, *step.states, *step.borders]
    step.gradients = tf.gradients(ends, sources, grad_ys=step.upstream, stop_gradients=[*step.borders, *step.noise])
    for gradient in step.gradients:
        if isinstance(gradient, tf.IndexedSlices):
            raise Untranslatable(f"a gradient is sparse{location(gradient.op)}")


def _require_arithmetic(step: Step, operations: Iterable[tf.Operation]) -> None:
    """Require that operations have no effects, no loops over rows, and draw nothing but the step's noise."""
    noise = {tensor.op.name for tensor in step.noise}
    for operation in operations:
        reads_rows = any(step.kind(given) == ROWS for given in operation.inputs)
        if operation.type in KEYS or operation.name in noise:
            refused = reads_rows  # what is drawn would depend on the input or the states
        elif operation.op_def.is_stateful or "Random" in operation.type:
            refused = True
        else:
            on_rows = reads_rows or any(step.kind(output) == ROWS for output in operation.outputs)
            refused = on_rows and bool(operation.control_inputs or _functions(operation))
        if refused:
            raise Untranslatable(f"operation {operation.type}{location(operation)}")


def first_states(cell: keras.Layer, rows: Any) -> list[tf.Tensor]:
    """Return the states before the first step, as Keras's layer asks for them."""
    start = getattr(cell, "get_initial_state", None)
    if start is None:
        return [tf.zeros((rows, size)) for size in keras.tree.flatten(cell.state_size)]
    return [tf.cast(tf.convert_to_tensor(state), tf.float32) for state in keras.tree.flatten(start(batch_size=rows))]


def _placeholder_like(tensor: tf.Tensor) -> tf.Tensor:
    return tf.compat.v1.placeholder(tf.float32, tensor.shape, "mask")


def _functions(operation: tf.Operation) -> set[str]:
    """Return the attributes that are functions: the operation is a loop or a branch."""
    return {attribute.name for attribute in operation.op_def.attr if "func" in attribute.type}


def _source(tensor: tf.Tensor) -> tf.Tensor:
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    return tensor


def _classify(step: Step, graph: Any) -> None:
    """Note for all tensors what they depend on. Weights that are repeated for each row count as rows."""
    given = [step.x, *step.states, *step.drawn, *step.noise, *step.upstream]
    step.kinds.update({tensor.name: ROWS for tensor in given})
    step.kinds.update({tensor.name: WEIGHTS for tensor in step.weights})
    for operation in graph.get_operations():
        for tensor in operation.outputs:
            if tensor.name in step.kinds:
                continue
            kind = max((step.kinds[given.name] for given in operation.inputs), default=CONSTANT)
            if operation.type in STATIC and all(given.shape.is_fully_defined() for given in operation.inputs):
                kind = CONSTANT
            if kind == WEIGHTS and tensor.shape.rank and tensor.shape[0] == step.rows:
                kind = ROWS
            step.kinds[tensor.name] = kind


def _borders(step: Step) -> list[tf.Tensor]:
    """Return the tensors of weights that operations on rows read, on the way to the results."""
    borders: set[str] = set()
    seen: set[str] = set()
    waiting = [step.output, *step.new_states]
    while waiting:
        operation = waiting.pop().op
        if operation.name in seen:
            continue
        seen.add(operation.name)
        for given in operation.inputs:
            if step.kind(given) == ROWS:
                waiting.append(given)
            elif step.kind(given) == WEIGHTS and given.dtype == tf.float32:
                borders.add(given.name)
    made = [output for operation in step.x.graph.get_operations() for output in operation.outputs]
    return [tensor for tensor in made if tensor.name in borders]


def unlike(numbers: Iterable[int]) -> tuple[int, int]:
    """Return two primes that none of the numbers is: rows that cannot be taken for a width."""
    numbers = set(numbers)
    primes = [n for n in range(23, 1000) if all(n % d for d in range(2, math.isqrt(n) + 1)) and n not in numbers]
    return primes[0], primes[1]

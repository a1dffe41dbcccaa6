"""TensorFlow's operations as expressions: the step's graph, tensor by tensor."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from .expressions import ACROSS, MAX_PIECES, Expressions, GradientTerm, Pieces, columns_of
from .rules import RULES, Einsum
from .tracing import CONSTANT, ROWS, Step, Untranslatable, location

SAME = {"Identity", "StopGradient", "PreventGradient", "IdentityN", "Snapshot"}
MOVES = {
    *("Reshape", "Squeeze", "ExpandDims", "Split", "SplitV", "StridedSlice", "Slice", "ConcatV2", "Pad", "PadV2"),
    *("StridedSliceGrad", "Tile", "BroadcastTo", "Transpose", "Pack", "Unpack", "ReverseV2", "GatherV2", "MirrorPad"),
    "Roll",
}
DIRECT = {
    **{"Add": "add", "AddV2": "add", "BiasAdd": "add", "Sub": "sub", "Mul": "mul", "RealDiv": "div", "Div": "div"},
    **{"Maximum": "max", "Minimum": "min", "Greater": "gt", "GreaterEqual": "ge", "Equal": "eq", "Select": "select"},
    **{"SelectV2": "select", "Sqrt": "sqrt", "Exp": "exp", "Expm1": "expm1", "Log": "log", "Log1p": "log1p"},
    **{"Tanh": "tanh", "Sigmoid": "sigmoid", "Softplus": "softplus", "Abs": "abs", "Floor": "floor", "Rint": "round"},
    **{"Round": "round", "Sin": "sin", "Cos": "cos", "Erf": "erf", "Erfc": "erfc", "Atan": "atan", "LogicalAnd": "mul"},
    **{"LogicalOr": "max", "TanhGrad": "tanh_grad", "SigmoidGrad": "sigmoid_grad"},
}
KEEP_ORDER = {"Reshape", "Squeeze", "ExpandDims"}
MAX_WINDOWS = 8  # runs of columns that are read where they are; more are copied


@dataclass(frozen=True)
class Rows:
    """A tensor whose rows are computed alike: the pieces of a row, which may itself have several axes."""

    pieces: Pieces
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Summed:
    """A sum over rows, which only the gradient of a weight is."""

    terms: tuple[GradientTerm, ...]
    shape: tuple[int, ...]


class Translator:
    """Translates tensors of a step's graph; ``constants`` are the values of constants, by the tensors' names."""

    def __init__(self, step: Step, expressions: Expressions, constants: dict[str, np.ndarray]) -> None:
        self.step = step
        self.expressions = expressions
        self.constants = constants
        self.parameters = {border.name: border for border in step.borders}
        self._known: dict[str, Any] = {}
        leaves = {"x": [step.x, *step.noise], "state": step.states, "drawn": step.drawn, "upstream": step.upstream}
        for name, tensors in leaves.items():
            for which, tensor in enumerate(tensors):
                leaf = expressions.leaf(name, which, int(tensor.shape[1]))
                self._known[tensor.name] = Rows(leaf, tuple(tensor.shape))

    def value(self, tensor: tf.Tensor) -> Any:
        """Return a tensor as :class:`Rows` or :class:`Summed`."""
        waiting = [tensor]
        while waiting:  # not recursive: gradients of long chains are deep
            current = waiting[-1]
            if current.name in self._known:
                waiting.pop()
                continue
            by_rows = self.step.kind(current) == ROWS
            missing = [t for t in current.op.inputs if self.step.kind(t) == ROWS and t.name not in self._known]
            if by_rows and missing:
                waiting.extend(missing)
                continue
            operation = waiting.pop().op
            try:
                outputs = operation.outputs if by_rows else [current]
                results = self._results(operation) if by_rows else [self._fixed(current)]
            except ValueError as error:
                why = f" ({error})" if str(error) else ""
                raise Untranslatable(f"operation {operation.type}{why}{location(operation)}") from None
            for output, result in zip(outputs, results, strict=True):
                self._known[output.name] = result
        return self._known[tensor.name]

    def _rows(self, tensor: tf.Tensor) -> Rows:
        """Return a tensor that is no sum over rows."""
        value = self.value(tensor)
        if isinstance(value, Summed):
            raise ValueError("it mixes the rows of a batch")
        return value

    def _fixed(self, tensor: tf.Tensor) -> Rows:
        """Return a constant, or what is computed from weights alone, as what all rows have in common."""
        shape = tuple(tensor.shape)
        if self.step.kind(tensor) == CONSTANT:
            values = np.asarray(self.constants[tensor.name]).astype(np.float32)
            if values.ndim and values.shape[0] == self.step.rows:
                if not all(np.array_equal(row, values[0], equal_nan=True) for row in values):
                    raise ValueError("it treats rows differently")
                values = values[0]
            return Rows([self.expressions.wide_constant(values, values.size)], shape)
        if tensor.dtype != tf.float32:
            raise ValueError(f"weights of type {tensor.dtype.name}")
        return Rows([self.expressions.parameter(self.parameter(tensor), 0, int(np.prod(shape)))], shape)

    def parameter(self, tensor: tf.Tensor) -> int:
        self.parameters.setdefault(tensor.name, tensor)
        return list(self.parameters).index(tensor.name)

    # ---- operations ----

    def _results(self, operation: tf.Operation) -> list[Any]:
        kind = operation.type
        for tensor in operation.outputs:
            if tensor.dtype not in (tf.float32, tf.bool) or not tensor.shape.is_fully_defined():
                raise ValueError(f"its result is {tensor.dtype.name} {tensor.shape}")
        if kind in SAME:
            return [self.value(given) for given in operation.inputs]
        if kind == "MatMul":
            return [self._product(operation)]
        if kind == "Einsum":
            return [self._einsum(operation)]
        if kind in ("Sum", "Mean", "Max", "Min"):
            return [self._reduced(operation)]
        if kind == "BiasAddGrad":
            if np.prod(operation.inputs[0].shape[1:]) != operation.outputs[0].shape[0]:
                raise ValueError("an axis besides rows and columns")
            return [self._over_rows(self.value(operation.inputs[0]).pieces, tuple(operation.outputs[0].shape))]
        if kind in MOVES:
            return self._moved(operation)
        shape = tuple(operation.outputs[0].shape)
        if kind == "AddN" and isinstance(self.value(operation.inputs[0]), Summed):
            return [Summed(tuple(term for given in operation.inputs for term in self.value(given).terms), shape)]
        values = [self._rows(given) for given in operation.inputs]
        if kind in ("Softmax", "LogSoftmax"):
            return [Rows(self._softmax(values[0], kind == "LogSoftmax"), shape)]
        rule = DIRECT.get(kind) or RULES.get(kind)
        if rule is None:
            raise ValueError
        operands = [self._broadcast(value, shape) for value in values]
        width = self._width(shape)
        if isinstance(rule, str):
            pieces = self.expressions.apply(rule, *operands, width=width)
        else:
            pieces = rule(self.expressions, operation, *operands)
            if sum(piece.width for piece in pieces) != width:
                pieces = [self.expressions.spread(pieces[0], width)]
        return [Rows(pieces, shape)]

    def _width(self, shape: tuple[int, ...]) -> int:
        if not shape or shape[0] != self.step.rows:
            raise ValueError("its result has no row for each row of the batch")
        return int(np.prod(shape[1:]))

    def _broadcast(self, value: Rows, shape: tuple[int, ...]) -> Pieces:
        """Return the pieces of a value in a larger shape; a single column stays one."""
        if value.shape == shape:
            return value.pieces
        size = int(np.prod(value.shape))
        if value.shape[:1] == (self.step.rows,):
            is_column = size == self.step.rows and len(value.shape) == len(shape)
        else:
            is_column = size == 1
        if is_column:
            return value.pieces
        places = np.broadcast_to(self._places([value])[0], shape)
        return self._gathered(places, [value]).pieces

    def _softmax(self, value: Rows, logarithm: bool) -> Pieces:
        if len(value.shape) != 2:
            raise ValueError("an axis besides rows and columns")
        apply, across = self.expressions.apply, self.expressions.across
        shifted = apply("sub", value.pieces, [across("row_max", value.pieces)])
        powers = apply("exp", shifted)
        total = [across("row_sum", powers)]
        return apply("sub", shifted, apply("log", total)) if logarithm else apply("div", powers, total)

    # ---- products and sums ----

    def _product(self, operation: tf.Operation) -> Any:
        a, b = operation.inputs
        transposed = operation.get_attr("transpose_a"), operation.get_attr("transpose_b")
        is_gradient = self.step.kind(b) == ROWS
        shape = tuple(operation.outputs[0].shape)
        if self.step.kind(a) != ROWS or (transposed != (True, False) if is_gradient else transposed[0]):
            raise ValueError("it mixes the rows of a batch")
        left = self._rows(a).pieces
        if is_gradient:
            right = columns_of(self._rows(b).pieces)
            return Summed(tuple(GradientTerm(x, y, i, j) for i, x in columns_of(left) for j, y in right), shape)
        return Rows(self.expressions.dot(left, self.parameter(b), bool(transposed[1]), shape[1]), shape)

    def _einsum(self, operation: tf.Operation) -> Any:
        """Return products for each head: of rows and a weight or, for a weight's gradient, of rows and rows."""
        by_rows = [self.step.kind(tensor) == ROWS for tensor in operation.inputs]
        einsum = Einsum.read(operation, is_gradient=all(by_rows), first=by_rows.index(True))
        left, right = operation.inputs[einsum.first], operation.inputs[1 - einsum.first]
        shape = tuple(operation.outputs[0].shape)
        if all(by_rows):
            return Summed(self._gradients_of_heads(einsum, self._rows(left).pieces, self._rows(right).pieces), shape)
        return Rows(self._products_of_heads(einsum, self._rows(left).pieces, self.parameter(right)), shape)

    def _gradients_of_heads(self, einsum: Einsum, left: Pieces, right: Pieces) -> tuple[GradientTerm, ...]:
        lefts = einsum.columns(einsum.left, [einsum.heads, einsum.summed, einsum.of_left])
        rights = einsum.columns(einsum.right, [einsum.heads, einsum.summed, einsum.of_right])
        terms = []
        for head, item in itertools.product(range(lefts.shape[0]), range(lefts.shape[1])):
            row = head * einsum.size(einsum.of_left)
            some = columns_of(self._columns(left, lefts[head, item]))
            others = columns_of(self._columns(right, rights[head, item]))
            terms += [GradientTerm(m, n, row + i, j) for i, m in some for j, n in others]
        return tuple(terms)

    def _products_of_heads(self, einsum: Einsum, left: Pieces, which: int) -> Pieces:
        lefts = einsum.columns(einsum.left, [einsum.heads, einsum.of_left, einsum.summed])
        width = einsum.size(einsum.of_right)
        pieces: Pieces = []
        for head, item in itertools.product(range(lefts.shape[0]), range(lefts.shape[1])):
            chosen = self._columns(left, lefts[head, item])
            if einsum.transposed:
                pieces += self.expressions.dot(chosen, which, True, width, first_column=head * width)
            else:
                first_row = head * einsum.size(einsum.summed)
                pieces += self.expressions.dot(chosen, which, False, width, first_row)
        if einsum.made != einsum.result:
            pieces = self._columns(pieces, np.ravel(einsum.columns(einsum.made, [*einsum.result])))
        return pieces

    def _reduced(self, operation: tf.Operation) -> Any:
        tensor, axes = operation.inputs
        value = self._rows(tensor)
        rank = len(value.shape)
        reduced = sorted({int(axis) % rank for axis in np.ravel(self.constants[axes.name])})
        # The gradient of a Tile reshapes (rows, ...) to (1, rows, ...) and sums over the axis of length 1.
        if value.shape[:2] == (1, self.step.rows) and 0 in reduced:
            value = Rows(value.pieces, value.shape[1:])
            rank, reduced = rank - 1, [axis - 1 for axis in reduced[1:]]
        name = {"Max": "row_max", "Min": "row_min"}.get(operation.type, "row_sum")
        if 0 in reduced and operation.type != "Sum":
            raise ValueError("it mixes the rows of a batch")
        pieces, shape = value.pieces, tuple(operation.outputs[0].shape)
        if summed := [axis - 1 for axis in reduced if axis]:
            # Which columns go into each result.
            grid = np.arange(int(np.prod(value.shape[1:]))).reshape(value.shape[1:])
            kept = [axis for axis in range(rank - 1) if axis not in summed]
            grid = grid.transpose(*kept, *summed).reshape(int(np.prod([grid.shape[axis] for axis in kept])), -1)
            if min(grid.shape) > MAX_PIECES:
                raise ValueError(f"more than {MAX_PIECES} sums of as many numbers")
            if grid.shape[1] < len(grid):
                members = [self._columns(value.pieces, column) for column in grid.T]
                pieces = functools.reduce(functools.partial(self.expressions.apply, ACROSS[name]), members)
            else:
                pieces = [self.expressions.across(name, self._columns(value.pieces, row)) for row in grid]
            if operation.type == "Mean":
                pieces = self.expressions.apply("mul", pieces, self.expressions.number(1 / grid.shape[1]))
        return self._over_rows(pieces, shape) if 0 in reduced else Rows(pieces, shape)

    def _over_rows(self, pieces: Pieces, shape: tuple[int, ...]) -> Summed:
        return Summed(tuple(GradientTerm(None, piece, 0, first) for first, piece in columns_of(pieces)), shape)

    # ---- moves: what copies numbers from place to place ----

    def _moved(self, operation: tf.Operation) -> list[Any]:
        givens = [t for t in operation.inputs if t.dtype in (tf.float32, tf.bool)]
        shapes = [tuple(tensor.shape) for tensor in operation.outputs]
        if operation.type in KEEP_ORDER and isinstance(value := self.value(givens[0]), Summed):
            return [Summed(value.terms, shapes[0])]
        values = [self._rows(given) for given in givens]
        # As above: before the rows, the gradient of a Tile has an axis of length 1.
        by_rows = shapes[0][1:] if shapes[0][:1] == (1,) else shapes[0]
        if operation.type in KEEP_ORDER and values[0].shape[:1] == by_rows[:1] == (self.step.rows,):
            return [Rows(values[0].pieces, shapes[0])]
        moves = self.step.moves
        if operation.name not in moves:
            rest = [t for t in operation.inputs if t.dtype not in (tf.float32, tf.bool)]
            moves[operation.name] = _run(operation, self._places(values), [self.constants[t.name] for t in rest])
        return [self._gathered(places, values) for places in moves[operation.name]]

    def _places(self, values: list[Rows]) -> list[np.ndarray]:
        """Number the elements of values from 1 on, through all of them; 0 is for what is filled in."""
        ends = np.cumsum([1, *(np.prod(value.shape, dtype=int) for value in values)])
        spans = zip(itertools.pairwise(ends), values, strict=True)
        return [np.arange(*span, dtype=np.int32).reshape(value.shape) for span, value in spans]

    def _gathered(self, places: np.ndarray, values: list[Rows]) -> Rows:
        """Return what lies at places, which must be alike in all rows."""
        rows = self.step.rows
        width = self._width(places.shape)
        table = places.reshape(rows, width).astype(np.int64)
        columns = np.full((rows, width), -1, np.int64)  # of a table of all values' columns side by side
        first, offset, mixes = 1, 0, False
        for value in values:
            size = int(np.prod(value.shape))
            has_rows = value.shape[:1] == (rows,)
            own = size // rows if has_rows else size
            here = (table >= first) & (table < first + size)
            index = table[here] - first
            mixes |= has_rows and (index // own != np.nonzero(here)[0]).any()
            columns[here] = offset + index % own
            first, offset = first + size, offset + own
        if mixes or not (columns == columns[0]).all():
            raise ValueError("it mixes the rows of a batch")
        sources = [piece for value in values for piece in value.pieces]
        return Rows(self._columns(sources, columns[0]), tuple(places.shape))

    def _columns(self, sources: Pieces, columns: np.ndarray) -> Pieces:
        """Return columns of pieces in any order; -1 is a column of zeros."""
        runs = _runs(columns)
        if len(runs) > MAX_WINDOWS:
            return [self.expressions.chosen(sources, columns.tolist())]
        pieces: Pieces = []
        for start, count in runs:
            if start < 0:
                pieces.append(self.expressions.wide_constant(0, count))
            elif count < 0:  # one column, repeated
                (single,) = self.expressions.window(sources, start, 1)
                pieces.append(self.expressions.spread(single, -count))
            else:
                pieces += self.expressions.window(sources, start, count)
        return pieces


def _runs(columns: np.ndarray) -> list[tuple[int, int]]:
    """Return (first, count) of consecutive columns, (column, -count) of one that is repeated, (-1, count) of zeros."""
    runs: list[tuple[int, int]] = []
    while len(columns):
        first, after = int(columns[0]), np.arange(len(columns))
        same, up = (int(np.argmin([*(columns == first + slope * after), False])) for slope in (0, 1))
        count = same if first < 0 or same > 1 else up
        runs.append((first, -count if same > 1 and first >= 0 else count))
        columns = columns[count:]
    return runs


def _run(operation: tf.Operation, places: list[np.ndarray], rest: list[np.ndarray]) -> list[np.ndarray]:
    """Run an operation that moves numbers, on numbers of places."""
    with tf.Graph().as_default() as graph:
        numbered, fixed = map(tf.constant, places), map(tf.constant, rest)
        inputs = [next(numbered if t.dtype in (tf.float32, tf.bool) else fixed) for t in operation.inputs]
        attributes = {k: v for k, v in operation.node_def.attr.items() if not k.startswith("_")}
        for name, attribute in attributes.items():
            if name in ("T", "Tparams") and attribute.type in (tf.float32.as_datatype_enum, tf.bool.as_datatype_enum):
                attributes[name] = type(attribute)(type=tf.int32.as_datatype_enum)
        types = [tf.int32] * len(operation.outputs)
        made = graph.create_op(operation.type, inputs, types, attrs=attributes, name="move")
        with tf.compat.v1.Session(graph=graph) as session:
            return [np.asarray(value) for value in session.run(made.outputs)]

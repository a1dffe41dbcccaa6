"""Expressions of a step: what each row's numbers are computed from, the same for every row of a batch.

A tensor (rows, width) is a list of pieces side by side, so that slices and concatenations cost nothing: a slice of a
sum is the sum of slices, and a slice of a product takes columns of the matrix.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

LEAVES = ("x", "state", "drawn", "upstream")  # attribute: (which, first column)
ACROSS = {"row_sum": "add", "row_max": "max", "row_min": "min"}  # one number for each row, and what combines two
NEUTRAL = {"add": 0, "mul": 1, "sub": 0, "div": 1}  # second operands that change nothing
MAX_PIECES = 64
UNCUT = "uncut"  # columns of a leaf or product that is not cut there yet


@dataclass(frozen=True, eq=False)
class Node:
    """One piece: float32 (rows, width), or (width,) where it is the same for all rows. A node equals itself alone.

    Attributes:
        operation: a leaf, ``parameter``, ``constant``, ``dot`` or an operation of the machine.
        given: what it is computed from, which has a lower ``order``. Of a ``dot``: left operands, and perhaps a bias.
        detail: of a leaf, which, and its first column; of a parameter, which, and its first number; of a constant, its
            numbers; of a dot, for each left operand (parameter, first row, first column, transposed).
    """

    operation: str
    given: tuple[Node, ...]
    detail: tuple[Any, ...]
    width: int
    order: int

    @property
    def fixed(self) -> bool:
        """Whether it is the same for all rows and steps."""
        return self.operation in ("parameter", "constant")

    def __str__(self) -> str:
        """The expression that it is, such as ``tanh(x[0:3] @ p0[0:3, 0:8] + p1[0:8])``; p0 is the first parameter."""
        if self.operation == "constant":
            return f"{self.detail[0]:g}" if len(self.detail) == 1 else "constants"
        if self.operation == "parameter":
            return f"p{self.detail[0]}[{self.detail[1]}:{self.detail[1] + self.width}]"
        if not self.given:
            which, first = self.detail
            return f"{self.operation}{which or ''}[{first}:{first + self.width}]"
        operands = [str(operand) for operand in self.given]
        if self.operation != "dot":
            return f"{self.operation}({', '.join(operands)})"
        for place, (which, row, column, transposed) in enumerate(self.detail):
            matrix = matrix_text(which, transposed, row, self.given[place].width, column, self.width)
            operands[place] += f" @ {matrix}"
        return " + ".join(operands)


Pieces = list[Node]


def matrix_text(which: int, transposed: bool, row: int, rows: int, column: int, columns: int) -> str:
    return f"p{which}{'.T' if transposed else ''}[{row}:{row + rows}, {column}:{column + columns}]"


class GradientTerm(NamedTuple):
    """A term of a matrix's gradient: the sum over rows of left^T right, from an entry (row, column) on.

    Without ``left``, it is the sum of right.
    """

    left: Node | None
    right: Node
    row: int
    column: int


class Source(NamedTuple):
    """What can be cut into pieces: the leaves of one tensor, or the products with one matrix."""

    kind: str
    which: int
    transposed: bool = False


Cuts = dict[Source, set[int]]  # the columns at which sources are cut


def columns_of(pieces: Pieces) -> list[tuple[int, Node]]:
    """Return pieces with their first columns."""
    firsts = np.cumsum([0, *(piece.width for piece in pieces)]).tolist()
    return list(zip(firsts, pieces, strict=False))


def is_zero(node: Node) -> bool:
    return node.operation == "constant" and not any(node.detail)


class Expressions:
    """Makes nodes: equal ones once, constants folded, nothing multiplied by 1.

    Leaves and products are made in the pieces that ``cuts`` says. Where a step reads other columns of one, the cuts get
    them, ``needs_cuts`` is set, and the node is one of ``UNCUT`` for the time being: the step has to be translated
    again. Example: ``z = x @ W`` and ``z[:, :4]``: with a cut at 4, z is the pieces ``x @ W[:, :4]``, ``x @ W[:, 4:]``.
    """

    def __init__(self, cuts: Cuts) -> None:
        self.cuts = cuts
        self.needs_cuts = False
        self._nodes: dict[Any, Node] = {}
        self._parts: dict[tuple[Node, int, int], Node] = {}

    def node(self, operation: str, given: Iterable[Node], width: int, detail: tuple[Any, ...] = ()) -> Node:
        given = tuple(given)
        key = (operation, given, width, detail)
        if key not in self._nodes:
            self._nodes[key] = Node(operation, given, detail, width, len(self._nodes))
        return self._nodes[key]

    def constant(self, values: Any) -> Node:
        numbers = tuple(np.asarray(values, np.float32).ravel().tolist())
        if len(set(numbers)) == 1 and len(numbers) > 1:  # NaN is not equal to itself, and stays as it is
            numbers = numbers[:1]
        return self.node("constant", (), len(numbers), numbers)

    def wide_constant(self, values: Any, width: int) -> Node:
        node = self.constant(values)
        return node if len(node.detail) > 1 else self.node("constant", (), width, node.detail)

    def number(self, value: float) -> Pieces:
        return [self.constant(value)]

    def parameter(self, which: int, first: int, width: int) -> Node:
        return self.node("parameter", (), width, (which, first))

    def leaf(self, name: str, which: int, width: int) -> Pieces:
        spans = self.spans(_leaf(name, which), width)
        return [self.node(name, (), end - first, (which, first)) for first, end in spans]

    # ---- slices ----

    def spans(self, source: Source, width: int, first: int = 0) -> list[tuple[int, int]]:
        """Return columns of a source as spans (first, end) between its cuts."""
        end = first + width
        inside = [column for column in self.cuts.get(source, ()) if first < column < end]
        return list(itertools.pairwise(sorted({first, end, *inside})))

    def cut(self, source: Source, *columns: int) -> None:
        self.cuts.setdefault(source, set()).update(columns)
        self.needs_cuts = True

    def window(self, pieces: Pieces, first: int, width: int) -> Pieces:
        """Return columns of pieces."""
        found: Pieces = []
        for piece in pieces:
            low, high = max(first, 0), min(first + width, piece.width)
            if low < high:
                found.append(piece if high - low == piece.width else self.part(piece, low, high - low))
            first -= piece.width
        return found

    def part(self, node: Node, first: int, width: int) -> Node:
        """Return columns of a node, from the same columns of its operands.

        Example: columns 4 to 7 of ``tanh(x + h)`` are ``tanh(x[4:8] + h[4:8])``.
        """
        if node.operation == "constant":
            numbers = node.detail[first : first + width] if len(node.detail) > 1 else node.detail
            return self.wide_constant(numbers, width)
        if node.operation == "parameter":
            which, start = node.detail
            return self.parameter(which, start + first, width)
        if node.operation in (*LEAVES, "dot", UNCUT):
            return self._uncut(node, first, width)
        if (key := (node, first, width)) not in self._parts:
            whole = node.given[:1] if node.operation == "gather" else ()  # a gather reads it anywhere
            sliced = [g if g.width == 1 else self.part(g, first, width) for g in node.given[len(whole) :]]
            self._parts[key] = self.node(node.operation, (*whole, *sliced), width, node.detail)
        return self._parts[key]

    def _uncut(self, node: Node, first: int, width: int) -> Node:
        """Stand in for columns of a leaf or product that is not cut there, and note the cuts."""
        if node.operation == "dot":
            which, _, start, transposed = node.detail[0]
            self.cut(Source("dot", which, transposed), start + first, start + first + width)
        elif node.operation in LEAVES:
            which, start = node.detail
            self.cut(_leaf(node.operation, which), start + first, start + first + width)
        return self.node(UNCUT, (), width, (node.order, first))

    def spread(self, node: Node, width: int) -> Node:
        """Return a node of one column as one of more.

        It is called ``copy`` until ``simplified`` knows who needs it wide: ``spread`` is the machine's operation.
        """
        if node.operation == "constant":
            return self.wide_constant(node.detail, width)
        return node if node.width == width else self.node("copy", (node,), width)

    def chosen(self, pieces: Pieces, columns: Sequence[int]) -> Node:
        """Return columns of pieces in any order, each perhaps several times; -1 is a column of zeros."""
        found = self.wide_constant(0, len(columns))
        wanted = np.asarray(columns)
        for first, piece in columns_of(pieces):
            places = np.where((wanted >= first) & (wanted < first + piece.width), wanted - first, -1)
            if places.max() >= 0:
                index = self.wide_constant(places, len(columns))
                found = self.node("gather", (piece, found, index), len(columns))
        return found

    def aligned(self, operands: Sequence[Pieces], width: int) -> list[Pieces]:
        """Return operands (rows, width) cut at the same columns: a list of operands for each piece of the result.

        An operand of one column stays whole. Example: pieces of 3 and 5 columns, and one of 8: two lists, of 3 and 5.
        """
        edges = {0, width}
        for pieces in operands:
            if len(pieces) > 1:
                edges |= set(np.cumsum([piece.width for piece in pieces]).tolist())
        if len(edges) > MAX_PIECES + 1:
            raise ValueError(f"it needs its operands in more than {MAX_PIECES} pieces")
        found = []
        for first, end in itertools.pairwise(sorted(edges)):
            row = []
            for pieces in operands:
                one_column = len(pieces) == 1 and pieces[0].width == 1
                row.append(pieces[0] if one_column else self.window(pieces, first, end - first)[0])
            found.append(row)
        return found

    # ---- elementwise operations ----

    def apply(self, operation: str, *operands: Pieces, width: int | None = None) -> Pieces:
        """Return an elementwise operation of operands of equal width, or of one column."""
        if width is None:
            width = max(sum(piece.width for piece in pieces) for pieces in operands)
        aligned = self.aligned(operands, width)
        spans = [max(node.width for node in row) for row in aligned]
        if sum(spans) != width:  # all operands are one column wide
            spans = [width]
        return [self.element(operation, *row, width=span) for row, span in zip(aligned, spans, strict=True)]

    def element(self, operation: str, *given: Node, width: int) -> Node:
        """Return an elementwise operation of nodes, in its simplest form."""
        # An operand that was spread from one column is read from there.
        operands = [g.given[0] if g.operation == "copy" and g.given[0].width == 1 < g.width else g for g in given]
        if all(g.operation == "constant" for g in operands):
            with np.errstate(all="ignore"):
                values = FOLDED[operation](*(np.array(g.detail, np.float32) for g in operands))
            return self.wide_constant(values, width)
        commutes = operation in ("add", "mul")
        for position, operand in enumerate(operands):
            is_neutral = operand.operation == "constant" and operand.detail == (NEUTRAL.get(operation),)
            if is_neutral and (position == 1 or commutes):
                return self.spread(operands[1 - position], width)
        if operation in ("add", "mul", "max", "min"):  # whose operands may change places: equal nodes are made once
            operands.sort(key=lambda operand: operand.order)
        return self.node(operation, operands, width)

    def across(self, operation: str, pieces: Pieces) -> Node:
        """Return the sum, or the extreme, of each row."""
        found = []
        for piece in pieces:
            if piece.operation == "constant" and len(piece.detail) == 1:
                found.append(self.constant(piece.detail[0] * (piece.width if operation == "row_sum" else 1)))
            else:
                found.append(piece if piece.width == 1 else self.node(operation, (piece,), 1))
        return functools.reduce(lambda a, b: self.element(ACROSS[operation], a, b, width=1), found)

    # ---- products ----

    def dot(
        self, left: Pieces, which: int, transposed: bool, columns: int, first_row: int = 0, first_column: int = 0
    ) -> Pieces:
        """Return the product of left (rows, k) and part of a parameter's matrix, or of its transpose, (k, columns)."""
        found: Pieces = []
        for first, end in self.spans(Source("dot", which, transposed), columns, first_column):
            matrices, given, row = [], [], first_row
            for piece in left:
                if not (piece.operation == "constant" and piece.detail == (0.0,)):
                    matrices.append((which, row, first, transposed))
                    given.append(piece)
                row += piece.width
            width = end - first
            found.append(self.node("dot", given, width, tuple(matrices)) if given else self.wide_constant(0, width))
        return found


def _leaf(name: str, which: int) -> Source:
    return Source("state" if name == "upstream" else name, which)  # a state's gradient is cut as the state is


# The operations that ``apply`` may be asked for, on constants; most are NumPy's own.
FOLDED: dict[str, Any] = {
    **{name: getattr(np, name) for name in ("add", "pow", "sqrt", "exp", "expm1", "log", "log1p", "tanh")},
    **{name: getattr(np, name) for name in ("abs", "floor", "round", "sin", "cos", "atan")},
    **{"sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum, "min": np.minimum},
    "gt": lambda a, b: (a > b).astype(np.float32),
    "ge": lambda a, b: (a >= b).astype(np.float32),
    "eq": lambda a, b: (a == b).astype(np.float32),
    "select": lambda c, a, b: np.where(c != 0, a, b),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0),
    "tanh_grad": lambda y, d: d * (1 - y * y),
    "sigmoid_grad": lambda y, d: d * y * (1 - y),
    "erf": np.vectorize(math.erf, otypes=[np.float32]),
    "erfc": np.vectorize(math.erfc, otypes=[np.float32]),
}

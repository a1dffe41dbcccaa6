"""The program of a step: instructions in order, and where their numbers lie; what the machine in ``cpp/`` runs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .expressions import ACROSS, Expressions, Node, Pieces, columns_of
from .schedule import Results, below, groups_of, to_keep

STRIP, BLOCK, FIXED, KEPT, STATE, NEXT, SAMPLES = range(7)  # where numbers lie, as in cpp/machine.h
ALWAYS, IF_KEPT, IF_FEATURES = range(3)  # when an instruction runs
LINE = 16  # floats of a cache line, to which rows are padded
STRIP_ROWS, BLOCK_ROWS, SAMPLE_ROWS = 5, 25, 125

Operand = tuple[int, int, int]  # region, offset, floats from row to row
NOTHING: Operand = (-1, 0, 0)


def padded(width: int) -> int:
    return -(-width // LINE) * LINE


def stride(width: int) -> int:
    """Return the floats from row to row: an odd number of lines, so that rows do not fall into the same cache sets."""
    lines = padded(width) // LINE
    return LINE * (lines + (lines % 2 == 0))


# The machine's operations by number, as in cpp/machine.h.
OPERATIONS = (
    *("copy", "spread", "keep", "row_sum", "row_max", "row_min", "add", "sub", "mul", "div", "max", "min", "gt", "ge"),
    *("eq", "pow", "tanh_grad", "sigmoid_grad", "fma", "fnma", "select", "abs", "sqrt", "exp", "expm1", "log", "log1p"),
    *("tanh", "sigmoid", "softplus", "floor", "round", "sin", "cos", "erf", "atan", "erfc", "gather"),
)


class Storage:
    """Gives out places of a region, and takes back what is no longer read."""

    def __init__(self) -> None:
        self.size = 0
        self._free: dict[int, list[int]] = {}

    def take(self, floats: int) -> int:
        if self._free.get(floats):
            return self._free[floats].pop()
        self.size += floats
        return self.size - floats

    def give_back(self, floats: int, offset: int) -> None:
        self._free.setdefault(floats, []).append(offset)


class Layout:
    """Where fixed numbers lie: constants first, then what comes from parameters."""

    def __init__(self, widest: int) -> None:
        self.widest = padded(widest)
        self.size = 0
        self.constants: list[np.ndarray] = []
        self.loads: list[tuple[int, int, int, int, int]] = []  # parameter, first, count, repeat, offset
        self._known: dict[Any, Operand] = {}

    def operand(self, node: Node) -> Operand:
        key = (node.operation, node.detail, 1 if len(node.detail) == 1 else node.width)
        if key not in self._known:
            single = node.width == 1 or (node.operation == "constant" and len(node.detail) == 1)
            size = self.widest if single else padded(node.width)
            values = np.zeros(size, np.float32)
            if node.operation == "constant":
                values[: size if single else node.width] = node.detail
            else:
                self.loads.append((*node.detail, node.width, size if single else 0, self.size))
            self.constants.append(values)
            self._known[key] = (FIXED, self.size, 0)
            self.size += size
        return self._known[key]


@dataclass
class Code:
    """The instructions of one pass."""

    numbers: list[int] = field(default_factory=list)
    groups: int = 0
    strip_floats: int = 0
    block_floats: int = 0
    packs: list[tuple[int, ...]] = field(default_factory=list)


class Assembler:
    """Turns one pass's nodes into code.

    ``given`` says where what is not computed here lies, ``places`` where results must lie, ``kept`` where the forward
    pass keeps nodes, ``optional`` the conditions of nodes that are not always needed, ``columns`` those of the
    parameters; what ``block`` has given away keeps its numbers to the end of the step.
    """

    def __init__(
        self,
        fixed: Layout,
        given: dict[Node, Operand],
        places: dict[Node, Operand],
        kept: dict[Node, Operand],
        optional: dict[Node, int],
        columns: list[int],
        block: Storage,
    ) -> None:
        self.fixed, self.where, self.places, self.kept = fixed, {**given}, places, kept
        self.optional, self.columns, self.block = optional, columns, block
        self.code = Code()

    def assemble(self, nodes: list[Node], copies: list[tuple[Node, Operand]]) -> Code:
        """Return code for nodes in order, then copies of nodes to further places."""
        copied = [node for node, _ in copies]
        groups = groups_of(nodes)
        if copies and (not groups or groups[-1][0].operation == "dot"):
            groups.append([])
        early = [node for node in self.kept if node in self.where]
        if early and groups[0] and groups[0][0].operation == "dot":
            groups.insert(0, [])
        group_of = {node: number for number, group in enumerate(groups) for node in group}
        last_read = {g: number for node, number in group_of.items() for g in node.given}
        last_read.update(dict.fromkeys(copied, len(groups) - 1))
        strips, block, where = Storage(), self.block, self.where
        ends: dict[int, list[tuple[int, int]]] = {}
        for number, group in enumerate(groups):
            local_reads = {g: place for place, node in enumerate(group) for g in node.given}
            if number == len(groups) - 1:
                local_reads.update(dict.fromkeys(copied, len(group)))
            instructions = self._keeps(early) if number == 0 else []
            for place, node in enumerate(group):
                sources = [self._operand(g) for g in node.given]
                if node in self.places:
                    target = self.places[node]
                elif node.operation != "dot" and last_read.get(node, number) == number:
                    target = (STRIP, strips.take(STRIP_ROWS * stride(node.width)), stride(node.width))
                else:
                    floats = BLOCK_ROWS * stride(node.width)
                    target = (BLOCK, block.take(floats), stride(node.width))
                    ends.setdefault(last_read.get(node, number), []).append((floats, target[1]))
                where[node] = target
                instructions.append(self._instruction(node, target, sources))
                if node in self.kept and node.operation != "dot":
                    instructions += self._keeps([node])
                for g in dict.fromkeys((*node.given, node)):
                    region, offset, step = where.get(g, NOTHING)
                    if region == STRIP and local_reads.get(g, place) == place and group_of[g] == number:
                        strips.give_back(STRIP_ROWS * step, offset)
            if number == len(groups) - 1:
                for node, target in copies:
                    instructions.append(self._elementwise("copy", ALWAYS, node.width, target, [self._operand(node)]))
            dots = bool(group) and group[0].operation == "dot"
            self._group(int(dots), instructions)
            if dots and (late := [node for node in group if node in self.kept]):
                self._group(0, self._keeps(late))
            for floats, offset in ends.pop(number, []):
                block.give_back(floats, offset)
        self.code.strip_floats, self.code.block_floats = strips.size, block.size
        return self.code

    def _operand(self, node: Node) -> Operand:
        return self.fixed.operand(node) if node.fixed else self.where[node]

    def _group(self, kind: int, instructions: list[list[int]]) -> None:
        self.code.groups += 1
        self.code.numbers += [kind, len(instructions), *(n for instruction in instructions for n in instruction)]

    def _keeps(self, nodes: list[Node]) -> list[list[int]]:
        return [self._elementwise("keep", IF_KEPT, n.width, self.kept[n], [self.where[n]]) for n in nodes]

    def _elementwise(
        self, operation: str, condition: int, width: int, target: Operand, sources: list[Operand]
    ) -> list[int]:
        operands = [target, *sources, *[NOTHING] * (3 - len(sources))]
        return [OPERATIONS.index(operation), condition, width, *(n for operand in operands for n in operand)]

    def _instruction(self, node: Node, target: Operand, sources: list[Operand]) -> list[int]:
        condition = self.optional.get(node, ALWAYS)
        if node.operation != "dot":
            width = node.given[0].width if node.operation in ACROSS else node.width
            return self._elementwise(node.operation, condition, width, target, sources)
        count = len(node.detail)
        bias = sources[count] if len(sources) > count else NOTHING
        numbers = [condition, node.width, *target, *bias, count]
        for left, source, (which, row, column, transposed) in zip(node.given, sources, node.detail, strict=False):
            pack = (which, row, column, left.width, node.width, int(transposed), self.columns[which])
            if pack not in self.code.packs:
                self.code.packs.append(pack)
            numbers += [*source, left.width, self.code.packs.index(pack)]
        return numbers


Ends = list[tuple[Node, Operand]]  # copies, and their places
Placed = list[tuple[int, int, Operand]]  # first column, width, place


def _placed(pieces: Pieces, places: dict[Node, Operand], block: Storage) -> Placed:
    """Return the places of pieces; what has none gets one in the block."""
    for node in pieces:
        if node not in places:
            places[node] = (BLOCK, block.take(BLOCK_ROWS * stride(node.width)), stride(node.width))
    return [(first, node.width, places[node]) for first, node in columns_of(pieces)]


class Assembly:
    """Gives every number of a step its place, and writes the code of both passes; ``shapes`` are the parameters'."""

    def __init__(self, make: Expressions, results: Results, shapes: Sequence[tuple[int, ...]]) -> None:
        self.make, self.results = make, results
        sizes = [int(np.prod(shape)) for shape in shapes]
        self.bases = np.cumsum([0, *sizes]).tolist()
        self.columns = [shape[-1] if shape else 1 for shape in shapes]
        self.kept: dict[Node, Operand] = {}
        self.kept_size = 0
        for node in to_keep(results):
            self.kept[node] = (KEPT, self.kept_size, 0)
            self.kept_size += padded(node.width)
        self.kept_size = stride(max(self.kept_size, 1))
        self.state_size = 0
        self._states: list[tuple[int, int, int, int]] = []  # which, first column, width, offset
        for which, width in enumerate(results.widths):
            for low, high in make.spans(("state", which), width):
                self._states.append((which, low, high - low, self.state_size))
                self.state_size += BLOCK_ROWS * stride(high - low)
        self.samples_size = 0
        self._sampled: dict[Node, Operand] = {}
        self.forward_roots = [*itertools.chain(*results.states), *results.output, *self.kept]
        everything = below([*self.forward_roots, *results.ends, *results.feature_gradients, *results.summed])
        self.fixed = Layout(max(node.width for node in everything))

    def numbers(self, shared: bool) -> list[int]:
        """Return the program as the library reads it; ``shared``: whether rows may share their first steps."""
        results = self.results
        starts = np.cumsum([0, *results.widths]).tolist()
        states = [(starts[which] + low, width, at) for which, low, width, at in self._state_pieces(STATE)]
        x_forward, drawn_forward, forward, output = self._forward()
        x_backward, drawn_backward, upstream, backward, wrt_x = self._backward()
        sums, sums_size = self._sums()
        numbers = [results.features, results.units, sum(results.widths), self.kept_size, self.state_size]
        numbers += [self.samples_size, self.fixed.size, sums_size, self.bases[-1]]
        numbers += [int(results.output_state is not None), int(shared)]
        for pieces in (states, x_forward, x_backward, output, wrt_x, upstream):
            numbers += [len(pieces), *(n for first, width, at in pieces for n in (first, width, *at))]
        numbers.append(len(self.fixed.loads))
        for which, first, count, repeat, to in self.fixed.loads:
            numbers += [self.bases[which] + first, count, repeat, to]
        for code in (forward, backward):
            numbers += [code.strip_floats, code.block_floats, len(code.packs)]
            for which, row, column, k, n, transposed, columns in code.packs:
                # Of the transpose, rows of the right operand are columns of the parameter.
                start = column * columns + row if transposed else row * columns + column
                steps = (1, columns) if transposed else (columns, 1)
                numbers += [self.bases[which] + start, *steps, k, n]
            numbers += [code.groups, *code.numbers]
        numbers += [len(sums), *(n for one in sums for n in one)]
        for pieces in (drawn_forward, drawn_backward) if results.drawn else ():
            numbers += [len(pieces), *(n for first, width, at in pieces for n in (first, width, *at))]
        return numbers

    def _state_pieces(self, region: int) -> list[tuple[int, int, int, Operand]]:
        return [(which, low, width, (region, offset, stride(width))) for which, low, width, offset in self._states]

    def _leaves_of_states(self, name: str) -> dict[Node, Operand]:
        """Return the places of the states before the step, or of their gradients after it."""
        nodes = [node for i, width in enumerate(self.results.widths) for node in self.make.leaf(name, i, width)]
        return dict(zip(nodes, [at for *_, at in self._state_pieces(STATE)], strict=True))

    def _ends(self, results: list[Pieces], given: dict[Node, Operand]) -> tuple[dict[Node, Operand], Ends]:
        """Return where results are computed, and copies of those that are leaves, fixed, or results twice."""
        places: dict[Node, Operand] = {}
        copies: Ends = []
        nodes = itertools.chain(*results)
        for node, (*_, target) in zip(nodes, self._state_pieces(NEXT), strict=True):
            if node.fixed or node in given or node in places:
                copies.append((node, target))
            else:
                places[node] = target
        return places, copies

    def _drawn(self) -> Pieces:
        """Return the leaves of the dropout masks, beside each other."""
        return [node for i, width in enumerate(self.results.drawn) for node in self.make.leaf("drawn", i, width)]

    def _forward(self) -> tuple[Placed, Placed, Code, Placed]:
        results = self.results
        given, block = self._leaves_of_states("state"), Storage()
        x = _placed(self.make.leaf("x", 0, results.features), given, block)
        drawn = _placed(self._drawn(), given, block)  # for all steps: nothing else lies there
        places, copies = self._ends(results.states, given)
        output = self._lasting(results.output, places, copies, block)
        nodes = [node for node in below(self.forward_roots) if node.given]
        code = Assembler(self.fixed, given, places, self.kept, {}, self.columns, block).assemble(nodes, copies)
        return x, drawn, code, output

    def _sample(self, node: Node) -> Operand:
        """Return the place of a node among the last steps' rows."""
        if node not in self._sampled:
            self._sampled[node] = (SAMPLES, self.samples_size, stride(node.width))
            self.samples_size += SAMPLE_ROWS * stride(node.width)
        return self._sampled[node]

    def _backward(self) -> tuple[Placed, Placed, Placed, Code, Placed]:
        results = self.results
        which, block = results.output_state, Storage()
        given = {**self.kept, **self._leaves_of_states("upstream")}
        leaf = self.make.leaf("x", 0, results.features)
        given.update((node, self._sample(node)) for node in leaf)
        x, drawn = _placed(leaf, given, block), _placed(self._drawn(), given, block)
        if which is None:
            upstream = _placed(self.make.leaf("upstream", len(results.widths), results.units), given, block)
        else:
            upstream = [(low, width, at) for state, low, width, at in self._state_pieces(STATE) if state == which]
        places, copies = self._ends(results.state_gradients, given)
        for node in results.summed:
            if node in self._sampled:
                continue
            if node.fixed or node in given or node in places:  # what was kept too: close together, it is faster
                copies.append((node, self._sample(node)))
            else:
                places[node] = self._sample(node)
        always = [*results.ends, *results.summed]
        needed = below(always, lambda node: node in given)
        nodes = below([*always, *results.feature_gradients], lambda node: node in given)
        nodes = [node for node in nodes if node.given and node not in given]
        optional = dict.fromkeys(set(nodes).difference(needed), IF_FEATURES)
        wrt_x = self._lasting(results.feature_gradients, places, copies, block)
        code = Assembler(self.fixed, given, places, {}, optional, self.columns, block).assemble(nodes, copies)
        return x, drawn, upstream, code, wrt_x

    def _lasting(self, pieces: Pieces, places: dict[Node, Operand], copies: Ends, block: Storage) -> Placed:
        """Give pieces a place that outlasts the step where they have none, and return their places."""
        lasting = {**places}
        placed = _placed(pieces, lasting, block)
        copies += [(node, at) for node, at in lasting.items() if node not in places]
        return placed

    def _sums(self) -> tuple[list[list[int]], int]:
        sums, size = [], 0
        for which, left, right, row, column in self.results.sums:
            height = 1 if left is None else left.width
            left_at = NOTHING if left is None else self._sample(left)
            start = self.bases[which] + row * self.columns[which] + column
            if start + (height - 1) * self.columns[which] + right.width > self.bases[which + 1]:
                raise ValueError("a sum does not fit into its parameter")
            sums.append([*left_at, *self._sample(right), height, right.width, size, start, self.columns[which]])
            size += height * padded(right.width)
        return sums, size

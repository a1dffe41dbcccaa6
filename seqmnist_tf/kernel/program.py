"""The program of a step: instructions in order, and where their numbers lie; what the machine in ``cpp/`` runs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .expressions import ACROSS, Expressions, Node, Pieces, Source, columns_of, matrix_text
from .schedule import Results, groups_of, kept_for_backward, needed_for

REGIONS = ("strip", "block", "fixed", "kept", "state", "next", "samples")  # where numbers lie, as in cpp/machine.h
STRIP, BLOCK, FIXED, KEPT, STATE, NEXT, SAMPLES = range(7)
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
        self.texts: dict[Operand, str] = {NOTHING: ""}
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
            self.texts[FIXED, self.size, 0] = str(node)
            self.size += size
        return self._known[key]

    def text(self, operand: Operand) -> str:
        """Return where an operand lies, or what it is, as text."""
        region, offset, _ = operand
        return self.texts.get(operand, f"{REGIONS[region]}[{offset}]")


class Instruction(NamedTuple):
    """An instruction as the machine reads it, and as people do."""

    numbers: list[int]
    text: str


@dataclass
class Code:
    """The instructions of one pass."""

    numbers: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    groups: int = 0
    strip_floats: int = 0
    block_floats: int = 0
    packs: list[tuple[int, ...]] = field(default_factory=list)

    def add_group(self, is_dots: bool, instructions: list[Instruction]) -> None:
        self.groups += 1
        self.numbers += [int(is_dots), len(instructions)]
        self.texts.append("  products:" if is_dots else "  elementwise:")
        for instruction in instructions:
            self.numbers += instruction.numbers
            self.texts.append(f"    {instruction.text}")


Copies = list[tuple[Node, Operand]]  # nodes, and further places that they are copied to


@dataclass
class Assembler:
    """Turns one pass's nodes into code.

    Attributes:
        fixed: where constants and parameters lie.
        where: where what this pass does not compute lies; where the rest lies is added.
        places: where results must lie.
        kept: where the forward pass keeps nodes.
        optional: the conditions of nodes that are not always needed.
        columns: the columns of the parameters.
        block: what it has given away keeps its numbers to the end of the step.
    """

    fixed: Layout
    where: dict[Node, Operand]
    places: dict[Node, Operand]
    kept: dict[Node, Operand]
    optional: dict[Node, int]
    columns: list[int]
    block: Storage
    code: Code = field(default_factory=Code)
    strips: Storage = field(default_factory=Storage)
    group_of: dict[Node, int] = field(default_factory=dict)
    last_group: dict[Node, int] = field(default_factory=dict)  # that reads a node
    block_until: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # group: floats and offsets it frees

    def assemble(self, nodes: list[Node], copies: Copies) -> Code:
        """Return code for nodes in order, then copies."""
        early = [node for node in self.kept if node in self.where]
        groups = groups_of(nodes)
        if copies and (not groups or groups[-1][0].operation == "dot"):
            groups.append([])
        if early and groups[0] and groups[0][0].operation == "dot":
            groups.insert(0, [])
        self.group_of = {node: number for number, group in enumerate(groups) for node in group}
        self.last_group = {operand: number for node, number in self.group_of.items() for operand in node.given}
        self.last_group.update((node, len(groups) - 1) for node, _ in copies)
        for number, group in enumerate(groups):
            instructions = self._keeps(early) if number == 0 else []
            instructions += self._computes(group, copies if number == len(groups) - 1 else [])
            is_dots = bool(group) and group[0].operation == "dot"
            self.code.add_group(is_dots, instructions)
            if is_dots and (late := [node for node in group if node in self.kept]):
                self.code.add_group(False, self._keeps(late))
            for floats, offset in self.block_until.pop(number, []):
                self.block.give_back(floats, offset)
        self.code.strip_floats, self.code.block_floats = self.strips.size, self.block.size
        return self.code

    def _computes(self, group: list[Node], copies: Copies) -> list[Instruction]:
        """Return the instructions of a group; a strip is free again after the last of them that reads it."""
        last_read = {operand: place for place, node in enumerate(group) for operand in node.given}
        last_read.update((node, len(group)) for node, _ in copies)
        instructions = []
        for place, node in enumerate(group):
            sources = [self._operand(operand) for operand in node.given]
            self.where[node] = self._place(node)
            instructions.append(self._instruction(node, sources))
            if node in self.kept and node.operation != "dot":
                instructions += self._keeps([node])
            for one in dict.fromkeys((*node.given, node)):
                region, offset, step = self.where.get(one, NOTHING)
                if region == STRIP and last_read.get(one, place) == place and self.group_of[one] == self.group_of[node]:
                    self.strips.give_back(STRIP_ROWS * step, offset)
        for node, target in copies:
            instructions.append(self._elementwise("copy", ALWAYS, node.width, target, [self._operand(node)]))
        return instructions

    def _place(self, node: Node) -> Operand:
        """Return where a node is computed: where it must lie, a strip that its group alone reads, or the block."""
        if node in self.places:
            return self.places[node]
        group, step = self.group_of[node], stride(node.width)
        last = self.last_group.get(node, group)
        if node.operation != "dot" and last == group:
            return STRIP, self.strips.take(STRIP_ROWS * step), step
        offset = self.block.take(BLOCK_ROWS * step)
        self.block_until.setdefault(last, []).append((BLOCK_ROWS * step, offset))
        return BLOCK, offset, step

    def _operand(self, node: Node) -> Operand:
        return self.fixed.operand(node) if node.fixed else self.where[node]

    def _keeps(self, nodes: list[Node]) -> list[Instruction]:
        return [self._elementwise("keep", IF_KEPT, n.width, self.kept[n], [self.where[n]]) for n in nodes]

    def _elementwise(
        self, operation: str, condition: int, width: int, target: Operand, sources: list[Operand]
    ) -> Instruction:
        operands = [target, *sources, *[NOTHING] * (3 - len(sources))]
        numbers = [OPERATIONS.index(operation), condition, width, *itertools.chain(*operands)]
        return Instruction(
            numbers, f"{self.fixed.text(target)} = {operation}({', '.join(map(self.fixed.text, sources))})"
        )

    def _instruction(self, node: Node, sources: list[Operand]) -> Instruction:
        condition, target = self.optional.get(node, ALWAYS), self.where[node]
        if node.operation != "dot":
            width = node.given[0].width if node.operation in ACROSS else node.width
            return self._elementwise(node.operation, condition, width, target, sources)
        count = len(node.detail)
        numbers, terms = [condition, node.width, *target, *(sources[count:] or [NOTHING])[0], count], []
        for left, source, (which, row, column, transposed) in zip(node.given, sources, node.detail, strict=False):
            pack = (which, row, column, left.width, node.width, int(transposed), self.columns[which])
            if pack not in self.code.packs:
                self.code.packs.append(pack)
            numbers += [*source, left.width, self.code.packs.index(pack)]
            matrix = matrix_text(which, transposed, row, left.width, column, node.width)
            terms.append(f"{self.fixed.text(source)} @ {matrix}")
        terms += map(self.fixed.text, sources[count:])  # a bias
        return Instruction(numbers, f"{self.fixed.text(target)} = {' + '.join(terms)}")


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
        for node in kept_for_backward(results):
            self.kept[node] = (KEPT, self.kept_size, 0)
            self.kept_size += padded(node.width)
        self.kept_size = stride(max(self.kept_size, 1))
        self.state_size = 0
        self._states: list[tuple[int, int, int, int]] = []  # which, first column, width, offset
        for which, width in enumerate(results.widths):
            for low, high in make.spans(Source("state", which), width):
                self._states.append((which, low, high - low, self.state_size))
                self.state_size += BLOCK_ROWS * stride(high - low)
        self.samples_size = 0
        self.texts: list[str] = []  # the program as text, after ``numbers``
        self._sampled: dict[Node, Operand] = {}
        self.forward_roots = [*itertools.chain(*results.states), *results.output, *self.kept]
        everything = needed_for([*self.forward_roots, *results.carried, *results.feature_gradients, *results.factors])
        self.fixed = Layout(max(node.width for node in everything))

    def numbers(self, shared: bool) -> list[int]:
        """Return the program as the library reads it; ``shared``: whether rows may share their first steps."""
        results = self.results
        starts = np.cumsum([0, *results.widths]).tolist()
        states = [(starts[which] + low, width, at) for which, low, width, at in self._state_pieces(STATE)]
        x_forward, drawn_forward, forward, output = self._forward()
        x_backward, drawn_backward, upstream, backward, wrt_x = self._backward()
        sums, sums_size, sum_texts = self._sums()
        at = self._places_text
        self.texts = [f"forward: x in {at(x_forward)}; states in {at(states)}", *forward.texts]
        self.texts += [f"  output in {at(output)}", f"backward: x in {at(x_backward)}; gradients in {at(states)}"]
        self.texts += [*backward.texts, f"  gradient of x in {at(wrt_x)}", *sum_texts]
        numbers = [sum(results.inputs), results.units, sum(results.widths), self.kept_size, self.state_size]
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

    def _places_text(self, pieces: Placed) -> str:
        return ", ".join(self.fixed.text(place) for *_, place in pieces)

    def _state_pieces(self, region: int) -> list[tuple[int, int, int, Operand]]:
        return [(which, low, width, (region, offset, stride(width))) for which, low, width, offset in self._states]

    def _leaves_of_states(self, name: str) -> dict[Node, Operand]:
        """Return the places of the states before the step, or of their gradients after it."""
        nodes = [node for i, width in enumerate(self.results.widths) for node in self.make.leaf(name, i, width)]
        return dict(zip(nodes, [at for *_, at in self._state_pieces(STATE)], strict=True))

    def _ends(self, results: list[Pieces], given: dict[Node, Operand]) -> tuple[dict[Node, Operand], Copies]:
        """Return where results are computed, and copies of those that are leaves, fixed, or results twice."""
        places: dict[Node, Operand] = {}
        copies: Copies = []
        nodes = itertools.chain(*results)
        for node, (*_, target) in zip(nodes, self._state_pieces(NEXT), strict=True):
            if node.fixed or node in given or node in places:
                copies.append((node, target))
            else:
                places[node] = target
        return places, copies

    def _inputs(self) -> Pieces:
        """Return the leaves of the input and of what is drawn at each step, beside each other."""
        return [node for i, width in enumerate(self.results.inputs) for node in self.make.leaf("x", i, width)]

    def _drawn(self) -> Pieces:
        """Return the leaves of the dropout masks, beside each other."""
        return [node for i, width in enumerate(self.results.drawn) for node in self.make.leaf("drawn", i, width)]

    def _forward(self) -> tuple[Placed, Placed, Code, Placed]:
        results = self.results
        given, block = self._leaves_of_states("state"), Storage()
        x = _placed(self._inputs(), given, block)
        drawn = _placed(self._drawn(), given, block)  # for all steps: nothing else lies there
        places, copies = self._ends(results.states, given)
        output = self._lasting(results.output, places, copies, block)
        nodes = [node for node in needed_for(self.forward_roots) if node.given]
        code = Assembler(self.fixed, {**given}, places, self.kept, {}, self.columns, block).assemble(nodes, copies)
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
        leaf = self._inputs()
        given.update((node, self._sample(node)) for node in leaf)
        x, drawn = _placed(leaf, given, block), _placed(self._drawn(), given, block)
        if which is None:
            upstream = _placed(self.make.leaf("upstream", len(results.widths), results.units), given, block)
        else:
            upstream = [(low, width, at) for state, low, width, at in self._state_pieces(STATE) if state == which]
        places, copies = self._ends(results.state_gradients, given)
        for node in results.factors:
            if node in self._sampled:
                continue
            if node.fixed or node in given or node in places:  # what was kept too: close together, it is faster
                copies.append((node, self._sample(node)))
            else:
                places[node] = self._sample(node)
        always = [*results.carried, *results.factors]
        needed = needed_for(always, lambda node: node in given)
        nodes = needed_for([*always, *results.feature_gradients], lambda node: node in given)
        nodes = [node for node in nodes if node.given and node not in given]
        optional = dict.fromkeys(set(nodes).difference(needed), IF_FEATURES)
        wrt_x = self._lasting(results.feature_gradients, places, copies, block)
        code = Assembler(self.fixed, {**given}, places, {}, optional, self.columns, block).assemble(nodes, copies)
        return x, drawn, upstream, code, wrt_x

    def _lasting(self, pieces: Pieces, places: dict[Node, Operand], copies: Copies, block: Storage) -> Placed:
        """Give pieces a place that outlasts the step where they have none, and return their places."""
        lasting = {**places}
        placed = _placed(pieces, lasting, block)
        copies += [(node, at) for node, at in lasting.items() if node not in places]
        return placed

    def _sums(self) -> tuple[list[list[int]], int, list[str]]:
        """Return the sums of products that the parameters' gradients are, how many floats they take, and their text."""
        sums, size, texts = [], 0, []
        for which, terms in self.results.parameter_gradients.items():
            columns = self.columns[which]
            for left, right, row, column in terms:
                height = 1 if left is None else left.width
                left_at, right_at = NOTHING if left is None else self._sample(left), self._sample(right)
                start = self.bases[which] + row * columns + column
                if start + (height - 1) * columns + right.width > self.bases[which + 1]:
                    raise ValueError("a sum does not fit into its parameter")
                sums.append([*left_at, *right_at, height, right.width, size, start, columns])
                size += height * padded(right.width)
                product = f"{self.fixed.text(left_at)}.T @ " if left else "sum of "
                matrix = matrix_text(which, False, row, height, column, right.width)
                texts.append(f"  gradient of {matrix} += {product}{self.fixed.text(right_at)}")
        return sums, size, texts

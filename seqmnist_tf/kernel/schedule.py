"""What a step computes, in few operations, in what order, and what of it is kept."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from .expressions import ACROSS, Expressions, Node, Pieces


@dataclass(frozen=True)
class Results:
    """What a step computes, as pieces, and the sums over rows that its weights' gradients are.

    ``features``, ``units``, ``widths`` and ``drawn`` are of the input, the output, the states and the dropout masks;
    ``output_state`` says which of the new states the output is; ``sums`` are (parameter, left, right, first row, first
    column).
    """

    features: int
    units: int
    widths: tuple[int, ...]
    drawn: tuple[int, ...]
    output_state: int | None
    states: list[Pieces]
    output: Pieces
    state_gradients: list[Pieces]
    feature_gradients: Pieces
    sums: list[tuple[int, Node | None, Node, int, int]]

    @property
    def ends(self) -> Pieces:
        """The gradients of all states."""
        return list(itertools.chain(*self.state_gradients))

    @property
    def summed(self) -> list[Node]:
        """What the gradients of weights are computed from."""
        return [node for _, left, right, _, _ in self.sums for node in (left, right) if node is not None]


# The operations that are linear in all operands together, and those that are linear in some ("+") for fixed others.
SUMS = ("dot", "add", "sub", "copy", "row_sum")
LINEAR = {"div": "+-", "gather": "++-", "select": "-++", "tanh_grad": "-+", "sigmoid_grad": "-+"}


def late_among(nodes: list[Node]) -> set[Node]:
    """Return the nodes, which are given in order, that depend on the gradients after the step."""
    late: set[Node] = set()
    for node in nodes:
        if node.operation == "upstream" or late.intersection(node.given):
            late.add(node)
    return late


def is_linear(results: Results) -> bool:
    """Return whether the gradients before a step are linear in those after it; False where that is not sure.

    Only then may the gradients of rows that share a state be added up first.
    """
    late = late_among(below([*results.ends, *results.summed]))

    def role(node: Node) -> str:
        return "+" if node in late else "0" if node.operation == "constant" and not any(node.detail) else "-"

    def fits(node: Node) -> bool:
        roles = "".join(map(role, node.given))
        if node.operation == "mul":
            return roles.count("+") == 1
        allowed = "+" * len(roles) if node.operation in SUMS else LINEAR.get(node.operation, "")
        return len(roles) == len(allowed) and all(r in (a, "0") for r, a in zip(roles, allowed, strict=True))

    return (
        all(fits(node) for node in late if node.given)
        and all(role(end) != "-" for end in results.ends)
        and all((left in late) != (right in late) for _, left, right, _, _ in results.sums)
    )


def simplified(make: Expressions, results: Results) -> Results:
    """Return the same results with sums of products as one, and products that are added as fused ones."""
    roots = [*itertools.chain(*results.states), *results.output, *results.feature_gradients]
    roots += [*results.ends, *results.summed]
    uses = Counter([*roots, *(g for node in below(roots) for g in node.given)])

    def terms(node: Node, width: int) -> list[Node]:
        if node.operation == "add" and node.width == width:
            return [term for g in node.given for term in (terms(g, width) if uses[g] == 1 else [g])]
        return [node]

    def wide(node: Node, width: int) -> Node:
        node = rewritten(node)
        return node if node.fixed or node.width == width else make.node("spread", (node,), width)

    def multiplied(node: Node) -> bool:
        return node.operation == "mul" and uses[node] == 1

    def rewritten_sum(node: Node) -> Node:
        parts = terms(node, node.width)
        dots = [p for p in parts if p.operation == "dot" and uses[p] == 1 and p.width == node.width]
        others = [p for p in parts if p not in dots]
        others.sort(key=lambda p: (multiplied(p), p.order))
        result: Node | None = None
        if dots:
            pairs = [pair for dot in dots for pair in zip(map(rewritten, dot.given), dot.detail, strict=True)]
            pairs.sort(key=lambda pair: -pair[0].width)  # long sums first: rounded while they are small
            given = [given for given, _ in pairs]
            if biases := [p for p in others if p.fixed]:
                given.append(others.pop(others.index(biases[0])))  # once: a step may add the same twice
            result = make.node("dot", given, node.width, tuple(detail for _, detail in pairs))
        for part in others:
            if result is None:
                result = wide(part, node.width)
            elif multiplied(part):
                result = make.node("fma", (*(wide(g, node.width) for g in part.given), result), node.width)
            else:
                result = make.node("add", (result, wide(part, node.width)), node.width)
        return result or node

    @functools.cache
    def rewritten(node: Node) -> Node:
        if not node.given:
            return node
        if node.operation == "add":
            return rewritten_sum(node)
        if node.operation == "sub" and multiplied(node.given[1]):
            factors = [wide(g, node.width) for g in node.given[1].given]
            return make.node("fnma", (*factors, wide(node.given[0], node.width)), node.width)
        if node.operation == "copy" and node.given[0].width == 1 < node.width and not node.given[0].fixed:
            return wide(node.given[0], node.width)
        if node.operation in ("dot", "gather", *ACROSS):
            return make.node(node.operation, map(rewritten, node.given), node.width, node.detail)
        return make.node(node.operation, (wide(g, node.width) for g in node.given), node.width, node.detail)

    def each(pieces: Pieces) -> Pieces:
        return [rewritten(piece) for piece in pieces]

    return replace(
        results,
        states=[each(pieces) for pieces in results.states],
        output=each(results.output),
        state_gradients=[each(pieces) for pieces in results.state_gradients],
        feature_gradients=each(results.feature_gradients),
        sums=[
            (which, None if left is None else rewritten(left), rewritten(right), row, column)
            for which, left, right, row, column in results.sums
        ],
    )


def below(roots: Iterable[Node], stop: Callable[[Node], bool] = lambda node: False) -> list[Node]:
    """Return nodes and all that they are computed from, in order; not what those are computed from where it stops."""
    found: set[Node] = set()
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            if not stop(node):
                waiting.extend(node.given)
    return sorted(found, key=lambda node: node.order)


def to_keep(results: Results) -> list[Node]:
    """Return what the forward pass keeps for the backward pass.

    It is what the backward pass reads, but for what follows, without products of matrices, from what is kept anyway.
    """
    ends = [*results.ends, *results.feature_gradients, *results.summed]
    nodes = below(ends)
    late = late_among(nodes)
    read = {*ends, *(given for node in late for given in node.given)}
    kept: list[Node] = []
    known: set[Node] = set()  # what is kept, and what follows from it
    for node in nodes:
        follows = node.given and node.operation != "dot" and known.issuperset(node.given)
        if not (node.fixed or node.operation in ("x", "drawn") or follows):
            if node not in read or node in late:
                continue
            kept.append(node)
        known.add(node)
    return kept


def groups_of(nodes: list[Node]) -> list[list[Node]]:
    """Return nodes as groups, in an order in which they can be computed: elementwise ones, or products."""
    left = dict.fromkeys(nodes)
    groups: list[list[Node]] = []
    while left:
        # What each node still waits for: products, through elementwise operations.
        blocked: set[Node] = set()
        for node in left:
            if any(g in blocked or (g in left and g.operation == "dot") for g in node.given):
                blocked.add(node)
        dots = [node for node in left if node.operation == "dot" and node not in blocked]
        needed = below(dots, lambda n: n not in left) if dots else left
        elementwise = [node for node in needed if node in left and node.operation != "dot"]
        groups += [group for group in (elementwise, dots) if group]
        for node in (*elementwise, *dots):
            del left[node]
    return groups

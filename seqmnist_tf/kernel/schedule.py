"""Passes over the expressions of a step: fewer operations, what the forward pass keeps, and the order of instructions.

A pass is a function from nodes to nodes, or to an answer about them. Examples are written ``a + b``, ``x @ W``.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from .expressions import ACROSS, Expressions, GradientTerm, Node, Pieces, is_zero


@dataclass(frozen=True)
class Results:
    """What a step computes, as expressions.

    Attributes:
        inputs: widths of the input and of what is drawn at each step.
        units, widths, drawn: widths of the output, the states and the dropout masks.
        output_state: which of the new states the output is, or None.
        parameter_gradients: for each parameter that has a gradient, the terms of its sum.
    """

    inputs: tuple[int, ...]
    units: int
    widths: tuple[int, ...]
    drawn: tuple[int, ...]
    output_state: int | None
    states: list[Pieces]
    output: Pieces
    state_gradients: list[Pieces]
    feature_gradients: Pieces
    parameter_gradients: dict[int, list[GradientTerm]]

    @property
    def carried(self) -> Pieces:
        """The gradients of all states, which the backward pass carries to the step before."""
        return list(itertools.chain(*self.state_gradients))

    @property
    def factors(self) -> list[Node]:
        """The operands of the parameters' gradients."""
        terms = itertools.chain(*self.parameter_gradients.values())
        return [node for term in terms for node in (term.left, term.right) if node is not None]


def needed_for(roots: Iterable[Node], stop: Callable[[Node], bool] = lambda node: False) -> list[Node]:
    """Return nodes and all that they are computed from, operands first; ``stop`` says whose operands are left out.

    Example: of ``tanh(x + h)``: ``x``, ``h``, ``x + h``, ``tanh(x + h)``.
    """
    found: set[Node] = set()
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            if not stop(node):
                waiting.extend(node.given)
    return sorted(found, key=lambda node: node.order)


def backward_only(nodes: list[Node]) -> set[Node]:
    """Return those of the nodes, given operands first, that depend on the gradients that come from the next step.

    Example: of ``x``, ``dh``, ``x * x`` and ``x * dh``, where ``dh`` is such a gradient: ``dh`` and ``x * dh``.
    """
    found: set[Node] = set()
    for node in nodes:
        if node.operation == "upstream" or found.intersection(node.given):
            found.add(node)
    return found


# ---- linearity ----

SUMS = ("dot", "add", "sub", "copy", "row_sum")  # linear in all operands together, as a + b
# Linear in the operands at these positions together, if the others do not change: a / b in a.
LINEAR_OPERANDS = {"div": (0,), "gather": (0, 1), "select": (1, 2), "tanh_grad": (1,), "sigmoid_grad": (1,)}


def is_linear(results: Results) -> bool:
    """Return whether the gradients before a step are linear in those after it; False where that is not sure.

    Only then may the gradients of rows that share a state be added up first. Example: ``dh * u`` is linear, a gradient
    that is clipped, ``min(dh, 1)``, is not.
    """
    nodes = needed_for([*results.carried, *results.factors])
    backward = backward_only(nodes)
    steps_are = all(_is_linear_in(node, backward) for node in backward if node.given)
    ends_are = all(node in backward or is_zero(node) for node in results.carried)
    terms = itertools.chain(*results.parameter_gradients.values())
    return steps_are and ends_are and all((term.left in backward) != (term.right in backward) for term in terms)


def _is_linear_in(node: Node, changing: set[Node]) -> bool:
    """Return whether a node is linear in those of its operands that are ``changing``.

    A product has one such factor. Of other operations, each operand at a linear position changes or is zero (a constant
    term would make ``a dh + b`` of it), and no operand elsewhere changes.
    """
    if node.operation == "mul":
        return sum(operand in changing for operand in node.given) == 1
    linear = range(len(node.given)) if node.operation in SUMS else LINEAR_OPERANDS.get(node.operation, ())
    for position, operand in enumerate(node.given):
        if position in linear:
            if operand not in changing and not is_zero(operand):
                return False
        elif operand in changing:
            return False
    return True


# ---- fewer operations ----


def simplified(make: Expressions, results: Results) -> Results:
    """Return the same results with fewer operations.

    Sums of matrix products become one product, and products that are added become fused multiply-adds. Example:
    ``(x @ W + h @ U) + b`` is one ``dot``, and ``(1 - z) * n + z * h`` is a ``mul`` and an ``fma``.
    """
    roots = [*itertools.chain(*results.states), *results.output, *results.feature_gradients]
    roots += [*results.carried, *results.factors]
    uses = Counter(roots)
    for node in needed_for(roots):
        uses.update(node.given)
    rewrite = Simplifier(make, uses).rewrite

    def each(pieces: Pieces) -> Pieces:
        return [rewrite(piece) for piece in pieces]

    def term(old: GradientTerm) -> GradientTerm:
        left = None if old.left is None else rewrite(old.left)
        return old._replace(left=left, right=rewrite(old.right))

    return replace(
        results,
        states=[each(pieces) for pieces in results.states],
        output=each(results.output),
        state_gradients=[each(pieces) for pieces in results.state_gradients],
        feature_gradients=each(results.feature_gradients),
        parameter_gradients={key: [term(old) for old in terms] for key, terms in results.parameter_gradients.items()},
    )


class Simplifier:
    """Rewrites nodes for :func:`simplified`; ``uses`` counts who reads a node: only what one reads can be merged."""

    def __init__(self, make: Expressions, uses: Counter[Node]) -> None:
        self.make, self.uses = make, uses
        self._rewritten: dict[Node, Node] = {}

    def rewrite(self, node: Node) -> Node:
        """Return a node of the same value, by the rule for its operation; each node is rewritten once."""
        if node not in self._rewritten:
            self._rewritten[node] = self._apply_rule(node)
        return self._rewritten[node]

    def _apply_rule(self, node: Node) -> Node:
        if not node.given:
            return node
        if node.operation == "add":
            return self._sum(node)
        if node.operation == "sub" and self._can_be_fused(node.given[1]):
            return self._difference(node)
        if node.operation == "copy" and node.given[0].width == 1 < node.width and not node.given[0].fixed:
            return self._widened(node.given[0], node.width)
        if node.operation in ("dot", "gather", *ACROSS):  # their operands have widths of their own
            operands = [self.rewrite(operand) for operand in node.given]
        else:
            operands = [self._widened(operand, node.width) for operand in node.given]
        return self.make.node(node.operation, operands, node.width, node.detail)

    def _widened(self, node: Node, width: int) -> Node:
        """Return a node rewritten, and one column repeated to a width: the machine reads operands of equal widths."""
        node = self.rewrite(node)
        return node if node.fixed or node.width == width else self.make.node("spread", (node,), width)

    def _can_be_fused(self, node: Node) -> bool:
        return node.operation == "mul" and self.uses[node] == 1

    def _difference(self, node: Node) -> Node:
        """``c - a * b`` as ``fnma(a, b, c)``."""
        factors = [self._widened(factor, node.width) for factor in node.given[1].given]
        return self.make.node("fnma", (*factors, self._widened(node.given[0], node.width)), node.width)

    def _sum(self, node: Node) -> Node:
        """``a @ A + b @ B + c + d * e`` as ``fma(d, e, dot(a, A, b, B) + c)``: what can be fused comes last."""
        addends = self._flat(node, node.width)
        dots = [a for a in addends if a.operation == "dot" and self.uses[a] == 1 and a.width == node.width]
        others = [a for a in addends if a not in dots]
        others.sort(key=lambda a: (self._can_be_fused(a), a.order))
        total = self._joined_dot(dots, others) if dots else self._widened(others.pop(0), node.width)
        for addend in others:
            if self._can_be_fused(addend):
                factors = [self._widened(factor, node.width) for factor in addend.given]
                total = self.make.node("fma", (*factors, total), node.width)
            else:
                total = self.make.node("add", (total, self._widened(addend, node.width)), node.width)
        return total

    def _joined_dot(self, dots: list[Node], others: list[Node]) -> Node:
        """Return matrix products as one ``dot``; its bias is the first fixed node of ``others``, which loses it.

        Example: ``x @ W``, ``h @ U`` and ``[b, c]`` give ``dot(x, W, h, U, b)`` and leave ``[c]``. Wide operands come
        first: long sums are rounded while they are small.
        """
        pairs: list[tuple[Node, Any]] = []
        for dot in dots:
            operands = [self.rewrite(operand) for operand in dot.given]
            pairs += zip(operands, dot.detail, strict=True)
        pairs.sort(key=lambda pair: -pair[0].width)
        given = [operand for operand, _ in pairs]
        fixed = [position for position, addend in enumerate(others) if addend.fixed]
        if fixed:
            given.append(others.pop(fixed[0]))
        return self.make.node("dot", given, dots[0].width, tuple(matrix for _, matrix in pairs))

    def _flat(self, node: Node, width: int) -> list[Node]:
        """Return the terms of nested sums. Example: ``a + (b + c)``, where nothing else reads ``b + c``: a, b, c."""
        if node.operation != "add" or node.width != width:
            return [node]
        terms = []
        for operand in node.given:
            terms += self._flat(operand, width) if self.uses[operand] == 1 else [operand]
        return terms


# ---- what is kept, and in what order ----


def kept_for_backward(results: Results) -> list[Node]:
    """Return what the forward pass keeps for the backward pass.

    That is what the backward pass reads and cannot compute again elementwise from x, the masks, parameters and what is
    kept already. It computes no matrix product again. Example: for ``h = tanh(z)``, whose gradient reads ``h``, it
    keeps ``h``; for ``z * sigmoid(z)`` it keeps ``z`` alone.
    """
    roots = [*results.carried, *results.feature_gradients, *results.factors]
    nodes = needed_for(roots)
    backward = backward_only(nodes)
    read = {*roots, *(operand for node in backward for operand in node.given)}
    kept: list[Node] = []
    known: set[Node] = set()  # what is kept, and what is computed from it again
    for node in nodes:
        computed_again = node.given and node.operation != "dot" and known.issuperset(node.given)
        if node.fixed or node.operation in ("x", "drawn") or computed_again:
            known.add(node)
        elif node in read and node not in backward:
            kept.append(node)
            known.add(node)
    return kept


def groups_of(nodes: list[Node]) -> list[list[Node]]:
    """Return nodes in groups that are computed one after another: elementwise operations, or matrix products.

    A group has all products that can be computed by then, behind the elementwise operations that they need. Example:
    of ``tanh(fma(c, h, x @ W))``: the product, then the ``fma`` and the ``tanh``.
    """
    left = dict.fromkeys(nodes)
    groups: list[list[Node]] = []
    while left:
        dots = _products_that_can_run(left)
        needed = needed_for(dots, lambda node: node not in left) if dots else left
        elementwise = [node for node in needed if node in left and node.operation != "dot"]
        groups += [group for group in (elementwise, dots) if group]
        for node in (*elementwise, *dots):
            del left[node]
    return groups


def _products_that_can_run(left: Iterable[Node]) -> list[Node]:
    """Return the matrix products that wait for no other product, not even through elementwise operations."""
    found: list[Node] = []
    unfinished: set[Node] = set()  # products, and what waits for them
    for node in left:
        if unfinished.isdisjoint(node.given):
            if node.operation != "dot":
                continue
            found.append(node)
        unfinished.add(node)
    return found

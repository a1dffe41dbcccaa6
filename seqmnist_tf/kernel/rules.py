"""TensorFlow's operations that are several of the machine's: a rule for each, and how an einsum is read."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from .expressions import Expressions, Pieces

SELU_SCALE, SELU_SCALE_ALPHA = 1.0507009873554805, 1.7580993408473768

Rule = Callable[..., Pieces]


def _power(make: Expressions, _: tf.Operation, x: Pieces, exponent: Pieces) -> Pieces:
    node = exponent[0]
    if len(exponent) == 1 and node.operation == "constant" and len(node.detail) == 1:
        value = node.detail[0]
        if value in (0, 1, 2, 3):
            result = make.number(1)
            for _unused in range(int(value)):
                result = make.apply("mul", result, x)
            return result
        if value == 0.5:
            return make.apply("sqrt", x)
        if value == -1:
            return make.apply("div", make.number(1), x)
    return make.apply("pow", x, exponent)


def _not(make: Expressions, x: Pieces) -> Pieces:
    return make.apply("sub", make.number(1), x)


def _positive(make: Expressions, x: Pieces) -> Pieces:
    return make.apply("gt", x, make.number(0))


def _all(make: Expressions, operation: str, *operands: Pieces) -> Pieces:
    """Return operands added, or multiplied, from the first one on."""
    return functools.reduce(lambda result, operand: make.apply(operation, result, operand), operands)


def _sign(make: Expressions, _: tf.Operation, x: Pieces) -> Pieces:
    sign = make.apply("sub", _positive(make, x), make.apply("gt", make.number(0), x))
    return make.apply("select", make.apply("eq", x, x), sign, x)


def _selu(make: Expressions, _: tf.Operation, x: Pieces) -> Pieces:
    low = make.apply("mul", make.apply("expm1", x), make.number(SELU_SCALE_ALPHA))
    return make.apply("select", make.apply("gt", make.number(0), x), low, make.apply("mul", x, make.number(SELU_SCALE)))


def _elu_grad(make: Expressions, _: tf.Operation, d: Pieces, y: Pieces, alpha: float = 1, scale: float = 1) -> Pieces:
    low = make.apply("mul", d, make.apply("add", y, make.number(alpha)))
    return make.apply("select", make.apply("gt", make.number(0), y), low, make.apply("mul", d, make.number(scale)))


def _leaky(make: Expressions, operation: tf.Operation, d: Pieces, x: Pieces) -> Pieces:
    alpha = operation.get_attr("alpha")
    return make.apply("select", _positive(make, x), d, make.apply("mul", d, make.number(alpha)))


def _softsign_base(make: Expressions, x: Pieces) -> Pieces:
    return make.apply("add", make.apply("abs", x), make.number(1))


def _cast(make: Expressions, operation: tf.Operation, x: Pieces) -> Pieces:
    if operation.inputs[0].dtype == tf.float32 and operation.outputs[0].dtype == tf.bool:
        return _not(make, make.apply("eq", x, make.number(0)))
    return x


def _divide_no_nan(make: Expressions, _: tf.Operation, a: Pieces, b: Pieces) -> Pieces:
    return make.apply("select", make.apply("eq", b, make.number(0)), make.number(0), make.apply("div", a, b))


def _relu6_grad(make: Expressions, _: tf.Operation, d: Pieces, x: Pieces) -> Pieces:
    inside = make.apply("mul", _positive(make, x), make.apply("gt", make.number(6), x))
    return make.apply("select", inside, d, make.number(0))


def _softsign_grad(make: Expressions, _: tf.Operation, d: Pieces, x: Pieces) -> Pieces:
    base = _softsign_base(make, x)
    return make.apply("div", d, make.apply("mul", base, base))


RULES: dict[str, Rule] = {
    "AddN": lambda make, _, *operands: _all(make, "add", *operands),
    "Cast": _cast,
    "Pow": _power,
    "Sign": _sign,
    "Selu": _selu,
    "EluGrad": _elu_grad,
    "SeluGrad": functools.partial(_elu_grad, alpha=SELU_SCALE_ALPHA, scale=SELU_SCALE),
    "Relu6Grad": _relu6_grad,
    "SoftsignGrad": _softsign_grad,
    "DivNoNan": _divide_no_nan,
    "SquaredDifference": lambda make, _, a, b: _all(make, "mul", *[make.apply("sub", a, b)] * 2),
    "LeakyRelu": lambda make, operation, x: _leaky(make, operation, x, x),
    "LeakyReluGrad": _leaky,
    "Neg": lambda make, _, x: make.apply("mul", x, make.number(-1)),
    "Square": lambda make, _, x: make.apply("mul", x, x),
    "Rsqrt": lambda make, _, x: make.apply("div", make.number(1), make.apply("sqrt", x)),
    "Reciprocal": lambda make, _, x: make.apply("div", make.number(1), x),
    "Relu": lambda make, _, x: make.apply("max", x, make.number(0)),
    "Relu6": lambda make, _, x: make.apply("min", make.apply("max", x, make.number(0)), make.number(6)),
    "Elu": lambda make, _, x: make.apply("select", _positive(make, x), x, make.apply("expm1", x)),
    "Softsign": lambda make, _, x: make.apply("div", x, _softsign_base(make, x)),
    "Ceil": lambda make, _, x: _all(
        make, "mul", make.apply("floor", _all(make, "mul", x, make.number(-1))), make.number(-1)
    ),
    "Less": lambda make, _, a, b: make.apply("gt", b, a),
    "LessEqual": lambda make, _, a, b: make.apply("ge", b, a),
    "NotEqual": lambda make, _, a, b: _not(make, make.apply("eq", a, b)),
    "IsNan": lambda make, _, x: _not(make, make.apply("eq", x, x)),
    "IsInf": lambda make, _, x: make.apply("eq", make.apply("abs", x), make.number(math.inf)),
    "IsFinite": lambda make, _, x: make.apply("gt", make.number(math.inf), make.apply("abs", x)),
    "LogicalNot": lambda make, _, x: _not(make, x),
    "ZerosLike": lambda make, _, x: make.number(0),
    "OnesLike": lambda make, _, x: make.number(1),
    "ReluGrad": lambda make, _, d, y: make.apply("select", _positive(make, y), d, make.number(0)),
    "SoftplusGrad": lambda make, _, d, x: make.apply("mul", d, make.apply("sigmoid", x)),
    "SqrtGrad": lambda make, _, y, d: make.apply("div", make.apply("mul", d, make.number(0.5)), y),
    "RsqrtGrad": lambda make, _, y, d: _all(make, "mul", d, make.number(-0.5), _all(make, "mul", y, y, y)),
    "ReciprocalGrad": lambda make, _, y, d: _all(make, "mul", d, make.number(-1), y, y),
}


@dataclass(frozen=True)
class Einsum:
    """An einsum of two operands; the axis of the rows is left out.

    Example: ``nhi,hij->nhj``, with rows n, multiplies i numbers of a row by the matrix of each head h. It has the head
    h, the summed axis i and the right operand's own axis j. Its matrices' gradient, ``nhi,nhj->hij``, has the head h
    and an axis of each operand's own, i and j.

    Attributes:
        first: the number of the left operand, the rows. In a gradient, where both are rows, the one whose own axes come
            first in the result.
        left, right, result: the axes of operands and result, a letter each.
        heads: axes of both operands and of the result.
        summed: axes of both operands alone.
        of_left, of_right: axes of one operand and of the result.
        sizes: the length of each axis.
    """

    first: int
    left: str
    right: str
    result: str
    heads: str
    summed: str
    of_left: str
    of_right: str
    sizes: dict[str, int]

    @classmethod
    def read(cls, operation: tf.Operation, is_gradient: bool, first: int) -> Einsum:
        """Return the einsum of an operation; ``first`` is the operand that has rows where the other is a weight.

        ValueError if it is no product of rows with a matrix for each head, and no gradient of these matrices.
        """
        equation = operation.get_attr("equation").decode()
        inputs, result = equation.split("->")
        axes = inputs.split(",")
        if len(axes) != 2 or any(len(set(part)) < len(part) or "." in part for part in (*axes, result)):
            raise ValueError(equation)
        sizes: dict[str, int] = {}
        for part, tensor in zip(axes, operation.inputs, strict=True):
            sizes.update(zip(part, map(int, tensor.shape), strict=True))
        if is_gradient:
            first = 1 if result[-1] in axes[0] else 0
            left, right = axes[first], axes[1 - first]
            rows_fit = left[0] == right[0]
            right = right[1:]
        else:
            left, right = axes[first], axes[1 - first]
            rows_fit = left[0] == result[0] and left[0] not in right
            result = result[1:]
        left = left[1:]
        einsum = cls(
            first,
            left,
            right,
            result,
            heads="".join(axis for axis in right if axis in left and axis in result),
            summed="".join(axis for axis in right if axis in left and axis not in result),
            of_left="".join(axis for axis in left if axis not in right),
            of_right="".join(axis for axis in right if axis not in left),
            sizes=sizes,
        )
        if not (rows_fit and (einsum._is_gradient() if is_gradient else einsum._is_product())):
            raise ValueError(equation)
        return einsum

    @property
    def made(self) -> str:
        """The axes of the result in the order in which they are computed."""
        return self.heads + self.of_left + self.of_right

    @property
    def transposed(self) -> bool:
        """Whether the matrix of a head has its rows as its last axis."""
        return len(self.of_right) != 1 or self.right != self.heads + self.summed + self.of_right

    def _is_gradient(self) -> bool:
        return self.result == self.made and len(self.of_right) == 1

    def _is_product(self) -> bool:
        """Return whether the right operand is a matrix for each head; the result may have its axes in any order."""
        as_transposed = len(self.summed) == 1 and self.right == self.heads + self.of_right + self.summed
        return (as_transposed or not self.transposed) and set(self.made) == set(self.result)

    def size(self, axes: str) -> int:
        return math.prod(self.sizes[axis] for axis in axes)

    def columns(self, axes: str, groups: Sequence[str]) -> np.ndarray:
        """Return the numbers of a row's columns, whose axes are ``axes``, with one axis for each group of axes.

        Example: ``columns("ij", ["j", "i"])`` with 2 i and 3 j is ``[[0, 3], [1, 4], [2, 5]]``.
        """
        numbers = np.arange(self.size(axes)).reshape([self.sizes[axis] for axis in axes])
        order = [axes.index(axis) for group in groups for axis in group]
        return numbers.transpose(order).reshape([self.size(group) for group in groups])

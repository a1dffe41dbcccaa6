"""TensorFlow's operations that are several of the machine's."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

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

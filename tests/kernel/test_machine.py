"""The machine for cells against stock Keras: operations one by one, generated cells, and what is refused."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st
from keras import ops

from examples.cornn import CoRNNCell
from examples.lem import LEMCell
from examples.mgu import MGUCell
from examples.min_gru import MinGRUCell
from examples.min_lstm import MinLSTMCell
from examples.ur_lstm import URLSTMCell
from seqmnist_tf.kernel import native
from seqmnist_tf.kernel.expressions import Expressions
from seqmnist_tf.kernel.machine import StepProgram, rnn_outputs
from seqmnist_tf.kernel.operations import DIRECT
from seqmnist_tf.kernel.rules import RULES
from seqmnist_tf.kernel.tracing import trace
from seqmnist_tf.kernel.translation import (
    STRICT,
    Untranslatable,
    by_the_graph,
    by_the_machine,
    program_of,
    relative_errors,
    translate,
)
from tests.kernel.test_native import isas, relative_error, results

pytestmark = pytest.mark.skipif(not isas(), reason="the native kernel was not compiled, or not for this processor")

Function = Callable[[Any, "FunctionCell"], Any]


class FunctionCell(keras.layers.Layer):
    """A cell whose next state is a function of z = x W + h U + b; ``vector`` and ``scalar`` are further weights."""

    def __init__(self, function: Function, units: int = 21) -> None:
        super().__init__()
        self.function = function
        self.units = self.state_size = self.output_size = units

    def build(self, input_shape: Any) -> None:
        u = self.units
        self.kernel = self.add_weight(shape=(input_shape[-1], u), initializer="glorot_uniform", name="kernel")
        self.recurrent = self.add_weight(shape=(u, u), initializer="orthogonal", name="recurrent")
        self.bias = self.add_weight(shape=(u,), initializer="uniform", name="bias")
        self.vector = self.add_weight(shape=(u,), initializer="ones", name="vector")
        self.scalar = self.add_weight(shape=(), initializer="ones", name="scalar")
        self.norm = keras.layers.LayerNormalization()
        self.norm.build((None, u))

    def call(self, inputs: Any, states: Any) -> Any:
        z = ops.matmul(inputs, self.kernel) + ops.matmul(states[0], self.recurrent) + self.bias
        h = self.function(z, self)
        return h, [h]


@tf.custom_gradient
def with_clipped_gradient(z: Any) -> Any:
    return z, lambda gradient: tf.clip_by_value(gradient, -0.1, 0.1)


def many_substeps(z: Any, cell: FunctionCell) -> Any:
    for _ in range(30):
        z = z - 0.03 * ops.tanh(z)
    return ops.concatenate([z[:, 7:], z[:, :7]], axis=-1)


def products_of_heads(equation: str, z: Any, cell: FunctionCell) -> Any:
    weights = ops.reshape(cell.recurrent[:7], (3, 7, 7))
    return ops.reshape(ops.einsum(equation, ops.reshape(z, (-1, 3, 7)), weights), (-1, 21))


OPERATIONS: dict[str, Function] = {
    "clipped_gradients": lambda z, c: with_clipped_gradient(1.2 * z),  # also of rows that share their first steps
    "many substeps": many_substeps,
    "product of one column": lambda z, c: ops.tanh(z + ops.matmul(z, 0.1 * c.vector[:, None])),
    "log1p of large numbers": lambda z, c: ops.tanh(z) * ops.stop_gradient(ops.log1p(2e37 + 1e37 * ops.tanh(z)) / 90),
    "weights by a width": lambda z, c: ops.tanh(z * (c.vector / tf.sqrt(tf.cast(tf.shape(z)[-1], tf.float32)))),
    "weights by ones": lambda z, c: ops.tanh(z * (c.vector * ops.ones_like(z)[0])),
    "a bias of one head": lambda z, c: ops.tanh(ops.add(z[:, None], c.vector)[:, 0]),
    "a weight twice": lambda z, c: ops.tanh(z + c.vector + c.vector),
    "exp": lambda z, c: ops.tanh(ops.exp(z)),
    "expm1": lambda z, c: ops.tanh(ops.expm1(z)),
    "log": lambda z, c: ops.log(1 + z**2),
    "log1p": lambda z, c: ops.tanh(ops.log1p(z * z)),
    "sin": lambda z, c: ops.sin(z),
    "cos": lambda z, c: ops.cos(z),
    "arctan": lambda z, c: ops.arctan(z),
    "erf": lambda z, c: ops.erf(z),
    "sqrt": lambda z, c: ops.sqrt(ops.square(z) + 1) - 1,
    "rsqrt": lambda z, c: ops.tanh(z) * ops.rsqrt(z * z + 1),
    "power": lambda z, c: ops.power(ops.sigmoid(z), 1.7),
    "cube": lambda z, c: ops.tanh(z**3),
    "abs": lambda z, c: ops.tanh(ops.abs(z)),
    "sign": lambda z, c: ops.tanh(z) * ops.sign(z),
    "floor": lambda z, c: ops.tanh(z) * 0.5 + 0.1 * ops.floor(z),
    "softplus": lambda z, c: ops.tanh(ops.softplus(z) * c.scalar),
    "relu": lambda z, c: 0.5 * ops.relu(z),
    "relu6": lambda z, c: 0.05 * ops.relu6(20 * z),
    "leaky_relu": lambda z, c: ops.tanh(ops.leaky_relu(z)),
    "elu": lambda z, c: ops.tanh(ops.elu(z)),
    "selu": lambda z, c: ops.tanh(ops.selu(z)),
    "gelu": lambda z, c: ops.tanh(ops.gelu(z)),
    "silu": lambda z, c: ops.tanh(ops.silu(z)),
    "softsign": lambda z, c: ops.softsign(z),
    "hard_sigmoid": lambda z, c: ops.hard_sigmoid(z),
    "maximum": lambda z, c: ops.tanh(ops.maximum(z, c.vector * 0.1)),
    "clip": lambda z, c: ops.clip(z, -0.5, 0.5),
    "where": lambda z, c: ops.where(ops.logical_and(z > 0, z < 0.5), ops.tanh(z), z * 0.3),
    "cast": lambda z, c: ops.cast(z > 0, "float32") * ops.tanh(z),
    "vector": lambda z, c: ops.tanh(z * c.vector) / (1 + c.vector**2),
    "softmax": lambda z, c: 4 * ops.softmax(z),
    "log_softmax": lambda z, c: ops.tanh(ops.log_softmax(z)),
    "mean": lambda z, c: ops.tanh(z - ops.mean(z, axis=-1, keepdims=True)),
    "variance": lambda z, c: ops.tanh(z / ops.sqrt(ops.var(z, axis=-1, keepdims=True) + 1e-3)),
    "max": lambda z, c: ops.tanh(z - ops.max(z, axis=-1, keepdims=True)),
    "norm": lambda z, c: ops.normalize(z),
    "layer_normalization": lambda z, c: ops.tanh(c.norm(z)),
    "column": lambda z, c: ops.tanh(z * z[:, 3:4]),
    "flip": lambda z, c: ops.tanh(ops.flip(z, axis=-1)),
    "roll": lambda z, c: ops.tanh(ops.roll(z, 1, axis=-1)),
    "slices": lambda z, c: ops.tanh(ops.concatenate([z[:, 5:], 2 * z[:, :5]], axis=-1)),
    "pad": lambda z, c: ops.tanh(ops.pad(z[:, :10], ((0, 0), (0, 11))) + z),
    "reshape": lambda z, c: ops.tanh(
        ops.reshape(ops.reshape(z, (-1, 7, 3)) * ops.reshape(c.vector, (1, 7, 3)), (-1, 21))
    ),
    "stack": lambda z, c: ops.tanh(ops.reshape(ops.stack([z[:, :7], z[:, 7:14], z[:, 14:]], axis=1), (-1, 21))),
    "stack of columns": lambda z, c: ops.tanh(ops.reshape(ops.stack([z, 2 * z], axis=-1), (-1, 42))[:, 4:25]),
    "tile": lambda z, c: ops.tanh(0.3 * ops.tile(z, [1, 2])[:, 5:26] + z),
    "repeat": lambda z, c: ops.tanh(ops.repeat(z, 2, axis=-1)[:, 3:24]),
    "heads' mean": lambda z, c: ops.tanh(z - ops.tile(ops.mean(ops.reshape(z, (-1, 3, 7)), axis=1), [1, 3])),
    "heads' products": lambda z, c: ops.tanh(z + products_of_heads("nhd,hde->nhe", z, c)),
    "heads' products, transposed": lambda z, c: ops.tanh(z + products_of_heads("nhd,hed->neh", z, c)),
    "isnan": lambda z, c: ops.where(ops.isnan(z), 0.0, ops.tanh(z)),
    "isfinite": lambda z, c: ops.where(ops.isfinite(1 / z), ops.tanh(z), 0.0),
    "isinf": lambda z, c: ops.where(ops.isinf(z), 0.0, ops.tanh(z)),
    "logaddexp": lambda z, c: ops.tanh(ops.logaddexp(z, 2 * z * c.vector)),
    "logsumexp": lambda z, c: ops.tanh(z - ops.logsumexp(z, axis=-1, keepdims=True)),
    "nan_to_num": lambda z, c: ops.tanh(ops.nan_to_num(z)),
    "tail of the exact gelu": lambda z, c: ops.tanh(1e4 * ops.gelu(z - 5, approximate=False)),
    "gates saturated by their bias": lambda z, c: ops.tanh(z * ops.sigmoid(z + 10) + ops.tanh(z - 9)),
    "exponential of a matrix of weights": lambda z, c: ops.tanh(ops.matmul(z, tf.linalg.expm(0.1 * c.recurrent))),
    "two_products": lambda z, c: ops.tanh(z + ops.matmul(ops.tanh(z), c.recurrent)),
    "transposed": lambda z, c: ops.tanh(ops.matmul(z, ops.transpose(c.recurrent))),
}


def sequences(n: int, steps: int, features: int, seed: int = 0) -> tf.Tensor:
    x = np.random.RandomState(seed).standard_normal((n, steps, features)).astype(np.float32)
    x[:, : steps // 4] = x[0, 0]  # all rows begin with the same steps
    return tf.constant(x)


class Beside(keras.layers.Layer):
    """Cells beside each other, which are translated, and compiled by stock Keras, as one."""

    def __init__(self, cells: list[FunctionCell]) -> None:
        super().__init__()
        self.cells, self.state_size = cells, [cell.units for cell in cells]
        self.output_size = sum(self.state_size)

    def build(self, input_shape: Any) -> None:
        for cell in self.cells:
            cell.build(input_shape)

    def call(self, inputs: Any, states: Any) -> Any:
        new = [cell.call(inputs, [state])[0] for cell, state in zip(self.cells, states, strict=True)]
        return ops.concatenate(new, axis=-1), new


NAMES = list(OPERATIONS)
GROUPS = [NAMES[:1], *(NAMES[i : i + 7] for i in range(1, len(NAMES), 7))]  # the first one is not linear


def outputs_of(*args: Any, **options: Any) -> tf.Tensor:
    """Return the outputs of a cell by its program."""
    return rnn_outputs(*args, **options)[0]


@pytest.mark.parametrize("names", GROUPS, ids=lambda names: names[0])
def test_operations_are_those_of_stock_keras_on_any_number_of_threads(names: list[str]) -> None:
    keras.utils.set_random_seed(0)  # rounding moves no number across a step with this seed
    cell, x = Beside([FunctionCell(OPERATIONS[name]) for name in names]), sequences(33, 12, 2)
    cell.build((None, 2))
    tolerance = 2.0 ** (-13 if native.instruction_set() == "amx" else -15)  # 1.2e-5 was seen; AMX has bfloat16 parts
    program = translate(cell, 2)
    stock, weights = keras.layers.RNN(cell, return_sequences=True), cell.trainable_variables
    whole = results(functools.partial(stock, training=True), weights, x, True)
    options: Any = {"all_steps": True, "training": True}
    for wrt_x, expected in ((False, whole[:-1]), (True, whole)):
        once, again = (
            results(functools.partial(outputs_of, program, cell, threads=n, **options), weights, x, wrt_x)
            for n in (2, 7)
        )
        for number, (a, b, c) in enumerate(zip(once, expected, again, strict=True)):
            assert a.shape == b.shape
            which = weights[number - 1].path if 0 < number <= len(weights) else number
            assert np.abs(a - b).max() <= tolerance * np.abs(b).max() + 1e-7, (which, names)
            np.testing.assert_array_equal(a, c)


def test_rows_share_their_first_steps_but_for_gradients_that_are_not_linear() -> None:
    clipped = FunctionCell(OPERATIONS["clipped_gradients"])
    for cell, shared in ((keras.layers.GRUCell(4), 1), (keras.layers.SimpleRNNCell(4), 1), (clipped, 0)):
        cell.build((None, 2))
        assert translate(cell, 2).numbers[10] == shared


@pytest.mark.parametrize("wrong_by", ["another operation", "one part in a thousand"])
def test_a_wrong_rule_of_the_translation_is_noticed(wrong_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = FunctionCell(lambda z, _: ops.tanh(z - 1.0))
    cell.build((None, 2))
    assert translate(cell, 2)
    if wrong_by == "another operation":
        monkeypatch.setitem(DIRECT, "Sub", "add")
    else:
        right = Expressions.wide_constant
        monkeypatch.setattr(Expressions, "wide_constant", lambda self, values, n: right(self, values * 1.001, n))
    with pytest.raises(Untranslatable, match="the machine's numbers are not the graph's: they are off by"):
        translate(cell, 2)


def test_a_bug_of_the_translation_is_no_reason_for_stock_keras_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*given: Any) -> Any:
        raise KeyError("missing")

    cell = FunctionCell(lambda z, _: ops.tanh(z))
    cell.build((None, 2))
    monkeypatch.delitem(DIRECT, "Tanh")
    monkeypatch.setitem(RULES, "Tanh", bug)
    with pytest.raises(KeyError):
        translate(cell, 2)
    monkeypatch.delenv(STRICT)  # as users have it
    with pytest.raises(Untranslatable, match="cannot be translated: KeyError"):
        translate(cell, 2)


# ---- generated cells ----

UNARY: list[Callable[[Any], Any]] = [
    *(ops.tanh, ops.sigmoid, ops.softplus, ops.sin, ops.softsign, ops.silu, ops.square, ops.abs),
    *(lambda z: 0.5 * z, lambda z: 1 - z, lambda z: ops.exp(-ops.square(z)), lambda z: ops.sqrt(1 + z * z)),
    *(lambda z: z[:, ::-1], lambda z: z - ops.mean(z, axis=-1, keepdims=True), lambda z: ops.roll(z, 2, axis=-1)),
    *(lambda z: ops.gelu(z, approximate=False), lambda z: z - ops.logsumexp(z, axis=-1, keepdims=True)),
    *(lambda z: ops.tile(z[:, :3], [1, z.shape[1] // 3]), lambda z: ops.repeat(z[:, ::3], 3, axis=-1)),
    *(ops.nan_to_num, ops.softmax, ops.log_sigmoid, lambda z: ops.clip(z, -0.7, 0.4)),
]
BINARY: list[Callable[[Any, Any], Any]] = [
    *(ops.add, ops.subtract, ops.multiply, ops.maximum),
    lambda a, b: a / (1 + ops.square(b)),
    lambda a, b: ops.concatenate([a[:, :5], b[:, 5:]], axis=-1),
    lambda a, b: ops.sigmoid(a) * b + (1 - ops.sigmoid(a)) * a,
    *(ops.logaddexp, lambda a, b: ops.where(a > b, ops.tanh(a), 0.5 * b)),
    lambda a, b: ops.reshape(ops.stack([a, b], axis=-1), (-1, 2 * a.shape[1]))[:, 1 : 1 + a.shape[1]],
]


class GeneratedCell(keras.layers.Layer):
    """A cell of random operations on its input, states and products of them."""

    def __init__(self, choices: list[int], units: int, states: int) -> None:
        super().__init__()
        self.choices, self.units, self.output_size = choices, units, units
        self.state_size = [units] * states

    def build(self, input_shape: Any) -> None:
        u = self.units
        self.kernel = self.add_weight(shape=(input_shape[-1], 2 * u), initializer="glorot_uniform", name="kernel")
        self.matrix = self.add_weight(shape=(u, 2 * u), initializer="glorot_uniform", name="matrix")
        self.heads = self.add_weight(shape=(3, u // 3, u // 3), initializer="glorot_uniform", name="heads")
        self.bias = self.add_weight(shape=(2 * u,), initializer="uniform", name="bias")

    def call(self, inputs: Any, states: Any) -> Any:
        u, choices = self.units, iter(self.choices)
        first = ops.matmul(inputs, self.kernel) + self.bias
        pool = [first[:, :u], first[:, u:], *states, self.bias[:u] + ops.zeros_like(states[0])]
        for kind in choices:
            a, b = pool[next(choices, 0) % len(pool)], pool[next(choices, 1) % len(pool)]
            if kind % 5 == 0:
                product = ops.matmul(ops.tanh(a), self.matrix)
                pool += [product[:, :u], product[:, u:]]
            elif kind % 5 == 1 and kind % 2:
                z = ops.reshape(a, (-1, 3, u // 3))
                pool.append(ops.reshape(ops.einsum("nhd,hde->nhe", z, self.heads), (-1, u)))
            elif kind % 5 < 3:
                pool.append(UNARY[(kind // 5) % len(UNARY)](a))
            else:
                pool.append(BINARY[(kind // 5) % len(BINARY)](a, b))
        new = [ops.tanh(pool[-1 - i % len(pool)] + pool[i]) for i in range(len(states))]
        return (new[0] if self.choices[0] % 2 else ops.tanh(pool[-1])), new


def errors_of(
    cell: keras.layers.Layer,
    features: int,
    seed: int,
    *,
    program: StepProgram | None = None,
    rows: int = 31,
    steps: int = 7,
    start: float = 1.0,
) -> list[tuple[float, float]]:
    """Return errors against float64 of a cell's results and gradients: the machine's, and stock's.

    The states before the first step are random, ``start`` times a normal number.
    """
    step = trace(cell, features, rows, training=True)
    program, random = program or program_of(step, {}), np.random.RandomState(seed)

    def normal(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    weights = [np.asarray(weight) for weight in cell.variables]
    states = [np.float32(start) * normal(rows, width) for width in program.states]
    given = (weights, normal(steps, rows, features), states, normal(steps, rows, program.units))
    exact = by_the_graph(step.in_float64(), program, *given)
    machine, stock = by_the_machine(program, *given), by_the_graph(step, program, *given)
    return list(zip(relative_errors(machine, exact), relative_errors(stock, exact), strict=True))


@given(
    choices=st.lists(st.integers(0, 1000), min_size=3, max_size=24),
    units=st.sampled_from([6, 9, 15, 33, 46, 129]).map(lambda units: units // 3 * 3),
    states=st.integers(1, 3),
    features=st.integers(1, 4),
)
@settings(
    max_examples=int(os.environ.get("GENERATED_CELLS", "30")),
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
def test_generated_cells_are_as_exact_as_stock(choices: list[int], units: int, states: int, features: int) -> None:
    keras.utils.set_random_seed(len(choices))
    cell = GeneratedCell(choices, units, states)
    cell.build((None, features))
    # Products on AMX are of two bfloat16 parts, 16 bits. Rounding may move a number across the edge of a function: with
    # other numbers it does not.
    least = 2.0**-13 if native.instruction_set() == "amx" else 2.0**-19
    tries = []
    for seed in range(3):
        try:
            tries.append(errors_of(cell, features, seed))
        except Untranslatable:  # slices of slices may cut a cell into too many pieces
            reject()
        if all(error <= max(least, 10 * stock) for error, stock in tries[-1]):
            return
    raise AssertionError(f"errors of the machine and of stock Keras: {tries}")


class NormalizedLSTMCell(keras.layers.Layer):
    """An LSTM whose gates and state are normalized."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = self.output_size = units
        self.state_size = [units, units]
        self.kernel, self.recurrent = keras.layers.Dense(4 * units), keras.layers.Dense(4 * units, use_bias=False)
        self.gates, self.state = keras.layers.LayerNormalization(), keras.layers.LayerNormalization()

    def build(self, input_shape: Any) -> None:
        self.kernel.build(input_shape)
        self.recurrent.build((None, self.units))
        self.gates.build((None, 4 * self.units))
        self.state.build((None, self.units))

    def call(self, inputs: Any, states: Any) -> Any:
        h, c = states
        i, f, g, o = ops.split(self.gates(self.kernel(inputs) + self.recurrent(h)), 4, axis=-1)
        c = ops.sigmoid(f + 1) * c + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(self.state(c))
        return h, [h, c]


# Cells, and whether AMX is exact enough for them.
OF_PAGE: dict[str, tuple[Callable[[], keras.layers.Layer], bool]] = {
    "normalized sum": (lambda: FunctionCell(OPERATIONS["layer_normalization"], 24), False),
    "normalized LSTM": (lambda: NormalizedLSTMCell(24), False),
    "GRU": (lambda: keras.layers.GRUCell(147), True),
    "SimpleRNN": (lambda: keras.layers.SimpleRNNCell(128), True),
    "UR-LSTM": (lambda: URLSTMCell(128), True),
    "LEM": (lambda: LEMCell(128), True),
    "coRNN": (lambda: CoRNNCell(181), True),
    "MinGRU": (lambda: MinGRUCell(147), True),
    "MinLSTM": (lambda: MinLSTMCell(147), True),
    "MGU": (lambda: MGUCell(180), True),
}


def require_what_the_page_promises(name: str) -> None:
    """Require the bounds that docs/speed.md gives for cells, and that AMX computes those that it is good enough for."""
    make, suits_tiles = OF_PAGE[name]
    keras.utils.set_random_seed(1)
    cell = make()
    cell.build((None, 2))
    program = translate(cell, 2)
    on_amx = native.instruction_set() == "amx"
    assert program.tiles == (suits_tiles or not on_amx)
    limit = 5e-5 if on_amx and program.tiles else 1e-5
    for error, stock in errors_of(cell, 2, 1, program=program, rows=100, steps=50, start=0):
        assert error <= max(limit, 4 * stock), (error, stock)


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("name", list(OF_PAGE)[:3])
def test_cells_are_as_exact_as_the_page_says(name: str, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQMNIST_ISA", isa)
    require_what_the_page_promises(name)


@pytest.mark.slow
@pytest.mark.skipif("avx512" not in isas() or not shutil.which("g++"), reason="no compiler, or no AVX-512")
@pytest.mark.parametrize("name", OF_PAGE)
def test_cells_are_as_exact_on_amx_as_the_page_says(name: str, emulated_amx: None) -> None:
    require_what_the_page_promises(name)


def test_rows_share_steps_only_where_all_bits_are_equal() -> None:
    class Inverse(FunctionCell):
        def call(self, inputs: Any, states: Any) -> Any:
            h = ops.tanh(1 / (inputs * self.scalar))
            return h, [h]

    cell = Inverse(ops.tanh, units=1)
    cell.build((None, 1))
    x = tf.constant([[[0.0]] * 3 + [[1.0]], [[-0.0]] * 3 + [[1.0]]])
    found = outputs_of(translate(cell, 1), cell, x, all_steps=True, threads=1, training=False)
    np.testing.assert_array_equal(found[:, 0, 0], [1, -1])


def test_no_width_is_taken_for_the_rows_of_a_trace() -> None:
    cell = keras.layers.GRUCell(46)
    cell.build((None, 1))
    assert translate(cell, 1).units == 46


@pytest.mark.parametrize("roots", [False, True])
def test_numbers_that_are_none_stay_in_their_row(roots: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = FunctionCell(lambda z, c: ops.tanh(z - ops.max(ops.sqrt(z + 9), axis=-1, keepdims=True)))
    cell = largest if roots else keras.layers.GRUCell(24)
    cell.build((None, 2))
    program = translate(cell, 2)
    x = sequences(33, 20, 2).numpy()
    clean = outputs_of(program, cell, tf.constant(x), all_steps=False, threads=2, training=False).numpy()
    for value in (np.nan, np.inf, -np.inf, 1e3, -1e3):  # of the last two, some roots are none
        x[4, 12] = value
        for isa in isas():
            monkeypatch.setenv("SEQMNIST_ISA", isa)
            found = outputs_of(program, cell, tf.constant(x), all_steps=False, threads=2, training=False).numpy()
            expected = keras.layers.RNN(cell)(x).numpy()
            np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
            np.testing.assert_allclose(np.delete(found, 4, axis=0), np.delete(clean, 4, axis=0), atol=1e-5)


def test_a_batch_of_any_size_in_a_graph() -> None:
    cell = keras.layers.GRUCell(8)
    cell.build((None, 1))
    program = translate(cell, 1)

    @tf.function(input_signature=[tf.TensorSpec((None, None, 1))])
    def outputs(x: tf.Tensor) -> tf.Tensor:
        return outputs_of(program, cell, x, all_steps=False, threads=0, training=False)

    for n in (0, 1, 60):
        x = sequences(n, 12, 1) if n else tf.zeros((0, 12, 1))
        assert outputs(x).shape == (n, 8)
        if n:
            assert relative_error(outputs(x).numpy(), keras.layers.RNN(cell)(x).numpy()) < 1e-5

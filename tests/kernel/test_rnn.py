"""Cells of all kinds on the native kernel against stock Keras, and cells that are left to stock Keras with a reason."""

from __future__ import annotations

import functools
import gc
import re
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import seqmnist_tf
from examples.cornn import CoRNNCell
from examples.lem import LEMCell
from examples.min_lstm import MinLSTMCell
from examples.ur_lstm import URLSTMCell
from seqmnist_tf.kernel import LSTM, RNN, drop_ins, kernel_problems, native, on_kernel
from seqmnist_tf.kernel.layer import sharing
from tests.kernel import test_native
from tests.kernel.test_native import isas, relative_error

UNITS, FEATURES, STEPS = 6, 3, 9
SHAPES: Any = {"u": (FEATURES, UNITS), "w": (UNITS, UNITS), "b": (UNITS,)}

pytestmark = pytest.mark.skipif(not isas(), reason="no native kernel")


class Cell(keras.layers.Layer):
    """A cell whose step is a function of itself, the input and the states."""

    def __init__(self, step: Any, states: tuple[int, ...] = (UNITS,), output: int = UNITS, **weights: Any) -> None:
        super().__init__()
        self.step, self.shapes, self.state_size, self.output_size = step, weights, list(states), output

    def build(self, input_shape: Any) -> None:
        for name, shape in self.shapes.items():
            setattr(self, name, self.add_weight(shape=shape, name=name))

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        return self.step(self, inputs, states)


def stepping(step: Callable[[Any, Any, Any], Any], without: str = "", **weights: Any) -> Callable[[], Cell]:
    """Return a factory of cells with one state, which is the output; they have weights u, w and b, and more."""
    shapes = {name: shape for name, shape in {**SHAPES, **weights}.items() if name not in without}

    def call(cell: Any, x: Any, states: Any) -> Any:
        h = step(cell, x, states[0])
        return h, [h]

    return lambda: Cell(call, **shapes)


def pre(cell: Any, x: Any, h: Any) -> Any:
    return ops.matmul(x, cell.u) + ops.matmul(h, cell.w) + cell.b


def ind_rnn(cell: Any, x: Any, h: Any) -> Any:
    return ops.relu(ops.matmul(x, cell.u) + cell.r * h + cell.b)


def concatenated(cell: Any, x: Any, h: Any) -> Any:
    return ops.tanh(ops.matmul(ops.concatenate([x, 0.5 * h, x], axis=-1), cell.joint) + cell.b)


def constants(cell: Any, x: Any, h: Any) -> Any:
    scale = np.linspace(0.1, 0.9, UNITS, dtype=np.float32)
    return ops.tanh(pre(cell, x, h) * scale + ops.arange(UNITS, dtype="float32") / 10) - 0.25 * (3 - h) / 7


def read_twice(cell: Any, x: Any, h: Any) -> Any:
    return ops.sigmoid(ops.matmul(x, cell.gate)) * ops.tanh(pre(cell, x, h)) + ops.sum(x, axis=-1, keepdims=True) / 9


class Normalized(keras.layers.Layer):
    """A cell with a layer in it."""

    def __init__(self) -> None:
        super().__init__()
        self.state_size = self.output_size = UNITS
        self.dense, self.norm = keras.layers.Dense(UNITS), keras.layers.LayerNormalization()

    def build(self, shape: Any) -> None:
        self.dense.build((None, FEATURES + UNITS))
        self.norm.build((None, UNITS))

    def call(self, x: Any, states: Any) -> Any:
        h = ops.tanh(self.norm(self.dense(ops.concatenate([x, states[0]], axis=-1))))
        return h, [h]


def simple(cell: Any, x: Any, states: Any) -> Any:
    h = ops.tanh(pre(cell, x, states[0]))
    return h, [h]


class FirstStates(Cell):
    """A cell with a weight as the first state of each row, in another type."""

    def get_initial_state(self, batch_size: Any = None) -> Any:
        return [ops.cast(ops.broadcast_to(self.start, (batch_size, UNITS)), "float64")]


def another_output() -> Cell:
    """Return a cell with three states, one of which counts steps; the output is none of them."""

    def step(cell: Any, x: Any, states: Any) -> Any:
        h, c, count = states
        h, c = ops.tanh(pre(cell, x, c)), c + 0.1 * h
        return ops.matmul(h * c, cell.out) / (1 + count), [h, c, count + 1]

    return Cell(step, (UNITS, UNITS, 1), 4, **SHAPES, out=(UNITS, 4))


CELLS: dict[str, Callable[[], Any]] = {
    "GRU": lambda: keras.layers.GRUCell(UNITS),
    "GRU, reset before": lambda: keras.layers.GRUCell(UNITS, reset_after=False),
    "SimpleRNN": lambda: keras.layers.SimpleRNNCell(UNITS),
    "LSTM": lambda: keras.layers.LSTMCell(UNITS),
    "MinLSTM": lambda: MinLSTMCell(UNITS),
    "two MinLSTMs": lambda: [MinLSTMCell(UNITS), MinLSTMCell(UNITS)],
    "UR-LSTM": lambda: URLSTMCell(UNITS),
    "LEM": lambda: LEMCell(UNITS),
    "coRNN": lambda: CoRNNCell(UNITS),
    "IndRNN": stepping(ind_rnn, "w", r=(UNITS,)),
    "stack": lambda: [keras.layers.GRUCell(5), keras.layers.LSTMCell(7), keras.layers.SimpleRNNCell(UNITS)],
    "normalization": Normalized,
    "concatenation": stepping(concatenated, "uw", joint=(2 * FEATURES + UNITS, UNITS)),
    "constants": stepping(constants),
    "input twice": stepping(read_twice, gate=(FEATURES, UNITS)),
    "another output": another_output,
    "first states": lambda: FirstStates(simple, **SHAPES, start=(UNITS,)),
}


def stock_rnn(cell: Any, **options: Any) -> keras.layers.RNN:
    """Return a layer of Keras, built, each of whose weights is random, and not small."""
    random = np.random.RandomState(0)
    layer = keras.layers.RNN(cell, **options)
    layer.build((None, None, FEATURES))
    layer.set_weights([0.3 * random.standard_normal(w.shape).astype(np.float32) for w in layer.get_weights()])
    return layer


def sequences(n: int = 28, steps: int = STEPS) -> tf.Tensor:
    x = np.random.RandomState(n).standard_normal((n, steps, FEATURES)).astype(np.float32)
    x[:, :5] = x[0, 0]  # all rows begin with the same steps
    return tf.constant(x)


def results(layer: keras.layers.RNN, x: tf.Tensor, training: bool = True, mask: Any = None) -> list[np.ndarray]:
    """Return outputs and the gradients of weights and sequences."""
    call = functools.partial(layer, training=training, **({} if mask is None else {"mask": tf.constant(mask)}))
    return test_native.results(call, layer.trainable_variables, x, wrt_x=True)


def require_equal(given: list[np.ndarray], expected: list[np.ndarray]) -> None:
    limit = 5e-5 if native.instruction_set() == "amx" else 1e-5
    for number, (a, b) in enumerate(zip(given, expected, strict=True)):
        assert a.shape == b.shape
        assert (not b.any() and not a.any()) or relative_error(a, b) < limit, (number, relative_error(a, b))


@pytest.mark.parametrize("name", CELLS)
def test_outputs_and_gradients_are_those_of_stock_keras_and_of_any_number_of_threads(name: str) -> None:
    stock = stock_rnn(CELLS[name](), return_sequences=True)
    for stock.return_sequences in (True, False):
        ours = sharing(stock)  # a warning would be an error: the kernel computes it
        assert ours.trainable_variables == stock.trainable_variables
        expected, given = results(stock, sequences()), results(ours, sequences())
        require_equal(given, expected)
        for threads in (1, 5):
            for a, b in zip(results(sharing(stock, threads), sequences()), given, strict=True):
                np.testing.assert_array_equal(a, b)
    require_equal(results(ours, sequences(), training=False), expected)  # the backward pass computes the states again
    require_equal([np.asarray(ours(sequences(3)))], [np.asarray(stock(sequences(3)))])


def tanh(x: Any) -> Any:
    """Return another function than Keras's, under its name."""
    return 1.7159 * ops.tanh(2 * x / 3)


RIGHT_PADDED = np.arange(STEPS) < np.linspace(0, STEPS, 28).astype(int)[:, None]


@pytest.mark.parametrize("options", [{}, {"use_bias": False}, {"activation": "relu"}, {"activation": tanh}])
@pytest.mark.parametrize("name", ["LSTM", "GRU", "SimpleRNN"])
def test_the_drop_ins_are_the_layers_of_keras(name: str, options: dict[str, Any]) -> None:
    kinds = getattr(keras.layers, name), getattr(seqmnist_tf, name)
    stock, ours = (kind(UNITS, **options) for kind in kinds)
    for layer in (stock, ours):
        layer.build((None, STEPS, FEATURES))
    ours.set_weights(stock.get_weights())
    calls = [(False, False, None)] if options else [(False, True, None), (True, False, RIGHT_PADDED)]
    for backwards, all_steps, mask in calls:
        for layer in (stock, ours):
            layer.go_backwards, layer.return_sequences = backwards, all_steps
        assert {**ours.get_config(), "name": stock.name} == stock.get_config()  # so that Keras can load it
        expected, given = (results(layer, sequences(), mask=mask) for layer in (stock, ours))
        require_equal(given, expected)
        if mask is None:  # without training, a gradient computes what was not kept
            require_equal(results(ours, sequences(), training=False), expected)


def test_a_saved_drop_in_is_found_and_can_be_made_stock(tmp_path: Path) -> None:
    layers = [keras.layers.Bidirectional(LSTM(5)), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((STEPS, FEATURES)), *layers])
    model.save(tmp_path / "ours.keras")
    seqmnist_tf.to_keras(model).save(tmp_path / "stock.keras")
    np.save(tmp_path / "x.npy", sequences(4))
    code = """
import keras, numpy
def load(name):
    model = keras.saving.load_model(name + ".keras")
    numpy.save(name + ".npy", model(numpy.load("x.npy")))
    print(type(model.layers[0].forward_layer).__module__.split(".")[0])
load("stock")
import seqmnist_tf
load("ours")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True, check=True)
    assert done.stdout.split() == ["keras", "seqmnist_tf"]
    require_equal([np.load(tmp_path / "ours.npy")], [np.load(tmp_path / "stock.npy")])


@keras.saving.register_keras_serializable(package="test")
class Plain(keras.layers.Layer):
    """A cell as a user writes it."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
        self.recurrent = self.add_weight(shape=(self.units, self.units), name="recurrent")

    def call(self, x: Any, states: Any) -> Any:
        h = ops.tanh(ops.matmul(x, self.kernel) + ops.matmul(states[0], self.recurrent))
        return h, [h]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


def small_model(rnn: Any, lstm: Any, **options: Any) -> keras.Sequential:
    keras.utils.set_random_seed(0)
    layers = [
        rnn(Plain(5), return_sequences=True, **options),
        lstm(6, return_sequences=True, **options),
        rnn([Plain(4), keras.layers.GRUCell(4)], **options),
    ]
    return keras.Sequential([keras.Input((None, FEATURES)), *layers, keras.layers.Dense(2)])


def test_a_model_is_trained_saved_and_loaded(tmp_path: Path) -> None:
    stock, model = small_model(keras.layers.RNN, keras.layers.LSTM), small_model(RNN, LSTM, threads=1)
    losses = []
    for each in (model, stock):
        each.compile(loss="mse", optimizer="sgd")
        history = each.fit(sequences(), np.ones((28, 2)), batch_size=9, epochs=2, shuffle=False, verbose=0).history
        losses.append(history["loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [(type(layer), layer.threads) for layer in loaded.layers[:3]] == [(RNN, 1), (LSTM, 1), (RNN, 1)]
    x = sequences(5)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    np.testing.assert_allclose(stock.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5)


class Unregistered(Plain):
    """A cell that Keras does not know; a class that derives from a registered one is not registered."""


class SpecialLSTM(LSTM):
    """A drop-in with a name of its own."""


class WithLSTM(keras.Model):
    """A model that makes its layer itself."""

    def __init__(self, units: int = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rnn = LSTM(units)

    def call(self, x: Any) -> Any:
        return self.rnn(x)


def test_a_stock_model_keeps_unregistered_cells_and_the_optimizer() -> None:
    model = keras.Sequential([keras.Input((STEPS, FEATURES)), RNN(Unregistered(5)), keras.layers.Dense(2)])
    model.compile(loss="mse", optimizer="adam")
    data = (sequences(), np.ones((28, 2)))
    model.fit(*data, epochs=2, verbose=0)
    stock = seqmnist_tf.to_keras(model)
    assert type(stock.layers[0]) is keras.layers.RNN and type(stock.layers[0].cell) is Unregistered
    assert stock.optimizer.iterations == model.optimizer.iterations == 2
    for each in (model, stock):
        each.fit(*data, verbose=0)
    for a, b in zip(stock.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("make", [lambda: keras.Sequential([SpecialLSTM(4)]), WithLSTM])
def test_a_drop_in_that_would_stay_is_an_error(make: Callable[[], keras.Model]) -> None:
    model = make()
    model(sequences(2))
    with pytest.raises(ValueError, match="LSTM on the native kernel"):
        seqmnist_tf.to_keras(model)


def test_an_exported_model_is_of_stock_keras(tmp_path: Path) -> None:
    model = small_model(RNN, LSTM)
    with pytest.warns(UserWarning, match="a graph outside of fit, evaluate and predict may be saved"):
        model.export(str(tmp_path / "exported"), verbose=False)
    loaded = tf.saved_model.load(tmp_path / "exported")
    operations = {op.type for function in loaded.signatures.values() for op in function.graph.get_operations()}
    assert not any("PyFunc" in name for name in operations)
    output = loaded.signatures["serving_default"](sequences(4))["output_0"]
    np.testing.assert_allclose(output, model(sequences(4)), atol=1e-5)


OTHER = keras.Variable(np.ones((UNITS,), np.float32), name="other")


def printed(cell: Any, x: Any, h: Any) -> Any:
    with tf.control_dependencies([tf.debugging.assert_less(ops.max(ops.abs(x)), 1e6)]):
        return ops.tanh(pre(cell, x, h))


def bias_of_heads(cell: Any, x: Any, h: Any) -> Any:
    return ops.reshape(ops.tanh(ops.add(ops.reshape(pre(cell, x, h), (-1, 2, 3)), cell.of_head)), (-1, UNITS))


def with_loss(cell: Any, x: Any, h: Any) -> Any:
    cell.add_loss(ops.mean(h))
    return ops.tanh(pre(cell, x, h))


class TrainedOtherwise(Cell):
    """A cell with other weights in training; its operations on rows are the same, and perhaps its first weights."""

    def __init__(self, other: Any, **shapes: Any) -> None:
        super().__init__(None, **shapes)
        self.other = other

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        h = ops.tanh(inputs @ self.u + states[0] @ (self.other(self.w) if training else self.w))
        return h, [h]


class OneFirstState(Cell):
    """A cell whose first state is a weight, which stock Keras repeats for each row."""

    def get_initial_state(self, batch_size: Any = None) -> Any:
        return [ops.convert_to_tensor(self.start)]


MATRICES: Any = {"u": (FEATURES, UNITS), "w": (UNITS, UNITS)}
ALONE = "size of the batch, or is another one in training"

# What the kernel must not compute, the operation or the word that its warning has, and whether a line is named.
LEFT: dict[str, tuple[Callable[[], Any], str, bool]] = {
    "cumulative sum": (stepping(lambda cell, x, h: ops.cumsum(pre(cell, x, h), axis=-1) / 9), "cumsum", True),
    "an assertion": (stepping(printed), "operation If", True),
    "a variable of others": (stepping(lambda cell, x, h: ops.tanh(pre(cell, x, h) * OTHER)), "variable", True),
    "a loss": (stepping(with_loss), "adds a loss", False),
    "a bias of heads": (stepping(bias_of_heads, of_head=(3,)), r"BiasAddGrad \(an axis besides", True),
    "a mean over rows": (
        stepping(lambda c, x, h: pre(c, x, h) - ops.mean(h, axis=0)),
        r"Mean \(it mixes the rows",
        True,
    ),
    "a flip of rows": (
        stepping(lambda c, x, h: ops.flip(pre(c, x, h), axis=0)),
        r"ReverseV2 \(it mixes the rows",
        True,
    ),
    "the first row": (stepping(lambda c, x, h: pre(c, x, h) + h[:1]), r"StridedSlice \(its result has no row", True),
    "a loop": (
        stepping(lambda c, x, h: ops.fori_loop(0, 3, lambda _, z: ops.tanh(z), pre(c, x, h))),
        "operation StatelessWhile",
        True,
    ),
    "noise": (
        stepping(lambda c, x, h: pre(c, x, h) + keras.random.normal((1, UNITS), seed=1)),
        "operation StatelessRandom",
        True,
    ),
    "a batch's size": (stepping(lambda cell, x, h: ops.tanh(pre(cell, x, h) / ops.shape(x)[0])), ALONE, False),
    "weights by the batch": (
        stepping(lambda cell, x, h: ops.tanh(x @ cell.u + h @ (cell.w / ops.cast(ops.shape(x)[0], "float32")))),
        ALONE,
        False,
    ),
    "weights by training": (lambda: TrainedOtherwise(lambda w: ops.clip(w, -9, 9), **MATRICES), ALONE, False),
    "one first state": (
        lambda: OneFirstState(simple, **SHAPES, start=(1, UNITS)),
        r"first states are .*\(1, 6\).*, not",
        False,
    ),
    "half precision": (
        stepping(lambda cell, x, h: ops.cast(ops.tanh(ops.cast(pre(cell, x, h), "float16")), "float32")),
        "float16|half",
        False,
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_the_kernel_cannot_compute_is_left_to_stock_keras(name: str) -> None:
    make, word, has_line = LEFT[name]
    stock = stock_rnn(make())
    ours = sharing(stock)
    x = sequences(9)
    with pytest.warns(UserWarning, match=r"layer rnn\w*: stock Keras is used, because ") as caught:
        given = ours(x)
    reasons = [str(warning.message).partition("because ")[2] for warning in caught]
    assert len(reasons) == 1 and re.search(word, reasons[0], re.IGNORECASE), reasons
    assert not has_line or re.search(r"test_rnn\.py, line \d+", reasons[0]), reasons
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours(x)  # it has said so
    np.testing.assert_array_equal(given, stock(x))


def test_each_reason_is_told_once_with_the_line_of_the_user() -> None:
    layer, x = LSTM(UNITS), sequences(9)
    odd_states = [tf.ones((1, UNITS))] * 2
    function = tf.function(lambda x: layer(x))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            layer(x, initial_state=odd_states)
            function(x)
    ours = [w for w in caught if "stock Keras is used" in str(w.message)]  # Python 3.13 warns of others' code, too
    assert [("states" in str(w.message), "may be saved" in str(w.message)) for w in ours] == [(1, 0), (0, 1)]
    assert {w.filename for w in ours} == {__file__}  # not Keras's


class BuiltLate(keras.layers.Layer):
    """A cell whose layers Keras builds at the first step."""

    def __init__(self) -> None:
        super().__init__()
        self.state_size, self.dense, self.norm = UNITS, keras.layers.Dense(UNITS), keras.layers.LayerNormalization()

    def call(self, x: Any, states: Any) -> Any:
        h = ops.tanh(self.norm(self.dense(ops.concatenate([x, states[0]], axis=-1))))
        return h, [h]


@pytest.mark.filterwarnings("ignore:`build\\(\\)` was called")  # Keras's own, also on stock Keras
@pytest.mark.parametrize("in_function", [False, True])
@pytest.mark.parametrize("make", [BuiltLate, lambda: keras.layers.GRUCell(UNITS)])
def test_the_first_call_is_on_the_kernel_wherever_the_layer_is_built(
    make: Any, in_function: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_result(layer: Any) -> np.ndarray:
        compute = functools.partial(layer, training=True)
        return np.asarray((tf.function(compute) if in_function else compute)(sequences(9)))

    keras.utils.set_random_seed(1)
    stock = keras.layers.RNN(make())
    keras.utils.set_random_seed(1)
    ours = RNN(make())
    expected = first_result(stock)
    with monkeypatch.context() as patch:
        call, calls = native.call, []

        def record(name: str, *values: Any) -> None:
            calls.append(name)
            call(name, *values)

        patch.setattr(native, "call", record)
        np.testing.assert_allclose(first_result(ours), expected, atol=1e-5)
    assert calls[-1] == "machine_forward"
    for a, b in zip(ours.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_forked_child_computes_what_its_parent_computed() -> None:
    code = """
import os, numpy, seqmnist_tf, warnings
layers = [seqmnist_tf.GRU(5), seqmnist_tf.LSTM(5)]
x = numpy.random.default_rng(0).normal(size=(4, 6, 3)).astype("float32")
before = [layer(x).numpy() for layer in layers]
child = os.fork()
if not child:
    warnings.simplefilter("ignore")
    near = [numpy.abs(layer(x) - value).max() < 1e-5 for layer, value in zip(layers, before)]
    os._exit(0 if all(near) else 3)
print("child", os.waitpid(child, 0)[1])
"""
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, timeout=120, check=True)
    assert done.stdout.split() == ["child", "0"]


def test_a_cell_whose_layers_get_other_weights_is_translated_again() -> None:
    rnn = RNN(Normalized())
    rnn(sequences(9))
    rnn.cell.dense.enable_lora(2)
    stock = keras.layers.RNN(rnn.cell)
    np.testing.assert_allclose(rnn(sequences(9)), stock(sequences(9)), atol=1e-4)


def test_a_cell_goes_with_its_programs() -> None:
    rnn, refused = RNN(keras.layers.GRUCell(UNITS)), RNN(LEFT["half precision"][0]())
    rnn(sequences(9))
    with pytest.warns(UserWarning, match="stock Keras is used"):
        refused(sequences(9))
    cells = [weakref.ref(rnn.cell), weakref.ref(refused.cell)]
    del rnn, refused
    keras.utils.clear_session()
    gc.collect()
    assert [cell() for cell in cells] == [None, None]


def test_layers_after_a_cell_are_told_whether_they_are_trained() -> None:
    rnn, drop = RNN(keras.layers.GRUCell(UNITS)), keras.layers.Dropout(0.5, seed=1)

    class Both(keras.layers.Layer):
        def call(self, x: Any, training: bool | None = None) -> Any:
            return drop(rnn(x))

    rnn.build((None, STEPS, FEATURES))
    assert np.mean(Both()(sequences(9), training=True) == 0) > 0.2  # the first call, in which the cell is translated


@pytest.mark.parametrize(
    ("options", "call", "reason"),
    [
        ({"unroll": True}, {}, "unroll is True"),
        ({}, {"initial_state": [tf.ones((1, UNITS)), -tf.ones((1, UNITS))]}, "its initial states are"),
        ({"dtype": "float64"}, {}, "dtype is float64, not float32"),
    ],
)
def test_arguments_that_are_left_to_stock_keras(options: Any, call: Any, reason: str) -> None:
    x = sequences(9)
    stock, ours = keras.layers.LSTM(UNITS, **options), LSTM(UNITS, **options)
    expected = tf.nest.flatten(stock(x, **call))
    with pytest.warns(UserWarning, match=f"stock Keras is used, because {reason}"):
        ours.build(x.shape)
        ours.set_weights(stock.get_weights())
        given = tf.nest.flatten(ours(x, **call))
    for a, b in zip(given, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def outcome(layer: keras.layers.RNN, x: tf.Tensor) -> Any:
    """Return what a layer computes in a graph, or the class of its error."""
    try:
        return tf.function(lambda x: layer(x, training=True), autograph=False)(x).numpy()
    except Exception as error:
        return type(error)


BROKEN: dict[str, Any] = {
    "more states": lambda cell, x, states: (states[0], [states[0], states[0]]),
    "another type": lambda cell, x, states: (ops.cast(states[0], "float64"), [states[0]]),
    "another width": lambda cell, x, states: (states[0], [states[0][:, :-1]]),
    "an error": lambda cell, x, states: 1 / 0,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_cell_is_what_it_is_on_stock_keras(name: str) -> None:
    made: list[keras.layers.RNN] = [keras.layers.RNN(Cell(BROKEN[name])), RNN(Cell(BROKEN[name]))]
    for layer in made:
        layer.built = layer.cell.built = True
    with pytest.warns(UserWarning, match=r"layer rnn\w*: stock Keras is used, because "):
        results = [outcome(layer, sequences(4)) for layer in made]
    if isinstance(results[0], type):
        assert results[1] is results[0]
    else:
        np.testing.assert_array_equal(results[1], results[0])


class Inherited(keras.layers.RNN):
    """A layer that brings its cell, and computes as Keras does."""

    def __init__(self, units: int) -> None:
        super().__init__(Plain(units))


def test_a_cell_whose_numbers_overflow_is_on_the_kernel_without_a_warning() -> None:
    kernel, stock = (layers.SimpleRNN(8, activation="exponential") for layers in (seqmnist_tf, keras.layers))
    x = 0.1 * sequences(5)[:, -3:]  # so few steps that these results are finite
    for layer in (kernel, stock):
        layer.build(x.shape)
    kernel.set_weights(stock.get_weights())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        given = kernel(x)
    assert relative_error(given, stock(x)) < 1e-5


class OwnLoop(keras.layers.RNN):
    """A layer that computes something else."""

    def inner_loop(self, *args: Any, **options: Any) -> Any:
        last, outputs, states = super().inner_loop(*args, **options)
        return 2 * last, 2 * outputs, states


def test_a_drop_in_with_a_method_of_its_own_is_left_to_keras() -> None:
    for base, name, given in ((RNN, "get_initial_state", Plain(UNITS)), (LSTM, "inner_loop", UNITS)):
        layer = type("Own", (base,), {name: functools.partialmethod(getattr(keras.layers.RNN, name))})
        with pytest.warns(UserWarning, match=f"it has its own {name}"):
            assert layer(given)(sequences()).shape == (len(sequences()), UNITS)


class Holder(keras.layers.Layer):
    """A layer that has others as attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = keras.layers.GRU(UNITS, return_sequences=True)
        self.others: dict[str, Any] = {"last": Inherited(UNITS), "own": OwnLoop(Plain(UNITS))}

    def call(self, x: Any) -> Any:
        return self.others["last"](self.first(x)) + self.others["own"](x)


def branches() -> keras.Model:
    inputs = keras.Input((STEPS, FEATURES))
    both = [keras.layers.SimpleRNN(4)(inputs), keras.layers.LSTM(4)(inputs)]
    return keras.Model(inputs, keras.layers.Concatenate()(both))


def nested() -> keras.Sequential:
    inner = keras.Sequential([keras.layers.LSTM(4, use_bias=False)])
    return keras.Sequential([keras.layers.LSTM(4, return_sequences=True), keras.layers.Dropout(0.0), inner])


@pytest.mark.parametrize(
    ("make", "kinds"),
    [
        (nested, [LSTM, RNN]),
        (lambda: keras.layers.Bidirectional(keras.layers.LSTM(4)), [LSTM, LSTM]),
        (branches, [LSTM, RNN]),
        (Holder, [RNN, RNN]),  # of three: one has a loop of its own
    ],
)
def test_layers_that_have_recurrent_layers_compute_the_same_on_the_kernel(make: Any, kinds: list[type]) -> None:
    keras.utils.set_random_seed(2)
    layer, x = make(), sequences(7)
    layer(x)
    found = drop_ins(layer, threads=1)
    assert sorted([type(part.native) for part in found], key=lambda kind: kind.__name__) == kinds
    assert kernel_problems(layer, found, (None, STEPS, FEATURES)) == [None] * len(found)
    expected = results(layer, x)
    computed: list[str] = []

    def traced(x: tf.Tensor) -> Any:
        with on_kernel(found):
            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs = layer(x, training=True)
                weighting = np.random.RandomState(1).standard_normal(outputs.shape).astype(np.float32)
                loss = tf.reduce_sum(outputs * weighting)
            gradients = tape.gradient(loss, [*(weight.value for weight in layer.trainable_variables), x])
        computed.extend(op.type for op in tf.compat.v1.get_default_graph().get_operations())
        return [outputs, *gradients]

    given = [np.asarray(tensor) for tensor in tf.function(traced, autograph=False)(x)]
    require_equal(given, expected)
    assert sum("PyFunc" in kind for kind in computed) >= len(found) and ("While" in computed) == (make is Holder)
    np.testing.assert_array_equal(np.asarray(layer(x, training=True)), expected[0])  # it is as it was


def test_what_cannot_be_computed_is_seen_before() -> None:
    narrow: Any = {"u": (4, UNITS), "w": (UNITS, UNITS)}
    layers = [
        keras.layers.GRU(4, return_sequences=True),
        keras.layers.Masking(0.0),
        keras.layers.RNN(stepping(with_loss, **narrow)()),
    ]
    model = keras.Sequential([keras.Input((STEPS, FEATURES)), *layers])
    unused = Holder()
    unused(sequences(2))
    unused.call = lambda x: x  # type: ignore[method-assign]
    reason = "the step adds a loss"
    assert kernel_problems(model, drop_ins(model), (None, STEPS, FEATURES)) == [None, reason]
    alone = layers[2]
    assert kernel_problems(alone, drop_ins(alone), (None, STEPS, 4)) == [reason]
    assert set(kernel_problems(unused, drop_ins(unused), (None, STEPS, FEATURES))) == {"it is not called"}


class HalfCell(keras.layers.LSTMCell):
    """An LSTM's cell with half its output."""

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        output, states = super().call(inputs, states, training=training)
        return output / 2, [output / 2, states[1]]


def doubled(call: Callable[..., Any]) -> Callable[..., Any]:
    def twice(*args: Any, **kwargs: Any) -> Any:
        output, states = call(*args, **kwargs)
        return 2 * output, [2 * output, states[1]]

    return twice


@pytest.mark.parametrize("replaced", ["cell", "call"])
def test_an_lstm_whose_step_was_replaced_is_not_the_plain_one(replaced: str) -> None:
    x = np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)
    layers = [keras.layers.LSTM(5), seqmnist_tf.LSTM(5)]
    for layer in layers:
        if replaced == "cell":
            layer.cell = HalfCell(5)
        else:
            layer.cell.call = doubled(layer.cell.call)
        layer.build(x.shape)
    layers[1].set_weights(layers[0].get_weights())
    expected, found = (keras.ops.convert_to_numpy(layer(x)) for layer in layers)
    np.testing.assert_allclose(found, expected, atol=1e-5)

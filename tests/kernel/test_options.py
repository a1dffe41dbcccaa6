"""States in and out, dropout, masks and their combinations: the drop-ins against stock Keras in float32 and float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import seqmnist_tf
from examples.zoneout import ZoneoutLSTMCell
from seqmnist_tf.kernel import native
from tests.kernel.test_native import isas
from tests.model.numpy_lstm import relative_error

N, STEPS, FEATURES, UNITS = 28, 7, 3, 6

pytestmark = pytest.mark.skipif(not isas(), reason="no native kernel")


def stack(**options: Any) -> list[keras.layers.Layer]:
    """Return three cells, with different seeds and states."""
    cells = keras.layers.GRUCell, keras.layers.LSTMCell, keras.layers.SimpleRNNCell
    return [cell(units, seed=units, **options) for cell, units in zip(cells, (5, 7, UNITS), strict=True)]


DROPS = ("dropout", "recurrent_dropout")


def make(name: str, module: Any, **options: Any) -> keras.layers.RNN:
    """Return a layer of a module by its name; a stack of cells as ``RNN``."""
    if name != "RNN":
        return getattr(module, name)(UNITS, seed=4, **options)
    of_cells = {key: options.pop(key) for key in DROPS if key in options}
    dtype = options.get("dtype")
    return module.RNN(keras.layers.StackedRNNCells(stack(**of_cells, dtype=dtype), dtype=dtype), **options)


def sequences(seed: int = 0, n: int = N) -> np.ndarray:
    return np.random.RandomState(seed).standard_normal((n, STEPS, FEATURES)).astype(np.float32)


def states_of(layer: Any) -> list[Any]:
    """Return random first states, nested as the layer's cell has them."""
    layers = [layer.forward_layer, layer.backward_layer] if hasattr(layer, "forward_layer") else [layer]
    random = np.random.RandomState(5)

    def state(size: int) -> tf.Tensor:
        return tf.constant(random.uniform(-1, 1, (N, size)), layers[0].compute_dtype)

    return [keras.tree.map_structure(state, size) for one in layers for size in one.state_size]


def results(layer: Any, x: np.ndarray, **call: Any) -> list[np.ndarray]:
    """Return outputs, states, gradients of weights, sequences and first states, and the seeds' states, of two calls."""
    x = tf.constant(x, layer.compute_dtype)
    first = keras.tree.flatten(call.get("initial_state"))
    sources = [*(weight.value for weight in layer.trainable_variables), x, *(s for s in first if s is not None)]
    found: list[Any] = []
    for _ in range(2):  # of a stateful layer, the second goes on where the first ended
        random = np.random.RandomState(1)
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs = keras.tree.flatten(layer(x, **call))
            parts = [tf.reduce_sum(out * random.standard_normal(out.shape)) for out in outputs]
            loss = tf.add_n(parts)
        found += [*outputs, *tape.gradient(loss, sources)]
    return [np.asarray(value) for value in (*found, *layer.non_trainable_variables, *seeds_of(layer))]


def seeds_of(layer: keras.Layer) -> list[keras.Variable]:
    return [variable for variable in layer.variables if "seed" in variable.path]


def require_equal(given: list[np.ndarray], single: list[np.ndarray], double: list[np.ndarray]) -> None:
    """Require results near stock Keras's in float64, or near those in float32 where that is off itself."""
    limit = 5e-5 if native.instruction_set() == "amx" else 1e-5
    for number, (a, b, c) in enumerate(zip(given, single, double, strict=True)):
        assert a.shape == b.shape == c.shape
        if np.issubdtype(b.dtype, np.integer):
            np.testing.assert_array_equal(a, b)  # a seed generator's
        elif b.any() or a.any():
            assert relative_error(a, c) < max(limit, 4 * relative_error(b, c)), (number, relative_error(a, c))
            assert relative_error(a, b) < 2 * limit, (number, relative_error(a, b))


MASK = np.random.default_rng(1).random((N, STEPS)) < np.linspace(0, 1, N)[:, None]  # of the first row, nothing counts
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"return_sequences": True},
    "dropout": {"dropout": 0.3},
    "recurrent": {"recurrent_dropout": 0.3, "return_sequences": True},
    "both": {"dropout": 0.2, "recurrent_dropout": 0.4, "return_state": True},
    "states": {"return_state": True, "return_sequences": True},
    "states, reversed": {"return_state": True, "go_backwards": True, "dropout": 0.3},
    "stateful": {"stateful": True},
    "all": {"stateful": True, "return_state": True, "recurrent_dropout": 0.3, "return_sequences": True},
    "zeros": {"zero_output_for_mask": True, "return_sequences": True},
    "last of zeros": {"zero_output_for_mask": True, "return_state": True},
}


def three(name: str, options: dict[str, Any], wrap: Callable[[Any], Any] = lambda layer: layer) -> list[Any]:
    """Return ours, stock Keras's, and that in float64, with the same weights, which are not small, and seeds."""
    layers = []
    for module, dtype in ((seqmnist_tf, None), (keras.layers, None), (keras.layers, "float64")):
        keras.utils.set_random_seed(3)
        layer = wrap(make(name, module, **options, dtype=dtype))
        layer.build((N, STEPS, FEATURES))
        layers.append(layer)
    random = np.random.RandomState(2)
    for weights in zip(*(layer.trainable_variables for layer in layers), strict=True):
        value = 0.4 * random.standard_normal(weights[0].shape)
        for weight in weights:
            weight.assign(value.astype(np.float32))
    return layers


@pytest.fixture(autouse=True)
def one_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a layer in float64 draw the masks that the same layer draws in float32."""
    draw = keras.src.backend.random.dropout

    def dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
        return tf.cast(draw(tf.cast(inputs, tf.float32), rate, noise_shape, seed), inputs.dtype)

    monkeypatch.setattr(keras.src.backend.random, "dropout", dropout)


NAMES = ("LSTM", "GRU", "SimpleRNN", "RNN")
# These combine the others, and are tried with every layer; the LSTM, with two kernels, is tried with all options.
ALWAYS_TRIED = ("both", "all", "zeros")


def grid(options: Iterable[str]) -> list[Any]:
    """Return each layer with each of some options; what is neither the LSTM nor always tried is a slow test."""
    return [
        pytest.param(name, option, marks=[] if name == "LSTM" or option in ALWAYS_TRIED else [pytest.mark.slow])
        for name in NAMES
        for option in options
    ]


@pytest.mark.parametrize(("name", "options"), grid(OPTIONS))
def test_layers_are_those_of_stock_keras(name: str, options: str) -> None:
    layers = three(name, OPTIONS[options])
    masked: dict[str, Any] = {"mask": tf.constant(MASK), "training": True}
    require_equal(*(results(layer, sequences()) for layer in layers))  # a warning would be an error
    require_equal(*(results(layer, sequences(), initial_state=states_of(layer), **masked) for layer in layers))


def both_directions(layer: keras.layers.RNN) -> keras.layers.Bidirectional:
    return keras.layers.Bidirectional(layer, dtype=layer.dtype_policy)


@pytest.mark.parametrize(("name", "options"), grid(["plain", "both", "states", "stateful", "zeros"]))
def test_both_directions_are_those_of_stock_keras(name: str, options: str) -> None:
    found = []
    for layer in three(name, OPTIONS[options], both_directions):
        first = {} if options == "plain" else {"initial_state": states_of(layer)}
        found.append(results(layer, sequences(), training=True, mask=tf.constant(MASK), **first))
    require_equal(*found)


@keras.saving.register_keras_serializable(package="tests")
class NoisyCell(keras.layers.SimpleRNNCell):
    """Draws in several ways; its noise is as large as a weight says, also out of training."""

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.drop, self.generator = keras.layers.Dropout(0.3, seed=5), keras.random.SeedGenerator(9)
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        h, _ = super().call(self.drop(inputs, training=training), states, training=training)
        h = h + self.scale * keras.random.normal(keras.ops.shape(h), seed=self.generator)
        shape = (tf.shape(h)[0], self.units)
        h = h * keras.random.truncated_normal(shape, mean=1, stddev=0.1, seed=self.generator)
        return h, [h]


def noisy(module: Any, **options: Any) -> keras.layers.RNN:
    """Return a layer of a module whose cells draw at each step, and Keras's masks once a call; the same each time."""
    keras.utils.set_random_seed(3)
    cells = [ZoneoutLSTMCell(5, dropout=0.2), NoisyCell(4), keras.layers.GRUCell(UNITS, recurrent_dropout=0.2)]
    return module.RNN(cells, **options)


@pytest.mark.parametrize(
    ("options", "training"),
    [
        ("plain", True),
        ("plain", False),
        ("both directions", True),
        *(pytest.param(name, True, marks=pytest.mark.slow) for name in ("states, reversed", "stateful", "masked")),
    ],
)
def test_what_is_drawn_at_each_step_is_that_of_stock_keras(options: str, training: bool) -> None:
    found = []
    for module in (seqmnist_tf, keras.layers):
        arguments = {name: value for name, value in OPTIONS.get(options, {}).items() if name != "dropout"}
        layer = noisy(module, **arguments)
        if options == "both directions":
            layer = keras.layers.Bidirectional(layer)
        layer.build((N, STEPS, FEATURES))
        call = {"mask": tf.constant(MASK)} if options in ("masked", "both directions") else {}
        found.append(results(layer, sequences(), training=training, **call))
    require_equal(found[0], found[1], found[1])


def test_fit_draws_at_each_step_as_on_stock_keras() -> None:
    found = []
    for module in (seqmnist_tf, keras.layers):
        model = keras.Sequential([keras.Input((STEPS, FEATURES)), noisy(module)])
        model.compile(loss="mse", optimizer="sgd")
        model.fit(sequences(), np.ones((N, UNITS)), batch_size=20, shuffle=False, verbose=0)  # batches of 20 and 8
        found.append([*model.get_weights(), *map(np.asarray, seeds_of(model)), model.predict(sequences(), verbose=0)])
    require_equal(found[0], found[1], found[1])


def test_a_stateful_layer_forgets_when_it_is_told() -> None:
    layer = seqmnist_tf.LSTM(UNITS, stateful=True)
    first, second = layer(sequences()), layer(sequences())
    assert np.abs(first - second).max() > 1e-3
    layer.reset_state()
    np.testing.assert_array_equal(layer(sequences()), first)


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
@pytest.mark.parametrize("shape", ["one row", "a column", "a list"])
def test_masks_of_any_shape_that_stock_keras_takes(name: str, shape: str) -> None:
    masks: dict[str, Any] = {"one row": MASK[-2:-1], "a column": MASK[..., None], "a list": [tf.constant(MASK)]}
    require_equal(*(results(layer, sequences(), mask=masks[shape]) for layer in three(name, OPTIONS["plain"])))


def test_a_mask_that_is_too_short_is_an_error_and_one_of_units_is_stock_keras() -> None:
    ours, stock, _ = three("GRU", {})
    with pytest.warns(UserWarning, match="its mask is"), pytest.raises(Exception, match="index 6 but array size is"):
        ours(sequences(), mask=tf.constant(MASK[:, :-1]))
    units = tf.constant(np.random.default_rng(2).random((N, STEPS, UNITS)) < 0.5)
    with pytest.warns(UserWarning, match="its mask is"):
        np.testing.assert_allclose(ours(sequences(), mask=units), stock(sequences(), mask=units), atol=1e-6)


def test_sequences_of_other_kinds_are_those_of_stock_keras() -> None:
    ours, stock, _ = three("GRU", {})
    np.testing.assert_allclose(ours(keras.Variable(sequences())), stock(sequences()), atol=1e-5)

    class Flattening(keras.layers.SimpleRNNCell):
        def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
            return super().call(keras.ops.reshape(inputs, (-1, FEATURES)), states, training=training)

    cell = Flattening(UNITS)
    cell.build((None, FEATURES))
    x = sequences()[:, :, None]
    with pytest.warns(UserWarning, match="its sequences have 4 axes"):
        np.testing.assert_array_equal(seqmnist_tf.RNN(cell)(x), keras.layers.RNN(cell)(x))


@pytest.mark.parametrize("options", [{"dropout": 0.2}, {"recurrent_dropout": 0.2}, {"stateful": True}])
def test_a_model_with_options_is_saved_cloned_and_made_stock(options: dict[str, Any], tmp_path: Any) -> None:
    layers = [keras.Input(batch_shape=(N, STEPS, FEATURES)), seqmnist_tf.LSTM(UNITS, seed=1, **options)]
    model = keras.Sequential(layers)
    expected = model.predict(sequences(), batch_size=N, verbose=0)
    model.save(tmp_path / "model.keras")
    cloned = keras.models.clone_model(model)
    cloned.set_weights(model.get_weights())
    for other in (keras.saving.load_model(tmp_path / "model.keras"), cloned, seqmnist_tf.to_keras(model)):
        other.layers[0].reset_state()
        np.testing.assert_allclose(other.predict(sequences(), batch_size=N, verbose=0), expected, atol=2e-5)
    model.layers[0].reset_state()
    with pytest.warns(UserWarning, match="a graph outside of fit, evaluate and predict may be saved"):
        model.export(str(tmp_path / "exported"), verbose=False)
    served = tf.saved_model.load(tmp_path / "exported").signatures["serving_default"]
    np.testing.assert_allclose(served(tf.constant(sequences()))["output_0"], expected, atol=2e-5)


@pytest.mark.parametrize("options", ["plain", "dropout", "recurrent", "states", "stateful", "zeros"])
def test_memory_does_not_grow_in_training(options: str) -> None:
    inputs = keras.Input(batch_shape=(N, STEPS, FEATURES))
    masked = keras.layers.Masking()(inputs)
    model = keras.Model(inputs, keras.tree.flatten(seqmnist_tf.LSTM(UNITS, **OPTIONS[options])(masked))[0])
    model.compile(loss="mse", optimizer="sgd")
    x, y = sequences(n=30 * N), np.zeros((30 * N, *model.output_shape[1:]))
    x[::2, STEPS // 2 :] = 0
    model.fit(x, y, batch_size=N, epochs=3, verbose=0)

    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    before = resident()
    model.fit(x, y, batch_size=N, epochs=10, verbose=0)
    assert resident() - before < 20e6  # 300 steps

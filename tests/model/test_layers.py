"""Custom layers: what is admitted, how units are matched, what recurrent noise acts on."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.config import Config
from seqmnist_tf.model import Kernel, build_model, check_layer, compile_model, layer_check, make_trainable, match_units
from seqmnist_tf.model.noise import RecurrentNoise
from seqmnist_tf.system import InputError
from tests import toy

HEAD = "import keras\nfrom keras import ops\n"
GOOD = HEAD + (
    "class Last(keras.layers.Layer):\n"
    "    def __init__(self, units, **kwargs):\n        super().__init__(**kwargs)\n        self.units = units\n"
    "    def build(self, shape):\n        self.kernel = self.add_weight(shape=(shape[-1], self.units), name='kernel')\n"
    "    def call(self, x):\n        return ops.matmul(x[:, -1], self.kernel)\n"
    "    def get_config(self):\n        return {**super().get_config(), 'units': self.units}\n"
)
CELL = HEAD + (
    "class Cell(keras.layers.Layer):\n"
    "    def __init__(self, units, **kwargs):\n        super().__init__(**kwargs)\n"
    "        self.units = self.state_size = units\n        self.drop = keras.layers.Dropout(0.5, seed=1)\n"
    "    def build(self, shape):\n"
    "        self.w = self.add_weight(shape=(self.units, self.units), name='recurrent_kernel')\n"
    "    def call(self, x, states, training=False):\n        h = states[0]\n"
    "        new = ops.tanh(self.drop(x + h @ self.w, training=training))\n        return new, [new]\n"
    "    def get_config(self):\n        return {**super().get_config(), 'units': self.units}\n"
    "def f(units):\n    return keras.layers.RNN(Cell(units))\n"
)
ON_STOCK_KERAS = CELL.replace("h @", "ops.sinh(h) @")  # the kernel has no sinh
TORCH_STYLE = HEAD + (  # 24 units have 24 + 24 * 25 + 48 parameters, and 250 in the dense layer
    "class Cell(keras.layers.Layer):\n"
    "    def __init__(self, units, **kwargs):\n        super().__init__(**kwargs)\n"
    "        self.units = self.state_size = units\n"
    "        self.x, self.h = keras.layers.Dense(units, use_bias=False), keras.layers.Dense(units)\n"
    "        self.norm = keras.layers.LayerNormalization()\n"
    "    def call(self, x, states):\n"
    "        new = ops.tanh(self.norm(self.x(x) + self.h(states[0])))\n        return new, [new]\n"
    "    def get_config(self):\n        return {**super().get_config(), 'units': self.units}\n"
    "def f(units):\n    return keras.layers.RNN(Cell(units))\n"
)
BRANCHES = HEAD + (
    "def f(units):\n"
    "    x = keras.Input((784, 1))\n"
    "    halves = [make(units // 2)(x) for make in (keras.layers.LSTM, keras.layers.GRU)]\n"
    "    return keras.Model(x, keras.layers.Concatenate()(halves))\n"
)
NORMALIZED = HEAD + (  # in training it mixes the rows of a batch
    "def f(units):\n"
    "    x = keras.Input((784, 1))\n"
    "    return keras.Model(x, keras.layers.BatchNormalization()(keras.layers.LSTM(units)(x)))\n"
)
REGISTERED = GOOD.replace("class Last", "@keras.saving.register_keras_serializable('mine')\nclass Last")


def configure(layer: str, **values: object) -> Config:
    return toy.configure(model__layer=layer, **{"model__hidden_size": 6, **values})


def write(folder: Path, text: str) -> Path:
    path = folder / "own.py"
    path.write_text(text)
    return path


@pytest.mark.parametrize("layer", ["LSTM", "GRU", "SimpleRNN"])
def test_stock_layers_have_the_parameters_that_the_formula_gives(layer: str) -> None:
    config = configure(layer)
    model = build_model(config)
    assert type(model.layers[0]).__name__ == layer
    assert model.count_params() == cfg.num_params(config)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (GOOD, "Last"),
        (CELL, "f"),
        (CELL, "Cell"),
        (BRANCHES, "f"),
        (NORMALIZED, "f"),
        (REGISTERED, "Last"),
        ("", "keras.layers:GRU"),
    ],
)
def test_layers_that_are_admitted(text: str, name: str, tmp_path: Path) -> None:
    config = configure(name if ":" in name else f"{write(tmp_path, text)}:{name}")
    check_layer(config)
    assert build_model(config).output_shape == (None, 10)


def test_two_versions_of_a_layer_stand_side_by_side(tmp_path: Path) -> None:
    first = configure(f"{write(tmp_path, REGISTERED)}:Last")
    one = build_model(first)
    write(tmp_path, REGISTERED.replace("ops.matmul(", "2 * ops.matmul("))
    check_layer(first)
    two = build_model(first)
    x = np.ones((1, 784, 1), np.float32)
    np.testing.assert_allclose(2 * one.layers[0](x), two.layers[0](x))


BAD = {
    "no such file": (None, "Last", "cannot read the file of model.layer"),
    "no such name": (GOOD, "Other", "model.layer must name a layer class or a function of units"),
    "no such module": ("import no_such_module\n", "f", "No module named 'no_such_module'"),
    "shape": (HEAD + "def f(units):\n    return keras.layers.LSTM(units + 1)\n", "f", r"into \(n, 6\)"),
    "no gradient": (GOOD.replace("ops.matmul(x[:, -1], self", "ops.stop_gradient(x[:, -1] @ self"), "Last", "gradient"),
    "no numbers": (GOOD.replace("ops.matmul(x[:, -1]", "ops.matmul(ops.sqrt(-1 - x[:, -1] ** 2)"), "Last", "finite"),
    "rows of a batch that are mixed": (  # by 2 % of the mean
        GOOD.replace("ops.matmul(x[:, -1]", "ops.matmul(x[:, -1] - 0.02 * ops.mean(x[:, -1], axis=0)"),
        "Last",
        "each sequence independently",
    ),
    "random numbers without a state": (  # of 2 %
        GOOD.replace("ops.matmul(x[:, -1]", "ops.matmul((1 + 0.02 * keras.random.normal((1, 1))) * x[:, -1]"),
        "Last",
        "keras.random.SeedGenerator",
    ),
    "a lost argument": (
        GOOD.replace("self, units, **kwargs", "self, units, scale=1.0, **kwargs")
        .replace("self.units = units\n", "self.units, self.scale = units, scale\n")
        .replace("ops.matmul(", "self.scale * ops.matmul(")
        + "def f(units):\n    return Last(units, scale=2.0)\n",
        "f",
        "same output after it was saved and loaded",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_layers_that_cannot_be_trained_are_refused(name: str, tmp_path: Path) -> None:
    text, attribute, message = BAD[name]
    if text is not None:
        write(tmp_path, text)
    with pytest.raises(InputError, match=message):
        check_layer(configure(f"{tmp_path / 'own.py'}:{attribute}"))


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("h = states[0]\n", "h = self.v\n", "h = self.v"),
        ("h @ self.w", "h @ ops.zeros((3, 3))", "ops.zeros((3, 3))"),
        ("'units': self.units}", "}", "units"),  # it cannot be loaded
        (
            "units, **kwargs):\n        super().__init__(**kwargs)",
            "units):\n        super().__init__()",
            "take **kwargs",
        ),
        ("return new, [new]", "return new", "A cell's call must return (output, [states])"),
    ],
)
def test_an_error_of_the_layers_code_is_raised_as_it_is(old: str, new: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(Exception) as raised:
        check_layer(configure(f"{write(tmp_path, CELL.replace(old, new))}:f"))
    assert not isinstance(raised.value, InputError)
    assert line in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("f", {"scale": 1, "mode": "b"}, None),
        ("f", {"mode": "b"}, "missing a required argument: 'scale'"),
        ("g", {"dt": 0.1, "td": 1}, "unexpected keyword argument 'td'"),
        ("Plain", {"dt": 0.1, "td": 1}, "unexpected keyword argument 'td'"),
    ],
)
def test_constants_are_the_keyword_arguments_of_the_factory(
    name: str, given: dict[str, Any], message: str | None, tmp_path: Path
) -> None:
    text = GOOD + (
        "def f(units, scale, *, mode='a', **kwargs):\n    return Last(int(units * scale), name=mode)\n"
        "def g(units, dt=1.0):\n    return Last(units)\n"
        "class Plain(Last):\n    def __init__(self, units, dt=1.0):\n        super().__init__(units)\n"
    )
    config = configure(f"{write(tmp_path, text)}:{name}", model__layer_options=given)
    if message is None:
        assert build_model(config).layers[0].name == "b"
        return
    with pytest.raises(InputError, match=f"model.layer_options of .*{message}"):
        check_layer(config)


def test_a_large_graph_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(layer_check, "LARGE_GRAPH", 5)
    check_layer(configure(f"{write(tmp_path, GOOD)}:Last"))
    assert "keras.layers.RNN and keras.ops.scan" in capsys.readouterr().err


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_cell_with_dropout_is_trained_with_recurrent_noise_and_without(noise: float, tmp_path: Path) -> None:
    """Its generator is updated in the loop over the timesteps: noise lets other states of a layer go on."""
    config = configure(f"{write(tmp_path, CELL)}:f", train__recurrent_noise=noise, train__batch_size=8, train__seed=5)
    model = build_model(config)
    state = model.layers[0].cell.drop.seed_generator.state
    before = state.numpy().tolist()
    trained = make_trainable(model, config, Kernel(None))
    assert trained.noise == RecurrentNoise((noise,) * bool(noise), 5)
    trained.train_on_batch(np.ones((8, 784, 1), np.float32), np.arange(8))
    after = state.numpy().tolist()
    trained.save(tmp_path / "resume.keras")
    state.assign(before)
    trained.load_weights(tmp_path / "resume.keras")  # masks go on after a resume
    assert state.numpy().tolist() == after != before


def test_keras_must_compute_in_float32() -> None:
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        with pytest.raises(InputError, match=r"float32 \(got mixed_bfloat16"):
            build_model(configure("LSTM"))
    finally:
        keras.config.set_dtype_policy("float32")


def test_the_forget_bias_of_a_gru_is_that_of_its_update_gate() -> None:
    for value in ("chrono", 2.5):
        config = configure("GRU", model__hidden_size=256, model__forget_bias=value)
        _, _, bias = build_model(config).layers[0].get_weights()
        update, *rest = np.split(bias, 3, axis=1)
        times = np.exp(update[0])
        if value == "chrono":
            assert times.min() >= 1 and times.max() <= 783 and times.mean() == pytest.approx(392, rel=0.1)
        else:
            assert (update[0] == 2.5).all()
        assert not update[1].any() and not np.any(rest)
    x = np.zeros((1, 50, 1), np.float32)  # the state is kept where the gate is open
    layer = build_model(configure("GRU", model__forget_bias=100.0)).layers[0]
    state = np.full((1, 6), 0.5, np.float32)
    np.testing.assert_allclose(np.asarray(layer(x, initial_state=state)), state, atol=1e-6)


def test_weight_decay_spares_vectors_and_the_two_biases_of_a_gru(tmp_path: Path) -> None:
    text = GOOD.replace(
        "name='kernel')", "name='kernel')\n        self.b = self.add_weight(shape=(self.units,), name='b')"
    )
    text = text.replace("Last", "Unbiased")  # the name of a layer spares nothing
    for layer, decayed in (
        (f"{write(tmp_path, text)}:Unbiased", {"kernel": True, "b": False}),
        ("GRU", {"kernel": True, "recurrent_kernel": True, "bias": False}),
    ):
        config = configure(layer, optimizer__weight_decay=0.5)
        model = build_model(config)
        compile_model(model, config)
        weights = model.trainable_variables
        for weight in weights:
            weight.assign(keras.ops.ones_like(weight))
        model.optimizer.apply([keras.ops.zeros_like(weight) for weight in weights], weights)  # a step of the decay
        assert {w.path.rpartition("/")[2]: float(keras.ops.max(w)) < 1 for w in model.layers[0].weights} == decayed


@pytest.mark.parametrize(("layer", "units"), [("LSTM", 128), ("GRU", 147), ("SimpleRNN", 255)])
def test_units_are_matched_to_the_baselines_parameters(layer: str, units: int) -> None:
    assert match_units(configure(layer, model__match_parameters=67_850)).model.hidden_size == units


@pytest.mark.parametrize(
    ("factory", "parameters", "units"),
    [
        ("Last(units)", 142, 12),  # 11 units + 10
        ("Last(units)", 31, 2),  # 32: fewer units are not searched
        ("keras.layers.Bidirectional(keras.layers.LSTM(units // 2))", 67_850, 180),  # 8 * 90 * 92 + 1,810: 68,050
    ],
)
def test_units_of_custom_layers_are_matched(factory: str, parameters: int, units: int, tmp_path: Path) -> None:
    file = write(tmp_path, GOOD + f"def f(units):\n    return {factory}\n")
    assert match_units(configure(f"{file}:f", model__match_parameters=parameters)).model.hidden_size == units


@pytest.mark.filterwarnings("ignore:.build\\(\\). was called on layer")  # Keras's advice to write build()
def test_parameters_of_layers_that_their_first_call_builds_are_counted(tmp_path: Path) -> None:
    config = match_units(configure(f"{write(tmp_path, TORCH_STYLE)}:f", model__match_parameters=922))
    assert config.model.hidden_size == 24
    with pytest.raises(ValueError, match=r"A `build\(\)` method must create ALL state"):  # Keras cannot load it
        check_layer(config)


@pytest.mark.parametrize(("factory", "parameters"), [("Last(8)", 150), ("Last(units)", 26)])  # 98, and 2 units: 32
def test_a_number_of_parameters_that_no_units_have_within_5_percent_is_refused(
    factory: str, parameters: int, tmp_path: Path
) -> None:
    file = write(tmp_path, GOOD + f"def f(units):\n    return {factory}\n")
    with pytest.raises(InputError, match=f"match_parameters .*{parameters}"):
        match_units(configure(f"{file}:f", model__match_parameters=parameters))

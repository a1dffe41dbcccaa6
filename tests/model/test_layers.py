"""Layers of one's own: what is admitted, how units are matched, what recurrent noise acts on."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.config import Config
from seqmnist_tf.model import (
    Kernel,
    MeasuredSequential,
    architecture_problems,
    build_model,
    check_layer,
    compile_model,
    custom_objects,
    layers,
    make_trainable,
    match_units,
    module_code,
    recurrent_weights,
    try_layer,
)
from seqmnist_tf.system import InputError

HEAD = "import keras\nfrom keras import ops\n"
GOOD = HEAD + (
    "class Last(keras.layers.Layer):\n"
    "    def __init__(self, units, **kwargs):\n        super().__init__(**kwargs)\n        self.units = units\n"
    "    def build(self, shape):\n        self.kernel = self.add_weight(shape=(shape[-1], self.units), name='kernel')\n"
    "    def call(self, x):\n        return ops.matmul(x[:, -1], self.kernel)\n"
    "    def get_config(self):\n        return {**super().get_config(), 'units': self.units}\n"
)


def configure(layer: str, **values: object) -> Config:
    values = {"model__hidden_size": 6, **values}
    return cfg.validate(
        cfg.with_values(Config(), {"model.layer": layer, **{k.replace("__", "."): v for k, v in values.items()}})
    )


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
    assert architecture_problems(build_model(config), config) == []


def test_a_layer_from_a_file_and_one_from_a_module(tmp_path: Path) -> None:
    config = configure(f"{write(tmp_path, GOOD)}:Last")
    check_layer(config)
    model = build_model(config)
    assert model.output_shape == (None, 10)
    assert list(custom_objects(config)) == ["Last"]
    assert cfg.num_params(config) is None
    assert architecture_problems(build_model(config), config) == []
    other = build_model(configure(f"{tmp_path / 'own.py'}:Last", model__hidden_size=7))
    assert architecture_problems(other, config)[0].startswith("units of its layer last")
    module = configure("keras.layers:GRU")
    check_layer(module)
    assert type(build_model(module).layers[0]) is keras.layers.GRU


BAD = {
    "no such file": (None, "Last", "model.layer must name a file that can be read"),
    "no such name": (GOOD, "Other", "there is no Other in it"),
    "no function": (GOOD + "Number = 3\n", "Number", "must be a layer class or a function of units (got int)"),
    "broken file": ("import keras\n1 +\n", "Last", "importing it raised SyntaxError"),
    "file that raises": ("raise RuntimeError('no')\n", "Last", "importing it raised RuntimeError: no"),
    "file that exits": ("import sys\nsys.exit()\n", "Last", "importing it raised SystemExit"),
    "factory that exits": (HEAD + "def f(units):\n    raise SystemExit('usage')\n", "f", "raised SystemExit: usage"),
    "factory that raises": (HEAD + "def f(units):\n    raise ValueError('odd')\n", "f", "raised ValueError: odd"),
    "no layer": (HEAD + "def f(units):\n    return 3\n", "f", "must return a Keras layer (got int)"),
    "wrong shape": (
        HEAD + "def f(units):\n    return keras.layers.LSTM(units + 1)\n",
        "f",
        "into (n, 6) (got (None, 7))",
    ),
    "sequences": (
        HEAD + "def f(units):\n    return keras.layers.LSTM(units, return_sequences=True)\n",
        "f",
        "into (n, 6) (got (None, 784, 6))",
    ),
    "no call": (
        HEAD + "class Last(keras.layers.Layer):\n    def __init__(self, units):\n        super().__init__()\n",
        "Last",
        "its layer raised NotImplementedError: Layer Last does not have a `call",
    ),
    "no weight": (
        HEAD + "def f(units):\n    return keras.layers.Lambda(lambda x: x[:, :units, 0])\n",
        "f",
        "must have at least one trainable weight",
    ),
    "an error in training": (
        GOOD.replace("call(self, x)", "call(self, x, training=False)").replace(
            "        return ops", "        if training:\n            raise ValueError('not yet')\n        return ops"
        ),
        "Last",
        "in training it raised ValueError: not yet",
    ),
    "no gradient": (
        GOOD.replace("return ops.matmul(x[:, -1], self.kernel)", "return ops.stop_gradient(x[:, -1] @ self.kernel)"),
        "Last",
        "must have a gradient for one of its trainable weights (got none)",
    ),
    "not serialisable": (
        GOOD.replace("        return {**super().get_config(), 'units': self.units}\n", "        return {}\n"),
        "Last",
        "must save and load as a Keras layer",
    ),
    "weights of another type": (
        HEAD + "def f(units):\n    return keras.layers.LSTM(units, dtype='float64')\n",
        "f",
        "must have weights in float32 (got float64)",
    ),
    "a drop-in": (
        "import seqmnist_tf\ndef f(units):\n    return seqmnist_tf.LSTM(units)\n",
        "f",
        "must have keras.layers.LSTM, which training computes on the native kernel (got seqmnist_tf.LSTM)",
    ),
    "random numbers of nobody": (
        GOOD.replace("ops.matmul(x[:, -1]", "ops.matmul(keras.random.normal((1, 1)) + x[:, -1]"),
        "Last",
        "must draw its random numbers with a keras.random.SeedGenerator of its own",
    ),
    "another configuration each time": (
        GOOD.replace("'units': self.units", "'units': self.units, 'when': id(self)").replace(
            "self, units, **kwargs", "self, units, when=None, **kwargs"
        ),
        "Last",
        "must have the same get_config() whenever it is made: when of its layer",
    ),
    "a lost argument": (
        GOOD.replace("self, units, **kwargs", "self, units, scale=1.0, **kwargs")
        .replace("self.units = units\n", "self.units, self.scale = units, scale\n")
        .replace("ops.matmul(", "self.scale * ops.matmul(")
        + "def f(units):\n    return Last(units, scale=2.0)\n",
        "f",
        "must give the same output after it was saved and loaded",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_layers_that_cannot_be_trained_are_refused(name: str, tmp_path: Path) -> None:
    text, attribute, message = BAD[name]
    if text is not None:
        write(tmp_path, text)
    with pytest.raises(InputError) as error:
        check_layer(configure(f"{tmp_path / 'own.py'}:{attribute}"))
    assert message in str(error.value)


SCALED = GOOD + "def f(units, scale, *, mode='a', **kwargs):\n    return Last(int(units * scale), name=mode)\n"


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("f", {"scale": 1, "mode": "b"}, None),
        ("f", {"mode": "b"}, r'model.layer_options of .*own.py:f must have scale \(got {"mode": "b"}\)'),
        ("f", {"scale": 1, "units": 3}, "raised TypeError: f.. got multiple values for argument 'units'"),
        ("f", {"scale": 2}, r"must turn \(n, 784, 1\) into \(n, 6\)"),
        ("f", {"scale": "x"}, "raised ValueError"),
        ("g", {"dt": 0.1}, r"model.layer_options of .*own.py:g may have none \(got dt\)"),
        ("h", {"dt": 0.1, "td": 1}, r"model.layer_options of .*own.py:h may have dt \(got td\)"),
        ("Plain", {"dt": 0.1, "td": 1}, r"model.layer_options of .*own.py:Plain may have dt \(got td\)"),
        ("Last", {"dt": 0.1}, "raised ValueError: Unrecognized keyword arguments"),
    ],
)
def test_constants_are_the_keyword_arguments_of_the_factory(
    name: str, given: dict[str, Any], message: str | None, tmp_path: Path
) -> None:
    text = SCALED + (
        "def g(units):\n    return Last(units)\ndef h(units, dt=1.0):\n    return Last(units)\n"
        "class Plain(Last):\n    def __init__(self, units, dt=1.0):\n        super().__init__(units)\n"
    )
    config = configure(f"{write(tmp_path, text)}:{name}", model__layer_options=given)
    if message is None:
        assert build_model(config).layers[0].name == "b"
        return
    with pytest.raises(InputError, match=message):
        check_layer(config)


BRANCHES = (
    "def f(units):\n"
    "    x = keras.Input((784, 1))\n"
    "    halves = [make(units // 2)(x) for make in (keras.layers.LSTM, keras.layers.GRU)]\n"
    "    return keras.Model(x, keras.layers.Concatenate()(halves))\n"
)
INITIALIZED = GOOD.replace("'units': self.units}", "'units': self.units, 'start': keras.initializers.Zeros()}").replace(
    "self, units, **kwargs", "self, units, start=None, **kwargs"
)


ACTIVATIONS = HEAD + (
    "def f(units):\n"
    "    convolution = keras.layers.Conv1D(4, 9, strides=9, activation='elu')\n"
    "    return keras.Sequential([convolution, keras.layers.ELU(), keras.layers.GRU(units)])\n"
)


@pytest.mark.parametrize(
    ("text", "name"), [(HEAD + BRANCHES, "f"), (INITIALIZED, "Last"), (ACTIVATIONS, "f"), (GOOD, "Last")]
)
def test_a_layer_is_its_configurations_after_it_was_saved(text: str, name: str, tmp_path: Path) -> None:
    """Keras numbers layers; the first may have an activation's name. Two equal initializers are two objects."""
    config = configure(f"{write(tmp_path, text)}:{name}")
    check_layer(config)
    model = build_model(config)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", custom_objects=custom_objects(config))
    assert architecture_problems(loaded, config) == []
    wider = with_units(config, 8)
    assert architecture_problems(loaded, wider) != []


def test_a_large_graph_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure(f"{write(tmp_path, CELL)}:f")
    check_layer(config)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(layers, "TRACE_SECONDS", 0.0)
    monkeypatch.setattr(layers, "LARGE_GRAPH", 20)
    check_layer(config)
    first, *_, last = capsys.readouterr().err.splitlines()
    assert "is tracing its operations, one by one" in first and "keras.layers.RNN and keras.ops.scan" in first
    assert re.search(r"a training step is a graph of \d+ operations, traced in \d+ s here and again in each run", last)


def test_weights_that_begin_with_the_same_random_numbers_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """import keras

def f(units):
    start = keras.initializers.RandomUniform(-1, 1)
    return keras.layers.SimpleRNN(units, kernel_initializer=start, recurrent_initializer=start)
"""
    check_layer(configure(f"{write(tmp_path, text)}:f"))
    assert re.search(r"/kernel and \S+/recurrent_kernel begin with the same numbers", capsys.readouterr().err)
    check_layer(configure(f"{write(tmp_path, text.replace('recurrent_initializer=start', ''))}:f"))
    assert "begin with the same" not in capsys.readouterr().err


def test_a_cell_is_refused_with_what_makes_it_a_layer(tmp_path: Path) -> None:
    file = write(tmp_path, CELL)
    with pytest.raises(InputError, match=r"; a cell needs a function that returns keras\.layers\.RNN of it$"):
        check_layer(configure(f"{file}:Cell"))


CAUSES = {
    "a weight that nothing makes": (
        "h = states[0]\n",
        "h = self.v\n",
        "'Cell' object has no attribute 'v'",
        "h = self.v",
    ),
    "shapes in the loop": ("h @ self.w", "h @ ops.zeros((3, 3))", "Dimensions must be equal, but are 6 and 3", "zeros"),
    "no message": ("h = states[0]\n", "h = states[0]\n        assert h is None\n", "AssertionError (", "assert h"),
    "two lines": ("h = states[0]\n", "raise ValueError('one,\\n  two')\n", "ValueError: one, two (", "raise"),
    "a lost argument": ("'units': self.units}", "}", "missing 1 required positional argument: 'units')", None),
}


@pytest.mark.parametrize("name", CAUSES)
def test_an_error_is_said_by_its_own_message_and_line(name: str, tmp_path: Path) -> None:
    old, new, message, code = CAUSES[name]
    file = write(tmp_path, CELL.replace(old, new))
    with pytest.raises(InputError) as raised:
        check_layer(configure(f"{file}:f"))
    text = str(raised.value)
    assert message in text and "encountered" not in text and "\n" not in text
    lines = file.read_text().splitlines()
    assert code is None or text.endswith(f" ({file}, line {next(n for n, t in enumerate(lines, 1) if code in t)})")
    assert raised.value.__cause__ is not None  # what --traceback prints


def test_a_full_disk_is_no_fault_of_a_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Sequential, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        check_layer(configure(f"{write(tmp_path, CELL)}:f"))


def with_units(config: Config, units: int) -> Config:
    return cfg.with_values(config, {"model.hidden_size": units})


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


def test_a_cell_with_dropout_is_trained_with_recurrent_noise(tmp_path: Path) -> None:
    """Its generator is updated in the loop over the timesteps."""
    config = configure(f"{write(tmp_path, CELL)}:f", train__recurrent_noise=0.1, train__batch_size=8)
    try_layer(config)
    model = build_model(config)
    state = model.layers[0].cell.drop.seed_generator.state
    before = state.numpy().tolist()
    trained = make_trainable(model, config, Kernel(None))
    assert trained.recurrent_noise == (0.1,)
    trained.train_on_batch(np.ones((8, 784, 1), np.float32), np.arange(8))
    assert state.numpy().tolist() != before


def test_a_model_of_another_type_is_not_that_of_the_configuration() -> None:
    model = keras.Sequential(
        [
            keras.Input((784, 1)),
            keras.layers.LSTM(6, name="lstm", dtype="float64"),
            keras.layers.Dense(10, name="logits"),
        ]
    )
    assert architecture_problems(model, configure("LSTM"))[0].startswith("dtype of its layer lstm must be")


def test_a_layer_may_change_its_weights_in_training(tmp_path: Path) -> None:
    text = GOOD.replace("        return ops", "        self.kernel.assign(0.9 * self.kernel)\n        return ops")
    check_layer(configure(f"{write(tmp_path, text)}:Last"))


IN_A_GRAPH = {
    "the rows of a batch": (
        "def call(self, x, states",
        "def get_initial_state(self, batch_size=None):\n        return [ops.zeros((100, self.units))]\n"
        "    def call(self, x, states",
        "InvalidArgumentError: .*100",
    ),
    "the size of a batch": ("h @ self.w", "(h + ops.zeros((x.shape[0], self.units))) @ self.w", "None"),
    "a value": ("h @ self.w", "h @ self.w * float(ops.max(h))", "OperatorNotAllowedInGraphError|TypeError"),
}


@pytest.mark.parametrize("name", IN_A_GRAPH)
def test_what_fails_in_a_graph_only_is_seen_before(name: str, tmp_path: Path) -> None:
    old, new, message = IN_A_GRAPH[name]
    with pytest.raises(InputError, match=rf"in training it raised .*({message})"):
        check_layer(configure(f"{write(tmp_path, CELL.replace(old, new))}:f"))


# A layer that reads a weight which its cell sets in the loop; with noise it is another in each part of a batch.
FAILS_WITH_NOISE = CELL.replace("h = states[0]", "h = states[0]; self.w.assign(ops.clip(self.w, -1.0, 1.0))") + (
    "class Outer(keras.layers.Layer):\n"
    "    def __init__(self, units, **kwargs):\n        super().__init__(**kwargs)\n"
    "        self.units, self.rnn = units, keras.layers.RNN(Cell(units))\n"
    "    def build(self, shape):\n        self.rnn.build(shape)\n"
    "    def compute_output_shape(self, shape):\n        return shape[0], self.units\n"
    "    def call(self, x):\n        return self.rnn(x) + 0.0 * ops.sum(self.rnn.cell.w)\n"
    "    def get_config(self):\n        return {**super().get_config(), 'units': self.units}\n"
)


def test_what_fails_with_recurrent_noise_only_is_seen_before(tmp_path: Path) -> None:
    config = configure(f"{write(tmp_path, FAILS_WITH_NOISE)}:Outer")
    try_layer(config)
    with pytest.raises(InputError, match=r"in fit it raised InaccessibleTensorError"):
        try_layer(cfg.with_values(config, {"train.recurrent_noise": 0.1}))


def test_losses_of_a_layer_are_refused_where_noise_would_drop_them(tmp_path: Path) -> None:
    text = GOOD.replace(
        "        return ops", "        self.add_loss(ops.mean(self.kernel))\n        return ops"
    ).replace("name='kernel'", "name='recurrent_kernel'")
    config = configure(f"{write(tmp_path, text)}:Last")
    try_layer(config)
    noisy = {"train.recurrent_noise": 0.1}
    with pytest.raises(InputError, match=r"must have no losses of its own.*give --train.recurrent-noise 0"):
        check_layer(cfg.with_values(config, noisy))
    write(tmp_path, text.replace("recurrent_kernel", "kernel"))  # the noise does not act on it
    check_layer(cfg.with_values(config, noisy))


def test_a_layer_without_recurrent_weights_is_not_trained_in_parts(tmp_path: Path) -> None:
    config = configure(f"{write(tmp_path, GOOD)}:Last", train__recurrent_noise=0.1)
    assert make_trainable(build_model(config), config, Kernel(None)).recurrent_noise == ()


def test_keras_must_compute_in_float32() -> None:
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        with pytest.raises(InputError, match=r"Keras must compute in float32 \(got mixed_bfloat16: "):
            build_model(configure("LSTM"))
    finally:
        keras.config.set_dtype_policy("float32")
    keras.config.set_floatx("float64")
    try:
        with pytest.raises(InputError, match=r"Keras must compute in float32 \(got float64: "):
            build_model(configure("GRU"))
    finally:
        keras.config.set_floatx("float32")
    assert build_model(configure("LSTM")).dtype == "float32"


def test_a_module_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match=r"model.layer no_such_module:X: importing it raised ModuleNotFoundError"):
        check_layer(configure("no_such_module:X"))


@pytest.mark.parametrize("value", ["own.py", ":X", "a b:X", "own.py:1", "LSTM2"])
def test_names_of_no_layer_are_refused(value: str) -> None:
    with pytest.raises(InputError, match=r"model.layer must be LSTM, GRU, SimpleRNN, MODULE:NAME or FILE.py:NAME"):
        configure(value)


def test_keys_of_the_lstm_are_refused_for_other_layers() -> None:
    for key, value, layer in (("forget_bias", "chrono", "SimpleRNN"), ("initializer", "torch", "GRU")):
        with pytest.raises(InputError, match=f"model.{key} must be .* with model.layer {layer}: it is for LSTM"):
            configure(layer, **{f"model__{key}": value})
    with pytest.raises(InputError, match=r"optimizer.bias_rate must be 1.0 with model.layer GRU: it is for LSTM only"):
        configure("GRU", optimizer__epsilon_placement="outside", optimizer__bias_rate=2.0)


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


def test_weight_decay_spares_the_vectors_of_a_layer_of_ones_own(tmp_path: Path) -> None:
    text = GOOD.replace(
        "name='kernel')", "name='kernel')\n        self.b = self.add_weight(shape=(self.units,), name='b')"
    )
    text = text.replace("Last", "Unbiased")  # the name of a layer spares nothing
    assert decayed_weights(f"{write(tmp_path, text)}:Unbiased") == {"kernel": True, "b": False}


def test_weight_decay_spares_the_two_biases_of_a_gru() -> None:
    assert decayed_weights("GRU") == {"kernel": True, "recurrent_kernel": True, "bias": False}


def decayed_weights(layer: str) -> dict[str, bool]:
    """Return whether each weight of a layer is lower after a step whose gradients are 0."""
    config = configure(layer, optimizer__weight_decay=0.5)
    model = build_model(config)
    compile_model(model, config)
    weights = model.trainable_variables
    for weight in weights:
        weight.assign(keras.ops.ones_like(weight))
    model.optimizer.apply([keras.ops.zeros_like(weight) for weight in weights], weights)
    return {w.path.rpartition("/")[2]: float(keras.ops.max(w)) < 1 for w in model.layers[0].weights}


@pytest.mark.parametrize(("layer", "units"), [("LSTM", 128), ("GRU", 147), ("SimpleRNN", 255)])
def test_units_are_matched_to_the_baselines_parameters(layer: str, units: int) -> None:
    config = match_units(configure(layer, model__match_parameters=67_850))
    assert config.model.hidden_size == units
    # No other number of units is nearer.
    distance = {
        u: abs((cfg.num_params(configure(layer, model__hidden_size=u)) or 0) - 67_850)
        for u in (units - 1, units, units + 1)
    }
    assert min(distance, key=lambda u: distance[u]) == units


@pytest.mark.parametrize(
    ("factory", "units"),
    [
        ("keras.layers.Bidirectional(keras.layers.LSTM(units // 2))", 180),  # 8 * 90 * 92 + 1,810: 68,050
        ("Last(units) if units % 16 == 0 else None", 6160),  # 11 units + 10
        ("Last(units) if units < 100 else None", None),
        ("keras.layers.LSTM(units + 1)", None),
    ],
)
def test_numbers_of_units_that_a_layer_refuses_are_passed_over(factory: str, units: int | None, tmp_path: Path) -> None:
    file = write(tmp_path, GOOD + f"def f(units):\n    return {factory}\n")
    config = configure(f"{file}:f", model__match_parameters=67_850)
    if units is None:
        with pytest.raises(InputError, match=r"must return a Keras layer|must turn"):
            match_units(config)
    else:
        assert match_units(config).model.hidden_size == units


def test_the_code_of_a_layer_from_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_for_code.py").write_text(GOOD)
    monkeypatch.syspath_prepend(tmp_path)
    assert module_code(configure("mine_for_code:Last")) == hashlib.sha256(GOOD.encode()).hexdigest()
    assert module_code(configure("LSTM")) is None
    assert module_code(configure(f"{write(tmp_path, GOOD)}:Last")) is None  # its config_id has the file's content


def test_the_identity_of_a_layer_is_its_files_content(tmp_path: Path) -> None:
    first = configure(f"{write(tmp_path, GOOD)}:Last")
    before = cfg.config_id(first)
    (tmp_path / "moved.py").write_text(GOOD)
    assert cfg.config_id(configure(f"{tmp_path / 'moved.py'}:Last")) == before
    write(tmp_path, GOOD + "# changed\n")
    assert cfg.config_id(first) != before
    assert cfg.config_id(first, cfg.LayerFile(tmp_path, GOOD.encode())) == before
    assert len({cfg.config_id(configure(layer)) for layer in ("LSTM", "GRU", "SimpleRNN")}) == 3


def test_recurrent_noise_acts_on_the_recurrent_weights_alone() -> None:
    random = np.random.RandomState(0)
    x, y = random.standard_normal((8, 784, 1)).astype(np.float32), random.randint(0, 10, 8)
    config = configure("GRU", train__recurrent_noise=0.5, train__batch_size=8)
    model = build_model(config)
    assert [weight.name for weight in recurrent_weights(model.layers[0])] == ["recurrent_kernel"]
    losses: list[Any] = []
    for noise in ((), (0.5,)):
        trained = MeasuredSequential.of(build_model(config), Kernel(None))
        trained.recurrent_noise = noise
        compile_model(trained, config)
        losses.append(trained.train_on_batch(x, y, return_dict=True)["loss"])
    assert losses[0] != losses[1]


@keras.saving.register_keras_serializable(package="test")
class Counting(keras.layers.Layer):
    """Counts its calls in training, in a variable as those of random states and moving means."""

    def build(self, shape: Any) -> None:
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.calls.assign_add(1.0)
        return x


def test_recurrent_noise_lets_other_state_of_a_layer_go_on() -> None:
    counting, lstm = Counting(), keras.layers.LSTM(4)
    sequential = keras.Sequential([keras.Input((12, 1)), counting, keras.layers.Dropout(0.5, seed=1), lstm])
    model = keras.Sequential([keras.Input((12, 1)), sequential, keras.layers.Dense(10)])
    trained = MeasuredSequential.of(model, Kernel(None))
    trained.recurrent_noise = (0.1,)
    compile_model(trained, configure("LSTM"))
    seed_state = sequential.layers[1].seed_generator.state
    before = seed_state.numpy().tolist()
    for _ in range(3):
        trained.train_on_batch(np.ones((8, 12, 1), np.float32), np.arange(8))
    assert float(counting.calls.numpy()) == 3 * cfg.NOISY_PARTS
    assert seed_state.numpy().tolist() != before


class Named(keras.layers.GRU):
    """A layer that says which of its weights are recurrent."""

    @property
    def recurrent_weights(self) -> list[keras.Variable]:
        return [self.cell.bias]


def test_a_layer_may_name_its_recurrent_weights() -> None:
    layer = Named(4)
    layer.build((None, 5, 1))
    assert [weight.name for weight in recurrent_weights(layer)] == ["bias"]
    dense = keras.layers.Dense(3)
    dense.build((None, 2))
    assert recurrent_weights(dense) == []

"""The source of layers that were defined in Python: it stands on its own, and says what it cannot hold."""

from __future__ import annotations

import functools
import importlib
import linecache
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest

import examples.lem
from examples.lem import LEM
from examples.min_lstm import MinLSTM
from seqmnist_tf.config import Config
from seqmnist_tf.model import build_model, with_layer
from seqmnist_tf.model.layer_source import layer_source
from seqmnist_tf.system import InputError

CELLS = (
    """
import keras
import numpy as np
from keras import ops
SCALE = 0.5
""",
    """
%matplotlib inline
def halve(x):
    return np.float32(SCALE) * x


@keras.saving.register_keras_serializable("cells")
class Half(keras.layers.SimpleRNN):
    def call(self, sequences, initial_state=None, **kwargs):
        return halve(ops.abs(super().call(sequences, initial_state, **kwargs)))


data = np.zeros(3)
def Uses(units):
    return Half(units) if len(data) else None
""",
)


def notebook(monkeypatch: pytest.MonkeyPatch, *cells: str) -> dict[str, Any]:
    """Run cells as a notebook does: one namespace without a file, the source of each cell known to linecache."""
    module = ModuleType("notebook_of_the_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for number, cell in enumerate(cells):
        name = f"<cell {number}>"
        monkeypatch.setitem(linecache.cache, name, (len(cell), None, cell.splitlines(True), name))
        code = "".join("\n" if line.startswith("%") else line for line in cell.splitlines(True))
        exec(compile(code, name, "exec"), module.__dict__)
    return module.__dict__


@pytest.mark.slow
def test_a_class_of_a_notebook_brings_what_it_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    names = notebook(monkeypatch, *CELLS)
    config, file = with_layer(Config(), names["Half"])
    assert config.model.layer == "layer.py:Half" and file is not None
    text = file.content.decode()
    for line in ("import numpy as np", "import keras", "SCALE = 0.5", "def halve(x):", "@keras.saving.register"):
        assert line in text
    assert "data" not in text and "Uses" not in text
    sequences = np.random.RandomState(0).standard_normal((2, 784, 1)).astype(np.float32)
    built = build_model(config, file)
    keras.utils.set_random_seed(0)
    own = names["Half"](128)
    own(sequences)
    own.set_weights(built.layers[0].get_weights())
    assert np.abs(own(sequences)).max() > 0
    np.testing.assert_array_equal(own(sequences), built.layers[0](sequences))


LOCALS = """
import keras
from keras import ops
x = history = None
h = keras.ops.zeros(3)
class Base(keras.layers.Layer):
    def call(self, x):
        return x
Cell = Base
def Own(units):
    history = [Cell(name=f"c{h}") for h in range(2)]
    class Inner(keras.layers.SimpleRNN):
        def call(self, sequences, initial_state=None, **kwargs):
            x = sequences
            return super().call(history[0](x), initial_state, **kwargs)
    return Inner(units)
"""


def test_local_variables_are_not_those_of_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    config, file = with_layer(Config(), notebook(monkeypatch, LOCALS)["Own"])
    assert file is not None
    text = file.content.decode()
    assert "Cell = Base" in text and "history = None" not in text and text.index("class Base") < text.index("Cell = ")
    assert build_model(config, file).count_params() == 128 * (1 + 128 + 1) + 1290


def test_a_class_without_methods_is_found_in_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flag = "import enum\nimport keras\n\n\nclass Flag(enum.Flag):\n    OPEN = 1\n\n\n"
    (tmp_path / "gates_of_the_test.py").write_text(
        flag + "def Own(units):\n    return keras.layers.GRU(units, name=Flag.OPEN.name)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config, file = with_layer(Config(), importlib.import_module("gates_of_the_test").Own)
    assert file is not None and b"class Flag(enum.Flag):\n    OPEN = 1\n" in file.content
    assert build_model(config, file).layers[0].name == "OPEN"


def test_a_function_of_a_file_brings_its_cell() -> None:
    config, file = with_layer(Config(), MinLSTM)
    assert file is not None and b"class MinLSTMCell" in file.content
    assert build_model(config, file).count_params() == 128 * 3 * (1 + 128 + 2) + 1290


def test_a_stock_layer_needs_no_file() -> None:
    config, file = with_layer(Config(), keras.layers.GRU)
    assert (config.model.layer, file) == ("GRU", None)


THIRD = 1 / 3


def of_dt(dt: float) -> Any:
    return lambda u: LEM(u, dt=dt)


@pytest.mark.parametrize(
    ("layer", "constants"),
    [
        (functools.partial(LEM, dt=0.5), {"dt": 0.5}),
        (functools.partial(functools.partial(LEM, dt=0.5), dt=0.25), {"dt": 0.25}),
        (lambda units: LEM(units), {}),
        ([lambda units: LEM(units, dt=0.1), lambda units: LEM(units, dt=0.2)][1], {"dt": 0.2}),
        (lambda units, dt=THIRD: examples.lem.LEM(units, **{"dt": dt + 1}), {"dt": THIRD + 1}),
        (of_dt(0.5), {"dt": 0.5}),
        (lambda units: functools.partial(LEM, dt=0.5)(units), {"dt": 0.5}),
    ],
)
def test_constants_of_partials_and_lambdas(layer: Any, constants: dict[str, float]) -> None:
    config, file = with_layer(Config(), layer)
    assert (config.model.layer, config.model.layer_options) == ("layer.py:LEM", constants)
    if constants:
        assert build_model(config, file).layers[0].cell.dt == constants["dt"]


def local_layer() -> Any:
    class Local(keras.layers.SimpleRNN):
        pass

    return Local


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("LSTM", "a layer class or a function of units (got str)"),
        (lambda units: keras.layers.RNN(LEM(units)), "with constants in a functools.partial (got <lambda>)"),
        (lambda units: LEM(units, dt=1 / units), "with constants in a functools.partial (got <lambda>)"),
        (eval("lambda units: LEM(units)", {"LEM": LEM}), "with constants in a functools.partial (got <lambda>)"),
        (functools.partial(LEM, dt=keras), "model.layer_options.dt must be a number, true, false or text (got "),
        (local_layer(), "a functools.partial (got local_layer.<locals>.Local)"),
    ],
)
def test_what_has_no_source_is_refused(layer: Any, message: str) -> None:
    with pytest.raises(InputError) as raised:
        with_layer(Config(), layer)
    assert message in str(raised.value)


def test_a_value_without_source_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    names = notebook(monkeypatch, *CELLS)
    with pytest.raises(InputError, match="layer Uses uses data, a ndarray whose source is not known"):
        layer_source(names["Uses"])
    cell = "import functools, math\npow = functools.partial(math.pow, 2.0)\ndef Power(units):\n    return pow(units)\n"
    with pytest.raises(InputError, match="layer Power uses pow, a partial whose source is not known"):
        layer_source(notebook(monkeypatch, cell)["Power"])  # the file would call Python's own pow
    cell = (
        "import functools as f, io\nopen = f.wraps(io.open)(lambda *a: 0)\ndef Read(units):\n    return open(units)\n"
    )
    assert b"open = " not in layer_source(notebook(monkeypatch, cell)["Read"])[1]  # as IPython's


def test_a_definition_that_was_run_twice_is_the_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = "import keras\ndef Own(units):\n    return keras.layers.GRU(units)\ndef Own(units):\n    return None\n"
    _, source = layer_source(notebook(monkeypatch, cell)["Own"])
    assert b"return None" in source and b"GRU" not in source

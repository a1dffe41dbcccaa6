"""Examples in docstrings run.

Examples in examples/: cells against NumPy, and that layers are admitted, matched and compared as they say.
"""

from __future__ import annotations

import doctest
import importlib
import runpy
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from examples import cornn, lem, min_gru, ur_lstm
from seqmnist_tf import config as cfg
from seqmnist_tf.model import build_model, check_layer, match_units, recurrent_weights
from seqmnist_tf.system import read_json_object
from seqmnist_tf.tune import SearchFolder, parse_space
from seqmnist_tf.tune.__main__ import check_space
from tests.model.numpy_lstm import sigmoid
from tests.toy import ROOT

# Units that match the baseline's 67,850 parameters, the parameters of that model, and what recurrent noise acts on.
EXAMPLES = [
    ("board/lstm_cell:ChronoLSTM", 128, 67_850, ["recurrent_kernel"]),
    ("cornn:CoRNN", 181, 67_704, ["recurrent_kernel"]),
    ("lem:LEM", 128, 67_850, ["recurrent_kernel", "recurrent_kernel_y"]),
    ("mgu:MGU", 180, 67_510, []),
    ("min_gru:MinGRU", 180, 67_690, []),
    ("min_lstm:MinLSTM", 147, 67_630, []),
    ("stacked_lstm:StackedLSTM", 74, 67_350, ["recurrent_kernel", "recurrent_kernel"]),
    ("ur_lstm:URLSTM", 128, 67_850, ["recurrent_kernel"]),
    ("zoneout:ZoneoutLSTM", 128, 67_850, ["recurrent_kernel"]),
]


@pytest.mark.parametrize(
    "module", ["config.presets", "config.sections", "config.values", "data.pixel_orders", "train.metrics"]
)
def test_examples_run(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"seqmnist_tf.{module}"), optionflags=doctest.ELLIPSIS)
    assert result.attempted and not result.failed


def numpy_ur_lstm(weights: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """Return the last state of a UR-LSTM in float64, written gate by gate from the paper's equations.

    The effective gate is computed as in the authors' later code, g = (1 - 2 r) f**2 + 2 r f.
    """
    kernel, recurrent, bias = (w.astype(np.float64) for w in weights)
    units = len(recurrent)
    parts = {gate: slice(n * units, (n + 1) * units) for n, gate in enumerate("fruo")}
    h = c = np.zeros((len(x), units))
    for t in range(x.shape[1]):
        f, r, u, o = (x[:, t] @ kernel[:, p] + h @ recurrent[:, p] + bias[p] for p in parts.values())
        f, r = sigmoid(f), sigmoid(r)
        g = (1 - 2 * r) * f**2 + 2 * r * f
        c = g * c + (1 - g) * np.tanh(u)
        h = sigmoid(o) * np.tanh(c)
    return h


def numpy_lem(weights: list[np.ndarray], x: np.ndarray, dt: float) -> np.ndarray:
    """Return the last y of a LEM in float64, written gate by gate from the paper's equations."""
    kernel, recurrent, recurrent_y, bias = (w.astype(np.float64) for w in weights)
    units = len(recurrent)
    parts = {gate: slice(n * units, (n + 1) * units) for n, gate in enumerate("abzy")}
    y = z = np.zeros((len(x), units))
    for t in range(x.shape[1]):
        read = {gate: x[:, t] @ kernel[:, part] + bias[part] for gate, part in parts.items()}
        a, b, new = (read[gate] + y @ recurrent[:, parts[gate]] for gate in "abz")
        a, b = dt * sigmoid(a), dt * sigmoid(b)
        z = z + b * (np.tanh(new) - z)
        y = y + a * (np.tanh(read["y"] + z @ recurrent_y) - y)
    return y


def numpy_cornn(weights: list[np.ndarray], x: np.ndarray, dt: float, gamma: float, epsilon: float) -> np.ndarray:
    """Return the last y of a coRNN in float64, its weights of y and z apart, as in the paper."""
    kernel, recurrent, bias = (w.astype(np.float64) for w in weights)
    of_y, of_z = np.split(recurrent, 2)
    y = z = np.zeros((len(x), len(of_y)))
    for t in range(x.shape[1]):
        force = np.tanh(y @ of_y + z @ of_z + x[:, t] @ kernel + bias) - gamma * y
        z = (1 - dt * epsilon) * z + dt * force
        y = y + dt * z
    return y


def numpy_min_gru(weights: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """Return the last state of two stacked minGRUs in float64, a whole layer after the other."""
    for kernel, bias in (weights[:2], weights[2:]):
        gate, candidate = np.split(x @ kernel.astype(np.float64) + bias, 2, axis=-1)
        h, states = np.zeros_like(gate[:, 0]), []
        for z, new in zip(*np.moveaxis(np.stack([sigmoid(gate), candidate]), 2, 1), strict=True):
            h = h + z * (new - h)
            states.append(h)
        x = np.stack(states, axis=1)
    return x[:, -1]


@pytest.mark.parametrize(
    ("factory", "reference", "constants"),
    [
        (min_gru.MinGRU, numpy_min_gru, {}),
        (ur_lstm.URLSTM, numpy_ur_lstm, {}),
        (lem.LEM, numpy_lem, {"dt": 0.31}),
        (cornn.CoRNN, numpy_cornn, {"dt": 0.5, "gamma": 0.4, "epsilon": 0.8}),
    ],
)
def test_a_cell_computes_its_equations_and_loads_as_it_was_saved(
    factory: Any, reference: Any, constants: dict[str, float], tmp_path: Path
) -> None:
    random = np.random.RandomState(0)
    x = random.standard_normal((3, 12, 2)).astype(np.float32)
    model = keras.Sequential([keras.Input((12, 2)), factory(5, **constants)])
    weights = [0.5 * random.standard_normal(w.shape) for w in model.get_weights()]
    model.set_weights(weights)
    states = keras.ops.convert_to_numpy(model(x))
    expected = reference(model.get_weights(), x, **constants)
    np.testing.assert_allclose(states, expected, atol=2e-6)  # float32, 12 steps
    assert np.ptp(states) > 0.1
    model.save(tmp_path / "cell.keras")
    loaded = keras.saving.load_model(tmp_path / "cell.keras")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(loaded(x)), states)


@pytest.mark.parametrize(
    ("factory", "constants", "bound", "shapes"),
    [
        (lem.LEM, {"dt": 0.21}, 64**-0.5, [(1, 256), (64, 192), (64, 64), (256,)]),
        (cornn.CoRNN, {"dt": 0.042, "gamma": 2.7, "epsilon": 4.7}, 129**-0.5, [(1, 64), (128, 64), (64,)]),
    ],
)
def test_the_authors_numbers_and_start_values(factory: Any, constants: Any, bound: float, shapes: Any) -> None:
    keras.utils.set_random_seed(0)
    layer = factory(64)
    layer.build((None, 784, 1))
    assert {key: layer.cell.get_config()[key] for key in constants} == constants
    assert [tuple(weight.shape) for weight in layer.weights] == shapes
    for weight in layer.get_weights():
        assert np.abs(weight).max() <= bound
        assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.25)  # of a uniform distribution, of 64 values
    assert len({weight.ravel()[0] for weight in layer.get_weights()}) == len(shapes)  # each has its own numbers


def test_ur_lstm_starts_with_uniform_gates_and_the_lstms_parameters() -> None:
    model = build_model(cfg.with_values(cfg.Config(), {"model.layer": f"{ur_lstm.__file__}:URLSTM"}))
    kernel, recurrent, bias = (weight.numpy() for weight in model.layers[0].weights)
    f, r, u, o = np.split(bias, 4)
    gates = np.sort(sigmoid(f))
    assert gates[0] >= 1 / 128 and gates[-1] <= 1 - 1 / 128
    # The largest distance of 128 uniform values from their distribution is above 0.2 once in 10,000 draws.
    assert np.abs(gates - (np.arange(128) + 0.5) / 128).max() < 0.2
    np.testing.assert_array_equal(r, -f)
    assert not u.any() and not o.any()
    assert (kernel.shape, recurrent.shape, model.count_params()) == ((1, 512), (128, 512), 67_850)
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(128), atol=1e-5)


def test_min_gru_starts_with_time_constants_of_up_to_783_steps() -> None:
    model = build_model(cfg.with_values(cfg.Config(), {"model.layer": f"{min_gru.__file__}:MinGRU"}))
    gates = []
    for kernel, bias in (model.layers[0].weights[:2], model.layers[0].weights[2:]):
        gate, candidate = np.split(bias.numpy(), 2)
        gates.append(gate)
        times = np.sort(np.exp(-gate.astype(np.float64)))
        assert times[0] >= 1 and times[-1] <= 783.001
        # The largest distance of 128 uniform values from their distribution is above 0.2 once in 10,000 draws.
        assert np.abs((times - 1) / 782 - (np.arange(128) + 0.5) / 128).max() < 0.2
        assert not candidate.any() and kernel.shape[-1] == 256
    assert (gates[0] != gates[1]).any()


@pytest.mark.parametrize(("layer", "units", "parameters", "noisy"), EXAMPLES)
def test_the_examples_are_admitted_and_matched(layer: str, units: int, parameters: int, noisy: list[str]) -> None:
    file, _, name = layer.partition(":")
    values = {"model.layer": f"{ROOT / 'examples' / file}.py:{name}", "model.match_parameters": 67_850}
    config = match_units(cfg.validate(cfg.with_values(cfg.Config(), values)))
    check_layer(config)
    model = build_model(config)
    assert (config.model.hidden_size, model.count_params()) == (units, parameters)
    assert [weight.name for weight in recurrent_weights(model.layers[0])] == noisy


BOARD = runpy.run_path(str(ROOT / "scripts/board"))


def test_the_cells_of_the_board_share_their_points_and_grow_at_an_edge() -> None:
    """Also holds the points, which are the protocol's: another SciPy must draw the same."""
    cells = [cell for cell in BOARD["CELLS"] if cell != "shared"]
    (second,) = BOARD["draw_points"](BOARD["space_of"]("lstm"), 1, 0, 1)
    assert list(second.values()) == [0.000614, 0.741, 0.1, 0]
    drawn = {cell: BOARD["draw_points"](BOARD["space_of"](cell), 0, 0, 24) for cell in cells}
    shared = [list(point.values()) for point in drawn["lstm"]]
    assert shared[0] == [0.0151, 2.38, 0.03, 0.1] and shared[23] == [0.0279, 0.112, 0.03, 1]
    assert drawn["cornn"][9]["model.layer_options.epsilon"] == 5.68
    for cell in cells:
        assert [list(point.values())[: 3 if cell == "min_gru" else 4] for point in drawn[cell]] == [
            point[: 3 if cell == "min_gru" else 4] for point in shared
        ]
    space = BOARD["space_of"]("lem")
    middle, edge = {"optimizer.lr": 0.003, "model.layer_options.dt": 0.2}, {"model.layer_options.dt": 0.07}
    assert BOARD["grow"](space, middle) is None
    grown = BOARD["grow"](space, {**middle, **edge})
    assert grown["model.layer_options.dt"] == {"low": 0.05 / 3, "high": 0.05}
    assert {**grown, "model.layer_options.dt": None} == {**space, "model.layer_options.dt": None}
    fast = BOARD["draw_points"](BOARD["grow"](space, {**middle, "optimizer.lr": 0.017}), 0, 18, 6)
    assert all(0.03 <= point["optimizer.lr"] <= 0.09 for point in fast)
    assert [point["optimizer.grad_clip_norm"] for point in fast] == [point[1] for point in shared[18:]]


LAST_SEEDS = (100, 101, 102)


@pytest.mark.parametrize("high_is_best", [False, True])
def test_a_search_of_the_board_halves_its_points_and_goes_on_where_the_best_rate_is_at_an_edge(
    high_is_best: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores follow from the learning rate alone, which is best at its highest, or at 0.004."""
    rungs: list[tuple[Any, ...]] = []

    def score(point: dict[str, Any]) -> float:
        return point["optimizer.lr"] if high_is_best else 1 - abs(point["optimizer.lr"] - 0.004)

    def run_rung(start: Any, folder: Any, rung: str, points: list[Any], epochs: int, seed: int, flags: Any) -> Any:
        rungs.append((rung, len(points), epochs, seed))
        return [score(point) for point in points]

    monkeypatch.setitem(BOARD["main"].__globals__, "run_rung", run_rung)
    monkeypatch.chdir(ROOT)
    BOARD["main"](["second", "lem", str(tmp_path)])

    def expected(prefix: str, finalists: int) -> list[tuple[Any, ...]]:
        rows = [(f"{prefix}rung1", 18, 3, 100), (f"{prefix}rung2", 6, 6, 100)]
        rows += [(f"{prefix}rung3_seed{seed}", finalists, 15, seed) for seed in LAST_SEEDS]
        if high_is_best:
            rows += [(f"{prefix}more1", 6, 3, 100), (f"{prefix}more2", 2, 6, 100)]
            rows += [(f"{prefix}more3_seed{seed}", 1, 15, seed) for seed in LAST_SEEDS]
        return rows

    known = [(f"known_seed{seed}", 1, 15, seed) for seed in LAST_SEEDS]
    assert rungs == expected("", 2) + known + expected("second_", 3)
    recipes = {
        name: cfg.flatten(cfg.with_values(cfg.Config(), cfg.read_values(tmp_path / "lem" / f"{name}.json")))
        for name in ("best", "first_best", "second_best")
    }
    for number, name in enumerate(("first_best", "second_best")):
        drawn = BOARD["draw_points"](BOARD["space_of"]("lem"), number, 0, 18)
        rate = recipes[name]["optimizer.lr"]
        assert 0.03 < rate <= 0.09 if high_is_best else rate == max(drawn, key=score)["optimizer.lr"]
    best = recipes["best"]
    assert best["optimizer.lr"] in {recipes[name]["optimizer.lr"] for name in ("first_best", "second_best")}
    assert (best["task.validation_size"], best["test.enabled"], best["train.n_epochs"]) == (0, True, 15)
    assert best["model.match_parameters"] == 67_850 and set(best["model.layer_options"]) == {"dt"}


def test_the_mean_of_three_seeds_chooses_and_that_of_two_lets_a_range_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The middle of the range wins by two seeds, so that nothing grows; by three, the known point wins."""

    def run_rung(start: Any, folder: Any, rung: str, points: list[Any], epochs: int, seed: int, flags: Any) -> Any:
        assert "more" not in rung
        if rung.startswith("known"):
            return [0.9]
        middle = [1 - abs(point["optimizer.lr"] - 0.004) / 10 for point in points]
        return [0.1] * len(points) if seed == LAST_SEEDS[-1] else middle

    monkeypatch.setitem(BOARD["main"].__globals__, "run_rung", run_rung)
    monkeypatch.chdir(ROOT)
    BOARD["main"](["lem", str(tmp_path)])
    recipe = cfg.flatten(cfg.with_values(cfg.Config(), cfg.read_values(tmp_path / "lem" / "best.json")))
    assert recipe["optimizer.lr"] == 0.0018 and recipe["model.layer_options"] == {"dt": 0.21}
    assert not (tmp_path / "lem" / "first_best.json").exists()


@pytest.mark.parametrize("cell", [cell for cell in BOARD["CELLS"] if cell != "shared"])
def test_the_points_of_the_board_suit_their_cell(cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    points = BOARD["draw_points"](BOARD["space_of"](cell), 0, 0, 18) + BOARD["CELLS"][cell].get("known", [])
    shared = {**cfg.read_values(Path(BOARD["BASE"])), **BOARD["fixed_values"](cell)}
    base = cfg.with_values(cfg.preset("baseline"), shared)
    document = {"point": {"choices": points}}
    check_space(SearchFolder(tmp_path, "random", base, parse_space(document), document, "baseline"))
    matched = match_units(cfg.with_values(base, points[0]))
    assert abs(build_model(matched).count_params() / 67_850 - 1) < 0.005


def test_the_settings_of_strong_are_added_and_taken_away_one_at_a_time() -> None:
    """``examples/board/settings_*.json`` follow from the two presets."""
    plain, strong = (cfg.flatten(cfg.preset(name)) for name in ("baseline", "strong"))
    differing = {key for key in strong if strong[key] != plain[key] and key != "train.n_epochs"}
    clip = {key for key in differing if key.startswith("optimizer.grad_clip")}  # one setting: not both may be set
    settings = [clip, *({key} for key in differing - clip)]
    for name, file, other in (("baseline", "added", strong), ("strong", "taken", plain)):
        (row,) = parse_space(read_json_object(ROOT / f"examples/board/settings_{file}.json"))
        base = cfg.preset(name)
        search = SearchFolder(ROOT, "random", base, (row,), {}, name)
        made = [search.config({row.name: label}) for label in row.choices]
        expected = [base, *(cfg.with_values(base, {key: other[key] for key in setting}) for setting in settings)]
        assert all(row.choices) and len(row.choices) == 9  # each has a label
        assert len(settings) == 8 and sorted(map(cfg.config_id, made)) == sorted(map(cfg.config_id, expected))

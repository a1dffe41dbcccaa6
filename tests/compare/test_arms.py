"""Seeds, arms, and the command lines of their runs. Nothing is trained here."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.compare import parse_seeds
from seqmnist_tf.compare.arms import nearest_preset, parse_arms, preset_of
from seqmnist_tf.compare.folder import default_directory
from seqmnist_tf.compare.recipe import escape_latex
from seqmnist_tf.engine import require_engine_options
from seqmnist_tf.system import InputError
from seqmnist_tf.train import parse_train_arguments
from tests.compare.runs import command_of, completed_run, some_right


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0-5", (0, 1, 2, 3, 4, 5)), ("4", (4,)), ("0,2,4", (0, 2, 4)), ("7,0-2", (0, 1, 2, 7)), ("3-3", (3,))],
)
def test_seeds(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == parse_seeds(seeds) == seeds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5-2", "the range 5-2 falls"),
        ("1,1", "1 is given twice"),
        ("0-3,2", "2 is given twice"),
        ("", "must be seeds such as"),
        ("a", "must be seeds such as"),
        ("-1", "must be seeds such as"),
        ("0-", "must be seeds such as"),
        ("1.5", "must be seeds such as"),
        ("4294967296", "train.seed must be"),
        ("0-999999999", "at most 1,000 seeds"),
    ],
)
def test_seeds_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_seeds(text)


def test_default_folders_of_long_arms_differ() -> None:
    first, second = (default_directory(["a" * 60, "b" * 45, last]) for last in "cd")
    assert first != second and len(first.name) == len(second.name) == 109
    assert default_directory(["strong", "gru"]).name == "compare-strong-gru"


def test_a_name_that_no_file_can_have_is_bad_input() -> None:
    with pytest.raises(InputError, match=r"cannot look at x+: File name too long"):
        parse_arms(["strong", "x" * 300], {})


def test_a_layer_takes_the_recipe_of_the_first_arm() -> None:
    first, layer, own = parse_arms(["strong", "GRU", "own_module:Layer"], {"train.n_epochs": 3})
    assert (first.name, layer.name, own.name) == ("strong", "GRU", "Layer")
    assert first.config.train.n_epochs == layer.config.train.n_epochs == 3
    assert not first.matched and layer.matched and own.matched
    sized = replace(layer, config=cfg.with_values(layer.config, {"model.match_parameters": 67_850}))  # as it is trained
    assert nearest_preset(sized.config) == "gru"
    assert {preset_of(arm, first) for arm in (first, sized, own)} == {"strong"}
    (adam,) = parse_arms([cfg.preset("adam")], {"train.n_epochs": 3})
    assert preset_of(adam, first) == "adam"
    difference = {
        key: value for key, value in cfg.flatten(layer.config).items() if value != cfg.flatten(first.config)[key]
    }
    assert difference == {"model.layer": "GRU"} and layer.notes == ()
    assert own.config.model.forget_bias is None
    assert own.notes == (
        'Layer: `model.forget_bias` is not applied to it and is left at its default, null (strong has "chrono").',
    )


def test_a_layer_takes_no_value_that_only_an_lstm_has() -> None:
    _, layer = parse_arms(["original", "GRU"], {})
    assert (layer.config.model.initializer, layer.config.optimizer.bias_rate) == ("keras", 1)
    assert [note.split("`")[1] for note in layer.notes] == ["model.initializer", "optimizer.bias_rate"]
    first, gru, layer = parse_arms(["strong", "GRU", "SimpleRNN"], {"model.forget_bias": 1.0})
    assert [arm.config.model.forget_bias for arm in (first, gru, layer)] == [1.0, 1.0, None]
    assert layer.notes[0].endswith("(strong has 1.0).")


def test_constants_are_those_of_layers_of_ones_own() -> None:
    values = {"model.layer_options.dt": 0.5}
    file = cfg.LayerFile(cfg.Source(Path("layer.py"), b""))
    own = cfg.Config(model=cfg.Model(layer="layer.py:A", layer_options={"dt": 1, "on": True}))
    arms = parse_arms(["strong", "GRU", "m:Layer", (own, file)], values)
    assert [arm.config.model.layer_options for arm in arms] == [{}, {}, {"dt": 0.5}, {"dt": 0.5, "on": True}]
    first, other = parse_arms([arms[2].config, "m:Other"], {})
    assert (first.config, other.config.model.layer_options) == (arms[2].config, {})


def test_names_are_unique_and_can_be_folders(tmp_path: Path) -> None:
    (tmp_path / "a b.json").write_text('{"train": {"n_epochs": 2, "seed": 7}}')
    completed_run(tmp_path / "results/strong/seed0", 0, some_right(3))
    words: list[str | Path] = [
        "strong",
        tmp_path / "a b.json",
        tmp_path / "results/strong",
        tmp_path / "results/strong/seed0",
    ]
    arms = parse_arms([*words], {})
    assert [arm.name for arm in arms] == ["strong", "a-b", "strong-2", "strong-seed0"]
    assert arms[1].config.train.seed == 0  # seeds are given by --seeds
    assert default_directory([arm.name for arm in arms]) == Path("runs/compare-strong-a-b-strong-2-strong-seed0")


@pytest.mark.parametrize(
    ("words", "overrides", "message"),
    [
        (["nothing"], {}, "unknown arm 'nothing' .allowed: a preset .baseline, adam"),
        ([], {}, "give at least one arm"),
        (["GRU", "strong"], {}, "needs a first arm whose recipe it takes"),
        (["baseline", "GRU"], {"model.layer": "GRU"}, "model.layer is set by the arm GRU"),
        (["gru", "GRU"], {"model.initializer": "torch"}, "model.initializer must be"),
        (["strong"], {"train.seed": 1}, "train.seed is set by --seeds"),
        (["strong"], {"test.enabled": False}, "test.enabled must be true"),
        (["strong"], {"train.n_epochs": 0}, "train.n_epochs must be"),
        (
            ["strong", "GRU"],
            {"model.layer_options.dt": 1},
            r"layer_options.dt needs a layer of one's own among the arms",
        ),
        (
            ["runs", "GRU"],
            {"model.hidden_size": 9},
            "hidden_size has no effect: GRU gets the units that match the param",
        ),
        (["missing.json"], {}, "cannot read configuration missing.json"),
        (["folder"], {}, "no run in folder"),
    ],
)
def test_arms_that_are_refused(words: list[str], overrides: dict[str, Any], message: str, in_tmp: Path) -> None:
    (in_tmp / "folder").mkdir()
    completed_run(in_tmp / "runs/a", 0, some_right(3))
    with pytest.raises(InputError, match=message):
        parse_arms(words, overrides)


def test_the_units_of_one_arm_may_change(in_tmp: Path) -> None:
    completed_run(in_tmp / "runs/a", 0, some_right(3))
    _, strong, _ = parse_arms(["runs", "strong", "GRU"], {"model.hidden_size": 9})
    assert strong.config.model.hidden_size == 9


def test_runs_of_an_arm_belong_together(in_tmp: Path) -> None:
    completed_run(in_tmp / "runs/a", 0, some_right(3))
    completed_run(in_tmp / "runs/b", 0, some_right(3))
    with pytest.raises(InputError, match="two runs of seed 0: runs/a and runs/b"):
        parse_arms(["runs"], {})
    completed_run(in_tmp / "others/a", 0, some_right(3))
    completed_run(in_tmp / "others/b", 1, some_right(3), train__n_epochs=2, optimizer__lr=0.5)
    with pytest.raises(InputError, match="others has runs of different configurations"):
        parse_arms(["others"], {})


COMMANDS: list[dict[str, Any]] = [
    {},
    {"model.forget_bias": "chrono", "optimizer.name": "Adam", "optimizer.lr": 0.01},
    {"model.layer": "own file.py:Layer", "model.hidden_size": 13, "model.match_parameters": 150},
    {"optimizer.grad_clip_value": None, "optimizer.epsilon": 1e-8, "train.shuffle": True, "tensorboard.enabled": True},
    {"model.layer": "m:f", "model.layer_options": {"dt": 0.5, "n": 1, "on": True, "mode": "a b", "text": "1"}},
    {"task.permutation": "seed:4", "data.dir": "a folder", "wandb.mode": "disabled", "train.threads": 2},
]


@pytest.mark.parametrize("values", COMMANDS, ids=lambda values: ",".join(values))
def test_the_command_of_a_run_is_parsed_to_its_configuration(values: dict[str, Any]) -> None:
    config = cfg.validate(cfg.with_values(cfg.preset("baseline"), {"train.seed": 3, **values}))
    words = shlex.split(command_of(config, Path("runs/a b")))
    assert words[:3] == ["python", "-m", "seqmnist_tf.train"]
    parsed = parse_train_arguments(words[3:])
    assert parsed.config == config
    assert parsed.options.run_dir == Path("runs/a b")


@pytest.mark.parametrize("name", cfg.PRESETS)
def test_the_command_of_a_preset_is_short(name: str) -> None:
    config = cfg.with_values(cfg.preset(name), {"train.seed": 2})
    assert command_of(config, Path("r")) == f"python -m seqmnist_tf.train {name} --train.seed 2 --run-dir r"


def test_without_ray_the_message_has_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"--workers needs Ray, which is not installed \(python -m pip install"):
        require_engine_options(2, None)
    require_engine_options(None, None)


def test_latex_is_escaped() -> None:
    assert escape_latex(r"a_b 5 % & {x} \n ~^$#") == (
        r"a\_b 5 \% \& \{x\} \textbackslash{}n \textasciitilde{}\textasciicircum{}\$\#"
    )


def test_what_is_not_the_recipe_of_runs_is_left_out(tmp_path: Path) -> None:
    values = {"data__dir": "/elsewhere", "wandb__mode": "offline", "train__threads": 7, "train__kernel": "keras"}
    completed_run(tmp_path / "a", 5, some_right(3), optimizer__lr=0.5, **values)
    _, layer = parse_arms([tmp_path / "a", "GRU"], {})
    expected = cfg.with_values(cfg.Config(), {"optimizer.lr": 0.5, "model.layer": "GRU", "model.hidden_size": 4})
    expected = cfg.with_values(expected, {"task.limit_test": 30, "train.n_epochs": 2})
    assert layer.config == expected
    assert json.loads(cfg.config_to_json(layer.config))["train"]["seed"] == 0

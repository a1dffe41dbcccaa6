"""Seeds, arms, and the command lines of their runs. Nothing is trained here."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.compare import parse_seeds
from seqmnist_tf.compare.arms import Arm, nearest_preset, parse_arms
from seqmnist_tf.compare.plan import plan_jobs
from seqmnist_tf.system import InputError
from seqmnist_tf.train import parse_train_arguments
from tests.compare.runs import completed_run, make_arm, some_right


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0-5", (0, 1, 2, 3, 4, 5)), ("4", (4,)), ("0,2,4", (0, 2, 4)), ("7,0-2", (0, 1, 2, 7)), ("3-3,3", (3,))],
)
def test_seeds(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == parse_seeds(seeds) == seeds


@pytest.mark.parametrize("text", ["5-2", "", "a", "-1", "0-", "1.5", "4294967296"])
def test_seeds_that_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_seeds(text)


def test_a_layer_takes_the_recipe_of_the_first_arm() -> None:
    first, layer, own = parse_arms(["strong", "GRU", "own_module:Layer"], {"train.n_epochs": 3})
    assert (first.name, layer.name, own.name) == ("strong", "GRU", "Layer")
    assert {arm.config.train.n_epochs for arm in (first, layer, own)} == {3}
    assert {arm.preset for arm in (first, layer, own)} == {"strong"}
    assert (first.matched, layer.matched, own.matched) == (False, True, True)
    assert cfg.differences(layer.config, first.config) == {"model.layer": "GRU"} and layer.notes == ()
    assert own.config.model.forget_bias is None and "`model.forget_bias`" in own.notes[0]
    assert parse_arms([cfg.preset("adam")], {"train.n_epochs": 3})[0].preset == "adam"


def test_a_layer_takes_no_value_that_it_does_not_have() -> None:
    _, layer = parse_arms(["original", "GRU"], {})
    assert (layer.config.model.initializer, layer.config.optimizer.bias_rate) == ("keras", 1)
    words = ["strong", "GRU", "SimpleRNN", "m:Layer"]
    arms = parse_arms(words, {"model.forget_bias": 1.0, "model.layer_options.dt": 0.5})
    assert [arm.config.model.forget_bias for arm in arms] == [1.0, 1.0, None, None]
    assert [arm.config.model.layer_options for arm in arms] == [{}, {}, {}, {"dt": 0.5}]
    first, other = parse_arms([arms[3].config, "m:Other"], {})
    assert (first.config, other.config.model.layer_options) == (arms[3].config, {})


def test_what_is_not_the_recipe_of_runs_is_left_out(tmp_path: Path) -> None:
    values = {"data__dir": "/elsewhere", "wandb__mode": "offline", "train__threads": 7, "train__kernel": "keras"}
    completed_run(tmp_path / "a", 5, some_right(3), optimizer__lr=0.5, **values)
    _, layer = parse_arms([tmp_path / "a", "GRU"], {"wandb.mode": "disabled"})
    expected = {"optimizer.lr": 0.5, "model.layer": "GRU", "model.hidden_size": 4, "wandb.mode": "disabled"}
    assert layer.config == cfg.with_values(cfg.Config(), {**expected, "task.limit_test": 30, "train.n_epochs": 2})


def test_names_are_unique_and_can_be_folders(tmp_path: Path) -> None:
    (tmp_path / "a b.json").write_text('{"train": {"n_epochs": 2, "seed": 7}}')
    completed_run(tmp_path / "results/Strong/seed0", 0, some_right(3), task__limit_test=0)
    paths = [tmp_path / name for name in ("a b.json", "results/Strong", "results/Strong/seed0")]
    arms = parse_arms(["strong", *paths], {})
    assert [arm.name for arm in arms] == ["strong", "a-b", "Strong-2", "Strong-seed0"]
    assert arms[1].config.train.seed == 0  # seeds are given by --seeds


@pytest.mark.parametrize(
    ("words", "overrides", "message"),
    [
        (["nothing"], {}, "nothing"),
        (["GRU", "strong"], {}, "GRU"),
        (["strong"], {"test.enabled": False}, "test.enabled"),
        (["strong"], {"train.n_epochs": 0}, "train.n_epochs"),
        (["missing.json"], {}, "missing.json"),
        (["folder"], {}, "folder"),
        (["twice"], {}, "twice/a and twice/b"),
        (["mixed"], {}, "mixed"),
        (["runs", "permuted"], {}, "task.permutation"),
        (["runs", "held-out"], {}, "task.validation_size"),
    ],
)
def test_arms_that_are_refused(words: list[str], overrides: dict[str, Any], message: str, in_tmp: Path) -> None:
    (in_tmp / "folder").mkdir()
    make_arm(in_tmp / "runs", {0: 3})
    make_arm(in_tmp / "permuted", {0: 3}, task__permutation="urnn92916")
    make_arm(in_tmp / "held-out", {0: 3}, task__validation_size=30)
    for name, seed, rate in (("twice", 0, 0.001), ("mixed", 1, 0.5)):
        completed_run(in_tmp / name / "a", 0, some_right(3))
        completed_run(in_tmp / name / "b", seed, some_right(3), optimizer__lr=rate)
    with pytest.raises(InputError, match=message):
        parse_arms(words, overrides)


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
    (job,) = plan_jobs([Arm("arm", config, nearest_preset(config))], [3], Path("runs/a b"))["arm"]
    words = shlex.split(job.command)
    assert words[:3] == ["python", "-m", "seqmnist_tf.train"]
    parsed = parse_train_arguments(words[3:])
    assert (parsed.config, parsed.options.run_dir) == (config, job.path)

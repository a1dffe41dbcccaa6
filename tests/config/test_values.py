"""Configuration: declaration, JSON, validation, identity."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.config import Config
from seqmnist_tf.system import InputError
from tests.toy import ROOT

# The block as the original project's README prints it: no outer braces, and commas after last entries.
UPSTREAM_BLOCK = """
  "criterion": {"name": "CrossEntropyLoss"},
  "model": {
      "input_size": 1,
      "hidden_size": 128,
      "output_size": 10,
  },
  "optimizer": {
      "grad_clip_value": 1.0,
      "lr": 0.001,
      "name": "RMSProp",
      "weight_decay": 0.0,
  },
  "task": {"T": 784, "name": "sequential_mnist"},
  "test": {"batch_size": 1024},
  "train": {"batch_size": 100, "n_epochs": 100},
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "config.json"
    path.write_text(text, encoding="utf-8-sig")  # with a mark, as by Windows' Notepad
    return path


def test_upstreams_block_is_the_baseline(tmp_path: Path) -> None:
    assert cfg.read_config(write(tmp_path, UPSTREAM_BLOCK)) == cfg.preset("baseline")
    page = (ROOT / "docs/original.md").read_text()
    block = page.split("```json\n")[1].split("```")[0]
    assert cfg.read_config(write(tmp_path, block)) == cfg.preset("baseline")
    given = {(section, key) for section, keys in json.loads(block).items() for key in keys}
    assert all(f'"{section}"' in UPSTREAM_BLOCK and f'"{key}"' in UPSTREAM_BLOCK for section, key in given)
    assert len(given) == len(cfg.read_values(write(tmp_path, UPSTREAM_BLOCK))) == 13


def test_commas_inside_strings_stay(tmp_path: Path) -> None:
    assert cfg.read_values(write(tmp_path, '{"data": {"dir": "a,}b\\",]",},}')) == {"data.dir": 'a,}b",]'}


@pytest.mark.parametrize("name", cfg.PRESETS)
def test_presets_survive_json(name: str, tmp_path: Path) -> None:
    config = cfg.preset(name)
    assert cfg.validate(config) == config
    assert cfg.read_config(write(tmp_path, cfg.config_to_json(config))) == config


def test_adam_and_sgd_change_only_the_optimizer() -> None:
    base = cfg.flatten(cfg.preset("baseline"))
    for name, optimizer in (("adam", "Adam"), ("sgd", "SGD")):
        values = cfg.flatten(cfg.preset(name))
        assert {key for key in values if values[key] != base[key]} == {"optimizer.name"}
        assert values["optimizer.name"] == optimizer
        assert values["optimizer.momentum"] == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.n_epochs", 1.5),
        ("train.n_epochs", True),
        ("train.shuffle", "yes"),
        ("train.kernel", None),
        ("optimizer.lr", 0),
        ("optimizer.lr", float("nan")),
        ("optimizer.lr", float("inf")),
        ("model.forget_bias", float("nan")),
        ("train.seed", np.float64(1.0)),
        ("optimizer.name", "Adagrad"),
        ("task.permutation", "seed:1234567890"),
        ("model.forget_bias", "big"),
        ("model.layer", "C:mine.py:Mine"),
        ("model.layer", "a:b.py:Mine"),
        ("wandb.project", "a/b"),
        ("data.dir", ""),
        ("model.layer_options", [1]),
        ("model.layer_options", {"a b": 1}),
        ("model.layer_options.a", None),
        ("model.layer_options.1", 1),
        ("train.epochs", 3),
        ("trian.seed", 3),
    ],
)
def test_a_value_that_is_not_allowed_is_named(key: str, value: object) -> None:
    with pytest.raises(InputError, match=key):
        cfg.with_values(Config(), {key: value})


@pytest.mark.parametrize(
    "layer", ["layers/mine.py:Mine", r"C:\Users\me\mine.py:Mine", "D:/mine.py:Mine", "package.m:Mine"]
)
def test_a_layer_may_be_a_file_or_of_a_module(layer: str) -> None:
    assert cfg.with_values(Config(), {"model.layer": layer}).model.layer == layer


@pytest.mark.parametrize(
    "values",
    [
        {"optimizer.grad_clip_norm": 2.0},
        {"optimizer.epsilon_placement": "outside", "optimizer.name": "Adam"},
        {"optimizer.momentum": 0.9, "optimizer.name": "Adam"},
        {"optimizer.bias_rate": 2.0},
        {"train.recurrent_noise": 0.1, "train.recurrent_noise_relative": 0.5},
        {"train.recurrent_noise": 0.1, "task.limit_train": 3},
        {"model.layer_options.dt": 0.3},
        {"model.forget_bias": 1, "model.layer": "SimpleRNN"},
    ],
)
def test_values_that_contradict_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(values)).removesuffix(".dt")):
        cfg.validate(cfg.with_values(Config(), values))


def test_constants_of_a_layer_are_part_of_the_experiment() -> None:
    def identity(options: dict[str, Any]) -> str:
        return cfg.config_id(cfg.with_values(Config(), {"model.layer": "m:f", "model.layer_options": options}))

    ids = [identity(options) for options in ({}, {"dt": 1}, {"dt": True}, {"dt": "1"}, {"dt": 0.5})]
    assert len(set(ids)) == 5 and identity({"dt": 1.0}) == ids[1]
    assert ids[0] == cfg.config_id(cfg.with_values(Config(), {"model.layer": "m:f"}))
    assert identity({"a": 1, "b": 2}) == identity({"b": 2, "a": 1})
    one = cfg.with_values(Config(), {"model.layer_options.dt": 0.5, "model.layer_options": {"dt": 1, "mode": "a"}})
    assert one.model.layer_options == {"dt": 0.5, "mode": "a"} and hash(one) == hash(Config())
    two = cfg.with_values(one, {"model.layer_options.on": True})
    assert (one.model.layer_options, two.model.layer_options["on"]) == ({"dt": 0.5, "mode": "a"}, True)
    given = {"model.layer_options.mode": "a", "model.layer_options.on": True}
    assert cfg.contradictions(given, one) == {"model.layer_options.on": (True, None)}


@pytest.mark.parametrize(
    "text",
    ["[1]", "{", '{"train": 3}', '{"optimiser": {"lr": 1}}', '{"train.seed": 1}', '{"train": {"seed": 1,,}}', "\0"],
)
def test_files_that_are_no_configuration_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        cfg.read_config(write(tmp_path, text))


def test_config_id_is_of_the_experiment_alone() -> None:
    base = cfg.config_id(Config())
    same = {
        "train.seed": 7,
        "train.threads": 1,
        "train.kernel": "keras",
        "data.dir": "/elsewhere",
        "data.source": "pypi",
        "wandb.mode": "disabled",
        "wandb.project": "other",
        "tensorboard.enabled": True,
    }
    sections_apart = {key for key in cfg.OPTIONS if key.split(".")[0] in ("data", "wandb", "tensorboard")}
    apart = {"train.seed", "train.threads", "train.kernel"} | sections_apart
    assert {key for key in cfg.OPTIONS if not cfg.of_the_experiment(key)} == apart
    assert cfg.config_id(cfg.with_values(Config(), same)) == base
    for key, value in (("train.n_epochs", 99), ("optimizer.lr", 0.002), ("model.forget_bias", "chrono")):
        assert cfg.config_id(cfg.with_values(Config(), {key: value})) != base


def test_config_id_of_a_file_is_of_its_content(tmp_path: Path) -> None:
    def identity(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return cfg.config_id(cfg.with_values(Config(), {"task.permutation": f"file:{tmp_path / name}"}))

    assert identity("a", "1 2") == identity("b", "1 2") != identity("c", "2 1")


@pytest.mark.parametrize(
    ("values", "num_train", "steps"),
    [
        ({}, 60_000, 600),
        ({"task.validation_size": 10_000}, 50_000, 500),
        ({"task.validation_size": 10_000, "task.limit_train": 55_000}, 50_000, 500),
        ({"task.limit_train": 1_001}, 1_001, 11),
    ],
)
def test_the_limit_caps_what_the_validation_split_left(values: dict[str, int], num_train: int, steps: int) -> None:
    config = cfg.with_values(Config(), values)
    assert (config.num_train, config.steps_per_epoch) == (num_train, steps)


def test_a_layers_file_is_read_and_counts_by_its_content(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("import nowhere\nraise SystemExit('this must not run')\n")
    one, two = (cfg.with_values(Config(), {"model.layer": f"{tmp_path / name}:Own"}) for name in ("a.py", "b.py"))
    before = cfg.config_id(one)
    assert before == cfg.config_id(two) != cfg.config_id(cfg.with_values(two, {"model.layer": f"{two.model.layer}2"}))
    file = cfg.read_layer(one)
    (tmp_path / "a.py").write_text("")
    assert file is not None and cfg.config_id(one, file) == before != cfg.config_id(one)
    (tmp_path / "a.py").unlink()
    with pytest.raises(InputError, match=r"the file of model.layer, .*a.py"):
        cfg.read_layer(one)
    assert cfg.read_layer(cfg.with_values(Config(), {"model.layer": "no.such:X"})) is None


def test_numbers_of_numpy_are_numbers() -> None:
    config = cfg.with_values(Config(), {"train.seed": np.int64(1), "optimizer.lr": np.float32(0.5)})
    assert (config.train.seed, config.optimizer.lr) == (1, 0.5)
    assert {type(config.train.seed), type(config.optimizer.lr)} == {int, float}
    assert cfg.config_id(cfg.preset("sprint_15")) == "6086ad7116d5"

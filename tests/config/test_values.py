"""Configuration: declaration, JSON, validation, identity."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

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
    path.write_text(text)
    return path


def test_upstreams_block_is_the_baseline(tmp_path: Path) -> None:
    assert cfg.read_config(write(tmp_path, UPSTREAM_BLOCK)) == cfg.preset("baseline")
    page = (ROOT / "docs/original.md").read_text()
    block = page.split("```json\n")[1].split("```")[0]
    assert cfg.read_config(write(tmp_path, block)) == cfg.preset("baseline")
    given = {(section, key) for section, keys in json.loads(block).items() for key in keys}
    assert all(f'"{section}"' in UPSTREAM_BLOCK and f'"{key}"' in UPSTREAM_BLOCK for section, key in given)
    assert len(given) == UPSTREAM_BLOCK.count('": ') - 6  # six sections


def test_upstreams_block_as_plain_json_reads_the_same(tmp_path: Path) -> None:
    values = cfg.read_values(write(tmp_path, UPSTREAM_BLOCK))
    document: dict[str, dict[str, object]] = {}
    for key, value in values.items():
        section, name = key.split(".")
        document.setdefault(section, {})[name] = value
    assert len(values) == 13
    assert cfg.read_values(write(tmp_path, json.dumps(document))) == values


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


def test_configuration_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Config().train.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("train.n_epochs", 0, "train.n_epochs must be an integer from 1 to 100,000 (got 0)"),
        ("train.n_epochs", 1.5, "train.n_epochs must be an integer from 1 to 100,000 (got 1.5)"),
        ("train.n_epochs", True, "train.n_epochs must be an integer from 1 to 100,000 (got true)"),
        ("train.n_epochs", "3", 'train.n_epochs must be an integer from 1 to 100,000 (got "3")'),
        ("train.batch_size", -5, "train.batch_size must be an integer from 1 to 60,000 (got -5)"),
        ("train.seed", 2**32, "train.seed must be an integer from 0 to 4,294,967,295 (got 4294967296)"),
        ("train.threads", 100_000, "train.threads must be an integer from 0 to 1,024 (got 100000)"),
        ("model.hidden_size", 20_000, "model.hidden_size must be an integer from 1 to 16,384 (got 20000)"),
        ("optimizer.epsilon", 1e-46, "optimizer.epsilon must be a number > 0 (got 1e-46)"),  # 0 in float32
        ("train.shuffle", "yes", 'train.shuffle must be true or false (got "yes")'),
        ("train.kernel", None, "train.kernel must be auto, native or keras (got null)"),
        ("optimizer.lr", 0, "optimizer.lr must be a number > 0 (got 0)"),
        ("optimizer.lr", float("nan"), "optimizer.lr must be a number > 0 (got NaN)"),
        ("optimizer.lr", 10**400, "optimizer.lr must be a number > 0"),
        ("optimizer.rho", 1, "optimizer.rho must be a number >= 0 and < 1 (got 1)"),
        ("optimizer.grad_clip_value", 0, "optimizer.grad_clip_value must be a number > 0 or null (got 0)"),
        ("optimizer.grad_clip_norm", 0.0, "optimizer.grad_clip_norm must be a number > 0 or null (got 0.0)"),
        ("optimizer.name", "Adagrad", 'optimizer.name must be RMSProp, SGD or Adam (got "Adagrad")'),
        ("task.T", 28, "task.T must be 784 (got 28)"),
        ("task.validation_size", 60_000, "task.validation_size must be an integer from 0 to 59,999 (got 60000)"),
        ("task.permutation", "x", 'none, urnn92916, bit_reversal, seed:N or file:PATH (got "x")'),
        ("model.forget_bias", "big", 'model.forget_bias must be a number, chrono or null (got "big")'),
        ("model.output_size", 9, "model.output_size must be 10 (got 9)"),
        ("wandb.project", "a/b", 'wandb.project must be up to 128 characters without /\\#?%: (got "a/b")'),
        ("data.dir", "", 'data.dir must be text or null (got "")'),
        ("model.layer_options", [1], "model.layer_options must be a JSON object of numbers, texts, true and false by"),
        ("model.layer_options", {"a b": 1}, 'by name (got {"a b": 1})'),
        ("model.layer_options", {"a": None}, "model.layer_options.a must be a number, true, false or text (got null)"),
        ("model.layer_options.a", float("inf"), "model.layer_options.a must be a number, true, false or text (got Inf"),
        ("model.layer_options.1", 1, "unknown key model.layer_options.1 (allowed in model: "),
        ("train.epochs", 3, "unknown key train.epochs (allowed in train: batch_size, n_epochs,"),
        ("trian.seed", 3, "unknown key trian.seed (allowed sections: criterion, model,"),
    ],
)
def test_values_out_of_range_are_named_with_what_is_allowed(key: str, value: object, words: str) -> None:
    with pytest.raises(InputError) as error:
        cfg.with_values(Config(), {key: value})
    assert words in str(error.value)


def test_combinations_that_contradict_are_refused() -> None:
    def refused(**fields: Any) -> str:
        with pytest.raises(InputError) as error:
            cfg.validate(replace(Config(), optimizer=replace(Config().optimizer, **fields)))
        return str(error.value)

    both = refused(grad_clip_norm=2.0)
    assert "optimizer.grad_clip_value and optimizer.grad_clip_norm" in both
    assert "(got 1 and 2)" in both
    assert "inside with optimizer.name Adam (got 'outside')" in refused(name="Adam", epsilon_placement="outside")
    assert "must be 0 with optimizer.name Adam (got 0.9)" in refused(name="Adam", momentum=0.9)
    assert "must be 1 without optimizer.epsilon_placement outside" in refused(bias_rate=2.0)
    noises = {"train.recurrent_noise": 0.1, "train.recurrent_noise_relative": 0.5}
    with pytest.raises(InputError, match=r"recurrent_noise and train.recurrent_noise_relative exclude each other"):
        cfg.validate(cfg.with_values(Config(), noises))
    with pytest.raises(InputError, match=r'must be \{\} with model.layer LSTM: it is for .*\(got \{"dt": 0.3\}\)'):
        cfg.validate(cfg.with_values(Config(), {"model.layer_options.dt": 0.3}))


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


def test_units_that_were_chosen_contradict_no_others() -> None:
    given = {"model.hidden_size": 128, "train.seed": 1}
    config = cfg.with_values(Config(), {"model.hidden_size": 147})
    assert cfg.contradictions(given, config) == {"model.hidden_size": (128, 147), "train.seed": (1, 0)}
    config = cfg.with_values(config, {"model.match_parameters": 67_850})
    assert cfg.contradictions(given, config) == {"train.seed": (1, 0)}


@pytest.mark.parametrize(
    ("layer", "allowed"),
    [
        ("layers/mine.py:Mine", True),
        (r"C:\Users\me\mine.py:Mine", True),
        ("D:/mine.py:Mine", True),
        ("package.module:Mine", True),
        ("C:mine.py:Mine", False),
        ("a:b.py:Mine", False),
    ],
)
def test_a_layer_may_have_a_windows_path(layer: str, allowed: bool) -> None:
    if allowed:
        assert cfg.with_values(Config(), {"model.layer": layer}).model.layer == layer
    else:
        with pytest.raises(InputError, match=r"model\.layer must be"):
            cfg.with_values(Config(), {"model.layer": layer})


def test_choices_are_read_in_any_case() -> None:
    config = cfg.with_values(Config(), {"optimizer.name": "rmsprop", "task.permutation": "NONE"})
    assert config == Config()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "must be a JSON object of sections (got list)"),
        ("{", "is not valid JSON: "),
        ('{"train": 3}', "train must be a JSON object of keys (got 3)"),
        ('{"train": {"seed": 1, "seed": 2}}', "key 'seed' is given twice"),
        ('{"optimiser": {}}', "unknown section optimiser in "),
        ('{"train.seed": 1}', "unknown section train.seed in "),
        ('{"train": {,}}', "is not valid JSON: "),
        ('{"train": {"seed": 1,,}}', "is not valid JSON: "),
        ("[" * 100_000, "nested too deep"),
        ('{"train": {"seed": ' + "1" * 5000 + "}}", "is not valid JSON: Exceeds the limit"),
    ],
)
def test_files_that_are_no_configuration_are_refused(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        cfg.read_config(write(tmp_path, text))
    assert words in str(error.value)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        cfg.read_values(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        cfg.read_values(tmp_path / "binary.json")


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


def test_config_id_stays_when_keys_are_added() -> None:
    """The ids of published records: a change here breaks each of them."""
    assert cfg.config_id(cfg.preset("baseline")) == "44136fa355b3"
    assert cfg.config_id(cfg.preset("quickstart")) == "8174b65db05f"


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


NOT_TESTED = (
    "it must be tested on all 10,000 images (test.enabled true, task.limit_test 0), or be a trial (test.enabled false, "
    "task.validation_size above 0)"
)
NOT_TRAINED = "it must be trained on all images that are not held out (task.limit_train 0, got 600)"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, None),
        ({"model.layer": "GRU"}, None),
        ({"model.layer": "cells.py:Cell"}, None),
        ({"model.layer": "cells:Cell"}, "its layer must be a stock layer or come from a file (got cells:Cell)"),
        ({"task.limit_test": 9_999}, NOT_TESTED),
        ({"task.limit_train": 600}, NOT_TRAINED),
        ({"task.limit_train": 50_000, "task.validation_size": 10_000}, None),
        ({"test.enabled": False}, NOT_TESTED),
        ({"test.enabled": False, "task.validation_size": 10_000}, None),
        ({"task.permutation": "seed:1"}, None),
        (
            {"task.permutation": "file:order.txt"},
            "its pixel order must be reproducible (task.permutation seed:N, not file:PATH)",
        ),
    ],
)
def test_what_keeps_runs_from_being_published(values: dict[str, Any], problem: str | None) -> None:
    assert cfg.publication_problems(cfg.with_values(Config(), values)) == ([problem] if problem else [])


@pytest.mark.parametrize(
    ("values", "same"),
    [
        ({"optimizer.name": "Adam", "optimizer.rho": 0.5}, {"optimizer.name": "Adam"}),
        ({"optimizer.beta_1": 0.5, "test.batch_size": 10}, {}),
        ({"task.limit_train": 60_000, "task.limit_test": 10_000}, {}),
        ({"task.validation_size": 10_000, "task.limit_train": 50_000}, {"task.validation_size": 10_000}),
        ({"model.forget_bias": 1.0}, {}),
        ({"task.permutation": "seed:092916"}, {"task.permutation": "urnn92916"}),
        ({"task.permutation": "seed:07"}, {"task.permutation": "seed:7"}),
    ],
)
def test_values_that_change_nothing_are_of_the_same_experiment(values: dict[str, Any], same: dict[str, Any]) -> None:
    given, plain = (cfg.with_values(Config(), one) for one in (values, same))
    assert cfg.effective(given) == cfg.effective(plain) == plain
    assert cfg.config_id(given) != cfg.config_id(plain)


@pytest.mark.parametrize(
    "values",
    [
        {"optimizer.rho": 0.5},
        {"optimizer.name": "Adam", "optimizer.beta_1": 0.5},
        {"task.limit_train": 50_000},
        {"model.forget_bias": 1.0, "model.initializer": "torch"},
        {"task.permutation": "bit_reversal"},
    ],
)
def test_values_that_change_something_are_kept(values: dict[str, Any]) -> None:
    config = cfg.with_values(Config(), values)
    assert cfg.effective(config) == config

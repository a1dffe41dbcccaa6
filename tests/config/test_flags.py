"""Command lines: flags, precedence, exit status, and the one line of an error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.system import RunError
from seqmnist_tf.train.__main__ import main as train_main
from tests.conftest import Command, Result


def printed(result: Result) -> dict[str, dict[str, object]]:
    assert (result.status, result.err) == (0, "")
    return json.loads(result.out)


def test_print_config_is_the_baseline_without_arguments(command: Command, in_tmp: Path) -> None:
    assert printed(command(train_main, "--print-config")) == cfg.config_to_dict(cfg.preset("baseline"))
    assert not list(in_tmp.iterdir())


def test_flags_come_over_the_file_and_the_file_over_the_preset(command: Command, in_tmp: Path) -> None:
    (in_tmp / "c.json").write_text('{"train": {"n_epochs": 7, "seed": 7}, "optimizer": {"grad_clip_value": 1}}')
    words = ("--config", "c.json", "--train.seed", "8", "--optimizer.grad-clip-norm", "null")  # a clip of quickstart
    config = printed(command(train_main, "quickstart", *words, "--print-config"))
    assert (config["train"]["seed"], config["train"]["n_epochs"]) == (8, 7)
    assert (config["optimizer"]["grad_clip_value"], config["optimizer"]["grad_clip_norm"]) == (1, None)
    assert config["optimizer"]["name"] == "Adam"


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["--train.n_epochs=3"], "train.n_epochs", 3),
        (["--train.shuffle", "TRUE"], "train.shuffle", True),
        (["--optimizer.grad-clip-value", "null"], "optimizer.grad_clip_value", None),
        (["--optimizer.lr", "1e-2"], "optimizer.lr", 0.01),
        (["--model.forget-bias", "chrono"], "model.forget_bias", "chrono"),
        (["--model.forget-bias", "-1e-1"], "model.forget_bias", -0.1),
        (["--task.T", "784"], "task.T", 784),
        (["--data.dir", "-odd name"], "data.dir", "-odd name"),
        (
            ["--model.layer=m:f", "--model.layer-options.time-step", "-1e-1", "--model.layer_options.n=3"],
            "model.layer_options",
            {"time_step": -0.1, "n": 3},
        ),
        (
            ["--model.layer-options.on=TRUE", "--model.layer=m:f", '--model.layer-options={"mode": "1", "on": false}'],
            "model.layer_options",
            {"mode": "1", "on": True},
        ),
        (["--model.layer=m:f", "--model.layer-options.mode", "a b"], "model.layer_options", {"mode": "a b"}),
    ],
)
def test_flags_are_read_in_every_spelling(words: list[str], key: str, value: object, command: Command) -> None:
    section, name = key.split(".")
    assert printed(command(train_main, *words, "--print-config"))[section][name] == value


def test_every_key_is_in_the_help_but_those_with_one_value(command: Command) -> None:
    lines = command(train_main, "--help").out.splitlines()
    hidden = {"criterion.name", "model.input_size", "model.output_size", "task.T", "task.name", "train.precision"}
    assert {line.split()[0][2:] for line in lines if line.startswith("  --") and "." in line.split()[0]} == {
        key for key in cfg.OPTIONS if key not in hidden
    }
    assert all(f"\n  {name} " in "\n".join(lines) for name in cfg.PRESETS)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["nosuch"], "nosuch"),
        (["--train.epochs", "3"], "train.epochs"),
        (["--frobnicate"], "--frobnicate"),
        (["baseline", "extra"], "extra"),
        (["--train.n_epochs"], "train.n_epochs"),
        (["--model.layer_options.dt"], "model.layer_options.dt"),
        (["--model.layer_options", "{"], "model.layer_options"),
        (["--train.n-epochs", "1_0"], "train.n_epochs"),
        (["--optimizer.grad-clip-norm", "1"], "optimizer.grad_clip_value and optimizer.grad_clip_norm"),
        (["--task.permutation", "file:none"], "none"),
        (["--task.permutation", "file:bad"], "bad"),
        (["--config", "none.json"], "none.json"),
        (["--config", "bad"], "bad"),
        (["--run-dir", "taken"], "taken"),
        (["--run-dir", "bad/run"], "bad/run"),
        (["--resume"], "--run-dir"),
        (["--resume", "--run-dir", "none"], "none"),
        (["--resume", "--run-dir", "taken"], "taken"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    words: list[str], name: str, command: Command, in_tmp: Path, toy: None
) -> None:
    (in_tmp / "bad").write_text("1 1 2")
    (in_tmp / "taken").mkdir()
    before = sorted(in_tmp.rglob("*"))
    result = command(train_main, *words)
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
    assert result.err.startswith("error: ") and name in result.err
    assert sorted(in_tmp.rglob("*")) == before


def test_statuses_of_the_other_ends(command: Command) -> None:
    def fail(argv: list[str]) -> int:
        raise RunError("the disk\nis full")

    assert command(fail) == (1, "", "error: the disk is full\n")

    def full(argv: list[str]) -> int:
        raise OSError(28, "No space left on device", "/data/x")

    assert command(full) == (1, "", "error: [Errno 28] No space left on device: '/data/x'\n")
    assert command(lambda argv: 0) == (0, "", "")

"""Command lines: flags, precedence, exit status, and the one line of an error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.evaluate import main as evaluate_main
from seqmnist_tf.system import RunError
from seqmnist_tf.train.__main__ import main as train_main
from tests.config.test_values import UPSTREAM_BLOCK
from tests.conftest import Command, Result
from tests.toy import LONG_SECONDS, ROOT


def printed(result: Result) -> dict[str, dict[str, object]]:
    assert (result.status, result.err) == (0, "")
    return json.loads(result.out)


def test_print_config_is_the_baseline_without_arguments(command: Command, in_tmp: Path) -> None:
    assert printed(command(train_main, "--print-config")) == cfg.config_to_dict(cfg.preset("baseline"))
    assert not list(in_tmp.iterdir())


def test_upstreams_block_is_read_from_a_file(command: Command, in_tmp: Path) -> None:
    (in_tmp / "upstream.json").write_text(UPSTREAM_BLOCK, encoding="utf-8-sig")  # with a mark, as by Windows' Notepad
    assert printed(command(train_main, "--config", "upstream.json", "--print-config")) == cfg.config_to_dict(
        cfg.Config()
    )


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
        (["--train.n-epochs", "3"], "train.n_epochs", 3),
        (["--train.n_epochs=3"], "train.n_epochs", 3),
        (["--train.shuffle", "TRUE"], "train.shuffle", True),
        (["--test.enabled", "False"], "test.enabled", False),
        (["--optimizer.grad-clip-value", "null"], "optimizer.grad_clip_value", None),
        (["--optimizer.lr", "1e-2"], "optimizer.lr", 0.01),
        (["--model.forget-bias", "chrono"], "model.forget_bias", "chrono"),
        (["--model.forget-bias", "-1e-1"], "model.forget_bias", -0.1),
        (["--task.permutation", "seed:3"], "task.permutation", "seed:3"),
        (["--task.T", "784"], "task.T", 784),
        (["--optimizer.name", "sgd"], "optimizer.name", "SGD"),
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


def test_every_key_is_a_flag_and_is_in_the_help(command: Command) -> None:
    out = command(train_main, "--help").out
    for key, option in cfg.OPTIONS.items():
        assert (f"--{key} X" in out) != option.meta["hidden"]
        if not option.meta["hidden"]:
            shown = " ".join(out.split(f"--{key} X")[1].split())
            assert shown.startswith(" ".join(option.meta["doc"].split())[:20]), key
    for key, default in (("model.hidden_size", "128"), ("train.shuffle", "false"), ("data.dir", "null")):
        assert f"; {default}]" in " ".join(out.split(f"--{key} X")[1].split("--")[0].split())
    for name in cfg.PRESETS:
        assert f"\n  {name} " in out


def test_the_help_is_short(command: Command) -> None:
    entries = [*cfg.PRESETS, *(key for key, option in cfg.OPTIONS.items() if not option.meta["hidden"])]
    lines = command(train_main, "--help").out.splitlines()
    assert len(lines) <= 12 + 2 * len(entries), "shorten titles and docs; what is longer belongs into details"


def test_keys_with_one_value_are_hidden_but_accepted(command: Command) -> None:
    hidden = {key for key, option in cfg.OPTIONS.items() if option.meta["hidden"]}
    one_value = {"criterion.name", "model.input_size", "model.output_size", "task.T", "task.name", "train.precision"}
    assert hidden == one_value
    assert printed(command(train_main, "--task.T", "784", "--print-config"))["task"]["T"] == 784


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nosuch"], f"unknown preset 'nosuch' (allowed: {', '.join(cfg.PRESETS)})"),
        ([""], "unknown preset '' (allowed: baseline, adam,"),
        (["--optimizer.lr", "1e39"], "optimizer.lr must be a number > 0 (got '1e39')"),  # infinite in float32
        (["--train.epochs", "3"], "unknown key train.epochs (allowed in train: batch_size, n_epochs,"),
        (["--trian.seed", "3"], "unknown key trian.seed (allowed sections: criterion,"),
        (["--frobnicate"], "unknown argument '--frobnicate'"),
        (["baseline", "extra"], "unknown argument 'extra'"),
        (["--train.n_epochs"], "argument --train.n_epochs: expected one argument"),
        (["--train.n_epochs", "--"], "argument --train.n_epochs: expected one argument"),
        (["--task.permutation", "file:\udce9"], "task.permutation must be"),
        (["--model.layer_options.dt"], "--model.layer_options.dt needs a value"),
        (
            ["--model.layer_options.dt", "nan"],
            "model.layer_options.dt must be a number, true, false or text (got 'nan')",
        ),
        (["--model.layer_options", "{"], "model.layer_options must be a JSON object of numbers, texts, true and false"),
        (["--train.n-epochs", "1_0"], 'train.n_epochs must be an integer from 1 to 100,000 (got "1_0")'),
        (["--train.n-epochs", " 5"], 'train.n_epochs must be an integer from 1 to 100,000 (got " 5")'),
        (["--train.seed", "٣"], "train.seed must be an integer from 0 to 4,294,967,295 (got"),  # 3 in Arabic
        (["--optimizer.grad-clip-value", "1e-46"], "must be a number > 0 or null (got '1e-46')"),  # 0 in float32
        (["--optimizer.ema-momentum", "0.99999999"], "and < 1 or null (got '0.99999999')"),  # 1 in float32
        (["--wandb.project", "a\nb"], "wandb.project must be up to 128 characters"),
        (["adam", "--", "--train.seed", "3"], "unknown argument '--train.seed=3'"),
        (["--train.shuffle", "1"], 'train.shuffle must be true or false (got "1")'),
        (["--train.n-epochs", "1" + 30 * "0"], "train.n_epochs must be an integer from 1 to 100,000 (got"),
        (["--optimizer.grad-clip-norm", "1"], "optimizer.grad_clip_value and optimizer.grad_clip_norm exclude each"),
        (["--task.permutation", "file:none"], "each of 0 to 783 once (got 'none': No such file"),
        (["--task.permutation", "file:bad"], "each of 0 to 783 once (got 'bad': 3 values, 2 distinct)"),
        (["--config", "none.json"], "cannot read configuration none.json: No such file or directory"),
        (["--config", "bad"], "configuration bad is not valid JSON"),
        (
            ["--train.precision", "tf32"],
            'train.precision must be float32 (got "tf32"); tf32 of earlier versions is gone: products are in float32, '
            "on AMX where the processor has it",
        ),
        (["--run-dir", "taken"], "run directory taken exists already"),
        (["--run-dir", "bad/run"], "run directory bad/run cannot be made: "),
        (["--resume"], "--resume needs --run-dir"),
        (["--resume", "--run-dir", "none"], "no run at none (give a run directory of seqmnist_tf.train"),
        (["--resume", "--run-dir", "taken"], "no run at taken"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    words: list[str], message: str, command: Command, in_tmp: Path, toy: None
) -> None:
    (in_tmp / "bad").write_text("1 1 2")
    (in_tmp / "taken").mkdir()
    before = sorted(in_tmp.rglob("*"))
    result = command(train_main, *words)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert message in result.err
    assert result.err.count("\n") == 1
    assert sorted(in_tmp.rglob("*")) == before


def test_evaluate_needs_a_run_with_a_model(command: Command, in_tmp: Path) -> None:
    assert "no run at none" in command(evaluate_main, "none").err
    (in_tmp / "run").mkdir()
    (in_tmp / "run" / "config.json").write_text("{}")
    result = command(evaluate_main, "run")
    assert result.status == 2
    assert result.err == "error: run has no model.keras: the run is not finished (finish it with --resume)\n"
    assert "the following arguments are required: RUN_DIR" in command(evaluate_main).err
    (in_tmp / "run" / "model.keras").write_text("no model")
    (in_tmp / "run" / "pixel_order.txt").write_text(" ".join(map(str, range(784))))
    result = command(evaluate_main, "run")
    assert result.status == 2
    assert "error: cannot read run/model.keras: " in result.err


def test_statuses_of_the_other_ends(command: Command) -> None:
    def fail(argv: list[str]) -> int:
        raise RunError("the disk\nis full")

    def interrupt(argv: list[str]) -> int:
        raise KeyboardInterrupt

    assert command(fail) == (1, "", "error: the disk is full\n")

    def full(argv: list[str]) -> int:
        raise OSError(28, "No space left on device", "/data/x")

    assert command(full) == (1, "", "error: [Errno 28] No space left on device: '/data/x'\n")
    assert command(interrupt) == (130, "", "interrupted\n")
    assert command(lambda argv: 0) == (0, "", "")


@pytest.mark.parametrize("module", ["train", "serve"])  # a long help, and a short one that stays in Python's buffer
def test_a_help_whose_reader_has_gone_is_no_traceback(module: str) -> None:
    shell = f"{sys.executable} -m seqmnist_tf.{module} --help | true; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    pipes = {"capture_output": True, "text": True}
    done = subprocess.run(["bash", "-c", shell], cwd=ROOT, env=environment, timeout=LONG_SECONDS, **pipes)  # type: ignore
    assert (done.returncode, done.stderr) == (0, "")

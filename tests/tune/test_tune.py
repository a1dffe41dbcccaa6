"""The command: a search's protocol, its result, its report, and bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.data import sequences
from seqmnist_tf.engine import engine
from seqmnist_tf.train import AT_CHANCE, load_run, lock_folder
from seqmnist_tf.tune import __main__ as tune_command
from seqmnist_tf.tune import parse_space
from seqmnist_tf.tune.report import draw_search, search_report
from seqmnist_tf.tune.space import SearchFolder
from tests.conftest import Command
from tests.tune.toy_search import trials_of

SMALL = ["--model.hidden-size=4", "--task.limit-train=40", "--task.validation-size=60", "--wandb.mode=disabled"]
SPACE = {
    "optimizer.lr": {"low": 1e-3, "high": 1e-1, "scale": "log"},
    "optimizer.name": {"choices": ["SGD", "Adam"]},
    "$_$": {"choices": [{"train.batch_size": size} for size in (10, 20, 40)]},  # no formula of the picture
}


@pytest.fixture
def space_file(tmp_path: Path) -> str:
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    return str(tmp_path / "space.json")


def search_words(tuner: str, trials: int, folder: Path, space_file: str, *more: str) -> list[str]:
    return [f"--tuner={tuner}", f"--max-trials={trials}", f"--dir={folder}", f"--space={space_file}", *SMALL, *more]


@pytest.mark.parametrize("preset", ["baseline", "strong", "gru"])
def test_a_preset_has_a_default_space(preset: str, tmp_path: Path) -> None:
    base = tune_command.protocol(cfg.preset(preset), {}, 3)
    document = tune_command.default_space(base)
    tune_command.check_space(SearchFolder(tmp_path, "random", base, parse_space(document), document, preset))
    assert "optimizer.lr" in document and ("model.initializer" in document) is (preset != "gru")


def test_a_trial_that_diverges_or_stays_at_chance_does_not_end_the_search(
    command: Command, toy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    load = sequences.load_mnist

    def note(*args: Any) -> Any:
        asked.append(args[2])
        return load(*args)

    monkeypatch.setattr(sequences, "load_mnist", note)
    (tmp_path / "wild.json").write_text(json.dumps({"optimizer.lr": {"choices": [1e-9, 3e38]}}))
    wild = ["--optimizer.grad-clip-value=null", "--optimizer.name=SGD", "--train.batch-size=10"]
    folder = tmp_path / "search"
    argv = search_words("random", 2, folder, str(tmp_path / "wild.json"), "--epochs=4", *wild)
    answer = command(tune_command.main, *argv)
    assert answer.status == 0, answer.err
    assert set(asked) == {("train",)}  # the test set is never read
    rows = {row["values"]["optimizer.lr"]: row for row in trials_of(folder)}
    diverged, stopped = rows["3e+38"], rows["1e-09"]
    assert (diverged["status"], diverged["score"]) == ("diverged", 0)
    assert (stopped["status"], stopped["epochs"]) == ("stopped", 2)
    assert 0 < stopped["score"] < AT_CHANCE
    run = load_run(folder / "trials" / stopped["trial"])
    assert run.summary is not None
    assert (run.summary["status"], run.summary["reason"]) == ("stopped", "at chance after 2 of 4 epochs")
    assert run.history()[-1]["val_accuracy"] == stopped["score"]
    # The result is for all training images and the test set, with the epochs of the preset.
    best, report = cfg.read_config(folder / "best.json"), (folder / "report.md").read_text()
    assert best.test.enabled and best.task.validation_size == best.task.limit_train == 0
    assert (best.optimizer.lr, best.train.n_epochs, best.model.hidden_size) == (1e-9, 4, 4)
    assert f"Best: trial {stopped['trial']}, validation accuracy {stopped['score']:.2%}" in report
    assert f"train --config {folder / 'best.json'} --train.n-epochs 100\n" in answer.out and report in answer.out
    assert (folder / "search.png").read_bytes().startswith(b"\x89PNG")

    # Neither is run again, also where a kill came before the oracle's note; no data are needed.
    monkeypatch.setattr(engine, "train", None)
    monkeypatch.setattr(engine, "resume", None)
    monkeypatch.setattr(sequences, "load_mnist", None)
    without = [word for word in argv if not word.startswith("--space")]
    assert command(tune_command.main, *without).status == 0  # its own space, which may be of an earlier version
    state = json.loads((folder / "oracle.json").read_text())
    state["trials"][stopped["trial"]].update(status="RUNNING", score=None)
    (folder / "oracle.json").write_text(json.dumps(state))
    assert command(tune_command.main, *argv).status == 0
    assert {row["values"]["optimizer.lr"]: row for row in trials_of(folder)} == rows
    for change in ([*argv, "--tuner=bayesian"], [*argv, "--optimizer.beta-1=0.5"], ["gru", *without]):
        answer = command(tune_command.main, *change)
        assert answer.status == 2 and "holds another search" in answer.err
    with lock_folder(folder, "the other"):
        answer = command(tune_command.main, *argv)
    assert answer.status == 2 and str(folder) in answer.err


def test_the_report(tmp_path: Path) -> None:
    document = {
        "optimizer.lr": {"low": 1e-3, "high": 1e-1, "scale": "log"},
        "optimizer.name": {"choices": ["SGD", "Adam"]},
        "optimizer.momentum": {"low": 0.1, "high": 0.9, "only_with": {"optimizer.name": "SGD"}},
        "train.batch_size": {"choices": [10, 20, 40]},
        "model.hidden_size": {"low": 64, "high": 4096},
    }
    search = SearchFolder(tmp_path, "random", cfg.Config(), parse_space(document), document, None)
    values = {"optimizer.lr": 0.0011, "optimizer.name": '"Adam"', "optimizer.momentum": 0.5, "train.batch_size": "20"}
    values["model.hidden_size"] = 1536
    row = {"trial": "0", "status": "completed", "epochs": 4, "escape_epoch": 2, "seconds": 12.6, "values": values}
    best = {**row, "score": 0.95}
    rows = [{**row, "trial": "7", "score": 0.1, "status": "stopped", "epochs": 2, "escape_epoch": None}, best]
    text = search_report(search, rows, best, {})
    for line in (
        "| `optimizer.lr` | 0.0011 | 0.001 to 0.1, log-uniform | low |",
        "| `optimizer.momentum` | - | 0.1 to 0.9 |  |",  # not with Adam
        "| `model.hidden_size` | 1536 | 64 to 4096 |  |",
        "| 7 | 10.00% | stopped | 2 | - | 13 | 0.0011 | Adam | - | 20 | 1536 |",
    ):
        assert line in text.splitlines()
    panels = draw_search(search, rows, best).axes
    for panel in panels:
        assert panel.get_xscale() == "linear" or (
            len(panel.get_xticks()) == 3 and not len(panel.get_xticks(minor=True))
        )
    stars = [
        np.asarray(line.get_xydata()).tolist() for panel in panels for line in panel.lines if line.get_marker() == "*"
    ]
    assert stars == [[[0, 95]], [[0.0011, 95]], [[1, 95]], [], [[1, 95]], [[1536, 95]]]  # momentum: not with Adam
    assert list(np.asarray(panels[0].lines[0].get_xdata())) == [7, 0] and not np.any(panels[0].get_xticks() % 1)


FILES = {
    "clash.json": '{"clip": {"choices": [{"optimizer.grad_clip_value": 1}]}}',
    "layers.json": '{"model.layer": {"choices": ["GRU", "nosuch.py:Own"]}}',
    "all.json": '{"train.batch_size": {"choices": [20, 131]}}',  # 60,000 images leave 2
}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--max-trials=0"], "--max-trials"),
        (["--workers=0"], "--workers"),
        (["--address=127.0.0.1:9"], "127.0.0.1:9"),
        (["--test.enabled=true"], "test.enabled"),
        (["--dir=."], "holds other files"),
        (["--space=missing.json"], "missing.json"),
        (["--space=layers.json"], "nosuch.py"),
        (["quickstart", "--space=clash.json"], "optimizer.grad_clip_value"),
        (["strong", "--space=all.json"], "train.recurrent_noise"),
        (["--model.layer=nosuch.py:Own"], "nosuch.py"),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_line_and_nothing_is_written(
    command: Command, toy: None, in_tmp: Path, space_file: str, words: list[str], named: str
) -> None:
    for name, content in FILES.items():
        (in_tmp / name).write_text(content)
    preset = [word for word in words if not word.startswith("-")]
    flags = [word for word in words if word.startswith("-")]
    answer = command(tune_command.main, *preset, *search_words("random", 1, Path("search"), space_file), *flags)
    last = answer.err.splitlines()[-1]
    assert (answer.status, answer.out) == (2, "") and last.startswith("error: ") and named in last, answer.err
    assert not (in_tmp / "search").exists()


def test_data_that_cannot_be_read_is_reported_before_anything_is_written(
    command: Command, tmp_path: Path, space_file: str
) -> None:
    for workers in ([], ["--workers=2"]):
        more = ["--epochs=1", f"--data.dir={space_file}", *workers]
        answer = command(tune_command.main, *search_words("random", 1, tmp_path / "search", space_file, *more))
        assert answer.status == 2 and "data.dir" in answer.err.splitlines()[-1]
    assert not (tmp_path / "search").exists()


def test_a_search_holds_out_ten_thousand_images_unless_told_otherwise(command: Command) -> None:
    for given, validation_size in (([], 10_000), (["--task.validation-size=60"], 60)):
        answer = command(tune_command.main, "--tuner=random", "--max-trials=1", "--dir=x", *given, "--print-config")
        printed = json.loads(answer.out)
        assert (printed["task"]["validation_size"], printed["test"]["enabled"]) == (validation_size, False)

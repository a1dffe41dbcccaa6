"""Searches: their protocol and result, resumed after kills, with workers of which one is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.data import sequences
from seqmnist_tf.system import InputError, RunError
from seqmnist_tf.train import AT_CHANCE, RunDirectory, train
from seqmnist_tf.train.__main__ import main as train_main
from seqmnist_tf.tune import __main__ as tune_command
from seqmnist_tf.tune import lead, parse_space, repeats, trials
from seqmnist_tf.tune.folder import SearchFolder
from seqmnist_tf.tune.job import Job
from seqmnist_tf.tune.outcomes import read_trials
from seqmnist_tf.tune.processes import without_options
from seqmnist_tf.tune.report import search_report
from tests.conftest import Result
from tests.results.files import change_json
from tests.toy import ROOT

SMALL = ["--model.hidden-size=4", "--task.limit-train=40", "--task.validation-size=60", "--wandb.mode=disabled"]
SPACE = {
    "optimizer.lr": {"low": 1e-3, "high": 1e-1, "scale": "log"},
    "optimizer.name": {"choices": ["SGD", "Adam"]},
    "train.batch_size": {"choices": [10, 20, 40]},
}


@pytest.fixture(autouse=True)
def few_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "REPEATS", 2)
    monkeypatch.setenv("WANDB_RUN_GROUP", "")  # so that it is as before after the test
    monkeypatch.delenv("WANDB_RUN_GROUP")


@pytest.fixture
def space_file(tmp_path: Path) -> str:
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    return str(tmp_path / "space.json")


def words(tuner: str, trials: int, folder: Path, space_file: str, *more: str) -> list[str]:
    return [f"--tuner={tuner}", f"--max-trials={trials}", f"--dir={folder}", f"--space={space_file}", *SMALL, *more]


def trials_of(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "trials.json").read_text())


@pytest.mark.parametrize("tuner", tune_command.TUNERS)
def test_each_tuner_yields_a_configuration_that_trains(
    command: Callable[..., Result], toy: None, tmp_path: Path, space_file: str, tuner: str
) -> None:
    folder = tmp_path / "search"
    answer = command(tune_command.main, *words(tuner, 3, folder, space_file, "--epochs=3"))
    assert answer.status == 0, answer.err
    rows = trials_of(folder)
    assert len(rows) == 3
    best = max(rows, key=lambda row: row["score"])
    config = cfg.read_config(folder / "best.json")
    assert config.test.enabled and config.task.validation_size == config.task.limit_train == 0
    assert config.train.n_epochs == 3 and config.model.hidden_size == 4
    assert config.optimizer.lr == pytest.approx(best["values"]["optimizer.lr"])
    for row in rows:
        run = RunDirectory.open(folder / "trials" / row["trial"])
        assert run.config.test.enabled is False and run.config.task.validation_size == 60
        assert run.history()[-1]["test_accuracy"] is None
        assert run.history()[-1]["val_accuracy"] == row["score"]
    report = (folder / "report.md").read_text()
    assert f"Best: trial {best['trial']}, validation accuracy {best['score']:.2%}" in report
    assert "With 2 other seeds: " in report and "`optimizer.lr`" in report
    assert report in answer.out and answer.out.count("best so far") == 3
    assert (folder / "search.png").read_bytes().startswith(b"\x89PNG")
    small = ["--task.limit-train=20", "--task.limit-test=20", "--run-dir", str(tmp_path / "run")]
    assert command(train_main, "--config", str(folder / "best.json"), *small).status == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.layer=nosuch.py:Own"], "model.layer must name a file that can be read"),
        (["--model.layer=broken.py:Own"], "model.layer broken.py:Own"),
        (["--space=layers.json"], "model.layer must name a file that can be read (got 'nosuch.py'"),
        (
            ["--space=units.json", "--model.match-parameters=500"],
            "model.hidden_size in the search space has no effect with model.match_parameters 500",
        ),
        (["--task.permutation=file:nosuch.txt"], "task.permutation must name a file that can be read"),
        (["--task.permutation=file:short.txt"], "task.permutation must name a file of 784 integers"),
    ],
)
def test_what_cannot_be_trained_is_bad_input_and_nothing_is_written(
    command: Callable[..., Result], toy: None, in_tmp: Path, space_file: str, words: list[str], message: str
) -> None:
    (in_tmp / "broken.py").write_text("def Own(units):\n    raise ValueError('no')\n")
    (in_tmp / "short.txt").write_text("1 2 3")
    (in_tmp / "layers.json").write_text('{"model.layer": {"choices": ["GRU", "nosuch.py:Own"]}}')
    (in_tmp / "units.json").write_text('{"model.hidden_size": {"choices": [4, 8]}}')
    small = ["--task.limit-train=40", "--task.validation-size=60", "--wandb.mode=disabled"]
    tune = ["--tuner=random", "--max-trials=1", "--dir=search", f"--space={space_file}", *small, *words]
    answer = command(tune_command.main, *tune)
    assert answer.status == 2 and message in answer.err.splitlines()[-1], answer.err
    assert not (in_tmp / "search").exists()


def test_the_default_space_is_without_what_a_configuration_does_not_allow(capsys: pytest.CaptureFixture[str]) -> None:
    lstm = tune_command.default_space(cfg.preset("baseline"))
    assert capsys.readouterr().err == "" and set(lstm) == set(tune_command.DEFAULT_SPACE)
    gru = tune_command.default_space(cfg.preset("gru"))
    assert set(lstm) - set(gru) == {"model.initializer"}
    said = "the search space is without model.initializer, which this configuration does not allow"
    assert said in capsys.readouterr().err
    original = tune_command.default_space(cfg.preset("original"))
    assert "optimizer.lr" in original and "optimizer.name" not in original


def test_the_test_set_is_never_read(
    command: Callable[..., Result], toy: None, tmp_path: Path, space_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    load = sequences.load_mnist

    def note(*args: Any) -> Any:
        asked.append(args[2])
        return load(*args)

    monkeypatch.setattr(sequences, "load_mnist", note)
    assert command(tune_command.main, *words("random", 1, tmp_path / "search", space_file, "--epochs=1")).status == 0
    assert set(asked) == {("train",)}


def test_a_trial_that_diverges_or_stays_at_chance_does_not_end_the_search(
    command: Callable[..., Result], toy: None, tmp_path: Path
) -> None:
    file = tmp_path / "wild.json"
    file.write_text(json.dumps({"optimizer.lr": {"choices": [1e-9, 3e38]}}))
    wild = ["--optimizer.grad-clip-value=null", "--optimizer.name=SGD", "--train.batch-size=10"]
    folder = tmp_path / "search"
    answer = command(tune_command.main, *words("random", 2, folder, str(file), "--epochs=4", *wild))
    assert answer.status == 0, answer.err
    rows = {row["values"]["optimizer.lr"]: row for row in trials_of(folder)}
    diverged, stopped = rows["3e+38"], rows["1e-09"]
    assert (diverged["status"], diverged["score"]) == ("diverged", 0)
    assert f"trial {diverged['trial']}: diverged\n" in answer.err
    assert (stopped["status"], stopped["epochs"]) == ("stopped", 2)
    assert 0 < stopped["score"] < AT_CHANCE
    run = RunDirectory.open(folder / "trials" / stopped["trial"])
    assert run.summary is not None
    assert (run.summary["status"], run.summary["reason"]) == ("stopped", "at chance after 2 of 4 epochs")
    assert run.history()[-1]["val_accuracy"] == stopped["score"]
    assert f"trial {stopped['trial']}: stopped (at chance after 2 of 4 epochs)\n" in answer.err
    assert "2 trials (0 completed, 1 stopped, 1 diverged)" in (folder / "report.md").read_text()


def test_a_trial_is_at_chance_on_training_and_held_out_images() -> None:
    rule = trials.stop_at_chance(4)
    row = {"train_accuracy": 0.11, "val_accuracy": 0.1}
    averaged = {"train_accuracy": 0.58, "val_accuracy": 0.16}  # averaged weights lag behind the trained ones
    assert rule([row]) is None
    assert rule([row, row]) == "at chance after 2 of 4 epochs"
    assert rule([row, averaged]) is None


def stopped_search(command: Callable[..., Result], folder: Path, space_file: Path) -> tuple[SearchFolder, list[str]]:
    """Run a search of one trial, which is stopped at chance; return its folder, and the arguments that resume it."""
    document = {"optimizer.lr": {"choices": [1e-9]}}
    space_file.write_text(json.dumps(document))
    argv = words("random", 1, folder, str(space_file), "--epochs=4", "--optimizer.name=SGD", "--train.batch-size=10")
    answer = command(tune_command.main, *argv)
    assert answer.status == 0, answer.err
    base = RunDirectory.open(folder / "trials" / "0").config
    return SearchFolder(folder, "random", base, parse_space(document), document, None), argv


def forbid_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("a trial is run again")

    monkeypatch.setattr(trials, "train", fail)
    monkeypatch.setattr(trials, "resume", fail)


def test_a_stopped_trial_is_not_run_again(
    command: Callable[..., Result], toy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, argv = stopped_search(command, tmp_path / "search", tmp_path / "space.json")
    trial = search.trial_path("0")
    before = {path: path.read_bytes() for path in (trial / "summary.json", trial / "history.jsonl")}
    rows = trials_of(search.path)
    forbid_training(monkeypatch)
    answer = command(tune_command.main, *argv)
    assert answer.status == 0, answer.err
    assert {path: path.read_bytes() for path in before} == before
    assert trials_of(search.path) == rows and rows[0]["status"] == "stopped"
    score = trials.run_job(search, Job("0", rows[0]["hyperparameters"]))  # as after a kill before KerasTuner's note
    assert score == rows[0]["score"]


def test_a_trial_whose_checkpoint_cannot_be_read_is_trained_anew(
    command: Callable[..., Result], toy: None, tmp_path: Path
) -> None:
    search, _ = stopped_search(command, tmp_path / "search", tmp_path / "space.json")
    row = trials_of(search.path)[0]
    run = RunDirectory.open(search.trial_path("0"))
    (run.path / "summary.json").unlink()
    with zipfile.ZipFile(run.resume_file, "w") as archive:  # whole, but no checkpoint
        archive.writestr("metadata.json", "{}")
    assert trials.run_job(search, Job("0", row["hyperparameters"])) == row["score"]
    assert [path.name for path in (search.path / "damaged").iterdir()] == ["trials-0-1"]


def test_a_finished_run_of_other_values_is_set_aside(
    command: Callable[..., Result], toy: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search, _ = stopped_search(command, tmp_path / "search", tmp_path / "space.json")
    row = trials_of(search.path)[0]
    change_json(search.trial_path("0") / "config.json", lambda document: document["optimizer"].update(lr=0.5))
    capsys.readouterr()
    assert trials.run_job(search, Job("0", row["hyperparameters"])) == row["score"]
    assert [path.name for path in (search.path / "damaged").iterdir()] == ["trials-0-1"]
    assert RunDirectory.open(search.trial_path("0")).config.optimizer.lr == 1e-9
    assert "is not the configuration of trial 0" in capsys.readouterr().err


def test_a_search_folder_of_before_the_status_stopped(
    command: Callable[..., Result], toy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, argv = stopped_search(command, tmp_path / "search", tmp_path / "space.json")
    run = RunDirectory.open(search.trial_path("0"))
    old = {key: value for key, value in (run.summary or {}).items() if key != "reason"} | {"status": "interrupted"}
    run.write_json("summary.json", old)
    file = search.path / "oracle" / "trial_0" / "trial.json"
    trial = json.loads(file.read_text())
    assert trial["status"] == "COMPLETED" and trial["score"] == trials_of(search.path)[0]["score"]
    file.write_text(json.dumps({**trial, "score": 0.0625}))
    (row,) = read_trials(search)
    assert (row["status"], row["score"], row["epochs"]) == ("stopped", 0.0625, 2)
    assert "1 trials (0 completed, 1 stopped, 0 diverged)" in search_report(search, [row], [], {})
    forbid_training(monkeypatch)
    answer = command(tune_command.main, *argv)
    assert answer.status == 0, answer.err
    assert run.summary == old
    file.write_text(json.dumps({**trial, "status": "RUNNING"}))
    assert read_trials(search) == []  # an interruption, after which the trial is resumed


def test_a_completed_trial_without_a_summary_is_not_reported(
    command: Callable[..., Result], toy: None, tmp_path: Path
) -> None:
    search, _ = stopped_search(command, tmp_path / "search", tmp_path / "space.json")
    (search.trial_path("0") / "summary.json").unlink()
    assert read_trials(search) == []


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
    rows = [
        {**row, "trial": "7", "score": 0.1, "status": "stopped", "epochs": 2, "escape_epoch": None},
        {**row, "score": 0.95},
    ]
    assert search_report(search, rows, [0.94, 0.96], {}) == (
        "# Search: random, 2 trials (1 completed, 1 stopped, 0 diverged)\n"
        "\n"
        "Best: trial 0, validation accuracy 95.00% after 4 epochs.\n"
        "With 2 other seeds: 95.00% ± 1.41% (94.00%, 96.00%).\n"
        "\n"
        "| hyperparameter | best | explored | at the edge |\n"
        "|---|---|---|---|\n"
        "| `optimizer.lr` | 0.0011 | 0.001 to 0.1, log-uniform | low |\n"
        '| `optimizer.name` | "Adam" | "SGD", "Adam" |  |\n'
        "| `optimizer.momentum` | - | 0.1 to 0.9 |  |\n"
        "| `train.batch_size` | 20 | 10, 20, 40 |  |\n"
        "| `model.hidden_size` | 1536 | 64 to 4096 |  |\n"
        "\n"
        "| trial | validation accuracy | status | epochs | first epoch above 50 % | seconds |\n"
        "|---|---:|---|---:|---:|---:|\n"
        "| 0 | 95.00% | completed | 4 | 2 | 13 |\n"
        "| 7 | 10.00% | stopped | 2 | - | 13 |\n"
    )


def test_a_search_that_ended_is_resumed_when_more_trials_are_allowed(
    command: Callable[..., Result], toy: None, tmp_path: Path, space_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "search"
    assert command(tune_command.main, *words("random", 2, folder, space_file, "--epochs=1")).status == 0
    first = trials_of(folder)
    trained: list[Any] = []

    def note(config: cfg.Config, path: Path, **kwargs: Any) -> Any:
        trained.append(path)
        return train(config, path, **kwargs)

    monkeypatch.setattr(trials, "train", note)
    assert command(tune_command.main, *words("random", 4, folder, space_file, "--epochs=1")).status == 0
    assert trials_of(folder)[:2] == first and len(trials_of(folder)) == 4
    assert len([path for path in trained if path.parent.name == "trials"]) == 2


TOY_TUNE = """
import os, signal, sys
from seqmnist_tf.data import sequences
from seqmnist_tf.system import run_command
from seqmnist_tf.train import callbacks
from seqmnist_tf.tune import repeats
from seqmnist_tf.tune.__main__ import main
from tests.toy import toy_mnist

sequences.load_mnist = toy_mnist
repeats.REPEATS = 1
left = int(os.environ.get("KILL_AFTER", "0"))
on_batch_end = callbacks.BatchLog.on_train_batch_end
def batch_end(self, batch, logs=None):
    global left
    on_batch_end(self, batch, logs)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
callbacks.BatchLog.on_train_batch_end = batch_end
run_command(main)
"""


def tune_elsewhere(*argv: str, kill_after: int = 0) -> int:
    environment = {**os.environ, "KILL_AFTER": str(kill_after), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", TOY_TUNE, *argv]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=250).returncode


def test_a_trial_is_a_run_of_the_searchs_group_at_wandb(tmp_path: Path, space_file: str) -> None:
    argv = words("random", 1, tmp_path / "mine", space_file, "--epochs=1", "--wandb.mode=offline")
    assert tune_elsewhere(*argv) == 0  # W&B's service would outlive this test in its process
    (record,) = (tmp_path / "mine" / "trials").glob("*/wandb/offline-run-*/run-*.wandb")
    assert b"search-mine" in record.read_bytes()


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.mark.slow
def test_a_killed_search_is_resumed_with_the_same_result(tmp_path: Path, space_file: str) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert tune_elsewhere(*words("random", 4, whole, space_file, "--epochs=3")) == 0
    for steps in (7, 12):
        arguments = words("random", 4, killed, space_file, "--epochs=3")
        assert tune_elsewhere(*arguments, kill_after=steps) == -signal.SIGKILL
    assert tune_elsewhere(*words("random", 4, killed, space_file, "--epochs=3")) == 0
    assert without_times(trials_of(killed)) == without_times(trials_of(whole))
    assert (killed / "best.json").read_bytes() == (whole / "best.json").read_bytes()


REAL = ["--task.limit-train=300", "--task.validation-size=100", "--model.hidden-size=16", "--wandb.mode=disabled"]


def start_search(folder: Path, space_file: str, trials: int, tuner: str = "random") -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "seqmnist_tf.tune",
        f"--tuner={tuner}",
        f"--max-trials={trials}",
        f"--dir={folder}",
    ]
    return subprocess.Popen([*command, f"--space={space_file}", "--workers=2", "--epochs=2", *REAL], cwd=ROOT)


def wait_for_trials(folder: Path, count: int) -> None:
    end = time.monotonic() + 200
    while len(list(folder.glob("trials/*/summary.json"))) < count:
        assert time.monotonic() < end
        time.sleep(0.1)


def pids(folder: Path, role: str) -> list[int]:
    listed = subprocess.run(["pgrep", "-a", "-f", f"seqmnist_tf.tune .*{folder} "], capture_output=True, text=True)
    found = [line.split(maxsplit=1) for line in listed.stdout.splitlines()]
    return [int(pid) for pid, words in found if ("--role worker" in words) == (role == "worker")]


@pytest.mark.slow
@pytest.mark.network
def test_a_killed_worker_is_restarted_and_all_trials_are_accounted_for(tmp_path: Path, space_file: str) -> None:
    folder = tmp_path / "search"
    with start_search(folder, space_file, 8) as process:
        wait_for_trials(folder, 2)
        os.kill(pids(folder, "worker")[0], signal.SIGKILL)
        assert process.wait(timeout=250) == 0
    assert [row["trial"] for row in trials_of(folder)] == [str(n) for n in range(8)]
    assert not pids(folder, "worker") and not pids(folder, "chief")


@pytest.mark.slow
@pytest.mark.network
def test_a_distributed_search_that_was_killed_is_resumed(tmp_path: Path, space_file: str) -> None:
    folder = tmp_path / "search"
    with start_search(folder, space_file, 6) as process:
        wait_for_trials(folder, 2)
        process.kill()
        process.wait()
    end = time.monotonic() + 20
    while pids(folder, "worker") or pids(folder, "chief"):
        assert time.monotonic() < end, "chief and workers outlive the process that started them"
        time.sleep(0.2)
    done = {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("trials/*/summary.json")}
    with start_search(folder, space_file, 6) as process:
        assert process.wait(timeout=250) == 0
    assert [row["trial"] for row in trials_of(folder)] == [str(n) for n in range(6)]
    for trial, written in done.items():
        assert (folder / "trials" / trial / "summary.json").stat().st_mtime_ns == written  # not run again


def test_bad_input_is_one_line(
    command: Callable[..., Result], toy: None, tmp_path: Path, space_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing").write_text("")
    clash = {"clip": {"choices": [{"optimizer.grad_clip_value": 1}]}}
    (tmp_path / "clash.json").write_text(json.dumps(clash))
    (tmp_path / "range.json").write_text('{"optimizer.grad_clip_value": {"low": 0.1, "high": 1}}')
    (tmp_path / "all.json").write_text('{"train.batch_size": {"choices": [20, 131]}}')  # 60,000 images leave 2
    (tmp_path / "bad.json").write_text('{"optimizer.lr": {"low": 1, "high": 0.1}}')
    good = words("random", 1, tmp_path / "search", space_file, "--epochs=1")
    for argv, message in (
        ([], "the following arguments are required: --tuner, --max-trials, --dir"),
        ([*good, "--tuner=grid"], "argument --tuner: invalid choice: 'grid'"),
        ([*good, "--max-trials=0"], "--max-trials must be 1 to 100,000 (got 0)"),
        ([*good, "--epochs=0"], "--epochs must be 1 to 100,000 (got 0)"),
        ([*good, "--workers=-1"], "--workers must be 0 to 1,000 (got -1)"),
        ([*good, "--role=worker"], "--role and --oracle go together, and without --workers"),
        (
            [*good, "--role=chief", "--oracle=nowhere"],
            "--oracle must be HOST:PORT with a port of 1 to 65535 (got 'nowhere')",
        ),
        ([*good, "--test.enabled=true"], "test.enabled must be false in a search (got true)"),
        ([*good, "--space", str(tmp_path / "bad.json")], "optimizer.lr in the search space must have low below high"),
        ([*good, "--space", str(tmp_path / "no.json")], "cannot read search space"),
        ([*good, "--dir", str(tmp_path / "file")], f"cannot write to {tmp_path / 'file'}"),
        ([*good, "--dir", str(tmp_path / "full")], f"{tmp_path / 'full'} holds other files and no search"),
        ([*good, "--optimizer.lr=0"], "optimizer.lr must be a number > 0"),
        (["quickstart", *good, "--space", str(tmp_path / "clash.json")], "optimizer.grad_clip_value and optimizer."),
        (["strong", *good, "--space", str(tmp_path / "range.json")], "optimizer.grad_clip_value and optimizer."),
        (["strong", *good, "--space", str(tmp_path / "all.json")], "train.recurrent_noise needs at least 4 images"),
    ):
        answer = command(tune_command.main, *argv)
        assert (answer.status, answer.out) == (2, ""), argv
        assert answer.err.startswith(f"error: {message}") and answer.err.count("\n") == 1, answer.err
    assert not (tmp_path / "search").exists()

    def unreadable(*_: Any) -> None:
        raise InputError("data.dir must be a folder")

    with monkeypatch.context() as patch:
        patch.setattr(sequences, "load_mnist", unreadable)
        for workers in ([], ["--workers=2"]):
            answer = command(tune_command.main, *good, *workers)
            assert answer.status == 2 and answer.err.splitlines()[-1] == "error: data.dir must be a folder"
    assert not (tmp_path / "search").exists()
    assert command(tune_command.main, *good).status == 0
    monkeypatch.setattr(sequences, "load_mnist", unreadable)
    assert command(tune_command.main, *good).status == 0  # it has ended, and its report is written again
    for change in ("--tuner=bayesian", "--optimizer.beta-1=0.5", "--epochs=2"):
        answer = command(tune_command.main, *good, change)
        assert answer.status == 2 and "holds another search" in answer.err


def test_a_layer_that_refuses_a_value_fails_its_trial_alone(
    command: Callable[..., Result], toy: None, in_tmp: Path
) -> None:
    (in_tmp / "even.py").write_text(
        "import keras\n\ndef Even(units):\n    return keras.layers.Bidirectional(keras.layers.SimpleRNN(units // 2))\n"
    )
    (in_tmp / "units.json").write_text('{"model.hidden_size": {"choices": [3, 4, 5, 6]}}')
    layer = ["--model.layer=even.py:Even", "--model.hidden-size=4"]
    answer = command(tune_command.main, *words("random", 4, in_tmp / "search", "units.json", "--epochs=1", *layer))
    assert answer.status == 0, answer.err
    assert {row["values"]["model.hidden_size"] for row in trials_of(in_tmp / "search")} == {"4", "6"}
    assert answer.err.count("model.layer even.py:Even must turn (n, 784, 1) into (n, 3)") == 1


def test_a_failure_of_a_run_ends_the_search(
    command: Callable[..., Result], toy: None, tmp_path: Path, space_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RunError("the disk is full")

    monkeypatch.setattr(trials, "train", fail)
    answer = command(tune_command.main, *words("random", 3, tmp_path / "search", space_file, "--epochs=1"))
    assert answer.status == 1
    assert answer.err.endswith("the search cannot continue: the disk is full (the same command resumes it)\n")


@pytest.mark.slow
@pytest.mark.network
def test_a_chief_and_a_worker_by_hand(tmp_path: Path, space_file: str) -> None:
    folder = tmp_path / "search"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        oracle = f"127.0.0.1:{probe.getsockname()[1]}"
    common = [sys.executable, "-m", "seqmnist_tf.tune", "--tuner=random", "--max-trials=2", f"--dir={folder}"]
    common += [f"--space={space_file}", "--epochs=1", f"--oracle={oracle}", *REAL]
    with (
        subprocess.Popen([*common, "--role=chief"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as chief,
        subprocess.Popen([*common, "--role=worker", "--worker-name=a"], cwd=ROOT) as worker,
    ):
        try:
            assert worker.wait(timeout=100) == 0
            out, _ = chief.communicate(timeout=100)
        finally:
            chief.kill()
            worker.kill()
    assert chief.returncode == 0
    assert out.count("best so far") == 2 and "train it: " in out
    assert len(trials_of(folder)) == 2


def test_a_search_holds_out_ten_thousand_images_unless_told_otherwise(command: Callable[..., Result]) -> None:
    for given, validation_size in (([], 10_000), (["--task.validation-size=60"], 60)):
        answer = command(tune_command.main, "--tuner=random", "--max-trials=1", "--dir=x", *given, "--print-config")
        printed = json.loads(answer.out)
        assert (printed["task"]["validation_size"], printed["test"]["enabled"]) == (validation_size, False)


@pytest.mark.parametrize(
    ("workers", "given", "threads"),
    [(2, [], 3), (7, [], 1), (9, [], 1), (2, ["--train.threads=5"], 5), (2, ["--train.threads", "0"], 3)],
)
def test_workers_share_the_cores(
    workers: int,
    given: list[str],
    threads: int,
    command: Callable[..., Result],
    tmp_path: Path,
    space_file: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[list[str], int]] = []
    monkeypatch.setattr(lead, "search_with_workers", lambda *args: asked.append(args[3:]))
    # TensorFlow runs already, with its own threads.
    monkeypatch.setattr(lead, "require_trainable", lambda *_, **__: None)
    monkeypatch.setattr(tune_command.system, "available_cores", lambda: 7)
    argv = words("random", 1, tmp_path / "search", space_file)
    assert command(tune_command.main, *argv, *given, f"--workers={workers}").status == 0
    assert asked == [([*argv, f"--train.threads={threads}"], workers)]


def test_options_are_left_out_of_a_command_line() -> None:
    argv = ["--workers", "2", "--epochs=1", "--worker_name=b", "a", "--workers=3"]
    assert without_options(argv, ("workers", "worker-name")) == ["--epochs=1", "a"]


def test_help_and_bad_input_do_not_wait_for_tensorflow(tmp_path: Path) -> None:
    code = (
        "import sys; from seqmnist_tf import system; from seqmnist_tf.tune.__main__ import main\n"
        "try: system.run_command(main)\n"
        "finally: print(sorted({'tensorflow', 'keras', 'keras_tuner', 'matplotlib'} & set(sys.modules)))"
    )
    good = ["--tuner=random", "--max-trials=1", f"--dir={tmp_path / 'search'}"]
    for argv, status in (
        (["--help"], 0),
        ([*good, "--print-config"], 0),
        ([*good, "--epochs=0"], 2),
        ([*good, "--space", str(tmp_path / "missing.json")], 2),
        ([*good, "--optimizer.lr=0"], 2),
        ([*good, "--dir", str(ROOT)], 2),
    ):
        answer = subprocess.run([sys.executable, "-c", code, *argv], cwd=tmp_path, capture_output=True, text=True)
        assert answer.returncode == status, answer.stderr
        assert answer.stdout.splitlines()[-1] == "[]", argv
        assert answer.stderr.startswith("error: ") if status else not answer.stderr
    assert not (tmp_path / "search").exists()


def test_the_help_lists_the_search_space_with_its_reasons(command: Callable[..., Result]) -> None:
    shown = " ".join(command(tune_command.main, "--help").out.split())
    assert len(tune_command.DEFAULT_SPACE) > 5
    for name, row in tune_command.DEFAULT_SPACE.items():
        assert f" {name}: " in shown and " ".join(row["reason"].split()) in shown

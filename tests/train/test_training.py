"""Training runs on toy data: the run directory, its logs, and every way in which a run ends."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import re
import resource
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from seqmnist_tf import config as cfg
from seqmnist_tf.data import load_splits, pixel_order, sequences
from seqmnist_tf.evaluate import main as evaluate_main
from seqmnist_tf.model import build_model
from seqmnist_tf.system import read_json_object, replace_atomically
from seqmnist_tf.train import (
    Metrics,
    RunDirectory,
    callbacks,
    evaluate_model,
    load_final_model,
    log_problems,
    overview,
    resume,
    training,
)
from seqmnist_tf.train.__main__ import main as train_main
from seqmnist_tf.train.callbacks import BatchLog
from seqmnist_tf.train.terminal import Interruption
from seqmnist_tf.train.wandb_run import Tracker
from tests.changes import change_json
from tests.conftest import Command
from tests.toy import LONG_SECONDS, SMALL, toy_mnist


def read_losses(run: Path) -> list[float]:
    with (run / "steps.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert not rows or list(rows[0]) == ["step", "loss", "gradient_norm"]
    assert [int(row["step"]) for row in rows] == list(range(1, len(rows) + 1))
    return [float(row["loss"]) for row in rows]


def test_a_run_leaves_all_that_the_contract_names(
    command: Command, in_tmp: Path, toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_and_forget(path: Path, save: Any) -> None:
        replace_atomically(path, save)
        save.__self__.set_weights([0 * weights for weights in save.__self__.get_weights()])

    monkeypatch.setattr(training, "replace_atomically", save_and_forget)  # results are those of the file model.keras
    options = (*SMALL, "--train.n-epochs=2", "--task.validation-size=20", "--train.seed=3", "--train.kernel=keras")
    result = command(train_main, *options, "--optimizer.schedule=cosine", "--tensorboard.enabled=true")
    assert result.status == 0
    (run,) = (in_tmp / "runs").iterdir()
    assert re.fullmatch(r"baseline-3-\d{8}-\d{6}", run.name)
    files = ".lock checkpoints config.json environment.json history.jsonl model.keras overview.png pixel_order.txt"
    files += " predictions.csv steps.csv summary.json tensorboard"
    assert {p.name for p in run.iterdir()} == {*files.split()}
    rows = RunDirectory(run).history()
    for row in rows:
        assert f"  test loss {row['test_loss']:.4f} accuracy {row['test_accuracy']:.2%}  " in result.out
    for folder, tag, key in (("train", "epoch_test_loss", "test_loss"), ("validation", "epoch_loss", "val_loss")):
        events = EventAccumulator(str(run / "tensorboard" / folder)).Reload().Tensors(tag)
        assert [float(make_ndarray(event.tensor_proto)) for event in events] == pytest.approx([r[key] for r in rows])
    checkpoints = {p.name for p in (run / "checkpoints").iterdir()}
    assert checkpoints == {"epoch-0001.keras", "epoch-0002.keras", "resume.keras"}
    config = cfg.read_config(run / "config.json")
    assert config.train.seed == 3
    environment = read_json_object(run / "environment.json")
    assert environment["kernel"] == "keras"
    assert environment["threads"] >= 1
    assert environment["versions"]["tensorflow"]
    assert environment["command"].startswith("python -m seqmnist_tf.train --model.hidden-size=4")
    summary = read_json_object(run / "summary.json")
    assert summary["status"] == "completed"
    assert summary["config_id"] == cfg.config_id(config)
    assert (summary["seed"], summary["epochs"], summary["num_params"]) == (3, 2, 4 * 4 * 6 + 50)

    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    keys = "epoch train_loss train_accuracy test_loss test_accuracy val_loss val_accuracy learning_rate seconds"
    assert [list(row) for row in history] == [keys.split()] * 2
    assert len(read_losses(run)) == 6
    assert log_problems(RunDirectory(run)) == []  # counts, means, sums and the best epoch
    final, best = summary["final"], summary["best"]
    assert final["test_correct"] / final["test_total"] == final["test_accuracy"] == history[1]["test_accuracy"]
    assert (final["epoch"], final["test_total"]) == (2, 30)
    assert final["test_loss"] == history[1]["test_loss"]
    assert best["val_accuracy"] == max(row["val_accuracy"] for row in history)

    reloaded = keras.saving.load_model(run / "model.keras")
    assert not reloaded.compiled
    held_out = load_splits(config, pixel_order("none")).validation
    assert held_out is not None and len(held_out) == 20
    measured = evaluate_model(reloaded, held_out, 20)
    assert history[1]["val_loss"] == pytest.approx(measured.loss, rel=1e-5)
    assert history[1]["val_accuracy"] == measured.accuracy
    rebuilt = build_model(config)
    rebuilt.load_weights(run / "checkpoints" / "epoch-0002.keras")
    assert all(np.array_equal(a, b) for a, b in zip(reloaded.get_weights(), rebuilt.get_weights(), strict=True))
    assert f"run {run.relative_to(in_tmp)}" in result.out and "look closer: " in result.out


def test_training_accuracy_counts_each_image_once(command: Command, in_tmp: Path, toy: None) -> None:
    still = ("--train.n-epochs=1", "--optimizer.name=SGD", "--optimizer.lr=1e-12", "--model.initializer=torch")
    assert command(train_main, *SMALL, *still, "--run-dir=run").status == 0
    run = RunDirectory(in_tmp / "run")
    images = load_splits(run.config, run.pixel_order()).train
    measured = evaluate_model(load_final_model(run), images, 40)
    assert (measured.predictions == images.labels)[32:].any()  # in the last batch, which is half as large
    assert run.history()[0]["train_accuracy"] == measured.correct / 40


def test_the_test_set_stays_closed(command: Command, in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def only_train(source: str, folder: str | None, splits: tuple[str, ...]) -> Any:
        assert splits == ("train",)
        return toy_mnist(splits=splits)

    monkeypatch.setattr(sequences, "load_mnist", only_train)
    words = ["--train.n-epochs=2", "--test.enabled=false", "--task.validation-size=20", "--run-dir=run"]
    assert command(train_main, *SMALL, *words).status == 0
    summary = read_json_object(in_tmp / "run" / "summary.json")
    for result in (summary["final"], summary["best"]):
        assert [result[k] for k in ("test_loss", "test_accuracy", "test_correct", "test_total")] == [None] * 4
        assert result["val_accuracy"] >= 0
    row = RunDirectory(in_tmp / "run").history()[0]
    assert row["test_loss"] is None and row["test_accuracy"] is None and row["val_loss"] > 0
    names = {path.name for path in (in_tmp / "run").iterdir()}
    assert "overview.png" in names and "predictions.csv" not in names
    monkeypatch.setattr(sequences, "load_mnist", toy_mnist)
    assert command(evaluate_main, "run").status == 0


def test_a_loss_that_is_not_finite_stops_the_run(command: Command, in_tmp: Path, toy: None) -> None:
    words = ["--optimizer.lr=1e38", "--optimizer.grad-clip-value=null", "--optimizer.name=SGD"]
    result = command(train_main, *SMALL, *words, "--train.n-epochs=3", "--run-dir=run")
    assert result.status == 1
    assert "warning: the t" in result.err and " loss is " in result.err and "diverged" in result.err
    summary = read_json_object(in_tmp / "run" / "summary.json")
    assert (summary["status"], summary["final"]) == ("diverged", None)
    assert re.fullmatch(r"the (training|test) loss is (nan|inf) .*", summary["reason"])
    assert "run run (diverged, " in result.out
    assert "--resume" not in result.out  # it would diverge again
    assert read_losses(in_tmp / "run")
    assert not (in_tmp / "run" / "model.keras").exists()


def test_a_test_loss_that_is_not_finite_leaves_no_epoch(
    command: Command, in_tmp: Path, toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_finite(*args: Any) -> Metrics:
        return replace(evaluate_model(*args), loss=math.nan)

    monkeypatch.setattr(callbacks, "evaluate_model", not_finite)
    result = command(train_main, *SMALL, "--train.n-epochs=2", "--run-dir=run")
    assert result.status == 1
    assert "the test loss is nan after epoch 1" in result.err
    run = RunDirectory(in_tmp / "run")
    assert ((run.summary or {})["status"], run.history()) == ("diverged", [])
    assert len(read_losses(run.path)) == 3
    assert not list((run.path / "checkpoints").iterdir()) and not (run.path / "model.keras").exists()


def test_weights_that_are_not_finite_leave_no_epoch(command: Command, in_tmp: Path, toy: None) -> None:
    """The last step of an epoch can spoil the weights after its loss was computed, and here nothing else is scored."""
    words = ["--task.limit-train=16", "--train.n-epochs=1", "--test.enabled=false", "--optimizer.lr=3e38"]
    result = command(train_main, *SMALL, *words, "--run-dir=run")
    assert result.status == 1
    run = RunDirectory(in_tmp / "run")
    summary = run.summary or {}
    assert (summary["status"], summary["final"], run.history()) == ("diverged", None, [])
    assert re.fullmatch(r"the weights .* are not all finite after epoch 1", summary["reason"])
    assert f"warning: {summary['reason']}: the run has diverged and is stopped" in result.err
    assert len(read_losses(run.path)) == 1 and log_problems(run) == []
    assert not list((run.path / "checkpoints").iterdir()) and not (run.path / "model.keras").exists()
    assert command(evaluate_main, "run", "--json").status == 2


def test_an_interrupted_run_ends_cleanly_and_can_go_on(command: Command, tmp_path: Path, toy: None) -> None:
    run = tmp_path / "run"

    def interrupt() -> None:
        deadline = time.monotonic() + LONG_SECONDS
        while len(RunDirectory(run).history()) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    result = command(train_main, *SMALL, "--train.n-epochs=1000", f"--run-dir={run}")
    thread.join()
    assert result.status == 130
    assert "Traceback" not in result.err
    assert f"resume it:     python -m seqmnist_tf.train --run-dir {run} --resume" in result.out
    summary = read_json_object(run / "summary.json")
    assert (summary["status"], summary["final"]) == ("interrupted", None)
    assert summary["epochs"] == len(RunDirectory(run).history()) >= 2
    assert not list(run.rglob(".new-*"))
    further = resume(run, stop_rule=lambda history: "enough" if len(history) > summary["epochs"] else None)
    assert (further["status"], further["epochs"]) == ("stopped", summary["epochs"] + 1)


def test_a_signal_after_the_last_batch_ends_the_process_and_not_the_run(
    command: Command, in_tmp: Path, toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_and_interrupt(*words: Any) -> None:
        overview.write_overview(*words)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(training, "write_overview", write_and_interrupt)
    assert command(train_main, *SMALL, "--train.n-epochs=1", "--run-dir=run").status == 130
    assert read_json_object(in_tmp / "run" / "summary.json")["status"] == "completed"
    again = command(train_main, "--run-dir=run", "--resume")
    assert again.status == 0 and "run run (completed, 1 epochs" in again.out


def test_signals_are_handed_back_and_a_second_one_interrupts_at_once() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            interruption.on_predict_batch_end(0)
    assert [signal.getsignal(number) for number in numbers] == before


def test_an_interrupt_before_the_run_leaves_nothing(
    command: Command, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sequences, "load_mnist", interrupt)
    assert command(train_main, *SMALL, "--run-dir=run").status == 130
    assert not list(in_tmp.iterdir())


def test_a_full_disk_is_an_error_and_the_checkpoint_stays(command: Command, finished: Path) -> None:
    whole, model = ((finished / "checkpoints" / name).read_bytes() for name in ("resume.keras", "epoch-0001.keras"))
    assert len(model) < len(whole)
    (finished / "summary.json").unlink()
    change_json(finished / "config.json", lambda config: config["train"].update(n_epochs=3))
    config_id = cfg.config_id(cfg.read_config(finished / "config.json"))
    change_json(finished / "environment.json", lambda environment: environment.update(config_id=config_id))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The model of the second epoch fits, its checkpoint does not: the system answers as a full disk does.
    resource.setrlimit(resource.RLIMIT_FSIZE, ((len(model) + len(whole)) // 2, limit[1]))
    try:
        done = command(train_main, "--resume", "--run-dir=run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert done.status == 1, done
    assert "error: cannot continue run: [Errno 27] File too large" in done.err
    assert "--run-dir run --resume" in done.err
    assert "Traceback" not in done.err
    assert (finished / "checkpoints" / "resume.keras").read_bytes() == whole
    assert (finished / "checkpoints" / "epoch-0002.keras").exists()
    assert read_json_object(finished / "summary.json")["status"] == "failed"
    assert command(train_main, "--resume", "--run-dir=run").status == 0
    assert read_json_object(finished / "summary.json")["epochs"] == 3


def test_a_disk_that_is_full_at_the_end_is_one_error_that_says_how_to_resume(
    command: Command, in_tmp: Path, toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = BatchLog.close

    def fail(self: BatchLog) -> None:
        close(self)
        raise OSError(errno.ENOSPC, "No space left on device")

    finished: list[str] = []
    monkeypatch.setattr(BatchLog, "close", fail)
    monkeypatch.setattr(Tracker, "finish", lambda self, summary: finished.append(summary["status"]))
    done = command(train_main, *SMALL, "--train.n-epochs=1", "--run-dir=run")
    assert done.status == 1 and "Traceback" not in done.err
    assert "No space left on device (resume it: python -m seqmnist_tf.train --run-dir run --resume)" in done.err
    assert finished == [read_json_object(in_tmp / "run/summary.json")["status"]] == ["failed"]


def test_a_run_directory_appears_with_its_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> None:
        files = {"checkpoints", "config.json", "environment.json", "pixel_order.txt"}
        assert {path.name for path in self.iterdir()} == files
        raise OSError("no")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="no"):
        RunDirectory.create(tmp_path / "run", cfg.Config(), {}, np.arange(784))
    assert not list(tmp_path.iterdir())

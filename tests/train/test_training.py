"""Training runs on toy data: the run directory, its logs, and every way in which a run ends."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import re
import resource
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from seqmnist_tf import config as cfg
from seqmnist_tf.data import load_splits, pixel_order, sequences
from seqmnist_tf.evaluate import main as evaluate_main
from seqmnist_tf.model import Kernel, MeasuredSequential, build_model
from seqmnist_tf.system import RunError, read_json, replace_atomically, write_atomically
from seqmnist_tf.train import (
    LayerFailedError,
    Metrics,
    RunDirectory,
    callbacks,
    evaluate_model,
    load_final_model,
    log_problems,
    page,
    parse_train_arguments,
    resume,
    summarize,
    train,
    training,
)
from seqmnist_tf.train.__main__ import main as train_main
from seqmnist_tf.train.terminal import Interruption, ProgressBar, announce_kernel, announce_origin
from tests.changes import change_json
from tests.conftest import Command
from tests.toy import LONG_SECONDS, SMALL, finished_run, toy_mnist


def read_losses(run: Path) -> list[float]:
    with (run / "steps.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert not rows or list(rows[0]) == ["step", "loss", "gradient_norm"]
    assert [int(row["step"]) for row in rows] == list(range(1, len(rows) + 1))
    return [float(row["loss"]) for row in rows]


def test_a_run_leaves_all_that_the_contract_names(command: Command, in_tmp: Path, toy: None) -> None:
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
    for folder, tag, key in (
        ("train", "epoch_learning_rate", "learning_rate"),
        ("train", "epoch_test_loss", "test_loss"),
        ("validation", "epoch_loss", "val_loss"),
    ):
        events = EventAccumulator(str(run / "tensorboard" / folder)).Reload().Tensors(tag)
        assert [float(make_ndarray(event.tensor_proto)) for event in events] == pytest.approx([r[key] for r in rows])
    checkpoints = {p.name for p in (run / "checkpoints").iterdir()}
    assert checkpoints == {"epoch-0001.keras", "epoch-0002.keras", "resume.keras"}
    config = cfg.read_config(run / "config.json")
    assert config.train.seed == 3
    environment = read_json(run / "environment.json")
    assert environment["kernel"] == "keras"
    assert environment["threads"] >= 1
    assert environment["versions"]["tensorflow"]
    assert environment["command"].startswith("python -m seqmnist_tf.train --model.hidden-size=4")
    summary = read_json(run / "summary.json")
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
    assert "this run cannot be published as a record: " in result.out.split("epoch 1/")[0]  # before hours are spent
    for words in (f"run {run.relative_to(in_tmp)}", f"test accuracy {final['test_accuracy']:.2%}", "look closer: "):
        assert words in result.out


def test_training_accuracy_counts_each_image_once(command: Command, in_tmp: Path, toy: None) -> None:
    still = ("--train.n-epochs=1", "--optimizer.name=SGD", "--optimizer.lr=1e-12", "--model.initializer=torch")
    assert command(train_main, *SMALL, *still, "--run-dir=run").status == 0
    run = RunDirectory(in_tmp / "run")
    images = load_splits(run.config, run.pixel_order()).train
    measured = evaluate_model(load_final_model(run), images, 40)
    assert (measured.predictions == images.labels)[32:].any()  # in the last batch, which is half as large
    assert run.history()[0]["train_accuracy"] == measured.correct / 40


def test_without_a_held_out_split_nothing_is_best(trained: Path) -> None:
    summary = read_json(trained / "summary.json")
    assert summary["best"] is None
    assert summary["escape_epoch"] is None
    assert "val_loss" not in read_json(trained / "history.jsonl")


def test_the_test_set_stays_closed(command: Command, in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def only_train(source: str, folder: str | None, splits: tuple[str, ...]) -> Any:
        assert splits == ("train",)
        return toy_mnist(splits=splits)

    monkeypatch.setattr(sequences, "load_mnist", only_train)
    words = ["--train.n-epochs=2", "--test.enabled=false", "--task.validation-size=20", "--run-dir=run"]
    assert command(train_main, *SMALL, *words).status == 0
    summary = read_json(in_tmp / "run" / "summary.json")
    for result in (summary["final"], summary["best"]):
        assert [result[k] for k in ("test_loss", "test_accuracy", "test_correct", "test_total")] == [None] * 4
        assert result["val_accuracy"] >= 0
    row = RunDirectory(in_tmp / "run").history()[0]
    assert row["test_loss"] is None and row["test_accuracy"] is None and row["val_loss"] > 0
    names = {path.name for path in (in_tmp / "run").iterdir()}
    assert "overview.png" in names and "predictions.csv" not in names
    monkeypatch.setattr(sequences, "load_mnist", toy_mnist)
    assert command(evaluate_main, "run").status == 0


@pytest.mark.filterwarnings("ignore:Limiting epochs")
def test_a_training_that_keras_ends_early_is_not_completed(command: Command, in_tmp: Path, toy: None) -> None:
    keras.config.set_max_epochs(1)
    try:
        result = command(train_main, *SMALL, "--train.n-epochs=2", "--run-dir=run")
    finally:
        keras.config.set_max_epochs(None)
    assert result.status == 1
    assert result.err.splitlines()[-1].startswith(
        "error: Keras ended the training after 3 steps (unset KERAS_MAX_EPOCHS"
    )
    assert read_json(in_tmp / "run/summary.json")["status"] == "failed"
    assert command(train_main, "--run-dir=run", "--resume").status == 0
    assert read_json(in_tmp / "run/summary.json")["status"] == "completed"


def test_escape_is_the_first_epoch_above_one_half() -> None:
    base = {"seconds": 1.0, "test_loss": 1.0}
    history = [{**base, "epoch": k + 1, "test_accuracy": a} for k, a in enumerate([0.1, 0.5, 0.51, 0.2, 0.51])]
    config = cfg.Config()
    assert summarize(history, config, "interrupted")["escape_epoch"] == 3
    assert summarize(history[:2], config, "interrupted")["escape_epoch"] is None
    closed = cfg.with_values(config, {"test.enabled": False, "task.validation_size": 10})
    rows = [{**row, "val_accuracy": row["test_accuracy"], "val_loss": 1.0, "test_accuracy": None} for row in history]
    rows[4]["val_loss"] = 0.9
    summary = summarize(rows, closed, "completed")
    assert summary["escape_epoch"] == 3
    assert summary["best"]["epoch"] == 5  # as accurate as epoch 3, with a lower loss


def test_the_data_that_a_configuration_names_are_read(
    command: Command, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def load(source: str, folder: str | None, splits: tuple[str, ...]) -> Any:
        asked.append((source, folder, splits))
        return toy_mnist(splits=splits)

    monkeypatch.setattr(sequences, "load_mnist", load)
    words = ["--train.n-epochs=1", "--data.dir=my data", "--data.source=pypi", "--run-dir=run"]
    words.append("--task.permutation=seed:1")  # which the evaluation takes from the run
    out = command(train_main, *SMALL, *words).out
    assert "look closer:   python -m seqmnist_tf.evaluate run --data-dir 'my data'\n" in out
    answer, table = command(evaluate_main, "run", "--json"), command(evaluate_main, "run", "--data-dir=there").out
    # The run's own source and folder are another machine's, perhaps.
    read = [("pypi", "my data", ("train", "test")), ("auto", None, ("test",)), ("auto", "there", ("test",))]
    assert asked == read
    counted, final = json.loads(answer.out), (RunDirectory(Path("run")).summary or {})["final"]
    for key in ("test_correct", "test_total", "test_accuracy", "test_loss"):
        assert counted[key] == final[key]
    assert np.sum(counted["confusion"]) == counted["test_total"] == 30
    assert np.trace(counted["confusion"]) == counted["test_correct"]
    assert len(counted["per_class_accuracy"]) == 10
    low, high = counted["wilson_95"]
    assert 0 <= low <= counted["test_accuracy"] <= high <= 1
    assert f"({final['test_correct']} of 30; 95 % Wilson interval" in table and len(table.splitlines()) == 14


def test_the_plateau_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"train_loss": 2.3, "train_accuracy": 0.1, "test_loss": 2.3, "test_accuracy": 0.1, "seconds": 1.0}
    bar = ProgressBar(cfg.Config())
    for epoch in (0, 1):
        bar.on_epoch_end(epoch, row)
    first, second = (line for line in capsys.readouterr().out.splitlines() if line.startswith("warning"))
    assert second == "warning: still near chance (10.0%)"
    assert first == (
        f"{second}; many recipes are near chance in their first epochs, and some to their end "
        "(--model.forget_bias chrono avoids it)"
    )
    averaged = cfg.with_values(cfg.Config(), {"optimizer.ema_momentum": 0.9})
    ProgressBar(averaged).on_epoch_end(0, {**row, "train_accuracy": 0.5})
    assert "the averaged weights lag behind the trained ones (50.0%)" in capsys.readouterr().out


def test_a_loss_that_is_not_finite_stops_the_run(command: Command, in_tmp: Path, toy: None) -> None:
    words = ["--optimizer.lr=1e38", "--optimizer.grad-clip-value=null", "--optimizer.name=SGD"]
    result = command(train_main, *SMALL, *words, "--train.n-epochs=3", "--run-dir=run")
    assert result.status == 1
    assert "warning: the t" in result.err and " loss is " in result.err and "diverged" in result.err
    summary = read_json(in_tmp / "run" / "summary.json")
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
    assert command(evaluate_main, "run", "--json").err == "error: run has no model.keras: the run is diverged\n"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "run/model.keras has no results: the weights lstm/lstm_cell/kernel are not all finite (its run has"),
        (3e38, "run has no test results: the test loss of its model.keras is nan"),
    ],
)
def test_a_completed_run_of_an_older_version_without_finite_results_says_so(
    value: float, message: str, command: Command, in_tmp: Path, toy: None
) -> None:
    run = finished_run(in_tmp / "run", task__limit_test=30)
    model = load_final_model(run)
    model.set_weights([np.full_like(weights, value) for weights in model.get_weights()])
    model.save(run.path / "model.keras")
    for words in (["run", "--json"], ["run"]):
        result = command(evaluate_main, *words)
        assert (result.status, result.out) == (2, "")
        assert result.err.splitlines()[-1].startswith(f"error: {message}"), result.err


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
    summary = read_json(run / "summary.json")
    assert (summary["status"], summary["final"]) == ("interrupted", None)
    assert summary["epochs"] == len(RunDirectory(run).history()) >= 2
    assert not list(run.rglob(".new-*"))
    further = resume(run, stop_rule=lambda history: "enough" if len(history) > summary["epochs"] else None)
    assert (further["status"], further["epochs"]) == ("stopped", summary["epochs"] + 1)


def test_a_signal_after_the_last_batch_ends_the_process_and_not_the_run(
    command: Command, in_tmp: Path, toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_and_interrupt(*words: Any) -> None:
        page.write_overview(*words)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(training, "write_overview", write_and_interrupt)
    assert command(train_main, *SMALL, "--train.n-epochs=1", "--run-dir=run").status == 130
    assert read_json(in_tmp / "run" / "summary.json")["status"] == "completed"
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


@contextlib.contextmanager
def file_limit(size: int) -> Iterator[None]:
    """Let this process write no file longer than ``size``: the system answers as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN  # as Python sets it
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_an_error_and_the_checkpoint_stays(command: Command, finished: Path) -> None:
    whole, model = ((finished / "checkpoints" / name).read_bytes() for name in ("resume.keras", "epoch-0001.keras"))
    assert len(model) < len(whole)
    (finished / "summary.json").unlink()
    change_json(finished / "config.json", lambda config: config["train"].update(n_epochs=3))
    config_id = cfg.config_id(cfg.read_config(finished / "config.json"))
    change_json(finished / "environment.json", lambda environment: environment.update(config_id=config_id))
    with file_limit((len(model) + len(whole)) // 2):  # the model of the second epoch fits, its checkpoint does not
        done = command(train_main, "--resume", "--run-dir=run")
    assert done.status == 1, done
    assert "error: cannot continue run: [Errno 27] File too large" in done.err
    assert "--run-dir run --resume continues from it" in done.err
    assert "Traceback" not in done.err
    assert (finished / "checkpoints" / "resume.keras").read_bytes() == whole
    assert (finished / "checkpoints" / "epoch-0002.keras").exists()
    assert read_json(finished / "summary.json")["status"] == "failed"
    assert command(train_main, "--resume", "--run-dir=run").status == 0
    assert read_json(finished / "summary.json")["epochs"] == 3


@pytest.mark.parametrize(
    ("error", "of_the_run"),
    [
        (MemoryError("cannot allocate memory"), True),
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"), True),
        (tf.errors.ResourceExhaustedError(None, None, "events; No space left on device"), False),
        (tf.errors.ResourceExhaustedError(None, None, "events; Disk quota exceeded"), False),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_too_little_memory_is_a_fault_of_the_run_and_a_full_disk_is_not(
    error: Exception, of_the_run: bool, in_tmp: Path, toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search goes on after a trial that is too large, and ends where nothing can be written."""

    def fail(*_: Any, **__: Any) -> None:
        if (in_tmp / "other").is_dir():  # after its first epoch
            RunDirectory(in_tmp / "other").resume_file.touch()
        raise error

    monkeypatch.setattr(MeasuredSequential, "fit", fail)
    with pytest.raises(RunError, match=r"cannot continue .*starts over") as raised:
        train(parse_train_arguments([*SMALL]).config, in_tmp / "run")
    assert isinstance(raised.value, LayerFailedError) is of_the_run
    with pytest.raises(RunError, match="continues from it") as raised:
        train(parse_train_arguments([*SMALL]).config, in_tmp / "other")
    assert not isinstance(raised.value, LayerFailedError)


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def half(new: Path) -> None:
        new.write_bytes(b"ne")
        assert new != path and path.read_bytes() == b"old"
        raise OSError(28, "full")

    with pytest.raises(OSError, match="full"):
        replace_atomically(path, half)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_run_directory_appears_with_its_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> None:
        assert sorted(p.name for p in self.iterdir()) == [
            "checkpoints",
            "config.json",
            "environment.json",
            "pixel_order.txt",
        ]
        raise OSError("no")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="no"):
        RunDirectory.create(tmp_path / "run", cfg.Config(), {}, np.arange(784))
    assert not list(tmp_path.iterdir())


CLEAN = {"commit": "c0ffee", "dirty": False}


def test_an_interruption_needs_nobody_who_reads_stderr() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stderr = os.dup(2)
    os.dup2(writer, 2)
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGINT)
            assert interruption.requested
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(writer)


@pytest.mark.parametrize("path", ["x" * 300, "folder/" + "x" * 300, "x" * 250, "ü" * 125 + "/run"])
def test_a_path_that_is_too_long_is_refused(path: str, command: Command, in_tmp: Path) -> None:
    for words in ([f"--run-dir={path}"], [f"--run-dir={path}", "--resume"], [f"--run-dir={path}", "--resume=auto"]):
        result = command(train_main, *words)
        assert result.status == 2 and result.err.startswith("error: ") and result.err.count("\n") == 1
        assert not result.out and not list(in_tmp.iterdir())


TRAIN = "python -m seqmnist_tf.train strong"


@pytest.mark.parametrize(
    ("values", "git", "command_line", "sentence"),
    [
        ({}, CLEAN, TRAIN, ""),
        ({}, CLEAN, "", "cannot be published as a record: it was not started by python -m seqmnist_tf.train"),
        ({}, CLEAN, "python -m seqmnist_tf.tune", "it was not started by python -m seqmnist_tf.train"),
        ({}, {"commit": "c0ffee", "dirty": True}, TRAIN, "differ from the commit"),
        ({}, {"commit": "c0ffee", "dirty": None}, TRAIN, "differ from the commit"),
        ({}, {"commit": None, "dirty": None}, TRAIN, "can be published as a record only if 1.2 is a released version"),
        ({"test.enabled": False}, CLEAN, TRAIN, "it must be tested on all 10,000 images"),  # tests/config has them all
    ],
)
def test_a_run_that_cannot_be_published_says_so(
    values: dict[str, Any], git: dict[str, Any], command_line: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {"git": git, "command": command_line, "versions": {"seqmnist_tf": "1.2"}}
    announce_origin(environment, cfg.with_values(cfg.Config(), values))
    out = capsys.readouterr().out
    assert sentence in out and bool(out) == bool(sentence) and out.count("\n") <= 1


def test_the_first_line_says_what_computes_the_layer(capsys: pytest.CaptureFixture[str]) -> None:
    own = cfg.with_values(cfg.Config(), {"model.layer": "examples/lem.py:LEM"})
    announce_kernel(Kernel("avx2"), cfg.Config())
    announce_kernel(Kernel("avx2", None, True), own)
    announce_kernel(Kernel(None), cfg.Config())
    announce_kernel(Kernel(None, "no compiler"), cfg.Config())
    slow = "on stock Keras, on a CPU several times slower than the native kernel: "
    assert capsys.readouterr().out.splitlines() == [
        "LSTM on the native kernel (avx2)",
        "LEM on the native kernel (avx2)",
        f"{slow}train.kernel is keras",
        f"{slow}no compiler",
    ]

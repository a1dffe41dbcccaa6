"""The one check that history, batch losses, configuration and summary of a run agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.data import pixel_order
from seqmnist_tf.train import RunDirectory, log_problems
from tests.changes import Change, change_json, put, replace, row
from tests.toy import ROOT, write_logs

VALUES: dict[str, Any] = {"task.limit_train": 40, "task.limit_test": 30, "train.batch_size": 16, "train.n_epochs": 2}
TRIAL: dict[str, Any] = {"test.enabled": False, "task.validation_size": 30}


def logged(path: Path, accuracies: tuple[float, ...] = (0.2, 0.5), status: str = "completed", **values: Any) -> Path:
    config = cfg.validate(
        cfg.with_values(cfg.Config(), VALUES | {key.replace("__", "."): value for key, value in values.items()})
    )
    run = RunDirectory.create(path, config, {}, pixel_order("none"))
    write_logs(run, accuracies, status)
    return run.path


def problems(path: Path, epochs: int | None = None) -> list[str]:
    return log_problems(RunDirectory(path), epochs=epochs)


def test_no_number_is_written_that_json_does_not_have(tmp_path: Path) -> None:
    run = RunDirectory(logged(tmp_path / "run"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.append_history({"epoch": 3, "train_loss": float("nan")})


def test_the_files_of_a_run_agree_however_it_ended(tmp_path: Path) -> None:
    assert problems(logged(tmp_path / "completed")) == []
    assert problems(logged(tmp_path / "trial", **TRIAL)) == []
    assert problems(logged(tmp_path / "both", task__validation_size=30)) == []
    assert problems(logged(tmp_path / "stopped", (0.1,), "stopped")) == []
    diverged = logged(tmp_path / "diverged", (0.1,), "diverged")
    with (diverged / "steps.csv").open("a") as file:
        file.write("4,1.5\n5,nan\n")
    assert problems(diverged) == []
    for status in ("interrupted", "failed"):
        put("status", value=status)(diverged / "summary.json")
        assert problems(diverged) == []
    (diverged / "summary.json").unlink()  # it was killed, or is being trained
    assert problems(diverged) == []
    assert problems(diverged, epochs=1) == []
    assert problems(diverged, epochs=2) == ["history.jsonl must have epochs 1 to 2 (got 1 rows)"]


def test_the_files_of_an_older_run_agree() -> None:
    assert problems(Path(__file__).parent / "run_of_0.1.0") == []
    assert problems(ROOT / "results" / "quickstart" / "seed0") == []


def final(**values: Any) -> tuple[str, Change]:
    return "summary.json", lambda path: change_json(path, lambda document: document["final"].update(values))


def summary(key: str, value: Any) -> tuple[str, Change]:
    return "summary.json", put(key, value=value)


def epoch(number: int, **values: Any) -> tuple[str, Change]:
    return "history.jsonl", row(number - 1, **values)


def steps(old: str, new: str) -> tuple[str, Change]:
    return "steps.csv", replace(old, new)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (final(test_correct=30, test_accuracy=1.0), "test_correct in summary.json does not match the last"),
        (final(test_accuracy=1.0), "test_accuracy in summary.json is not test_correct / 30"),
        (final(test_total=31), "is not test_correct / 30"),
        (final(test_correct=15.0), "is not test_correct / 30"),
        (final(test_loss=1.01), "test_loss in summary.json does not match the last epoch"),
        (final(epoch=1), "final in summary.json does not match config.json and history.jsonl"),
        (summary("epochs", 3), "epochs in summary.json does not match"),
        (summary("escape_epoch", 1), "escape_epoch in summary.json does not match"),
        (summary("seconds_total", 6.01), "seconds_total in summary.json does not match"),
        (summary("best", {"epoch": 1}), "best in summary.json does not match"),
        (summary("config_id", "0" * 12), "config_id in summary.json does not match"),
        (summary("status", "stopped"), "final in summary.json does not match"),
        (summary("status", "well"), "diverged, interrupted, stopped or failed (got 'well')"),
        (summary("final", None), "not in the format of a run directory (TypeError: "),
        (epoch(1, epoch=2), "history.jsonl must have epochs 1 to 2 (got 2 rows)"),
        (epoch(1, train_loss=1.0), "train_loss of epoch 1 is not the mean of its losses in steps.csv"),
        (epoch(1, train_accuracy=0.33), "train_accuracy of epoch 1 is not a whole number of 40 images"),
        (epoch(1, test_accuracy=31 / 30), "test_accuracy of epoch 1 is not a whole number of 30 images"),
        (epoch(1, val_loss=1.0), "val_loss and val_accuracy of epoch 1 must be null, without such images"),
        (epoch(2, test_loss="1"), "test_loss of epoch 2 must be a finite number of at least 0 (got '1')"),
        (epoch(2, seconds=True), "seconds of epoch 2 must be a finite number of at least 0 (got True)"),
        (epoch(2, learning_rate=0.01), "learning_rate of epoch 2 must be 0.001 (got 0.01)"),
        (steps("\n6,", "\n7,"), "steps.csv must have steps 1 to 6 (got 6 rows)"),
        (steps("\n2,1.0", ""), "steps.csv must have steps 1 to 6 (got 5 rows)"),
        (steps("2,1.0\n", "2,nan\n"), "the loss of step 2 in steps.csv is not a finite number of at least 0"),
        (steps("2,1.0\n", "2,-1.0\n"), "the loss of step 2 in steps.csv is not a finite number"),
    ],
)
def test_a_contradiction_is_one_sentence(edit: tuple[str, Change], words: str, tmp_path: Path) -> None:
    run = logged(tmp_path / "run")
    apply(run, edit)
    assert [words in problem for problem in problems(run)] == [True], problems(run)


def apply(run: Path, *edits: tuple[str, Change]) -> None:
    for file, change in edits:
        change(run / file)


def test_rounding_and_near_ties_are_no_contradiction(tmp_path: Path) -> None:
    run = logged(tmp_path / "run")
    apply(run, final(test_correct=17, test_accuracy=17 / 30, test_loss=1.0005))  # stock Keras and the run's kernel
    apply(run, summary("seconds_total", 6.001))
    assert problems(run) == []


def test_the_end_of_a_long_cosine_schedule_is_no_contradiction(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"train__n_epochs": 400, "optimizer__schedule": "cosine", "task__limit_train": 10}
    run = logged(tmp_path / "run", (0.1,) * 400, **keys)
    rate = json.loads((run / "history.jsonl").read_text().splitlines()[398])["learning_rate"]
    apply(run, epoch(399, learning_rate=rate + 5e-10))  # in float32
    assert problems(run) == []
    apply(run, epoch(301, learning_rate=1.001 * rate))
    assert len(problems(run)) == 1

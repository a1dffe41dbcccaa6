"""The one check that history, batch losses, configuration and summary of a run agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.data import pixel_order
from seqmnist_tf.system import InputError
from seqmnist_tf.train import Predictions, RunDirectory, load_run, log_problems, summarize
from tests.changes import Change, change_json, put, replace, row
from tests.toy import ROOT, configure, write_logs

VALUES = {"task__limit_train": 40, "task__limit_test": 30, "train__batch_size": 16, "train__n_epochs": 2}


def logged(path: Path, accuracies: tuple[float, ...] = (0.2, 0.5), status: str = "completed", **values: Any) -> Path:
    run = RunDirectory.create(path, configure(**{**VALUES, **values}), {}, pixel_order("none"))
    write_logs(run, accuracies, status)
    return run.path


def problems(path: Path, epochs: int | None = None) -> list[str]:
    return log_problems(RunDirectory(path), epochs=epochs)


def test_no_number_is_written_that_json_does_not_have(tmp_path: Path) -> None:
    run = RunDirectory(logged(tmp_path / "run"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.append_history({"epoch": 3, "train_loss": float("nan")})


def test_the_files_of_a_run_agree_however_it_ended(tmp_path: Path) -> None:
    assert problems(ROOT / "results" / "quickstart" / "seed0") == []
    assert problems(logged(tmp_path / "completed")) == []
    assert problems(logged(tmp_path / "trial", test__enabled=False, task__validation_size=30)) == []
    assert problems(logged(tmp_path / "both", task__validation_size=30)) == []
    assert problems(logged(tmp_path / "stopped", (0.1,), "stopped")) == []
    diverged = logged(tmp_path / "diverged", (0.1,), "diverged")
    with (diverged / "steps.csv").open("a") as file:
        file.write("4,1.5\n5,nan\n")
    assert problems(diverged) == []
    (diverged / "summary.json").unlink()  # it was killed, or is being trained
    assert problems(diverged) == problems(diverged, epochs=1) == []
    assert len(problems(diverged, epochs=2)) == 1


def final(**values: Any) -> tuple[str, Change]:
    return "summary.json", lambda path: change_json(path, lambda document: document["final"].update(values))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (final(test_correct=30, test_accuracy=1.0), "final"),
        (final(test_accuracy=1.0), "final"),
        (final(test_total=31), "final"),
        (final(test_loss=1.01), "final"),
        (("summary.json", put("epochs", value=3)), "epochs"),
        (("summary.json", put("escape_epoch", value=1)), "escape_epoch"),
        (("summary.json", put("best", value={"epoch": 1})), "best"),
        (("summary.json", put("config_id", value="0" * 12)), "config_id"),
        (("history.jsonl", row(0, epoch=2)), "history.jsonl must have epochs 1 to 2"),
        (("history.jsonl", row(0, train_loss=1.0)), "train_loss of epoch 1"),
        (("steps.csv", replace("\n6,", "\n7,")), "steps.csv must have steps 1 to 6"),
        (("steps.csv", replace("\n2,1.0", "")), "steps.csv must have steps 1 to 6"),
        (("steps.csv", replace("2,1.0\n", "2,1.1\n")), "train_loss of epoch 1"),
    ],
)
def test_a_contradiction_is_one_sentence(edit: tuple[str, Change], words: str, tmp_path: Path) -> None:
    run = logged(tmp_path / "run")
    file, change = edit
    change(run / file)
    assert [words in problem for problem in problems(run)] == [True], problems(run)


def test_rounding_and_near_ties_are_no_contradiction(tmp_path: Path) -> None:
    run = logged(tmp_path / "run")
    final(test_correct=17, test_accuracy=17 / 30, test_loss=1.0005)[1](run / "summary.json")  # stock Keras
    put("seconds_total", value=6.001)(run / "summary.json")
    assert problems(run) == []


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


def test_predictions_are_read_as_they_were_written(tmp_path: Path) -> None:
    record = load_run(ROOT / "results" / "strong" / "seed0")
    path = record.path / "predictions.csv"
    table = Predictions.from_csv(path, 10_000)
    assert table.to_csv() == path.read_bytes()
    assert table.correct == (record.summary or {})["final"]["test_correct"] == np.sum(table.right)
    for content in (
        path.read_text().replace("\n5,", "\n6,"),
        "index\n1\n",
        path.read_text().replace("\n5,1,", "\n5,10,"),
    ):
        (tmp_path / "made.csv").write_text(content)
        with pytest.raises(InputError, match=r"made\.csv"):
            Predictions.from_csv(tmp_path / "made.csv", 10_000)

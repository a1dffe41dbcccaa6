"""Trials: runs that were scored on held-out images, published without their model and without a test result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.results import verify
from seqmnist_tf.results.__main__ import main
from seqmnist_tf.results.board import Board
from seqmnist_tf.results.pages import render_section, write_documents
from seqmnist_tf.results.records import all_trials, read_records
from seqmnist_tf.train import train
from tests.conftest import Result
from tests.results.conftest import Repository, patch_small
from tests.results.files import change_json, content, list_record
from tests.results.forgeries import put, row

RESULTS = Path("results")
HELD_OUT = {"task.validation_size": 20, "test.enabled": False, "optimizer.lr": 0.02}
COMMAND = "python -m seqmnist_tf.train strong --task.validation-size 20 --test.enabled false --optimizer.lr 0.02"


@pytest.fixture(scope="session")
def finished(repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished trial of the small preset, with another learning rate."""
    path = tmp_path_factory.mktemp("trial") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch_small(patch, repository)
        config = cfg.with_values(cfg.preset("strong"), HELD_OUT)
        assert train(config, path, preset="strong", command=COMMAND)["status"] == "completed"
    return path


@pytest.fixture
def trial(command: Callable[..., Result], finished: Path, published: Path) -> Path:
    """The folder of the trial, published in a clone that is also the working directory."""
    return Path(command(main, "add", str(finished)).out.strip())


def test_a_trial_is_published_without_its_model(trial: Path, finished: Path) -> None:
    experiment = json.loads((finished / "summary.json").read_text())["config_id"]
    assert trial == RESULTS / "trials" / experiment / "seed0"
    copied = {"config.json", "environment.json", "history.jsonl", "pixel_order.txt", "summary.json"}
    assert {path.name for path in trial.iterdir()} == {*copied, "steps.csv.gz", "record.json"}
    assert all((trial / name).read_bytes() == (finished / name).read_bytes() for name in copied)
    (replayed,) = json.loads((trial / "record.json").read_text())["replayed"]
    assert (replayed["batches"], replayed["largest_difference"]) == (6, 0)


def test_a_trial_stands_in_its_table_and_nowhere_else(
    command: Callable[..., Result], trial: Path, published: Path
) -> None:
    assert list(read_records(RESULTS)) == ["strong"]
    assert [record.run.path for record in all_trials(RESULTS)] == [trial]
    assert command(main).out == "written: results/README.md, docs/more/page.md\n"
    accuracy = 100 * json.loads((trial / "summary.json").read_text())["final"]["val_accuracy"]
    recipe = f"| `strong`, `optimizer.lr 0.02` ([record]({trial.as_posix()})) | 0 | 2 | 20 | **{accuracy:.2f}** |"
    assert recipe in render_section("trials", Board.read(RESULTS))
    assert command(main, "--check").status == 0


def test_a_trial_is_trained_anew(command: Callable[..., Result], trial: Path) -> None:
    for name in ("trials", f"trials/{trial.parent.name}", f"trials/{trial.parent.name}/seed0"):
        answer = command(main, "--replay", "full", name)
        assert answer.status == 0
        assert answer.out.startswith(f"{trial}: 6 batches agree bit for bit, on ")
        assert answer.out.count("agree") == 1
    assert command(main, "--replay", "trial").status == 2


def test_a_trial_has_no_name_and_a_run_has_one(
    command: Callable[..., Result], finished: Path, runs: list[Path], clone: Path
) -> None:
    before = content(clone)
    named = command(main, "add", str(finished), "--name", "mine")
    assert (named.status, named.err) == (2, "error: a trial has no name: leave out --name (got 'mine')\n")
    nameless = command(main, "add", str(runs[0]))
    assert (nameless.status, nameless.err.count("--name is needed")) == (2, 1)
    assert content(clone) == before


def test_a_trial_is_published_once(
    command: Callable[..., Result], trial: Path, finished: Path, published: Path
) -> None:
    before = content(published)
    again = command(main, "add", str(finished))
    assert (again.status, again.err.count("already published")) == (2, 1)
    assert content(published) == before


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("history.jsonl", row(1, val_accuracy=0.999), "val_accuracy of epoch 2 is not a whole number of 20 images"),
        ("history.jsonl", row(1, val_accuracy=0.4), "final in summary.json does not match"),
        ("history.jsonl", row(0, test_accuracy=0.5), "test_loss and test_accuracy of epoch 1 of a trial must be null"),
        ("history.jsonl", row(0, val_loss=-1.0), "val_loss of epoch 1 must be a finite number"),
        ("summary.json", put("final", "val_accuracy", value=1.0), "final in summary.json does not match"),
        ("summary.json", put("final", "test_correct", value=9999), "final in summary.json does not match"),
        ("summary.json", put("status", value="interrupted"), "its status must be completed (got interrupted)"),
    ],
)
def test_a_forged_trial_is_refused_and_found(
    file: str,
    change: Callable[[Path], Any],
    message: str,
    command: Callable[..., Result],
    finished: Path,
    trial: Path,
    tmp_path: Path,
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    change(tmp_path / "run" / file)
    refused = command(main, "add", "run")
    assert refused.status == 2 and message in refused.err
    change(trial / file)
    list_record(trial)
    assert any(problem.startswith(f"{trial}: {message}") for problem in verify.folder_problems(RESULTS))


def test_a_trial_stays_in_its_place(trial: Path, finished: Path) -> None:
    moved = RESULTS / "trials" / "c0ffee000000" / "seed0"
    shutil.copytree(trial, moved)
    list_record(moved)
    assert [problem.split(": ")[0] for problem in verify.folder_problems(RESULTS)] == [str(moved)]
    shutil.rmtree(moved)
    among_records = RESULTS / "mine" / "seed0"
    shutil.copytree(trial, among_records)
    shutil.copy(finished / "model.keras", among_records)
    list_record(among_records)
    (problem,) = verify.folder_problems(RESULTS)
    assert problem.startswith(f"{among_records}: a trial, and nothing else, must be in trials/<config_id>")


def test_a_record_does_not_hide_among_trials(published: Path) -> None:
    hidden = RESULTS / "trials" / "c0ffee000000" / "seed0"
    shutil.copytree(RESULTS / "strong" / "seed0", hidden)
    list_record(hidden)
    assert any("model.keras does not belong to a record" in problem for problem in verify.folder_problems(RESULTS))
    for name in ("model.keras", "predictions.csv"):
        (hidden / name).unlink()
    list_record(hidden)
    assert any("a trial, and nothing else" in problem for problem in verify.folder_problems(RESULTS))


def test_trials_of_two_seeds_share_no_epoch(command: Callable[..., Result], finished: Path, trial: Path) -> None:
    second = Path("second")
    shutil.copytree(finished, second)
    for name in ("environment", "summary"):
        change_json(second / f"{name}.json", lambda document: document.update(seed=1))
    change_json(second / "config.json", lambda document: document["train"].update(seed=1))
    change_json(second / "environment.json", lambda document: document.update(command=f"{COMMAND} --train.seed 1"))
    refused = command(main, "add", str(second))
    assert refused.status == 2 and f"its history is of {trial}, which has another seed" in refused.err


def test_nothing_is_said_where_no_trial_is_published(published: Path) -> None:
    write_documents()
    assert render_section("trials", Board.read(RESULTS)) == "No trial is published yet."

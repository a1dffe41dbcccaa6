"""Trials: runs that were scored on held-out images, published without a test result."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.results import model_check, publish, verify
from seqmnist_tf.results.__main__ import main
from seqmnist_tf.results.board import Board
from seqmnist_tf.results.pages import render_section
from seqmnist_tf.results.publish import add_record
from seqmnist_tf.results.records import Record, all_trials
from seqmnist_tf.train import load_final_model, load_run, train
from tests.changes import change_json, content, put, row
from tests.conftest import Command
from tests.results.conftest import Repository, copy_with, patch_small
from tests.results.files import list_record, read_records

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


@pytest.fixture(scope="session")
def published_trial(
    finished: Path, published_once: Path, repository: Repository, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The published clone, with the trial in it."""
    run, root = load_run(finished), tmp_path_factory.mktemp("trial_clone")
    return copy_with(published_once, root, repository, lambda results: add_record(run, None, results))


@pytest.fixture
def trial(published_trial: Path, published: Path) -> Path:
    """The folder of the trial, published in a clone that is also the working directory."""
    shutil.copytree(published_trial, published, dirs_exist_ok=True)
    (path,) = RESULTS.glob("trials/*/seed0")
    return path


def test_a_trial_is_published_unchanged(trial: Path, finished: Path) -> None:
    experiment = json.loads((finished / "summary.json").read_text())["config_id"]
    assert trial == RESULTS / "trials" / experiment / "seed0"
    copied = {"config.json", "environment.json", "history.jsonl", "model.keras", "pixel_order.txt", "summary.json"}
    assert {path.name for path in trial.iterdir()} == {*copied, "steps.csv.gz", "record.json"}
    assert all((trial / name).read_bytes() == (finished / name).read_bytes() for name in copied)
    (replayed,) = json.loads((trial / "record.json").read_text())["replayed"]
    assert (replayed["batches"], replayed["largest_difference"]) == (6, 0)


def test_a_trial_stands_in_its_table_and_nowhere_else(command: Command, trial: Path, published: Path) -> None:
    assert list(read_records(RESULTS)) == ["strong"]
    assert [record.run.path for record in all_trials(RESULTS)] == [trial]
    assert command(main).out == "written: results/README.md, docs/more/page.md\n"
    accuracy = 100 * json.loads((trial / "summary.json").read_text())["final"]["val_accuracy"]
    recipe = f"| `strong`, `optimizer.lr 0.02` ([record]({trial.as_posix()})) | 0 | 2 | 20 | **{accuracy:.2f}** |"
    assert recipe in render_section("trials", Board.read(RESULTS))
    assert command(main, "--check").status == 0


def test_the_model_of_a_trial_is_no_model_of_a_run(trial: Path) -> None:
    run = RESULTS / "strong/seed1"

    def doubles(path: Path) -> list[str]:
        record = Record.read(path)
        digest = model_check.weights_digest(load_final_model(record.run))
        return publish._weight_doubles(record, digest, RESULTS, False)

    assert doubles(run) == doubles(trial) == []
    shutil.copy(trial / "model.keras", run)
    assert doubles(run) == [f"its model is of {trial}"]
    assert doubles(trial) == [f"its model is of {run}"]


def test_how_many_trials_are_as_good_as_the_best(trial: Path) -> None:
    board = Board.read(RESULTS)
    (one,) = board.trials
    assert "standard errors of" not in render_section("trials", board)
    scores = [
        dataclasses.replace(one, summary={**one.summary, "final": {**one.summary["final"], "val_accuracy": accuracy}})
        for accuracy in (0.75, 0.8, 0.6)
    ]
    said = " ".join(render_section("trials", dataclasses.replace(board, trials=scores)).split())
    assert said.endswith(  # 2 sqrt(0.8 * 0.2 / 20) = 0.179
        "2 of the 3 trials on sMNIST, 40 training images, the best included, are within two standard errors (4 of 20 "
        "images) of the best."
    )
    said = " ".join(render_section("trials", dataclasses.replace(board, trials=scores[1:])).split())
    assert said.endswith(
        "No other trial on sMNIST, 40 training images is within two standard errors (4 of 20 images) of the best."
    )


def test_a_trial_is_trained_anew(command: Command, trial: Path) -> None:
    answer = command(main, "--replay", "full", f"trials/{trial.parent.name}")
    assert answer.status == 0
    assert answer.out.startswith(f"{trial}: 6 batches agree bit for bit, and the weights bit for bit, on ")
    assert answer.out.endswith("\nno replayed record has a problem\n")
    assert command(main, "--replay", "trial").status == 2


def test_a_trial_has_no_name_and_a_run_has_one(command: Command, finished: Path, runs: list[Path], clone: Path) -> None:
    before = content(clone)
    named = command(main, "add", str(finished), "--name", "mine")
    assert (named.status, named.err) == (2, "error: a trial has no name: leave out --name (got 'mine')\n")
    nameless = command(main, "add", str(runs[0]))
    assert (nameless.status, nameless.err.count("--name is needed")) == (2, 1)
    assert content(clone) == before


def test_a_trial_is_published_once(command: Command, trial: Path, finished: Path, published: Path) -> None:
    before = content(published)
    again = command(main, "add", str(finished))
    assert (again.status, again.err.count("already published")) == (2, 1)
    assert content(published) == before


def interrupted(file: Path) -> None:
    """Write the summary of a run that was interrupted in its last evaluation."""
    change_json(file, lambda document: document.update(status="interrupted", final=None))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("history.jsonl", row(1, val_accuracy=0.999), "val_accuracy of epoch 2 is not a whole number of 20 images"),
        ("history.jsonl", row(1, val_accuracy=0.4), "final in summary.json does not match"),
        ("history.jsonl", row(0, test_accuracy=0.5), "test_loss and test_accuracy of epoch 1 must be null"),
        ("summary.json", put("final", "val_accuracy", value=1.0), "final in summary.json does not match"),
        ("summary.json", interrupted, "its status must be completed (got interrupted)"),
    ],
)
def test_a_forged_trial_is_refused_and_found(
    file: str,
    change: Callable[[Path], Any],
    message: str,
    command: Command,
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


def raise_score(run: Path) -> None:
    """Change the score of a trial so that no file contradicts another."""
    score = {"val_accuracy": 0.95, "val_loss": 0.5}
    row(1, **score)(run / "history.jsonl")
    change_json(run / "summary.json", lambda document: [document[key].update(score) for key in ("final", "best")])
    change_json(run / "summary.json", lambda document: document["best"].update(epoch=2))
    row(0, val_accuracy=0.05)(run / "history.jsonl")
    change_json(run / "summary.json", lambda document: document.update(escape_epoch=2))


def test_the_held_out_images_are_classified_anew(command: Command, finished: Path, trial: Path, tmp_path: Path) -> None:
    raise_score(trial)
    list_record(trial)
    assert verify.folder_problems(RESULTS) == []
    (problem,) = verify.all_model_problems(all_trials(RESULTS))
    assert problem.startswith(f"{trial}: its model classifies ") and "(recorded: 19 and 0.500000)" in problem
    command(main)  # so that tables and pictures are of this record, and its model alone can tell
    checked = command(main, "--check")
    assert checked.status == 1 and checked.out.splitlines() == [problem]
    raise_score(shutil.copytree(finished, tmp_path / "run"))
    shutil.rmtree(trial)
    list_record(trial.parent)
    refused = command(main, "add", "run")
    assert refused.status == 2 and "of 20 held-out digits correctly, with loss" in refused.err
    assert not trial.exists()


@pytest.mark.parametrize(("key", "value"), [("val_accuracy", 0.35), ("val_loss", 0.1)])
def test_each_number_on_the_held_out_images_is_compared(
    key: str, value: float, finished: Path, published: Path, tmp_path: Path
) -> None:
    run = load_run(shutil.copytree(finished, tmp_path / "run"))
    check = model_check.ModelCheck().check
    assert check(run)[0] == []
    change_json(
        run.path / "summary.json", lambda document: document["final"].update({key: document["final"][key] + value})
    )
    (problem,) = check(run)[0]
    assert "of 20 held-out digits correctly, with loss" in problem


def test_a_trial_stays_in_its_place(trial: Path) -> None:
    for place in ("trials/c0ffee000000", "trials", "mine"):
        moved = RESULTS / place / "seed0"
        shutil.copytree(trial, moved)
        list_record(moved)
        (problem,) = verify.folder_problems(RESULTS)
        assert problem.startswith(f"{moved}: a trial, and nothing else, must be in trials/<config_id>")
        shutil.rmtree(moved)
        list_record(trial)  # and not what was moved


def test_a_record_does_not_hide_among_trials(published: Path) -> None:
    for place in ("trials", "trials/c0ffee000000"):
        hidden = RESULTS / place / "seed0"
        shutil.copytree(RESULTS / "strong" / "seed0", hidden)
        if "/" in place:
            (hidden / "predictions.csv").unlink()
        list_record(hidden)
        assert any(f"{hidden}: a trial, and nothing else" in problem for problem in verify.folder_problems(RESULTS))
        shutil.rmtree(hidden)
        list_record(RESULTS / "strong" / "seed0")  # and not what is gone


def test_a_trial_with_an_order_from_a_file_is_refused(
    command: Command, finished: Path, clone: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    change_json(run / "config.json", lambda document: document["task"].update(permutation="file:order.txt"))
    change_json(run / "environment.json", lambda document: document.update(config_id="../../escaped"))
    refused = command(main, "add", "run")
    assert refused.status == 2 and "its pixel order must be reproducible" in refused.err


def test_units_are_those_that_the_parameters_give(
    command: Command, finished: Path, clone: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    change_json(run / "config.json", lambda document: document["model"].update(match_parameters=100))
    experiment = load_run(run).config_id
    change_json(run / "summary.json", lambda document: document.update(config_id=experiment))
    with_parameters = {"config_id": experiment, "command": f"{COMMAND} --model.match-parameters 100"}
    change_json(run / "environment.json", lambda document: document.update(with_parameters))
    refused = command(main, "add", "run")
    assert refused.status == 2 and "model.match_parameters gives" in refused.err


def test_trials_of_two_seeds_share_no_epoch(command: Command, finished: Path, trial: Path) -> None:
    second = Path("second")
    shutil.copytree(finished, second)
    for name in ("environment", "summary"):
        change_json(second / f"{name}.json", lambda document: document.update(seed=1))
    change_json(second / "config.json", lambda document: document["train"].update(seed=1))
    change_json(second / "environment.json", lambda document: document.update(command=f"{COMMAND} --train.seed 1"))
    refused = command(main, "add", str(second))
    assert refused.status == 2 and f"its history is of {trial}" in refused.err


def test_nothing_is_said_where_no_trial_is_published(published: Path) -> None:
    assert render_section("trials", Board.read(RESULTS)) == "No trial is published yet."

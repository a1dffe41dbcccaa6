"""Searches of made-up trials: what is a job, failures, settings, what is printed."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.engine import engine
from seqmnist_tf.system import InputError, RunError
from seqmnist_tf.tune import SearchFolder, stop_at_chance
from seqmnist_tf.tune.search import FAILURES, SearchJobs, run_search
from tests.tune.toy_search import SPACE, ToySlots, toy_search, toy_train, trials_of

pytestmark = pytest.mark.usefixtures("toys")


def test_the_jobs_of_a_search(tmp_path: Path) -> None:
    search = toy_search(tmp_path / "mine")
    jobs = SearchJobs(search, 1, "the command")
    trial = jobs.take("slot0")
    assert trial is not None and (trial.name, trial.path) == ("trial 0", tmp_path / "mine" / "trials" / "0")
    assert (trial.command, trial.resume_command, trial.group) == ("the command", "the command", "search-mine")
    at_chance = {"train_accuracy": 0.1, "val_accuracy": 0.1}
    assert trial.stop_rule is not None and trial.stop_rule([at_chance] * 2) == "at chance after 2 of 4 epochs"
    assert jobs.take("slot1") is None and jobs.running
    jobs.ended("slot0", trial, engine.train_job(trial))
    assert jobs.take("slot0") is None and not jobs.running


def test_trials_at_chance_on_all_images_are_stopped_unless_told_otherwise(tmp_path: Path) -> None:
    row = {"train_accuracy": 0.11, "val_accuracy": 0.1}
    averaged = {"train_accuracy": 0.58, "val_accuracy": 0.16}  # averaged weights lag behind the trained ones
    reasons = [stop_at_chance(4, history) for history in ([row], [row, row], [row, averaged])]
    assert reasons == [None, "at chance after 2 of 4 epochs", None]
    search = replace(toy_search(tmp_path / "mine"), path=tmp_path / "endless", stops=False)
    search.path.mkdir()
    search.claim()
    job = SearchJobs(SearchFolder.read(search.path), 1).take("slot0")
    assert job is not None and job.stop_rule is None
    with pytest.raises(InputError, match="holds another search"):
        replace(search, stops=True).claim()


def test_values_that_do_not_suit_each_other_fail_their_trial_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {
        "optimizer.name": {"choices": ["Adam", "SGD"]},
        "optimizer.momentum": {"choices": [0, 0.5]},
        "optimizer.lr": {"low": 0.001, "high": 0.1},
    }
    search = toy_search(tmp_path / "search", space=space)
    run_search(search, 60)  # more fail than end a search in a row
    reason = "optimizer.momentum must be 0 with optimizer.name Adam"
    rows, report = trials_of(search.path), (search.path / "report.md").read_text()
    failed = 60 - len(rows)
    assert capsys.readouterr().err.count(reason) == report.count(reason) == failed
    assert FAILURES < failed < 60 and json.loads((search.path / "best.json").read_text())
    tried = [(row["values"]["optimizer.name"], row["values"]["optimizer.momentum"]) for row in rows]
    assert ('"Adam"', "0.5") not in tried and ('"SGD"', "0.5") in tried
    run_search(search, 62)
    assert trials_of(search.path)[: len(rows)] == rows


def test_each_trial_has_a_line_with_the_best_so_far(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_search(toy_search(tmp_path), 3)
    out, err = capsys.readouterr()
    shown = re.findall(r"^trial \d: validation accuracy (.*)%, .*; best so far (.*)% .*; (\d) of", out, re.M)
    assert [best for _, best, _ in shown] == list(accumulate((score for score, _, _ in shown), max))
    assert [done for _, _, done in shown] == ["1", "2", "3"] and "epoch" not in err  # this process shows its own
    run_search(toy_search(tmp_path), 4, place=ToySlots(2))
    assert "trial 3: epoch 4/4" in capsys.readouterr().err


def test_an_error_in_training_fails_its_trial_alone_and_one_of_the_machine_ends_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Exception] = [ValueError("not with SGD"), RunError("the disk is full")]

    def train_or_fail(config: cfg.Config, *args: Any, **more: Any) -> dict[str, Any]:
        if config.optimizer.name == "SGD" and errors:
            raise errors.pop(0)
        return toy_train(config, *args, **more)

    monkeypatch.setattr(engine, "train", train_or_fail)
    search = toy_search(tmp_path)
    with pytest.raises(RunError, match=r"trials/\d failed: the disk is full"):
        run_search(search, 9)
    run_search(search, 9)
    assert len(trials_of(tmp_path)) == 8  # all but the first with SGD


def test_settings_of_a_version_with_fewer_keys_are_of_the_same_search(tmp_path: Path) -> None:
    search = toy_search(tmp_path / "search", values={"data.dir": "here"})
    document = json.loads((search.path / "search.json").read_text())
    del document["base"]["tensorboard"]
    (search.path / "search.json").write_text(json.dumps(document))
    toy_search(tmp_path / "search", values={"data.dir": "there"})
    document["base"]["model"]["hidden_size"] = 5
    (search.path / "search.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="holds another search"):
        search.claim()


@pytest.mark.parametrize("place", ["task.permutation", "model.layer", "the space"])
def test_a_file_that_has_changed_is_another_search(place: str, tmp_path: Path) -> None:
    file = tmp_path / "file.py"
    values = {"task.permutation": {"task.permutation": f"file:{file}"}, "model.layer": {"model.layer": f"{file}:Own"}}
    space = {"model.layer": {"choices": ["GRU", f"{file}:Own"]}} if place == "the space" else SPACE
    for content in ("before", "before", "after"):
        file.write_text(content)
        refused = pytest.raises(InputError, match="holds another search")
        with refused if content == "after" else contextlib.nullcontext():
            toy_search(tmp_path / "search", values=values.get(place), space=space)


def test_a_layer_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text("before")
    search = toy_search(tmp_path / "search", values={"model.layer": f"{tmp_path / 'own.py'}:Own"})
    trained: list[bytes] = []

    def train_and_change(*args: Any, layer_file: Any, **kwargs: Any) -> dict[str, Any]:
        (tmp_path / "own.py").write_text("after")
        trained.append(layer_file.content)
        return toy_train(*args, **kwargs)

    monkeypatch.setattr(engine, "train", train_and_change)
    run_search(search, 3)
    assert trained == [b"before"] * 3

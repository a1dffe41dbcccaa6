"""Searches: published as one file each, checked, trained anew, and named beside the recipes that they chose."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.results import publish, search_check, verify
from seqmnist_tf.results.__main__ import main
from seqmnist_tf.results.board import Board, replay_text
from seqmnist_tf.results.pages import render_section
from seqmnist_tf.results.publish import add_search
from seqmnist_tf.results.recipes import chosen_by
from seqmnist_tf.results.searches import Search
from seqmnist_tf.results.store import manifest_problems
from seqmnist_tf.system import InputError
from seqmnist_tf.train import RunDirectory
from seqmnist_tf.tune import SearchFolder, parse_space
from seqmnist_tf.tune import search as tune_search
from tests.changes import change_json, content, put
from tests.conftest import Command
from tests.results.conftest import Repository, copy_with, patch_small
from tests.results.files import list_record, read_records

pytestmark = pytest.mark.slow  # a search is trained, and each of its trials anew

RESULTS, FILE = Path("results"), Path("results/searches/mine.json")
SPACE: dict[str, Any] = {
    "optimizer.lr": {"low": 1e-3, "high": 1e-1, "scale": "log", "reason": "a | b"},
    "optimizer.weight_decay": {"choices": [0, 0.1]},
}


OWN = {"layer": "own.py:Last", "forget_bias": None, "match_parameters": 150}


@pytest.fixture(scope="session")
def search(repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of three trials that has ended."""
    path = tmp_path_factory.mktemp("search") / "lr"
    with pytest.MonkeyPatch.context() as patch:
        patch_small(patch, repository)
        patch.setattr(tune_search, "stop_at_chance", lambda *_: None)  # where these runs are
        base = cfg.with_values(cfg.preset("strong"), {"task.validation_size": 20, "test.enabled": False})
        folder = SearchFolder(path, "random", base, parse_space(SPACE), SPACE, "strong")
        path.mkdir(parents=True)
        folder.claim()
        tune_search.run_search(folder, 3, "python -m seqmnist_tf.tune strong --dir /home/me/lr")
    return path


@pytest.fixture(scope="session")
def published_search(
    search: Path, published_once: Path, repository: Repository, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    root = tmp_path_factory.mktemp("search_clone")
    return copy_with(published_once, root, repository, lambda results: add_search(search, "mine", results))


@pytest.fixture
def mine(published_search: Path, published: Path) -> Search:
    """The search, published in a clone that is also the working directory."""
    shutil.copytree(published_search, published, dirs_exist_ok=True)
    return Search.read(FILE)


def test_a_search_is_published_with_all_its_trials(mine: Search, search: Path) -> None:
    assert manifest_problems(RESULTS) == [] == verify.folder_problems(RESULTS)
    assert "/home/me" not in FILE.read_text()
    trials = mine.of_seed(own=True)
    assert [row["trial"] for row in trials] == [0, 1, 2] and mine.document["trials"] == trials
    for row, made in zip(trials, json.loads((search / "trials.json").read_text()), strict=True):
        assert (row["score"], row["epochs"], row["values"]) == (made["score"], 2, made["hyperparameters"])
        assert len(row["losses"]) == 6
    assert mine.best["score"] == max(row["score"] for row in trials)
    (replayed,) = mine.replays
    assert (replayed["batches"], replayed["largest_difference"]) == (36, 0)


def test_a_search_is_trained_anew(command: Command, mine: Search) -> None:
    answer = command(main, "--replay", "full", "searches/mine", "--write")
    assert answer.status == 0
    assert answer.out.startswith(f"{FILE}: 36 batches of 6 runs agree bit for bit, on ")
    assert ", and each, trained to its end, diverges or has the score as in the search\n" in answer.out
    assert command(main, "--replay", "searches/mine", "--write").status == 0  # of the first batches: both are kept
    assert manifest_problems(RESULTS) == []
    assert sorted("scores" in entry for entry in Search.read(FILE).replays) == [False, True]
    assert replay_text(Search.read(FILE)).startswith("the first batches of 6 runs bit for bit, and their scores (")
    change_json(FILE, lambda d: d["trials"][1].update(score=1.0))
    change_json(FILE, lambda d: d["trials"][2]["losses"].__setitem__(4, 2.0))
    change_json(FILE, lambda d: d["trials"][5].update(status="diverged", score=0.0, epochs=1))
    answer = command(main, "--replay", "full", "searches", "--write")
    assert answer.status == 1
    assert "trial 1 with seed 0: its model classifies " in answer.out and "(recorded: 20)" in answer.out
    assert "trial 2 with seed 0: trained anew, batch 5 has loss " in answer.out
    assert "with seed 3: trained anew, it does not diverge\n" in answer.out
    assert command(main, "--replay", "search").status == 2


def test_the_board_names_the_search_that_chose_a_recipe(command: Command, mine: Search) -> None:
    assert command(main).status == 0 and command(main, "--check").status == 0
    board = Board.read(RESULTS)
    (record, *_) = board.records["strong"]
    assert chosen_by(board, record) == "no published search"
    best = cfg.with_values(mine.config(mine.best), {"task.validation_size": 0, "test.enabled": True})
    chosen = dataclasses.replace(record, config=cfg.with_values(best, {"train.n_epochs": 15, "train.seed": 5}))
    assert chosen_by(board, chosen) == "[`mine`](results/searches/mine.json)"
    (row,) = [line for line in render_section("searches", board).splitlines() if line.startswith("| [`mine`]")]
    assert " | random | 0 | 3 (3 completed) | 2 | 20 | " in row
    assert "| no published search |" in render_section("summary", board)


def fail_all_trials(document: dict[str, Any]) -> None:
    document["trials"] = [{**row, "status": "failed"} for row in document["trials"] if row["seed"] == 0]


def lengthen_a_trial(document: dict[str, Any]) -> None:
    document["tuner"] = "hyperband"  # whose trials have epochs of their own
    document["trials"][0]["values"]["tuner/epochs"] = 50


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("trials", 0, "score", value=0.123), "score of trial 0 is not a whole number of 20 images"),
        (put("trials", 0, "score", value=1.5), "score of trial 0 is not a whole number of 20 images"),
        (put("trials", 0, "epochs", value=1), "trial 0 must have 2 epochs, as it is completed (got 1)"),
        (put("trials", 0, "status", value="diverged"), "trial 0 must have score 0 and less than 2 epochs"),
        (put("trials", 0, "status", value="stopped"), "trial 0 must be at chance after half of its 2 epochs"),
        (put("trials", 0, "status", value="best"), "status of trial 0 must be completed, stopped, diverged, failed"),
        (put("trials", 0, "values", "optimizer.lr", value=0.01), "trial 0 must have the values that the seed gives"),
        (put("trials", 0, "values", "optimizer.lr", value=1), "a value for optimizer.lr that is not in the space"),
        (put("trials", 0, "losses", value=[1.0]), "trial 0 must have the losses of 6 batches"),
        (put("trials", 0, "losses", 0, value=-1), "trial 0 must have the losses of 6 batches, finite"),
        (put("trials", 0, "seconds", value=-1), "seconds of trial 0 must be a finite number"),
        (put("trials", 0, "trial", value=1), "its trials must be 0, 1 and so on, each once"),
        (put("trials", 0, "environment", value=9), "not in the format of a search (IndexError"),
        (put("base", "test", "enabled", value=True), "without the test set"),
        (put("base", "train", "seed", value=9), "with the seed of its base"),
        (lambda path: change_json(path, fail_all_trials), "not in the format of a search (ValueError"),
        (
            lambda path: change_json(path, lambda d: d["base"]["model"].update(OWN)),
            "not in the format of a search (KeyError: 'own.py:Last'",
        ),
        (put("environments", 0, "git", "commit", value="c0ffee" * 6 + "c0ff"), "is not a commit of this clone"),
        (put("environments", 0, "git", "dirty", value=True), "trained from a commit"),
        (put("preset", value="a|b"), "no control characters"),
        (put("trials", 0, "values", "tuner/epochs", value=50), "a value for tuner/epochs that is not in the space"),
        (lambda path: change_json(path, lengthen_a_trial), "trial 0 must be of at most 2 epochs (got 50)"),
        (put("tuner", value="[free](//evil)"), "tuner must be random, bayesian, hyperband (got '[free](//evil)')"),
        (put("schema", value=2), "has schema 2 (this version reads 1)"),
        (put("space", value={}), "a search space must be"),
        (put("replayed", 0, "batches", value=0), "batches of a replay must be at least 1"),
    ],
)
def test_a_forged_search_is_found(change: Callable[[Path], Any], message: str, mine: Search) -> None:
    change(FILE)
    list_record(FILE.parent)
    problems = verify.folder_problems(RESULTS)
    assert any(message in problem for problem in problems), problems
    assert all(problem.startswith(f"{FILE}: ") for problem in problems)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("trials/0/history.jsonl", lambda path: path.write_text(""), "has lost its result|has not ended"),
        ("trials/1/config.json", put("optimizer", "lr", value=0.01), "its configuration is not that of its values"),
        ("trials/1/environment.json", put("git", "dirty", value=True), "must be trained from a commit"),
        ("trials/1/environment.json", put("git", value={}), "not in the format of a search (KeyError"),
        ("trials/1/environment.json", put("resumed", value=[1]), "environment.json of a run is not in its format"),
        ("trials/0/summary.json", put("num_params", value=1), "num_params in summary.json does not match"),
        ("oracle.json", put("trials", "1", "status", value="RUNNING"), "a search that has not ended"),
        ("search.json", put("space", "optimizer.lr", "low", value=1.5e-3), "must have the values that the seed gives"),
    ],
)
def test_a_search_that_cannot_be_published_is_refused(
    file: str, change: Callable[[Path], Any], message: str, command: Command, search: Path, clone: Path
) -> None:
    shutil.copytree(search, clone / "search")
    change(clone / "search" / file)
    before = content(clone)
    refused = command(main, "add", "search", "--name", "mine")
    assert refused.status == 2 and refused.err.splitlines()[-1].startswith("error: ")
    assert any(words in refused.err for words in message.split("|")), refused.err
    assert content(clone) == before


def test_the_layer_of_a_search_is_not_run_unasked(search: Path, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(search, clone / "search")
    Path("own.py").write_text(harmful := "open('executed', 'w')\n")
    for config in (clone / "search").rglob("config.json"):
        change_json(config, lambda document: document["model"].update(OWN))
        config.with_name("layer.py").write_text(harmful)
    read, rows = tune_search.read_search(search)
    base = cfg.with_values(read.base, {f"model.{key}": value for key, value in OWN.items()})
    rows = [{**row, "path": clone / "search" / row["path"].relative_to(search)} for row in rows]
    monkeypatch.setattr(publish, "read_search", lambda _: (dataclasses.replace(read, base=base), rows))
    with pytest.raises(InputError, match=r"has a layer of its own \(own\.py:Last\).*give --allow-code"):
        add_search(clone / "search", "mine", RESULTS)
    assert not (clone / "executed").exists()
    runs = {(row["trial"], row["seed"]): RunDirectory(row["path"]) for row in rows}
    (rows[0]["path"] / "layer.py").write_text("# other\n" + harmful)
    with pytest.raises(InputError, match=r"its layer\.py is not that of the other trials"):
        publish._search_document(dataclasses.replace(read, base=base), rows, runs)
    (clone / "results/searches").mkdir()
    (clone / "results/searches/stray.txt").touch()
    problems = search_check.search_problems(clone / "results/searches/stray.txt", clone)
    assert problems == ["it must be a file NAME.json, as everything in searches/"]


def test_a_search_has_a_name_of_its_own(command: Command, mine: Search, search: Path) -> None:
    again = command(main, "add", str(search), "--name", "mine")
    assert (again.status, again.err) == (2, f"error: {FILE} is already published (give another --name)\n")
    other = command(main, "add", str(search), "--name", "other")
    assert (other.status, other.err) == (2, f"error: {FILE} is the same search (give another --train.seed)\n")
    (manifest := RESULTS / "SHA256SUMS").write_text(manifest.read_text().replace(FILE.name, "gone.json"))
    publish._require_new(RESULTS, FILE, mine)  # a command that was killed before it listed the file goes on
    shutil.copy(FILE, FILE.with_name("other.json"))
    list_record(FILE.parent)
    assert verify.folder_problems(RESULTS) == [f"{FILE.with_name('other.json')}: it is mine.json under another name"]
    assert command(main, "add", str(search)).status == 2
    assert "searches" not in read_records(RESULTS)

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
from seqmnist_tf.results import publish
from seqmnist_tf.results.__main__ import main
from seqmnist_tf.results.model_check import drawn_problems
from seqmnist_tf.results.publish import add_search
from seqmnist_tf.results.records import Search
from seqmnist_tf.results.store import manifest_problems
from seqmnist_tf.system import InputError
from seqmnist_tf.tune import SearchFolder, parse_space
from seqmnist_tf.tune import search as tune_search
from tests.changes import change_json, content, put, replace
from tests.conftest import Command
from tests.results.conftest import Repository, copy_with, patch_small
from tests.results.files import read_records

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
    assert manifest_problems(RESULTS) == [] == drawn_problems(mine)
    assert "/home/me" not in FILE.read_text()
    assert [row["trial"] for row in mine.trials] == [0, 1, 2] and mine.document["trials"] == mine.trials
    for row, made in zip(mine.trials, json.loads((search / "trials.json").read_text()), strict=True):
        assert (row["score"], row["epochs"], row["values"]) == (made["score"], 2, made["hyperparameters"])
        assert len(row["losses"]) == 6
    assert mine.best["score"] == max(row["score"] for row in mine.trials)
    (replayed,) = mine.document["replayed"]
    assert (replayed["batches"], replayed["largest_difference"]) == (18, 0)


def test_a_search_is_trained_anew(command: Command, mine: Search) -> None:
    answer = command(main, "--replay", "full", "searches/mine", "--write")
    assert answer.status == 0
    assert answer.out.startswith(f"{FILE}: 18 batches of 3 runs agree bit for bit, and each, trained to its end, ")
    assert command(main, "--replay", "searches/mine", "--write").status == 0  # of the first batches: both are kept
    assert manifest_problems(RESULTS) == []
    assert sorted("scores" in entry for entry in json.loads(FILE.read_text())["replayed"]) == [False, True]
    change_json(FILE, lambda d: d["trials"][0].update(status="diverged", score=0.0, epochs=1))
    change_json(FILE, lambda d: d["trials"][1].update(score=1.0))
    change_json(FILE, lambda d: d["trials"][2]["losses"].__setitem__(4, 2.0))
    answer = command(main, "--replay", "full", "searches", "--write")
    assert answer.status == 1
    assert "trial 0 with seed 0: trained anew, it does not diverge\n" in answer.out
    assert "trial 1 with seed 0: its model classifies " in answer.out and "(recorded: 20)" in answer.out
    assert "trial 2 with seed 0: trained anew, batch 5 has loss " in answer.out
    assert command(main, "--replay", "search").status == 2


def test_values_that_the_seed_does_not_give_are_found(command: Command, mine: Search) -> None:
    change_json(FILE, lambda d: d.update(repeats=0, stops=False))  # as in searches of other versions
    assert drawn_problems(Search.read(FILE)) == []
    put("trials", 0, "values", "optimizer.lr", value=0.01)(FILE)
    assert len(drawn_problems(Search.read(FILE))) == 1
    assert command(main, "--check").status == 1


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("trials/1/config.json", put("optimizer", "lr", value=0.01), "configuration"),
        ("trials/1/environment.json", put("git", "dirty", value=True), "commit"),
        ("trials/0/summary.json", put("num_params", value=1), "num_params"),
        ("trials/0/steps.csv", replace(r"\n3,[^,]*,", "\n3,2.5,"), "train_loss"),
        ("oracle.json", put("trials", "1", "status", value="RUNNING"), "not ended"),
        ("search.json", put("space", "optimizer.lr", "low", value=1.5e-3), "its seed"),
    ],
)
def test_a_search_that_is_not_whole_is_refused(
    file: str, change: Callable[[Path], Any], words: str, command: Command, search: Path, clone: Path
) -> None:
    shutil.copytree(search, clone / "search")
    change(clone / "search" / file)
    before = content(clone)
    refused = command(main, "add", "search", "--name", "mine")
    assert refused.status == 2 and words in refused.err.splitlines()[-1], refused.err
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


def test_a_search_is_published_once_and_has_a_name(command: Command, mine: Search, search: Path) -> None:
    assert command(main, "add", str(search), "--name", "mine").status == 2
    assert command(main, "add", str(search)).status == 2
    assert "searches" not in read_records(RESULTS)

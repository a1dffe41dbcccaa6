"""Searches: published as one file each, checked, retrained, and named beside the recipes that they chose."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.results.__main__ import main
from seqmnist_tf.results.checks import drawn_problems
from seqmnist_tf.results.publish import add_search
from seqmnist_tf.results.records import ResultsFolder, Search
from seqmnist_tf.results.store import read_manifest, record_problems
from seqmnist_tf.tune import SearchFolder, parse_space
from seqmnist_tf.tune import search as tune_search
from tests.changes import change_json, content, put, replace
from tests.conftest import Command
from tests.results.conftest import patch_small

pytestmark = pytest.mark.slow  # a search is trained, and each of its trials anew

RESULTS, FILE = Path("results"), Path("results/searches/mine.json")
SPACE: dict[str, Any] = {
    "optimizer.lr": {"low": 1e-3, "high": 1e-1, "scale": "log", "reason": "a | b"},
    "optimizer.weight_decay": {"choices": [0, 0.1]},
}


@pytest.fixture(scope="session")
def search(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
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
    search: Path, published_once: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    root = Path(shutil.copytree(published_once, tmp_path_factory.mktemp("search_clone"), dirs_exist_ok=True))
    with pytest.MonkeyPatch.context() as patch:
        patch_small(patch, repository)
        add_search(search, "mine", root / "results")
    return root


@pytest.fixture
def mine(published_search: Path, published: Path) -> Search:
    """The search, published in a clone that is also the working directory."""
    shutil.copytree(published_search, published, dirs_exist_ok=True)
    return Search.read(FILE)


def test_a_search_is_published_once_with_all_its_trials(command: Command, mine: Search, search: Path) -> None:
    assert record_problems(RESULTS, read_manifest(RESULTS)) == [] == drawn_problems(mine)
    assert "/home/me" not in FILE.read_text()
    assert [row["trial"] for row in mine.trials] == [0, 1, 2] and mine.document["trials"] == mine.trials
    for row, made in zip(mine.trials, json.loads((search / "trials.json").read_text()), strict=True):
        assert (row["score"], row["epochs"], row["values"]) == (made["score"], 2, made["hyperparameters"])
        assert len(row["losses"]) == 6
    assert mine.trials_with_score == mine.trials
    (replayed,) = mine.document["replayed"]
    assert (replayed["batches"], replayed["largest_difference"]) == (18, 0)
    assert "searches" not in ResultsFolder.read(RESULTS).records
    assert command(main, "add", str(search), "--name", "mine").status == 2
    assert command(main, "add", str(search)).status == 2  # it must have a name


def test_a_search_is_trained_anew(command: Command, mine: Search) -> None:
    answer = command(main, "--replay", "full", "searches/mine")
    assert answer.status == 0
    assert answer.out.startswith(f"{FILE}: 18 batches of 3 runs agree bit for bit, and each, trained to its end, ")
    change_json(FILE, lambda d: d["trials"][0].update(status="diverged", score=0.0, epochs=1))
    change_json(FILE, lambda d: d["trials"][1].update(score=1.0))
    change_json(FILE, lambda d: d["trials"][2]["losses"].__setitem__(4, 2.0))
    answer = command(main, "--replay", "full", "searches")
    assert answer.status == 1
    assert "trial 0 with seed 0: retrained, it does not diverge\n" in answer.out
    assert "trial 1 with seed 0: its model classifies " in answer.out and "(recorded: 20)" in answer.out
    assert "trial 2 with seed 0: retrained, batch 5 (epoch 2) has loss " in answer.out
    assert command(main, "--replay", "search").status == 2


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

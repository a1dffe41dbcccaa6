"""A search whose files are damaged or whose process is killed: the same command ends it as if nothing had happened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqmnist_tf.tune import trials
from seqmnist_tf.tune.lead import search_alone
from seqmnist_tf.tune.outcomes import read_trials
from tests.tune.toy_search import toy_search, toy_train, use_toys

TRIALS = 6
STOP_IN = 4


def results(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "trials.json").read_text())


@pytest.fixture(scope="module", params=("random", "hyperband"))
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Any]:
    """Return a folder of a search that ended in the middle of a trial, its tuner, and the results of a whole one."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        use_toys(patch.setattr)
        search_alone(toy_search(folder / "whole", request.param), TRIALS, 0, "")
        search = toy_search(folder / "killed", request.param)
        search.claim()

        def train(config: Any, path: Path, *, stop_rule: Any, **more: Any) -> Any:
            def kill_in_one(history: list[Any]) -> str | None:
                if path.name == str(STOP_IN) and len(history) == 1:
                    raise KeyboardInterrupt
                return stop_rule(history)

            return toy_train(config, path, stop_rule=kill_in_one, **more)

        patch.setattr(trials, "train", train)
        with pytest.raises(KeyboardInterrupt):
            search_alone(search, TRIALS, 0, "")
    (folder / "killed" / "oracle" / "tuner0.json").write_text("{}")  # as version 0.1.0 wrote it
    assert [row["trial"] for row in read_trials(search)] == [f"{n}" for n in range(STOP_IN)]
    return folder / "killed", request.param, results(folder / "whole")


FOLDER = "trials/4"
FILES = (
    "search.json",
    "oracle/oracle.json",
    "oracle/tuner0.json",
    "oracle/trial_0/trial.json",
    "oracle/trial_2/trial.json",
    "oracle/trial_4/trial.json",
    "trials/1/config.json",
    "trials/1/environment.json",
    "trials/1/history.jsonl",
    "trials/1/summary.json",
    "trials/4/config.json",
    "trials/4/environment.json",
    "trials/4/history.jsonl",
    "trials/4/pixel_order.txt",
    "trials/4/steps.csv",
    "trials/4/summary.json",
    "oracle/*.json",
    "oracle/trial_*/trial.json",
    "oracle/**/*.json",
    "trials/*/summary.json",
    FOLDER,
)
DAMAGE: dict[str, Callable[[Path], Any]] = {
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "no JSON": lambda file: file.write_bytes(b"\x00\xff{]"),
    "another JSON": lambda file: file.write_text("[1]"),
    "an empty object": lambda file: file.write_text("{}"),
    "missing": lambda file: file.unlink(),
}
EVERY_CASE = [(pattern, damage) for pattern in FILES for damage in DAMAGE if pattern != FOLDER] + [(FOLDER, "missing")]


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize(("pattern", "damage"), EVERY_CASE, ids=lambda value: str(value))
def test_a_damaged_file_changes_nothing(
    killed: tuple[Path, str, Any], tmp_path: Path, pattern: str, damage: str
) -> None:
    folder, tuner, whole = killed
    shutil.copytree(folder, tmp_path / "search")
    search = toy_search(tmp_path / "search", tuner)
    paths = list(search.path.glob(pattern))
    assert paths
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            DAMAGE[damage](path)
    search.claim()
    search_alone(search, TRIALS, 0, "")
    assert results(search.path) == whole


@pytest.mark.usefixtures("toys")
def test_a_trial_that_is_lost_altogether_gets_new_values(killed: tuple[Path, str, Any], tmp_path: Path) -> None:
    folder, tuner, whole = killed
    shutil.copytree(folder, tmp_path / "search")
    search = toy_search(tmp_path / "search", tuner)
    (search.path / "oracle" / "trial_3" / "trial.json").write_text("")
    shutil.rmtree(search.path / "trials" / "3")
    search_alone(search, TRIALS, 0, "")
    rows = results(search.path)
    assert [row["trial"] for row in rows] == [row["trial"] for row in whole]
    assert rows[:3] == whole[:3] and rows[3] != whole[3]

"""The oracle's state: one file, whole at every moment, from which a search goes on as if nothing had happened."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from keras_tuner.src.tuners import bayesian

from seqmnist_tf.system import InputError, RunError
from seqmnist_tf.train import load_run
from seqmnist_tf.tune.oracle import OneFile, drawn_values, load_oracle, make_oracle
from seqmnist_tf.tune.search import FAILURES, run_search
from seqmnist_tf.tune.space import SearchFolder
from tests.tune.toy_search import ToySlots, killed_at, toy_score, toy_search, trials_of

pytestmark = pytest.mark.usefixtures("toys")

TRIALS = 9
TUNERS = ("random", "bayesian", "hyperband")


def end(oracle: OneFile, trial: Any, score: float | None) -> None:
    if score is not None:
        oracle.update_trial(trial.trial_id, {"val_accuracy": score})
    trial.status, trial.message = ("FAILED", "no") if score is None else ("COMPLETED", None)
    oracle.end_trial(trial)


def test_a_random_search_draws_a_small_space_to_its_end(tmp_path: Path) -> None:
    """KerasTuner itself gives up after 20 values that it has drawn before."""
    space = {"model.hidden_size": {"choices": list(range(1, 31))}}
    drawn = drawn_values(toy_search(tmp_path, space=space), 30)
    assert drawn and sorted(int(values["model.hidden_size"]) for values in drawn) == list(range(1, 31))


@pytest.mark.parametrize("tuner", TUNERS)
def test_a_state_that_is_read_is_the_one_that_was_written(tmp_path: Path, tuner: str) -> None:
    search = toy_search(tmp_path, tuner)
    oracle = make_oracle(search, 20)
    for number in range(5):
        end(oracle, oracle.create_trial("a"), None if number == 2 else 0.1 * number)
    oracle.create_trial("a")
    assert {path.name for path in tmp_path.iterdir()} == {"search.json", "oracle.json"}
    loaded = load_oracle(search, 20)
    states = [made.get_state() | {"tried_so_far": set(made.get_state()["tried_so_far"])} for made in (loaded, oracle)]
    assert states[0] == states[1] | {"ongoing_trials": {}, "retry_queue": ["05"]}
    trials = [
        {key: (t.status, t.score, t.message, t.hyperparameters.get_config()) for key, t in made.trials.items()}
        for made in (loaded, oracle)
    ]
    assert trials[0] == trials[1] and [trial[0][0] for trial in trials[0].values()] == list("CCFCCR")
    assert loaded.create_trial("b").trial_id == "05"


@pytest.mark.parametrize(("tuner", "length"), [("random", 16), ("bayesian", 16), ("hyperband", 10)])
def test_trials_after_a_restart_are_those_without_one(
    tmp_path: Path, tuner: str, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Bayesian choice begins after twelve trials here: KerasTuner would draw its random numbers from the start."""

    def look(function: Any, x0: Any, **_: Any) -> Any:  # a search for the best of its fifty points takes ten seconds
        return SimpleNamespace(fun=function(x0), x=x0)

    monkeypatch.setattr(bayesian, "scipy", SimpleNamespace(optimize=SimpleNamespace(minimize=look)))

    def search_on(search: SearchFolder, trials: int) -> list[dict[str, Any]]:
        oracle = load_oracle(search, 20)
        while trials and (trial := oracle.create_trial("slot0")).status == "RUNNING":
            end(oracle, trial, toy_score(search.config(trial.hyperparameters.values), 4))
            trials -= 1
        return [trial.hyperparameters.values for trial in oracle.trials.values()]

    whole = search_on(toy_search(tmp_path / "whole", tuner), 16)
    for trials in (6, 7, 1, 2):
        parts = search_on(toy_search(tmp_path / "parts", tuner), trials)
    assert parts == whole and len({json.dumps(values) for values in whole}) == length


def test_a_bayesian_search_stays_in_its_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the high end of a logarithmic range of integers KerasTuner itself has one more: 257 here."""

    def highest(function: Any, x0: Any, **_: Any) -> Any:
        return SimpleNamespace(fun=function(x0), x=np.ones_like(x0))

    monkeypatch.setattr(bayesian, "scipy", SimpleNamespace(optimize=SimpleNamespace(minimize=highest)))
    space = {"model.hidden_size": {"low": 32, "high": 256, "scale": "log"}}
    oracle, drawn = make_oracle(toy_search(tmp_path, "bayesian", space=space), 9), []
    while (trial := oracle.create_trial("slot0")).status == "RUNNING":
        drawn.append(trial.hyperparameters.values["model.hidden_size"])
        end(oracle, trial, 1 - (drawn[-1] - 100) ** 2 / 1e5)
    assert max(drawn) == 256 and len(drawn) == 9


def test_the_values_of_a_random_trial_follow_from_its_number(tmp_path: Path) -> None:
    """How many slots there are, and in which order jobs end, does not matter."""
    rows = {}
    for name, place in (("one", None), ("first", (4, False)), ("last", (4, True))):
        search = toy_search(tmp_path / name)
        run_search(search, TRIALS, place=place and ToySlots(*place))
        rows[name] = trials_of(search.path)
    assert rows["one"] == rows["first"] == rows["last"] and len(rows["one"]) == TRIALS
    state = json.loads((search.path / "oracle.json").read_text())["oracle"]
    assert sorted(state["end_order"]) == state["start_order"] != state["end_order"]


def test_hyperband_trains_the_best_trials_longer_and_the_last_epoch_is_the_score(tmp_path: Path) -> None:
    search = toy_search(tmp_path, "hyperband", {"train.n_epochs": 9})
    run_search(search, 13)
    rows = trials_of(tmp_path)
    assert [row["epochs"] for row in rows] == [1] * 9 + [3] * 3 + [9]
    rounds = (sorted(rows[first:last], key=lambda row: -row["score"]) for first, last in ((0, 9), (9, 12)))
    best = [row["trial"] for of_round in rounds for row in of_round[: len(of_round) // 3]]
    assert [row["hyperparameters"]["tuner/trial_id"] for row in rows[9:]] == best
    for row in rows:
        assert row["score"] == toy_score(load_run(search.trial_path(row["trial"])).config, row["epochs"])


def test_a_search_says_why_it_ends_before_its_last_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_search(toy_search(tmp_path, "hyperband"), 12)
    assert "ended after 10 of at most 12 trials: hyperband" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["oracle.json", "trials/1/summary.json"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    search = toy_search(tmp_path / "search")
    run_search(search, 3)
    file = search.path / name
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InputError, match=str(file if name == "oracle.json" else file.parent)):
        run_search(search, 3)


@pytest.mark.parametrize("tuner", TUNERS)
def test_ten_failures_in_a_row_end_a_search_and_the_next_start_says_the_same(
    tmp_path: Path, tuner: str, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {"optimizer.name": {"choices": ["Adam"]}, "optimizer.momentum": {"low": 0.1, "high": 0.9}}
    search = toy_search(tmp_path, tuner, {"train.n_epochs": 27}, space)  # of which Hyperband makes enough trials
    for _ in range(2):
        with pytest.raises(RunError, match=r"the last 10 trials failed, trial 09 because optimizer.momentum must be 0"):
            run_search(search, 30)
        state = json.loads((search.path / "oracle.json").read_text())
        assert list(state["trials"]) == [f"{n:02}" for n in range(FAILURES)]
        assert {trial["status"] for trial in state["trials"].values()} == {"FAILED"}
    assert capsys.readouterr().err.count("failed (optimizer.momentum must be 0") == FAILURES


def test_the_highest_seed_is_one_of_kerastuner(tmp_path: Path) -> None:
    for seed, oracle_seed in ((0, 1), (7, 8), (2**32 - 2, 2**32 - 1), (2**32 - 1, 1)):
        search = toy_search(tmp_path / f"{seed}", values={"train.seed": seed})
        assert make_oracle(search, 1).seed == oracle_seed


def files_of(search: SearchFolder) -> dict[str, bytes]:
    return {name: (search.path / name).read_bytes() for name in ("trials.json", "best.json", "report.md")}


@pytest.mark.parametrize(
    ("tuner", "slots", "every"),
    [
        ("random", 1, 3),
        ("hyperband", 1, 5),
        ("random", 2, 4),
        *(pytest.param(tuner, slots, 1, marks=pytest.mark.slow)
          for tuner, slots in (("random", 1), ("random", 2), ("hyperband", 1))),
    ],
)  # fmt: skip
def test_a_search_killed_at_its_files_ends_as_if_nothing_had_happened(
    tmp_path: Path, tuner: str, slots: int, every: int
) -> None:
    """It is killed at its first file or so, started again, killed at a later one, until it ends by itself."""

    def run(folder: str) -> SearchFolder:
        search = toy_search(tmp_path / folder, tuner)
        run_search(search, 5, place=ToySlots(slots))
        return search

    whole = files_of(run("whole"))
    number, kills = 1, 0
    while killed_at(number, lambda: run("killed")):
        number, kills = number + every, kills + 1
    assert kills > 12 / every
    killed = run("killed")
    assert files_of(killed) == whole

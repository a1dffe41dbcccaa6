"""The command from nothing to the report, at small size, on toy data."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.compare import compare, comparing
from seqmnist_tf.compare.__main__ import main as compare_main
from seqmnist_tf.compare.arms import parse_arms
from seqmnist_tf.compare.comparing import Progress
from seqmnist_tf.compare.plan import make_ready, plan_jobs
from seqmnist_tf.compare.runs import read_run
from seqmnist_tf.engine import Job, JobEnd, engine
from seqmnist_tf.model import Kernel, Pace
from seqmnist_tf.system import InputError, RunError
from seqmnist_tf.train import load_run, parse_train_arguments
from seqmnist_tf.train.__main__ import main as train_main
from tests.changes import content
from tests.compare.commands import TINY
from tests.compare.runs import completed_run, some_right
from tests.conftest import Command
from tests.model.test_layers import GOOD
from tests.toy import SMALL_VALUES


def timeless(path: Path) -> dict[str, Any]:
    """Return a comparison's JSON without the seconds, which no two trainings share."""
    document = json.loads(path.read_text())
    for arm in document["arms"]:
        del arm["seconds_per_epoch"]
    return document


def masked(path: Path) -> str:
    """Return a report without the seconds of its epochs, which no two trainings share."""
    return re.sub(r"[\d.]+ \|  \|  \|$", "", path.read_text(), flags=re.MULTILINE)


def test_from_nothing_to_the_report(
    command: Command, in_tmp: Path, toy: None, no_pictures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (in_tmp / "own_layer.py").write_text(good := GOOD + "print('read me')\n")
    (in_tmp / "chrono.json").write_text('{"model": {"forget_bias": "chrono"}}')
    words = ("chrono.json", "own_layer.py:Last", "--seeds", "1", "--dir", "out", *TINY, "--train.n-epochs=1")
    pace = Pace(Kernel(None), 0.0125, 2.0, 640.0)
    monkeypatch.setattr(comparing, "measure_paces", lambda *_: {"chrono": pace})
    result = command(compare_main, *words, "--json")
    assert result.status == 0, result.err
    assert json.loads(result.out)["arms"] and "read me" in result.err
    assert "evaluating on stock Keras; runs to train: 2/2 epochs, " in result.err
    chrono_run, last_run = (load_run(in_tmp / f"out/{arm}/seed1") for arm in ("chrono", "Last"))
    for run in (chrono_run, last_run):
        assert (run.summary or {})["status"] == "completed"
        assert parse_train_arguments(shlex.split(run.environment["command"])[3:]).config == run.config
        assert (run.environment["preset"], run.config.train.seed) == ("baseline", 1)
    document = timeless(in_tmp / "out/comparison.json")
    chrono, last = document["arms"]
    assert (chrono["num_params"], last["num_params"], last["units"]) == (146, 142, 12)
    assert [(arm["step_ms"], arm["peak_mb"]) for arm in (chrono, last)] == [(12.5, 640.0), (None, None)]
    assert (last_run.config.model.match_parameters, last_run.config.model.forget_bias) == (146, None)
    assert (last_run.path / "layer.py").read_text() == good
    assert read_run(last_run).gradient_norms == [np.median([norm for _, _, norm in last_run.steps()])]
    notes = (in_tmp / "out/report.md").read_text().partition("## Notes")[2]
    assert "`model.forget_bias` of chrono is not applied" in notes and "12 units, 142 parameters" in notes

    # Again: nothing is trained, and every file stays as it is. One arm more: only that one is trained.
    before = content(in_tmp / "out")
    assert command(compare_main, *words).status == 0
    assert content(in_tmp / "out") == before
    more = command(compare_main, *words[:2], "SimpleRNN", *words[2:])
    assert more.status == 0 and "1 run to train of 3" in more.err
    assert load_run(in_tmp / "out/SimpleRNN/seed1").config.model.match_parameters == 146
    assert timeless(in_tmp / "out/comparison.json")["arms"][:2] == document["arms"]

    # The command of a run trains the same run.
    words_of_run = shlex.split(chrono_run.environment["command"])[3:-1]
    assert command(train_main, *words_of_run, "again").status == 0
    assert (in_tmp / "again/steps.csv").read_bytes() == (chrono_run.path / "steps.csv").read_bytes()
    assert (in_tmp / "again/predictions.csv").read_bytes() == (chrono_run.path / "predictions.csv").read_bytes()

    # Fewer seeds: those that exist stay in the report.
    fewer = command(compare_main, *words[:2], "--seeds", "0", *words[4:], "--json")
    assert fewer.status == 0 and "1 run to train of 4" not in fewer.err and fewer.err.count("seeds 1 exist") == 2
    assert [arm["seeds"] for arm in json.loads(fewer.out)["arms"]] == [[0, 1], [0, 1]]

    # A folder of such runs has code, which is not run unasked.
    with pytest.raises(InputError, match="allow-code"):
        compare(["out/chrono", "out/Last"], directory="given")
    given = compare(["out/chrono", "out/Last"], directory="given", allow_code=True)
    assert [arm.test_accuracy[1:] for arm in given.arms] == [arm["test_accuracy"] for arm in document["arms"]]

    # A changed layer, or another key, is another experiment, and is not taken for the one that is there.
    changed_runs: tuple[tuple[str, list[str], str], ...] = (
        ("chrono", ["--optimizer.lr=0.5"], "optimizer.lr was 0.001 and is 0.5"),
        ("Last", [], "own_layer.py is not as in"),
    )
    for arm, changes, change in changed_runs:
        (in_tmp / "own_layer.py").write_text(GOOD + "\n# changed\n")
        changed = command(compare_main, *words, *changes)
        assert changed.status == 2 and f"out/{arm}/seed0 is a run of another configuration" in changed.err
        assert change in changed.err


def test_a_layer_that_cannot_be_used_is_refused_before_anything_is_trained(command: Command, in_tmp: Path) -> None:
    (in_tmp / "own.py").write_text(f"{GOOD}\n\ndef make(units):\n    return keras.layers.LSTM(units + 1)\n")
    for arm, flags in (("own.py:make", []), ("own.py:Other", []), ("own.py:Last", ["--train.kernel=native"])):
        result = command(compare_main, "baseline", arm, "--dir=out", "--seeds=0", *TINY, *flags)
        assert (result.status, (in_tmp / "out").exists()) == (2, False)


def test_noise_that_has_no_weights_to_act_on_is_noted(in_tmp: Path) -> None:
    (in_tmp / "own.py").write_text(GOOD)
    values = {"model.hidden_size": 4, "train.recurrent_noise": 0.1}
    arms = make_ready(parse_arms(["baseline", "own.py:Last"], values))
    assert [sum("recurrent_noise" in note for note in arm.notes) for arm in arms] == [0, 1]


def test_jobs_are_taken_seed_by_seed_and_the_time_left_follows_their_pace(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = parse_arms(["adam", "sgd"], {"train.n_epochs": 4})
    jobs = [job for of_arm in plan_jobs(arms, [0, 1], in_tmp).values() for job in of_arm]
    pace = Pace(Kernel(None), 1 / (600 + 100 / 3), 2.0, None)  # an epoch takes 1 s, an evaluation 2 s
    assert pace.hours(jobs[0].config) == pytest.approx((4 * 1 + 2) / 3600)
    progress = Progress(jobs, {"adam": pace, "sgd": pace})
    taken: list[Job] = []
    while job := progress.take(f"slot{len(taken) % 2}"):
        taken.append(job)
    assert [job.name for job in taken] == ["adam seed 0", "sgd seed 0", "adam seed 1", "sgd seed 1"]
    rows = [{"test_accuracy": 0.5, "seconds": 20.0}] * 4
    progress.epoch(taken[0], [])  # as many as a resumed run had before
    assert capsys.readouterr().err == ""
    progress.epoch(taken[0], rows[:2])
    line = capsys.readouterr().err
    assert "adam seed 0: epoch 2/4" in line and "2/16 epochs, 4 min left" in line  # 20 (14 + 4 x 2) / 2 s
    progress.ended("slot0", taken[1], JobEnd("failed", "no such value"))
    progress.epoch(taken[0], rows)
    assert "4/12 epochs, 2 min left" in capsys.readouterr().err  # 20 (8 + 3 x 2) / 2 s
    assert list(progress.errors) == ["sgd seed 0"]


def test_a_dry_run_measures_and_writes_nothing(command: Command, in_tmp: Path, toy: None) -> None:
    completed_run(in_tmp / "mine", 0, some_right(20), task__limit_train=40)
    (in_tmp / "own.py").write_text(GOOD)
    words = ["mine", "own.py:Last", "--seeds=0", "--dry-run", *(word for word in TINY if "hidden" not in word)]
    before = sorted(in_tmp.rglob("*"))
    document = json.loads(command(compare_main, *words, "--json").out)
    mine, last = document["arms"]
    names = ("name", "units", "num_params", "runs", "kernel")
    assert [mine[name] for name in names] == ["mine", 4, 146, 0, None] and mine["hours"] == 0
    assert [last[name] for name in names] == ["Last", 12, 142, 1, "keras"]
    assert last["step_ms"] > 0 and 0 < document["hours"] == last["hours"]
    assert "None" not in command(compare_main, *words).out
    assert sorted(in_tmp.rglob("*")) == before


def test_an_arm_whose_runs_all_diverge_is_left_out(
    in_tmp: Path, toy: None, capsys: pytest.CaptureFixture[str], no_pictures: None
) -> None:
    Path("hot.json").write_text('{"optimizer": {"name": "SGD", "lr": 1e38, "grad_clip_value": null}}')
    completed_run(in_tmp / "mine", 0, some_right(20), task__limit_train=40)
    arms: dict[str, Any] = {"seeds": [0], "directory": "out", "overrides": {**SMALL_VALUES, "train.n_epochs": 1}}
    for words, written in ((["hot.json", "mine"], False), (["mine", "hot.json"], True)):
        with pytest.raises(RunError, match="hot, which has no completed run"):
            compare(words, **arms)
        assert (in_tmp / "out/report.md").exists() is written  # there is no mean to hold others against
    assert [arm["name"] for arm in timeless(in_tmp / "out/comparison.json")["arms"]] == ["mine"]
    assert capsys.readouterr().err.count("has diverged") == 1  # it is not trained again


def test_a_run_that_fails_does_not_stop_the_others(
    command: Command, in_tmp: Path, monkeypatch: pytest.MonkeyPatch, no_pictures: None
) -> None:
    def train_or_fail(config: cfg.Config, path: Path, **_: Any) -> dict[str, Any]:
        if (config.model.layer, config.train.seed) == ("SimpleRNN", 1):
            raise ValueError("no such value")
        return completed_run(path, config.train.seed, some_right(20), model__layer=config.model.layer).summary or {}

    monkeypatch.setattr(engine, "train", train_or_fail)
    monkeypatch.setattr(comparing, "load_splits", lambda *_: None)
    result = command(compare_main, "adam", "SimpleRNN", "--seeds=0,1", "--dir=out", "--traceback", *TINY)
    last = result.err.splitlines()[-1]
    assert result.status == 1 and "SimpleRNN seed 1" in last and "no such value" in last
    assert "in train_or_fail" in result.err
    assert [arm["seeds"] for arm in timeless(in_tmp / "out/comparison.json")["arms"]] == [[0, 1], [0]]
    assert "Traceback" in (in_tmp / "out/logs/SimpleRNN-seed1.log").read_text()


def test_data_that_cannot_be_read_is_reported_before_anything_is_written(command: Command, in_tmp: Path) -> None:
    (in_tmp / "file").write_text("no folder")
    refused = command(compare_main, "baseline", *TINY, "--data.dir=file", "--dir=out")
    assert refused.status == 2 and "data.dir" in refused.err and not (in_tmp / "out").exists()

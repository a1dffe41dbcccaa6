"""Searches of made-up trials: repeats, files, what is printed, TensorBoard's HParams."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util.tensor_util import make_ndarray

from seqmnist_tf import config as cfg
from seqmnist_tf.system import InputError, RunError
from seqmnist_tf.train import LayerFailedError, RunDirectory
from seqmnist_tf.tune import __main__ as tune_command
from seqmnist_tf.tune import parse_space, trials
from seqmnist_tf.tune.folder import ORACLE, SearchFolder
from seqmnist_tf.tune.hparams import log_hparams
from seqmnist_tf.tune.job import Job
from seqmnist_tf.tune.jobs import Jobs
from seqmnist_tf.tune.lead import search_alone
from seqmnist_tf.tune.oracle import make_oracle
from seqmnist_tf.tune.outcomes import failed_trials, read_trials
from seqmnist_tf.tune.progress import TrialReporter
from seqmnist_tf.tune.repeats import repeat_score
from seqmnist_tf.tune.trials import run_job
from tests.conftest import Result
from tests.tune.toy_search import SPACE, toy_search, toy_train

pytestmark = pytest.mark.usefixtures("toys")


VALUES = {"optimizer.lr": 0.01, "optimizer.name": '"Adam"', "train.batch_size": "20"}


def best_row(path: Path) -> dict[str, Any]:
    return max(json.loads((path / "trials.json").read_text()), key=lambda row: row["score"])


def test_repeats_are_of_the_best_trial_after_more_trials(tmp_path: Path) -> None:
    search = toy_search(tmp_path / "search")
    search_alone(search, 1, 0, "")
    first = best_row(search.path)
    search_alone(search, 8, 0, "")
    best = best_row(search.path)
    assert (first["trial"], best["trial"]) != (best["trial"], first["trial"]), "the seed gives a better trial later"
    runs = sorted((search.path / "repeats").glob(f"trial{best['trial']}-*/seed*"))
    assert [path.name for path in runs] == ["seed1", "seed2", "seed3"]
    for path in runs:
        assert RunDirectory(path).config.optimizer.lr == best["values"]["optimizer.lr"]
    scores = [repeat_score(search, best, seed) for seed in (1, 2, 3)]
    assert scores == [pytest.approx(best["score"] - 1e-4 * seed) for seed in (1, 2, 3)]
    assert f"({', '.join(f'{score:.2%}' for score in scores)})" in (search.path / "report.md").read_text()


def test_values_that_do_not_suit_each_other_fail_their_trial_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {
        "optimizer.name": {"choices": ["Adam", "SGD"]},
        "optimizer.momentum": {"choices": [0, 0.5]},
        "optimizer.lr": {"low": 0.001, "high": 0.1},
    }
    search = dataclasses.replace(toy_search(tmp_path / "search"), space=parse_space(space), space_document=space)
    search.claim()
    search_alone(search, 8, 0, "")
    err = capsys.readouterr().err
    assert "cannot be trained: optimizer.momentum must be 0 with optimizer.name Adam (got 0.5)" in err
    rows, report = read_trials(search), (search.path / "report.md").read_text()
    failed = 8 - len(rows)
    assert f"# Search: random, 8 trials ({len(rows)} completed, 0 stopped, 0 diverged, {failed} failed)" in report
    reason = "optimizer.momentum must be 0 with optimizer.name Adam (got 0.5)"
    assert len(re.findall(rf"^- trial \d: {re.escape(reason)}", report, re.MULTILINE)) == failed
    assert 0 < len(rows) < 8 and json.loads((search.path / "best.json").read_text())
    tried = [(row["values"]["optimizer.name"], row["values"]["optimizer.momentum"]) for row in rows]
    assert ('"Adam"', "0.5") not in tried and ('"SGD"', "0.5") in tried
    search_alone(search, 10, 0, "")
    again = capsys.readouterr().err
    assert "cannot be read" not in again and "has lost its values" not in again
    assert [row for row in read_trials(search) if row in rows] == rows


def test_repeats_of_before_are_used_only_for_the_same_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = toy_search(tmp_path / "search")
    search_alone(search, 2, 0, "")
    best = best_row(search.path)
    former = search.path / "repeats" / "trials"  # of version 0.1.0
    next((search.path / "repeats").glob("trial*")).rename(former)
    search_alone(search, 2, 0, "")
    assert not list((search.path / "repeats").glob("trial[0-9]*"))
    config = json.loads((former / "seed2" / "config.json").read_text())
    config["optimizer"]["lr"] = 0.5
    (former / "seed2" / "config.json").write_text(json.dumps(config))
    search_alone(search, 2, 0, "")
    (again,) = (search.path / "repeats").glob("trial[0-9]*/seed*")
    assert again.name == "seed2" and again.parent.name.startswith(f"trial{best['trial']}-")


def test_kerastuner_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for tuner in ("random", "hyperband"):
        for _ in range(2):
            search_alone(toy_search(tmp_path / tuner, tuner), 3, 0, "")
    out, err = capfd.readouterr()
    known = ("trial ", "repeat of trial ", "# Search: ", "Best: ", "With ", "|", "train it: ", "the trials have ended")
    assert [line for line in (out + err).splitlines() if line and not line.startswith(known)] == []


def test_the_oracles_files_are_whole_when_a_write_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = make_oracle(toy_search(tmp_path), 3)
    trial = oracle.create_trial("a")
    files = sorted((tmp_path / ORACLE).rglob("*.json"))
    assert [file.name for file in files] == ["oracle.json", "trial.json"]
    before = [file.read_bytes() for file in files]

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    for save in (oracle.save, lambda: oracle._save_trial(trial)):
        with pytest.raises(OSError, match="No space left"):
            save()
    assert [file.read_bytes() for file in files] == before


@pytest.mark.parametrize("name", ["oracle/trial_1/trial.json", "trials/1/summary.json", "trials/1/history.jsonl"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.99])
def test_files_that_are_being_written_are_read_the_next_time(tmp_path: Path, name: str, part: float) -> None:
    search = toy_search(tmp_path)
    search_alone(search, 3, 0, "")
    (tmp_path / "repeats").rename(tmp_path / "elsewhere")
    rows, file = read_trials(search), tmp_path / name
    content = file.read_bytes()
    file.write_bytes(content[: int(part * len(content))])
    reporter = TrialReporter(search, 3)
    assert [row["trial"] for row in read_trials(search)] == ["0", "2"]
    file.write_bytes(content)
    assert read_trials(search) == rows and reporter.report_new() == 1


def test_settings_of_a_version_with_fewer_keys_are_of_the_same_search(tmp_path: Path) -> None:
    search = toy_search(tmp_path / "search")
    search.claim()
    document = json.loads(search.file.read_text())
    del document["base"]["tensorboard"]
    search.file.write_text(json.dumps(document))
    search.claim()
    document["base"]["model"]["hidden_size"] = 5
    search.file.write_text(json.dumps(document))
    with pytest.raises(InputError, match="holds another search"):
        search.claim()


@pytest.mark.parametrize("key", ["task.permutation", "model.layer"])
def test_a_file_that_has_changed_is_another_search(key: str, tmp_path: Path) -> None:
    name = {"task.permutation": "order.txt", "model.layer": "own.py"}[key]
    value = {"task.permutation": f"file:{tmp_path / name}", "model.layer": f"{tmp_path / name}:Own"}[key]
    (tmp_path / name).write_text("before")
    search = toy_search(tmp_path / "search", values={key: value})
    search.claim()
    toy_search(tmp_path / "search", values={key: value}).claim()
    (tmp_path / name).write_text("after")
    with pytest.raises(InputError, match="holds a search whose file of a layer or pixel order has changed"):
        toy_search(tmp_path / "search", values={key: value}).claim()
    document = json.loads(search.file.read_text())
    del document["config_id"]  # as version 0.1.0 wrote it: it is taken as it is now
    search.file.write_text(json.dumps(document))
    now = toy_search(tmp_path / "search", values={key: value})
    now.claim()
    assert json.loads(search.file.read_text())["config_id"] == now.config_id
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match="must name a file that can be read"):
        toy_search(tmp_path / "search", values={key: value}).claim()


def test_a_layer_that_fails_in_training_fails_its_trial_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train_or_fail(config: cfg.Config, *args: Any, **kwargs: Any) -> dict[str, Any]:
        if config.optimizer.name == "SGD":
            raise LayerFailedError("model.layer own.py:Own: in training it raised ValueError: not with SGD")
        return toy_train(config, *args, **kwargs)

    monkeypatch.setattr(trials, "train", train_or_fail)
    search = toy_search(tmp_path / "search")
    search_alone(search, 6, 0, "")
    assert {row["values"]["optimizer.name"] for row in read_trials(search)} == {'"Adam"'}
    assert "failed: model.layer own.py:Own: in training it raised ValueError: not with SGD" in capsys.readouterr().err


def test_a_module_of_a_layer_that_changes_ends_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "module_of_a_search.py"
    module.write_text("before")
    monkeypatch.setattr(trials, "module_code", lambda config: module.read_text())
    search = toy_search(tmp_path / "search", values={"model.layer": "module_of_a_search:Own"})
    search.claim()
    search_alone(search, 1, 0, "")
    for path in search.path.glob("*/*/environment.json"):
        path.write_text('{"layer_code": "before"}')
    search_alone(search, 2, 0, "")
    shutil.copytree(search.trial_path("0"), search.path / "damaged" / "0")
    (search.path / "damaged/0/environment.json").write_text('{"layer_code": "another"}')
    shutil.copytree(search.trial_path("0"), search.path / "trials" / "odd")
    (search.path / "trials/odd/config.json").write_text('{"model": null}')
    search_alone(search, 3, 0, "")
    module.write_text("after")
    with pytest.raises(RunError, match=r"0 was trained with another version of module_of_a_search:Own .restore the"):
        search_alone(search, 4, 0, "")
    assert not search.trial_path("3").exists()


def test_failed_trials_are_named_whatever_their_files_hold(tmp_path: Path) -> None:
    search = toy_search(tmp_path)
    for name, text in (
        ("trial_10", '{"trial_id": 7, "status": "FAILED", "message": "no memory"}'),
        ("trial_9", '{"status": "FAILED", "message": null}'),
        ("trial_2", '{"status": "COMPLETED"}'),
        ("trial_3", "[1]"),
        ("trial_x", '{"status": "FAILED"}'),
    ):
        (tmp_path / ORACLE / name).mkdir(parents=True)
        (tmp_path / ORACLE / name / "trial.json").write_text(text)
    assert failed_trials(search) == {"9": "its values were lost", "10": "no memory"}
    assert list(failed_trials(search)) == ["9", "10"]


def test_the_highest_seed_is_one_of_kerastuner(tmp_path: Path) -> None:
    for seed, oracle_seed in ((0, 1), (7, 8), (2**32 - 2, 2**32 - 1), (2**32 - 1, 1)):
        search = toy_search(tmp_path / f"{seed}", values={"train.seed": seed})
        assert make_oracle(search, 1).seed == oracle_seed


def test_a_layer_that_changes_during_a_search_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text("before")
    search = toy_search(tmp_path / "search", values={"model.layer": f"{tmp_path / 'own.py'}:Own"})
    search.claim()

    def train_and_change(*args: Any, **kwargs: Any) -> dict[str, Any]:
        summary = toy_train(*args, **kwargs)
        (tmp_path / "own.py").write_text("after")
        return summary

    monkeypatch.setattr(trials, "train", train_and_change)
    with pytest.raises(RunError, match=r"the search cannot continue: .* whose file of a layer or pixel order has chan"):
        search_alone(search, 3, 0, "")
    assert len(list((search.path / "trials").iterdir())) == 1


def test_a_search_goes_on_where_the_data_has_moved(tmp_path: Path) -> None:
    search = toy_search(tmp_path / "search", values={"data.dir": "here"})
    search.claim()
    document = json.loads(search.file.read_text())
    document["base"]["data"] = {"source": "pypi", "dir": "elsewhere"}  # as older versions wrote it
    search.file.write_text(json.dumps(document))
    toy_search(tmp_path / "search", values={"data.dir": "there"}).claim()


def test_a_layer_of_the_space_that_has_changed_is_another_search(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("before")
    space = {"model.layer": {"choices": ["GRU", f"{tmp_path / 'own.py'}:Own"]}}

    def search() -> SearchFolder:
        return dataclasses.replace(toy_search(tmp_path / "search"), space=parse_space(space), space_document=space)

    search().claim()
    search().claim()
    (tmp_path / "own.py").write_text("after")
    with pytest.raises(InputError, match="holds a search whose file of a layer or pixel order has changed"):
        search().claim()
    (tmp_path / "own.py").unlink()
    with pytest.raises(InputError, match="must name a file that can be read"):
        search().claim()


def test_an_oracle_that_fails_does_not_lock_the_others_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs(toy_search(tmp_path), make_oracle(toy_search(tmp_path), 4))
    with monkeypatch.context() as patch:
        patch.setattr(type(jobs.oracle), "_save_trial", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            jobs.take("a")
    taken: list[Any] = []
    other = threading.Thread(target=lambda: taken.append(jobs.take("b")), daemon=True)
    other.start()
    other.join(20)
    assert isinstance(taken[0], Job) and jobs.holders()["b"] == taken[0]


def test_damaged_settings_are_written_again_for_the_search_of_the_trials_only(tmp_path: Path) -> None:
    search = toy_search(tmp_path / "search")
    search.claim()
    search_alone(search, 2, 0, "")
    before = search.file.read_bytes()
    search.file.write_text("")
    with pytest.raises(InputError, match=r"cannot read .*search.json, and trial 0 is of another search"):
        toy_search(tmp_path / "search", values={"model.hidden_size": 5}).claim()
    search.claim()
    assert search.file.read_bytes() == before


def test_trials_are_on_tensorboards_hparams_page(tmp_path: Path) -> None:
    search = toy_search(tmp_path, values={"tensorboard.enabled": True})
    search_alone(search, 2, 0, "")
    search_alone(search, 2, 0, "")
    (space,) = (tmp_path / "tensorboard").iterdir()
    plugin = hparams_of(space)["_hparams_/experiment"].experiment
    assert {info.name for info in plugin.hparam_infos} == set(SPACE)
    (lr,) = (info for info in plugin.hparam_infos if info.name == "optimizer.lr")
    assert (lr.domain_interval.min_value, lr.domain_interval.max_value) == (1e-3, 1e-1)
    for row in read_trials(search):
        (file,) = (tmp_path / "trials" / row["trial"] / "tensorboard").glob("*.hparams")
        data = hparams_of(file)
        start = data["_hparams_/session_start_info"].session_start_info
        assert start.group_name == row["trial"]
        assert start.hparams["optimizer.lr"].number_value == row["values"]["optimizer.lr"]
        assert start.hparams["optimizer.name"].string_value == row["values"]["optimizer.name"]
        assert "_hparams_/session_end_info" in data
        events = EventAccumulator(str(file)).Reload()
        (score,) = events.Tensors("val_accuracy")
        assert score.step == 4 and make_ndarray(score.tensor_proto) == pytest.approx(row["score"])


def hparams_of(file: Path) -> dict[str, Any]:
    """Return the HParams data of an event file, by tag."""
    contents = EventAccumulator(str(file)).Reload().summary_metadata
    return {
        tag: plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content)
        for tag, metadata in contents.items()
        if metadata.plugin_data.plugin_name == "hparams"
    }


def test_hparams_are_written_only_where_they_are_asked_for(tmp_path: Path) -> None:
    search = toy_search(tmp_path / "search")
    search_alone(search, 1, 0, "")
    log_hparams(search, Job("0", read_trials(search)[0]["hyperparameters"]), 0.5)
    assert not list(tmp_path.rglob("*.hparams"))


def test_a_trial_whose_hparams_cannot_be_written_keeps_its_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tensorboard").write_text("in the way")
    search_alone(toy_search(tmp_path, values={"tensorboard.enabled": True}), 1, 0, "")
    assert "warning: trial 0 is not on TensorBoard's page HParams: " in capsys.readouterr().err
    assert len(read_trials(toy_search(tmp_path))) == 1


def test_a_run_in_use_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trials, "BUSY_SECONDS", 0.05)
    search = toy_search(tmp_path)
    toy_train(search.config(VALUES), search.trial_path("0"), stop_rule=lambda history: "enough")
    run = RunDirectory(search.trial_path("0"))
    (run.path / "summary.json").unlink()
    locked, waits, sleep = threading.Event(), threading.Event(), time.sleep

    def wait(seconds: float) -> None:
        waits.set()
        sleep(seconds)

    monkeypatch.setattr(trials.time, "sleep", wait)

    def hold() -> None:
        with run.lock():
            locked.set()
            assert waits.wait(60)

    threading.Thread(target=hold).start()
    assert locked.wait(60)
    assert run_job(search, Job("0", VALUES)) > 0
    assert waits.is_set()
    assert f"trial 0: {run.path} is in use by another process: waiting for 0 s\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--patience=0", "--patience must be 0.05 to 100,000 minutes (got 0)"),
        ("--patience=nan", "--patience must be 0.05 to 100,000 minutes (got nan)"),
        ("--patience=x", "argument --patience: invalid float value: 'x'"),
        ("--worker-name=a/b", "--worker-name must be letters, digits, '.', '_' and '-' (got 'a/b')"),
        ("--oracle=127.0.0.1:99999", "--oracle must be HOST:PORT with a port of 1 to 65535 (got '127.0.0.1:99999')"),
        ("--oracle=192.0.2.1:8600", "--oracle must be a free address of this machine (got 192.0.2.1:8600"),
        ("--oracle=no.such.host.invalid:8600", "--oracle must be a free address of this machine (got no.such.host"),
    ],
)
def test_bad_options_are_one_line(command: Callable[..., Result], tmp_path: Path, option: str, message: str) -> None:
    role = ["--role=chief"] if "oracle" in option else []
    answer = command(
        tune_command.main, "--tuner=random", "--max-trials=2", f"--dir={tmp_path / 'search'}", *role, option
    )
    assert (answer.status, answer.out) == (2, "")
    assert answer.err.startswith(f"error: {message}") and answer.err.count("\n") == 1
    assert not (tmp_path / "search").exists()


def test_a_diverged_or_stopped_toy_is_scored(tmp_path: Path) -> None:
    """The toys leave what a training leaves, as far as a search reads it."""
    search = toy_search(tmp_path)
    config = cfg.with_values(search.base, {"task.limit_train": 7})
    toy_train(config, tmp_path / "run", stop_rule=lambda history: "enough" if len(history) == 2 else None)
    summary = RunDirectory(tmp_path / "run").summary
    assert summary is not None and (summary["status"], summary["reason"], summary["epochs"]) == ("stopped", "enough", 2)

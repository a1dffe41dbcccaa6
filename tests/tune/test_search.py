"""Searches of made-up trials: what is a job, repeats, failures, settings, what is printed, TensorBoard's HParams."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util.tensor_util import make_ndarray

from seqmnist_tf import config as cfg
from seqmnist_tf.engine import JobEnd, engine
from seqmnist_tf.system import InputError, RunError
from seqmnist_tf.train import LayerFailedError, RunDirectory
from seqmnist_tf.tune import SearchFolder, report
from seqmnist_tf.tune import search as search_module
from seqmnist_tf.tune import trials as trials_module
from seqmnist_tf.tune.report import MOST_FAILURES, log_hparams
from seqmnist_tf.tune.search import FAILURES, SearchJobs, run_search
from seqmnist_tf.tune.trials import repeat_score
from tests.tune.toy_search import SPACE, ToySlots, toy_search, toy_train, trials_of

pytestmark = pytest.mark.usefixtures("toys")


def best_row(path: Path) -> dict[str, Any]:
    return max(trials_of(path), key=lambda row: row["score"])


def test_repeats_are_of_the_best_trial_after_more_trials(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = toy_search(tmp_path / "search")
    run_search(search, 1)
    first = best_row(search.path)
    capsys.readouterr()
    run_search(search, 8)
    best = best_row(search.path)
    assert first["trial"] != best["trial"], "the seed gives a better trial later"
    runs = sorted((search.path / "repeats").glob(f"trial{best['trial']}-*/seed*"))
    assert [path.name for path in runs] == ["seed1", "seed2", "seed3"]
    for path in runs:
        assert RunDirectory(path).config.optimizer.lr == best["values"]["optimizer.lr"]
    scores = [repeat_score(search, best, seed) for seed in (1, 2, 3)]
    assert scores == [pytest.approx(best["score"] - 1e-4 * seed) for seed in (1, 2, 3)]
    assert f"({', '.join(f'{score:.2%}' for score in scores)})" in (search.path / "report.md").read_text()
    out, err = capsys.readouterr()
    assert err == f"the trials have ended; the best, trial {best['trial']}, is repeated with seeds 1, 2, 3\n"
    assert re.findall(r"^repeat of trial \d with seed (\d): validation accuracy 8\d\.\d\d%$", out, re.M) == [*"123"]
    run_search(search, 8)
    assert "repeat of" not in capsys.readouterr().out  # they have ended


def test_a_repeat_that_fails_is_left_out_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train_or_fail(config: cfg.Config, *args: Any, **more: Any) -> dict[str, Any]:
        if config.train.seed == 2:
            raise ValueError("not with this seed")
        return toy_train(config, *args, **more)

    search = toy_search(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "train", train_or_fail)
        run_search(search, 1)
    out = capsys.readouterr().out
    assert "repeat of trial 0 with seed 2: ValueError: not with this seed\n" in out and "With 2 other seeds: " in out
    run_search(search, 1)
    assert "With 3 other seeds: " in capsys.readouterr().out


def test_the_jobs_of_a_search(tmp_path: Path) -> None:
    search = toy_search(tmp_path / "mine")
    jobs = SearchJobs(search, 1, "the command")
    trial = jobs.take("slot0")
    assert trial is not None and (trial.name, trial.path) == ("trial 0", tmp_path / "mine" / "trials" / "0")
    assert (trial.command, trial.resume_command, trial.group) == ("the command", "the command", "search-mine")
    at_chance = {"train_accuracy": 0.1, "val_accuracy": 0.1}
    assert trial.stop_rule is not None and trial.stop_rule([at_chance] * 2) == "at chance after 2 of 4 epochs"
    assert jobs.take("slot1") is None and jobs.left()  # its score decides which trial is repeated
    jobs.ended("slot0", trial, engine.train_job(trial, search.path))
    repeats = [jobs.take(f"slot{number}") for number in range(3)]
    assert jobs.take("slot3") is None
    assert [job.config.train.seed for job in repeats if job] == [1, 2, 3] and not jobs.left()
    jobs.ended("slot1", repeats[1], JobEnd("failed", "no"))  # type: ignore[arg-type]
    assert jobs.take("slot1") is None


def test_a_search_may_train_trials_at_chance_to_their_end(tmp_path: Path) -> None:
    search = replace(toy_search(tmp_path / "mine"), path=tmp_path / "endless", stops=False)
    search.path.mkdir()
    search.claim()
    job = SearchJobs(SearchFolder.read(search.path), 1).take("slot0")
    assert job is not None and job.stop_rule is None
    with pytest.raises(InputError, match="holds another search"):
        replace(search, stops=True).claim()


def test_a_trial_is_at_chance_on_training_and_held_out_images() -> None:
    row = {"train_accuracy": 0.11, "val_accuracy": 0.1}
    averaged = {"train_accuracy": 0.58, "val_accuracy": 0.16}  # averaged weights lag behind the trained ones
    assert trials_module.stop_at_chance(4, [row]) is None
    assert trials_module.stop_at_chance(4, [row, row]) == "at chance after 2 of 4 epochs"
    assert trials_module.stop_at_chance(4, [row, averaged]) is None


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
    reason = "optimizer.momentum must be 0 with optimizer.name Adam (got 0.5)"
    rows, report = trials_of(search.path), (search.path / "report.md").read_text()
    failed = 60 - len(rows)
    assert len(re.findall(rf"^trial \d+: failed \({re.escape(reason)}\)$", capsys.readouterr().err, re.M)) == failed
    assert f"# Search: random, 60 trials ({len(rows)} completed, 0 stopped, 0 diverged, {failed} failed)" in report
    assert len(re.findall(rf"^- trial \d+: {re.escape(reason)}$", report, re.M)) == min(failed, MOST_FAILURES)
    assert FAILURES < failed < 60 and json.loads((search.path / "best.json").read_text())
    tried = [(row["values"]["optimizer.name"], row["values"]["optimizer.momentum"]) for row in rows]
    assert ('"Adam"', "0.5") not in tried and ('"SGD"', "0.5") in tried
    run_search(search, 62)
    assert trials_of(search.path)[: len(rows)] == rows


def test_repeats_of_before_are_used_only_for_the_same_configuration(tmp_path: Path) -> None:
    search = toy_search(tmp_path / "search")
    run_search(search, 2)
    best = best_row(search.path)
    former = search.path / "repeats" / "trials"  # of version 0.1.0
    next((search.path / "repeats").glob("trial*")).rename(former)
    run_search(search, 2)
    assert not list((search.path / "repeats").glob("trial[0-9]*"))
    config = json.loads((former / "seed2" / "config.json").read_text())
    config["optimizer"]["lr"] = 0.5
    (former / "seed2" / "config.json").write_text(json.dumps(config))
    run_search(search, 2)
    (again,) = (search.path / "repeats").glob("trial[0-9]*/seed*")
    assert again.name == "seed2" and again.parent.name.startswith(f"trial{best['trial']}-")


def test_a_trial_that_version_0_1_0_stopped_has_kerastuners_score(tmp_path: Path) -> None:
    search = toy_search(tmp_path)
    run_search(search, 1)
    run = RunDirectory(search.trial_path("0"))
    old = {key: value for key, value in (run.summary or {}).items() if key != "reason"} | {"status": "interrupted"}
    run.write_json("summary.json", old)
    state = json.loads(search.oracle_file.read_text())
    state["trials"]["0"]["score"] = 0.0625
    search.oracle_file.write_text(json.dumps(state))
    run_search(search, 1)
    (row,) = trials_of(tmp_path)
    assert (row["status"], row["score"], row["epochs"]) == ("stopped", 0.0625, 4) and run.summary == old
    assert "1 trials (0 completed, 1 stopped, 0 diverged)" in (tmp_path / "report.md").read_text()


def test_trials_are_found_by_their_numbers_after_the_maximum_got_a_digit(tmp_path: Path) -> None:
    search = toy_search(tmp_path)
    run_search(search, 1)
    before = (tmp_path / "trials/0/summary.json").stat().st_mtime_ns
    search.oracle_file.unlink()
    (repeats,) = (tmp_path / "repeats").iterdir()
    run_search(search, 10)  # KerasTuner calls them 00 to 09 now
    assert search.place("repeats/trial", "00", repeats.name.removeprefix("trial0")) == repeats
    assert (tmp_path / "trials/0/summary.json").stat().st_mtime_ns == before
    assert len(trials_of(tmp_path)) == 10 and not (tmp_path / "trials/00").exists()


def test_kerastuner_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for tuner in ("random", "hyperband"):
        for _ in range(2):
            run_search(toy_search(tmp_path / tuner, tuner), 3)
        assert {key for row in trials_of(tmp_path / tuner) for key in row["values"]} == set(SPACE)  # no "tuner/epochs"
    out, err = capfd.readouterr()
    known = ("trial ", "repeat of trial ", "# Search: ", "Best: ", "With ", "|", "train it: ", "the trials have ended")
    assert [line for line in (out + err).splitlines() if line and not line.startswith(known)] == []


def test_each_trial_is_a_line_and_of_many_trials_about_five_hundred_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    search = toy_search(tmp_path / "few")
    run_search(search, 3)
    rows = trials_of(search.path)
    out, err = capsys.readouterr()
    best = 0
    for number, line in enumerate(out.splitlines()[:3]):
        best = max(best, number, key=lambda n: rows[n]["score"])
        assert line == (
            f"trial {number}: validation accuracy {rows[number]['score']:.2%}, completed; best so far "
            f"{rows[best]['score']:.2%} (trial {best}); {number + 1} of at most 3 trials, 0 min left"
        )
    assert "epoch" not in err  # a run in this process shows its own
    run_search(search, 4, place=ToySlots(2, search.path))
    assert re.search(r"^trial 3: epoch 4/4, validation accuracy \d\d\.\d\d%$", capsys.readouterr().err, re.M)
    monkeypatch.setattr(search_module, "due", lambda done, total: done == total == 6)
    run_search(toy_search(tmp_path / "many"), 6)
    shown = re.findall(r"^trial (\d): .* \(trial (\d)\); ", capsys.readouterr().out, re.M)
    assert len(shown) < 6 and shown[0] == ("0", "0") and shown[-1][0] == "5"
    assert all(trial == best for trial, best in shown[:-1])


def test_a_layer_that_fails_in_training_fails_its_trial_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train_or_fail(config: cfg.Config, *args: Any, **more: Any) -> dict[str, Any]:
        if config.optimizer.name == "SGD":
            raise LayerFailedError("model.layer own.py:Own: in training it raised ValueError: not with SGD")
        return toy_train(config, *args, **more)

    monkeypatch.setattr(engine, "train", train_or_fail)
    search = toy_search(tmp_path / "search")
    run_search(search, 6)
    assert {row["values"]["optimizer.name"] for row in trials_of(search.path)} == {'"Adam"'}
    assert "failed (model.layer own.py:Own: in training it raised ValueError: not with SGD" in capsys.readouterr().err


def test_a_failure_of_the_machine_ends_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RunError("the disk is full")

    search = toy_search(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "train", fail)
        with pytest.raises(RunError, match=r"trials/0 failed: the disk is full \(the same command resumes it\)"):
            run_search(search, 2)
    run_search(search, 2)
    assert len(trials_of(tmp_path)) == 2


def test_a_search_without_a_score_has_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "train", lambda *_, **__: 1 / 0)
    with pytest.raises(RunError, match=r"no trial of .* has ended with a score"):
        run_search(toy_search(tmp_path), 3)
    assert not (tmp_path / "best.json").exists()


def test_settings_of_a_version_with_fewer_keys_are_of_the_same_search(tmp_path: Path) -> None:
    search = toy_search(tmp_path / "search", values={"data.dir": "here"})
    document = json.loads(search.file.read_text())
    del document["base"]["tensorboard"], document["config_id"], document["layers"]
    document["base"]["data"] = {"source": "pypi", "dir": "elsewhere"}  # as version 0.1.0 wrote it
    search.file.write_text(json.dumps(document))
    toy_search(tmp_path / "search", values={"data.dir": "there"})
    assert json.loads(search.file.read_text())["config_id"] == cfg.config_id(search.base)
    document["base"]["model"]["hidden_size"] = 5
    search.file.write_text(json.dumps(document))
    with pytest.raises(InputError, match="holds another search"):
        search.claim()


def test_damaged_settings_are_one_line_and_are_written_again(tmp_path: Path) -> None:
    search = toy_search(tmp_path)
    run_search(search, 1)
    before = search.file.read_bytes()
    search.file.write_bytes(before[:100])
    said = r"cannot read .*search.json: .*; the search is intact \(remove .*search.json: the same command writes it ag"
    with pytest.raises(InputError, match=said):
        search.claim()
    search.file.unlink()
    search.claim()
    assert search.file.read_bytes() == before


@pytest.mark.parametrize("key", ["task.permutation", "model.layer", "the space"])
def test_a_file_that_has_changed_is_another_search(key: str, tmp_path: Path) -> None:
    name = {"task.permutation": "order.txt"}.get(key, "own.py")
    value = {"task.permutation": f"file:{tmp_path / name}"}.get(key, f"{tmp_path / name}:Own")
    space = {"model.layer": {"choices": ["GRU", value]}} if key == "the space" else SPACE
    (tmp_path / name).write_text("before")

    def claim() -> None:
        toy_search(tmp_path / "search", values={} if key == "the space" else {key: value}, space=space)

    claim()
    claim()
    (tmp_path / name).write_text("after")
    with pytest.raises(InputError, match="holds a search whose file of a layer or pixel order has changed"):
        claim()
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match="must name a file that can be read"):
        claim()


def test_a_layer_that_changes_during_a_search_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text("before")
    search = toy_search(tmp_path / "search", values={"model.layer": f"{tmp_path / 'own.py'}:Own"})

    def train_and_change(*args: Any, **kwargs: Any) -> dict[str, Any]:
        summary = toy_train(*args, **kwargs)
        (tmp_path / "own.py").write_text("after")
        return summary

    monkeypatch.setattr(engine, "train", train_and_change)
    with pytest.raises(RunError, match=r"the search cannot continue: .* whose file of a layer or pixel order has chan"):
        run_search(search, 3)
    assert len(list((search.path / "trials").iterdir())) == 1


def test_a_module_of_a_layer_that_changes_ends_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = ["before"]
    for module in (engine, search_module, trials_module):
        monkeypatch.setattr(module, "module_code", lambda config, *_: code[0] if ":" in config.model.layer else None)
    search = toy_search(tmp_path / "search", values={"model.layer": "module_of_a_search:Own"})
    run_search(search, 1)
    for path in search.path.glob("*/*/environment.json"):
        path.write_text('{"layer_code": "before"}')
    run_search(search, 2)
    shutil.copytree(search.trial_path("0"), search.path / "damaged" / "0")
    (search.path / "damaged/0/environment.json").write_text('{"layer_code": "another"}')
    shutil.copytree(search.trial_path("0"), search.path / "trials" / "odd")
    (search.path / "trials/odd/config.json").write_text('{"model": null}')
    run_search(search, 3)
    code[0] = "after"
    with pytest.raises(InputError, match=r"0 was trained with another version of module_of_a_search:Own .restore the"):
        run_search(search, 4)
    assert not search.trial_path("3").exists()


def test_trials_are_on_tensorboards_hparams_page(tmp_path: Path) -> None:
    search = toy_search(tmp_path, values={"tensorboard.enabled": True})
    run_search(search, 2)
    run_search(search, 2)
    (space,) = (tmp_path / "tensorboard").iterdir()
    plugin = hparams_of(space)["_hparams_/experiment"].experiment
    assert {info.name for info in plugin.hparam_infos} == set(SPACE)
    (lr,) = (info for info in plugin.hparam_infos if info.name == "optimizer.lr")
    assert (lr.domain_interval.min_value, lr.domain_interval.max_value) == (1e-3, 1e-1)
    for row in trials_of(tmp_path):
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
    run_search(search, 1)
    log_hparams(search, trials_of(search.path)[0])
    assert not list(tmp_path.rglob("*.hparams"))


def test_a_trial_whose_hparams_cannot_be_written_keeps_its_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    search = toy_search(tmp_path / "one", values={"tensorboard.enabled": True})
    (search.path / "tensorboard").write_text("in the way")
    run_search(search, 1)

    def fail(*_: Any, **__: Any) -> None:
        raise KeyError("a fault of TensorBoard")

    monkeypatch.setattr(report.api, "hparams_config", fail)
    other = toy_search(tmp_path / "two", values={"tensorboard.enabled": True})
    run_search(other, 1)
    assert capsys.readouterr().err.count("warning: trial 0 is not on TensorBoard's page HParams: ") == 2
    for folder in (search.path, other.path):
        assert [row["status"] for row in trials_of(folder)] == ["completed"]
        state = json.loads((folder / "oracle.json").read_text())
        assert [trial["status"] for trial in state["trials"].values()] == ["COMPLETED"]

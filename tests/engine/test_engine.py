"""The loop over jobs with stand-ins for trainings, and real trainings of toy data in this process."""

from __future__ import annotations

import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.engine import Job, JobEnd, due, engine, run_jobs, same_experiment
from seqmnist_tf.system import RunError
from seqmnist_tf.train import RunDirectory
from tests.engine.stand_in import Listed, ManySlots, make_job, train
from tests.model.test_layers import GOOD


class Mortal(ManySlots):
    """Many slots whose processes die so many times, after so many epochs each, before a job ends."""

    def __init__(self, number: int, folder: Path, deaths: int, end: JobEnd | None = None) -> None:
        super().__init__(number, folder)
        self.deaths, self.end = deaths, end or JobEnd("died", "its node died")
        self.died: dict[str, int] = {}

    def wait(self) -> list[Any]:
        slot, job = self.running.popitem()
        self.died[job.name] = self.died.get(job.name, 0) + 1
        if self.died[job.name] <= self.deaths:
            return [(slot, self.end)]
        return [(slot, train(job, self.folder))]


def test_jobs_fill_the_slots_and_their_epochs_are_told_once(tmp_path: Path) -> None:
    source = Listed([make_job(tmp_path / f"run{number}", epochs=3) for number in range(7)])
    run_jobs(source, tmp_path, marker="", place=ManySlots(3, tmp_path))
    assert source.ends == {f"run{number}": JobEnd("completed") for number in range(7)}
    assert [source.slots[f"run{number}"] for number in range(3)] == ["slot0", "slot1", "slot2"]
    assert sorted(source.heard) == [(f"run{number}", 3) for number in range(7)]


def test_a_source_is_asked_again_only_when_a_job_has_ended(tmp_path: Path) -> None:
    asked: list[str] = []

    class Careful(Listed):
        def take(self, slot: str) -> Job | None:
            asked.append(slot)
            return super().take(slot) if len(asked) != 2 else None

    source = Careful([make_job(tmp_path / f"run{number}") for number in range(3)])
    run_jobs(source, tmp_path, marker="", place=ManySlots(2, tmp_path))
    assert asked == ["slot0", "slot1", "slot0", "slot1", "slot1", "slot0"] and len(source.ends) == 3


def test_a_job_whose_process_dies_is_started_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = Listed([make_job(tmp_path / "run", "GRU seed 3")])
    run_jobs(source, tmp_path, marker="", place=Mortal(1, tmp_path, 9))
    assert source.ends == {"GRU seed 3": JobEnd("completed")}
    line = "GRU seed 3: its node died; it is started again, from its start"
    assert capsys.readouterr().err.splitlines() == [line] * 9
    assert (tmp_path / "logs/engine.log").read_text().splitlines() == [line] * 9


@pytest.mark.parametrize("end", [JobEnd("died", "its process died (SIGSEGV)"), JobEnd("interrupted")])
def test_a_job_that_gets_nowhere_fails_and_the_others_go_on(end: Any, tmp_path: Path) -> None:
    source = Listed([make_job(tmp_path / "lost"), make_job(tmp_path / "run")])
    place = Mortal(1, tmp_path, 10, end)
    place.died["run"] = 10
    run_jobs(source, tmp_path, marker="", place=place)
    cause = end.error or "it was interrupted"
    log = tmp_path / "logs/log"
    assert source.ends == {
        "lost": JobEnd("failed", f"{cause}, 10 times in a row (see {log})"),
        "run": JobEnd("completed"),
    }


def test_a_new_epoch_makes_up_for_deaths(tmp_path: Path) -> None:
    class Slow(Mortal):
        def wait(self) -> list[Any]:
            (job,) = self.running.values()
            rows = [{"epoch": epoch} for epoch in range(1, 1 + self.died.get(job.name, 0) // 4)]
            job.path.mkdir(exist_ok=True)
            (job.path / ".new").write_text("".join(f"{row}\n".replace("'", '"') for row in rows))
            (job.path / ".new").rename(job.path / "history.jsonl")
            if self.died.get(job.name) == 40:
                shutil.rmtree(job.path)
            return super().wait()

    source = Listed([make_job(tmp_path / "run", epochs=12)])
    run_jobs(source, tmp_path, marker="", place=Slow(1, tmp_path, 40))
    assert source.ends == {"run": JobEnd("completed")}
    assert [epochs for _, epochs in source.heard] == [*range(1, 10), 12]


def test_a_failure_of_the_machine_ends_all(tmp_path: Path) -> None:
    source = Listed([make_job(tmp_path / "full", plan="full disk"), make_job(tmp_path / "next")])
    with pytest.raises(RunError) as raised:
        run_jobs(source, tmp_path, marker="", place=ManySlots(1, tmp_path))
    assert str(raised.value) == f"{tmp_path / 'full'} failed: full disk said so (the same command resumes it)"
    assert source.ends == {} and not (tmp_path / "next").exists()


def test_remarks_on_a_terminal_have_a_bound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = Listed([make_job(tmp_path / f"run{number}", plan="fail") for number in range(300)])
    run_jobs(source, tmp_path, marker="", place=ManySlots(20, tmp_path))
    lines = capsys.readouterr().err.splitlines()
    log = tmp_path / "logs" / "engine.log"
    assert len(lines) == 101 and lines[-1] == f"further remarks of this kind are in {log} alone"
    assert len(log.read_text().splitlines()) == len(source.ends) == 300
    assert lines[0] == "run19: failed (fail said so)"


def test_progress_has_a_bound() -> None:
    assert [due(done, 10_000, 5) for done in range(5, 45, 5)] == [False, False, False, True] * 2


def toy_job(path: Path, **values: Any) -> Job:
    more = {"train__batch_size": 16, "wandb__mode": "disabled", **values}
    return make_job(path, **more)


@pytest.mark.slow
def test_jobs_in_this_process_print_to_their_logs(
    tmp_path: Path, toy: None, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Listed([toy_job(tmp_path / f"run{seed}", train__seed=seed) for seed in (0, 1)])
    source.epoch = lambda job, history: print(job.name, len(history), file=sys.stderr)  # type: ignore[method-assign]
    run_jobs(source, tmp_path, marker="")
    assert capsys.readouterr().err == "run0 1\nrun0 2\nrun1 1\nrun1 2\n"
    assert (tmp_path / "logs/log").read_text().count("preset none, seed") == 2
    assert {end.status for end in source.ends.values()} == {"completed"}


def end_of(job: Job, folder: Path) -> JobEnd:
    source = Listed([job])
    run_jobs(source, folder, marker="")
    return source.ends[job.name]


def test_a_module_that_changed_between_two_jobs_is_not_trained(tmp_path: Path) -> None:
    job = replace(toy_job(tmp_path / "run", model__layer="keras.layers:GRU"), code="the code of the first run")
    with pytest.raises(RunError, match=r"keras\.layers:GRU has changed since the first run began"):
        end_of(job, tmp_path)
    assert not (tmp_path / "run").exists()


def stop_at_once(history: list[dict[str, Any]]) -> str | None:
    return f"stopped after {len(history)}"


def test_a_run_that_has_ended_is_not_trained_again(tmp_path: Path, toy: None) -> None:
    path = tmp_path / "run"
    job = toy_job(path)
    stopped = replace(job, stop_rule=stop_at_once)
    for _ in range(2):
        assert end_of(stopped, tmp_path) == JobEnd("stopped", reason="stopped after 1")
    (path / "summary.json").unlink()  # as after a kill between the checkpoint and the rule
    assert end_of(stopped, tmp_path) == JobEnd("stopped", reason="stopped after 1")
    assert len(RunDirectory(path).history()) == 1
    RunDirectory(path).write_json("summary.json", {"status": "completed", "epochs": 2})
    ended = end_of(job, tmp_path)
    assert ended.status == "completed" and len(RunDirectory(path).history()) == 2
    assert len(ended.notes) == 1 and ended.notes[0].startswith(f"run is finished again: {path}")


def test_a_run_that_diverged_is_not_trained_again(tmp_path: Path, toy: None) -> None:
    job = toy_job(tmp_path / "run", optimizer__name="SGD", optimizer__lr=1e38, optimizer__grad_clip_value=None)
    for _ in range(2):
        assert end_of(job, tmp_path).status == "diverged"
    assert RunDirectory(job.path).environment["resumed"] == []


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["checkpoint", "no checkpoint", "configuration", "other", "other, ended"])
def test_a_damaged_run_is_set_aside_and_trained_anew(damage: str, tmp_path: Path, toy: None) -> None:
    path = tmp_path / "arm" / "seed0"
    job = toy_job(path)
    whole = end_of(toy_job(tmp_path / "whole"), tmp_path)
    (path.parent).mkdir()
    shutil.copytree(tmp_path / "whole", path)
    if damage != "other, ended":
        (path / "summary.json").unlink()
    if damage == "checkpoint":
        (path / "checkpoints/resume.keras").write_bytes(b"PK")
    elif damage == "no checkpoint":
        with zipfile.ZipFile(path / "checkpoints/resume.keras", "w") as archive:  # whole
            archive.writestr("metadata.json", "{}")
    elif damage == "configuration":
        (path / "config.json").write_text("{")
    else:
        job = toy_job(path, optimizer__lr=0.5)
    ended = end_of(job, tmp_path)
    (moved,) = (tmp_path / "damaged").iterdir()
    assert moved.name == "arm-seed0-1" and ended.status == whole.status == "completed"
    assert ended.notes[0].startswith(f"{path} is trained again from its start, and what was there is now {moved}: ")
    assert len(RunDirectory(path).history()) == 2


@pytest.mark.parametrize(
    ("moved", "edited", "resumed"), [(True, False, True), (False, True, True), (True, True, False)]
)
def test_a_run_is_known_by_the_content_of_its_files(
    moved: bool, edited: bool, resumed: bool, tmp_path: Path, toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.py").write_text(GOOD)
    (tmp_path / "order.txt").write_text("\n".join(map(str, reversed(range(784)))))
    monkeypatch.chdir(tmp_path)
    given = {"model__layer": "own.py:Last", "task__permutation": "file:order.txt"}
    assert end_of(replace(toy_job(Path("run"), **given), stop_rule=stop_at_once), tmp_path).error is None
    Path("run/summary.json").unlink()
    if moved:
        given = {"model__layer": f"{tmp_path}/own.py:Last", "task__permutation": f"file:{tmp_path}/order.txt"}
    if edited:
        (tmp_path / "own.py").write_text(GOOD + "\n\nMORE = 1\n")
    ended = end_of(toy_job(tmp_path / "run", **given), tmp_path)
    assert ended == JobEnd("completed", notes=ended.notes) and bool(ended.notes) is not resumed
    assert len(RunDirectory(tmp_path / "run").history()) == 2
    assert bool(RunDirectory(tmp_path / "run").environment["resumed"]) is resumed
    assert (tmp_path / "damaged").exists() is not resumed
    Path("order.txt").unlink()
    unreadable = toy_job(tmp_path / "run", **{**given, "task__permutation": f"file:{tmp_path}/./order.txt"})
    with pytest.raises(RunError, match=r"order\.txt"):
        end_of(unreadable, tmp_path)
    assert RunDirectory(tmp_path / "run").summary


def test_the_same_experiment_on_another_machine() -> None:
    base = cfg.Config()
    for values, same in (
        ({"train.threads": 3, "train.kernel": "keras", "data.dir": "x", "wandb.mode": "disabled"}, True),
        ({"train.seed": 1}, False),
        ({"optimizer.lr": 0.5}, False),
        ({"model.hidden_size": 5}, False),
    ):
        assert same_experiment(base, cfg.with_values(base, values)) is same, values
    matched = cfg.with_values(base, {"model.match_parameters": 1000})
    assert same_experiment(matched, cfg.with_values(matched, {"model.hidden_size": 5}))


def test_an_error_of_a_layer_is_the_jobs_own_and_its_log_has_it(tmp_path: Path, toy: None) -> None:
    (tmp_path / "own.py").write_text(
        "import keras\n\n\nclass Layer(keras.layers.Layer):\n"
        "    def __init__(self, units):\n        super().__init__()\n        self.units = units\n"
        "    def call(self, x):\n        raise RuntimeError('no\\nsuch layer')\n"
    )
    job = toy_job(tmp_path / "run", model__layer=f"{tmp_path}/own.py:Layer")
    ended = end_of(job, tmp_path)
    assert (ended.status, ended.own) == ("failed", True) and "no" in str(ended.error)
    assert "Traceback" in (tmp_path / "logs/log").read_text()


def test_a_missing_source_of_data_is_the_machines(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"run failed: .*file.* \(the same command resumes it\)$"):
        end_of(toy_job(tmp_path / "run", data__dir=str(tmp_path / "file")), tmp_path)


def test_an_interrupted_job_in_this_process_interrupts_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "train", lambda *args, **kwargs: {"status": "interrupted"})
    source = Listed([toy_job(tmp_path / "run"), toy_job(tmp_path / "next")])
    with pytest.raises(KeyboardInterrupt):
        run_jobs(source, tmp_path, marker="")
    assert [job.name for job in source.jobs] == ["next"] and source.ends == {}

"""The loop over jobs with stand-ins for trainings, and real trainings of toy data in this process."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import pytest

from seqmnist_tf.data import sequences
from seqmnist_tf.engine import Job, JobEnd, engine, run_jobs
from seqmnist_tf.system import RunError
from seqmnist_tf.train import RunDirectory
from tests.changes import content
from tests.engine.stand_in import Listed, ManySlots, make_job
from tests.model.test_layers import GOOD
from tests.toy import toy_mnist


def test_jobs_fill_the_slots_and_their_epochs_are_told_once(tmp_path: Path) -> None:
    source = Listed([make_job(tmp_path / f"run{number}", epochs=3) for number in range(7)])
    run_jobs(source, tmp_path, place=ManySlots(3))
    assert source.ends == {f"run{number}": JobEnd("completed") for number in range(7)}
    assert [source.slots[f"run{number}"] for number in range(3)] == ["slot0", "slot1", "slot2"]
    assert sorted(source.heard) == [(f"run{number}", 3) for number in range(7)]


def test_the_callers_keras_keeps_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "train", lambda *_, **more: {"status": "completed"})
    keras.utils.clear_session()
    first = keras.layers.Dense(1).name
    engine.train_job(make_job(tmp_path / "run"))
    assert keras.layers.Dense(1).name != first


def test_the_group_of_a_job_is_an_argument_and_not_the_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def train(*_: object, wandb_group: str | None, **more: object) -> dict[str, Any]:
        given.append((wandb_group, os.environ.get("WANDB_RUN_GROUP")))
        return {"status": "completed"}

    monkeypatch.setattr(engine, "train", train)
    engine.train_job(replace(make_job(tmp_path / "run"), group="mine"))
    assert given == [("mine", None)]


def test_a_place_that_grows_is_filled_and_is_never_silent_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Growing(ManySlots):
        def wait(self) -> list[tuple[str, JobEnd]]:
            self.number = 4
            return super().wait() if len(self.running) == 4 or not source.jobs else []

    monkeypatch.setattr(engine, "QUIET_SECONDS", -1)
    source = Listed([make_job(tmp_path / f"run{number}") for number in range(6)])
    run_jobs(source, tmp_path, place=Growing(1))
    assert capsys.readouterr().err.startswith("training: run0 at 0%\n")
    assert len(source.ends) == 6 and set(source.slots.values()) == {"slot0", "slot1", "slot2", "slot3"}


def test_a_failure_of_its_own_stops_one_job_and_one_of_the_machine_all(tmp_path: Path) -> None:
    names = ("fail", "good", "full disk", "next")
    source = Listed([make_job(tmp_path / name, plan=name) for name in names])
    with pytest.raises(RunError, match=f"{tmp_path / 'full disk'} failed: full disk said so"):
        run_jobs(source, tmp_path, place=ManySlots(1))
    assert {name: end.status for name, end in source.ends.items()} == {"fail": "failed", "good": "completed"}
    assert not (tmp_path / "next").exists()


OWN = {"model__layer": "own.py:Last", "task__permutation": "file:order.txt"}


def toy_job(path: Path, **values: Any) -> Job:
    more = {"train__batch_size": 16, "wandb__mode": "disabled", **values}
    return make_job(path, **more)


def end_of(job: Job, folder: Path) -> JobEnd:
    source = Listed([job])
    run_jobs(source, folder)
    return source.ends[job.name]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the run of a custom layer and a pixel order, stopped after its first epoch."""
    folder = tmp_path_factory.mktemp("stopped")
    (folder / "own.py").write_text(GOOD)
    (folder / "order.txt").write_text("\n".join(map(str, reversed(range(784)))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequences, "load_mnist", toy_mnist)
        patch.chdir(folder)
        job = replace(toy_job(Path("run"), **OWN), stop_rule=lambda history: f"stopped after {len(history)}")
        for _ in range(2):  # the second time nothing is trained
            assert end_of(job, folder) == JobEnd("stopped", reason="stopped after 1")
        assert RunDirectory(job.path).environment["resumed"] == []
        (job.path / "summary.json").unlink()  # as after a kill between the checkpoint and the rule
        assert end_of(job, folder) == JobEnd("stopped", reason="stopped after 1")
        assert len(RunDirectory(job.path).history()) == 1
        (job.path / "summary.json").unlink()
    return folder


@pytest.fixture
def begun(stopped: Path, in_tmp: Path, toy: None) -> Path:
    """Return a copy of that run, which was killed after its first epoch, in the working directory."""
    shutil.copytree(stopped, in_tmp, dirs_exist_ok=True)
    return in_tmp / "run"


def test_a_run_that_diverged_is_not_trained_again(tmp_path: Path, toy: None) -> None:
    job = toy_job(tmp_path / "run", optimizer__name="SGD", optimizer__lr=1e38, optimizer__grad_clip_value=None)
    for _ in range(2):
        assert end_of(job, tmp_path).status == "diverged"
    assert RunDirectory(job.path).environment["resumed"] == []


@pytest.mark.parametrize("damage", ["checkpoints/resume.keras", "config.json"])
def test_a_damaged_run_is_named_and_kept(damage: str, begun: Path) -> None:
    (begun / damage).write_bytes(b"MORE = 1\n")
    before = content(begun)
    with pytest.raises(RunError, match=str(begun)):
        end_of(toy_job(begun, **OWN), begun.parent)
    assert content(begun) == before


def test_a_run_goes_on_with_its_own_files_and_the_jobs_logs(begun: Path) -> None:
    moved = {"model__layer": f"{begun.parent}/own.py:Last", "task__permutation": f"file:{begun.parent}/order.txt"}
    job = toy_job(begun, **moved, tensorboard__enabled=True)  # no part of the experiment: the job decides it
    assert end_of(job, begun.parent) == JobEnd("completed")
    assert len(RunDirectory(begun).history()) == 2 and (begun / "tensorboard").is_dir()


def test_a_missing_source_of_data_is_the_machines(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"run failed: .*file"):
        end_of(toy_job(tmp_path / "run", data__dir=str(tmp_path / "file")), tmp_path)


def test_an_interrupted_job_in_this_process_interrupts_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine, "train", lambda *args, **kwargs: {"status": "interrupted"})
    source = Listed([toy_job(tmp_path / "run"), toy_job(tmp_path / "next")])
    with pytest.raises(KeyboardInterrupt):
        run_jobs(source, tmp_path)
    assert [job.name for job in source.jobs] == ["next"] and source.ends == {}
    assert capsys.readouterr().err.endswith("the same command resumes the runs\n")

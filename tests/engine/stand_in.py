"""Stand-ins for a training: jobs that end at once, or die or fail as their command says; and many slots."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seqmnist_tf.data import pixel_order
from seqmnist_tf.engine import Job, JobEnd
from seqmnist_tf.train import RunDirectory, summarize
from tests.toy import configure

TRAINER = "tests.engine.stand_in:train"
ENVIRONMENT = {"kernel": "stand-in", "machine": {"processor": "none"}, "git": {"commit": "c0ffee"}}


def make_job(path: Path, name: str = "", plan: str = "", epochs: int = 2, **values: Any) -> Job:
    """Return a job; ``plan`` is what its process does, such as ``kill`` or ``fail``."""
    keys = {"train__n_epochs": epochs, "model__hidden_size": 4, "task__limit_train": 40}
    keys |= {"test__enabled": False, "task__validation_size": 20}
    config = configure(**{**keys, **values})
    return Job(path=path, name=name or path.name, config=config, command=plan, log=path.parent / "logs" / "log")


def write_epoch(run: RunDirectory, epoch: int, accuracy: float) -> None:
    """Write what a training leaves of an epoch, with such an accuracy on its training and held-out images."""
    config, last = run.config, epoch * run.config.steps_per_epoch
    with (run.path / "steps.csv").open("a") as file:
        file.writelines(f"{step},1.0\n" for step in range(last - config.steps_per_epoch + 1, last + 1))
    row: dict[str, Any] = {"epoch": epoch, "train_loss": 1.0, "train_accuracy": round(40 * accuracy) / 40}
    row |= {"val_loss": 1.0, "val_accuracy": accuracy, "test_loss": None, "test_accuracy": None}
    run.append_history({**row, "learning_rate": config.optimizer.lr, "seconds": 1.0})


def train(job: Job, on_epoch: Callable[[], None] | None = None) -> JobEnd:
    """Write a run directory as a training does, epoch by epoch; the plan is carried out after the first epoch."""
    config, run = job.config, RunDirectory(job.path)
    if job.command == "kill always":
        os.kill(os.getpid(), signal.SIGKILL)
    if not job.path.exists():
        RunDirectory.create(job.path, config, ENVIRONMENT, pixel_order("none"))
        (job.path / "steps.csv").write_text("step,loss\n")
    begun = len(run.history())
    for epoch in range(begun + 1, config.train.n_epochs + 1):
        write_epoch(run, epoch, 0.5)
        if on_epoch:
            on_epoch()
        if not begun and epoch == 1:
            print(f"plan: {job.command}")
            print(f"GPUs: {os.environ.get('CUDA_VISIBLE_DEVICES')}")
            if job.command == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if job.command == "wait":
                time.sleep(600)
            if job.command == "interrupt":
                raise KeyboardInterrupt
            if job.command in ("fail", "full disk"):
                return JobEnd("failed", f"{job.command} said so", own=job.command == "fail")
    run.write_json("summary.json", summarize(run.history(), config, "completed"))
    return JobEnd("completed")


class Listed:
    """A source of jobs in a list, that keeps what it hears."""

    def __init__(self, jobs: list[Job]) -> None:
        self.jobs = jobs
        self.heard: list[tuple[str, int]] = []
        self.ends: dict[str, JobEnd] = {}
        self.slots: dict[str, str] = {}

    def take(self, slot: str) -> Job | None:
        if not self.jobs:
            return None
        self.slots[self.jobs[0].name] = slot
        return self.jobs.pop(0)

    def epoch(self, job: Job, history: list[dict[str, Any]]) -> None:
        self.heard.append((job.name, len(history)))

    def ended(self, slot: str, job: Job, end: JobEnd) -> None:
        assert self.slots[job.name] == slot
        self.ends[job.name] = end


class ManySlots:
    """A place of so many slots in this process, whose jobs end at once, the last started first, or the first."""

    def __init__(self, number: int, last: bool = True) -> None:
        self.number, self.last = number, last
        self.running: dict[str, Job] = {}

    def slots(self) -> int:
        return self.number

    def start(self, slot: str, job: Job) -> None:
        assert slot not in self.running and len(self.running) < self.number
        self.running[slot] = job

    def wait(self) -> list[tuple[str, JobEnd]]:
        slot = list(self.running)[-1 if self.last else 0]
        return [(slot, self.train(self.running.pop(slot)))]

    def train(self, job: Job) -> JobEnd:
        return train(job)

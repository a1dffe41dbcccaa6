"""The loop over jobs, and the training of one in this process, which resumes it where it had begun."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ..model import LayerError
from ..system import InputError, RunError, first_line, note
from ..train import RunDirectory, resume, train
from .job import Job, JobEnd
from .progress import note_shares

FINAL = ("completed", "stopped", "diverged")  # statuses of runs that would end in the same way again
LOCK_SECONDS = 120.0  # a process that died holds its run's lock for a moment longer
QUIET_SECONDS = 20.0  # after which a line says how far the jobs are


class Source(Protocol):
    """Says which jobs there are, and what comes of them."""

    def take(self, slot: str) -> Job | None:
        """Return the next job, for a slot; None where there is nothing for now."""

    def epoch(self, job: Job, history: list[dict[str, Any]]) -> None:
        """Take note of a job's new epochs; ``history`` has all rows so far."""

    def ended(self, slot: str, job: Job, end: JobEnd) -> None:
        """Take note of a job's end; a failure is its own."""


class Place(Protocol):
    """Where jobs are trained."""

    def slots(self) -> int:
        """Return how many jobs can be trained at a time, now."""

    def start(self, slot: str, job: Job) -> None:
        """Begin to train a job."""

    def wait(self) -> list[tuple[str, JobEnd]]:
        """Wait a moment; return the slots whose jobs have ended."""


def run_jobs(
    source: Source,
    folder: Path,
    *,
    workers: int | None = None,
    address: str | None = None,
    threads: int = 0,
    place: Place | None = None,
) -> None:
    """Train the jobs of a source until it has no more: in this process, or on Ray with ``workers`` or an ``address``.

    All nodes share ``folder``, the experiment's. ``threads`` are those of a job on Ray; 0 divides the cores between
    the workers of this machine, or is one job for each node. RunError is raised where Ray cannot be used or has died,
    or a job failed for a reason that is not its own.
    """
    loop = _Loop(source)
    try:
        if place is not None:
            loop.run(place)
        elif workers is None and address is None:
            loop.run(_ThisProcess(loop.read_epochs))
        else:
            if address is None:
                os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray, when imported, then listens on 127.0.0.1
            note(f"connecting to Ray at {address}" if address else "starting Ray")
            from .cluster import RayPlace, connected  # late: Ray is an extra

            with connected(workers, address, folder / "logs" / "ray.log"):
                loop.run(RayPlace(folder, workers, threads))
    except KeyboardInterrupt:
        note("the same command resumes the runs")
        raise


class _Loop:
    """Keeps the slots of a place busy."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.running: dict[str, Job] = {}  # by slot
        self.epochs: dict[Path, int] = {}  # of each job, that the source has heard of
        self.last_line = time.monotonic()  # when a line about the jobs was last printed

    def run(self, place: Place) -> None:
        """Train all jobs of the source."""
        more = True
        slots = 0
        while True:
            if more or place.slots() > slots:
                slots = place.slots()
                more = True
                for slot in (f"slot{number}" for number in range(slots)):
                    if slot in self.running:
                        continue
                    if (job := self.source.take(slot)) is None:
                        more = False
                        break
                    self.running[slot] = job
                    place.start(slot, job)
            if not self.running:
                return
            ended = place.wait()
            self.read_epochs()
            for slot, end in ended:
                job = self.running.pop(slot)
                if end.status == "failed":
                    if not end.own:
                        raise RunError(f"{job.path} failed: {end.error} (the same command resumes it)")
                    note(f"{job.name}: failed ({end.error})")
                self.source.ended(slot, job, end)
                more = True

    def read_epochs(self) -> None:
        """Tell the source of new epochs; where there is none for long, say how far the jobs are."""
        for job in self.running.values():
            rows: list[dict[str, Any]] = []
            with contextlib.suppress(OSError, InputError):  # damage is found when the run is resumed or read
                rows = RunDirectory(job.path).history()
            if len(rows) > self.epochs.get(job.path, 0):
                self.epochs[job.path] = len(rows)
                self.last_line = time.monotonic()
                self.source.epoch(job, rows)
        if time.monotonic() - self.last_line > QUIET_SECONDS:
            self.last_line = time.monotonic()
            note_shares(self.running.values())


class _ThisProcess:
    """Trains one job after the other in this process."""

    def __init__(self, on_epoch: Callable[[], None]) -> None:
        self.on_epoch = on_epoch

    def slots(self) -> int:
        return 1

    def start(self, slot: str, job: Job) -> None:
        self.slot, self.job = slot, job

    def wait(self) -> list[tuple[str, JobEnd]]:
        with contextlib.ExitStack() as stack:
            if self.job.log:
                self.job.log.parent.mkdir(exist_ok=True)
                log = stack.enter_context(self.job.log.open("a", encoding="utf-8", errors="backslashreplace"))
                stack.enter_context(contextlib.redirect_stdout(log))  # its bar, on stderr, stays on the terminal
            end = train_job(self.job, self.on_epoch)
        if end.status == "interrupted":
            raise KeyboardInterrupt
        return [(self.slot, end)]


def train_job(job: Job, on_epoch: Callable[[], None] | None = None) -> JobEnd:
    """Train or resume a job in this process; ``on_epoch`` is called after each epoch."""

    def rule(history: list[dict[str, Any]]) -> str | None:
        if on_epoch:
            on_epoch()
        return job.stop_rule(history) if job.stop_rule else None

    try:
        summary = _train(job, rule)
    except Exception as error:
        machine = isinstance(error, InputError | RunError | OSError)
        own = isinstance(error, LayerError) or not machine
        text = str(error) if machine else f"{type(error).__name__}: {first_line(error)}"
        trace = "".join(traceback.format_exception(error))
        if own or job.log:
            print(trace, file=sys.stdout if job.log else sys.stderr)
        return JobEnd("failed", " ".join(text.split()), own, trace=trace)
    return JobEnd(str(summary["status"]), reason=summary.get("reason"))


def _train(job: Job, rule: Callable[[list[dict[str, Any]]], str | None]) -> dict[str, Any]:
    """Train or resume a run to its end and return its summary."""
    run = RunDirectory(job.path)
    if not run.path.is_dir():
        return train(
            job.config,
            job.path,
            preset=job.preset,
            command=job.command,
            stop_rule=rule,
            layer_file=job.layer,
            wandb_group=job.group,
        )
    with run.lock(LOCK_SECONDS):
        pass
    if (summary := run.summary) and summary.get("status") in FINAL:
        return summary
    return resume(job.path, command=job.resume_command, stop_rule=rule, machine=job.config, wandb_group=job.group)

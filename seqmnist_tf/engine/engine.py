"""The loop over jobs, and the training of one in this process, which resumes it where it had begun."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import keras

from ..config import Config, LayerFile, config_id, with_values
from ..model import LayerError
from ..system import InputError, RunError, first_line, note
from ..train import RunDirectory, resume, train
from .job import Job, JobEnd

FINAL = ("completed", "stopped", "diverged")  # statuses of runs that would end in the same way again
LOCK_SECONDS = 120.0  # a process that died holds its run's lock for a moment longer
GROUP = "WANDB_RUN_GROUP"  # of W&B: the runs of an experiment share a group, unless the environment names one


class Source(Protocol):
    """Says which jobs there are, and what comes of them."""

    def take(self, slot: str) -> Job | None:
        """Return the next job, for a slot; None where there is nothing for now."""

    def epoch(self, job: Job, history: list[dict[str, Any]]) -> None:
        """Take note of a job's new epochs; ``history`` has all rows so far."""

    def ended(self, slot: str, job: Job, end: JobEnd) -> None:
        """Take note of a job's end: completed, stopped, diverged, or failed by its own doing."""


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
    """Train the jobs of a source until it has no more.

    Args:
        source: hands out the jobs, and hears of their ends.
        folder: of the experiment, which all nodes share; ``logs/`` is made there.
        workers: number of jobs at a time on this machine; None, without an address, trains in this process.
        address: ``HOST:PORT`` of a Ray cluster.
        threads: ``train.threads`` of jobs on Ray; 0 divides the cores: between the workers of this machine, or one job
            for each node.
        place: trains the jobs, in place of this process or Ray.

    Raises:
        InputError: no node has as many cores as a job needs.
        RunError: Ray cannot be used or has died, or a job failed for a reason that is not its own. Those that are
            running are ended, and resume with the next call.
        KeyboardInterrupt: as RunError.
    """
    loop = _Loop(source)
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


@dataclass
class _Running:
    """A job that runs, with the rows of its history that have been read."""

    job: Job
    rows: list[dict[str, Any]] = field(default_factory=list)
    size: int = 0  # of the history that was read


class _Loop:
    """Keeps the slots of a place busy."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.running: dict[str, _Running] = {}

    def run(self, place: Place) -> None:
        """Train all jobs of the source."""
        more, slots = True, 0
        while True:
            if more or place.slots() > slots:
                slots, more = place.slots(), True
                for slot in (f"slot{number}" for number in range(slots)):
                    if more and slot not in self.running:
                        more = self._start(place, slot)
            if not self.running:
                return
            ended = place.wait()
            self.read_epochs()
            for slot, end in ended:
                job = self.running.pop(slot).job
                if end.status == "failed":
                    if not end.own:
                        raise RunError(f"{job.path} failed: {end.error} (the same command resumes it)")
                    note(f"{job.name}: failed ({end.error})")
                self.source.ended(slot, job, end)
                more = True

    def read_epochs(self) -> None:
        """Tell the source of the new epochs of all jobs that run."""
        for one in self.running.values():
            before = len(one.rows)
            with contextlib.suppress(OSError, InputError):  # damage is found when the run is resumed or read
                size = (one.job.path / "history.jsonl").stat().st_size
                if size != one.size:
                    one.rows, one.size = RunDirectory(one.job.path).history(), size
            if len(one.rows) > before:
                self.source.epoch(one.job, one.rows)

    def _start(self, place: Place, slot: str) -> bool:
        """Start the next job in a free slot; return whether there was one."""
        if (job := self.source.take(slot)) is None:
            return False
        self.running[slot] = _Running(job)
        place.start(slot, job)
        return True


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
    """Train or resume a job in this process; ``on_epoch`` is called after each epoch.

    Raises:
        KeyboardInterrupt: a signal came after the last batch; the run has ended.
    """

    def rule(history: list[dict[str, Any]]) -> str | None:
        if on_epoch:
            on_epoch()
        return job.stop_rule(history) if job.stop_rule else None

    keras.utils.clear_session()  # names of layers, and the memory of the run before
    groups = job.group is not None and GROUP not in os.environ
    if groups:
        os.environ[GROUP] = str(job.group)
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
    finally:
        if groups:
            del os.environ[GROUP]
    return JobEnd(str(summary["status"]), reason=summary.get("reason"))


def _train(job: Job, rule: Callable[[list[dict[str, Any]]], str | None]) -> dict[str, Any]:
    """Train or resume a run to its end and return its summary."""
    run = RunDirectory(job.path)
    if not run.path.is_dir():
        return train(job.config, job.path, preset=job.preset, command=job.command, stop_rule=rule, layer_file=job.layer)
    with run.lock(LOCK_SECONDS):
        pass
    if not same_experiment(job.config, run, job.layer):
        raise InputError(f"{run.path} is a run of another experiment (move it away)")
    if (summary := run.summary) and summary.get("status") in FINAL:
        return summary
    return resume(job.path, command=job.resume_command, stop_rule=rule, machine=job.config)


def same_experiment(config: Config, run: RunDirectory, layer: LayerFile | None = None) -> bool:
    """Return whether a run is of a configuration: its ``config_id`` and seed are equal.

    Files count by their content; ``layer`` is the file of the configuration's layer, None reads it. Where ``config``
    matches a number of parameters, the run has the units that were chosen for it.
    """
    made = run.config
    if config.model.match_parameters is not None:
        config = with_values(config, {"model.hidden_size": made.model.hidden_size})
    return (run.config_id, made.train.seed) == (config_id(config, layer), config.train.seed)

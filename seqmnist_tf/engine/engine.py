"""The loop over jobs, and the training of one: resumed where it had begun, set aside where it is damaged."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import traceback
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import keras

from ..config import Config, config_id, differences, of_the_experiment, with_values
from ..model import LayerError, module_code
from ..system import InputError, RunError, first_line, note
from ..train import LayerFailedError, NotResumableError, RunDirectory, log_problems, resume, train
from .job import Job, JobEnd

FINAL = ("completed", "stopped", "diverged")  # statuses of runs that would end in the same way again
DEATHS = 10  # of a job's process in a row, without a new epoch
MOST_NOTES = 100  # on the terminal; the others are in the log alone
LOCK_SECONDS = 120.0  # a process that died holds its run's lock for a moment longer
GROUP = "WANDB_RUN_GROUP"  # W&B's own variable


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
    marker: str,
    workers: int | None = None,
    address: str | None = None,
    threads: int = 0,
    place: Place | None = None,
) -> None:
    """Train the jobs of a source until it has no more.

    Args:
        source: hands out the jobs, and hears of their ends.
        folder: of the experiment, which all nodes share; ``logs/`` and ``damaged/`` are made there.
        marker: the name of a file in ``folder`` whose content shows whether a node sees the same folder.
        workers: number of jobs at a time on this machine; None, without an address, trains in this process.
        address: ``HOST:PORT`` of a Ray cluster.
        threads: ``train.threads`` of jobs on Ray; 0 divides the cores: between the workers of this machine, or one job
            for each node.
        place: trains the jobs, in place of this process or Ray.

    Raises:
        InputError: a node lacks the folder, or no node has a core.
        RunError: Ray cannot be used, or a job failed for a reason that is not its own. Those that are running are
            ended, and resume with the next call.
        KeyboardInterrupt: as RunError.
    """
    loop = _Loop(source, folder)
    if place is not None:
        loop.run(place)
    elif workers is None and address is None:
        loop.run(_Here(folder, loop.read_epochs))
    else:
        if address is None:
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray, when imported, then listens on 127.0.0.1
        from .cluster import RayPlace, connected  # late: Ray is an extra

        with connected(workers, address, folder / "logs" / "ray.log"):
            cluster = RayPlace(folder, marker, workers, threads)
            try:
                loop.run(cluster)
            finally:
                cluster.close()


@dataclass
class _Running:
    """A job that runs, with the rows of its history that have been read."""

    job: Job
    rows: list[dict[str, Any]] = field(default_factory=list)
    seen: tuple[int, int] = (0, 0)  # size and time of the history that was read
    deaths: int = 0
    epochs_at_death: int = 0

    def read(self) -> bool:
        """Read the rows that the history has more; return whether there are any."""
        before = len(self.rows)
        with contextlib.suppress(OSError, InputError):  # damage is found when the run is resumed or read
            now = (self.job.path / "history.jsonl").stat()
            if self.seen != (now.st_size, now.st_mtime_ns):
                self.seen = now.st_size, now.st_mtime_ns
                self.rows = RunDirectory(self.job.path).history()
        return len(self.rows) > before


class _Loop:
    """Keeps the slots of a place busy, and starts jobs again whose process or node died."""

    def __init__(self, source: Source, folder: Path) -> None:
        self.source, self.log = source, folder / "logs" / "engine.log"
        self.running: dict[str, _Running] = {}
        self.notes = 0

    def run(self, place: Place) -> None:
        """Train all jobs of the source."""
        more, slots = True, 0
        while True:
            if more or place.slots() > slots:
                slots = place.slots()
                more = self._fill(place, slots)
            if not self.running:
                return
            ended = place.wait()
            self.read_epochs()
            for slot, end in ended:
                more = self._end(place, slot, end) or more

    def read_epochs(self) -> None:
        """Tell the source of the new epochs of all jobs that run."""
        for one in self.running.values():
            if one.read():
                self.source.epoch(one.job, one.rows)

    def _fill(self, place: Place, slots: int) -> bool:
        """Start jobs in the free slots; return whether the source may have more."""
        for slot in (f"slot{number}" for number in range(slots)):
            if slot not in self.running:
                if (job := self.source.take(slot)) is None:
                    return False
                self.running[slot] = _Running(job)
                place.start(slot, job)
        return True

    def _end(self, place: Place, slot: str, end: JobEnd) -> bool:
        """Tell the source of a job's end, or start the job again; return whether its slot is free."""
        one = self.running[slot]
        job = one.job
        if end.status in ("died", "interrupted"):
            cause = end.error or "it was interrupted"
            one.deaths = 1 if len(one.rows) > one.epochs_at_death else one.deaths + 1
            one.epochs_at_death = len(one.rows)
            if one.deaths < DEATHS:
                where = "from its last checkpoint" if one.rows else "from its start"
                self._note(f"{job.name}: {cause}; it is started again, {where}")
                place.start(slot, job)
                return False
            end = JobEnd("failed", f"{cause}, {DEATHS} times in a row (see {job.log or self.log.parent})")
        for text in end.notes:
            self._note(text)
        if end.status == "failed" and not end.own:
            raise RunError(f"{job.path} failed: {end.error} (the same command resumes it)")
        if end.status != "completed":
            reason = end.error or end.reason
            self._note(f"{job.name}: {end.status}{f' ({reason})' if reason else ''}", end.trace)
        del self.running[slot]
        self.source.ended(slot, job, end)
        return True

    def _note(self, text: str, trace: str = "") -> None:
        """Print a line; after many of them, add it to the log alone, where a traceback follows it."""
        self.notes += 1
        if self.notes <= MOST_NOTES:
            note(text)
        if self.notes == MOST_NOTES:
            note(f"further remarks of this kind are in {self.log} alone")
        self.log.parent.mkdir(exist_ok=True)
        with self.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{text}\n{trace}")


class _Here:
    """Trains one job after the other in this process."""

    def __init__(self, folder: Path, on_epoch: Callable[[], None]) -> None:
        self.folder, self.on_epoch = folder, on_epoch

    def slots(self) -> int:
        return 1

    def start(self, slot: str, job: Job) -> None:
        self.slot, self.job = slot, job

    def wait(self) -> list[tuple[str, JobEnd]]:
        terminal = sys.stdout, sys.stderr

        def on_epoch() -> None:
            with contextlib.redirect_stdout(terminal[0]), contextlib.redirect_stderr(terminal[1]):
                self.on_epoch()

        with contextlib.ExitStack() as stack:
            if self.job.log:
                self.job.log.parent.mkdir(exist_ok=True)
                log = stack.enter_context(self.job.log.open("a", encoding="utf-8", errors="backslashreplace"))
                stack.enter_context(contextlib.redirect_stdout(log))
                stack.enter_context(contextlib.redirect_stderr(log))
            end = train_job(self.job, self.folder, on_epoch)
        if end.status == "interrupted":
            raise KeyboardInterrupt
        return [(self.slot, end)]


def train_job(job: Job, folder: Path, on_epoch: Callable[[], None] | None = None) -> JobEnd:
    """Train or resume a job in this process.

    Args:
        job: the job.
        folder: of the experiment; damaged runs are moved to ``damaged/`` there.
        on_epoch: called after each epoch.

    Raises:
        KeyboardInterrupt: a signal came after the last batch; the run has ended.
    """
    notes: list[str] = []

    def rule(history: list[dict[str, Any]]) -> str | None:
        if on_epoch:
            on_epoch()
        return job.stop_rule(history) if job.stop_rule else None

    def failed(error: BaseException, text: str, own: bool) -> JobEnd:
        trace = "".join(traceback.format_exception(error))
        if job.log:
            print(trace, file=sys.stderr)
        return JobEnd("failed", " ".join(text.split()), own, tuple(notes), trace=trace)

    keras.utils.clear_session()  # names of layers, and the memory of the run before
    try:
        with _grouped(job.group):
            summary = _prepare(job, folder, notes) or _train(job, folder, notes, rule)
    except (LayerError, LayerFailedError) as error:
        return failed(error, str(error), True)
    except (InputError, RunError, OSError) as error:
        return failed(error, str(error), False)
    except Exception as error:  # the values do not suit each other or the layer
        return failed(error, f"{type(error).__name__}: {first_line(error)}", True)
    return JobEnd(str(summary["status"]), notes=tuple(notes), reason=summary.get("reason"))


def _train(
    job: Job, folder: Path, notes: list[str], rule: Callable[[list[dict[str, Any]]], str | None]
) -> dict[str, Any]:
    """Train or resume a run to its end and return its summary."""
    if job.path.is_dir():
        try:
            return resume(job.path, command=job.resume_command, stop_rule=rule, machine=job.config)
        except NotResumableError as error:
            notes.append(_set_aside(job.path, folder, str(error)))
    if job.code is not None and module_code(job.config, job.layer) != job.code:
        raise RunError(f"{job.config.model.layer} has changed since the first run began (restore the module)")
    return train(job.config, job.path, preset=job.preset, command=job.command, stop_rule=rule, layer_file=job.layer)


def _prepare(job: Job, folder: Path, notes: list[str]) -> dict[str, Any] | None:
    """Remove or set aside damaged files, so that a job is resumed or trained anew; return the summary of an ended run.

    Waits for a process that has died and still holds the run.
    """
    run = RunDirectory(job.path)
    if not run.path.is_dir():
        return None
    with run.lock(LOCK_SECONDS):
        pass
    ended = None
    try:
        if (summary := run.summary) and summary.get("status") in FINAL:
            if problems := log_problems(run):
                raise InputError(f"{run.path}: {problems[0]}")
            ended = summary
    except InputError as error:
        notes.append(f"{job.name} is finished again: {error}")
        (run.path / "summary.json").unlink(missing_ok=True)
    try:
        if not _is_of(run, job):
            raise InputError(f"{run.path / 'config.json'} is not the configuration of {job.name}")
        _ = run.environment, run.pixel_order(), run.history()
        if ended is None and run.resume_file.exists():
            with zipfile.ZipFile(run.resume_file) as file:
                if broken := file.testzip():
                    raise InputError(f"{run.resume_file} is damaged ({broken})")
    except (InputError, OSError, zipfile.BadZipFile) as error:
        notes.append(_set_aside(run.path, folder, str(error)))
        return None
    return ended


def _is_of(run: RunDirectory, job: Job) -> bool:
    """Return whether a run is the job's: by its keys, or by the content of files that have another path now."""
    config, made = job.config, run.config
    if same_experiment(config, made):
        return True
    if config.model.match_parameters is not None:
        config = with_values(config, {"model.hidden_size": made.model.hidden_size})
    try:
        wanted = config_id(config, job.layer)
    except InputError as error:  # of a file that the job names: the run has no fault
        raise RunError(str(error)) from None
    return (run.config_id, made.train.seed) == (wanted, config.train.seed)


def same_experiment(a: Config, b: Config) -> bool:
    """Return whether two configurations have the same seed and differ in nothing that changes a result.

    Where ``a`` matches a number of parameters, ``b`` may have the units that were chosen for it.
    """
    changed = {key for key in differences(a, b) if of_the_experiment(key) or key == "train.seed"}
    return changed <= ({"model.hidden_size"} if a.model.match_parameters is not None else set())


def _set_aside(path: Path, folder: Path, reason: str) -> str:
    """Move a run to ``damaged/`` of the experiment and return a sentence that says so."""
    name, number = "-".join(path.relative_to(folder).parts), 1
    while (target := folder / "damaged" / f"{name}-{number}").exists():
        number += 1
    target.parent.mkdir(exist_ok=True)
    shutil.move(path, target)
    return f"{path} is trained again from its start, and what was there is now {target}: {reason}"


@contextlib.contextmanager
def _grouped(group: str | None) -> Iterator[None]:
    """Let the runs of an experiment share a group in W&B, unless the environment names one."""
    if group is None or GROUP in os.environ:
        yield
        return
    os.environ[GROUP] = group
    try:
        yield
    finally:
        del os.environ[GROUP]

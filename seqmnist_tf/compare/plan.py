"""What a comparison trains: arms with their units, their jobs, how long they take, and their progress."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import PRESETS, differences, read_layer, with_values
from ..engine import Job, JobEnd, prints_line, threads_here
from ..model import StepTime, build_model, recurrent_weights, time_step
from ..system import InputError, note
from ..train import RunDirectory, require_trainable, train_command
from .arms import Arm

BAR_WIDTH = 20


def make_ready(arms: Sequence[Arm], on_a_cluster: bool = False) -> list[Arm]:
    """Choose the units of the arms that are trained and try their layers, whose code is run."""
    ready: list[Arm] = []
    for arm in arms:
        if not arm.is_trained:
            ready.append(arm)
            continue
        config, notes = arm.config, list(arm.notes)
        file = arm.file or read_layer(config)
        if arm.matched:
            config = with_values(config, {"model.match_parameters": parameters_of(ready[0])})
        config = require_trainable(config, file, elsewhere=on_a_cluster)
        model = build_model(config, file)
        if (target := config.model.match_parameters) is not None:
            units, parameters = config.model.hidden_size, model.count_params()
            notes.append(f"{arm.name}: {units} units, {parameters:,} parameters ({target:,} were to be matched).")
        if config.train.recurrent_noise and not recurrent_weights(model.layers[0]):
            notes.append(f"{arm.name}: `train.recurrent_noise` has no effect: its layer names no recurrent weights.")
        ready.append(replace(arm, config=config, file=file, notes=tuple(notes)))
    return ready


def parameters_of(arm: Arm) -> int:
    """Return the number of parameters of an arm's model."""
    for run in arm.given.values():
        return run.num_params
    return int(build_model(arm.config, arm.file).count_params())


def plan_jobs(arms: Sequence[Arm], seeds: Sequence[int], folder: Path) -> dict[str, list[Job]]:
    """Return the jobs of each arm that is trained, by its name; raise InputError where the folder has other runs."""
    jobs: dict[str, list[Job]] = {arm.name: [] for arm in arms}
    for arm in arms:
        for seed in seeds if arm.is_trained else ():
            path, config = folder / arm.name / f"seed{seed}", with_values(arm.config, {"train.seed": seed})
            job = Job(
                path=path,
                name=f"{arm.name} seed {seed}",
                config=config,
                preset=arm.preset,
                command=train_command(arm.preset, differences(config, PRESETS[arm.preset].config), run_dir=path),
                resume_command=train_command(run_dir=path, resume="required"),
                layer=arm.file,
                log=folder / "logs" / f"{arm.name}-seed{seed}.log",
                group=folder.resolve().name,
            )
            if (path / "config.json").exists() and RunDirectory(path).config_id != arm.config_id:
                raise InputError(f"{path} is a run of another configuration (give a new --dir)")
            jobs[arm.name].append(job)
    return jobs


def has_ended(job: Job) -> bool:
    """Return whether a job's run completed or diverged."""
    return (RunDirectory(job.path).summary or {}).get("status") in ("completed", "diverged")


def measure_steps(arms: Sequence[Arm], jobs: Sequence[Job], workers: int | None) -> dict[str, StepTime]:
    """Return how long a training step takes here in each arm that has a job, by its name."""
    names = {job.path.parent.name for job in jobs}
    times = {}
    for arm in arms:
        if arm.name in names:
            threads = {"train.threads": threads_here(workers, arm.config.train.threads)}
            times[arm.name] = time_step(with_values(arm.config, threads), arm.file)
            if reason := times[arm.name].kernel.reason:
                note(f"{arm.name}: on stock Keras, {reason}")
    return times


def hours_of(jobs: Sequence[Job], times: Mapping[str, StepTime]) -> float:
    """Return the hours of jobs, one after the other: measured steps times their number, and what evaluations take."""
    seconds = [times[job.path.parent.name].epoch(job.config) * job.config.train.n_epochs for job in jobs]
    return sum(seconds) / 3600


class Progress:
    """Hands out jobs seed by seed, so that an early end leaves as many seeds of each arm, and prints their epochs."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.queue = sorted(jobs, key=lambda job: job.config.train.seed)
        self.epochs = {job.path: len(RunDirectory(job.path).history()) for job in jobs if job.path.exists()}
        self.totals = {job.path: job.config.train.n_epochs for job in jobs}
        self.began, self.before = time.monotonic(), sum(self.epochs.values())
        self.errors: dict[str, JobEnd] = {}

    def take(self, slot: str) -> Job | None:
        """Return the next job."""
        return self.queue.pop(0) if self.queue else None

    def epoch(self, job: Job, history: Sequence[dict[str, Any]]) -> None:
        """Print the last epoch of a job, and the time left at the pace so far."""
        new = len(history) - self.epochs.get(job.path, 0)
        self.epochs[job.path] = len(history)
        done, total, row = sum(self.epochs.values()), sum(self.totals.values()), history[-1]
        if prints_line(done, total, new):
            filled = BAR_WIDTH * done // total
            pace = (time.monotonic() - self.began) / max(done - self.before, 1)
            note(
                f"{job.name}: epoch {len(history)}/{job.config.train.n_epochs}, test accuracy "
                f"{row['test_accuracy']:.2%} | all runs [{'#' * filled}{'.' * (BAR_WIDTH - filled)}] "
                f"{done}/{total} epochs, {duration(pace * (total - done))} left"
            )

    def ended(self, slot: str, job: Job, end: JobEnd) -> None:
        """Take note of a job's end; the epochs that it has not are not trained any more."""
        self.totals[job.path] = self.epochs.get(job.path, 0)
        if end.status == "failed":
            self.errors[job.name] = end


def duration(seconds: float) -> str:
    """Return a time in words.

    Example:
        >>> duration(75), duration(600), duration(7200)
        ('75 s', '10 min', '2.0 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"

"""A comparison from arms to report: train what is missing, read all runs, test, write."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..config import Config
from ..data import load_splits, pixel_order
from ..engine import Job, JobEnd, duration, require_answer, require_engine_options, run_jobs
from ..model import Pace
from ..system import RunError, json_bytes, note, read_json_object, write_atomically
from ..train import RunDirectory, lock_folder, note_above_bar
from .arms import Arm, parse_arms
from .comparison import Comparison, SeededRuns, pair_runs
from .pictures import draw_comparison
from .plan import ARMS_FILE, MEASURED_ABOVE, has_ended, make_plan, measure_paces
from .report import write_report
from .runs import count_of, read_run

SAME_SIZE = 0.05  # the difference in parameters from the first arm, up to which no note is needed


def compare(
    arms: Sequence[str | os.PathLike[str] | Config],
    *,
    seeds: str | Iterable[int] | None = None,
    directory: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    address: str | None = None,
    allow_code: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> Comparison:
    """Compare arms over seeds: train what is missing, test, and write the report.

    The same call resumes a comparison that was killed, and its report is the same to the last digit, but for its
    seconds.

    Args:
        arms: each a preset, a configuration (a ``Config`` or a JSON file), a layer (``FILE.py:NAME`` or
            ``MODULE:NAME``), a run directory, a folder of runs, or a published record such as ``results/strong``. The
            first arm is the reference. A layer is trained by the first arm's recipe, with the units that match its
            number of parameters. Runs that exist are used as they are.
        seeds: those that are trained, such as ``"0-5"`` or ``range(6)``; None is 0 to 5. Seeds that exist are in the
            report, too.
        directory: the folder of the comparison; trained runs are in ``<arm>/seed<k>/``. None is a folder in ``runs/``
            with the names of the arms.
        workers: number of runs that are trained at a time on this machine, by Ray; None trains one after the other in
            this process.
        address: ``HOST:PORT`` of a Ray cluster whose nodes share ``directory``.
        allow_code: admit existing runs that have a custom layer, and run its code. Read it first.
        overrides: values of keys (``{"train.n_epochs": 5}``) for all arms that are trained.

    Returns:
        The comparison: ``arms`` with the accuracy of each seed, ``pairs`` (each arm with the first) and ``path``, the
        folder that has the report.

    Raises:
        InputError: an arm is unknown or cannot be read, arms have different tasks, a layer cannot be used, seeds or
            overrides have no effect, or the cluster does not answer.
        RunError: a run failed. The others are trained, and the report is written without it.

    Example::

        comparison = compare(["results/strong", "my_layer.py:MyLayer"], seeds=range(6), directory="runs/mine")
        print(comparison.pairs[0].mean_difference, comparison.pairs[0].permutation_p)
    """
    require_engine_options(workers, address)
    parsed = parse_arms(arms, overrides or {}, allow_code=allow_code)
    return compare_arms(parsed, seeds, directory, workers, address, allow_code=allow_code)


def compare_arms(
    arms: Sequence[Arm],
    seeds: str | Iterable[int] | None = None,
    directory: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    address: str | None = None,
    *,
    allow_code: bool = False,
) -> Comparison:
    """Compare arms that were parsed, with the other arguments of :func:`compare`."""
    if address is not None:
        require_answer(address)
    plan = make_plan(arms, seeds, directory)
    folder, missing = plan.folder, [job for arm in plan.arms for job in plan.missing(arm)]
    trained_arms = [arm for arm in plan.arms if arm.is_trained]
    data_dir = trained_arms[0].config.data.dir if trained_arms else None
    given = [run for arm in plan.arms for run in arm.given.values()]
    # what is wrong with them is said before anything is trained
    predictions = {run.run.path: run.predictions(data_dir, allow_code=allow_code) for run in given}
    before = read_json_object(folder / ARMS_FILE)["arms"] if (folder / ARMS_FILE).exists() else []
    paces: dict[str, Pace] = {}
    if missing and address is None:  # the nodes of a cluster have the data, and their own pace
        load_splits(missing[0].config, pixel_order(missing[0].config.task.permutation))
        paces = measure_paces(plan, workers, MEASURED_ABOVE)
        hours = sum(
            paces[arm.name].hours(job.config) for arm in plan.arms if arm.name in paces for job in plan.missing(arm)
        )
        left = f", about {duration(3600 * hours / (workers or 1))}" if paces else ""
        note(f"{count_of(len(missing), 'run')} to train of {sum(map(len, plan.jobs.values()))}{left}")
    measured = {name: {"step_ms": 1000 * pace.step, "peak_mb": pace.peak_mb} for name, pace in paces.items()}
    for arm in before:
        if arm.get("step_ms"):  # the first measurement counts
            measured[arm["name"]] = {key: arm.get(key) for key in ("step_ms", "peak_mb")}
    progress = Progress(missing, paces)
    with lock_folder(folder, f"comparison {folder}"):
        entries = [
            {
                "name": arm.name,
                "config_id": arm.config_id,
                **measured.get(arm.name, {}),
                "seeds": [*arm.given, *(job.config.train.seed for job in plan.jobs[arm.name])],
            }
            for arm in plan.arms
        ]
        write_atomically(folder / ARMS_FILE, json_bytes({"arms": entries}))
        if missing:
            threads = max(job.config.train.threads for job in missing)
            run_jobs(progress, folder, workers=workers, address=address, threads=threads)
        results = []
        for arm in plan.arms:
            trained = [read_run(RunDirectory(job.path)) for job in plan.jobs[arm.name] if has_ended(job)]
            diverged = [run.seed for run in trained if run.summary["status"] == "diverged"]
            if runs := [*arm.given.values(), *(run for run in trained if run.seed not in diverged)]:
                made = [predictions.get(run.run.path) or run.predictions(data_dir, allow_code=True) for run in runs]
                failed = (*arm.diverged, *diverged)
                results.append(SeededRuns(arm.name, runs, made, failed, notes=arm.notes, **measured.get(arm.name, {})))
        results = [_with_size_note(arm, results[0]) for arm in results]
        compared = {arm.name for arm in results}
        without = [f"{arm.name}, which has no completed run" for arm in plan.arms if arm.name not in compared]
        without += [f"{name}, which failed: {end.error}" for name, end in progress.errors.items()]
        if plan.arms[0].name in compared:
            comparison = Comparison(tuple(results), pair_runs(results), folder)
            comparison = write_report(comparison, draw_comparison(comparison, data_dir), folder)
    if without:
        error = RunError(f"{folder / 'report.md'} is without {'; '.join(without)} (see {folder / 'logs'})")
        for end in progress.errors.values():
            error.add_note(end.trace)
        raise error
    return comparison


def _with_size_note(arm: SeededRuns, first: SeededRuns) -> SeededRuns:
    """Return an arm with a note for the report if it has more or fewer parameters than the first arm."""
    if abs(arm.num_params - first.num_params) <= SAME_SIZE * first.num_params:
        return arm
    text = f"{arm.name}: its {arm.num_params:,} parameters are not the {first.num_params:,} of {first.name}."
    return replace(arm, notes=(*arm.notes, text))


class Progress:
    """Hands out jobs seed by seed, so that an early end leaves as many seeds of each arm, and prints their epochs."""

    def __init__(self, jobs: Sequence[Job], paces: Mapping[str, Pace]) -> None:
        self.queue = sorted(jobs, key=lambda job: job.config.train.seed)
        self.epochs = {job.path: len(RunDirectory(job.path).history()) for job in jobs}
        self.totals = {job.path: job.config.train.n_epochs for job in jobs}
        # What an epoch and the final evaluation cost: seconds, or each 1 where no pace was measured.
        self.costs = {job.path: (1.0, 1.0) for job in jobs}
        for job in jobs:
            if pace := paces.get(job.path.parent.name):
                self.costs[job.path] = pace.epoch(job.config), pace.evaluation
        self.began, self.spent = time.monotonic(), 0.0
        self.errors: dict[str, JobEnd] = {}

    def take(self, slot: str) -> Job | None:
        return self.queue.pop(0) if self.queue else None

    def epoch(self, job: Job, history: Sequence[dict[str, Any]]) -> None:
        """Print the last epoch of a job, and the time left at the pace so far."""
        new = len(history) - self.epochs[job.path]
        if not new:  # all were there before a resumption
            return
        self.epochs[job.path] = len(history)
        self.spent += new * self.costs[job.path][0]
        done, total, n_epochs = sum(self.epochs.values()), sum(self.totals.values()), job.config.train.n_epochs
        left = sum(
            (self.totals[path] - self.epochs[path]) * epoch + evaluation
            for path, (epoch, evaluation) in self.costs.items()
        )
        seconds = left * (time.monotonic() - self.began) / self.spent
        then = ", evaluating on stock Keras" if len(history) == n_epochs else ""
        note_above_bar(
            f"{job.name}: epoch {len(history)}/{n_epochs}, test accuracy {history[-1]['test_accuracy']:.2%}{then}; "
            f"all runs: {done}/{total} epochs, {duration(seconds)} left"
        )

    def ended(self, slot: str, job: Job, end: JobEnd) -> None:
        """Take note of a job's end; the epochs that it has not are not trained any more."""
        self.totals[job.path] = self.epochs[job.path]
        if end.status == "completed":
            self.spent += self.costs[job.path][1]
        self.costs[job.path] = (0.0, 0.0)
        if end.status == "failed":
            self.errors[job.name] = end

"""A comparison from arms to report: train what is missing, read all runs, test, write."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import Config
from ..data import load_splits, pixel_order
from ..engine import Job, JobEnd, Stopwatch, note_epoch, require_answer, require_engine_options, run_jobs
from ..model import Pace
from ..system import RunError, count_of, duration, json_bytes, note, read_json_object, write_atomically
from ..train import Predictions, RunDirectory, lock_folder
from .arms import Arm, parse_arms
from .comparison import Comparison, SeededRuns, pair_runs
from .pictures import draw_comparison
from .plan import ARMS_FILE, MEASURED_ABOVE, Plan, has_ended, make_plan, measure_paces
from .report import write_report
from .runs import read_run

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
    seeds: str | Iterable[int] | None,
    directory: str | os.PathLike[str] | None,
    workers: int | None,
    address: str | None,
    *,
    allow_code: bool,
) -> Comparison:
    """Compare arms that were parsed, with the other arguments of :func:`compare`."""
    if address is not None:
        require_answer(address)
    plan = make_plan(arms, seeds, directory)
    missing = plan.all_missing
    predictions = given_predictions(plan, allow_code)  # bad runs are found before anything is trained
    paces: dict[str, Pace] = {}
    if missing and address is None:  # the nodes of a cluster have the data, and their own pace
        load_splits(missing[0].config, pixel_order(missing[0].config.task.permutation))
        paces = measure_paces(plan, workers, MEASURED_ABOVE)
        note_work(plan, paces, workers)
    with lock_folder(plan.folder, f"comparison {plan.folder}"):
        measured = write_arms(plan, paces)
        progress = Progress(missing, paces)
        if missing:
            threads = max(job.config.train.threads for job in missing)
            run_jobs(progress, plan.folder, workers=workers, address=address, threads=threads)
        results = read_results(plan, predictions, measured)
        comparison = None
        if results and results[0].name == plan.arms[0].name:  # else there is no reference
            comparison = Comparison(tuple(results), pair_runs(results), plan.folder)
            comparison = write_report(comparison, draw_comparison(comparison, plan.data_dir), plan.folder)
    if comparison is None or len(results) < len(plan.arms) or progress.errors:
        raise incomplete(plan, results, progress.errors)
    return comparison


def given_predictions(plan: Plan, allow_code: bool) -> dict[Path, Predictions]:
    """Return the predictions of the runs that existed before the comparison, by run directory."""
    given = [run for arm in plan.arms for run in arm.given.values()]
    return {run.directory.path: run.predictions(plan.data_dir, allow_code=allow_code) for run in given}


def note_work(plan: Plan, paces: Mapping[str, Pace], workers: int | None) -> None:
    """Print how many runs are trained and, if a pace was measured, about how long that takes."""
    time_left = f", about {duration(3600 * plan.all_hours(paces, workers))}" if paces else ""
    runs = count_of(len(plan.all_missing), "run")
    note(f"{runs} to train of {sum(map(len, plan.jobs.values()))}{time_left}")


def write_arms(plan: Plan, paces: Mapping[str, Pace]) -> dict[str, dict[str, Any]]:
    """Write ``arms.json``; return ``step_ms`` and ``peak_mb`` of each arm that was measured, now or before."""
    file = plan.folder / ARMS_FILE
    measured = {name: {"step_ms": 1000 * pace.step, "peak_mb": pace.peak_mb} for name, pace in paces.items()}
    for arm in read_json_object(file)["arms"] if file.exists() else []:
        if arm.get("step_ms"):  # the first measurement counts
            measured[arm["name"]] = {key: arm.get(key) for key in ("step_ms", "peak_mb")}
    entries = []
    for arm in plan.arms:
        seeds = [*arm.given, *(job.config.train.seed for job in plan.jobs[arm.name])]
        entries.append({"name": arm.name, "config_id": arm.config_id, **measured.get(arm.name, {}), "seeds": seeds})
    write_atomically(file, json_bytes({"arms": entries}))
    return measured


def read_results(
    plan: Plan, predictions: Mapping[Path, Predictions], measured: Mapping[str, Mapping[str, Any]]
) -> list[SeededRuns]:
    """Return the runs of each arm that has a completed one; ``predictions`` are those of given runs."""
    results: list[SeededRuns] = []
    for arm in plan.arms:
        ended = [read_run(RunDirectory(job.path)) for job in plan.jobs[arm.name] if has_ended(job.path)]
        diverged = [run.seed for run in ended if run.summary["status"] == "diverged"]
        runs = [*arm.given.values(), *(run for run in ended if run.seed not in diverged)]
        if not runs:
            continue
        made = [predictions.get(run.directory.path) or run.predictions(plan.data_dir, allow_code=True) for run in runs]
        failed = (*arm.diverged, *diverged)
        result = SeededRuns(arm.name, runs, made, failed, notes=arm.notes, **measured.get(arm.name, {}))
        first = results[0] if results else result
        if abs(result.num_params - first.num_params) > SAME_SIZE * first.num_params:
            text = f"{arm.name}: its {result.num_params:,} parameters are not the {first.num_params:,} of {first.name}."
            result = replace(result, notes=(*arm.notes, text))
        results.append(result)
    return results


def incomplete(plan: Plan, results: Sequence[SeededRuns], errors: Mapping[str, JobEnd]) -> RunError:
    """Return the error that says which arms and runs the report lacks; the tracebacks of runs are its notes."""
    compared = {arm.name for arm in results}
    left_out = [f"{arm.name}, which has no completed run" for arm in plan.arms if arm.name not in compared]
    left_out += [f"{name}, which failed: {end.error}" for name, end in errors.items()]
    report, logs = plan.folder / "report.md", plan.folder / "logs"
    error = RunError(f"{report} is without {'; '.join(left_out)} (see {logs})")
    for end in errors.values():
        error.add_note(end.trace)
    return error


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
        self.stopwatch = Stopwatch()
        self.errors: dict[str, JobEnd] = {}

    def take(self, slot: str) -> Job | None:
        if not self.queue:
            return None
        self.stopwatch.slots.add(slot)
        return self.queue.pop(0)

    def epoch(self, job: Job, history: Sequence[dict[str, Any]]) -> None:
        """Print the last epoch of a job, and the time left at the pace so far."""
        new = len(history) - self.epochs[job.path]
        if not new:  # all were there before a resumption
            return
        self.epochs[job.path] = len(history)
        self.stopwatch.add(new * self.costs[job.path][0], sum(row["seconds"] for row in history[-new:]))
        left = 0.0
        for path, (epoch, evaluation) in self.costs.items():
            left += (self.totals[path] - self.epochs[path]) * epoch + evaluation
        then = ", evaluating on stock Keras" if len(history) == job.config.train.n_epochs else ""
        done = f"{sum(self.epochs.values())}/{sum(self.totals.values())} epochs"
        jobs = sum(any(cost) for cost in self.costs.values())
        note_epoch(job, history, f"{then}; runs to train: {done}, {self.stopwatch.left(left, jobs)}")

    def ended(self, slot: str, job: Job, end: JobEnd) -> None:
        """Count a job as done: epochs that it has not reached are not trained any more."""
        self.totals[job.path] = self.epochs[job.path]
        self.costs[job.path] = (0.0, 0.0)
        if end.status == "failed":
            self.errors[job.name] = end

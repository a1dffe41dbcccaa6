"""A comparison from arms to report: train what is missing, read all runs, test, write."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import Config, constants_text
from ..data import load_splits, pixel_order
from ..engine import Job, require_answer, require_engine_options, run_jobs
from ..model import choose_kernel
from ..system import (
    InputError,
    RunError,
    json_bytes,
    note,
    read_json_object,
    require_folder,
    start_tensorflow,
    write_atomically,
)
from ..train import RunDirectory, lock_folder
from .arms import DEFAULT_SEEDS, Arm, parse_arms, parse_seeds
from .comparison import Comparison, SeededRuns, pair_runs
from .pictures import draw_comparison
from .plan import Progress, duration, has_ended, hours_of, make_ready, measure_steps, parameters_of, plan_jobs
from .report import write_report
from .runs import count_of, read_run

ARMS_FILE = "arms.json"
SHORT = 100  # steps left, up to which no step is measured


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
        seeds: such as ``"0-5"`` or ``range(6)``. None is 0 to 5 for arms that are trained, and all seeds of arms that
            exist.
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
        InputError: an arm is unknown or cannot be read, arms have different tasks, a layer cannot be used, or the
            cluster does not answer.
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
    """Compare arms that were parsed; the other arguments as :func:`compare`."""
    if address is not None:
        require_answer(address)
    ready, jobs, folder = _plan(arms, seeds, directory, on_a_cluster=address is not None)
    data_dir = next((arm.config.data.dir for arm in ready if arm.is_trained), None)
    predictions = {  # what is wrong with them is said before anything is trained
        run.run.path: run.predictions(data_dir, allow_code=allow_code) for arm in ready for run in arm.given.values()
    }
    missing = [job for of_arm in jobs.values() for job in of_arm if not has_ended(job)]
    step_ms = _measured_before(folder)
    if missing and address is None:  # the nodes of a cluster have the data, and their own pace
        load_splits(missing[0].config, pixel_order(missing[0].config.task.permutation))
        long = [job for job in missing if job.config.train.n_epochs * job.config.steps_per_epoch > SHORT]
        times = measure_steps(ready, long, workers)
        step_ms |= {name: 1000 * measured.step for name, measured in times.items()}
        left = f", about {duration(3600 * hours_of(long, times) / (workers or 1))}" if long else ""
        note(f"{count_of(len(missing), 'run')} to train of {sum(map(len, jobs.values()))}{left}")
    progress = Progress(missing)
    with lock_folder(folder, f"comparison {folder}"):
        entries = [
            {"name": arm.name, "config_id": arm.config_id, "step_ms": step_ms.get(arm.name)}
            | {"seeds": [*arm.given, *(job.config.train.seed for job in jobs[arm.name])]}
            for arm in ready
        ]
        write_atomically(folder / ARMS_FILE, json_bytes({"arms": entries}))
        if missing:
            threads = max(job.config.train.threads for job in missing)
            run_jobs(progress, folder, workers=workers, address=address, threads=threads)
        results = []
        for arm in ready:
            trained = {job.config.train.seed: RunDirectory(job.path) for job in jobs[arm.name] if has_ended(job)}
            diverged = [seed for seed, run in trained.items() if (run.summary or {})["status"] == "diverged"]
            runs = [*arm.given.values(), *(read_run(run) for seed, run in trained.items() if seed not in diverged)]
            made = [predictions.get(run.run.path) or run.predictions(data_dir, allow_code=True) for run in runs]
            if runs:
                lost = (*arm.diverged, *diverged)
                results.append(SeededRuns(arm.name, runs, made, lost, step_ms.get(arm.name), arm.notes))
        compared = {arm.name for arm in results}
        without = [f"{arm.name}, which has no completed run" for arm in ready if arm.name not in compared]
        without += [f"{name}, which failed: {end.error}" for name, end in progress.errors.items()]
        if ready[0].name in compared:
            comparison = Comparison(tuple(results), pair_runs(results), folder)
            comparison = write_report(comparison, draw_comparison(comparison, data_dir), folder)
    if without:
        error = RunError(f"{folder / 'report.md'} is without {'; '.join(without)} (see {folder / 'logs'})")
        for end in progress.errors.values():
            error.add_note(end.trace)
        raise error
    return comparison


def dry_run(
    arms: Sequence[Arm],
    seeds: str | Iterable[int] | None = None,
    directory: str | os.PathLike[str] | None = None,
    workers: int | None = None,
) -> tuple[list[dict[str, Any]], float]:
    """Return what a comparison would train here, arm by arm, and its hours in all. Nothing is written.

    Each arm has ``name``, ``constants``, ``units``, ``num_params``, ``kernel``, ``step_ms``, ``runs`` to train and
    their ``hours``, one after the other: a step is measured. Of an arm without runs to train, kernel and step are null.
    """
    ready, jobs, _ = _plan(arms, seeds, directory)
    jobs = {name: [job for job in of_arm if not has_ended(job)] for name, of_arm in jobs.items()}
    times = measure_steps(ready, [job for of_arm in jobs.values() for job in of_arm], workers)
    rows: list[dict[str, Any]] = []
    for arm in ready:
        measured = times.get(arm.name)
        row: dict[str, Any] = {
            "name": arm.name,
            "constants": constants_text(arm.config),
            "units": arm.config.model.hidden_size,
        }
        row |= {"num_params": parameters_of(arm), "kernel": measured and measured.kernel.name}
        row |= {"step_ms": measured and 1000 * measured.step, "runs": len(jobs[arm.name])}
        rows.append(row | {"hours": hours_of(jobs[arm.name], times)})
    return rows, sum(row["hours"] for row in rows) / (workers or 1)


def _plan(
    arms: Sequence[Arm],
    seeds: str | Iterable[int] | None,
    directory: str | os.PathLike[str] | None,
    on_a_cluster: bool = False,
) -> tuple[list[Arm], dict[str, list[Job]], Path]:
    """Return the arms, tried, the jobs of each, and the folder of the comparison. Nothing is written there."""
    folder = Path(directory or Path("runs", f"compare-{'-'.join(arm.name for arm in arms)}"))
    require_folder(folder, (ARMS_FILE,), "comparison")
    if seeds is not None:
        arms = [_restricted(arm, parse_seeds(seeds)) for arm in arms]
    trained = [arm.config for arm in arms if arm.is_trained]
    native = not on_a_cluster and any(choose_kernel(config).isa for config in trained)
    start_tensorflow(trained[0].train.threads if trained else 0, operations=1 if native else 0)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns that each model is traced again
    ready = make_ready(arms, on_a_cluster)
    return ready, plan_jobs(ready, parse_seeds(DEFAULT_SEEDS if seeds is None else seeds), folder), folder


def _restricted(arm: Arm, seeds: Sequence[int]) -> Arm:
    """Return an arm with those of its existing runs whose seeds are compared."""
    given = {seed: run for seed, run in arm.given.items() if seed in seeds}
    if arm.given and not given:
        raise InputError(f"{arm.name} has no completed run of --seeds (it has {', '.join(map(str, arm.given))})")
    return replace(arm, given=given, diverged=tuple(seed for seed in arm.diverged if seed in seeds))


def _measured_before(folder: Path) -> dict[str, float]:
    """Return the milliseconds of a step that an earlier call measured, by the name of the arm."""
    path = folder / ARMS_FILE
    arms = read_json_object(path)["arms"] if path.exists() else []
    return {arm["name"]: arm["step_ms"] for arm in arms if arm.get("step_ms")}

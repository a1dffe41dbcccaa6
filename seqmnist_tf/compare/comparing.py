"""A comparison from arms to report: train what is missing, read all runs, test, write."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Config, constants_text, validate
from ..data import load_splits, pixel_order
from ..engine import require_answer, require_engine_options, run_jobs
from ..model import LayerFactory, choose_kernel, with_layer
from ..system import InputError, RunError, require_folder, start_tensorflow
from ..train import Predictions, RunDirectory, lock_folder
from .arms import DEFAULT_SEEDS, Arm, ArmWord, parse_arms, parse_seeds, require_one_task
from .comparison import Comparison, SeededRuns, pair_runs
from .folder import ARMS_FILE, claim, default_directory
from .pictures import draw_comparison
from .plan import ComparisonRuns, PlannedRun, make_ready, parameters_of, plan_runs, time_arms
from .report import write_report
from .runs import read_completed

MOST_NAMED = 5  # runs without a result, in the line that ends the command


def compare(
    arms: Sequence[str | os.PathLike[str] | Config | LayerFactory],
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
        arms: each a preset, a configuration (a ``Config`` or a JSON file), a layer (``FILE.py:NAME``, ``MODULE:NAME``,
            a layer class or a function of units, also in a ``functools.partial``), a run directory, a folder of runs,
            or a published record such as ``results/strong``. The first arm is the reference. A layer is trained by the
            first arm's recipe, with the units that match its number of parameters. Runs that exist are used as they
            are.
        seeds: such as ``"0-5"`` or ``range(6)``; those that an existing arm lacks are trained, those of its folder
            that diverged are left out. None is 0 to 5 for arms that are trained, and all seeds of arms that exist where
            nothing is trained.
        directory: the folder of the comparison; trained runs are in ``<arm>/seed<k>/``. None is a folder in ``runs/``
            with the names of the arms.
        workers: number of runs that are trained at a time on this machine, by Ray; None trains one after the other in
            this process.
        address: ``HOST:PORT`` of a Ray cluster whose nodes share ``directory``.
        allow_code: admit existing runs that have a layer of their own, and run its code. Read it first.
        overrides: values of keys (``{"train.n_epochs": 5}``) for all arms that are trained.

    Returns:
        The comparison: ``arms`` with the accuracy of each seed, ``pairs`` (each arm with the first) and ``path``, the
        folder that has the report.

    Raises:
        InputError: an arm is unknown, arms have different tasks or one configuration, a run is not completed, a layer
            cannot be used, or the cluster does not answer; no run is lost.
        RunError: a run failed or diverged. The others are trained, and the report is written without it; or the machine
            failed, such as a full disk, and the same call resumes the comparison.

    Example::

        comparison = compare(["results/strong", MyLayer], seeds=range(6), directory="runs/mine")
        print(comparison.pairs[0].mean_difference, comparison.pairs[0].sign_flip_p)
    """
    values = dict(overrides or {})
    ready, planned, folder = _planned(arms, seeds, directory, workers, address, allow_code, values)
    data_dir = next((one.config.data.dir for one in ready if one.is_trained), values.get("data.dir"))
    existing = _read_existing(ready, data_dir, allow_code)
    runs = ComparisonRuns(planned, at_a_time=(workers or 1) * (address is None))
    if address is None and runs.missing:  # otherwise the nodes of a cluster have the data
        config = runs.missing[0].job.config
        load_splits(config, pixel_order(config.task.permutation))
        runs.measure(ready, workers)
    with lock_folder(folder, f"comparison {folder}"):
        claim(folder, [_entry(one, planned) for one in ready])
        if runs.missing:
            threads = max(run.job.config.train.threads for run in runs.missing)
            run_jobs(runs, folder, workers=workers, address=address, threads=threads)
        return _finish(ready, runs, folder, existing, data_dir)


def _planned(
    arms: Sequence[Any],
    seeds: str | Iterable[int] | None,
    directory: str | os.PathLike[str] | None,
    workers: int | None,
    address: str | None,
    allow_code: bool,
    values: Mapping[str, Any],
) -> tuple[list[Arm], list[PlannedRun], Path]:
    """Return the arms of a comparison, tried, the runs that it trains, and its folder. Nothing is written there."""
    require_engine_options(workers, address)
    wanted = None if seeds is None else parse_seeds(seeds)
    parsed = parse_arms(_words(arms), values, allow_code=allow_code)
    folder = Path(directory or default_directory([arm.name for arm in parsed]))
    require_folder(folder, (ARMS_FILE,), "comparison")
    require_one_task(parsed)
    if address is not None:
        require_answer(address)
    _start_tensorflow([arm for arm in parsed if arm.is_trained or wanted], values)
    on_a_cluster = address is not None
    ready = make_ready(parsed, on_a_cluster)
    chosen = _choose_seeds(ready, wanted)
    complete = wanted is not None
    planned = plan_runs(ready, chosen or (), folder, overrides=values, complete=complete, on_a_cluster=on_a_cluster)
    ready = [_restrict(one, chosen, [run.seed for run in planned if run.arm == one.name]) for one in ready]
    return ready, planned, folder


def dry_run(
    arms: Sequence[str | os.PathLike[str] | Config | LayerFactory],
    *,
    seeds: str | Iterable[int] | None = None,
    directory: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    allow_code: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> tuple[list[dict[str, Any]], float]:
    """Return what a comparison would train here, arm by arm, and its hours in all. Nothing is written.

    Arguments as :func:`compare`. Each arm has ``name``, ``constants``, ``units``, ``num_params``, ``kernel``,
    ``reason`` (why it is stock Keras's), ``seconds_per_step``, ``seconds_per_epoch``, ``runs`` to train and their
    ``hours``, one after the other. Of an arm without runs to train, kernel and times are null.
    """
    values = dict(overrides or {})
    ready, planned, _ = _planned(arms, seeds, directory, workers, None, allow_code, values)
    runs = ComparisonRuns(planned, at_a_time=workers or 1)
    times = time_arms(ready, runs.missing, workers)
    runs.expect(times)
    rows = []
    for one in ready:
        name, config = one.name, one.config
        measured, own = times.get(name), ComparisonRuns([run for run in runs.missing if run.arm == name], 1)
        own.expect(times)
        rows.append(
            {
                "name": name,
                "constants": constants_text(config),
                "units": config.model.hidden_size,
                "num_params": measured.parameters if measured else parameters_of(one),
                "kernel": measured and measured.kernel.name,
                "reason": measured and measured.kernel.reason,
                "seconds_per_step": measured and measured.step,
                "seconds_per_epoch": measured and measured.epoch(config),
                "runs": len(own.missing),
                "hours": own.seconds_left(0.0) / 3600 if measured else None,
            }
        )
    return rows, runs.seconds_left(0.0) / 3600


def _entry(one: Arm, planned: Sequence[PlannedRun]) -> dict[str, Any]:
    """Return what ``arms.json`` says of an arm."""
    name = one.name
    seeds = sorted([*one.given, *(run.seed for run in planned if run.arm == name)])
    return {"name": name, "given": one.word, "config_id": one.config_id, "seeds": seeds}


def _words(arms: Sequence[Any]) -> list[ArmWord]:
    """Return the arms, each layer that was defined in Python with the file that its source makes."""
    words: list[ArmWord] = []
    for arm in arms:
        if isinstance(arm, str | os.PathLike | Config):
            words.append(arm)
        elif callable(arm):
            config, file = with_layer(Config(), arm)
            words.append((config, file) if file else validate(config).model.layer)
        else:
            raise InputError(f"an arm must be text, a path, a configuration or a layer (got {type(arm).__name__})")
    return words


def _start_tensorflow(arms: Sequence[Arm], overrides: Mapping[str, Any]) -> None:
    """Start TensorFlow with the threads of the runs that may be trained in this process, those of ``arms``."""
    native = any(_runs_on_kernel(arm.recipe) for arm in arms)
    threads = next((arm.recipe.train.threads for arm in arms), 0)
    start_tensorflow(overrides.get("train.threads", threads), operations=1 if native else 0)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns that each model is traced again


def _runs_on_kernel(config: Config) -> bool:
    try:
        return choose_kernel(config).isa is not None
    except InputError:  # it cannot be trained here; an error if it has to be, and not if its runs are there
        return False


def _choose_seeds(ready: Sequence[Arm], wanted: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Return the seeds of the comparison; None for all seeds of arms that exist."""
    if wanted is None and any(one.is_trained for one in ready):
        wanted = parse_seeds(DEFAULT_SEEDS)
    for one in ready:
        if wanted is not None and one.given and not set(wanted) & set(one.given):
            seeds = ", ".join(map(str, one.given))
            raise InputError(
                f"{one.word} has no result of --seeds {', '.join(map(str, wanted))} (it has those of {seeds})"
            )
    return wanted


def _restrict(arm: Arm, seeds: tuple[int, ...] | None, trained: Sequence[int]) -> Arm:
    """Return an arm with those of its existing runs whose seeds are compared, and with notes on its seeds and size.

    ``trained`` are its seeds that the comparison trains.
    """
    notes = list(arm.notes)
    if arm.given and seeds is not None:
        if trained:
            notes.append(f"{arm.name}: seed {', '.join(map(str, trained))} trained by this comparison; others existed.")
        missing = [str(seed) for seed in seeds if seed not in (*arm.given, *arm.diverged, *trained)]
        if missing:
            notes.append(f"{arm.name}: there is no run of seed {', '.join(missing)}.")
        arm = replace(arm, given={seed: arm.given[seed] for seed in seeds if seed in arm.given})
    target = arm.config.model.match_parameters
    if target is not None:
        parameters = parameters_of(arm)
        notes.append(
            f"{arm.name}: {arm.config.model.hidden_size} units were chosen to match {target:,} parameters; the model "
            f"has {parameters:,} ({parameters - target:+,})."
        )
    return replace(arm, notes=tuple(notes))


def _finish(
    ready: Sequence[Arm], runs: ComparisonRuns, folder: Path, existing: Mapping[Path, Predictions], data_dir: str | None
) -> Comparison:
    """Write the report from the completed runs, and return it; raise RunError where a run has no result."""
    statuses = {path: run.status for path, run in runs.planned.items()}  # each reads the logs of a run
    completed = [run for path, run in runs.planned.items() if statuses[path] == "completed"]
    damaged = "has damaged files in {} (remove it, and the same command trains it again)"
    fates = {
        path: f"failed: {runs.errors[path]}" if path in runs.errors else status or damaged.format(path)
        for path, status in statuses.items()
        if status != "completed"
    }
    lost = [runs.planned[path] for path in fates]
    said = [f"{run.job.name}, which {fates[run.job.path]} (see {run.job.log})" for run in lost[:MOST_NAMED]]
    said += [f"{len(lost) - MOST_NAMED} more"] * (len(lost) > MOST_NAMED)
    noted: list[Arm] = []
    without: list[str] = []  # notes on arms of which no run is completed
    for one in ready:
        name = one.name
        is_there = bool(one.given) or name in {run.arm for run in completed}
        notes = [
            f"{name}: seed {run.seed} {fates[run.job.path]}."
            for run in lost
            if run.arm == name and (fates[run.job.path] != "diverged" or not is_there)
        ]
        if is_there:
            noted.append(replace(one, notes=(*one.notes, *notes)))
        else:
            without += [f"{name} is left out: none of its runs is completed.", *notes]
    if not noted:
        raise _with_traces(f"no run is completed, and there is no report: {'; '.join(said)}", runs)
    noted[0] = replace(noted[0], notes=(*noted[0].notes, *without))
    comparison = _read(noted, completed, folder, existing, data_dir)
    comparison = write_report(comparison, draw_comparison(comparison, data_dir), folder)
    if lost:
        raise _with_traces(f"{folder / 'report.md'} is without {'; '.join(said)}", runs)
    return comparison


def _with_traces(text: str, runs: ComparisonRuns) -> RunError:
    """Return an error whose traceback shows those of the runs that failed."""
    error = RunError(text)
    for trace in runs.traces:
        error.add_note(trace)
    return error


def _read_existing(ready: Sequence[Arm], data_dir: str | None, allow_code: bool) -> dict[Path, Predictions]:
    """Return the predictions of existing runs, by run directory: what is wrong with one is said before training."""
    made = {
        completed.run.path: completed.predictions(data_dir, allow_code=allow_code)
        for one in ready
        for completed in one.given.values()
    }
    names = [f"{one.name}, seed {seed}" for one in ready for seed in one.given]
    _require_one_test_set(list(zip(names, made.values(), strict=True)))
    return made


def _read(
    ready: Sequence[Arm],
    planned: Sequence[PlannedRun],
    folder: Path,
    existing: Mapping[Path, Predictions],
    data_dir: str | None,
) -> Comparison:
    """Read the runs of all arms and return their comparison."""
    arms = []
    for arm in ready:
        trained = [read_completed(run.run) for run in planned if run.arm == arm.name]
        runs = sorted([*arm.given.values(), *trained], key=lambda completed: completed.seed)
        predictions = [  # a layer that this comparison trains is the user's own
            existing.get(completed.run.path) or completed.predictions(data_dir, allow_code=True) for completed in runs
        ]
        diverged = _diverged_seeds(arm, folder, [completed.seed for completed in runs])
        arms.append(SeededRuns(arm.name, runs, predictions, diverged, notes=arm.notes))
    _require_one_test_set(
        [
            (f"{arm.name}, seed {seed}", made)
            for arm in arms
            for seed, made in zip(arm.seeds, arm.predictions, strict=True)
        ]
    )
    return Comparison(tuple(arms), pair_runs(arms), folder)


def _diverged_seeds(arm: Arm, folder: Path, completed: Sequence[int]) -> tuple[int, ...]:
    """Return the seeds of an arm that diverged and are not compared: without them the arm looks better."""
    diverged = {*arm.diverged}
    for path in (folder / arm.name).glob("seed*"):
        with contextlib.suppress(ValueError):  # what is left of a run that is not compared, or another file
            run = RunDirectory(path)
            if (run.summary or {}).get("status") == "diverged" and run.config_id == arm.config_id:
                diverged.add(int(path.name.removeprefix("seed")))
    return tuple(sorted(diverged - {*completed}))


def _require_one_test_set(runs: Sequence[tuple[str, Predictions]]) -> None:
    """Raise InputError where the labels in the predictions of two runs differ."""
    for name, made in runs:
        if not np.array_equal(made.labels, runs[0][1].labels):
            raise InputError(
                f"arms must agree in their test set, but the labels of {name}, differ from those of {runs[0][0]}"
            )

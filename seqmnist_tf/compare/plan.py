"""What a comparison trains: its arms with their units, the runs of each, and how long they take here."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..config import PRESETS, constants_text, differences, flatten, of_the_experiment, value_text, with_values
from ..engine import Job, threads_here
from ..model import Pace, build_model, choose_kernel, measure_pace, recurrent_weights
from ..system import InputError, duration, note, require_folder, start_tensorflow
from ..train import RunDirectory, require_trainable, train_command
from .arms import DEFAULT_SEEDS, Arm, parse_seeds

ARMS_FILE = "arms.json"
MEASURED_ABOVE = 100  # steps of a run, up to which no step is measured


@dataclass(frozen=True)
class Plan:
    """A comparison before it is trained."""

    folder: Path
    arms: Sequence[Arm]  # those that are trained have their units, and their layers were tried
    jobs: Mapping[str, Sequence[Job]]  # of each arm, by its name

    def missing(self, arm: Arm) -> list[Job]:
        """Return the jobs of an arm whose runs have not ended."""
        return [job for job in self.jobs[arm.name] if not has_ended(job.path)]

    @property
    def all_missing(self) -> list[Job]:
        """The jobs of all arms whose runs have not ended."""
        return [job for arm in self.arms for job in self.missing(arm)]

    @property
    def data_dir(self) -> str | None:
        """The folder of MNIST: that of the arms that are trained."""
        for arm in self.arms:
            if arm.to_train:
                return arm.config.data.dir
        return None

    def hours(self, arm: Arm, pace: Pace | None) -> float:
        """Return how long the missing runs of an arm take one after the other; 0 without a pace."""
        return sum(pace.hours(job.config) for job in self.missing(arm)) if pace else 0.0

    def all_hours(self, paces: Mapping[str, Pace], workers: int | None) -> float:
        """Return how long all missing runs take, ``workers`` at a time."""
        return sum(self.hours(arm, paces.get(arm.name)) for arm in self.arms) / (workers or 1)


def make_plan(arms: Sequence[Arm], seeds: str | Iterable[int] | None, directory: str | os.PathLike[str] | None) -> Plan:
    """Return what ``compare`` would train. Code of layers is run, and nothing is written."""
    folder = Path(directory or Path("runs", f"compare-{'-'.join(arm.name for arm in arms)}"))
    require_folder(folder, (ARMS_FILE,), "comparison")
    if seeds is not None and not any(arm.to_train for arm in arms):
        raise InputError("--seeds has no effect: all arms exist, and all their seeds are compared (leave it out)")
    trained = [arm.config for arm in arms if arm.to_train]
    native = any(choose_kernel(config).isa for config in trained)
    start_tensorflow(trained[0].train.threads if trained else 0, operations=1 if native else 0)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns that each model is traced again
    ready = make_ready(arms)
    return Plan(folder, ready, plan_jobs(ready, parse_seeds(DEFAULT_SEEDS if seeds is None else seeds), folder))


def make_ready(arms: Sequence[Arm]) -> list[Arm]:
    """Choose the units of the arms that are trained and try their layers, whose code is run."""
    ready: list[Arm] = []
    for arm in arms:
        if not arm.to_train:
            ready.append(arm)
            continue
        config, notes = arm.config, list(arm.notes)
        if arm.matched:
            config = with_values(config, {"model.match_parameters": parameters_of(ready[0])})
        config = require_trainable(config, arm.file)
        model = build_model(config, arm.file)
        if (target := config.model.match_parameters) is not None:
            units, parameters = config.model.hidden_size, model.count_params()
            notes.append(f"{arm.name}: {units} units, {parameters:,} parameters ({target:,} were to be matched).")
        if config.train.recurrent_noise and not recurrent_weights(model.layers[0]):
            notes.append(f"{arm.name}: `train.recurrent_noise` has no effect: its layer names no recurrent weights.")
        if config.train.n_epochs * config.steps_per_epoch <= MEASURED_ABOVE:
            notes.append(f"{arm.name}: no step is timed where a run has {MEASURED_ABOVE} or fewer.")
        ready.append(replace(arm, config=config, notes=tuple(notes)))
    return ready


def parameters_of(arm: Arm) -> int:
    return arm.first_given.num_params if arm.first_given else int(build_model(arm.config, arm.file).count_params())


def plan_jobs(arms: Sequence[Arm], seeds: Sequence[int], folder: Path) -> dict[str, list[Job]]:
    """Return the jobs of each arm that is trained, by its name; raise InputError where the folder has other runs.

    They are those of ``seeds``, and of other seeds whose runs in the folder have ended.
    """
    jobs: dict[str, list[Job]] = {arm.name: [] for arm in arms}
    for arm in arms:
        ended = _ended_seeds(folder / arm.name) if arm.to_train else []
        if more := sorted(set(ended) - set(seeds)):
            note(f"{arm.name}: seeds {', '.join(map(str, more))} exist and are in the report")
        for seed in sorted({*seeds, *ended}) if arm.to_train else ():
            path, config = folder / arm.name / f"seed{seed}", with_values(arm.config, {"train.seed": seed})
            job = Job(
                path=path,
                name=f"{arm.name} seed {seed}",
                config=config,
                preset=arm.preset,
                command=train_command(arm.preset, differences(config, PRESETS[arm.preset].config), run_dir=path),
                resume_command=train_command(run_dir=path, resume=True),
                layer=arm.file,
                log=folder / "logs" / f"{arm.name}-seed{seed}.log",
                group=folder.resolve().name,
            )
            if (path / "config.json").exists() and RunDirectory(path).config_id != arm.config_id:
                raise InputError(f"{path} is a run of another configuration: {_change(job)} (give a new --dir)")
            jobs[arm.name].append(job)
    return jobs


def _change(job: Job) -> str:
    """Return in which keys a job differs from the run that is at its path."""
    run = RunDirectory(job.path)
    old, new = flatten(run.config), flatten(job.config)
    changes = [
        f"{key} was {value_text(old[key])} and is {value_text(new[key])}"
        for key in new
        if of_the_experiment(key) and old[key] != new[key]
    ]
    if job.layer and run.layer_file and job.layer.content != run.layer_file.content:
        changes.append(f"{job.layer.path} is not as in {run.layer_file.path}")
    return ", ".join(changes) or "the file of task.permutation has changed"


def _ended_seeds(folder: Path) -> list[int]:
    """Return the seeds of the runs of an arm that have ended."""
    paths = [path for path in folder.glob("seed*") if path.name.removeprefix("seed").isdecimal()]
    return [int(path.name.removeprefix("seed")) for path in paths if has_ended(path)]


def has_ended(path: Path) -> bool:
    """Return whether a run has completed or diverged: it would end in the same way again."""
    return RunDirectory(path).status in ("completed", "diverged")


def measure_paces(plan: Plan, workers: int | None, least_steps: int = 0) -> dict[str, Pace]:
    """Return the pace of each arm that has a longer run to train, by its name."""
    paces = {}
    for arm in plan.arms:
        if arm.config.train.n_epochs * arm.config.steps_per_epoch > least_steps and plan.missing(arm):
            note(f"timing a step of {arm.name}")
            config = with_values(arm.config, {"train.threads": threads_here(workers, arm.config.train.threads)})
            pace = paces[arm.name] = measure_pace(config, arm.file)
            reason = f", on stock Keras: {pace.kernel.reason}" if pace.kernel.reason else ""
            note(f"{arm.name}: {1000 * pace.step:.0f} ms a step, {duration(pace.epoch(config))} an epoch{reason}")
    return paces


def dry_run(
    arms: Sequence[Arm],
    seeds: str | Iterable[int] | None,
    directory: str | os.PathLike[str] | None,
    workers: int | None,
) -> tuple[list[dict[str, Any]], float]:
    """Return what a comparison would train here, arm by arm, and its hours in all; a step of each arm is measured."""
    plan = make_plan(arms, seeds, directory)
    paces = measure_paces(plan, workers)
    rows: list[dict[str, Any]] = []
    for arm in plan.arms:
        pace = paces.get(arm.name)
        rows.append(
            {
                "name": arm.name,
                "constants": constants_text(arm.config),
                "units": arm.config.model.hidden_size,
                "num_params": parameters_of(arm),
                "kernel": pace.kernel.name if pace else None,
                "step_ms": 1000 * pace.step if pace else None,
                "runs": len(plan.missing(arm)),
                "hours": plan.hours(arm, pace),
            }
        )
    return rows, plan.all_hours(paces, workers)

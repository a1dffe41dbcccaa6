"""What a comparison trains: arms with their units, the runs that are missing in its folder, and their progress."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..config import PRESETS, Config, config_id, differences, of_the_experiment, read_layer, with_values
from ..data import pixel_order
from ..engine import Job, JobEnd, due, threads_here
from ..model import LayerError, StepTime, build_model, module_code, recurrent_weights, time_step
from ..system import InputError, note, parse_json
from ..train import PREDICTIONS_FILE, RunDirectory, require_trainable, train_command
from .arms import Arm, preset_of
from .runs import count_of, read_completed

SHORT = 100  # steps of an arm's runs, which have ended before their time is measured
BAR_WIDTH = 20


@dataclass(frozen=True)
class PlannedRun:
    """A run that the comparison trains: the arm and the seed of a job."""

    arm: str
    seed: int
    job: Job

    @property
    def run(self) -> RunDirectory:
        """Its run directory."""
        return RunDirectory(self.job.path)

    @property
    def status(self) -> str | None:
        """The status of its summary; None where it has not begun or not ended, or is damaged, which training mends."""
        with contextlib.suppress(InputError):
            ended = read_completed(self.run, or_diverged=True)
            if (self.job.path / PREDICTIONS_FILE).is_file():  # without it, the model is evaluated
                ended.predictions()
            return ended.summary["status"]
        return None

    @property
    def epochs(self) -> int:
        """The number of its epochs so far."""
        with contextlib.suppress(InputError):
            return len(self.run.history())
        return 0


def make_ready(arms: Sequence[Arm], on_a_cluster: bool = False) -> list[Arm]:
    """Choose the units of the arms and try their layers, whose code is run; raise InputError where one is refused."""
    ready: list[Arm] = []
    for arm in arms:
        ready.append(_make_ready(arm, ready[0] if ready else None, on_a_cluster))
        for other in ready[:-1]:
            _require_different(other, ready[-1])
    return ready


def _make_ready(arm: Arm, first: Arm | None, on_a_cluster: bool) -> Arm:
    if not arm.is_trained:
        run = next(iter(arm.given.values()))
        arm = replace(arm, config_id=run.config_id, file=run.run.layer_file)
        try:
            return _with_noise(arm)
        except InputError as error:  # its runs are there, and count without the layer
            note = f"{arm.name}: whether `train.recurrent_noise` acts on its layer cannot be seen ({error})."
            return replace(arm, noise=arm.config.recurrent_noise, notes=(*arm.notes, note))
    config, file = arm.config, arm.file or read_layer(arm.config)
    if arm.matched and first is not None:
        config = with_values(config, {"model.match_parameters": parameters_of(first)})
    config = require_trainable(config, file, elsewhere=on_a_cluster)
    return _with_noise(replace(arm, config=config, file=file, config_id=config_id(config, file)))


def parameters_of(arm: Arm) -> int:
    """Return the number of parameters of an arm's model."""
    if arm.given:
        return next(iter(arm.given.values())).num_params
    return int(build_model(arm.config, arm.file).count_params())


def _with_noise(arm: Arm) -> Arm:
    """Return an arm with the noise that acts, and with a note where it has no recurrent weights to act on."""
    noise, notes = arm.config.recurrent_noise, arm.notes
    if noise and not recurrent_weights(build_model(arm.config, arm.file).layers[0]):
        notes += (
            f"{arm.name}: `train.recurrent_noise` {noise:g} has no effect: its layer names no recurrent weights "
            "(docs/compare.md).",
        )
        noise = 0.0
    return replace(arm, noise=noise, notes=notes)


def _require_different(one: Arm, other: Arm) -> None:
    """Raise InputError where two arms would be the same runs. Runs of one experiment may be compared if both exist."""
    if one.given and other.given:
        paths = [{completed.run.path.resolve() for completed in arm.given.values()} for arm in (one, other)]
        if paths[0] & paths[1]:
            raise InputError(f"the arms {one.word} and {other.word} share runs (give each arm its own)")
        return
    # They have one pixel order; how their units were chosen makes no other model.
    shared = {"model.match_parameters": None, "task.permutation": "none"}
    if len({config_id(with_values(arm.config, shared), arm.file) for arm in (one, other)}) == 1:
        raise InputError(
            f"the arms {one.word} and {other.word} have one configuration ({one.config_id}); give each arm its own"
        )


def plan_runs(
    arms: Sequence[Arm],
    seeds: Sequence[int],
    folder: Path,
    *,
    overrides: Mapping[str, Any],
    complete: bool,
    on_a_cluster: bool = False,
) -> list[PlannedRun]:
    """Return the runs that are trained, seed by seed, so that an early end leaves complete pairs.

    ``overrides`` are values of keys for all of them, but existing arms keep their recipe; with ``complete``, the seeds
    that these lack are trained, too. InputError is raised where the folder has a run of another configuration.
    """
    planned = []
    places = {key: value for key, value in overrides.items() if not of_the_experiment(key)}
    for one in arms:
        if complete and one.given and not set(seeds) <= {*one.given, *one.diverged}:
            _require_trainable(one, with_values(one.recipe, places), on_a_cluster)
    for seed in seeds:
        for one in arms:
            if seed in (*one.given, *one.diverged) or not (one.is_trained or complete):
                continue
            name = one.name
            path = folder / name / f"seed{seed}"
            config = with_values(one.recipe, {**places, "train.seed": seed})
            preset = preset_of(one, arms[0])
            job = Job(
                path=path,
                name=f"{name} seed {seed}",
                config=config,
                preset=preset,
                command=train_command(preset, differences(config, PRESETS[preset].config), run_dir=path),
                resume_command=train_command(run_dir=path, resume="required"),
                layer=one.file,
                log=folder / "logs" / f"{name}-seed{seed}.log",
                group=folder.resolve().name,
                code=module_code(one.config, one.file),
            )
            run = PlannedRun(name, seed, job)
            _require_own(run, one.config_id)
            planned.append(run)
    return planned


def _require_trainable(one: Arm, config: Config, on_a_cluster: bool) -> None:
    """Raise InputError where further runs of an existing arm cannot be trained here, or would be of another task."""
    run = next(iter(one.given.values())).run
    if not np.array_equal(pixel_order(config.task.permutation), run.pixel_order()):
        raise InputError(
            f"{one.word}: its runs read the pixels in another order than task.permutation "
            f"{config.task.permutation} is now (give --seeds that it has)"
        )
    require_trainable(config, run.layer_file, elsewhere=on_a_cluster)
    for outcome in one.given.values():
        _require_same_code(outcome.run, module_code(config, run.layer_file), "give --seeds that it has")


def _require_same_code(run: RunDirectory, code: str | None, advice: str) -> None:
    """Raise InputError where a run began with another version of its layer's module than ``code``."""
    if run.environment.get("layer_code", code) != code:
        raise InputError(
            f"{run.path} is a run of another version of {run.config.model.layer} ({advice}, or the module as it was)"
        )


def _require_own(planned: PlannedRun, experiment: str) -> None:
    """Raise InputError where the run directory holds a run of another experiment or seed."""
    try:
        for name in ("config.json", "environment.json"):
            parse_json((planned.run.path / name).read_bytes())
    except (OSError, ValueError):  # no run yet, or no JSON any more: training sets it aside
        return
    config = planned.run.config
    if planned.run.config_id == experiment and config.train.seed == planned.seed:
        _require_same_code(planned.run, planned.job.code, "give a new --dir")
        return
    before, now = differences(config, planned.job.config), differences(planned.job.config, config)
    keys = [key for key in now if of_the_experiment(key) or key == "train.seed"]
    difference = (
        f"{keys[0]} is {before[keys[0]]} there and {now[keys[0]]} here"
        if keys
        else "the file of its layer or pixel order has changed, or a module that the layer imports"
    )
    raise InputError(
        f"{planned.run.path} is a run of another configuration: {difference} (give a new --dir; runs that are there "
        "can be its arms)"
    )


def time_arms(arms: Sequence[Arm], missing: Sequence[PlannedRun], workers: int | None) -> dict[str, StepTime]:
    """Return how long a step takes in each arm that has missing runs, by its name; raise LayerError as a layer does."""
    times = {}
    for one in arms:
        if config := next((run.job.config for run in missing if run.arm == one.name), None):
            threads = {"train.threads": threads_here(workers, config.train.threads)}
            times[one.name] = time_step(with_values(config, threads), one.file)
    return times


class ComparisonRuns:
    """Hands out the runs of a comparison that have not ended, in their order, and reports their epochs.

    Args:
        planned: all runs that are trained.
        at_a_time: how many are trained at a time, if that is known.

    Attributes:
        missing: those that have not ended.
        errors: why runs failed, by run directory.
        traces: the tracebacks of these failures.
    """

    def __init__(self, planned: Sequence[PlannedRun], at_a_time: int = 0) -> None:
        self.planned = {run.job.path: run for run in planned}
        self.missing = [run for run in planned if run.status is None]
        self.errors: dict[Path, str] = {}
        self.traces: list[str] = []
        self.epochs = {run.job.path: run.epochs for run in planned}
        self.left = {run.job.path: run.job.config.train.n_epochs - self.epochs[run.job.path] for run in self.missing}
        self.pace: dict[str, float] = {}  # seconds of the last epoch, by arm
        self.start: dict[str, float] = {}  # seconds before the first epoch of a run, by arm
        self.taken, self.at_a_time = 0, at_a_time

    def expect(self, times: Mapping[str, StepTime]) -> None:
        """Take note of measured steps, by arm: until its first epoch they say how long an arm takes."""
        for run in self.missing:
            if measured := times.get(run.arm):
                self.pace[run.arm], self.start[run.arm] = measured.epoch(run.job.config), measured.first

    def measure(self, arms: Sequence[Arm], workers: int | None) -> None:
        """Measure a step of the arms whose runs are not short, and say which of them are left to stock Keras.

        An arm that fails is left to its run.
        """
        steps = {run.arm: 0 for run in self.missing}
        for run in self.missing:
            steps[run.arm] += self.left[run.job.path] * run.job.config.steps_per_epoch
        for one in arms:
            if steps.get(one.name, 0) > SHORT:
                with contextlib.suppress(LayerError):
                    self.expect(times := time_arms([one], self.missing, workers))
                    if reason := times[one.name].kernel.reason:
                        note(f"{one.name}: on stock Keras, {reason}")

    def take(self, slot: str) -> Job | None:
        """Return the next run."""
        if self.taken == len(self.missing):
            return None
        if self.taken == 0:
            present = len(self.planned) - len(self.missing)
            known = {run.arm for run in self.missing} <= set(self.pace)
            left = f"; about {_duration(self.seconds_left(0.0))}" if known else ""
            runs = count_of(len(self.missing), "run")
            note(f"{runs} to train, {present} of {len(self.planned)} are there already{left}")
        self.taken += 1
        self.at_a_time = max(self.at_a_time, self.taken + len(self.left) - len(self.missing))
        return self.missing[self.taken - 1].job

    def epoch(self, job: Job, history: Sequence[dict[str, Any]]) -> None:
        """Report the new epochs of a run, the last of them in full; of a large comparison, not of every run."""
        run, row, new = self.planned[job.path], history[-1], len(history) - self.epochs[job.path]
        self.pace[run.arm] = row["seconds"]
        # A resumed run repeats its last epoch where it was killed between the epoch's row and its checkpoint.
        self.epochs[job.path] = len(history)
        self.left[job.path] = job.config.train.n_epochs - len(history)
        done = sum(self.epochs.values())
        total = done + sum(self.left.values())
        if not due(done, total, new):
            return
        filled = BAR_WIDTH * done // total
        note(
            f"{job.name}: epoch {len(history)}/{job.config.train.n_epochs}, test accuracy {row['test_accuracy']:.2%}, "
            f"{_duration(self.left[job.path] * row['seconds'])} left | all runs "
            f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {done}/{total} epochs, "
            f"{_duration(self.seconds_left(row['seconds']))} left"
        )

    def ended(self, slot: str, job: Job, end: JobEnd) -> None:
        """Take note of a run's end."""
        del self.left[job.path]  # one that diverged has epochs that nobody will train
        if end.status == "failed":
            self.errors[job.path] = end.error or ""
            self.traces.append(f"{job.name}:\n{end.trace}")

    def seconds_left(self, seconds: float) -> float:
        """Return the time left of all runs, at the pace of each arm's last epoch, or ``seconds`` where it has none."""
        left = []
        for path, epochs in self.left.items():
            arm = self.planned[path].arm
            start = 0.0 if self.epochs[path] else self.start.get(arm, 0.0)
            left.append(start + epochs * self.pace.get(arm, seconds))
        busy = min(self.at_a_time, sum(each > 0 for each in left))  # at the end, workers have nothing to do
        return max([*left, sum(left) / max(busy, 1)])


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"

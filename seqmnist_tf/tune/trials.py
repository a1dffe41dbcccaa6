"""The trials of a search, and the repeats of the best: each is a run of ``train``."""

from __future__ import annotations

import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

import keras

from .. import config as cfg
from ..config import Config
from ..model import module_code
from ..system import BusyError, InputError, note
from ..train import AT_CHANCE, NotResumableError, RunDirectory, StopRule, resume, train
from .folder import SearchFolder, read_object, same_trial
from .job import Job, JobLost, Watcher
from .outcomes import outcome
from .repeats import repeat_config, repeat_path

BUSY_SECONDS = 2.0
REMIND_BUSY_SECONDS = 60.0


def job_run(search: SearchFolder, job: Job) -> tuple[RunDirectory, Config]:
    """Return the run directory of a job, which need not exist, and its configuration."""
    if job.seed is None:
        return RunDirectory(search.trial_path(job.trial)), search.config(job.values)
    config = repeat_config(search, job.values, job.seed)
    return RunDirectory(repeat_path(search, job.trial, config)), config


def require_same_module(search: SearchFolder, job: Job) -> None:
    """Raise InputError where a trial was trained with another version of the module of this job's layer.

    A layer from a file is held to its content by ``search.json``. This imports the module.
    """
    config = job_run(search, job)[1]
    if (code := module_code(config)) is None:
        return
    for path in sorted([*search.path.glob("trials/*/"), *search.path.glob("repeats/*/*/")]):
        trained, environment = read_object(path / "config.json") or {}, read_object(path / "environment.json") or {}
        model, was = trained.get("model"), environment.get("layer_code", code)
        if isinstance(model, dict) and model.get("layer") == config.model.layer and was != code:
            raise InputError(
                f"{path} was trained with another version of {config.model.layer} (restore the module, or give a new "
                "--dir)"
            )


def run_job(
    search: SearchFolder, job: Job, threads: int = 0, command: str = "", watcher: Watcher | None = None
) -> float:
    """Train a job to its end, from its last checkpoint if it had begun, and return its score.

    A run whose files are damaged is moved to the search's ``damaged/`` and trained anew.

    Args:
        search: the search.
        job: the trial or repeat.
        threads: ``train.threads``; 0 leaves the configuration's.
        command: the command line, for the record.
        watcher: follows the run.

    Returns:
        The validation accuracy of the last epoch, 0 to 1; 0 where the run diverged.

    Raises:
        KeyboardInterrupt: the run was interrupted.
        JobLost: another worker has the job.
    """
    watcher = watcher or Watcher()
    run, config = job_run(search, job)
    config = cfg.with_values(config, {"train.threads": threads} if threads else {})
    _wait_until_free(run, job, watcher)
    _prepare(search, run, config, job)
    if (ended := outcome(run)) is None:
        keras.utils.clear_session()
        _train_to_end(search, run, config, command, _stop_rule(config.train.n_epochs, watcher))
        if (ended := outcome(run)) is None:
            raise KeyboardInterrupt
    status, score = ended
    if status != "completed":
        reason = (run.summary or {}).get("reason")
        note(f"{job}: {status}{f' ({reason})' if reason else ''}")
    return score


def stop_at_chance(n_epochs: int) -> StopRule:
    """Return the rule that stops a run of ``n_epochs`` which is at chance after half of its epochs.

    Averaged weights (``optimizer.ema_momentum``) can be at chance long after the trained ones have left it, so both the
    training and the held-out images have to be at chance.
    """

    def rule(history: list[dict[str, Any]]) -> str | None:
        at_chance = max(history[-1]["val_accuracy"], history[-1]["train_accuracy"]) < AT_CHANCE
        if at_chance and len(history) < n_epochs <= 2 * len(history):
            return f"at chance after {len(history)} of {n_epochs} epochs"
        return None

    return rule


def _stop_rule(n_epochs: int, watcher: Watcher) -> StopRule:
    at_chance = stop_at_chance(n_epochs)

    def rule(history: list[dict[str, Any]]) -> str | None:
        watcher.epoch_ended(len(history), n_epochs)
        if watcher.lost():
            raise JobLost
        return at_chance(history)

    return rule


def _train_to_end(search: SearchFolder, run: RunDirectory, config: Config, command: str, rule: StopRule) -> None:
    if run.path.is_dir():
        try:
            resume(run.path, command=command, stop_rule=rule, machine=config)
            return
        except NotResumableError as error:
            _set_aside(search, run.path, str(error))
    train(config, run.path, preset=search.preset, command=command, stop_rule=rule)


def _wait_until_free(run: RunDirectory, job: Job, watcher: Watcher) -> None:
    """Wait while another process trains a run, such as a worker that was given up too early."""
    began = time.monotonic()
    remind_at = began
    while run.path.is_dir():
        try:
            run.lock().lock.release()
            return
        except BusyError:
            if watcher.lost():
                raise JobLost from None
            if (now := time.monotonic()) >= remind_at:
                note(f"{job}: {run.path} is in use by another process: waiting for {now - began:.0f} s")
                remind_at = now + REMIND_BUSY_SECONDS
            time.sleep(BUSY_SECONDS)


def _prepare(search: SearchFolder, run: RunDirectory, config: Config, job: Job) -> None:
    """Remove or set aside damaged files, and a run of other values, so that the job is resumed, or trained anew."""
    if not run.path.is_dir():
        return
    ended = False
    try:
        ended = outcome(run) is not None
    except InputError as error:
        note(f"{job} is finished again: {error}")
        (run.path / "summary.json").unlink(missing_ok=True)
    try:
        if not same_trial(config, run.config):
            raise InputError(f"{run.path / 'config.json'} is not the configuration of {job}")
        if ended:
            return
        _ = run.environment, run.pixel_order(), run.history()
        if run.resume_file.exists():
            with zipfile.ZipFile(run.resume_file) as file:
                if broken := file.testzip():
                    raise InputError(f"{run.resume_file} is damaged ({broken})")
    except (InputError, OSError, zipfile.BadZipFile) as error:
        _set_aside(search, run.path, str(error))


def _set_aside(search: SearchFolder, path: Path, reason: str) -> None:
    folder = search.path / "damaged"
    folder.mkdir(exist_ok=True)
    number = 1
    while (target := folder / f"{path.parent.name}-{path.name}-{number}").exists():
        number += 1
    shutil.move(path, target)
    note(f"{path} is trained again from its start, and what was there is now {target}: {reason}")

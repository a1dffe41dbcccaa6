"""One run: a configuration goes in, a run directory comes out."""

from __future__ import annotations

import contextlib
import math
import os
import re
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from ..config import (
    Config,
    LayerFile,
    config_id,
    has_stock_layer,
    permutation_sha256,
    read_layer,
    validate,
    with_values,
)
from ..data import Splits, batches, load_splits, pixel_order
from ..model import (
    Kernel,
    LayerFactory,
    MeasuredSequential,
    build_model,
    check_layer,
    choose_kernel,
    describe_error,
    make_trainable,
    match_units,
    module_code,
    try_layer,
    with_layer,
)
from ..system import InputError, RunError, describe_environment, first_line, replace_atomically, start_tensorflow, warn
from .callbacks import DivergedError, OnEpoch, RunCallbacks
from .checkpoint import order_hash, require_own_files, require_same_code, restore
from .command_line import train_command
from .metrics import evaluate_model, load_final_model, weight_problem
from .page import write_overview, write_predictions
from .run_directory import RunDirectory, load_run
from .summary import summarize
from .terminal import announce_kernel, announce_model, announce_origin, announce_run
from .wandb_run import Tracker


def train(
    config: Config,
    path: str | os.PathLike[str],
    *,
    preset: str | None = None,
    command: str = "",
    stop_rule: OnEpoch | None = None,
    layer: LayerFactory | None = None,
    layer_file: LayerFile | None = None,
) -> dict[str, Any]:
    """Train a configuration and return the summary of its run.

    The code of ``model.layer`` is run, where it is not a stock layer.

    Args:
        config: the experiment.
        path: the run directory to make.
        preset: the name of the preset that the configuration started from, for the record.
        command: the command line, for the record.
        stop_rule: asked after each epoch with the history so far; a reason that it returns ends the run as ``stopped``.
        layer: the recurrent layer, in place of ``model.layer``: a layer class or a function of units, from a notebook
            for example. The run keeps its source.
        layer_file: the layer's file, in place of the one that ``model.layer`` names.

    Returns:
        The content of ``summary.json``. Its ``status`` is ``completed``, ``diverged``, ``stopped`` or ``interrupted``.

    Raises:
        InputError: the configuration is not valid, or ``path`` exists.
        RunError: no data, a full disk, no memory, a layer that fails; the run's status is ``failed`` if it had begun.
        OSError: the disk is full before the first batch, or after the last.
        KeyboardInterrupt: it was interrupted after its last batch, and its summary is written.

    Example::

        summary = train(preset("quickstart"), "runs/mine")
        print(summary["final"]["test_accuracy"])
        train(preset("baseline"), "runs/own", layer=MyLayer)
    """
    path = Path(path)
    config, file = with_layer(config, layer) if layer else (config, layer_file or read_layer(validate(config)))
    config = validate(config)
    order = pixel_order(config.task.permutation)
    RunDirectory.refuse_existing(path)
    _start_tensorflow(config)
    config = match_units(config, file)
    check_layer(config, file)
    model = build_model(config, file)
    kernel = choose_kernel(config, model)
    announce_kernel(kernel, config)
    announce_model(config, model)
    splits = load_splits(config, order)
    record = describe_environment(command, config.train.threads, kernel.name)
    order_file_sha256 = permutation_sha256(config)
    record.update(
        preset=preset,
        config_id=config_id(config, file, order_sha256=order_file_sha256),
        seed=config.train.seed,
        pixel_order_sha256=order_hash(order),
        **({"permutation_sha256": order_file_sha256} if order_file_sha256 else {}),
        **({"layer_code": code} if (code := module_code(config, file)) else {}),
        wandb_run_id=uuid.uuid4().hex[:8],
        resumed=[],
    )
    run = RunDirectory.create(path, config, record, order, file)
    announce_run(run, config, preset, splits)
    announce_origin(record, config)
    with run.lock():
        return fit(ReadyRun(run, config, model, splits, kernel), stop_rule)


def require_trainable(
    config: Config, file: LayerFile | None = None, *, data: bool = False, elsewhere: bool = False
) -> Config:
    """Try a configuration as :func:`train` would train it here, without a run; return it with its final units.

    This runs the code of ``model.layer``, where it is not a stock layer.

    Args:
        config: the experiment.
        file: the layer's file, in place of the one that ``model.layer`` names.
        data: read the images, too.
        elsewhere: it is trained by nodes of a cluster, which have kernels of their own.

    Raises:
        InputError: its pixel order cannot be read, its layer cannot be used, its kernel is not to be had here, or the
            folder of the data cannot be read or written.
        RunError: no source of MNIST could be reached.

    Example::

        config = require_trainable(preset("gru"), data=True)
        print(config.model.hidden_size)  # 147
    """
    order, file = pixel_order(config.task.permutation), file or read_layer(config)
    only_there = elsewhere and config.train.kernel == "native"
    tried = with_values(config, {"train.kernel": "auto"}) if only_there else config
    _start_tensorflow(tried)
    tried = match_units(tried, file)
    try_layer(tried, file)
    if data:
        load_splits(tried, order)
    return replace(tried, train=config.train)


def resume(
    path: str | os.PathLike[str], *, command: str = "", stop_rule: OnEpoch | None = None, machine: Config | None = None
) -> dict[str, Any]:
    """Resume a run that was killed, interrupted or stopped, and return its summary.

    Weights, optimizer state and history become those of an uninterrupted run, bit for bit on one machine. A completed
    run is left unchanged.

    Args:
        path: the run directory.
        command: the command line, for the record.
        stop_rule: as :func:`train`.
        machine: a configuration whose threads, kernel, data, W&B and TensorBoard are used in place of the run's.

    Raises:
        InputError: there is no run at ``path``, another process trains it, or its checkpoint cannot be read
            or does not belong to its other files (NotResumableError).
        RunError: as :func:`train`.

    Example::

        summary = resume("runs/mine")
    """
    run = load_run(path)
    with run.lock():
        summary = run.summary
        if summary and summary.get("status") == "completed":
            return summary
        config, order = run.config, run.pixel_order()
        require_own_files(run, config)
        if machine is not None:
            here = replace(config.train, threads=machine.train.threads, kernel=machine.train.kernel)
            config = replace(
                config, train=here, data=machine.data, wandb=machine.wandb, tensorboard=machine.tensorboard
            )
        _start_tensorflow(config)
        require_same_code(run, config)
        model = build_model(config, run.layer_file)
        kernel = choose_kernel(config, model)
        announce_kernel(kernel, config)
        first = run.environment
        now = describe_environment(command, config.train.threads, kernel.name)
        git, resumed, machine_before = first.get("git"), first.get("resumed"), first.get("machine")
        processor = machine_before.get("processor") if isinstance(machine_before, dict) else None
        before, after = {**first, "processor": processor}, {**now, "processor": now["machine"]["processor"]}
        for key in ("threads", "kernel", "device", "processor", "onednn", "versions"):
            if after[key] != before.get(key):
                warn(
                    f"{key} was {before.get(key)} and is {after[key]}: the last digits may differ from one whole run's"
                )
        commit = git.get("commit") if isinstance(git, dict) else None
        if now["git"]["commit"] != commit:
            warn(f"the commit was {commit} and is {now['git']['commit']}: the run cannot be published")
        record = {**first, "resumed": [*(resumed if isinstance(resumed, list) else []), now]}
        splits = load_splits(config, order)
        announce_run(run, config, first.get("preset"), splits)
        return fit(ReadyRun(run, config, model, splits, kernel), stop_rule, record)


def _start_tensorflow(config: Config) -> None:
    """Start TensorFlow with the threads that suit the kernel; a layer of one's own may run operations side by side."""
    start_tensorflow(config.train.threads, operations=1 if choose_kernel(config).isa else 0)


class LayerFailedError(RunError):
    """A run cannot be trained: a layer of one's own raised an error, or the model is too large for the memory."""


class Ending(NamedTuple):
    """How a run ended: the ``status`` of its summary, the reason where it was stopped, the test results."""

    status: str
    reason: str | None = None
    final: dict[str, Any] | None = None


class ReadyRun(NamedTuple):
    """A run that is ready to be trained; ``model`` is saved, and ``kernel`` computes its layer in training."""

    run: RunDirectory
    config: Config
    model: keras.Sequential
    splits: Splits
    kernel: Kernel


def fit(ready: ReadyRun, stop_rule: OnEpoch | None, record: dict[str, Any] | None = None) -> dict[str, Any]:
    """Train from the last checkpoint, if there is one, to the end; write the summary and return it.

    ``record`` is the new content of ``environment.json`` where the run is resumed; the step is noted from which on.

    Raises:
        NotResumableError, RunError, KeyboardInterrupt: as :func:`train` and :func:`resume`.
    """
    run, config, model, splits, kernel = ready
    trained = make_trainable(model, config, kernel)
    steps = restore(run, config, model, trained)
    if record:
        record["resumed"][-1]["first_step"] = steps
        run.write_json("environment.json", record)
    run.truncate(steps // config.steps_per_epoch, steps)
    tracker = Tracker(config, run.config_id, run.path, run.environment.get("wandb_run_id"), steps)
    callbacks = RunCallbacks(run, config, splits, model, stop_rule, tracker.callbacks(splits.train))
    ending = Ending("failed")
    try:
        ending = _train_to_end(ready, trained, tracker, callbacks)
    finally:
        callbacks.close()
        status, reason, final = ending
        summary = summarize(
            run.history(),
            config,
            status,
            parameters=model.count_params(),
            final=final,
            reason=reason,
            experiment=run.config_id,
            skipped=run.skipped_steps(),
        )
        try:
            with contextlib.suppress(OSError) if status == "failed" else contextlib.nullcontext():
                run.write_json("summary.json", summary)
        finally:
            tracker.finish(summary)
    if callbacks.interruption.requested and status != "interrupted":
        raise KeyboardInterrupt
    return summary


def _train_to_end(ready: ReadyRun, trained: MeasuredSequential, tracker: Tracker, callbacks: RunCallbacks) -> Ending:
    """Train the remaining epochs, save and evaluate the final model; return how the run ended."""
    run, config = ready.run, ready.config
    first_epoch = int(trained.optimizer.iterations) // config.steps_per_epoch
    try:
        with callbacks.interruption:
            if first_epoch and callbacks.early_stop.ask():  # a kill came between its checkpoint and this question
                return Ending("stopped", callbacks.early_stop.reason)
            trained.fit(
                batches(ready.splits.train, config, first_epoch),
                epochs=config.train.n_epochs,
                initial_epoch=first_epoch,
                steps_per_epoch=config.steps_per_epoch,
                callbacks=callbacks.in_order,
                shuffle=False,  # ``batches`` has put them into their order
                verbose=0,
            )
            if callbacks.early_stop.reason:
                return Ending("stopped", callbacks.early_stop.reason)
            if (steps := int(trained.optimizer.iterations)) != config.train.n_epochs * config.steps_per_epoch:
                raise RunError(f"Keras ended the training after {steps:,} steps (unset KERAS_MAX_EPOCHS and the like)")
            return Ending("completed", final=_finish_model(ready, tracker, callbacks))
    except DivergedError as error:
        warn(f"{error}: the run has diverged and is stopped; everything up to here is kept")
        return Ending("diverged", str(error))
    except KeyboardInterrupt:
        return Ending("interrupted")
    except (OSError, MemoryError, tf.errors.ResourceExhaustedError) as error:
        command, fits = train_command(run_dir=run.path, resume="required"), run.resume_file.exists()
        hint = f"the last checkpoint is intact; {command} continues from it" if fits else f"{command} starts over"
        full = isinstance(error, OSError) or re.search("No space left|quota exceeded|open files", str(error))
        kind = RunError if full or fits else LayerFailedError  # after its first epoch, a model is not too large
        raise kind(f"cannot continue {run.path}: {first_line(error)} ({hint})") from error
    except Exception as error:
        own_error = isinstance(error, InputError | RunError) or error is callbacks.early_stop.error
        if own_error or has_stock_layer(config):
            raise
        text = f"model.layer {config.model.layer}: it raised {describe_error(error)}"
        raise LayerFailedError(text) from error


def _finish_model(ready: ReadyRun, tracker: Tracker, callbacks: RunCallbacks) -> dict[str, Any] | None:
    """Write ``model.keras`` and return the test results of the reloaded file; None without a test set."""
    run, test = ready.run, ready.splits.test
    callbacks.close()
    if problem := weight_problem(ready.model):  # of a checkpoint that an older version wrote
        raise DivergedError(problem)
    path = run.path / "model.keras"
    replace_atomically(path, ready.model.save)
    tracker.log_model(path)
    if test is None:
        write_overview(run, None, None)
        return None
    reloaded = load_final_model(run, allow_code=True)  # the code has just been trained
    description = f"evaluating the saved model.keras on stock Keras: {len(test):,} test images"
    interruption = [callbacks.interruption]
    metrics = evaluate_model(reloaded, test, ready.config.test.batch_size, interruption, description)
    if not math.isfinite(metrics.loss):
        raise DivergedError(f"the test loss of model.keras on stock Keras is {metrics.loss}")
    write_predictions(run, test, metrics)
    write_overview(run, test, metrics)
    tracker.log_predictions(test, metrics.predictions)
    return {
        "test_loss": metrics.loss,
        "test_accuracy": metrics.accuracy,
        "test_correct": metrics.correct,
        "test_total": metrics.total,
    }

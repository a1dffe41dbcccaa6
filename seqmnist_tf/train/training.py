"""One run: a configuration goes in, a run directory comes out."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from ..config import Config, LayerFile, config_id, permutation_sha256, read_layer, validate
from ..data import Split, Splits, batches, load_splits, pixel_order
from ..model import Kernel, build_model, check_layer, choose_kernel, make_trainable, match_units
from ..system import RunError, describe_environment, first_line, replace_atomically, start_tensorflow, warn
from .callbacks import DivergedError, RunCallbacks, StopRule, require_same_experiment, restore
from .command_line import train_command
from .metrics import evaluate_model, load_final_model
from .overview import write_overview, write_predictions
from .run_directory import RunDirectory, load_run
from .summary import summarize
from .terminal import Interruption, announce
from .wandb_run import Tracker


def train(
    config: Config,
    path: str | os.PathLike[str],
    *,
    preset: str | None = None,
    command: str = "",
    stop_rule: StopRule | None = None,
    layer_file: LayerFile | None = None,
    wandb_group: str | None = None,
) -> dict[str, Any]:
    """Train a configuration and return the summary of its run.

    The code of ``model.layer`` is run, where it is not a stock layer.

    Args:
        config: the experiment.
        path: the run directory to make.
        preset: the name of the preset that the configuration started from, for the record.
        command: the command line, for the record.
        stop_rule: takes the history after each epoch; a reason that it returns ends the run as ``stopped``.
        layer_file: the layer's file, in place of the one that ``model.layer`` names.
        wandb_group: the group of the run in W&B; None is its ``config_id``.

    Returns:
        The content of ``summary.json``. Its ``status`` is ``completed``, ``diverged``, ``stopped`` or ``interrupted``.

    Raises:
        InputError: the configuration is not valid, or ``path`` exists.
        RunError: no data, or a full disk; the run's status is ``failed`` if it had begun.
        KeyboardInterrupt: it was interrupted after its last batch, and its summary is written.
        Exception: what the code of a custom layer raises.

    Example::

        summary = train(preset("quickstart"), "runs/mine")
        print(summary["final"]["test_accuracy"])
    """
    path = Path(path)
    config = validate(config)
    file = layer_file or read_layer(config)
    order = pixel_order(config.task.permutation)
    RunDirectory.refuse_existing(path)
    config, model, kernel = _build_and_check(config, file)
    splits = load_splits(config, order)
    record = describe_environment(command, config.train.threads, kernel.name)
    order_file_sha256 = permutation_sha256(config)
    record.update(
        preset=preset,
        config_id=config_id(config, file, order_sha256=order_file_sha256),
        seed=config.train.seed,
        **({"permutation_sha256": order_file_sha256} if order_file_sha256 else {}),
        wandb_run_id=uuid.uuid4().hex[:8],
        resumed=[],
    )
    run = RunDirectory.create(path, config, record, order, file)
    with run.lock():
        return _fit(run, config, model, splits, kernel, stop_rule, record, wandb_group)


def require_trainable(config: Config, file: LayerFile | None = None, *, data: bool = False) -> Config:
    """Try a configuration as :func:`train` would train it here, without a run; return it with its final units.

    This runs the code of ``model.layer``, where it is not a stock layer; with ``data``, the images are read, too.
    Errors as :func:`train`.
    """
    order = pixel_order(config.task.permutation)
    config, _, _ = _build_and_check(config, file or read_layer(config))
    if data:
        load_splits(config, order)
    return config


def _build_and_check(config: Config, file: LayerFile | None) -> tuple[Config, keras.Sequential, Kernel]:
    """Return a configuration with its final units, its model and its kernel, after the check of its layer."""
    _start_tensorflow(config)
    config = match_units(config, file)
    check_layer(config, file)
    model = build_model(config, file)
    return config, model, choose_kernel(config, model)


def resume(
    path: str | os.PathLike[str],
    *,
    command: str = "",
    stop_rule: StopRule | None = None,
    machine: Config | None = None,
    wandb_group: str | None = None,
) -> dict[str, Any]:
    """Resume a run that was killed, interrupted or stopped, and return its summary.

    Weights, optimizer state and history become those of an uninterrupted run, bit for bit on one machine. A completed
    run is left unchanged. With ``machine``, threads, kernel, data, W&B and TensorBoard are those of that configuration.
    Errors as :func:`train`; InputError where its checkpoint cannot be read or does not belong to its other files.
    """
    run = load_run(path)
    with run.lock():
        summary = run.summary
        if summary and summary.get("status") == "completed":
            return summary
        config, order = run.config, run.pixel_order()
        if machine is not None:
            here = replace(config.train, threads=machine.train.threads, kernel=machine.train.kernel)
            config = replace(
                config, train=here, data=machine.data, wandb=machine.wandb, tensorboard=machine.tensorboard
            )
        _start_tensorflow(config)
        require_same_experiment(run, config)
        model = build_model(config, run.layer_file)
        kernel = choose_kernel(config, model)
        splits = load_splits(config, order)
        record = run.environment
        now = describe_environment(command, config.train.threads, kernel.name)
        before, after = ({**one, "processor": one["machine"]["processor"], **one["git"]} for one in (record, now))
        for key in ("threads", "kernel", "device", "processor", "onednn", "versions", "commit"):
            if after[key] != before.get(key):
                warn(
                    f"{key} was {before.get(key)} and is {after[key]}: the last digits may differ from one whole run's"
                )
        record["resumed"].append(now)
        return _fit(run, config, model, splits, kernel, stop_rule, record, wandb_group)


def _start_tensorflow(config: Config) -> None:
    """Start TensorFlow with the threads that suit the kernel; a custom layer may run operations side by side."""
    start_tensorflow(config.train.threads, operations=1 if choose_kernel(config).isa else 0)


def _fit(
    run: RunDirectory,
    config: Config,
    model: keras.Sequential,
    splits: Splits,
    kernel: Kernel,
    stop_rule: StopRule | None,
    record: dict[str, Any],
    wandb_group: str | None,
) -> dict[str, Any]:
    """Train from the last checkpoint, if there is one, to the end; write the summary and return it.

    ``model`` is saved, and ``kernel`` computes its layer in training. ``record`` is the content of
    ``environment.json``; of a resumed run, the step is noted from which on.
    """
    announce(run, config, record.get("preset"), model, kernel, splits)
    trained = make_trainable(model, config, kernel)
    steps = restore(run, config, trained)
    first_epoch = steps // config.steps_per_epoch
    if record["resumed"]:
        record["resumed"][-1]["first_step"] = steps
        run.write_json("environment.json", record)
    run.begin_logs_at(first_epoch, steps)
    tracker = Tracker(config, run.config_id, run.path, record.get("wandb_run_id"), wandb_group)
    callbacks = RunCallbacks(run, config, splits, model, stop_rule, tracker.callbacks(splits.train))
    try:
        summary = _train_to_end(run, config, model, trained, splits, callbacks, tracker)
    except OSError as error:
        command = train_command(run_dir=run.path, resume=True)
        raise RunError(f"cannot continue {run.path}: {first_line(error)} (resume it: {command})") from error
    if callbacks.interruption.requested and summary["status"] != "interrupted":
        raise KeyboardInterrupt
    return summary


def _train_to_end(
    run: RunDirectory,
    config: Config,
    model: keras.Sequential,
    trained: keras.Sequential,
    splits: Splits,
    callbacks: RunCallbacks,
    tracker: Tracker,
) -> dict[str, Any]:
    """Train, and write what a finished run has. However it ends, the summary is written; return it."""
    first_epoch = int(trained.optimizer.iterations) // config.steps_per_epoch
    status, reason, final = "failed", None, None
    try:
        with callbacks.interruption:
            # A kill can have come between the checkpoint of the last epoch and the question to the stop rule.
            if not (first_epoch and callbacks.early_stop.ask_rule()):
                trained.fit(
                    batches(splits.train, config, first_epoch),
                    epochs=config.train.n_epochs,
                    initial_epoch=first_epoch,
                    steps_per_epoch=config.steps_per_epoch,
                    callbacks=callbacks.in_order,
                    shuffle=False,  # ``batches`` has put them into their order
                    verbose=0,
                )
            reason = callbacks.early_stop.reason
            if not reason:
                callbacks.close()
                final = _finish_model(run, config, model, splits.test, tracker, callbacks.interruption)
            status = "stopped" if reason else "completed"
    except DivergedError as error:
        warn(f"{error}: the run has diverged and is stopped; everything up to here is kept")
        status, reason = "diverged", str(error)
    except KeyboardInterrupt:
        status = "interrupted"
    finally:
        summary = summarize(
            run.history(),
            config,
            status,
            parameters=model.count_params(),
            final=final,
            reason=reason,
            experiment=run.config_id,
            skipped=len(run.skipped_steps()),
        )
        _close(run, callbacks, tracker, summary)
    return summary


def _close(run: RunDirectory, callbacks: RunCallbacks, tracker: Tracker, summary: dict[str, Any]) -> None:
    """Close the logs, write the summary and close W&B: each of them even where another fails, as on a full disk."""
    try:
        callbacks.close()
    finally:
        try:
            run.write_json("summary.json", summary)
        finally:
            tracker.finish(summary)


def _finish_model(
    run: RunDirectory,
    config: Config,
    model: keras.Sequential,
    test: Split | None,
    tracker: Tracker,
    interruption: Interruption,
) -> dict[str, Any] | None:
    """Write ``model.keras`` and return the test results of the reloaded file; None without a test set."""
    path = run.path / "model.keras"
    replace_atomically(path, model.save)
    tracker.log_model(path)
    if test is None:
        write_overview(run, None, None)
        return None
    reloaded = load_final_model(run, allow_code=True)  # the code has just been trained
    description = f"evaluating the saved model.keras on stock Keras: {len(test):,} test images"
    metrics = evaluate_model(reloaded, test, config.test.batch_size, [interruption], description)
    write_predictions(run, test, metrics)
    write_overview(run, test, metrics)
    tracker.log_predictions(test, metrics.predictions)
    return metrics.summary_values

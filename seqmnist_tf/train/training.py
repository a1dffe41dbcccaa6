"""One run: a configuration goes in, a run directory comes out."""

from __future__ import annotations

import os
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import Config, config_id, layer_file, permutation_sha256, validate
from ..data import load_splits, pixel_order
from ..model import (
    LayerFactory,
    build_model,
    check_layer,
    choose_kernel,
    match_units,
    module_code,
    try_layer,
    with_layer,
)
from ..system import (
    describe_environment,
    start_tensorflow,
    warn,
)
from .callbacks import StopRule
from .checkpoint import order_hash, require_own_files, require_same_code
from .first_lines import announce_kernel, announce_model, announce_origin, announce_run
from .fitting import ReadyRun, fit
from .run_directory import RunDirectory


def train(
    config: Config,
    path: str | os.PathLike[str],
    *,
    preset: str | None = None,
    command: str = "",
    stop_rule: StopRule | None = None,
    layer: LayerFactory | None = None,
    layer_path: Path | None = None,
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
        layer_path: the file to read ``model.layer`` from, where it is not the one that the configuration names.

    Returns:
        The content of ``summary.json``. Its ``status`` is ``completed``, ``diverged``, ``stopped`` or ``interrupted``.

    Raises:
        InputError: the configuration is not valid, or ``path`` exists.
        RunError: no data, a full disk, no memory, a layer that fails; the run's status is ``failed`` if it had begun.
        KeyboardInterrupt: it was interrupted after its last batch, and its summary is written.

    Example::

        summary = train(preset("quickstart"), "runs/mine")
        print(summary["final"]["test_accuracy"])
        train(preset("baseline"), "runs/own", layer=MyLayer)
    """
    path = Path(path)
    with tempfile.TemporaryDirectory() as folder:
        config, file = with_layer(config, layer, Path(folder)) if layer else (config, layer_path or layer_file(config))
        config = validate(config)
        order = pixel_order(config.task.permutation)
        RunDirectory.refuse_existing(path)
        _start_tensorflow(config)
        config = match_units(config, file)
        check_layer(config, file)
        source = file.read_bytes() if file else None
        model = build_model(config, file)
        kernel = choose_kernel(config, model)
        announce_kernel(kernel)
        announce_model(config, model)
        splits = load_splits(config, order)
        record = describe_environment(command, config.train.threads, kernel.name)
        order_file_sha256 = permutation_sha256(config)
        record.update(
            preset=preset,
            config_id=config_id(config, source, order_sha256=order_file_sha256),
            seed=config.train.seed,
            pixel_order_sha256=order_hash(order),
            **({"permutation_sha256": order_file_sha256} if order_file_sha256 else {}),
            **({"layer_code": code} if (code := module_code(config)) else {}),
            wandb_run_id=uuid.uuid4().hex[:8],
            resumed=[],
        )
        run = RunDirectory.create(path, config, record, order, source)
    announce_run(run, config, preset, splits)
    announce_origin(record, config)
    with run.lock():
        return fit(ReadyRun(run, config, model, splits, kernel), stop_rule)


def require_trainable(config: Config) -> None:
    """Try a configuration as :func:`train` does, without data and without a run.

    Raises:
        InputError: its pixel order cannot be read, its layer cannot be used, or its kernel is not to be had here.
    """
    file = layer_file(config)
    pixel_order(config.task.permutation)
    _start_tensorflow(config)
    try_layer(match_units(config, file), file)


def require_data(config: Config) -> None:
    """Read the images of a configuration, before anything is written.

    Raises:
        InputError: the folder of the data cannot be read or written.
        RunError: no source of MNIST could be reached.
    """
    load_splits(config, pixel_order(config.task.permutation))


def resume(
    path: str | os.PathLike[str],
    *,
    command: str = "",
    stop_rule: StopRule | None = None,
    machine: Config | None = None,
) -> dict[str, Any]:
    """Resume a run that was killed, interrupted or stopped, and return its summary.

    Weights, optimizer state and history become those of an uninterrupted run, bit for bit on one machine. A completed
    run is left unchanged.

    Args:
        path: the run directory.
        command: the command line, for the record.
        stop_rule: as :func:`train`.
        machine: a configuration whose threads, kernel, data and W&B are used in place of the run's.

    Raises:
        InputError: there is no run at ``path``, another process trains it (BusyError), or its checkpoint cannot be read
            or does not belong to its other files (NotResumableError).
        RunError: as :func:`train`.

    Example::

        summary = resume("runs/mine")
    """
    run = RunDirectory.open(path)
    with run.lock():
        summary = run.summary
        if summary and summary.get("status") == "completed":
            return summary
        config, order = run.config, run.pixel_order()
        require_own_files(run, config)
        if machine is not None:
            here = replace(config.train, threads=machine.train.threads, kernel=machine.train.kernel)
            config = replace(config, train=here, data=machine.data, wandb=machine.wandb)
        _start_tensorflow(config)
        require_same_code(run, config)
        model = build_model(config, run.layer_file)
        kernel = choose_kernel(config, model)
        announce_kernel(kernel)
        first = run.environment
        now = describe_environment(command, config.train.threads, kernel.name)
        for key in ("threads", "kernel", "device", "onednn", "versions"):
            if now[key] != first.get(key):
                warn(f"{key} was {first.get(key)} and is {now[key]}: the last digits may differ from one whole run's")
        git, resumed = first.get("git"), first.get("resumed")
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

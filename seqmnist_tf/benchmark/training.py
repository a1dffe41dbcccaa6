"""Training steps and evaluations in turns, each implementation in its own process."""

from __future__ import annotations

import contextlib
import functools
import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from .. import config as cfg
from .. import data
from ..kernel import native
from ..model import build_model, choose_kernel, make_trainable, match_units
from ..system import (
    InputError,
    available_cores,
    describe_machine,
    git_state,
    note,
    package_versions,
    peak_mb,
    start_tensorflow,
    utc_now,
    warn,
)

BASELINE_PARAMETERS = 67_850
TRAIN_IMAGES = 2000  # training steps go through these, again and again
MAX_ROUNDS = {"train": 21, "evaluate": 3}
CELL_ROUNDS = {"train": 11}
MAX_SECONDS = 30.0  # after which no further round of an action begins
PAUSE_SECONDS = 0.05  # between turns: threads of the other process may still spin

Timings = dict[str, dict[str, Any]]  # a row of the JSON document by kernel


def configure(layer: str, kernel: str) -> cfg.Config:
    """Return the baseline with a layer, which gets the baseline's number of parameters, and a kernel."""
    values = {"model.layer": layer, "model.match_parameters": BASELINE_PARAMETERS, "train.kernel": kernel}
    return cfg.validate(cfg.with_values(cfg.preset("baseline"), values))


def measure_training() -> dict[str, Any]:
    """Measure the baseline; return the command's JSON document."""
    with _sequences() as file:
        rows = measure("LSTM", file, MAX_ROUNDS)
    return {"train_step": rows["train"], "evaluate": rows["evaluate"], **_origin("native" in rows["train"])}


def measure_cells(layers: Sequence[str]) -> dict[str, Any]:
    """Measure the training step of layers, given as ``model.layer``; return the command's JSON document."""
    for layer in layers:
        configure(layer, "keras")  # a layer that cannot be ends the command before anything is measured
    cells = []
    with _sequences() as file:
        for layer in layers:
            rows = measure(layer, file, CELL_ROUNDS)["train"]
            cells.append({"layer": layer, **rows})
    return {"cells": cells, **_origin(any("native" in row for row in cells))}


def measure(layer: str, sequences: Path, rounds: dict[str, int]) -> dict[str, Timings]:
    """Let stock Keras and the native kernel do actions in turns; return the rows of each action.

    ``rounds`` says how many turns of ``train``, one step, and ``evaluate`` each of them has at most. A kernel that
    cannot compute the layer is left out, with a warning.
    """
    spawn = multiprocessing.get_context("spawn")
    rows: dict[str, Timings] = {}
    with contextlib.ExitStack() as stack:
        pools: dict[str, ProcessPoolExecutor] = {}
        for kernel in ("keras", "native"):
            note(f"{layer}: starting {kernel}")
            operations = 1 if kernel == "native" and ":" not in layer else 0  # as train does
            pool = stack.enter_context(ProcessPoolExecutor(1, spawn, start_tensorflow, (0, operations)))
            try:
                pool.submit(time_action, kernel, layer, sequences, "train").result()
                pools[kernel] = pool
            except InputError as error:
                if kernel == "keras":
                    raise
                warn(f"left out: {error}")
        for action, number in rounds.items():
            answers: dict[str, list[dict[str, Any]]] = {kernel: [] for kernel in pools}
            end = time.perf_counter() + MAX_SECONDS
            for done in range(number):
                if done and time.perf_counter() > end:
                    break
                for kernel, pool in pools.items():
                    answers[kernel].append(pool.submit(time_action, kernel, layer, sequences, action).result())
                    time.sleep(PAUSE_SECONDS)
            rows[action] = summarize_times(answers)
            for kernel, row in rows[action].items():
                note(f"{layer}: {action} on {kernel}: {row['median_ms']:.1f} ms")
    return rows


def time_action(kernel: str, layer: str, sequences: Path, action: str) -> dict[str, Any]:
    """Do an action in this process; return its ``ms`` and the process's ``peak_mb`` so far (None off Linux)."""
    call = _actions(kernel, layer, sequences)[action]
    start = time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    return {"ms": 1e3 * seconds, "peak_mb": peak_mb()}


@functools.cache
def _actions(kernel: str, layer: str, sequences: Path) -> dict[str, Callable[[], Any]]:
    """Build the model, do each action once on a batch, and return the actions."""
    config = match_units(configure(layer, kernel))
    stock = build_model(config)
    model = make_trainable(stock, config, choose_kernel(config, stock))
    with np.load(sequences) as arrays:
        x, y, test = (arrays[name] for name in ("x", "y", "test"))
    size = min(config.train.batch_size, len(x))
    starts = itertools.cycle(range(0, len(x) - size + 1, size))

    def train() -> None:
        part = slice(start := next(starts), start + size)
        model.train_on_batch(x[part], y[part])

    def evaluate(sequences: np.ndarray = test) -> None:
        model.predict(data.in_batches(sequences, config.test.batch_size), verbose=0)

    train()
    evaluate(test[: config.test.batch_size])
    return {"train": train, "evaluate": evaluate}


def summarize_times(answers: dict[str, list[dict[str, Any]]]) -> Timings:
    """Return the row of each kernel from the answers of its turns."""
    rows: Timings = {}
    for kernel, turns in answers.items():
        times = np.array([turn["ms"] for turn in turns])
        low, median, high = np.percentile(times, (25, 50, 75)).tolist()
        rows[kernel] = {
            "median_ms": median,
            "quartiles_ms": [low, high],
            "range_ms": [times.min().item(), times.max().item()],
            "turns": len(times),
            "ratio": rows.get("keras", {"median_ms": median})["median_ms"] / median,
            "peak_mb": turns[-1]["peak_mb"],
        }
    return rows


@contextlib.contextmanager
def _sequences() -> Iterator[Path]:
    """Keep x float32 (n, 784, 1) and y int32 (n,) to train on, and test to evaluate, in a temporary file."""
    (x, y), (test, _) = data.load_sequences(limit_train=TRAIN_IMAGES)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sequences.npz"
        np.savez(path, x=x, y=y, test=test)
        yield path


def _origin(has_native: bool) -> dict[str, Any]:
    return {
        "isa": native.instruction_set() if has_native else None,
        "threads": available_cores(),
        "versions": package_versions(),
        "machine": describe_machine(),
        "git": git_state(),
        "measured": utc_now(),
    }

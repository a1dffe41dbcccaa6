"""Speed of the baseline's training step and evaluation: contenders take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..kernel import native
from ..system import RunError, describe_machine, git_state, note, package_versions, utc_now
from .contenders import CONTENDERS, Workload
from .process import ContenderProcess, contender_processes

MAX_ROUNDS = {"train": 21, "evaluate": 3}  # each contender has one turn in a round
MAX_SECONDS = {"train": 100.0, "evaluate": 60.0}  # after which no further round begins
PAUSE_SECONDS = 0.05  # between turns: threads of the contender before may still spin
SCALING: tuple[dict[str, int], ...] = (
    *({"batch": batch} for batch in (25, 50, 100, 200, 400, 800)),
    *({"steps": steps} for steps in (196, 784, 1568)),
    *({"units": units} for units in (64, 128, 256)),
    {"steps": 1024, "features": 3},
    {"layers": 2},
)
SCALING_ROUNDS = 5
CELLS = (
    "LSTM",
    "GRU",
    "SimpleRNN",
    "examples/ur_lstm.py:URLSTM",
    "examples/lem.py:LEM",
    "examples/min_lstm.py:MinLSTM",
    "examples/cornn.py:CoRNN",
)
CELL_ROUNDS = 11
PEAK_ROUNDS = 5  # a peak is the best of these
GATES = 4

Answers = dict[str, list[dict[str, Any]]]
"""Of each contender, its answers turn by turn: ``ms`` and ``peak_mb``."""


def measure_training(workload: Workload) -> dict[str, Any]:
    """Measure all contenders that are installed; return the command's JSON document."""
    names = [name for name, contender in CONTENDERS.items() if contender.installed]
    with contender_processes(names, workload) as started:
        versions = {process.name: process.version for process in started}
        results = {
            action: summarize_times(take_turns(started, action, MAX_ROUNDS[action], MAX_SECONDS[action]))
            for action in ("train", "evaluate")
        }
    document: dict[str, Any] = {
        "train_step": results["train"],
        "evaluate": results["evaluate"],
        "isa": None,
        "ratio_native": None,
        "limit": None,
        "workload": {"batch": workload.batch, "steps": workload.steps, "units": workload.units},
        "threads": workload.threads,
        "versions": versions,
        "machine": describe_machine(),
        "git": git_state(),
        "measured": utc_now(),
    }
    if "native" in results["train"]:
        document["isa"] = native.instruction_set()
        document["ratio_native"] = results["train"]["native"]["ratio"]
        document["limit"] = training_step_limit(workload)
    return document


def measure_scaling(workload: Workload) -> list[dict[str, Any]]:
    """Measure the training step of stock Keras and of the native kernel as its sizes change."""
    rows = []
    for change in SCALING:
        values: dict[str, Any] = dict(change)
        with contender_processes(("keras", "native"), replace(workload, **values)) as started:
            answers = take_turns(started, "train", SCALING_ROUNDS, MAX_SECONDS["train"])
        medians = {name: row["median_ms"] for name, row in summarize_times(answers).items()}
        *others, (size, value) = change.items()
        row = {"size": ", ".join([*(f"{key} {number}" for key, number in others), size]), "value": value, **medians}
        rows.append(row)
        note(f"{row['size']} {value}: {medians}")
    return rows


def measure_cells(workload: Workload, layers: Sequence[str]) -> dict[str, Any]:
    """Measure the training step of layers on stock Keras and on the native kernel; return the command's JSON document.

    Args:
        layers: as ``model.layer``. Where the kernel does not compute one, a warning says why.
    """
    rows = []
    for layer in layers:
        with contender_processes(("keras", "native"), replace(workload, layer=layer)) as started:
            if not started:
                raise RunError(f"{layer} trains neither on stock Keras nor on the native kernel")
            answers = take_turns(started, "train", CELL_ROUNDS, MAX_SECONDS["train"])
        rows.append({"layer": layer, **summarize_times(answers)})
        note(f"{layer}: { {name: round(row['median_ms'], 1) for name, row in summarize_times(answers).items()} }")
    return {
        "cells": rows,
        "isa": native.instruction_set() if any("native" in row for row in rows) else None,
        "threads": workload.threads,
        "versions": package_versions(),
        "machine": describe_machine(),
        "git": git_state(),
        "measured": utc_now(),
    }


def take_turns(processes: Sequence[ContenderProcess], action: str, rounds: int, seconds: float) -> Answers:
    """Let each contender do an action in turn, for ``rounds`` rounds or until ``seconds`` are over, at least once."""
    answers: Answers = {process.name: [] for process in processes}
    end = time.perf_counter() + seconds
    for done in range(rounds):
        if done and time.perf_counter() > end:
            break
        for process in processes:
            answers[process.name].append(process.do(action))
            time.sleep(PAUSE_SECONDS)
    return answers


def summarize_times(answers: Answers) -> dict[str, dict[str, Any]]:
    """Return for each contender its median, quartiles and range in ms, its speed-up over stock Keras, its memory."""
    keras = statistics.median(answer["ms"] for answer in answers["keras"]) if answers.get("keras") else None
    rows = {}
    for name, list_of_answers in answers.items():
        times = sorted(answer["ms"] for answer in list_of_answers)
        low, median, high = np.percentile(times, (25, 50, 75)).tolist()
        rows[name] = {
            "median_ms": median,
            "quartiles_ms": [low, high],
            "range_ms": [times[0], times[-1]],
            "turns": len(times),
            "ratio": None if keras is None else keras / median,
            "peak_mb": list_of_answers[-1]["peak_mb"],
        }
    return rows


def training_step_limit(workload: Workload) -> dict[str, float]:
    """Return the time that the matrix products of a training step take at the measured peak of this machine.

    The recurrent product and its two gradients take 2 * 4 * units**2 operations each for a row and step, and on AMX
    four, four and three times as many, in bfloat16. A row's first steps, up to its first pixel that differs from the
    background, are computed once for the batch.

    Returns:
        ``gflops``, the peak; ``own_steps``, the share of steps that are computed for each row, 0 to 1; ``products_ms``.
    """
    sequences = workload.sequences("train")[..., 0]
    own_steps = 1 - np.logical_and.accumulate(sequences == sequences[0, 0], axis=1).mean()
    row_steps = workload.batch * workload.steps * own_steps
    products = 4 + 4 + 3 if native.instruction_set() == "amx" else 3
    operations = row_steps * products * 2 * GATES * workload.units**2
    peak = max(native.peak_flops(workload.threads) for _ in range(PEAK_ROUNDS))
    return {"gflops": peak / 1e9, "own_steps": float(own_steps), "products_ms": 1e3 * operations / peak}

"""Training steps and evaluations in turns, each implementation in a process of its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import config as cfg
from .. import data
from ..kernel import native
from ..model import Images, Timed, TimingProcess, match_units
from ..system import InputError, available_cores, describe_machine, git_state, note, package_versions, utc_now, warn
from .models import MODELS

BASELINE_PARAMETERS = 67_850
TRAIN_IMAGES = 2000  # training steps go through these, again and again
MAX_ROUNDS = {"train": 21, "evaluate": 3}
CELL_ROUNDS = {"train": 11}
MODEL_ROUNDS = {"train": 3, "evaluate": 3}  # a turn is the mean of many steps
MAX_SECONDS = 30.0  # after which no further round of an action begins
ORDERS = {"train": ("time_step",), "evaluate": ("time_evaluation", "trained")}
PAUSE_SECONDS = 0.05  # between turns: threads of the other process may still spin

SERVE_TRAINING = "from seqmnist_tf.model import serve_requests; serve_requests()"
SERVE_MODELS = "from seqmnist_tf.benchmark.models import serve; serve()"

Timings = dict[str, dict[str, Any]]  # a row of the JSON document by kernel


def configure(layer: str, kernel: str) -> cfg.Config:
    """Return the baseline with a layer, which gets the baseline's number of parameters, and a kernel."""
    values = {"model.layer": layer, "model.match_parameters": BASELINE_PARAMETERS, "train.kernel": kernel}
    return cfg.validate(cfg.with_values(cfg.preset("baseline"), values))


def measure_training(rivals: Mapping[str, Request] | None = None) -> dict[str, Any]:
    """Measure the baseline, and with ``rivals`` what else computes it; return the command's JSON document."""
    images = _images()
    rows = in_turns({**_kernels("LSTM", images), **(rivals or {})}, MAX_ROUNDS)
    return {"train_step": rows["train"], "evaluate": rows["evaluate"], **_origin("native" in rows["train"])}


def measure_cells(layers: Sequence[str]) -> dict[str, Any]:
    """Measure the training step of layers, given as ``model.layer``; return the command's JSON document."""
    for layer in layers:
        configure(layer, "keras")  # a layer that cannot be ends the command before anything is measured
    images = _images()
    cells = [{"layer": layer, **in_turns(_kernels(layer, images), CELL_ROUNDS)["train"]} for layer in layers]
    return {"cells": cells, **_origin(any("native" in row for row in cells))}


def measure_models() -> dict[str, Any]:
    """Measure a training step and ``predict`` of everyday models; return the command's JSON document."""
    models = []
    for name, everyday in MODELS.items():
        requests = {kernel: Request((name, kernel), SERVE_MODELS) for kernel in ("keras", "native")}
        row = {"model": name, "about": everyday.about, "steps": everyday.shape[0], "batch": everyday.batch}
        models.append({**row, **in_turns(requests, MODEL_ROUNDS)})
    return {"models": models, **_origin(True)}


class Request(NamedTuple):
    """What a process times: the arguments of a model, and the program that makes it and answers."""

    arguments: tuple[Any, ...]
    code: str = SERVE_TRAINING


def _kernels(layer: str, images: Images) -> dict[str, Request]:
    """Return the requests for a layer on stock Keras and, if the native kernel can compute it, on that."""
    return {kernel: Request((match_units(configure(layer, kernel)), None, images)) for kernel in ("keras", "native")}


def in_turns(requests: Mapping[str, Request], rounds: Mapping[str, int]) -> dict[str, Timings]:
    """Let processes do actions in turns; return the rows of each action.

    ``rounds`` says how many turns of ``train``, one step, and ``evaluate`` each of them has at most. A native kernel
    that cannot compute its layer is left out, with a warning.
    """
    rows: dict[str, Timings] = {}
    with contextlib.ExitStack() as stack:
        processes: dict[str, TimingProcess] = {}
        note(f"starting {', '.join(requests)}")
        for name, request in requests.items():
            processes[name] = stack.enter_context(TimingProcess(request.code))
            processes[name].send(*request.arguments)
        for name in requests:
            try:
                processes[name].receive()
            except InputError as error:
                if name != "native":
                    raise
                warn(f"left out: {error}")
                del processes[name]
        for action, number in rounds.items():
            turns: dict[str, list[Timed]] = {name: [] for name in processes}
            end = time.perf_counter() + MAX_SECONDS
            for done in range(number):
                if done and time.perf_counter() > end:
                    break
                for name, process in processes.items():
                    turns[name].append(process.call(*ORDERS[action]))
                    time.sleep(PAUSE_SECONDS)
            rows[action] = summarize_times(turns)
            for name, row in rows[action].items():
                note(f"{action} on {name}: {row['median_ms']:.1f} ms")
    return rows


def summarize_times(turns_of: dict[str, list[Timed]]) -> Timings:
    """Return the row of each kernel from its turns."""
    rows: Timings = {}
    for kernel, turns in turns_of.items():
        times = np.array([1e3 * turn.seconds for turn in turns])
        low, median, high = np.percentile(times, (25, 50, 75)).tolist()
        rows[kernel] = {
            "median_ms": median,
            "quartiles_ms": [low, high],
            "range_ms": [times.min().item(), times.max().item()],
            "turns": len(times),
            "ratio": rows.get("keras", {"median_ms": median})["median_ms"] / median,
            "peak_mb": turns[-1].peak_mb,
        }
    return rows


def _images() -> Images:
    (x, y), (test, _) = data.load_sequences(limit_train=TRAIN_IMAGES)
    return Images(x, y, test)


def _origin(has_native: bool) -> dict[str, Any]:
    return {
        "isa": native.instruction_set() if has_native else None,
        "threads": available_cores(),
        "versions": package_versions(),
        "machine": describe_machine(),
        "git": git_state(),
        "measured": utc_now(),
    }

"""Speed of an exported version: its signatures beside stock ``model.export()``, and the local server under load."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import requests
import tensorflow as tf

from .. import config as cfg
from ..config import Config
from ..data import encode, load_mnist
from ..model import build_model
from ..serve import MODEL_NAME, SavedModel, require_versions
from ..system import InputError, RunError, describe_machine, git_state, package_versions, start_tensorflow, utc_now

TEST_IMAGES = 1000  # requests are made of these
LATENCY_ROUNDS = 50  # at most; each signature has one turn in a round
CALLS = 5  # of a turn, each on other digits
SECONDS_PER_SITUATION = 10.0  # after which no further round begins
CLIENTS = (1, 8, 32)
BODIES = 256  # different requests
TIMEOUT_SECONDS = 30


class Situation(NamedTuple):
    """A kind of request: ``batch`` images, ``rest_ms`` milliseconds after the answer before."""

    batch: int
    rest_ms: int


# The last one is a request after a rest, when caches and processor are cold.
SITUATIONS = (Situation(1, 0), Situation(8, 0), Situation(64, 0), Situation(256, 0), Situation(1, 10))

RequestTensors = tuple[tf.Tensor, tf.Tensor]
"""Images uint8 (n, 28, 28) and the same as sequences float32 (n, 784, 1)."""

Signatures = Mapping[str, Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]]
"""Functions of a request, by name."""


def measure_serving(folder: Path, seconds: float, url: str | None = None) -> dict[str, Any]:
    """Measure the newest version in a folder; return the command's JSON document.

    Args:
        folder: holds at least one exported version.
        seconds: duration of the load for each number of clients.
        url: another server, TF Serving for example, that is measured beside the local one; its rows are ``other``.

    Raises:
        InputError: the version cannot be read, has no signature ``trace``, or is not of a stock LSTM.
        RunError: the local server does not start, or a server gives no answer.
    """
    start_tensorflow(0)
    version, path = list(require_versions(folder).items())[-1]
    saved = SavedModel.load(path)
    if "trace" not in saved.signatures or saved.description["config"]["model"]["layer"] != "LSTM":
        raise InputError(f"{path} is not of a stock LSTM with the signature trace, which alone can be measured")
    images = load_mnist("auto", None, ("test",))["test"].images[:TEST_IMAGES]
    if url:
        measure_load(url, images, 1, min(seconds, 1))  # a server that does not answer is an error at once
    return {
        "version": version,
        "bytes": sum(path.stat().st_size for path in saved.path.rglob("*") if path.is_file()),
        "latency": measure_latency(saved, images),
        "server": measure_server(folder, images, seconds),
        **({"other": {"url": url, "load": measure_clients(url, images, seconds)}} if url else {}),
        "versions": package_versions(),
        "machine": describe_machine(),
        "git": git_state(),
        "measured": utc_now(),
    }


def measure_latency(saved: SavedModel, images: np.ndarray) -> list[dict[str, Any]]:
    """Measure the time to an answer in each situation, signatures in turns, on uint8 (n, 28, 28), n at least 256.

    Each situation's row has ``batch``, ``rest_ms``, the medians ``stock_ms``, ``serving_default_ms`` and ``trace_ms``,
    and ``ratio``, the speed-up of ``serving_default`` over stock export.
    """
    description = saved.description
    order = np.array(description["pixel_order"])
    sequences = encode(images, description["config"]["task"]["normalization"], order)
    with tempfile.TemporaryDirectory() as folder:
        stock = export_stock(saved, Path(folder) / "stock")
        (stock_input,) = stock.inputs("serving_default")
        signatures: Signatures = {
            "stock": lambda _, numbers: stock.signatures["serving_default"](**{stock_input: numbers}),
            "serving_default": lambda pixels, _: saved.signatures["serving_default"](images=pixels),
            "trace": lambda pixels, _: saved.signatures["trace"](images=pixels),
        }
        rows = []
        for situation in SITUATIONS:
            requests = _make_requests(images, sequences, situation.batch)
            times = _time_signatures(signatures, requests, situation.rest_ms)
            medians = {f"{name}_ms": statistics.median(each) for name, each in times.items()}
            rows.append(
                {**situation._asdict(), **medians, "ratio": medians["stock_ms"] / medians["serving_default_ms"]}
            )
        return rows


def export_stock(saved: SavedModel, folder: Path) -> SavedModel:
    """Export the Keras model of a version, with its weights, by ``model.export()``; return the SavedModel."""
    model = build_model(cfg.with_values(Config(), cfg.flatten_sections(saved.description["config"])))
    model.set_weights([variable.numpy() for variable in tf.saved_model.load(str(saved.path)).trainable_variables])
    model.export(str(folder), verbose=False)
    return SavedModel.load(folder)


def _make_requests(images: np.ndarray, sequences: np.ndarray, batch: int) -> list[RequestTensors]:
    parts = [slice(n, n + batch) for n in range(0, len(images) - batch + 1, batch)]
    return [(tf.constant(images[part]), tf.constant(sequences[part])) for part in parts[: CALLS * LATENCY_ROUNDS]]


def _time_signatures(
    signatures: Signatures, requests: Sequence[RequestTensors], rest_ms: int
) -> dict[str, list[float]]:
    """Return for each signature the milliseconds of its calls; a first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in signatures}
    end = time.perf_counter() + SECONDS_PER_SITUATION
    for turn in range(LATENCY_ROUNDS + 1):
        for name, call in signatures.items():
            for n in range(CALLS):
                time.sleep(rest_ms / 1e3)
                start = time.perf_counter()
                next(iter(call(*requests[(CALLS * turn + n) % len(requests)]).values())).numpy()
                if turn and n:  # at a turn's first call the caches hold the data of another signature
                    times[name].append(1e3 * (time.perf_counter() - start))
        if turn and time.perf_counter() > end:
            break
    return times


def measure_server(folder: Path, images: np.ndarray, seconds: float) -> list[dict[str, Any]]:
    """Start the local server on a folder of versions and measure it under 1, 8 and 32 clients; return a row for each.

    Raises:
        RunError: the server does not start, or gives no answer.
    """
    command = [sys.executable, "-m", "seqmnist_tf.serve", "--model-dir", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if " at http" not in line:
                raise RunError("the local server did not start")
            url = line.split(" at ")[1].strip()
            return measure_clients(url, images, seconds)
        finally:
            process.terminate()


def measure_clients(url: str, images: np.ndarray, seconds: float) -> list[dict[str, Any]]:
    """Measure a server under 1, 8 and 32 clients; return a row for each, as :func:`measure_load`."""
    return [measure_load(url, images, clients, seconds) for clients in CLIENTS]


def measure_load(url: str, images: np.ndarray, clients: int, seconds: float) -> dict[str, Any]:
    """Let clients send requests of one image, uint8 (n, 28, 28), each after the answer to its last, for some seconds.

    Return ``clients``, ``seconds``, the numbers of ``answers`` and ``errors``, answers ``per_second``, and the 50th,
    95th and 99th percentile of the time to an answer, ``p50_ms``, ``p95_ms``, ``p99_ms``; raise RunError without any.
    """
    bodies = [json.dumps({"instances": [image.tolist()]}) for image in images[:BODIES]]
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        # Clients begin with different bodies.
        jobs = [pool.submit(_send_requests, url, bodies, 97 * client, start + seconds) for client in range(clients)]
        results = [job.result() for job in jobs]
    elapsed = time.perf_counter() - start
    times = [ms for client_times, _ in results for ms in client_times]
    errors = [error for _, client_errors in results for error in client_errors]
    if not times:
        reason = errors[0] if errors else "no request was completed"
        raise RunError(f"the server at {url} gave no answer in {seconds:g} s: {reason}")
    p50, p95, p99 = np.percentile(times, (50, 95, 99)).tolist()
    return {
        "clients": clients,
        "seconds": seconds,
        "answers": len(times),
        "errors": len(errors),
        "per_second": len(times) / elapsed,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
    }


def _send_requests(url: str, bodies: Sequence[str], first: int, end: float) -> tuple[list[float], list[str]]:
    """Send requests one after the other until ``end``; return the milliseconds of each answer, and the errors."""
    times: list[float] = []
    errors: list[str] = []
    n = first
    with requests.Session() as session:
        session.trust_env = False  # a proxy of the environment would answer in the server's place
        while (start := time.perf_counter()) < end:
            n += 1
            body = bodies[n % len(bodies)]
            try:
                answer = session.post(f"{url}/v1/models/{MODEL_NAME}:predict", body, timeout=TIMEOUT_SECONDS)
                answer.raise_for_status()
                times.append(1e3 * (time.perf_counter() - start))
            except requests.RequestException as error:
                errors.append(str(error))
    return times, errors

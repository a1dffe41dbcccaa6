"""A server under load."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import requests

from ..serve import MODEL_NAME
from ..system import RunError

CLIENTS = (1, 8, 32)
BODIES = 256  # different requests
TIMEOUT_SECONDS = 30


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
    """Let clients send requests of one image, each after the answer to its last; return how fast the server answers.

    Args:
        url: address of the server, ``http://host:port``.
        images: uint8 (n, 28, 28), n at least 1.
        clients: number of clients at a time.
        seconds: duration.

    Returns:
        ``clients``, ``seconds``, the numbers of ``answers`` and ``errors``, answers ``per_second``, and the 50th, 95th
        and 99th percentile of the time to an answer, ``p50_ms``, ``p95_ms``, ``p99_ms``.

    Raises:
        RunError: the server gives no answer.
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
        reason = errors[0] if errors else "no client had the time to ask"
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

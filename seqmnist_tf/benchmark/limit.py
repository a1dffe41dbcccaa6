"""The limit that a machine sets to the native kernel's training step."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..kernel import native
from .workload import Workload

PEAK_ROUNDS = 5  # a peak is the best of these
GATES, FLOAT_BYTES = 4, 4
COPIED_FLOATS = 2**26  # by all threads together: read and written, 512 MiB, more than a cache of all cores
LEAST_COPIED = 2**22  # by one thread: 32 MiB, more than a core's own cache


def training_step_limit(workload: Workload) -> dict[str, float]:
    """Return the shortest training step that the kernel's design allows on this machine, from measured peaks.

    The recurrent product and its two gradients take 2 * 4 * units**2 operations each for a row and step, and on AMX
    four, four and three times as many, in bfloat16. A row's first steps, up to its first
    pixel that differs from the background, are computed once for the batch. Gates and states are written and read once.

    Returns:
        ``gflops`` and ``gb_per_s``, the measured peaks; ``own_steps``, the share of steps that are computed for each
        row, 0 to 1; ``products_ms``, ``memory_ms`` and the larger of them, ``limit_ms``.
    """
    sequences = workload.sequences("train")[..., 0]
    own_steps = 1 - np.logical_and.accumulate(sequences == sequences[0, 0], axis=1).mean()
    row_steps = workload.batch * workload.steps * own_steps
    products = 4 + 4 + 3 if native.instruction_set() == "amx" else 3
    operations = row_steps * products * 2 * GATES * workload.units**2
    kept = row_steps * native.KEPT * workload.units * FLOAT_BYTES
    peak = max(native.peak_flops(workload.threads) for _ in range(PEAK_ROUNDS))
    bandwidth = memory_bandwidth(workload.threads)
    return {
        "gflops": peak / 1e9,
        "gb_per_s": bandwidth / 1e9,
        "own_steps": float(own_steps),
        "products_ms": 1e3 * operations / peak,
        "memory_ms": 1e3 * 2 * kept / bandwidth,
        "limit_ms": 1e3 * max(operations / peak, 2 * kept / bandwidth),
    }


def memory_bandwidth(threads: int) -> float:
    """Return the bytes a second that all threads together read and write, copying arrays larger than any cache."""
    floats = max(LEAST_COPIED, COPIED_FLOATS // threads)
    arrays = [np.ones((2, floats), np.float32) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        best = 0.0
        for _ in range(PEAK_ROUNDS):
            started = time.perf_counter()
            list(pool.map(lambda pair: np.copyto(pair[0], pair[1]), arrays))
            best = max(best, sum(pair.nbytes for pair in arrays) / (time.perf_counter() - started))
    return best

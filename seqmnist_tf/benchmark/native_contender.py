"""The native kernel alone as a contender."""

from __future__ import annotations

import numpy as np

from ..config import NUM_CLASSES
from ..kernel import native
from .workload import TimedFunctions, Workload


def bare_kernel(workload: Workload) -> TimedFunctions:
    """Return the functions of the native kernel, forward and backward, without a model around it."""
    random = np.random.RandomState(0)
    units = workload.units
    scale = units**-0.5
    shapes = ((1, 4 * units), (units, 4 * units), (4 * units,))
    weights = [random.uniform(-scale, scale, shape).astype(np.float32) for shape in shapes]
    gradient = random.standard_normal((workload.batch, units)).astype(np.float32)
    readout = random.standard_normal((units, NUM_CLASSES)).astype(np.float32)

    def train_step(x: np.ndarray, y: np.ndarray) -> float:
        states, kept = native.forward(x, weights, threads=workload.threads, keep=True)
        if kept is not None:
            native.backward(x, weights, kept, gradient, threads=workload.threads)
        return float(states[0, 0])

    def predict(x: np.ndarray) -> np.ndarray:
        return native.forward(x, weights, threads=workload.threads, keep=False)[0] @ readout

    return TimedFunctions(train_step, predict)

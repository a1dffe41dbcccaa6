"""The baseline in JAX as a contender."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..config import NUM_CLASSES, Config
from .workload import TimedFunctions, Workload


def jax_scan(workload: Workload) -> TimedFunctions:
    """Return the functions of the baseline as a compiled ``jax.lax.scan``, with RMSprop and clipping by value."""
    config, units = workload.config, workload.units
    keys = jax.random.split(jax.random.key(0), 4)
    scale = units**-0.5
    shapes = ((1, 4 * units), (units, 4 * units), (4 * units,), (units, NUM_CLASSES))
    pairs = zip(keys, shapes, strict=True)
    weights = [jax.random.uniform(key, shape, minval=-scale, maxval=scale) for key, shape in pairs]
    state = [weights, [jnp.zeros_like(w) for w in weights]]
    update, predict_batch = _make_update(config), jax.jit(_logits)

    def train_step(x: np.ndarray, y: np.ndarray) -> float:
        value, *state[:] = update(*state, x, y)
        return float(value)

    def predict(x: np.ndarray) -> np.ndarray:
        size = config.test.batch_size
        return np.concatenate([np.asarray(predict_batch(state[0], x[i : i + size])) for i in range(0, len(x), size)])

    return TimedFunctions(train_step, predict)


def _logits(weights: Any, x: Any) -> Any:
    kernel, recurrent, bias, readout = weights

    def cell(state: Any, pixel: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(pixel @ kernel + h @ recurrent + bias, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    zeros = jnp.zeros((len(x), len(recurrent)))
    return jax.lax.scan(cell, (zeros, zeros), x.swapaxes(0, 1))[0][0] @ readout


def _make_update(config: Config) -> Any:
    """Return the compiled step of RMSprop: weights, mean squares, x and y to the loss, new weights and mean squares."""
    opt = config.optimizer
    clip = opt.grad_clip_value or float("inf")

    def loss(weights: Any, x: Any, y: Any) -> Any:
        return -jnp.take_along_axis(jax.nn.log_softmax(_logits(weights, x)), y[:, None], axis=1).mean()

    @jax.jit
    def update(weights: Any, squares: Any, x: Any, y: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(weights, x, y)
        gradients = [jnp.clip(g, -clip, clip) for g in gradients]
        squares = [opt.rho * s + (1 - opt.rho) * g * g for s, g in zip(squares, gradients, strict=True)]
        updated = zip(weights, gradients, squares, strict=True)
        return value, [w - opt.lr * g / jnp.sqrt(s + opt.epsilon) for w, g, s in updated], squares

    return update

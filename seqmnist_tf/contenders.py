"""The contenders of the benchmark: the baseline's training step and its evaluation, as one would write them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from . import config as cfg
from . import data, runtime
from .config import NUM_CLASSES, NUM_TIMESTEPS, Config
from .errors import first_line

WARM_UP = 2  # training steps and evaluations of one batch before anything is measured


@dataclass(frozen=True)
class Workload:
    """What is measured: the baseline, of another size where asked for.

    Attributes:
        data: a ``.npz`` file with uint8 ``train`` (n, 28, 28), ``labels`` (n,) and ``test`` (m, 28, 28).
        batch: images a training step.
        steps: steps of a sequence; other than 784, pixels are left out or repeated evenly.
        units: hidden units.
        threads: CPU threads.
    """

    data: str
    batch: int = 100
    steps: int = NUM_TIMESTEPS
    units: int = 128
    threads: int = 1

    @property
    def config(self) -> Config:
        """The baseline with these sizes."""
        values = {"model.hidden_size": self.units, "train.batch_size": self.batch, "train.threads": self.threads}
        return cfg.validate(cfg.with_values(cfg.preset("baseline"), values))

    def sequences(self, split: str) -> np.ndarray:
        """Return float32 (n, steps, 1), as the baseline reads ``train`` or ``test``."""
        order = np.linspace(0, NUM_TIMESTEPS - 1, self.steps).round().astype(np.int64)
        return data.encode(np.load(self.data)[split], self.config.task.normalization, order)


@dataclass(frozen=True)
class Contender:
    """Functions to be timed.

    Attributes:
        train_step: sequences float32 (batch, steps, 1) and labels int32 (batch,) to the loss, which it has changed.
        predict: sequences float32 (n, steps, 1) to logits float32 (n, 10).
    """

    train_step: Callable[[np.ndarray, np.ndarray], float]
    predict: Callable[[np.ndarray], np.ndarray]


def keras_model(workload: Workload, kernel: str = "keras", jit_compile: bool = False) -> Contender:
    """The baseline in Keras, its LSTM computed by ``kernel``, with or without XLA."""
    config = workload.config
    config = replace(config, train=replace(config.train, kernel=kernel))
    runtime.import_tensorflow()
    from . import model as models

    chosen = models.start(config)
    import keras

    layers = models.MeasuredSequential.of(models.build_model(config), chosen, workload.threads).layers
    model = keras.Sequential([keras.Input((workload.steps, 1)), *layers])
    models.compile_model(model, config)
    if jit_compile:
        model.compile(optimizer=model.optimizer, loss=model.loss, jit_compile=True)
    return Contender(
        lambda x, y: float(model.train_on_batch(x, y, return_dict=True)["loss"]),
        lambda x: model.predict(data.in_batches(x, config.test.batch_size), verbose=0),
    )


def bare_kernel(workload: Workload) -> Contender:
    """The native kernel alone, forward and backward, without a model around it."""
    from .kernels import native

    random = np.random.RandomState(0)
    units = workload.units
    scale = units**-0.5
    shapes = ((4 * units,), (units, 4 * units), (4 * units,))
    weights = [random.uniform(-scale, scale, shape).astype(np.float32) for shape in shapes]
    upstream = random.standard_normal((workload.batch, units)).astype(np.float32)
    readout = random.standard_normal((units, NUM_CLASSES)).astype(np.float32)

    def train_step(x: np.ndarray, y: np.ndarray) -> float:
        states, kept = native.forward(x[..., 0], weights, threads=workload.threads, keep=True)
        if kept is not None:
            native.backward(x[..., 0], weights, kept, upstream, threads=workload.threads)
        return float(states[0, 0])

    def predict(x: np.ndarray) -> np.ndarray:
        return native.forward(x[..., 0], weights, threads=workload.threads, keep=False)[0] @ readout

    return Contender(train_step, predict)


def pytorch(workload: Workload, flush_denormals: bool = False) -> Contender:
    """The original's training step: ``torch.nn.LSTM``, RMSprop, gradients clipped by value."""
    import torch

    torch.set_num_threads(workload.threads)
    torch.set_flush_denormal(flush_denormals)
    config = workload.config
    lstm = torch.nn.LSTM(1, workload.units, batch_first=True)
    readout = torch.nn.Linear(workload.units, NUM_CLASSES)
    parameters = [*lstm.parameters(), *readout.parameters()]
    optimizer = torch.optim.RMSprop(parameters, lr=config.optimizer.lr)
    cross_entropy = torch.nn.CrossEntropyLoss()

    def logits(x: np.ndarray) -> Any:
        return readout(lstm(torch.from_numpy(x))[0][:, -1])

    def train_step(x: np.ndarray, y: np.ndarray) -> float:
        optimizer.zero_grad()
        loss = cross_entropy(logits(x), torch.from_numpy(y).long())
        loss.backward()
        torch.nn.utils.clip_grad_value_(parameters, config.optimizer.grad_clip_value or float("inf"))
        optimizer.step()
        return float(loss.detach())

    def predict(x: np.ndarray) -> np.ndarray:
        size = config.test.batch_size
        with torch.no_grad():
            return np.concatenate([logits(x[i : i + size]).numpy() for i in range(0, len(x), size)])

    return Contender(train_step, predict)


def jax_scan(workload: Workload) -> Contender:
    """The same LSTM as a ``jax.lax.scan``, compiled, with RMSprop and clipping by value written out."""
    import jax
    import jax.numpy as jnp

    config = workload.config
    units, opt = workload.units, config.optimizer
    clip = opt.grad_clip_value or float("inf")
    keys = jax.random.split(jax.random.key(0), 4)
    scale = units**-0.5
    shapes = ((1, 4 * units), (units, 4 * units), (4 * units,), (units, NUM_CLASSES))
    pairs = zip(keys, shapes, strict=True)
    weights = [jax.random.uniform(key, shape, minval=-scale, maxval=scale) for key, shape in pairs]

    def logits(weights: Any, x: Any) -> Any:
        kernel, recurrent, bias, readout = weights

        def cell(state: Any, pixel: Any) -> Any:
            h, c = state
            i, f, g, o = jnp.split(pixel @ kernel + h @ recurrent + bias, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        zeros = jnp.zeros((len(x), units))
        return jax.lax.scan(cell, (zeros, zeros), x.swapaxes(0, 1))[0][0] @ readout

    def loss(weights: Any, x: Any, y: Any) -> Any:
        return -jnp.take_along_axis(jax.nn.log_softmax(logits(weights, x)), y[:, None], axis=1).mean()

    @jax.jit
    def step(weights: Any, squares: Any, x: Any, y: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(weights, x, y)
        gradients = [jnp.clip(g, -clip, clip) for g in gradients]
        squares = [opt.rho * s + (1 - opt.rho) * g * g for s, g in zip(squares, gradients, strict=True)]
        updated = zip(weights, gradients, squares, strict=True)
        return value, [w - opt.lr * g / jnp.sqrt(s + opt.epsilon) for w, g, s in updated], squares

    state = [weights, [jnp.zeros_like(w) for w in weights]]
    predict_batch = jax.jit(logits)

    def train_step(x: np.ndarray, y: np.ndarray) -> float:
        value, *state[:] = step(*state, x, y)
        return float(value)

    def predict(x: np.ndarray) -> np.ndarray:
        size = config.test.batch_size
        return np.concatenate([np.asarray(predict_batch(state[0], x[i : i + size])) for i in range(0, len(x), size)])

    return Contender(train_step, predict)


# Name, what it is, the package that it needs, and how it is made.
CONTENDERS: dict[str, tuple[str, str, Callable[[Workload], Contender]]] = {
    "keras": ("stock Keras", "keras", keras_model),
    "jit_compile": ("stock Keras, jit_compile=True", "keras", lambda w: keras_model(w, jit_compile=True)),
    "native": ("Keras on the native kernel", "keras", lambda w: keras_model(w, "native")),
    "kernel": ("the native kernel alone", "numpy", bare_kernel),
    "pytorch": ("PyTorch nn.LSTM", "torch", pytorch),
    "pytorch_flush": ("PyTorch, denormals flushed", "torch", lambda w: pytorch(w, flush_denormals=True)),
    "jax": ("JAX lax.scan", "jax", jax_scan),
}


def installed(name: str) -> bool:
    """Tell whether the package that a contender needs is installed."""
    return importlib.util.find_spec(CONTENDERS[name][1]) is not None


def peak_mb() -> float | None:
    """Return the most memory that this process has held at a time, in MB; None where Linux does not tell.

    Not what ``getrusage`` says: that begins with the size of the process that started this one.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None


def serve(name: str, workload: Workload, connection: Connection) -> None:
    """Be a contender's process: say that it is ready, then answer ``train`` and ``evaluate`` until nobody asks.

    An answer is a dictionary: ``ready``, the version of what the contender needs; ``ms`` and ``peak_mb`` for what was
    done; ``error``, a line that says why nothing more will come.
    """
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        try:
            _serve(name, workload, connection)
        except (EOFError, BrokenPipeError):
            raise
        except Exception as error:
            # Whatever a library raises, it is for the process that waits for this one.
            connection.send({"error": f"{type(error).__name__}: {first_line(error)}"})


def _serve(name: str, workload: Workload, connection: Connection) -> None:
    _, package, make = CONTENDERS[name]
    contender = make(workload)
    train, test = workload.sequences("train"), workload.sequences("test")
    labels = np.load(workload.data)["labels"].astype(np.int32)
    starts = itertools.cycle(range(0, len(train) - workload.batch + 1, workload.batch))

    def train_step() -> None:
        part = slice(start := next(starts), start + workload.batch)
        contender.train_step(train[part], labels[part])

    for _ in range(WARM_UP):
        train_step()
        contender.predict(test[: workload.config.test.batch_size])
    actions: dict[str, Callable[[], Any]] = {"train": train_step, "evaluate": lambda: contender.predict(test)}
    connection.send({"ready": importlib.metadata.version(package)})
    while True:
        action = actions[connection.recv()]
        started = time.perf_counter()
        action()
        seconds = time.perf_counter() - started
        connection.send({"ms": 1e3 * seconds, "peak_mb": peak_mb()})

"""The contenders of the training benchmark: the baseline's training step and evaluation, each in its own library.

A library is imported when its contender is made, so that a process holds the library of one contender and no other: its
memory is measured.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .. import config as cfg
from ..config import NUM_CLASSES, NUM_TIMESTEPS, Config
from ..kernel import native
from ..system import start_tensorflow

BASELINE_PARAMETERS = 67_850


@dataclass(frozen=True)
class Workload:
    """The baseline at one size, and its data.

    Attributes:
        data: a ``.npz`` file with float32 ``train`` (n, 784, 1), int32 ``labels`` (n,) and float32 ``test``
            (m, 784, 1): MNIST as the baseline reads it. A file, so that no contender needs TensorFlow to read MNIST.
        batch: images of a training step.
        steps: steps of a sequence.
        features: pixels that a step reads. Where steps and features are not 784 pixels in all, pixels are left out or
            repeated evenly.
        units: hidden units of a layer.
        layers: stacked LSTM layers.
        layer: ``model.layer``. Layers other than the LSTM have as many parameters as the baseline, and its sequences.
        threads: CPU threads.
    """

    data: str
    batch: int = 100
    steps: int = NUM_TIMESTEPS
    features: int = 1
    units: int = 128
    layers: int = 1
    layer: str = "LSTM"
    threads: int = 1

    @property
    def config(self) -> Config:
        """The baseline with these sizes."""
        values = {
            "model.layer": self.layer,
            "model.hidden_size": self.units,
            "model.match_parameters": None if self.layer == "LSTM" else BASELINE_PARAMETERS,
            "train.batch_size": self.batch,
            "train.threads": self.threads,
        }
        return cfg.validate(cfg.with_values(cfg.preset("baseline"), values))

    def sequences(self, split: str) -> np.ndarray:
        """Return the sequences of ``train`` or ``test``, float32 (n, steps, features)."""
        pixels = np.linspace(0, NUM_TIMESTEPS - 1, self.steps * self.features).round().astype(np.int64)
        return np.load(self.data)[split][:, pixels.reshape(self.steps, self.features), 0]

    def labels(self) -> np.ndarray:
        """Return the labels of ``train``, int32 (n,)."""
        return np.load(self.data)["labels"]


@dataclass(frozen=True)
class TimedFunctions:
    """The two functions of a contender that are timed.

    Attributes:
        train_step: sequences float32 (batch, steps, features) and labels int32 (batch,) to the loss; it updates the
            weights.
        predict: sequences float32 (n, steps, features) to logits float32 (n, 10).
    """

    train_step: Callable[[np.ndarray, np.ndarray], float]
    predict: Callable[[np.ndarray], np.ndarray]


def keras_model(workload: Workload, kernel: str = "keras", jit_compile: bool = False) -> TimedFunctions:
    """Return the functions of the baseline in Keras, its LSTM computed by ``kernel``, with or without XLA."""
    import keras  # late: see the head of this module

    from ..data import in_batches  # late: it imports TensorFlow
    from ..kernel import LSTM  # late: it imports keras
    from ..model import build_model, choose_kernel, compile_model, make_trainable, match_units  # late: as above

    config = workload.config
    config = replace(config, train=replace(config.train, kernel=kernel))
    chosen = choose_kernel(config)
    start_tensorflow(config.train.threads, operations=1 if chosen.isa else 0)
    if workload.layer != "LSTM":
        config = match_units(config)
        stock = build_model(config)
        model = make_trainable(stock, config, choose_kernel(config, stock))
    else:
        keras.utils.set_random_seed(config.train.seed)
        model = keras.Sequential([keras.Input((workload.steps, workload.features))])
        for layer in range(workload.layers):
            make = partial(LSTM, threads=workload.threads) if chosen.isa else keras.layers.LSTM
            model.add(make(workload.units, return_sequences=layer < workload.layers - 1))
        model.add(keras.layers.Dense(config.model.output_size))
        compile_model(model, config)
    model.jit_compile = jit_compile
    return TimedFunctions(
        lambda x, y: float(model.train_on_batch(x, y, return_dict=True)["loss"]),
        lambda x: model.predict(in_batches(x, config.test.batch_size), verbose=0),
    )


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


def torch_model(workload: Workload, flush_denormals: bool = False) -> TimedFunctions:
    """Return the functions of the original: ``torch.nn.LSTM``, RMSprop, gradients clipped by value."""
    import torch  # late: see the head of this module

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

    return TimedFunctions(train_step, predict)


def jax_scan(workload: Workload) -> TimedFunctions:
    """Return the functions of the baseline as a compiled ``jax.lax.scan``, with RMSprop and clipping by value."""
    import jax  # late: see the head of this module
    import jax.numpy as jnp  # late: see the head of this module

    config, opt, units = workload.config, workload.config.optimizer, workload.units
    keys = jax.random.split(jax.random.key(0), 4)
    scale, clip = units**-0.5, opt.grad_clip_value or float("inf")
    shapes = ((1, 4 * units), (units, 4 * units), (4 * units,), (units, NUM_CLASSES))
    pairs = zip(keys, shapes, strict=True)
    weights = [jax.random.uniform(key, shape, minval=-scale, maxval=scale) for key, shape in pairs]
    state = [weights, [jnp.zeros_like(w) for w in weights]]

    @jax.jit
    def logits(weights: Any, x: Any) -> Any:
        kernel, recurrent, bias, readout = weights

        def cell(state: Any, pixel: Any) -> Any:
            h, c = state
            i, f, g, o = jnp.split(pixel @ kernel + h @ recurrent + bias, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        zeros = jnp.zeros((len(x), len(recurrent)))
        return jax.lax.scan(cell, (zeros, zeros), x.swapaxes(0, 1))[0][0] @ readout

    def mean_loss(weights: Any, x: Any, y: Any) -> Any:
        return -jnp.take_along_axis(jax.nn.log_softmax(logits(weights, x)), y[:, None], axis=1).mean()

    @jax.jit
    def update(weights: Any, squares: Any, x: Any, y: Any) -> Any:
        value, gradients = jax.value_and_grad(mean_loss)(weights, x, y)
        gradients = [jnp.clip(g, -clip, clip) for g in gradients]
        squares = [opt.rho * s + (1 - opt.rho) * g * g for s, g in zip(squares, gradients, strict=True)]
        updated = zip(weights, gradients, squares, strict=True)
        return value, [w - opt.lr * g / jnp.sqrt(s + opt.epsilon) for w, g, s in updated], squares

    def train_step(x: np.ndarray, y: np.ndarray) -> float:
        value, *state[:] = update(*state, x, y)
        return float(value)

    def predict(x: np.ndarray) -> np.ndarray:
        size = config.test.batch_size
        return np.concatenate([np.asarray(logits(state[0], x[i : i + size])) for i in range(0, len(x), size)])

    return TimedFunctions(train_step, predict)


class Contender(NamedTuple):
    """An implementation of the baseline's training step and evaluation.

    Attributes:
        title: its name in reports.
        package: the package that it needs, whose version is recorded.
        make: from a workload to the functions that are timed.
    """

    title: str
    package: str
    make: Callable[[Workload], TimedFunctions]

    @property
    def installed(self) -> bool:
        """Whether its package is installed."""
        return importlib.util.find_spec(self.package) is not None


CONTENDERS = {
    "keras": Contender("stock Keras", "keras", keras_model),
    "jit_compile": Contender("stock Keras, jit_compile=True", "keras", partial(keras_model, jit_compile=True)),
    "native": Contender("Keras on the native kernel", "keras", partial(keras_model, kernel="native")),
    "kernel": Contender("the native kernel alone", "numpy", bare_kernel),
    "pytorch": Contender("PyTorch nn.LSTM", "torch", torch_model),
    "pytorch_flush": Contender("PyTorch, denormals flushed", "torch", partial(torch_model, flush_denormals=True)),
    "jax": Contender("JAX lax.scan", "jax", jax_scan),
}

"""The workload of the training benchmark: the baseline at one size, and its data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .. import config as cfg
from ..config import NUM_TIMESTEPS, Config


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
        threads: CPU threads.
    """

    data: str
    batch: int = 100
    steps: int = NUM_TIMESTEPS
    features: int = 1
    units: int = 128
    layers: int = 1
    threads: int = 1

    @property
    def config(self) -> Config:
        """The baseline with these sizes."""
        values = {"model.hidden_size": self.units, "train.batch_size": self.batch, "train.threads": self.threads}
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

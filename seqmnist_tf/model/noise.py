"""Noise on recurrent weights in training: each part of a batch sees other weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..config import NOISY_PARTS, Config


@dataclass(frozen=True)
class RecurrentNoise:
    """Gaussian noise on the recurrent weights of a layer; without deviations, there is none."""

    deviations: Sequence[float] = ()  # standard deviations, one for each recurrent weight
    seed: int = 0  # of what is drawn, together with the number of the step

    @classmethod
    def of(cls, config: Config, layer: keras.Layer) -> RecurrentNoise:
        """Return the noise of a configuration for a layer, which has its initial weights."""
        weights = recurrent_weights(layer)
        deviations: Sequence[float] = ()
        if config.train.recurrent_noise:
            deviations = (config.train.recurrent_noise,) * len(weights)
        elif relative := config.train.recurrent_noise_relative:
            deviations = tuple(relative * float(np.std(weight, dtype=np.float64)) for weight in weights)
        return cls(deviations, config.train.seed)

    def draw(self, layer: keras.Layer, step: Any) -> list[list[tf.Tensor]]:
        """Return the values of all trainable weights of the layer for each part of the batch of a step.

        All weights are copied, not the noisy ones alone: so the parts' gradients are added by a sum over an axis, in a
        fixed order. The tape's own sum (``AddN``) begins with a part whose memory it may overwrite; that part differs
        from run to run, and so do the last bits.
        """
        noisy = [id(weight) for weight in recurrent_weights(layer)]
        copies = []
        for weight in layer.trainable_variables:
            parts = tf.broadcast_to(weight.value, (NOISY_PARTS, *weight.shape))
            if id(weight) in noisy:
                number = noisy.index(id(weight))
                seed = tf.stack([tf.constant(self.seed + (number << 32), tf.int64), step])
                parts += self.deviations[number] * tf.random.stateless_normal(parts.shape, seed)
            copies.append(tf.unstack(parts))
        return [list(values) for values in zip(*copies, strict=True)]

    def call(self, layer: keras.Layer, sequences: tf.Tensor, step: Any) -> tf.Tensor:
        """Return the layer's output in training; each part of the batch is computed with its own weights."""
        size = tf.shape(sequences)[0]
        outputs = []
        for part, values in enumerate(self.draw(layer, step)):
            rows = sequences[size * part // NOISY_PARTS : size * (part + 1) // NOISY_PARTS]
            with _OtherWeights(state_mapping=list(zip(layer.trainable_variables, values, strict=True))):
                outputs.append(layer(rows, training=True))
        return tf.concat(outputs, axis=0)


def recurrent_weights(layer: keras.Layer) -> list[keras.Variable]:
    """Return the weights of a layer that ``train.recurrent_noise`` acts on.

    They are those of its attribute ``recurrent_weights``, else the trainable weights with "recurrent" in their name.
    """
    named = getattr(layer, "recurrent_weights", None)
    return list(named) if named is not None else [w for w in layer.trainable_variables if "recurrent" in w.name]


class _OtherWeights(keras.StatelessScope):
    """A scope in which some variables have other values; all others, such as random states, are updated at once.

    Keras keeps updates for the end of a scope. An update inside a loop over timesteps would then belong to that loop.
    """

    def add_update(self, update: tuple[keras.Variable, Any]) -> None:
        variable, value = update
        if id(variable) in self.state_mapping:
            super().add_update(update)
        else:
            variable._direct_assign(value)

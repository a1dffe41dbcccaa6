"""The model that is trained: its step reports each batch's own figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ..config import Config
from ..kernel import DropIn, drop_ins, on_kernel
from .kernel_choice import Kernel
from .noise import RecurrentNoise
from .optimizer import apply_if_finite, compile_model


class MeasuredSequential(keras.Sequential):
    """A Sequential whose training step reports the batch's own figures, not running means.

    Each batch's logs are ``loss``, ``accuracy``, ``gradient_norm`` (over all gradients before clipping) and
    ``weight_norm`` (over all weights after the step). The layers are those of the model that it is made from.
    """

    skips = False  # whether a step with a gradient that is not finite is skipped
    clip_norm: float | None = None  # read only with ``skips``; without, the optimizer clips
    noise = RecurrentNoise()
    drop_ins: Sequence[DropIn] = ()  # what computes its recurrent layers on the native kernel

    @classmethod
    def of(cls, model: keras.Sequential, kernel: Kernel, threads: int = 0) -> MeasuredSequential:
        """Return a measured Sequential over the layers of ``model``, its recurrent layers computed by ``kernel``."""
        measured = cls([keras.Input(model.input_shape[1:]), *model.layers])
        if kernel.isa:
            # Keras must not find them: they have the weights once more, and checkpoints are of Keras's layers.
            measured.__dict__["drop_ins"] = drop_ins(model.layers[0], threads)
        return measured

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: Any = None) -> tf.Tensor:
        with on_kernel(self.drop_ins):
            return super().call(inputs, training=training, mask=mask)

    def save_own_variables(self, store: Any) -> None:
        """Keep the states of random generators, such as dropout's: Keras does not, and a resumed run needs them."""
        for name, state in self._random_states().items():
            store[name] = state.numpy()

    def load_own_variables(self, store: Any) -> None:
        for name, state in self._random_states().items():
            state.assign(store[name])

    def _random_states(self) -> dict[str, keras.Variable]:
        weights = {id(weight) for weight in self.weights}
        states = [variable for variable in self.non_trainable_variables if id(variable) not in weights]
        return {f"random_state_{number}": state for number, state in enumerate(states)}

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Empty: no running mean is kept over the batches of an epoch."""
        return []

    def train_step(self, data: tuple[Any, ...]) -> dict[str, Any]:
        sequences, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            logits = self._noisy_logits(sequences) if self.noise.deviations else self(sequences, training=True)
            loss = self.compute_loss(x=sequences, y=labels, y_pred=logits, sample_weight=weights, training=True)
        gradients = tape.gradient(loss, self.trainable_variables)
        if self.skips:
            norm = apply_if_finite(self.optimizer, gradients, self.trainable_variables, self.clip_norm)
        else:
            self.optimizer.apply(gradients, self.trainable_variables)
            norm = tf.linalg.global_norm(gradients)
        hits = tf.equal(tf.argmax(logits, axis=-1, output_type=labels.dtype), labels)
        return {
            "loss": loss,
            "accuracy": tf.reduce_mean(tf.cast(hits, tf.float32)),
            "gradient_norm": norm,
            "weight_norm": tf.linalg.global_norm(self.trainable_variables),
        }

    def _noisy_logits(self, sequences: tf.Tensor) -> tf.Tensor:
        """Return the logits of a batch, with noise on the recurrent weights."""
        recurrent_layer, *others = self.layers
        step = tf.cast(self.optimizer.iterations.value, tf.int64)
        with on_kernel(self.drop_ins):
            outputs = self.noise.call(recurrent_layer, sequences, step)
        for layer in others:
            outputs = layer(outputs, training=True)
        return outputs


def make_trainable(model: keras.Sequential, config: Config, kernel: Kernel) -> MeasuredSequential:
    """Return a compiled model that trains the layers of ``model`` as the configuration says.

    ``model`` has the initial weights of the seed, on which ``train.recurrent_noise_relative`` depends.
    """
    trained = MeasuredSequential.of(model, kernel, config.train.threads)
    trained.noise = RecurrentNoise.of(config, model.layers[0])
    trained.skips = config.optimizer.nonfinite == "skip"
    trained.clip_norm = config.optimizer.grad_clip_norm
    compile_model(trained, config)
    return trained

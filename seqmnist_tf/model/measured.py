"""The model that is trained: a Sequential whose step reports each batch's own figures."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from ..config import NOISY_PARTS
from ..kernel import on_kernel
from .kernel import Kernel
from .layers import recurrent_weights


class _OtherWeights(keras.StatelessScope):
    """A scope in which some variables have other values; all others, such as random states, are updated as ever.

    Keras keeps updates for the end of a scope. What is updated in a loop over timesteps would then be of that loop.
    """

    def add_update(self, update: tuple[keras.Variable, Any]) -> None:
        variable, value = update
        if id(variable) in self.state_mapping:
            super().add_update(update)
        else:
            variable._direct_assign(value)


class MeasuredSequential(keras.Sequential):
    """A Sequential whose training step reports the batch's own figures, not running means.

    Each batch's logs are: ``loss`` and ``accuracy`` of the batch, ``gradient_norm``, the norm over all gradients before
    clipping, and ``weight_norm``, the norm over all weights after the step.
    The step is otherwise that of ``keras.Sequential``, with noise on the recurrent weights where ``recurrent_noise`` is
    not 0. It shares the layers of the model that it is made from, so that training it trains that model.

    Attributes:
        recurrent_noise: ``train.recurrent_noise``.
        noise_seed: seed of the noise, together with the number of the step.
    """

    recurrent_noise = 0.0
    noise_seed = 0

    @classmethod
    def of(cls, model: keras.Sequential, kernel: Kernel, threads: int = 0) -> MeasuredSequential:
        """Return a measured Sequential over the layers of ``model``, its LSTMs computed by ``kernel``.

        Args:
            model: the layers, on Keras alone, that own the weights.
            kernel: computes the LSTM.
            threads: CPU threads of the native kernel; 0 is all cores.
        """
        recurrent_layer, *others = model.layers
        if kernel.isa:
            recurrent_layer = on_kernel(recurrent_layer, threads)
        return cls([keras.Input(model.input_shape[1:]), recurrent_layer, *others])

    def save_own_variables(self, store: Any) -> None:
        """Keep the states of random generators, such as dropout's, which Keras does not: a resumed run needs them."""
        for name, state in self._random_states().items():
            store[name] = state.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Load what :meth:`save_own_variables` kept; files of older versions have nothing."""
        kept = set(store.keys())
        for name, state in self._random_states().items():
            if name in kept:
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
            logits = self._noisy_logits(sequences) if self.recurrent_noise else self(sequences, training=True)
            loss = self.compute_loss(x=sequences, y=labels, y_pred=logits, sample_weight=weights, training=True)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        hits = tf.equal(tf.argmax(logits, axis=-1, output_type=labels.dtype), labels)
        return {
            "loss": loss,
            "accuracy": tf.reduce_mean(tf.cast(hits, tf.float32)),
            "gradient_norm": tf.linalg.global_norm(gradients),
            "weight_norm": tf.linalg.global_norm(self.trainable_variables),
        }

    def _noisy_logits(self, sequences: tf.Tensor) -> tf.Tensor:
        """Return the logits of a batch, each part of which has recurrent weights with a noise of its own.

        Each part has copies of all weights of the layer, so that the parts' gradients are added by a sum over an axis,
        in a fixed order. The tape's own sum (``AddN``) begins with a part whose memory it may overwrite; that part
        differs from run to run, and so do the last bits.
        """
        recurrent_layer, *others = self.layers
        weights = recurrent_layer.trainable_variables
        noisy = [id(weight) for weight in recurrent_weights(recurrent_layer)]
        step = tf.cast(self.optimizer.iterations.value, tf.int64)
        copies = []
        for weight in weights:
            parts = tf.broadcast_to(weight.value, (NOISY_PARTS, *weight.shape))
            if id(weight) in noisy:
                seed = tf.stack([tf.constant(self.noise_seed + (noisy.index(id(weight)) << 32), tf.int64), step])
                parts += self.recurrent_noise * tf.random.stateless_normal(parts.shape, seed)
            copies.append(tf.unstack(parts))
        size, states = tf.shape(sequences)[0], []
        for part, values in enumerate(zip(*copies, strict=True)):
            rows = sequences[size * part // NOISY_PARTS : size * (part + 1) // NOISY_PARTS]
            with _OtherWeights(state_mapping=list(zip(weights, values, strict=True))):
                states.append(recurrent_layer(rows, training=True))
        outputs = tf.concat(states, axis=0)
        for layer in others:
            outputs = layer(outputs, training=True)
        return outputs

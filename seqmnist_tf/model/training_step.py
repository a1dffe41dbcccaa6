"""The model that is trained: on which kernel, with a step that reports each batch's own figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..config import NOISY_PARTS, Config, has_stock_layer
from ..kernel import DropIn, drop_ins, kernel_problems, native, on_kernel, why_not_native
from ..system import InputError
from .layers import recurrent_weights
from .optimizer import apply_if_finite, compile_model


@dataclass(frozen=True)
class Kernel:
    """The implementation of the recurrent layer in training and in the evaluation after each epoch."""

    isa: str | None  # the native kernel's instruction set, or None for stock Keras
    reason: str | None = None  # why ``auto`` fell back to stock Keras
    runs_programs: bool = False  # of a cell's step, not the kernel that LSTMs have

    @property
    def name(self) -> str:
        """``keras``, ``native-<isa>`` or, where programs are run, ``machine2-<isa>``; 2 is its second arithmetic."""
        return f"{'machine2' if self.runs_programs else 'native'}-{self.isa}" if self.isa else "keras"


def choose_kernel(config: Config, model: keras.Sequential | None = None) -> Kernel:
    """Return the kernel that ``train.kernel`` selects on this machine for the configuration's model.

    The native kernel computes a custom layer where it is, or has, recurrent layers of Keras that the kernel can
    compute; to know that, it is traced. Without the model the answer is stock Keras for a custom layer, and a guess for
    a GRU or SimpleRNN. InputError is raised where ``train.kernel`` is ``native`` and it cannot be used.
    """
    if config.train.kernel == "keras" or (model is None and not has_stock_layer(config)):
        return Kernel(None)
    layer = config.model.layer
    reason = why_not_native()
    runs_programs = layer != "LSTM"
    if reason is None and model and runs_programs:
        found = drop_ins(model.layers[0])
        problems = kernel_problems(model.layers[0], found, model.input_shape) if found else []
        computed = [part.native for part, problem in zip(found, problems, strict=True) if problem is None]
        runs_programs = any(part.runs_program for part in computed)
        if not computed:
            reason = f"model.layer is {layer}: {problems[0] if problems else 'it has no recurrent layer of Keras'}"
    if reason is None:
        return Kernel(native.instruction_set(), runs_programs=runs_programs)
    if config.train.kernel == "native":
        raise InputError(f"train.kernel must be auto or keras here (got 'native'): {reason}")
    return Kernel(None, reason)


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

    Each batch's logs are ``loss``, ``accuracy``, ``gradient_norm`` (over all gradients before clipping) and
    ``weight_norm`` (over all weights after the step). ``recurrent_noise`` is on the recurrent weights. The layers are
    those of the model that it is made from.
    """

    skips = False  # whether a step with a gradient that is not finite is skipped
    clip_norm: float | None = None  # where such steps are skipped; else the optimizer clips
    recurrent_noise: Sequence[float] = ()  # standard deviation of the noise on each of the recurrent weights
    noise_seed = 0  # of the noise, together with the number of the step
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
            logits = self._noisy_logits(sequences) if self.recurrent_noise else self(sequences, training=True)
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
        """Return the logits of a batch, whose parts have different noise on the recurrent weights.

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
                number = noisy.index(id(weight))
                seed = tf.stack([tf.constant(self.noise_seed + (number << 32), tf.int64), step])
                parts += self.recurrent_noise[number] * tf.random.stateless_normal(parts.shape, seed)
            copies.append(tf.unstack(parts))
        size = tf.shape(sequences)[0]
        states = []
        for part, values in enumerate(zip(*copies, strict=True)):
            rows = sequences[size * part // NOISY_PARTS : size * (part + 1) // NOISY_PARTS]
            with _OtherWeights(state_mapping=list(zip(weights, values, strict=True))), on_kernel(self.drop_ins):
                states.append(recurrent_layer(rows, training=True))
        outputs = tf.concat(states, axis=0)
        for layer in others:
            outputs = layer(outputs, training=True)
        return outputs


def make_trainable(model: keras.Sequential, config: Config, kernel: Kernel) -> MeasuredSequential:
    """Return a compiled model that trains the layers of ``model`` as the configuration says.

    ``model`` has the initial weights of the seed, on which ``train.recurrent_noise_relative`` depends.
    """
    trained = MeasuredSequential.of(model, kernel, config.train.threads)
    trained.noise_seed = config.train.seed
    weights = recurrent_weights(model.layers[0])
    if config.train.recurrent_noise:
        trained.recurrent_noise = (config.train.recurrent_noise,) * len(weights)
    elif relative := config.train.recurrent_noise_relative:
        trained.recurrent_noise = tuple(relative * float(np.std(weight, dtype=np.float64)) for weight in weights)
    trained.skips = config.optimizer.nonfinite == "skip"
    trained.clip_norm = config.optimizer.grad_clip_norm
    compile_model(trained, config)
    return trained

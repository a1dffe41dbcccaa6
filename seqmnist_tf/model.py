"""The model, ``build_model``; what computes it, ``choose_kernel``; what it is trained with, ``compile_model``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from . import runtime
from .config import NOISY_PARTS, NUM_TIMESTEPS, Config
from .errors import InputError
from .kernels import layer, native


def build_model(config: Config) -> keras.Sequential:
    """Build the LSTM of a configuration: sequences float32 (n, 784, 1) to logits float32 (n, 10).

    A plain ``keras.Sequential`` of stock layers. It sets Keras's global random seed to ``train.seed`` first, so that
    the initial weights are a function of the configuration alone, and those of plain Keras code that does the same.
    """
    keras.utils.set_random_seed(config.train.seed)
    units = config.model.hidden_size
    recipe: dict[str, Any] = {}
    dense: dict[str, Any] = {}
    if config.model.initializer == "torch":
        # torch.nn.LSTM and torch.nn.Linear: U(-k, k) with k = 1/sqrt(units) for every parameter.
        uniform = [keras.initializers.RandomUniform(-(units**-0.5), units**-0.5) for _ in range(4)]
        recipe = {"kernel_initializer": uniform[0], "recurrent_initializer": uniform[1], "unit_forget_bias": False}
        dense = {"kernel_initializer": uniform[2], "bias_initializer": uniform[3]}
    model = keras.Sequential(
        [
            keras.Input((NUM_TIMESTEPS, config.model.input_size)),
            keras.layers.LSTM(units, name="lstm", **recipe),
            keras.layers.Dense(config.model.output_size, name="logits", **dense),
        ]
    )
    bias = model.get_layer("lstm").cell.bias
    bias.assign(initial_bias(config, keras.ops.convert_to_numpy(bias)))
    return model


def initial_bias(config: Config, bias: np.ndarray) -> np.ndarray:
    """Return the LSTM's initial bias float32 (4 * units,), in the order of its gates: input, forget, candidate, output.

    Args:
        config: gives ``model.initializer``, ``model.forget_bias`` and ``train.seed``.
        bias: Keras's own initial bias, the answer where the configuration asks for nothing else.
    """
    units = config.model.hidden_size
    random = np.random.RandomState(config.train.seed)
    if config.model.initializer == "torch":
        # torch adds two bias vectors, each from U(-k, k); Keras has their sum.
        bias = random.uniform(-(units**-0.5), units**-0.5, (2, 4 * units)).sum(axis=0)
    bias = bias.astype(np.float32)
    if config.model.forget_bias == "chrono":
        # Tallec & Ollivier 2018, section 3: b_f = log U(1, T - 1), b_i = -b_f.
        forget = np.log(random.uniform(1, NUM_TIMESTEPS - 1, units))
        bias[:units], bias[units : 2 * units] = -forget, forget
    elif config.model.forget_bias is not None:
        bias[units : 2 * units] = config.model.forget_bias
    return bias


class TorchRMSprop(keras.optimizers.RMSprop):
    """RMSprop with epsilon outside of the root, as ``torch.optim.RMSprop``.

    v = rho v + (1 - rho) g^2; m = momentum m + g / (sqrt(v) + epsilon); w = w - lr m. Keras divides by
    sqrt(v + epsilon), so that its epsilon of 1e-8 acts as one of 1e-4 does here.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        lr = tf.cast(learning_rate, variable.dtype)
        velocity = self._velocities[self._get_variable_index(variable)]
        self.assign(velocity, self.rho * velocity + (1 - self.rho) * tf.square(gradient))
        step = gradient / (tf.sqrt(velocity) + self.epsilon)
        if self.momentum > 0:
            momentum = self._momentums[self._get_variable_index(variable)]
            self.assign(momentum, self.momentum * momentum + step)
            step = tf.convert_to_tensor(momentum)
        self.assign_sub(variable, lr * step)


def build_optimizer(config: Config) -> keras.optimizers.Optimizer:
    """Return the optimizer of a configuration, with its clipping, weight decay and learning-rate schedule."""
    opt = config.optimizer
    lr: Any = opt.lr
    if opt.schedule == "cosine":
        lr = keras.optimizers.schedules.CosineDecay(opt.lr, config.train.n_epochs * config.steps_per_epoch)
    shared = {
        "learning_rate": lr,
        "weight_decay": opt.weight_decay or None,
        "clipvalue": opt.grad_clip_value,
        "global_clipnorm": opt.grad_clip_norm,
    }
    if opt.name == "SGD":
        optimizer = keras.optimizers.SGD(momentum=opt.momentum, **shared)
    elif opt.name == "Adam":
        optimizer = keras.optimizers.Adam(beta_1=opt.beta_1, beta_2=opt.beta_2, epsilon=opt.epsilon, **shared)
    else:
        rmsprop = TorchRMSprop if opt.epsilon_placement == "outside" else keras.optimizers.RMSprop
        optimizer = rmsprop(rho=opt.rho, momentum=opt.momentum, epsilon=opt.epsilon, **shared)
    optimizer.exclude_from_weight_decay(var_names=["bias"])  # those of the gates say how long memories last
    return optimizer


def compile_model(model: keras.Model, config: Config) -> None:
    """Compile ``model`` with the loss on logits, the optimizer and the accuracy of a configuration."""
    model.compile(
        optimizer=build_optimizer(config),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,  # slower on CPUs, and other numerics
    )


@dataclass(frozen=True)
class Kernel:
    """What computes the LSTM in training and in the evaluation after each epoch.

    Attributes:
        isa: the native kernel's instruction set, or None for stock Keras.
        reason: why it is stock Keras, or None.
    """

    isa: str | None
    reason: str | None = None

    @property
    def name(self) -> str:
        """``native-<isa>`` or ``keras``."""
        return f"native-{self.isa}" if self.isa else "keras"


def choose_kernel(config: Config) -> Kernel:
    """Return what ``train.kernel`` stands for on this machine, before TensorFlow has started.

    Raises:
        InputError: it asks for the native kernel, which cannot be used.
    """
    if config.train.kernel == "keras":
        return Kernel(None)
    reason = layer.why_not()
    if config.model.hidden_size % native.UNIT_MULTIPLE:
        reason = f"model.hidden_size is {config.model.hidden_size}, no multiple of {native.UNIT_MULTIPLE}"
    if reason is None:
        return Kernel(native.instruction_set())
    if config.train.kernel == "native":
        raise InputError(f"train.kernel must be auto or keras here (got 'native'): {reason}")
    return Kernel(None, reason)


def start(config: Config) -> Kernel:
    """Choose the kernel of a configuration, start TensorFlow as suits it, and return it.

    Raises:
        InputError: as :func:`choose_kernel`.
    """
    kernel = choose_kernel(config)
    runtime.start_tensorflow(config.train.threads, operations=1 if kernel.isa else 0)
    return kernel


class MeasuredSequential(keras.Sequential):
    """A Sequential whose training step reports the batch's own figures instead of running means.

    Each batch's logs are: ``loss`` and ``accuracy`` of the batch, ``gradient_norm``, the norm over all gradients before
    clipping, and ``weight_norm``, the norm over all weights after the step.
    The step is otherwise that of ``keras.Sequential``, with noise on the recurrent weights where that is asked for. It
    shares the layers of the model that it is made from, so that training it trains that model.

    Attributes:
        recurrent_noise: ``train.recurrent_noise``.
        noise_seed: with the number of the step, what the noise is drawn from.
    """

    recurrent_noise = 0.0
    noise_seed = 0

    @classmethod
    def of(cls, model: keras.Sequential, kernel: Kernel, threads: int = 0) -> MeasuredSequential:
        """Return a measured Sequential over the layers of ``model``, its LSTM computed by ``kernel``.

        Args:
            model: stock layers; it has the weights, whatever computes with them.
            kernel: stock Keras or the native kernel.
            threads: of the native kernel; 0 is all cores.
        """
        lstm, *others = model.layers
        if kernel.isa:
            lstm = layer.LSTM.sharing(lstm, threads)
        return cls([keras.Input(model.input_shape[1:]), lstm, *others])

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """None: no running mean is kept over the batches of an epoch."""
        return []

    def train_step(self, data: tuple[Any, ...]) -> dict[str, Any]:
        sequences, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            logits = self._noisy_logits(sequences) if self.recurrent_noise else self(sequences, training=True)
            loss = self.compute_loss(x=sequences, y=labels, y_pred=logits, training=True)
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
        """Return the logits of a batch whose parts are each read with recurrent weights of their own.

        Each part has copies of all weights of the LSTM, so that the parts' gradients are added by a sum over an axis,
        in a fixed order. The tape's own sum (``AddN``) begins with a part whose memory it may overwrite, which is
        another one from run to run, and so are its last bits.
        """
        lstm, *others = self.layers
        weights = (lstm.cell.kernel, lstm.cell.recurrent_kernel, lstm.cell.bias)
        kernel, recurrent, bias = (tf.broadcast_to(w.value, (NOISY_PARTS, *w.shape)) for w in weights)
        seed = tf.stack([tf.constant(self.noise_seed, tf.int64), tf.cast(self.optimizer.iterations.value, tf.int64)])
        recurrent += self.recurrent_noise * tf.random.stateless_normal(recurrent.shape, seed)
        size, states = tf.shape(sequences)[0], []
        for part, copies in enumerate(zip(*map(tf.unstack, (kernel, recurrent, bias)), strict=True)):
            rows = sequences[size * part // NOISY_PARTS : size * (part + 1) // NOISY_PARTS]
            with keras.StatelessScope(state_mapping=list(zip(weights, copies, strict=True))):
                states.append(lstm(rows, training=True))
        outputs = tf.concat(states, axis=0)
        for layer_ in others:
            outputs = layer_(outputs, training=True)
        return outputs


def learning_rate(model: keras.Model) -> float:
    """Return the learning rate of the next step."""
    return float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))

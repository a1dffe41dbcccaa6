"""What a model is trained with: optimizer, loss and accuracy of a configuration."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..config import Config


class TorchRMSprop(keras.optimizers.RMSprop):
    """RMSprop with epsilon outside of the root, as in ``torch.optim.RMSprop``.

    v = rho v + (1 - rho) g^2; m = momentum m + g / (sqrt(v) + epsilon); w = w - lr m. Keras divides by
    sqrt(v + epsilon), so that an epsilon of 1e-8 there acts like 1e-4 here.

    ``bias_rate`` is a factor of the learning rate of an LSTM's bias. ``torch.nn.LSTM`` has two bias vectors with equal
    gradients, so that their sum, which is the one vector here, moves at twice the rate.
    """

    def __init__(self, *, bias_rate: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bias_rate = bias_rate
        self._rates: list[float] = []

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        self._rates = [self.bias_rate if v.path.endswith("lstm_cell/bias") else 1.0 for v in variables]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bias_rate": self.bias_rate}

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        lr = tf.cast(learning_rate, variable.dtype) * self._rates[index]
        velocity = self._velocities[index]
        self.assign(velocity, self.rho * velocity + (1 - self.rho) * tf.square(gradient))
        step = gradient / (tf.sqrt(velocity) + self.epsilon)
        if self.momentum > 0:
            momentum = self._momentums[index]
            self.assign(momentum, self.momentum * momentum + step)
            step = tf.convert_to_tensor(momentum)
        self.assign_sub(variable, lr * step)


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Rates that rise linearly, lr (k + 1) / steps in steps k = 0 to steps - 1; then those of ``after``, or lr."""

    def __init__(
        self, lr: float, steps: int, after: keras.optimizers.schedules.LearningRateSchedule | None = None
    ) -> None:
        self.lr, self.steps, self.after = lr, steps, after

    def __call__(self, step: Any) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        later = self.lr if self.after is None else self.after(step - self.steps)
        return tf.where(step < self.steps, self.lr * ((step + 1) / self.steps), later)

    def get_config(self) -> dict[str, Any]:
        return {"lr": self.lr, "steps": self.steps, "after": keras.saving.serialize_keras_object(self.after)}


def _schedule(config: Config) -> keras.optimizers.schedules.LearningRateSchedule | None:
    """Return the schedule of the learning rate, or None where it is constant.

    ``cosine`` has lr (1 + cos(pi step / steps)) / 2 over the steps after the warm-up, without restarts (Loshchilov &
    Hutter 2017).
    """
    opt, cosine = config.optimizer, None
    if opt.schedule == "cosine":
        steps = config.train.n_epochs * config.steps_per_epoch - opt.warmup_steps
        cosine = keras.optimizers.schedules.CosineDecay(opt.lr, max(steps, 1))
    return WarmUp(opt.lr, opt.warmup_steps, cosine) if opt.warmup_steps else cosine


def learning_rates(config: Config, steps: int) -> np.ndarray:
    """Return the learning rate of each of the first ``steps`` training steps, float32 (steps,)."""
    schedule = _schedule(config)
    if schedule is None:
        return np.full(steps, config.optimizer.lr, np.float32)
    return np.asarray(schedule(np.arange(steps)), np.float32)


def build_optimizer(config: Config) -> keras.optimizers.Optimizer:
    """Return the optimizer of a configuration, with its clipping, weight decay and learning-rate schedule.

    Adam is Keras's (Kingma & Ba 2015), RMSprop has epsilon where ``optimizer.epsilon_placement`` says.
    The weight decay is decoupled: w = w - lr weight_decay w beside each step (Loshchilov &
    Hutter 2019). The norm clip is over all gradients together (Pascanu, Mikolov & Bengio 2013).
    """
    opt = config.optimizer
    shared = {
        "learning_rate": _schedule(config) or opt.lr,
        "weight_decay": opt.weight_decay or None,
        "clipvalue": opt.grad_clip_value,
        "global_clipnorm": None if opt.nonfinite == "skip" else opt.grad_clip_norm,  # with skip, apply_if_finite clips
    }
    if opt.ema_momentum is not None:
        shared.update(use_ema=True, ema_momentum=opt.ema_momentum)
    if opt.name == "SGD":
        optimizer = keras.optimizers.SGD(momentum=opt.momentum, **shared)
    elif opt.name == "Adam":
        optimizer = keras.optimizers.Adam(beta_1=opt.beta_1, beta_2=opt.beta_2, epsilon=opt.epsilon, **shared)
    else:
        shared.update(rho=opt.rho, momentum=opt.momentum, epsilon=opt.epsilon)
        if opt.epsilon_placement == "outside":
            optimizer = TorchRMSprop(bias_rate=opt.bias_rate, **shared)
        else:
            optimizer = keras.optimizers.RMSprop(**shared)
    # Keras calls it at the end of fit, to copy the averages into the weights; swap_averages has put them there before.
    optimizer.finalize_variable_values = lambda variables: None
    return optimizer


def apply_if_finite(
    optimizer: keras.optimizers.Optimizer,
    gradients: list[tf.Tensor | None],
    variables: list[keras.Variable],
    clip_norm: float | None,
) -> tf.Tensor:
    """Take a step if all gradients are finite numbers; return their norm before clipping, NaN where one is not.

    A step that is skipped changes ``optimizer.iterations`` alone. So the schedule, the noise and a resumed run go on by
    batches; Adam's bias correction counts it too, which matters in the first steps only, and makes them smaller.

    The norm of gradients g is m norm(g / m), where m is the power of two at or below the largest element, or 1 if that
    is larger. So no square overflows, and all else has the bits of Keras's ``clip_by_global_norm``.
    """
    present = [gradient for gradient in gradients if gradient is not None]
    largest = tf.reduce_max([tf.reduce_max(tf.abs(gradient)) for gradient in present])
    power = tf.bitcast(tf.bitwise.bitwise_and(tf.bitcast(largest, tf.int32), 0x7F800000), tf.float32)
    power = tf.maximum(power, 1.0)
    scaled = [None if gradient is None else gradient / power for gradient in gradients]
    norm = tf.sqrt(tf.reduce_sum([tf.reduce_sum(tf.square(gradient)) for gradient in scaled if gradient is not None]))
    clipped = gradients
    if clip_norm is not None:
        factor = clip_norm * tf.minimum(1.0 / norm, power * (1.0 / clip_norm))
        clipped = [None if gradient is None else gradient * factor for gradient in scaled]

    def step() -> None:
        optimizer.apply(clipped, variables)

    def skip() -> None:
        optimizer.iterations.assign_add(1)

    tf.cond(tf.math.is_finite(norm), step, skip)  # inf / inf is NaN
    return power * norm


def swap_averages(optimizer: keras.optimizers.Optimizer) -> None:
    """Exchange the weights and their moving averages (after Polyak & Juditsky 1992), bit for bit, if there are any.

    Keras's own callback ``SwapEMAWeights`` exchanges them by sums, which rounds.
    """
    if optimizer.use_ema:
        for weight, average in zip(
            optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True
        ):
            kept = keras.ops.convert_to_numpy(weight)
            weight.assign(average)
            average.assign(kept)


def compile_model(model: keras.Model, config: Config) -> None:
    """Compile ``model``, which is built, with the loss on logits, the optimizer and the accuracy of a configuration."""
    optimizer = build_optimizer(config)
    # The gates' biases set how long memories last. A custom layer may name them as it likes: vectors are spared.
    # Keras's ``var_names`` are looked for in the names of layers too.
    spared = [weight for weight in model.trainable_weights if len(weight.shape) < 2 or "bias" in weight.name]
    optimizer.exclude_from_weight_decay(var_list=spared)
    if config.optimizer.nonfinite == "skip":
        optimizer.build(model.trainable_variables)  # not in a branch of the graph
        if optimizer.use_ema:  # the first step, which makes the averages, may be skipped
            for weight, average in zip(
                model.trainable_variables, optimizer._model_variables_moving_average, strict=True
            ):
                average.assign(weight)
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,  # XLA is slower on CPUs and has other numerics
    )


def learning_rate(model: keras.Model) -> float:
    """Return the learning rate of the next step."""
    return float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))

"""A minimal gated unit, with a first state that is learnt and a gate that starts by chrono.

    python -m seqmnist_tf.compare strong examples/mgu.py:MGU --seeds 0-5 --dir runs/mgu

Zhou, Wu, Zhang, Zhou: Minimal gated unit for recurrent neural networks. International Journal of Automation and
Computing, 2016. One gate f lets in what is new, and says how much of the state the candidate sees:

    f_t = sigmoid(W_f x_t + U_f h_{t-1} + b_f)
    h_t = (1 - f_t) h_{t-1} + f_t tanh(W_h x_t + U_h (f_t h_{t-1}) + b_h)

Two things are not from that paper. The first state h_0 is a weight. The gate's bias starts by the chrono rule (Tallec,
Ollivier: Can recurrent neural networks warp time? ICLR 2018): b_f = -log u with u from U(1, 783) for each unit, so that
a unit keeps the share u / (u + 1) of its state in each step.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="examples")
class Chrono(keras.initializers.Initializer):
    """The bias -log u of a gate that lets in what is new; a forget gate, which keeps, has +log u."""

    def __init__(self, steps: int = 784) -> None:
        self.steps = steps

    def __call__(self, shape, dtype=None):
        return -ops.log(keras.initializers.RandomUniform(1, self.steps - 1)(shape, dtype))

    def get_config(self):
        return {"steps": self.steps}


@keras.saving.register_keras_serializable(package="examples")
class MGUCell(keras.layers.Layer):
    """One step: input float32 (n, features) and state float32 (n, units) to the next state."""

    def __init__(self, units: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units
        self.gate = keras.layers.Dense(units, bias_initializer=Chrono())
        self.candidate = keras.layers.Dense(units)

    def build(self, input_shape) -> None:
        for part in (self.gate, self.candidate):
            part.build((None, input_shape[-1] + self.units))
        self.first = self.add_weight(shape=(self.units,), initializer="zeros", name="first")

    def get_initial_state(self, batch_size=None):
        return [ops.tile(self.first[None], (batch_size, 1))]

    def call(self, inputs, states, training=False):
        h = states[0]
        f = ops.sigmoid(self.gate(ops.concatenate([inputs, h], axis=-1)))
        h = (1 - f) * h + f * ops.tanh(self.candidate(ops.concatenate([inputs, f * h], axis=-1)))
        return h, [h]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def MGU(units: int) -> keras.layers.RNN:
    """Return a layer of minimal gated units: float32 (n, T, features) to the last state, float32 (n, units)."""
    return keras.layers.RNN(MGUCell(units))

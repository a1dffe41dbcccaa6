"""minGRU: a GRU whose gate sees the input, but not the previous state.

    python -m seqmnist_tf.compare strong examples/min_gru.py:MinGRU --seeds 0-5 --dir runs/min-gru

Feng, Tung, Ahmed, Bengio, Hajimirsadeghi: Were RNNs All We Needed? arXiv 2410.01201 (2024), section 3.1. There is no
reset gate and no tanh:

    z_t = sigmoid(W_z x_t + b_z)
    h_t = (1 - z_t) h_{t-1} + z_t (W_h x_t + b_h)

The gate of one such layer knows one pixel at a time. So two of them are stacked, as the paper stacks them: the gate of
the second sees the state of the first.

The bias of the gate starts as in the chrono initialisation (Tallec, Ollivier: Can recurrent neural networks warp time?
ICLR 2018), with which `strong` starts the LSTM: b_z = -log u with u from U(1, 783) for each unit. A unit then keeps
the share 1 - z = u / (u + 1) of its state in each step. This start is not from the minGRU paper.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="examples")
class MinGRUCell(keras.layers.Layer):
    """One step: input float32 (n, features) and state float32 (n, units) to the next state."""

    def __init__(self, units: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units

    def build(self, input_shape) -> None:
        shape = (input_shape[-1], 2 * self.units)
        self.kernel = self.add_weight(shape=shape, initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight(shape=shape[1:], initializer=self._chrono, name="bias")

    def _chrono(self, shape, dtype=None):
        """Return the initial bias float32 (2 * units,), in the order z, h."""
        times = keras.initializers.RandomUniform(1, 783)((self.units,), dtype)
        return ops.concatenate([-ops.log(times), ops.zeros((self.units,), dtype)])

    def call(self, inputs, states, training=False):
        z, candidate = ops.split(ops.matmul(inputs, self.kernel) + self.bias, 2, axis=-1)
        z = ops.sigmoid(z)
        h = (1 - z) * states[0] + z * candidate
        return h, [h]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def MinGRU(units: int) -> keras.layers.RNN:
    """Return two stacked minGRU layers: float32 (n, T, features) to the last state, float32 (n, units)."""
    return keras.layers.RNN([MinGRUCell(units), MinGRUCell(units)])

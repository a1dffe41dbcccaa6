"""minLSTM: an LSTM whose gates see the input, but not the previous state.

    python -m seqmnist_tf.compare strong examples/min_lstm.py:MinLSTM --seeds 0-5 --dir runs/min-lstm

Feng, Tung, Ahmed, Bengio, Hajimirsadeghi: Were RNNs All We Needed? arXiv 2410.01201 (2024), section 3.2. The gates are
normalised so that they add up to 1, and there is no tanh:

    f_t = sigmoid(W_f x_t + b_f)
    i_t = sigmoid(W_i x_t + b_i)
    h_t = (f_t h_{t-1} + i_t (W_h x_t + b_h)) / (f_t + i_t)

One such layer reads a sequence of pixels with gates that know one pixel each. So two of them are stacked, as the paper
stacks them: the gates of the second see the state of the first.

The biases of the gates start as in the chrono initialisation (Tallec, Ollivier: Can recurrent neural networks warp
time? ICLR 2018), which `strong` gives to the LSTM: b_f = log u and b_i = -log u with u from U(1, 783) for each unit. A
unit then keeps the share f / (f + i) = u / (u + 1) of its state in each step, and forgets it within about u steps. With
biases of 0 it would keep one half, and nothing of the digit after 100 blank pixels. This start is not from the minLSTM
paper.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="examples")
class MinLSTMCell(keras.layers.Layer):
    """One step: input float32 (n, features) and state float32 (n, units) to the next state."""

    def __init__(self, units: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units

    def build(self, input_shape) -> None:
        shape = (input_shape[-1], 3 * self.units)
        self.kernel = self.add_weight(shape=shape, initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight(shape=shape[1:], initializer=self._chrono, name="bias")

    def _chrono(self, shape, dtype=None):
        """Return the initial bias float32 (3 * units,), in the order f, i, h."""
        forget = ops.log(keras.initializers.RandomUniform(1, 783)((self.units,), dtype))
        return ops.concatenate([forget, -forget, ops.zeros((self.units,), dtype)])

    def call(self, inputs, states, training=False):
        forget, enter, candidate = ops.split(ops.matmul(inputs, self.kernel) + self.bias, 3, axis=-1)
        forget, enter = ops.sigmoid(forget), ops.sigmoid(enter)
        h = (forget * states[0] + enter * candidate) / (forget + enter)
        return h, [h]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def MinLSTM(units: int) -> keras.layers.RNN:
    """Return two stacked minLSTM layers: float32 (n, T, features) to the last state, float32 (n, units)."""
    return keras.layers.RNN([MinLSTMCell(units), MinLSTMCell(units)])

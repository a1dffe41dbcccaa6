"""UR-LSTM: an LSTM whose forget gate starts with many time scales and learns well near 0 and 1.

    python -m seqmnist_tf.compare strong examples/ur_lstm.py:URLSTM --seeds 0-5 --dir runs/ur-lstm

Gu, Gulcehre, Paine, Hoffman, Pascanu: Improving the Gating Mechanism of Recurrent Neural Networks. ICML 2020, arXiv
1910.09890. The input gate makes room for a refine gate r, which moves the forget gate f within f**2 to 1 - (1 - f)**2:

    f_t = sigmoid(W_f x_t + U_f h_{t-1} + b_f)
    r_t = sigmoid(W_r x_t + U_r h_{t-1} + b_r)                            equation (9)
    g_t = r_t (1 - (1 - f_t)**2) + (1 - r_t) f_t**2                       equation (10)
    c_t = g_t c_{t-1} + (1 - g_t) tanh(W_u x_t + U_u h_{t-1} + b_u)       equation (11)
    h_t = sigmoid(W_o x_t + U_o h_{t-1} + b_o) tanh(c_t)

Uniform gate initialisation, equation (12): b_f is such that sigmoid(b_f) is uniform on [1/units, 1 - 1/units], and
b_r = -b_f. There are as many parameters as in an LSTM of the same units.

The equation numbers are those of section 3 of the ICML text, as a public presentation of it quotes them; the paper
itself was not at hand. Three things are not from it. b_r = -b_f is how public reimplementations start the refine gate;
they let f and r share that bias, here each has its own after the start; and the first author's later code (S4) starts
the refine gate without it. Kernels are initialised as in Keras's LSTM.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="examples")
class URLSTMCell(keras.layers.Layer):
    """One step: input float32 (n, features) and states h, c float32 (n, units) to the next states."""

    def __init__(self, units: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.units = self.output_size = units
        self.state_size = [units, units]

    def build(self, input_shape) -> None:
        gates = 4 * self.units
        self.kernel = self.add_weight(shape=(input_shape[-1], gates), initializer="glorot_uniform", name="kernel")
        self.recurrent_kernel = self.add_weight(
            shape=(self.units, gates), initializer="orthogonal", name="recurrent_kernel"
        )
        self.bias = self.add_weight(shape=(gates,), initializer=self._uniform_gates, name="bias")

    def _uniform_gates(self, shape, dtype=None):
        """Return the initial bias float32 (4 * units,), in the order f, r, u, o."""
        edge = 1 / max(self.units, 4)  # of fewer units the interval would be empty
        gate = keras.initializers.RandomUniform(edge, 1 - edge)((self.units,), dtype)
        forget, zeros = ops.log(gate / (1 - gate)), ops.zeros((self.units,), dtype)
        return ops.concatenate([forget, -forget, zeros, zeros])

    def call(self, inputs, states, training=False):
        h, c = states
        parts = ops.matmul(inputs, self.kernel) + ops.matmul(h, self.recurrent_kernel) + self.bias
        f, r, u, o = ops.split(parts, 4, axis=-1)
        f, r = ops.sigmoid(f), ops.sigmoid(r)
        g = r * (1 - (1 - f) ** 2) + (1 - r) * f**2
        c = g * c + (1 - g) * ops.tanh(u)
        h = ops.sigmoid(o) * ops.tanh(c)
        return h, [h, c]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def URLSTM(units: int) -> keras.layers.RNN:
    """Return a UR-LSTM layer: float32 (n, T, features) to the last state, float32 (n, units)."""
    return keras.layers.RNN(URLSTMCell(units))

"""LEM, long expressive memory: two states whose time steps are gates.

    python -m seqmnist_tf.compare strong examples/lem.py:LEM --seeds 0-5 --dir runs/lem

Rusch, Mishra, Erichson, Mahoney: Long Expressive Memory for Sequence Modeling. ICLR 2022, arXiv 2110.04744. Two
ordinary differential equations, discretised with time steps a and b of their own for each unit:

    a_t = dt sigmoid(V_a x_t + W_a y_{t-1} + b_a)
    b_t = dt sigmoid(V_b x_t + W_b y_{t-1} + b_b)
    z_t = (1 - b_t) z_{t-1} + b_t tanh(V_z x_t + W_z y_{t-1} + b_z)
    y_t = (1 - a_t) y_{t-1} + a_t tanh(V_y x_t + W_y z_t + b_y)

y is the output. The last line reads the new z: one step has two matrix products, one after the other. There are as many
parameters as in an LSTM of the same units.

From the authors' code (github.com/tk-rusch/LEM): dt is 0.21 for sequential MNIST and 0.31 for the permuted one; all
weights and biases of the cell start from U(-1/sqrt(units), 1/sqrt(units)). Their read-out starts from He's normal
distribution; here it is Keras's Dense, as for every layer. dt is chosen for each task, like a learning rate.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="examples")
class LEMCell(keras.layers.Layer):
    """One step: input float32 (n, features) and states y, z float32 (n, units) to the next states."""

    def __init__(self, units: int, dt: float = 0.21, **kwargs) -> None:
        super().__init__(**kwargs)
        self.units = self.output_size = units
        self.state_size = [units, units]
        self.dt = dt

    def build(self, input_shape) -> None:
        units = self.units
        self.kernel = self._uniform("kernel", input_shape[-1], 4 * units)
        self.recurrent_kernel = self._uniform("recurrent_kernel", units, 3 * units)
        self.recurrent_kernel_y = self._uniform("recurrent_kernel_y", units, units)
        self.bias = self._uniform("bias", 4 * units)

    def _uniform(self, name, *shape):
        """Return a new weight. Each has its own initializer: one would give all of them the same numbers."""
        edge = self.units**-0.5
        return self.add_weight(shape=shape, initializer=keras.initializers.RandomUniform(-edge, edge), name=name)

    def call(self, inputs, states, training=False):
        y, z = states
        x_a, x_b, x_z, x_y = ops.split(ops.matmul(inputs, self.kernel) + self.bias, 4, axis=-1)
        y_a, y_b, y_z = ops.split(ops.matmul(y, self.recurrent_kernel), 3, axis=-1)
        a, b = self.dt * ops.sigmoid(x_a + y_a), self.dt * ops.sigmoid(x_b + y_b)
        z = (1 - b) * z + b * ops.tanh(x_z + y_z)
        y = (1 - a) * y + a * ops.tanh(x_y + ops.matmul(z, self.recurrent_kernel_y))
        return y, [y, z]

    def get_config(self):
        return {**super().get_config(), "units": self.units, "dt": self.dt}


def LEM(units: int, dt: float = 0.21) -> keras.layers.RNN:
    """Return a LEM layer: float32 (n, T, features) to the last y, float32 (n, units)."""
    return keras.layers.RNN(LEMCell(units, dt))

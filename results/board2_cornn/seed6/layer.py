"""coRNN: a network of coupled, damped and driven oscillators.

    python -m seqmnist_tf.compare strong examples/cornn.py:CoRNN --seeds 0-5 --dir runs/cornn

Rusch, Mishra: Coupled Oscillatory Recurrent Neural Network (coRNN): An accurate and (gradient) stable architecture for
learning long time dependencies. ICLR 2021, arXiv 2010.00951. The position y and the velocity z of each oscillator:

    z_t = z_{t-1} + dt (tanh(W_y y_{t-1} + W_z z_{t-1} + V x_t + b) - gamma y_{t-1} - epsilon z_{t-1})
    y_t = y_{t-1} + dt z_t

y is the output; gamma is the square of the frequency, epsilon the damping.

From the authors' code (github.com/tk-rusch/coRNN): dt 0.042, gamma 2.7 and epsilon 4.7 for sequential MNIST, dt 0.076,
gamma 0.4 and epsilon 8.0 for the permuted one; one linear layer of PyTorch reads x, z and y, so that weights and bias
start from U(-k, k) with k = 1/sqrt(features + 2 units). The three numbers are chosen for each task, like a learning
rate.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="examples")
class CoRNNCell(keras.layers.Layer):
    """One step: input float32 (n, features) and states y, z float32 (n, units) to the next states."""

    def __init__(self, units: int, dt: float = 0.042, gamma: float = 2.7, epsilon: float = 4.7, **kwargs) -> None:
        super().__init__(**kwargs)
        self.units = self.output_size = units
        self.state_size = [units, units]
        self.dt, self.gamma, self.epsilon = dt, gamma, epsilon

    def build(self, input_shape) -> None:
        units, features = self.units, input_shape[-1]
        edge = (features + 2 * units) ** -0.5
        self.kernel = self._uniform(edge, "kernel", features, units)
        self.recurrent_kernel = self._uniform(edge, "recurrent_kernel", 2 * units, units)
        self.bias = self._uniform(edge, "bias", units)

    def _uniform(self, edge, name, *shape):
        """Return a new weight. Each has its own initializer: one would give all of them the same numbers."""
        return self.add_weight(shape=shape, initializer=keras.initializers.RandomUniform(-edge, edge), name=name)

    def call(self, inputs, states, training=False):
        y, z = states
        drive = ops.matmul(inputs, self.kernel) + ops.matmul(ops.concatenate(states, axis=-1), self.recurrent_kernel)
        z = z + self.dt * (ops.tanh(drive + self.bias) - self.gamma * y - self.epsilon * z)
        y = y + self.dt * z
        return y, [y, z]

    def get_config(self):
        constants = {"dt": self.dt, "gamma": self.gamma, "epsilon": self.epsilon}
        return {**super().get_config(), "units": self.units, **constants}


def CoRNN(units: int, dt: float = 0.042, gamma: float = 2.7, epsilon: float = 4.7) -> keras.layers.RNN:
    """Return a coRNN layer: float32 (n, T, features) to the last y, float32 (n, units)."""
    return keras.layers.RNN(CoRNNCell(units, dt, gamma, epsilon))

"""The board's LSTM as ``keras.layers.RNN(LSTMCell)``: the same model on the kernel that every other cell trains on.

    scripts/board kernel lstm DIR

The chrono start is that of ``model.forget_bias``, which belongs to the layer ``LSTM`` alone.
"""

import keras
from keras import ops

TIMESTEPS = 784


@keras.saving.register_keras_serializable(package="examples")
class Chrono(keras.initializers.Initializer):
    """Biases float32 (4 * units,) in the order input, forget, candidate, output: forget gates log U(1, T - 1).

    Input gates are the negative, the others 0 (Tallec, Ollivier: Can recurrent neural networks warp time? ICLR 2018).
    """

    def __call__(self, shape, dtype=None):
        forget = ops.log(keras.initializers.RandomUniform(1, TIMESTEPS - 1)((shape[0] // 4,), dtype))
        return ops.concatenate([-forget, forget, ops.zeros((shape[0] // 2,), dtype)])


def ChronoLSTM(units: int) -> keras.layers.RNN:
    """Return an LSTM layer: float32 (n, T, features) to the last state, float32 (n, units)."""
    return keras.layers.RNN(keras.layers.LSTMCell(units, unit_forget_bias=False, bias_initializer=Chrono()))

"""Zoneout LSTM: units keep their state of the step before at random, as dropout sets them to zero at random.

    python -m seqmnist_tf.compare strong examples/zoneout.py:ZoneoutLSTM --seeds 0-5 --dir runs/zoneout

Krueger, Maharaj, Kramar, Pezeshki, Ballas, Ke, Goyal, Bengio, Courville, Pal: Zoneout: Regularizing RNNs by Randomly
Preserving Hidden Activations. ICLR 2017, arXiv 1606.01305, section 3.2. With the LSTM's new states c' and h', and masks
d_c and d_h that are 1 with probability z_c and z_h, drawn anew for each unit at each step:

    c_t = d_c c_{t-1} + (1 - d_c) c'
    h_t = d_h h_{t-1} + (1 - d_h) h'

Out of training, the masks are their expectations z_c and z_h. Here z_c = 0.5 and z_h = 0.05.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="examples")
class ZoneoutLSTMCell(keras.layers.LSTMCell):
    """One step: input float32 (n, features) and states float32 (n, units), h and c, to the next ones."""

    keep_h, keep_c = 0.05, 0.5

    def __init__(self, units: int, **kwargs) -> None:
        super().__init__(units, **kwargs)
        self.zoneout_generator = keras.random.SeedGenerator()

    def call(self, inputs, states, training=False):
        _, new = super().call(inputs, states, training=training)
        kept = [self._kept(share, new[0], training) for share in (self.keep_h, self.keep_c)]
        h, c = (keep * before + (1 - keep) * after for keep, before, after in zip(kept, states, new, strict=True))
        return h, [h, c]

    def _kept(self, share, state, training):
        """Return which units keep their state: in training, a mask that is 1 with this probability."""
        if not training:
            return share
        return ops.cast(keras.random.uniform(ops.shape(state), seed=self.zoneout_generator) < share, state.dtype)


def ZoneoutLSTM(units: int) -> keras.layers.RNN:
    """Return the layer: float32 (n, T, features) to the last state h, float32 (n, units)."""
    return keras.layers.RNN(ZoneoutLSTMCell(units))

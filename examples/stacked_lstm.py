"""Two LSTM layers, one above the other, with as many parameters as one.

    python -m seqmnist_tf.compare strong examples/stacked_lstm.py:StackedLSTM --seeds 0-5 --dir runs/stacked-lstm

Graves: Supervised Sequence Labelling with Recurrent Neural Networks. Springer (2012), section 3.1, among others: the
states of the first layer, at all steps, are the sequence that the second layer reads.

LSTMs of Keras in a `keras.Sequential` train on the native kernel, and are saved as layers of Keras.
"""

import keras


def StackedLSTM(units: int) -> keras.Sequential:
    """Return two stacked LSTMs: float32 (n, T, features) to the last state of the second, float32 (n, units)."""
    return keras.Sequential([keras.layers.LSTM(units, return_sequences=True), keras.layers.LSTM(units)])

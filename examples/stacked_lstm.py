"""Two stacked LSTM layers, with about as many parameters in all as one.

    python -m seqmnist_tf.compare strong examples/stacked_lstm.py:StackedLSTM --seeds 0-5 --dir runs/stacked-lstm

Graves, Mohamed, Hinton: Speech recognition with deep recurrent neural networks. ICASSP 2013. The states of the first
layer, at all steps, are the sequence that the second layer reads.

`compare` chooses the units by the number of parameters: beside an LSTM(128) with 67,850, two layers of 74 units have
67,350. They start with Keras's own initial values, without the chrono initialisation of `strong`. LSTMs of Keras in a
`keras.Sequential` train on the native kernel, and are saved as layers of Keras.
"""

import keras


def StackedLSTM(units: int) -> keras.Sequential:
    """Return two stacked LSTMs: float32 (n, T, features) to the last state of the second, float32 (n, units)."""
    return keras.Sequential([keras.layers.LSTM(units, return_sequences=True), keras.layers.LSTM(units)])

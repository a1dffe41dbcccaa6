"""The exported LSTM: stock TensorFlow operations that are fast at any batch size.

A Keras LSTM is a ``while`` loop of about ten operations per step, and for one image TensorFlow spends more time on
starting them than on their arithmetic. ``BlockLSTMV2``, also a stock operation, computes many steps in one kernel, with
the gates in Keras's order (input, forget, candidate, output). It runs on one core and is fastest for few rows.
Therefore a batch is divided into blocks of rows, which TensorFlow computes in parallel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from ..config import NUM_CLASSES, NUM_TIMESTEPS

# Rows of a block. With 16 rows, weights and states still fit in a core's own cache. A smaller batch is divided into two
# blocks, for two cores, of at least 4 rows.
MIN_BLOCK_ROWS, MAX_BLOCK_ROWS = 4, 16
PARALLEL_BLOCKS = 8  # BlockLSTMV2 writes seven values per row, unit and step: 45 MB for a block of 128 units
BACKGROUND_STEPS = 7  # the states after 7, 14, 21, ... background pixels are stored


def is_block_lstm(layer: keras.Layer) -> bool:
    """Return whether a layer is an LSTM of Keras with the arguments that ``BlockLSTMV2`` computes: Keras's defaults."""
    if type(layer) is not keras.layers.LSTM:
        return False
    return (
        layer.activation is keras.activations.tanh
        and layer.recurrent_activation is keras.activations.sigmoid
        and layer.use_bias
        and not (layer.go_backwards or layer.stateful)
        and layer.compute_dtype == "float32"
    )


class BlockLSTM(tf.Module):
    """The LSTM and the dense layer of a trained model, on ``BlockLSTMV2``, with their own copies of the weights.

    Args:
        model: a Keras Sequential of an LSTM over one feature and a dense layer.
        background: the normalised value of a background pixel.
    """

    def __init__(self, model: keras.Sequential, background: float) -> None:
        super().__init__()
        lstm, dense = model.layers
        self._units, self._background = lstm.units, background
        # A second feature, of weight 0: with an odd number of features and of rows, each call would log a warning.
        weights = [lstm.cell.kernel, tf.zeros((1, 4 * lstm.units)), lstm.cell.recurrent_kernel]
        self._weights = tf.Variable(tf.concat(weights, 0), trainable=False)
        self._bias = tf.Variable(lstm.cell.bias, trainable=False)
        self._readout_weights = tf.Variable(dense.kernel, trainable=False)
        self._readout_bias = tf.Variable(dense.bias, trainable=False)
        zeros = tf.zeros((1, self._units))
        after_each = self._steps(tf.fill((NUM_TIMESTEPS, 1, 1), background), zeros, zeros)
        stored_steps = slice(BACKGROUND_STEPS - 1, None, BACKGROUND_STEPS)
        stored = (tf.concat([zeros, states[stored_steps, 0]], 0) for states in after_each)
        self._background_h, self._background_c = (tf.Variable(states, trainable=False) for states in stored)

    def logits(self, sequences: tf.Tensor) -> tf.Tensor:
        """Return logits float32 (n, 10) of sequences float32 (n, 784, 1).

        Each block skips the background pixels before its first ink: it starts from the stored states after them.
        """

        def block(rows: slice) -> tuple[tf.Tensor]:
            pixels = tf.transpose(sequences[rows], (1, 0, 2))
            ink = tf.reduce_any(pixels != self._background, (1, 2))
            first = tf.where(tf.reduce_any(ink), tf.argmax(ink, output_type=tf.int32), NUM_TIMESTEPS - 1)
            index = first // BACKGROUND_STEPS
            h, c = (
                tf.repeat(tf.gather(states, [index]), tf.shape(pixels)[1], 0)
                for states in (self._background_h, self._background_c)
            )
            hs, _ = self._steps(pixels[index * BACKGROUND_STEPS :], h, c)
            return (self._readout(hs[-1]),)

        return _by_blocks_of_rows(tf.shape(sequences)[0], block, [(NUM_CLASSES,)])[0]

    def unroll(self, pixels: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Continue from given states over k more pixels.

        Args:
            pixels: float32 (n, k, 1), normalised; k may be 0.
            h: float32 (n, units), the output before these pixels.
            c: float32 (n, units), the cell state before these pixels.

        Returns:
            The logits after each pixel, float32 (n, k, 10), and the states h and c after the last, float32 (n, units).
        """

        def block(rows: slice) -> tuple[tf.Tensor, ...]:
            hs, cs = self._steps(tf.transpose(pixels[rows], (1, 0, 2)), h[rows], c[rows])
            last_h, last_c = tf.concat([h[rows][None], hs], 0)[-1], tf.concat([c[rows][None], cs], 0)[-1]
            return tf.transpose(self._readout(hs), (1, 0, 2)), last_h, last_c

        shapes = [(None, NUM_CLASSES), (self._units,), (self._units,)]
        logits, h_next, c_next = _by_blocks_of_rows(tf.shape(pixels)[0], block, shapes)
        return logits, h_next, c_next

    def start(self, n: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the states h and c before the first pixel, float32 (n, units)."""
        return tf.zeros((n, self._units)), tf.zeros((n, self._units))

    def _steps(self, pixels: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the states h and c after each of the pixels (k, rows, 1): float32 (k, rows, units)."""
        no_peephole = tf.zeros((self._units,))
        states = tf.raw_ops.BlockLSTMV2(
            seq_len_max=tf.shape(pixels, out_type=tf.int64)[0],
            x=tf.pad(pixels, [[0, 0], [0, 0], [0, 1]]),
            cs_prev=c,
            h_prev=h,
            w=self._weights,
            b=self._bias,
            wci=no_peephole,
            wcf=no_peephole,
            wco=no_peephole,
            cell_clip=0.0,
            use_peephole=False,
        )
        return states.h, states.cs

    def _readout(self, h: tf.Tensor) -> tf.Tensor:
        return tf.tensordot(h, self._readout_weights, 1) + self._readout_bias


def _by_blocks_of_rows(
    n: tf.Tensor, block: Callable[[slice], tuple[tf.Tensor, ...]], shapes: list[tuple[Any, ...]]
) -> list[tf.Tensor]:
    """Call ``block`` on slices of ``n`` rows, in parallel, and return its results concatenated along the rows.

    Args:
        n: int32, number of rows.
        block: function from a slice of the rows to float32 tensors (rows, *shape).
        shapes: the shape of one row of each tensor.
    """
    size = tf.clip_by_value((n + 1) // 2, MIN_BLOCK_ROWS, MAX_BLOCK_ROWS)
    blocks = tf.maximum((n + size - 1) // size, 1)

    def one(i: tf.Tensor, *results: tf.TensorArray) -> tuple[Any, ...]:
        parts = block(slice(i * n // blocks, (i + 1) * n // blocks))
        return i + 1, *(result.write(i, part) for result, part in zip(results, parts, strict=True))

    results = [tf.TensorArray(tf.float32, blocks, infer_shape=False, element_shape=(None, *shape)) for shape in shapes]
    done = tf.while_loop(lambda i, *_: i < blocks, one, (0, *results), parallel_iterations=PARALLEL_BLOCKS)
    return [tf.ensure_shape(result.concat(), (None, *shape)) for result, shape in zip(done[1:], shapes, strict=True)]

"""The LSTM as it is served: stock TensorFlow operations, fast at any batch size.

A Keras LSTM is a ``while`` loop of some ten operations a step, and for one image TensorFlow spends more on starting
them than on their arithmetic. ``BlockLSTMV2`` is a stock operation too: one kernel for many steps, with its gates in
Keras's order (input, forget, candidate, output). It is fast for few rows, on one core; so a batch is cut into blocks of
rows, which TensorFlow computes side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from .config import NUM_CLASSES, NUM_TIMESTEPS

# Rows of a block. With 16 the products still run in one piece, and weights and states stay in a core's own cache; a
# smaller batch is cut into two, for two cores, down to 4.
MIN_ROWS, MAX_ROWS = 4, 16
BLOCKS_AT_A_TIME = 8  # BlockLSTMV2 writes seven values a row, unit and step: 45 MB for a block of 128 units
BACKGROUND_STEPS = 7  # the states after so many background pixels, twice as many, ... are kept


class ServedLSTM(tf.Module):
    """The LSTM and the readout of a trained model, with copies of its weights in the form that is read fastest.

    Args:
        model: a Keras Sequential of an LSTM over one feature and a dense layer.
        background: what the model reads for a background pixel.
    """

    def __init__(self, model: keras.Sequential, background: float) -> None:
        super().__init__()
        lstm, dense = model.layers
        self._units, self._background = lstm.units, background
        # A second feature of weight 0, since the operation logs a warning at each call where features and rows are odd.
        weights = [lstm.cell.kernel, tf.zeros((1, 4 * lstm.units)), lstm.cell.recurrent_kernel]
        self._weights = tf.Variable(tf.concat(weights, 0), trainable=False)
        self._bias = tf.Variable(lstm.cell.bias, trainable=False)
        self._readout_weights = tf.Variable(dense.kernel, trainable=False)
        self._readout_bias = tf.Variable(dense.bias, trainable=False)
        zeros = tf.zeros((1, self._units))
        after_each = self._steps(tf.fill((NUM_TIMESTEPS, 1, 1), background), zeros, zeros)
        every = slice(BACKGROUND_STEPS - 1, None, BACKGROUND_STEPS)
        known = (tf.concat([zeros, states[every, 0]], 0) for states in after_each)
        self._known_h, self._known_c = (tf.Variable(states, trainable=False) for states in known)

    def logits(self, sequences: tf.Tensor) -> tf.Tensor:
        """Return logits float32 (n, 10) of sequences float32 (n, 784, 1).

        A block of rows begins shortly before its first pixel that is not background: what the states are after so many
        background pixels is known.
        """

        def block(rows: slice) -> tuple[tf.Tensor]:
            pixels = tf.transpose(sequences[rows], (1, 0, 2))
            ink = tf.reduce_any(pixels != self._background, (1, 2))
            first = tf.where(tf.reduce_any(ink), tf.argmax(ink, output_type=tf.int32), NUM_TIMESTEPS - 1)
            known = first // BACKGROUND_STEPS
            h, c = (
                tf.repeat(tf.gather(states, [known]), tf.shape(pixels)[1], 0)
                for states in (self._known_h, self._known_c)
            )
            hs, _ = self._steps(pixels[known * BACKGROUND_STEPS :], h, c)
            return (self._readout(hs[-1]),)

        return _by_blocks_of_rows(tf.shape(sequences)[0], block, [(NUM_CLASSES,)])[0]

    def unroll(self, pixels: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Read k pixels, float32 (n, k, 1), from the states h and c, float32 (n, units), on.

        Returns:
            The logits after each pixel, float32 (n, k, 10), and the states h and c after the last.
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
    """Call ``block`` on slices of ``n`` rows, side by side, and return its results along the rows.

    Args:
        n: int32, rows.
        block: from a slice of the rows to float32 tensors (rows, *shape).
        shapes: of a row of each of these.
    """
    size = tf.clip_by_value((n + 1) // 2, MIN_ROWS, MAX_ROWS)
    blocks = tf.maximum((n + size - 1) // size, 1)

    def one(i: tf.Tensor, *results: tf.TensorArray) -> tuple[Any, ...]:
        parts = block(slice(i * n // blocks, (i + 1) * n // blocks))
        return i + 1, *(result.write(i, part) for result, part in zip(results, parts, strict=True))

    results = [tf.TensorArray(tf.float32, blocks, infer_shape=False, element_shape=(None, *shape)) for shape in shapes]
    done = tf.while_loop(lambda i, *_: i < blocks, one, (0, *results), parallel_iterations=BLOCKS_AT_A_TIME)
    return [tf.ensure_shape(result.concat(), (None, *shape)) for result, shape in zip(done[1:], shapes, strict=True)]

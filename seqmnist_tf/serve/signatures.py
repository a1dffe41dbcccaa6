"""The signatures of an exported model, and the LSTM that computes them: stock operations, fast at any batch size.

A Keras LSTM is a ``while`` loop of about ten operations per step, and for one image TensorFlow spends more time on
starting them than on their arithmetic. ``BlockLSTMV2``, also a stock operation, computes many steps in one kernel, with
the gates in Keras's order (input, forget, candidate, output). It runs on one core and is fastest for few rows.
Therefore a batch is divided into blocks of rows, which TensorFlow computes in parallel.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.export import ExportArchive

from .. import data
from ..config import NUM_CLASSES, NUM_TIMESTEPS
from .versions import IMAGE_SIDE

MAX_FILE_BYTES = 2**16  # of an encoded image, so that what it decodes to stays small
# Rows of a block. With 16 rows, weights and states still fit in a core's own cache. A smaller batch is divided into two
# blocks, for two cores, of at least 4 rows.
MIN_BLOCK_ROWS, MAX_BLOCK_ROWS = 4, 16
PARALLEL_BLOCKS = 8  # BlockLSTMV2 writes seven values per row, unit and step: 45 MB for a block of 128 units
BACKGROUND_STEPS = 7  # the states after 7, 14, 21, ... background pixels are stored


def has_block_lstm(model: keras.Sequential) -> bool:
    """Return whether a model's recurrent layer is an LSTM of Keras with the arguments that ``BlockLSTMV2`` computes.

    They are Keras's defaults. A model of another layer lacks the signatures that need its states.
    """
    layer = model.layers[0]
    if type(layer) is not keras.layers.LSTM:
        return False
    return (
        layer.activation is keras.activations.tanh
        and layer.recurrent_activation is keras.activations.sigmoid
        and layer.use_bias
        and not (layer.go_backwards or layer.stateful)
        and layer.compute_dtype == "float32"
    )


class ServingFunctions:
    """The functions of the signatures, each for any number of rows n, as graphs of TensorFlow operations.

    They are those of a Keras Sequential of a recurrent layer over one feature and a dense layer, with the normalization
    and the pixel order, int (784,), of its run.
    """

    def __init__(self, model: keras.Sequential, normalization: str, order: np.ndarray) -> None:
        for layer in model._flatten_layers():
            if hasattr(layer, "use_cudnn"):
                layer.use_cudnn = False  # otherwise the graph would only run on the kind of device that wrote it
        self.model = model
        self.levels, self.order = data.normalized_levels(normalization), order
        self.block_lstm: Any = BlockLSTM(model, float(self.levels[0])) if has_block_lstm(model) else None

    def serving_default(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Classify images uint8 (n, 28, 28): ``class_id`` int64 (n,), ``probabilities`` float32 (n, 10)."""
        sequences = self._sequences(images)
        logits = self.block_lstm.logits(sequences) if self.block_lstm else self.model(sequences)
        return {"class_id": tf.argmax(logits, -1), "probabilities": tf.nn.softmax(logits)}

    def encoded_images(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Classify 28x28 PNG or JPEG files, string (n,); outputs as :meth:`serving_default`."""
        image = tf.TensorSpec((IMAGE_SIDE, IMAGE_SIDE), tf.uint8)
        return self.serving_default(tf.map_fn(decode_image, image_bytes, fn_output_signature=image))

    def logits(self, sequence: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return ``logits`` float32 (n, 10) of sequences float32 (n, 784, 1), normalised and in the run's pixel order.

        Keras's own loop of elementary operations, for engines without ``BlockLSTMV2``.
        """
        return {"logits": self.model(sequence)}

    def trace(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return ``probabilities`` float32 (n, 784, 10), after each pixel of images uint8 (n, 28, 28)."""
        zeros = tf.zeros((tf.shape(images)[0], self.block_lstm.units))
        logits, _, _ = self.block_lstm.unroll(self._sequences(images), zeros, zeros)
        return {"probabilities": tf.nn.softmax(logits)}

    def step(self, pixels: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> dict[str, tf.Tensor]:
        """Continue from the states ``h`` and ``c`` float32 (n, units), zeros at the start, over ``pixels``.

        These are float32 (n, k, 1), normalised and in the run's pixel order. The answer has ``h_next`` and ``c_next``
        float32 (n, units), and ``probabilities`` float32 (n, k, 10), after each pixel.
        """
        logits, h_next, c_next = self.block_lstm.unroll(pixels, h, c)
        return {"h_next": h_next, "c_next": c_next, "probabilities": tf.nn.softmax(logits)}

    def _sequences(self, images: tf.Tensor) -> tf.Tensor:
        pixels = tf.reshape(images, (-1, NUM_TIMESTEPS, 1))
        if not np.array_equal(self.order, np.arange(NUM_TIMESTEPS)):
            pixels = tf.gather(pixels, self.order.astype(np.int32), axis=1)
        return tf.gather(self.levels, tf.cast(pixels, tf.int32))


def save_signatures(model: keras.Sequential, normalization: str, order: np.ndarray, path: Path) -> None:
    """Write a trained model as a SavedModel whose signatures are the :class:`ServingFunctions`.

    ``trace`` and ``step`` need an LSTM's states: a model of another layer has the other three signatures.
    """
    functions = ServingFunctions(model, normalization, order)
    images = tf.TensorSpec((None, IMAGE_SIDE, IMAGE_SIDE), tf.uint8, "images")
    image_bytes = tf.TensorSpec((None,), tf.string, "image_bytes")
    sequence = tf.TensorSpec((None, NUM_TIMESTEPS, 1), tf.float32, "sequence")
    pixels = tf.TensorSpec((None, None, 1), tf.float32, "pixels")
    archive = ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", functions.serving_default, [images])
    archive.add_endpoint("encoded_images", functions.encoded_images, [image_bytes])
    archive.add_endpoint("logits", functions.logits, [sequence])
    if functions.block_lstm:
        archive.track(functions.block_lstm)
        h, c = (tf.TensorSpec((None, model.layers[0].units), tf.float32, name) for name in ("h", "c"))
        archive.add_endpoint("trace", functions.trace, [images])
        archive.add_endpoint("step", functions.step, [pixels, h, c])
    archive.write_out(str(path), verbose=False)


def decode_image(image_bytes: tf.Tensor) -> tf.Tensor:
    """Return the image uint8 (28, 28) of a PNG or JPEG file, whose transparency is ignored."""
    size = tf.strings.length(image_bytes)
    with tf.control_dependencies([tf.debugging.assert_less_equal(size, MAX_FILE_BYTES, "the file is too large")]):
        image = tf.io.decode_image(image_bytes, channels=1, expand_animations=False)
    return tf.ensure_shape(image, (IMAGE_SIDE, IMAGE_SIDE, 1))[..., 0]


class BlockLSTM(tf.Module):
    """The LSTM and the dense layer of a trained model, on ``BlockLSTMV2``, with their own copies of the weights.

    ``background`` is the normalised value of a background pixel.
    """

    def __init__(self, model: keras.Sequential, background: float) -> None:
        super().__init__()
        lstm, dense = model.layers
        self.units, self._background = lstm.units, background
        # A second feature, of weight 0: with an odd number of features and of rows, each call would log a warning.
        weights = [lstm.cell.kernel, tf.zeros((1, 4 * lstm.units)), lstm.cell.recurrent_kernel]
        self._weights = tf.Variable(tf.concat(weights, 0), trainable=False)
        self._bias = tf.Variable(lstm.cell.bias, trainable=False)
        self._readout_weights = tf.Variable(dense.kernel, trainable=False)
        self._readout_bias = tf.Variable(dense.bias, trainable=False)
        zeros = tf.zeros((1, self.units))
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
        """Continue from the states h and c, float32 (n, units), over pixels float32 (n, k, 1); k may be 0.

        Return the logits after each pixel, float32 (n, k, 10), and the states after the last.
        """

        def block(rows: slice) -> tuple[tf.Tensor, ...]:
            hs, cs = self._steps(tf.transpose(pixels[rows], (1, 0, 2)), h[rows], c[rows])
            last_h, last_c = tf.concat([h[rows][None], hs], 0)[-1], tf.concat([c[rows][None], cs], 0)[-1]
            return tf.transpose(self._readout(hs), (1, 0, 2)), last_h, last_c

        shapes = [(None, NUM_CLASSES), (self.units,), (self.units,)]
        logits, h_next, c_next = _by_blocks_of_rows(tf.shape(pixels)[0], block, shapes)
        return logits, h_next, c_next

    def _steps(self, pixels: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the states h and c after each of the pixels (k, rows, 1): float32 (k, rows, units)."""
        no_peephole = tf.zeros((self.units,))
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

    It returns float32 tensors (rows, *shape), of which ``shapes`` has the shape of a row.
    """
    size = tf.clip_by_value((n + 1) // 2, MIN_BLOCK_ROWS, MAX_BLOCK_ROWS)
    blocks = tf.maximum((n + size - 1) // size, 1)

    def one(i: tf.Tensor, *results: tf.TensorArray) -> tuple[Any, ...]:
        parts = block(slice(i * n // blocks, (i + 1) * n // blocks))
        return i + 1, *(result.write(i, part) for result, part in zip(results, parts, strict=True))

    results = [tf.TensorArray(tf.float32, blocks, infer_shape=False, element_shape=(None, *shape)) for shape in shapes]
    done = tf.while_loop(lambda i, *_: i < blocks, one, (0, *results), parallel_iterations=PARALLEL_BLOCKS)
    return [tf.ensure_shape(result.concat(), (None, *shape)) for result, shape in zip(done[1:], shapes, strict=True)]

"""The signatures of an exported model: the functions that TF Serving and other engines can call."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras.export import ExportArchive

from .. import data
from ..config import NUM_TIMESTEPS
from .block_lstm import BlockLSTM, is_block_lstm
from .strokes import IMAGE_SIDE

# The position of width and height in a PNG file: two big-endian int32, the first data of its first chunk.
PNG_SIZE_AT, PNG_SIZE_BYTES = 16, 8


def has_block_lstm(model: keras.Sequential) -> bool:
    """Return whether a model's recurrent layer is an LSTM as ``BlockLSTM`` computes it; others lack some signatures."""
    return is_block_lstm(model.layers[0])


class ServingFunctions:
    """The functions of the signatures, each for any number of rows n, as graphs of TensorFlow operations.

    Args:
        model: a Keras Sequential of a recurrent layer over one feature and a dense layer.
        normalization: ``task.normalization`` of its run.
        order: int (784,), the pixel order of its run.
    """

    def __init__(self, model: keras.Sequential, normalization: str, order: np.ndarray) -> None:
        for layer in model._flatten_layers():
            if hasattr(layer, "use_cudnn"):
                layer.use_cudnn = False  # otherwise the graph would only run on the kind of device that wrote it
        self.model = model
        self.levels, self.order = data.normalized_levels(normalization), order
        self.block_lstm = BlockLSTM(model, float(self.levels[0])) if has_block_lstm(model) else None

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
        lstm = self._lstm()
        start = lstm.start(tf.shape(images)[0])
        logits, _, _ = lstm.unroll(self._sequences(images), *start)
        return {"probabilities": tf.nn.softmax(logits)}

    def step(self, pixels: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> dict[str, tf.Tensor]:
        """Continue over the next pixels, float32 (n, k, 1), of sequences.

        Args:
            pixels: float32 (n, k, 1), normalised and in the run's pixel order.
            h: float32 (n, units), the output before these pixels; zeros at the start.
            c: float32 (n, units), the cell state before these pixels; zeros at the start.

        Returns:
            ``h_next`` and ``c_next`` float32 (n, units), and ``probabilities`` float32 (n, k, 10), after each pixel.
        """
        logits, h_next, c_next = self._lstm().unroll(pixels, h, c)
        return {"h_next": h_next, "c_next": c_next, "probabilities": tf.nn.softmax(logits)}

    def _lstm(self) -> BlockLSTM:
        if self.block_lstm is None:
            raise TypeError("trace and step need a stock LSTM")
        return self.block_lstm

    def _sequences(self, images: tf.Tensor) -> tf.Tensor:
        pixels = tf.reshape(images, (-1, NUM_TIMESTEPS, 1))
        if not np.array_equal(self.order, np.arange(NUM_TIMESTEPS)):
            pixels = tf.gather(pixels, self.order.astype(np.int32), axis=1)
        return tf.gather(self.levels, tf.cast(pixels, tf.int32))


def save_signatures(model: keras.Sequential, normalization: str, order: np.ndarray, path: Path) -> None:
    """Write a trained model as a SavedModel whose signatures are the :class:`ServingFunctions`.

    ``trace`` and ``step`` need an LSTM's states: a model of another layer has the other three signatures.

    Args:
        model: a Keras Sequential of a recurrent layer over one feature and a dense layer.
        normalization: ``task.normalization`` of the model's run.
        order: int (784,), the pixel order of the model's run.
        path: the folder to write to.
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
    """Return the image uint8 (28, 28) of a PNG or JPEG file.

    The size is read and checked before the image is decoded, so that a huge picture costs no memory.
    """
    head = tf.strings.join([image_bytes, tf.constant(bytes(PNG_SIZE_AT + PNG_SIZE_BYTES))])  # padded: never too short
    size = tf.cond(
        tf.io.is_jpeg(image_bytes),
        lambda: tf.image.extract_jpeg_shape(image_bytes)[:2],
        lambda: tf.reshape(
            tf.io.decode_raw(tf.strings.substr(head, PNG_SIZE_AT, PNG_SIZE_BYTES), tf.int32, little_endian=False), (2,)
        ),
    )
    message = "image_bytes must be PNG or JPEG images of 28x28"
    with tf.control_dependencies([tf.debugging.assert_equal(size, [IMAGE_SIDE, IMAGE_SIDE], message)]):
        image = tf.io.decode_image(image_bytes, channels=1, expand_animations=False)
    return tf.ensure_shape(image, (IMAGE_SIDE, IMAGE_SIDE, 1))[..., 0]

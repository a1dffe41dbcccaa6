"""The signatures of an exported model: what TF Serving and other engines can call."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras.export import ExportArchive

from .. import data
from ..config import NUM_TIMESTEPS
from .block_lstm import BlockLSTM
from .picture import IMAGE_SIDE

# The position of width and height in a PNG file: two big-endian int32, the first data of its first chunk.
PNG_SIZE_AT, PNG_SIZE_BYTES = 16, 8


def save_signatures(model: keras.Sequential, normalization: str, order: np.ndarray, path: Path) -> None:
    """Write a trained model as a SavedModel with five signatures, each for any number of rows n.

    - ``serving_default``: ``images`` uint8 (n, 28, 28) to ``class_id`` int64 (n,), ``probabilities`` float32 (n, 10);
    - ``encoded_images``: ``image_bytes`` string (n,), 28x28 PNG or JPEG files, to the same outputs;
    - ``logits``: ``sequence`` float32 (n, 784, 1), normalised and in the run's pixel order, to ``logits`` float32
      (n, 10): Keras's own loop of elementary operations, for engines without ``BlockLSTMV2``;
    - ``trace``: ``images`` to ``probabilities`` float32 (n, 784, 10), after each pixel;
    - ``step``: ``pixels`` float32 (n, k, 1), the next part of a ``sequence``, with states ``h``, ``c`` float32
      (n, units), zeros at the start, to ``h_next``, ``c_next`` and ``probabilities`` float32 (n, k, 10).

    Args:
        model: a Keras Sequential of an LSTM over one feature and a dense layer, both stock layers.
        normalization: ``task.normalization`` of its run.
        order: int (784,), the pixel order of its run.
        path: the folder to write to.
    """
    lstm = model.layers[0]
    lstm.use_cudnn = False  # otherwise the graph would only run on the kind of device that wrote it
    levels = data.normalized_levels(normalization)
    block_lstm = BlockLSTM(model, float(levels[0]))

    def sequences(images: tf.Tensor) -> tf.Tensor:
        pixels = tf.reshape(images, (-1, NUM_TIMESTEPS, 1))
        if not np.array_equal(order, np.arange(NUM_TIMESTEPS)):
            pixels = tf.gather(pixels, order.astype(np.int32), axis=1)
        return tf.gather(levels, tf.cast(pixels, tf.int32))

    def classify(images: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = block_lstm.logits(sequences(images))
        return {"class_id": tf.argmax(logits, -1), "probabilities": tf.nn.softmax(logits)}

    def classify_encoded(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return classify(
            tf.map_fn(decode_image, image_bytes, fn_output_signature=tf.TensorSpec((IMAGE_SIDE, IMAGE_SIDE), tf.uint8))
        )

    def logits(sequence: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": model(sequence)}

    def trace(images: tf.Tensor) -> dict[str, tf.Tensor]:
        logits, _, _ = block_lstm.unroll(sequences(images), *block_lstm.start(tf.shape(images)[0]))
        return {"probabilities": tf.nn.softmax(logits)}

    def step(pixels: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> dict[str, tf.Tensor]:
        logits, h_next, c_next = block_lstm.unroll(pixels, h, c)
        return {"h_next": h_next, "c_next": c_next, "probabilities": tf.nn.softmax(logits)}

    images = tf.TensorSpec((None, IMAGE_SIDE, IMAGE_SIDE), tf.uint8, "images")
    image_bytes = tf.TensorSpec((None,), tf.string, "image_bytes")
    sequence = tf.TensorSpec((None, NUM_TIMESTEPS, 1), tf.float32, "sequence")
    pixels = tf.TensorSpec((None, None, 1), tf.float32, "pixels")
    h, c = (tf.TensorSpec((None, lstm.units), tf.float32, name) for name in ("h", "c"))
    archive = ExportArchive()
    archive.track(model)
    archive.track(block_lstm)
    archive.add_endpoint("serving_default", classify, [images])
    archive.add_endpoint("encoded_images", classify_encoded, [image_bytes])
    archive.add_endpoint("logits", logits, [sequence])
    archive.add_endpoint("trace", trace, [images])
    archive.add_endpoint("step", step, [pixels, h, c])
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

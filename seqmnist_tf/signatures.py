"""The signatures of an exported model: what TF Serving and other engines can call."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras.export import ExportArchive

from . import data
from .config import NUM_TIMESTEPS
from .served_lstm import ServedLSTM

SIDE = 28
# Where a PNG file says its width and height, as two big-endian int32 (the data of its first chunk).
PNG_SIZE_AT, PNG_SIZE_BYTES = 16, 8


def save(model: keras.Sequential, normalization: str, order: np.ndarray, path: Path) -> None:
    """Write a trained model as a SavedModel with its five signatures, all of any number of rows n.

    - ``serving_default``: ``images`` uint8 (n, 28, 28) to ``class_id`` int64 (n,), ``probabilities`` float32 (n, 10);
    - ``encoded_images``: ``image_bytes`` string (n,), PNG or JPEG of 28x28, to the same;
    - ``logits``: ``sequence`` float32 (n, 784, 1), as the model reads it, to ``logits`` float32 (n, 10): Keras's own
      loop of elementary operations, for engines that know no BlockLSTMV2;
    - ``trace``: ``images`` to ``probabilities`` float32 (n, 784, 10), after every pixel;
    - ``step``: ``pixels`` float32 (n, k, 1), as ``sequence`` from any place on, with states ``h``, ``c`` float32
      (n, units), zeros before the first, to ``h_next``, ``c_next`` and ``probabilities`` float32 (n, k, 10).

    Args:
        model: a Keras Sequential of an LSTM over one feature and a dense layer; stock layers.
        normalization: ``task.normalization`` of its run.
        order: int (784,), the pixel order of its run.
        path: the folder to write to.
    """
    lstm = model.layers[0]
    lstm.use_cudnn = False  # or the graph would be one for the device that wrote it
    levels = data.normalized_levels(normalization)
    served = ServedLSTM(model, float(levels[0]))

    def sequences(images: tf.Tensor) -> tf.Tensor:
        pixels = tf.reshape(images, (-1, NUM_TIMESTEPS, 1))
        if not np.array_equal(order, np.arange(NUM_TIMESTEPS)):
            pixels = tf.gather(pixels, order.astype(np.int32), axis=1)
        return tf.gather(levels, tf.cast(pixels, tf.int32))

    def classify(images: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = served.logits(sequences(images))
        return {"class_id": tf.argmax(logits, -1), "probabilities": tf.nn.softmax(logits)}

    def classify_encoded(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return classify(tf.map_fn(decode, image_bytes, fn_output_signature=tf.TensorSpec((SIDE, SIDE), tf.uint8)))

    def logits(sequence: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": model(sequence)}

    def trace(images: tf.Tensor) -> dict[str, tf.Tensor]:
        logits, _, _ = served.unroll(sequences(images), *served.start(tf.shape(images)[0]))
        return {"probabilities": tf.nn.softmax(logits)}

    def step(pixels: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> dict[str, tf.Tensor]:
        logits, h_next, c_next = served.unroll(pixels, h, c)
        return {"h_next": h_next, "c_next": c_next, "probabilities": tf.nn.softmax(logits)}

    images = tf.TensorSpec((None, SIDE, SIDE), tf.uint8, "images")
    image_bytes = tf.TensorSpec((None,), tf.string, "image_bytes")
    sequence = tf.TensorSpec((None, NUM_TIMESTEPS, 1), tf.float32, "sequence")
    pixels = tf.TensorSpec((None, None, 1), tf.float32, "pixels")
    h, c = (tf.TensorSpec((None, lstm.units), tf.float32, name) for name in ("h", "c"))
    archive = ExportArchive()
    archive.track(model)
    archive.track(served)
    archive.add_endpoint("serving_default", classify, [images])
    archive.add_endpoint("encoded_images", classify_encoded, [image_bytes])
    archive.add_endpoint("logits", logits, [sequence])
    archive.add_endpoint("trace", trace, [images])
    archive.add_endpoint("step", step, [pixels, h, c])
    archive.write_out(str(path), verbose=False)


def decode(image_bytes: tf.Tensor) -> tf.Tensor:
    """Return the image uint8 (28, 28) of a PNG or JPEG file; another size is an error before anything is decoded."""
    head = tf.strings.join([image_bytes, tf.constant(bytes(PNG_SIZE_AT + PNG_SIZE_BYTES))])  # long enough to be cut
    size = tf.cond(
        tf.io.is_jpeg(image_bytes),
        lambda: tf.image.extract_jpeg_shape(image_bytes)[:2],
        lambda: tf.reshape(
            tf.io.decode_raw(tf.strings.substr(head, PNG_SIZE_AT, PNG_SIZE_BYTES), tf.int32, little_endian=False), (2,)
        ),
    )
    message = "image_bytes must be PNG or JPEG images of 28x28"
    with tf.control_dependencies([tf.debugging.assert_equal(size, [SIDE, SIDE], message)]):
        image = tf.io.decode_image(image_bytes, channels=1, expand_animations=False)
    return tf.ensure_shape(image, (SIDE, SIDE, 1))[..., 0]

"""Exported signatures against the Keras model that they were made from."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from . import data
from .errors import RunError
from .saved_model import SavedModel

# Sums over 784 steps in another order differ by some 1e-6 of a probability; another model, by far more than this.
TOLERANCE = 1e-5
STEP_PIXELS = slice(400, 428)  # what the example of ``step`` reads, from states as if there had been others before

Arrays = dict[str, np.ndarray]


def example_inputs(
    images: np.ndarray, model: keras.Sequential, normalization: str, order: np.ndarray
) -> dict[str, Arrays]:
    """Return the inputs of every signature for images uint8 (n, 28, 28).

    Args:
        images: uint8 (n, 28, 28).
        model: the Keras model that was exported.
        normalization: ``task.normalization`` of its run.
        order: int (784,), the pixel order of its run.
    """
    sequences = data.encode(images, normalization, order)
    pngs = np.array([tf.io.encode_png(image[..., None]).numpy() for image in images], dtype=object)
    states = np.random.RandomState(0).uniform(-0.5, 0.5, (2, len(images), model.layers[0].units)).astype(np.float32)
    return {
        "serving_default": {"images": images},
        "encoded_images": {"image_bytes": pngs},
        "logits": {"sequence": sequences},
        "trace": {"images": images},
        "step": {"pixels": sequences[:, STEP_PIXELS], "h": states[0], "c": states[1]},
    }


def expected_outputs(inputs: dict[str, Arrays], model: keras.Sequential) -> dict[str, Arrays]:
    """Return what every signature has to give for the inputs of :func:`example_inputs`, computed by Keras's layers."""
    lstm, dense = model.layers
    unrolled = keras.layers.RNN(lstm.cell, return_sequences=True, return_state=True)

    def probabilities(states: Any) -> np.ndarray:
        return keras.ops.convert_to_numpy(keras.ops.softmax(dense(states)))

    sequences, step = inputs["logits"]["sequence"], inputs["step"]
    logits = keras.ops.convert_to_numpy(model(sequences))
    answer = {"class_id": logits.argmax(axis=1), "probabilities": keras.ops.convert_to_numpy(keras.ops.softmax(logits))}
    after_each, h, c = unrolled(step["pixels"], initial_state=[step["h"], step["c"]])
    return {
        "serving_default": answer,
        "encoded_images": answer,
        "logits": {"logits": logits},
        "trace": {"probabilities": probabilities(unrolled(sequences)[0])},
        "step": {
            "h_next": keras.ops.convert_to_numpy(h),
            "c_next": keras.ops.convert_to_numpy(c),
            "probabilities": probabilities(after_each),
        },
    }


def difference(outputs: Arrays, expected: Arrays) -> float:
    """Return the largest difference between the outputs of a signature, in units of max(1, largest value).

    A class that differs counts as the difference between the two classes' probabilities.
    """
    largest = 0.0
    for name, wanted in expected.items():
        got = outputs[name]
        if got.shape != wanted.shape or got.dtype != wanted.dtype:
            raise RunError(f"output {name} is {got.dtype} {got.shape} and has to be {wanted.dtype} {wanted.shape}")
        if name == "class_id":
            rows, likely = np.arange(len(wanted)), expected["probabilities"]
            off = likely[rows, wanted] - likely[rows, got]
        else:
            off = np.abs(got - wanted) / max(1.0, float(np.abs(wanted).max(initial=0)))
        largest = float(np.maximum(largest, np.max(off, initial=0)))  # a NaN stays one
    return largest


def compare(saved: SavedModel, model: keras.Sequential, inputs: dict[str, Arrays]) -> dict[str, float]:
    """Return the :func:`difference` between an exported model and the Keras model, by signature.

    Raises:
        RunError: one is above 1e-5.
    """
    expected = expected_outputs(inputs, model)
    found = {name: difference(saved(name, **arrays), expected[name]) for name, arrays in inputs.items()}
    for name, off in found.items():
        if not off <= TOLERANCE:
            raise RunError(
                f"signature {name} differs from the Keras model by {off:.1e} (at most {TOLERANCE:.0e} may be)"
            )
    return found

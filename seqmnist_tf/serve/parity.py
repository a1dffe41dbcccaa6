"""Comparison of exported signatures with the Keras model from which they were exported."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from .. import data
from ..config import NUM_TIMESTEPS
from ..system import RunError
from .models import SavedModel
from .signatures import has_block_lstm

# Sums in another order over 784 steps change a probability by about 1e-6, and another model changes it by far more than
# this tolerance.
TOLERANCE = 1e-5
STEP_PIXELS = slice(400, 428)  # the pixels of the example for ``step``, whose states are not zero

Arrays = dict[str, np.ndarray]


def example_inputs(
    images: np.ndarray, model: keras.Sequential, normalization: str, order: np.ndarray
) -> dict[str, Arrays]:
    """Return inputs for every signature of a model that all show the same images, uint8 (n, 28, 28)."""
    sequences = data.encode(images, normalization, order)
    pngs = np.array([tf.io.encode_png(image[..., None]).numpy() for image in images], dtype=object)
    inputs: dict[str, Arrays] = {
        "serving_default": {"images": images},
        "encoded_images": {"image_bytes": pngs},
        "logits": {"sequence": sequences},
    }
    if has_block_lstm(model):
        shape = (2, len(images), model.layers[0].units)
        h, c = np.random.RandomState(0).uniform(-0.5, 0.5, shape).astype(np.float32)
        inputs["trace"] = {"images": images}
        inputs["step"] = {"pixels": sequences[:, STEP_PIXELS], "h": h, "c": c}
    return inputs


def keras_outputs(model: keras.Sequential) -> Callable[[dict[str, Arrays]], dict[str, Arrays]]:
    """Return a function from the inputs of :func:`example_inputs` to the outputs of Keras's own layers, by signature.

    They compute in a graph for any number of rows, as in training. Outside of a graph, 784 steps would take a second.
    """
    any_rows = {"logits": {"sequence": tf.TensorSpec((None, NUM_TIMESTEPS, 1))}}
    if has_block_lstm(model):
        states = {name: tf.TensorSpec((None, model.layers[0].units)) for name in ("h", "c")}
        any_rows["step"] = {"pixels": tf.TensorSpec((None, None, 1)), **states}

    @tf.function(input_signature=[any_rows], autograph=False)
    def compute(arrays: dict[str, dict[str, tf.Tensor]]) -> dict[str, dict[str, tf.Tensor]]:
        logits = model(arrays["logits"]["sequence"])
        answer = {"class_id": tf.argmax(logits, -1), "probabilities": keras.ops.softmax(logits)}
        outputs = {"serving_default": answer, "encoded_images": answer, "logits": {"logits": logits}}
        return outputs | _unrolled_outputs(arrays, model) if "step" in arrays else outputs

    def outputs(inputs: dict[str, Arrays]) -> dict[str, Arrays]:
        computed = compute({name: inputs[name] for name in any_rows})
        return {name: {key: output.numpy() for key, output in parts.items()} for name, parts in computed.items()}

    return outputs


def _unrolled_outputs(
    arrays: dict[str, dict[str, tf.Tensor]], model: keras.Sequential
) -> dict[str, dict[str, tf.Tensor]]:
    """Return the outputs of ``trace`` and ``step``, computed by Keras's own loop over the LSTM's cell."""
    lstm, dense = model.layers
    unrolled = keras.layers.RNN(lstm.cell, return_sequences=True, return_state=True)
    step = arrays["step"]
    after_each, h, c = unrolled(step["pixels"], initial_state=[step["h"], step["c"]])
    return {
        "trace": {"probabilities": keras.ops.softmax(dense(unrolled(arrays["logits"]["sequence"])[0]))},
        "step": {"h_next": h, "c_next": c, "probabilities": keras.ops.softmax(dense(after_each))},
    }


def largest_difference(outputs: Arrays, expected: Arrays) -> float:
    """Return the largest difference between the outputs of a signature, relative to max(1, largest expected value).

    For classes that differ, it is the difference between the expected probabilities of the two classes. RunError is
    raised for an output of another shape or dtype.
    """
    largest = 0.0
    for name, right in expected.items():
        got = outputs[name]
        if got.shape != right.shape or got.dtype != right.dtype:
            raise RunError(f"output {name} must be {right.dtype} {right.shape} (got {got.dtype} {got.shape})")
        if name == "class_id":
            rows, probabilities = np.arange(len(right)), expected["probabilities"]
            differences = probabilities[rows, right] - probabilities[rows, got]
        else:
            differences = np.abs(got - right) / max(1.0, float(np.abs(right).max(initial=0)))
        largest = float(np.maximum(largest, np.max(differences, initial=0)))  # unlike max(), keeps a NaN
    return largest


def require_parity(saved: SavedModel, inputs: dict[str, Arrays], expected: dict[str, Arrays]) -> dict[str, float]:
    """Return the :func:`largest_difference` between an exported model and the Keras model, by signature.

    Raises:
        RunError: a difference is above 1e-5.
    """
    differences = {name: largest_difference(saved(name, **arrays), expected[name]) for name, arrays in inputs.items()}
    for name, value in differences.items():
        if not value <= TOLERANCE:  # so that a NaN fails too
            raise RunError(
                f"signature {name} differs from the Keras model by {value:.1e} (at most {TOLERANCE:.0e} is allowed)"
            )
    return differences

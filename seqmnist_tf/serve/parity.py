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

# BlockLSTMV2 adds x W + h U + b in another order than Keras. In one step, this rounding stays below 1e-6. Over many
# steps some models magnify it a hundred times: Keras's own distance from float64 shows how much.
STEP_TOLERANCE, RUN_TOLERANCE, TIMES_KERAS = 2e-6, 1e-5, 4
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


def keras_outputs(
    model: keras.Sequential, *, float64: bool = False
) -> Callable[[dict[str, Arrays]], dict[str, Arrays]]:
    """Return a function from the inputs of :func:`example_inputs` to the outputs of Keras's own layers, by signature.

    They compute in a graph for any number of rows, as in training. Outside of a graph, 784 steps would take a second.
    With ``float64`` they compute in float64, and the outputs are rounded at the end.
    """
    any_rows = {"logits": {"sequence": tf.TensorSpec((None, NUM_TIMESTEPS, 1))}}
    if has_block_lstm(model):
        states = {name: tf.TensorSpec((None, model.layers[0].units)) for name in ("h", "c")}
        any_rows["step"] = {"pixels": tf.TensorSpec((None, None, 1)), **states}
    if float64:
        layers = [type(layer).from_config({**layer.get_config(), "dtype": "float64"}) for layer in model.layers]
        weights = model.get_weights()
        model = keras.Sequential([keras.Input((NUM_TIMESTEPS, 1)), *layers])
        model.set_weights(weights)

    @tf.function(input_signature=[any_rows], autograph=False)
    def compute(arrays: dict[str, dict[str, tf.Tensor]]) -> dict[str, dict[str, tf.Tensor]]:
        sequence = arrays["logits"]["sequence"]
        logits = model(sequence)
        answer = {"probabilities": keras.ops.softmax(logits)}  # class_id is the argmax of the same logits
        outputs = {"serving_default": answer, "encoded_images": answer, "logits": {"logits": logits}}
        if "step" in arrays:
            outputs["trace"] = {"probabilities": _unroll(model, sequence)["probabilities"]}
            outputs["step"] = _unroll(model, **arrays["step"])
        return outputs

    def outputs(inputs: dict[str, Arrays]) -> dict[str, Arrays]:
        computed = compute({name: inputs[name] for name in any_rows})
        return tf.nest.map_structure(lambda output: output.numpy().astype(np.float32), computed)

    return outputs


def _unroll(
    model: keras.Sequential, pixels: tf.Tensor, h: tf.Tensor | None = None, c: tf.Tensor | None = None
) -> dict[str, tf.Tensor]:
    """Return the outputs of ``step``, computed by Keras's own loop over the LSTM's cell."""
    lstm, dense = model.layers
    unrolled = keras.layers.RNN(lstm.cell, return_sequences=True, return_state=True, dtype=lstm.dtype_policy)
    after_each, h, c = unrolled(pixels, initial_state=None if h is None else [h, c])
    return {"h_next": h, "c_next": c, "probabilities": keras.ops.softmax(dense(after_each))}


def largest_difference(outputs: Arrays, expected: Arrays) -> float:
    """Return the largest difference from the expected outputs, relative to max(1, largest expected value)."""
    scaled = [np.abs(outputs[name] - right).max() / max(1.0, np.abs(right).max()) for name, right in expected.items()]
    return float(np.max(scaled))  # unlike max(), keeps a NaN


def require_parity(
    saved: SavedModel, model: keras.Sequential, examples: list[dict[str, Arrays]]
) -> dict[str, dict[str, float]]:
    """Return the largest differences between an exported model and the Keras model, or raise RunError.

    One step of an LSTM must be within 2e-6 of Keras's, from the same states: a wrong gate is seen there, whatever the
    model makes of it later. Whole sequences must be within 1e-5 of the Keras model in float64 or, where that is more,
    within four times the distance of Keras in float32. Other layers are exported as Keras's own operations: they must
    be within 1e-5 of Keras.
    """
    exported = [{name: saved(name, **arrays) for name, arrays in inputs.items()} for inputs in examples]
    expected = list(map(keras_outputs(model), examples))
    from_keras = _by_signature(exported, expected)
    differences = {"difference_from_keras": from_keras}
    compared = [(name, value, RUN_TOLERANCE) for name, value in from_keras.items()]
    if has_block_lstm(model):
        exact = list(map(keras_outputs(model, float64=True), examples))
        from_float64, own = _by_signature(exported, exact), _by_signature(expected, exact)
        differences |= {"difference_from_float64": from_float64, "keras_from_float64": own}
        step = examples[-1]["step"] | {"pixels": examples[-1]["step"]["pixels"][:, :1]}
        after_one = {name: output.numpy() for name, output in _unroll(model, **step).items()}
        compared = [("step", largest_difference(saved("step", **step), after_one), STEP_TOLERANCE)]
        compared += [(name, d, max(RUN_TOLERANCE, TIMES_KERAS * own[name])) for name, d in from_float64.items()]
    for name, difference, limit in compared:
        if not difference <= limit:  # so that a NaN fails too
            allowed = f"at most {limit:.0e} is allowed"
            raise RunError(f"signature {name} differs from the Keras model by {difference:.1e} ({allowed})")
    return differences


def _by_signature(outputs: list[dict[str, Arrays]], expected: list[dict[str, Arrays]]) -> dict[str, float]:
    pairs = list(zip(outputs, expected, strict=True))
    return {name: float(np.max([largest_difference(a[name], b[name]) for a, b in pairs])) for name in outputs[0]}

"""The check of a custom layer before a run: shape, gradient, repetition, saving and loading, rows of a batch alone."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..config import NUM_TIMESTEPS, Config, LayerFile, has_stock_layer
from ..system import note
from .layers import LayerError, as_layer, call_factory, custom_objects, is_cell

LARGE_GRAPH = 5_000  # operations of a training step; a loop in the graph has some hundred


def check_layer(config: Config, file: LayerFile | None = None) -> None:
    """Try a custom layer on two sequences; LayerError says what it must do and does not.

    A sequence must have the same output beside any other; in training, batch normalization may mix them.
    An error in its code is raised as it is.
    """
    if has_stock_layer(config):
        return
    name = f"model.layer {config.model.layer}"
    made = call_factory(config, file)
    if is_cell(made):
        note(f"{name} is a cell: keras.layers.RNN calls it for each pixel")
    sequences = np.random.RandomState(0).standard_normal((3, NUM_TIMESTEPS, 1)).astype(np.float32)
    model, step = _build(name, as_layer(made), config.model.hidden_size, sequences[:2])
    _require_gradient_and_repetition(name, model, step)
    loaded = _save_and_load(model, custom_objects(config, file))
    _require_equal_outputs(name, model, loaded, sequences)


def _build(name: str, layer: keras.Layer, units: int, batch: np.ndarray) -> tuple[keras.Sequential, Any]:
    """Return a model of the layer alone, and a function without arguments: its output for the batch, and gradients."""

    @tf.function(autograph=False)
    def step() -> Any:
        with tf.GradientTape() as tape:
            output = model(batch, training=True)
        return output, tape.gradient(output, [weight.value for weight in model.trainable_variables])

    try:
        shape = layer(keras.Input((NUM_TIMESTEPS, 1))).shape
        model = keras.Sequential([keras.Input((NUM_TIMESTEPS, 1)), layer])
        operations = len(step.get_concrete_function().graph.get_operations())
    except Exception as error:
        if hasattr(layer, "state_size"):
            error.add_note("A cell's call must return (output, [states]); keras.layers.RNN(cell) makes a layer of it.")
        raise
    if shape != (None, units):
        raise LayerError(f"{name} must turn (n, {NUM_TIMESTEPS}, 1) into (n, {units}) (got {shape})")
    if operations > LARGE_GRAPH:
        note(
            f"{name}: a training step is a graph of {operations:,} operations, which is traced in each run "
            "(a loop of Python is traced pixel by pixel; keras.layers.RNN and keras.ops.scan are traced once)"
        )
    return model, step


@contextlib.contextmanager
def _keep_state(model: keras.Model) -> Iterator[None]:
    """Afterwards, give all variables of a model the values that they had, random states included."""
    before = [variable.numpy() for variable in model.variables]
    yield
    for variable, value in zip(model.variables, before, strict=True):
        variable.assign(value)


def _require_gradient_and_repetition(name: str, model: keras.Sequential, step: Any) -> None:
    with _keep_state(model):
        output, gradients = step()
    again, _ = step()
    if not np.isfinite(output).all():
        raise LayerError(f"{name} must give finite numbers (its first output has others)")
    if all(gradient is None for gradient in gradients):
        raise LayerError(f"{name} must have a gradient for one of its trainable weights (got none)")
    if not np.allclose(output, again, rtol=1e-3, atol=1e-4, equal_nan=True):
        raise LayerError(
            f"{name} must draw its random numbers with a keras.random.SeedGenerator (two calls from one "
            "state differ, so a resumed run would differ from a whole one)"
        )


def _save_and_load(model: keras.Sequential, classes: dict[str, Any]) -> keras.Sequential:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer.keras"
        model.save(path)
        try:
            return keras.saving.load_model(path, custom_objects=classes)
        except Exception as error:
            error.add_note(
                "Keras loads a layer or cell from its get_config(): its __init__ must take **kwargs, such as name."
            )
            raise


def _require_equal_outputs(name: str, model: keras.Sequential, loaded: keras.Sequential, sequences: np.ndarray) -> None:
    """Compare the output for sequences 0 and 1 with that of the loaded model, and with that for 0 and 2."""
    forward = tf.function(model, autograph=False)
    with _keep_state(model):
        output = forward(sequences[:2])
    if not np.array_equal(output, tf.function(loaded, autograph=False)(sequences[:2]), equal_nan=True):
        raise LayerError(f"{name} must give the same output after it was saved and loaded (it differs)")
    if not np.allclose(output[0], forward(sequences[::2])[0], rtol=1e-3, atol=1e-4):
        raise LayerError(
            f"{name} must process each sequence independently (the output of a sequence changes with the other "
            "sequences of its batch)"
        )

"""The private parts of Keras and TensorFlow that this subpackage uses, as they are in Keras 3.15 and TensorFlow 2.21.

Another version may change them without notice. A test calls each of them, and names what changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common import global_state
from tensorflow.python.eager import forwardprop_util, record

# ---- Keras ----


@contextlib.contextmanager
def outside_calls() -> Iterator[None]:
    """Let layers inherit nothing, such as ``training``, from the call that is under way."""
    context = global_state.get_global_attribute("current_call_ctx")
    global_state.set_global_attribute("current_call_ctx", None)
    try:
        yield
    finally:
        global_state.set_global_attribute("current_call_ctx", context)


def dropout_cells(cell: keras.Layer) -> list[Any]:
    """Return the cells with Keras's dropout that a cell, perhaps ``StackedRNNCells``, is or has."""
    if hasattr(cell, "get_dropout_mask"):
        return [cell] if cell.dropout or cell.recurrent_dropout else []
    return [found for single in getattr(cell, "cells", []) for found in dropout_cells(single)]


def draws(cell: keras.Layer) -> bool:
    """Return whether a step of a cell may draw, so that it has one program for training and another for the rest."""
    if type(cell) in (keras.layers.LSTMCell, keras.layers.GRUCell, keras.layers.SimpleRNNCell):
        return bool(dropout_cells(cell))
    if hasattr(cell, "cells"):
        return any(draws(single) for single in cell.cells)
    return any(is_seed_state(variable) for variable in cell.variables)


def dropout_masks(cell: keras.Layer) -> list[tf.Tensor]:
    """Return the masks that the cells of a cell hold, and read in training, float32 (n, width) each."""
    found: list[tf.Tensor] = []
    for single in dropout_cells(cell):
        if 0 < single.dropout < 1:
            found += keras.tree.flatten(single._dropout_mask)
        if 0 < single.recurrent_dropout < 1:
            found += keras.tree.flatten(single._recurrent_dropout_mask)
    return found


def draw_masks(layer: keras.layers.RNN, features: tf.Tensor, states: Any) -> list[tf.Tensor]:
    """Return the masks of a call, drawn as stock Keras draws them, for the features of a step and first states."""
    layer._maybe_config_dropout_masks(layer.cell, features, states)
    drawn = dropout_masks(layer.cell)
    layer._maybe_reset_dropout_masks(layer.cell)
    return drawn


@contextlib.contextmanager
def masks_from(make: Callable[[tf.Tensor], tf.Tensor], cell: keras.Layer) -> Iterator[None]:
    """Let the dropout of a cell take its masks from a function of the tensor that is dropped from."""

    def masks_of(single: Any) -> Callable[..., Any]:
        count = getattr(single, "dropout_mask_count", None)
        return lambda like, rate: [make(like) for _ in range(count)] if count else make(like)

    cells = dropout_cells(cell)
    for single in cells:
        vars(single)["_create_dropout_mask"] = masks_of(single)  # hides the method of its class
    try:
        yield
    finally:
        for single in cells:
            del vars(single)["_create_dropout_mask"]
            single.reset_dropout_mask()
            single.reset_recurrent_dropout_mask()


def is_seed_state(variable: keras.Variable) -> bool:
    """Return whether a variable is the state of a ``keras.random.SeedGenerator``."""
    return variable.path.endswith("seed_generator_state")


def traced_by_keras(graph: Any) -> bool:
    """Return whether a graph is traced by ``fit``, ``evaluate``, ``predict`` or shape inference, which save none."""
    while graph is not None:
        if getattr(graph, "name", "").startswith(("one_step_on_", "multi_step_on_", "scratch_graph")):
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


def sublayers(layer: keras.Layer) -> Iterator[keras.Layer]:
    """Return the layers that Keras finds in a layer's attributes."""
    return layer._flatten_layers(include_self=False, recursive=False)


def all_layers(layer: keras.Layer) -> list[keras.Layer]:
    """Return a layer with all layers in it, at any depth."""
    return layer._flatten_layers()


def batch_size(layer: keras.layers.RNN) -> int | None:
    """Return the batch size that the states of a stateful layer are for."""
    return layer._expected_batch_size


def share_states(layer: keras.layers.RNN, other: keras.layers.RNN) -> None:
    """Let a stateful layer have the states of another one."""
    layer.states, layer._expected_batch_size = other.states, other._expected_batch_size


# ---- TensorFlow ----


def on_a_tape(tensors: Sequence[tf.Tensor]) -> bool:
    """Return whether a gradient tape records operations on one of the tensors."""
    return record.should_record_backprop(tensors)


def has_tangents(tensors: Sequence[tf.Tensor]) -> bool:
    """Return whether forward-mode gradients (``tf.autodiff.ForwardAccumulator``) are asked of one of the tensors."""
    return bool(forwardprop_util.pack_tangents(tensors).tangents)


def forward_operation(operation: tf.Operation) -> tf.Operation:
    """Return the operation of the forward pass that an operation of the backward pass is the gradient of, or itself."""
    while getattr(operation, "_original_op", None) is not None:
        operation = operation._original_op
    return operation

"""Functions on NumPy arrays, forward and backward, as one operation of TensorFlow that can be differentiated once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import record


def differentiable(
    forward: Callable[..., tuple[np.ndarray, np.ndarray | None]],
    backward: Callable[..., Sequence[np.ndarray]],
    inputs: Sequence[tf.Tensor],
    *,
    units: int,
    all_steps: bool,
    training: bool,
    stock: str,
) -> tf.Tensor:
    """Return the outputs of the kernel, float32 (n, units) or, with ``all_steps``, (n, steps, units).

    Args:
        forward: of the inputs and ``keep``: the outputs, and what the backward pass reads or None.
        backward: of the inputs, what was kept, the outputs' gradient and ``want_sequences``: the gradients of all
            inputs, or of all but the first.
        inputs: sequences float32 (n, steps, features), then whatever else gradients are asked for.
        training: keep what the backward pass reads. If false, a gradient computes the forward pass again.
        stock: the layer of Keras that has gradients of gradients.
    """
    follows_layers = record.should_record_backprop(inputs[:1])  # a tape will ask for the gradient of the sequences too

    def outputs(*arrays: np.ndarray) -> np.ndarray:
        return forward(*arrays, keep=False)[0]

    def second_order(*_: tf.Tensor) -> Any:
        raise NotImplementedError(
            f"the native kernel has first-order gradients only; use keras.layers.{stock} for higher-order ones"
        )

    # These operations have no state, so that a graph drops unused results, above all the gradient of the sequences.
    @tf.custom_gradient
    def compute(*inputs: tf.Tensor) -> Any:
        def run_and_keep() -> Any:
            return tf.numpy_function(partial(forward, keep=True), inputs, (tf.float32, tf.float32), stateful=False)

        states, kept = run_and_keep() if training else (None, None)
        if states is None:
            states = tf.numpy_function(outputs, inputs, tf.float32, stateful=False)
        n, steps, _ = inputs[0].shape
        states.set_shape((n, *((steps,) if all_steps else ()), units))

        @tf.custom_gradient
        def first_order(*given: tf.Tensor) -> Any:
            types = (tf.float32,) * len(inputs)
            every, others = (partial(backward, want_sequences=wanted) for wanted in (True, False))
            gradients = list(tf.numpy_function(every, given, types, stateful=False))
            if not follows_layers and not tf.executing_eagerly():  # else nothing would be dropped
                gradients[1:] = tf.numpy_function(others, given, types[1:], stateful=False)
            for tensor, source in zip(gradients, inputs, strict=True):
                tensor.set_shape(source.shape)
            return gradients, second_order

        def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
            upstream = tf.convert_to_tensor(upstream)  # IndexedSlices where rows of the states were selected
            return first_order(*inputs, run_and_keep()[1] if kept is None else kept, upstream)

        return states, gradient

    return compute(*inputs)

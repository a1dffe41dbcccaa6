"""The private parts of Keras and TensorFlow that the kernel uses do what they did: a failure names what changed."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.common import global_state
from tensorflow.python.eager import forwardprop_util, record

from seqmnist_tf.kernel import internals

CELL, RNN = keras.layers.LSTMCell, keras.layers.RNN


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (global_state, "get_global_attribute"),
        (global_state, "set_global_attribute"),
        *((CELL, name) for name in ("_create_dropout_mask", "reset_dropout_mask", "reset_recurrent_dropout_mask")),
        *((RNN, name) for name in ("_maybe_config_dropout_masks", "_maybe_reset_dropout_masks", "_flatten_layers")),
        *((RNN, name) for name in ("inner_loop", "get_initial_state")),
        (record, "should_record_backprop"),
        (forwardprop_util, "pack_tangents"),
    ],
)
def test_it_is_there(owner: Any, name: str) -> None:
    assert callable(getattr(owner, name))


def test_current_call_ctx_tells_inner_layers_whether_they_are_trained() -> None:
    class Outer(keras.layers.Layer):
        def call(self, x: Any, training: bool | None = None) -> Any:
            with internals.outside_calls():
                outside = keras.layers.Dropout(0.9, seed=1)(x)
            return outside, keras.layers.Dropout(0.9, seed=1)(x)

    outside, inside = Outer()(np.ones((9, 9), np.float32), training=True)
    assert np.all(outside == 1) and np.any(inside != 1)


def test_dropout_masks_are_drawn_and_replaced() -> None:
    layer = keras.layers.SimpleRNN(4, dropout=0.5, recurrent_dropout=0.5, seed=1)
    x = tf.ones((2, 3))
    first, second = internals.draw_masks(layer, x, [tf.ones((2, 4))])
    assert (first.shape, second.shape) == ((2, 3), (2, 4)) and set(np.ravel(first)) == {0, 2}
    assert layer.cell._dropout_mask is None and layer.cell._recurrent_dropout_mask is None
    with internals.masks_from(lambda like: 7 * tf.ones_like(like), layer.cell):
        layer.cell(x, [tf.ones((2, 4))], training=True)
        assert [float(mask[0, 0]) for mask in internals.dropout_masks(layer.cell)] == [7, 7]
    assert internals.draw_masks(layer, x, [tf.ones((2, 4))])[0][0, 0] != 7
    per_gate = keras.layers.GRUCell(4, dropout=0.5, seed=1, implementation=1)
    per_gate.get_dropout_mask(x)
    assert len(internals.dropout_masks(per_gate)) == per_gate.dropout_mask_count == 3


def test_the_state_of_a_seed_has_its_name() -> None:
    assert [internals.is_seed_state(v) for v in keras.layers.Dropout(0.5, seed=1).variables] == [True]


def test_graphs_of_fit_evaluate_and_predict_have_their_names() -> None:
    seen: list[bool] = []

    class Asking(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            seen.append(internals.traced_by_keras(tf.compat.v1.get_default_graph()))
            return x

    def asked(call: Any) -> bool:
        seen.clear()
        call()
        return bool(seen) and all(seen)

    layer, x = Asking(), np.ones((4, 2), np.float32)
    model = keras.Sequential([layer, keras.layers.Dense(1)])
    for steps in (1, 2):
        model.compile(loss="mse", steps_per_execution=steps)
        for call in (lambda: model.fit(x, x[:, :1], verbose=0), lambda: model.evaluate(x, x[:, :1], verbose=0)):
            assert asked(call)
        assert asked(lambda: model.predict(x, verbose=0))
    assert asked(lambda: keras.Sequential([keras.Input((2,)), layer]))  # shape inference
    assert not asked(lambda: tf.function(lambda: layer(tf.constant(x)))())


def test_a_stateful_layer_has_a_batch_size_and_states() -> None:
    layers = [keras.layers.LSTM(4, stateful=True) for _ in range(2)]
    layers[0].build((3, 5, 2))
    internals.share_states(layers[1], layers[0])
    assert internals.batch_size(layers[1]) == 3
    assert all(a is b for a, b in zip(layers[1].states, layers[0].states, strict=True))


def test_sublayers_are_those_of_attributes() -> None:
    inner = keras.layers.Dense(1)
    assert inner in list(internals.sublayers(keras.Sequential([inner])))


def test_tapes_and_tangents_are_seen() -> None:
    x = tf.ones(1)
    with tf.GradientTape() as tape:
        assert not internals.on_a_tape([x])
        tape.watch(x)
        assert internals.on_a_tape([x])
    with tf.autodiff.ForwardAccumulator(x, x):
        assert internals.has_tangents([x])
    assert not internals.has_tangents([x])


def test_the_operation_of_a_gradient_knows_the_one_of_the_forward_pass() -> None:
    with tf.Graph().as_default():
        x = tf.compat.v1.placeholder(tf.float32, (2,))
        y = tf.tanh(x)
        (gradient,) = tf.gradients(y, x)
        assert internals.forward_operation(gradient.op) is y.op and internals.forward_operation(y.op) is y.op

"""The drop-in for ``keras.layers.LSTM`` on the native kernel, and what it shares with that for other cells."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import forwardprop_util

from ..system import available_cores
from . import native
from .gradients import differentiable

# The arguments of ``keras.layers.LSTM`` that the kernel supports; anything else is left to stock Keras.
SUPPORTED = {
    "use_bias": True,
    "dropout": 0,
    "recurrent_dropout": 0,
    "return_state": False,
    "go_backwards": False,
    "stateful": False,
}
ACTIVATIONS = {"activation": keras.activations.tanh, "recurrent_activation": keras.activations.sigmoid}


class NativeLayer(keras.layers.RNN):
    """What the drop-ins share: the native kernel computes a call where it can, stock Keras where it cannot.

    Attributes:
        threads: CPU threads, 0 to 1,024; 0 is all cores.
    """

    threads = 0
    _warned = False

    def _set_threads(self, threads: int) -> None:
        native.require_threads(threads, least=0)
        self.threads = threads
        self.supports_jit = False  # the kernel is called from the graph; XLA cannot compile that

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "threads": self.threads}

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool | None = False) -> Any:
        reason = self.why_stock(sequences, initial_state, mask, bool(training))
        if reason:
            if not self._warned:
                self._warned = True
                warnings.warn(f"layer {self.name}: stock Keras is used, because {reason}", stacklevel=2)
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        if not tf.executing_eagerly() and not _belongs_to_keras(tf.compat.v1.get_default_graph()):
            with tf.control_dependencies([_unsaved().read_value()]):
                sequences = tf.identity(sequences)
        return self._states(sequences, bool(training))

    def why_stock(self, sequences: Any, initial_state: Any, mask: Any, training: bool) -> str | None:
        """Return why the kernel must not compute this call where it is made, traced or differentiated, or None."""
        for dtype in (self.variable_dtype, self.compute_dtype):
            if dtype != "float32":
                return f"dtype is {dtype}, not float32"
        if initial_state is not None or mask is not None:
            return "an initial state or a mask is given"
        if sequences.dtype != tf.float32:
            return f"sequences are {sequences.dtype.name}, not float32"
        stock = keras.layers.LSTM if isinstance(self, keras.layers.LSTM) else keras.layers.RNN
        for name in ("get_initial_state", "inner_loop"):  # a subclass may have its own
            if getattr(type(self), name) is not getattr(stock, name):
                return f"it has its own {name}"
        if reason := why_not_native() or self._problem(sequences):
            return reason
        weights = [tf.convert_to_tensor(weight) for weight in self.weights]
        if forwardprop_util.pack_tangents([sequences, *weights]).tangents:
            return "the kernel has no forward-mode gradients"
        if not training and not tf.executing_eagerly() and not _belongs_to_keras(tf.compat.v1.get_default_graph()):
            return "a graph outside of fit, evaluate and predict may be saved, and the kernel cannot be saved in it"
        return None

    def _problem(self, sequences: tf.Tensor) -> str | None:
        """Return why the kernel cannot compute the layer for sequences of these features, or None."""
        raise NotImplementedError

    def _states(self, sequences: tf.Tensor, training: bool) -> tf.Tensor:
        """Return what the kernel computes, float32 (n, units) or (n, steps, units)."""
        raise NotImplementedError


@keras.saving.register_keras_serializable(package="seqmnist_tf")
class LSTM(NativeLayer, keras.layers.LSTM):
    """``keras.layers.LSTM`` on the native CPU kernel: same arguments, same weights in the same order, same results.

    Sequences float32 (n, steps, features) to the last hidden states float32 (n, units) or, with ``return_sequences``,
    to those of all steps, (n, steps, units), so that layers stack. The states differ from stock Keras's by rounding: of
    another order of additions, and on AMX of products of bfloat16 parts. Stock Keras computes what the kernel does not
    support (other activations, dropout, masks, initial states, forward-mode gradients, a GPU, ...), and graphs that may
    be saved, such as those of ``model.export()``, with one warning that says why.

    A step: i, f, o = sigmoid(x W + h U + b), g = tanh(x W + h U + b), c' = f c + i g, h' = o tanh(c'), where each gate
    has its own part of the last axis of kernel W, recurrent kernel U and bias b, in Keras's order i, f, g, o
    (Hochreiter & Schmidhuber 1997; the forget gate: Gers, Schmidhuber & Cummins 2000).

    Args:
        threads: CPU threads, 0 to 1,024; 0 is all cores. The result does not depend on it, to the last bit.
        args, kwargs: as ``keras.layers.LSTM``; models of earlier versions also have ``precision``, ``float32``.

    Raises:
        ValueError: another number of threads, or another precision.

    Example::

        model = keras.Sequential([keras.Input((784, 1)), LSTM(128), keras.layers.Dense(10)])
    """

    def __init__(self, *args: Any, threads: int = 0, **kwargs: Any) -> None:
        if (precision := kwargs.pop("precision", "float32")) != "float32":
            raise ValueError(f"precision must be 'float32' (got {precision!r}): there is no lower one any more")
        super().__init__(*args, **kwargs)
        self._set_threads(threads)

    def _problem(self, sequences: tf.Tensor) -> str | None:
        return unsupported_argument(self)

    def _states(self, sequences: tf.Tensor, training: bool) -> tf.Tensor:
        threads, all_steps = self.threads or min(available_cores(), native.MAX_THREADS), self.return_sequences

        def forward(x: np.ndarray, *weights: np.ndarray, keep: bool) -> Any:
            return native.forward(x, weights, threads=threads, keep=keep, all_steps=all_steps)

        def backward(x: np.ndarray, *rest: np.ndarray, want_sequences: bool) -> Any:
            *weights, kept, upstream = rest
            *gradients, x_gradient = native.backward(
                x, weights, kept, upstream, threads=threads, want_sequences=want_sequences
            )
            return [x_gradient, *gradients] if want_sequences else gradients

        weights = (self.cell.kernel, self.cell.recurrent_kernel, self.cell.bias)
        return differentiable(
            forward,
            backward,
            (sequences, *map(tf.convert_to_tensor, weights)),
            units=self.units,
            all_steps=all_steps,
            training=training,
            stock="LSTM",
        )


def unsupported_argument(layer: keras.layers.LSTM) -> str | None:
    """Return which argument of an LSTM its kernel does not support, or None."""
    for key, value in SUPPORTED.items():
        if (given := getattr(layer, key)) != value:  # ``get_config`` would fail where an initializer cannot be written
            return f"{key} is {given!r}, not {value!r}"
    for key, function in ACTIVATIONS.items():
        given, name = getattr(layer.cell, key), function.__name__
        if given is not function:
            given_name = getattr(given, "__name__", repr(given))
            return f"{key} is not Keras's {name}" if given_name == name else f"{key} is {given_name!r}, not {name!r}"
    return None


def why_not_native() -> str | None:
    """Return why the native kernel cannot be used in this process, or None."""
    if keras.backend.backend() != "tensorflow":
        return f"Keras runs on {keras.backend.backend()}"
    if tf.config.get_visible_devices("GPU"):
        return "there is a GPU, on which stock Keras uses cuDNN"
    try:
        native.instruction_set()
    except native.UnavailableError as error:
        return f"the native kernel is not available: {error}"
    return None


def _belongs_to_keras(graph: Any) -> bool:
    """Return whether a graph is traced by ``fit``, ``evaluate``, ``predict`` or shape inference, which save none."""
    while graph is not None:
        if getattr(graph, "name", "").startswith(("one_step_on_", "multi_step_on_", "scratch_graph")):
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


@functools.cache
def _unsaved() -> tf.Variable:
    """Return a variable that no model has: a graph that reads it cannot be saved, and TensorFlow's error has its name.

    A training step of one's own may use the kernel; saved, it would fail in every other process.
    """
    with tf.init_scope():
        return tf.Variable(0.0, trainable=False, name="the_native_kernel_is_in_this_process_alone")

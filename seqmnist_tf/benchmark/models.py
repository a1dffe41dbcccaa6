"""Everyday models with recurrent layers, trained by ``fit`` and run by ``predict``: stock Keras and the fast layers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from .. import kernel
from ..model import Timed, serve_requests
from ..system import peak_mb, start_tensorflow

CLASSES, WORDS = 10, 1000
TURN_SECONDS = 0.7  # each turn takes about so long


class Everyday(NamedTuple):
    """A model of a usual size: recurrent layers, and a dense layer that classifies.

    Attributes:
        batch: sequences in a batch.
        shape: of a sequence: steps and features; of words, steps alone.
        about: what it is, as the table says it.
        recurrent: what its recurrent layers make of its input; their classes are those of a module.
        head: the class of its last layer, or a function that makes it.
    """

    batch: int
    shape: tuple[int, ...]
    about: str
    recurrent: Callable[[Any, Any], Any]
    head: Callable[[int], keras.Layer] = keras.layers.Dense

    def model(self, layers: Any) -> keras.Model:
        """Return the compiled model, whose recurrent layers are of a module."""
        inputs = keras.Input(batch_shape=(self.batch, *self.shape), dtype="float32" if self.shape[1:] else "int32")
        model = keras.Model(inputs, self.head(CLASSES)(self.recurrent(layers, inputs)))
        model.compile("rmsprop", "mse")
        return model

    def data(self, model: keras.Model) -> tuple[np.ndarray, np.ndarray]:
        """Return a batch of random sequences, every second text of half the length, and of what a model shall give."""
        random = np.random.default_rng(0)
        y = random.standard_normal((self.batch, *model.output_shape[1:])).astype(np.float32)
        if self.shape[1:]:
            return random.standard_normal((self.batch, *self.shape)).astype(np.float32), y
        words = random.integers(1, WORDS, (self.batch, *self.shape)).astype(np.int32)
        words[::2, self.shape[0] // 2 :] = 0
        return words, y


def _lstm(units: int, **options: Any) -> Callable[[Any, Any], Any]:
    """Return what makes an LSTM's output of an input, with the LSTM of a module."""
    return lambda layers, x: layers.LSTM(units, **options)(x)


def _masked(x: Any) -> Any:
    return keras.layers.Embedding(WORDS, 64, mask_zero=True)(x)


def _tagger(layers: Any, x: Any) -> Any:
    x = _masked(x)
    for _ in range(2):
        x = keras.layers.Bidirectional(layers.LSTM(64, return_sequences=True))(x)
    return x


def _encoder_and_decoder(layers: Any, x: Any) -> Any:
    _, *states = layers.LSTM(64, return_state=True)(x)
    return layers.LSTM(64, return_sequences=True)(x, initial_state=states)


def _stack(layers: Any, x: Any) -> Any:
    return layers.LSTM(64)(layers.LSTM(64, return_sequences=True)(x))


def _head_at_each_step(classes: int) -> keras.Layer:
    return keras.layers.TimeDistributed(keras.layers.Dense(classes))


MODELS = {
    "nothing": Everyday(32, (30, 1), "no recurrent layer", lambda layers, x: keras.layers.Flatten()(x)),
    "weather": Everyday(256, (120, 7), "LSTM(32)", _lstm(32)),
    "small": Everyday(32, (30, 1), "LSTM(50)", _lstm(50)),
    "stack": Everyday(64, (60, 8), "two LSTM(64)", _stack),
    "words": Everyday(64, (200,), "masks, LSTM(64)", lambda layers, x: layers.LSTM(64)(_masked(x))),
    "GRU": Everyday(64, (100, 8), "GRU(128)", lambda layers, x: layers.GRU(128)(x)),
    "tagger": Everyday(50, (200,), "masks, two Bidirectional LSTM(64)", _tagger),
    "encoder and decoder": Everyday(64, (60, 8), "LSTM(64), states", _encoder_and_decoder),
    "stream": Everyday(32, (50, 8), "LSTM(64), stateful", _lstm(64, stateful=True)),
    "dropout": Everyday(64, (100, 8), "LSTM(64, dropout=0.2)", _lstm(64, dropout=0.2, seed=1)),
    "recurrent dropout": Everyday(
        64, (100, 8), "LSTM(64, recurrent_dropout=0.2)", _lstm(64, recurrent_dropout=0.2, seed=1)
    ),
    "head at each step": Everyday(
        64, (100, 8), "LSTM(64), TimeDistributed(Dense)", _lstm(64, return_sequences=True), _head_at_each_step
    ),
    "baseline": Everyday(100, (784, 1), "LSTM(128)", _lstm(128)),
}


class TimedEveryday:
    """An everyday model in the process that times it, on stock Keras (``keras``) or the fast layers (``native``)."""

    def __init__(self, name: str, layers: str) -> None:
        start_tensorflow()
        everyday = MODELS[name]
        self.model = everyday.model(keras.layers if layers == "keras" else kernel)
        self.batch, self.batches = everyday.batch, 10
        self.x, self.y = everyday.data(self.model)
        self.batches = max(10, min(500, int(TURN_SECONDS / self.time_step().seconds)))

    def time_step(self) -> Timed:
        """Return the time of a training step, as the mean of an epoch of ``fit``."""
        return self._timed(lambda x, y: self.model.fit(x, y, self.batch, shuffle=False, verbose=0))

    def time_evaluation(self, on: str) -> Timed:
        """Return the time of a batch in ``predict``, as the mean of several."""
        return self._timed(lambda x, y: self.model.predict(x, self.batch, verbose=0))

    def _timed(self, run: Callable[[np.ndarray, np.ndarray], Any]) -> Timed:
        x, y = (np.concatenate([array] * self.batches) for array in (self.x, self.y))
        run(x[: self.batch], y[: self.batch])  # traces the model
        start = time.perf_counter()
        run(x, y)
        return Timed((time.perf_counter() - start) / self.batches, peak_mb())


def serve() -> None:
    """Time the everyday model that is asked for, in this process."""
    serve_requests(TimedEveryday)

"""The native kernel for the layers of Keras that a model has: drop-ins that share their weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from .layer import LOOP, LSTM, RNN, has_own_kernel, stock_class

SHARED = ("return_sequences", "return_state", "go_backwards", "stateful", "unroll", "zero_output_for_mask")


class DropIn(NamedTuple):
    """A recurrent layer of Keras, and the layer on the native kernel that shares its weights."""

    stock: keras.layers.RNN
    native: RNN


def drop_ins(layer: keras.Layer, threads: int = 0) -> list[DropIn]:
    """Return the recurrent layers of Keras that a layer is or has, each with its layer on the native kernel.

    A layer has the layers that Keras finds in its attributes, as in a ``Sequential``, a functional model, a
    ``Bidirectional`` or a custom class. A subclass of one of Keras's recurrent layers counts where it has Keras's loop.
    The layer stays as it is. Of ``threads``, 0 is all cores.
    """
    found: dict[int, DropIn] = {}

    def visit(part: keras.Layer) -> None:
        if (base := stock_class(part)) is None:
            for inner in part._flatten_layers(include_self=False, recursive=False):
                visit(inner)
        elif all(getattr(type(part), name) is getattr(base, name) for name in ("call", *LOOP)):
            found.setdefault(id(part), DropIn(part, sharing(part, threads)))

    visit(layer)
    return list(found.values())


def sharing(stock: keras.layers.RNN, threads: int = 0) -> RNN:
    """Return a layer on the kernel that shares the cell of a layer of stock Keras, so that training it trains that."""
    own = type(stock) is keras.layers.LSTM and has_own_kernel(stock)
    kind, first = (LSTM, stock.units) if own else (RNN, stock.cell)
    options = {name: getattr(stock, name) for name in SHARED}
    layer = kind(first, **options, threads=threads, name=stock.name, dtype=stock.dtype_policy)
    layer.cell, layer.built = stock.cell, stock.built
    return layer


@contextlib.contextmanager
def on_kernel(found: Sequence[DropIn]) -> Iterator[None]:
    """Let layers on the native kernel compute what their layers of Keras are called for, in graphs that are traced."""
    with _calls({part.stock: part.native.call for part in found}):
        yield


def kernel_problems(layer: keras.Layer, found: Sequence[DropIn], shape: tuple[int | None, ...]) -> list[str | None]:
    """Return for each of a layer's drop-ins why it cannot compute its layer in training, or None.

    The layer is traced, on stock Keras, for sequences of a shape (n, steps, features), where n may be None.
    """
    problems: list[str | None] = ["it is not called"] * len(found)

    def asking(number: int) -> Callable[..., Any]:
        stock, drop_in = found[number]
        call = stock.call

        def ask(sequences: Any, initial_state: Any = None, mask: Any = None, training: bool | None = False) -> Any:
            problems[number] = drop_in.why_stock(sequences, initial_state, mask, bool(training))
            return call(sequences, initial_state=initial_state, mask=mask, training=training)

        return ask

    def scratch_graph(sequences: tf.Tensor) -> Any:
        with _calls({part.stock: asking(number) for number, part in enumerate(found)}):
            return layer(sequences, training=True)

    tf.function(scratch_graph, autograph=False).get_concrete_function(tf.TensorSpec(shape, tf.float32))
    return problems


@contextlib.contextmanager
def _calls(calls: dict[keras.Layer, Callable[..., Any]]) -> Iterator[None]:
    """Let layers have another ``call``: an attribute of the object hides the method of its class."""
    for layer, call in calls.items():
        vars(layer)["call"] = call
    try:
        yield
    finally:
        for layer in calls:
            del vars(layer)["call"]

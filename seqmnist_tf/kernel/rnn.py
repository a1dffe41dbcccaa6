"""The drop-in for ``keras.layers.RNN`` on the native kernel, and drop-ins for the layers of Keras that a model has."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from .layer import LSTM, NativeLayer, unsupported_argument
from .machine import StepProgram, rnn_outputs
from .tracing import Untranslatable
from .translation import translate

# The recurrent layers of Keras, and what they must have in common with one of them: who defines another loop, or
# another start, wants it computed.
STOCK = (keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN, keras.layers.RNN)
LOOP = ("call", "inner_loop", "get_initial_state")
SHARED = ("return_sequences", "return_state", "go_backwards", "stateful", "unroll", "zero_output_for_mask")
PROGRAMS = "_seqmnist_tf_programs"  # an attribute of a cell, so that they go with it


@keras.saving.register_keras_serializable(package="seqmnist_tf")
class RNN(NativeLayer):
    """``keras.layers.RNN`` on the native CPU kernel, for any cell: same arguments, weights and results.

    Sequences float32 (n, steps, features) to the outputs of the cell float32 (n, units) or, with ``return_sequences``,
    to those of all steps, (n, steps, units). The step of the cell is traced once, as a graph, and translated with its
    gradient to a short program of vector operations and matrix products, which the kernel runs over all steps; no
    compiler is needed. The program is compared with the graph on a few random steps before it is used.

    What the kernel cannot compute is left to stock Keras, with one warning that says why: masks, initial states,
    ``stateful``, ``return_state``, random operations and loops in the cell, other types than float32, an operation
    that it does not know (the warning names it, and the line of the cell that asked for it), a GPU, forward-mode
    gradients, and graphs that may be saved, such as those of ``model.export()``.

    The cell's Python code runs when it is traced, and no more: a number that it reads from an attribute is that of the
    first call, as in a graph of TensorFlow.

    Args:
        cell: as ``keras.layers.RNN``: a cell, or a list of cells.
        threads: CPU threads, 0 to 1,024; 0 is all cores. The result does not depend on it, to the last bit.
        args, kwargs: as ``keras.layers.RNN``.

    Raises:
        ValueError: another number of threads.

    Example::

        model = keras.Sequential([keras.Input((784, 1)), RNN(MyCell(128)), keras.layers.Dense(10)])
    """

    def __init__(self, cell: Any, *args: Any, threads: int = 0, **kwargs: Any) -> None:
        super().__init__(cell, *args, **kwargs)
        self._set_threads(threads)

    def _problem(self, sequences: tf.Tensor) -> str | None:
        for key in ("return_state", "stateful", "unroll"):
            if getattr(self, key):
                return f"{key} is True, not False"
        if not isinstance(self.cell, keras.Layer):
            return "its cell is no layer of Keras"
        if len(sequences.shape) != 3 or sequences.shape[-1] is None:
            return f"sequences are {sequences.shape}, not (n, steps, features)"
        program = self._program(sequences.shape[-1])
        return str(program) if isinstance(program, Untranslatable) else None

    def _program(self, features: int) -> StepProgram | Untranslatable:
        programs: dict[tuple[int, ...], StepProgram | Untranslatable] = self.cell.__dict__.setdefault(PROGRAMS, {})
        key = (features, *map(id, self.cell.variables))  # ``enable_lora`` of a layer in the cell changes them
        if key not in programs:
            try:
                # The translation computes. A call may be traced, and its weights be other tensors for the time being.
                with tf.init_scope(), keras.StatelessScope():
                    programs[key] = translate(self.cell, features)
            except Untranslatable as error:
                programs[key] = Untranslatable(str(error))  # without what it was raised from, which holds the graph
        return programs[key]

    def _states(self, sequences: tf.Tensor, training: bool) -> tf.Tensor:
        if isinstance(program := self._program(sequences.shape[-1]), Untranslatable):
            raise program
        sequences = tf.reverse(sequences, [1]) if self.go_backwards else sequences
        return rnn_outputs(
            program, self.cell, sequences, all_steps=self.return_sequences, threads=self.threads, training=training
        )


class DropIn(NamedTuple):
    """A recurrent layer of Keras, and the layer on the native kernel that shares its weights."""

    stock: keras.layers.RNN
    native: LSTM | RNN


def drop_ins(layer: keras.Layer, threads: int = 0) -> list[DropIn]:
    """Return the recurrent layers of Keras that a layer is or has, each with its layer on the native kernel.

    A layer has the layers that Keras finds in its attributes, as in a ``Sequential``, a functional model, a
    ``Bidirectional`` or a class of one's own. A subclass of one of Keras's recurrent layers counts where it has Keras's
    own loop. LSTMs of the usual arguments have a kernel of their own; all others are run as programs.

    Args:
        layer: it stays as it is.
        threads: CPU threads of the kernel; 0 is all cores. At most as many are used as a batch has blocks of rows.
    """
    found: dict[int, DropIn] = {}

    def visit(part: keras.Layer) -> None:
        base = next((base for base in STOCK if isinstance(part, base)), None)
        if base is None:
            for inner in part._flatten_layers(include_self=False, recursive=False):
                visit(inner)
        elif all(getattr(type(part), name) is getattr(base, name) for name in LOOP):
            found.setdefault(id(part), DropIn(part, sharing(part, threads)))

    visit(layer)
    return list(found.values())


def sharing(stock: keras.layers.RNN, threads: int = 0) -> LSTM | RNN:
    """Return a layer on the kernel that shares the cell of a layer of stock Keras, so that training it trains that."""
    is_lstm = type(stock) is keras.layers.LSTM and unsupported_argument(stock) is None
    kind, first = (LSTM, stock.units) if is_lstm else (RNN, stock.cell)
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
    """Return for each drop-in why it cannot compute its layer where ``layer`` is trained, or None.

    Args:
        layer: it is traced once more, on stock Keras.
        found: what :func:`drop_ins` found in it.
        shape: of its sequences, (n, steps, features), where n may be None.
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

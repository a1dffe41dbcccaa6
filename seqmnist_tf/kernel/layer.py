"""The drop-ins for Keras's recurrent layers on the native kernel, alone or for the layers that a model has."""

from __future__ import annotations

import contextlib
import functools
import os
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import keras
import numpy as np
import tensorflow as tf

from ..system import available_cores
from . import native
from .internals import (
    all_layers,
    batch_size,
    draw_masks,
    draws,
    dropout_cells,
    has_tangents,
    share_states,
    sublayers,
    traced_by_keras,
)
from .machine import RowInputs, StepProgram, differentiable, rnn_outputs
from .tracing import Untranslatable, user_frame
from .translation import translate

PACKAGE = "seqmnist_tf"
# The recurrent layers of Keras. A subclass that has another loop, or another start, wants them computed.
STOCK = (keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN, keras.layers.RNN)
LOOP = ("inner_loop", "get_initial_state")
LSTM_STEP = keras.layers.LSTMCell.call  # the step that the LSTM's own kernel computes
PROGRAMS = "_seqmnist_tf_programs"  # an attribute of a cell, so that they go with it
# The arguments of a layer that its drop-in has too, beside its cell.
SHARED = ("return_sequences", "return_state", "go_backwards", "stateful", "unroll", "zero_output_for_mask")


def stock_class(layer: keras.Layer) -> type[keras.layers.RNN] | None:
    """Return which of Keras's recurrent layers a layer is, or None."""
    for base in STOCK:
        if isinstance(layer, base):
            return base
    return None


@keras.saving.register_keras_serializable(package=PACKAGE)
class RNN(keras.layers.RNN):
    """``keras.layers.RNN`` on the native CPU kernel, for any cell: same arguments, weights and results.

    Sequences float32 (n, steps, features) to the outputs of the cell float32 (n, units) or, with ``return_sequences``,
    to those of all steps, (n, steps, units). The step of the cell is traced once, as a graph, and translated with its
    gradient to a short program of vector operations and matrix products, which the kernel runs over all steps; no
    compiler is needed. The program is compared with the graph on a few random steps before it is used.

    What the kernel cannot compute is left to stock Keras, with one warning that says why: ``unroll``, loops in the
    cell, random numbers of another shape than (n, width), other types than float32, an operation that it does not know
    (the warning names it, and the line of the cell that asked for it), a GPU, forward-mode gradients, and graphs that
    may be saved, such as those of ``model.export()``.

    The cell's Python code runs when it is traced, and not again: an attribute that it reads keeps the value that it had
    then, as in a graph of TensorFlow.

    Args:
        cell: as ``keras.layers.RNN``: a cell, or a list of cells.
        threads: CPU threads, 0 to 1,024; 0 is all cores. The result does not depend on it, to the last bit.
        args, kwargs: as ``keras.layers.RNN``.

    Raises:
        ValueError: another number of threads.

    Example::

        model = keras.Sequential([keras.Input((784, 1)), RNN(MyCell(128)), keras.layers.Dense(10)])
    """

    _reasons_told: frozenset[str] = frozenset()

    def __init__(self, *args: Any, threads: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(threads, int | np.integer) or threads not in range(native.MAX_THREADS + 1):
            raise ValueError(f"threads must be an integer from 0 to {native.MAX_THREADS:,} (got {threads!r})")
        self.threads = int(threads)
        _first_process()  # remembers this one
        self.supports_jit = False  # the kernel is called from the graph; XLA cannot compile that

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **({"threads": self.threads} if self.threads else {})}

    @property
    def runs_program(self) -> bool:
        """Whether a program of the cell's step is run, not the kernel that LSTMs have."""
        return True

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        super().build(sequences_shape, initial_state_shape)
        if isinstance(self.cell, keras.Layer) and not all(layer.built for layer in all_layers(self.cell)):
            # Keras would build them at the first step, which is too late for the translation.
            states = keras.tree.map_structure(lambda size: keras.KerasTensor((None, size)), self.cell.state_size)
            alone = isinstance(self.cell.state_size, int)
            self.cell(keras.KerasTensor((None, *sequences_shape[2:])), [states] if alone else states)

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool | None = False) -> Any:
        sequences = tf.convert_to_tensor(sequences)
        if in_users_function():
            _marker()  # is made now: a later trace of the same function may make no variable
            if not _have_values(self.variables):
                # The function builds the layer. TensorFlow traces it again as soon as the weights have values.
                return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        reason = self.why_stock(sequences, initial_state, mask, bool(training))
        if reason:
            self._tell(reason)
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        if in_users_function():
            with tf.control_dependencies([_marker().read_value()]):
                sequences = tf.identity(sequences)
        if mask is not None:
            mask = tf.broadcast_to(_by_steps(mask), tf.shape(sequences)[:2])
        states = self._states_before(sequences, initial_state)
        drawn = self._draw_dropout(sequences, states, bool(training))
        if self.go_backwards:
            sequences, mask = (None if given is None else tf.reverse(given, [1]) for given in (sequences, mask))
        program = self._program(sequences.shape[-1], bool(training)) if self.runs_program else None
        if isinstance(program, Untranslatable):
            raise program  # not reached: why_stock asked before
        if program and program.noise:
            sequences = program.noise.beside(sequences, self.cell)
        outputs, last = self._computed(program, sequences, states, drawn, mask, bool(training))
        if states is None or last is None:
            return outputs
        after = keras.tree.pack_sequence_as(states, tf.split(last, keras.tree.flatten(self.cell.state_size), axis=1))
        if self.stateful:
            for variable, state in zip(keras.tree.flatten(self.states), keras.tree.flatten(after), strict=True):
                variable.assign(state)
        return (outputs, *after) if self.return_state else outputs

    def _tell(self, reason: str) -> None:
        """Warn, once for each reason, in the name of the user's line that led here."""
        if reason in self._reasons_told:
            return
        self._reasons_told |= {reason}
        file, line = user_frame(traceback.extract_stack()) or (__file__, 0)
        warnings.warn_explicit(f"layer {self.name}: stock Keras is used, because {reason}", UserWarning, file, line)

    def _draw_dropout(self, sequences: tf.Tensor, states: Any, training: bool) -> list[tf.Tensor]:
        """Return the dropout masks of this call, drawn as stock Keras draws them; none out of training.

        Stock Keras draws them out of training too, and does not use them: so the state of the generator is the same.
        """
        if not dropout_cells(self.cell):
            return []
        drawn = draw_masks(self, sequences[:, 0, :], states)
        return drawn if training else []

    def _states_before(self, sequences: tf.Tensor, initial_state: Any) -> list[Any] | None:
        """Return the states before the first step, nested as in stock Keras, or None where nobody asks for them."""
        if initial_state is None and self.stateful:
            initial_state = self.states
        if initial_state is None:
            if not (self.return_state or dropout_cells(self.cell)):
                return None
            initial_state = self.get_initial_state(batch_size=tf.shape(sequences)[0])
        states = list(initial_state) if keras.tree.is_nested(initial_state) else [initial_state]
        return keras.tree.map_structure(lambda state: keras.ops.convert_to_tensor(state, "float32"), states)

    def _computed(
        self,
        program: StepProgram | None,
        sequences: tf.Tensor,
        states: Any,
        drawn: list[tf.Tensor],
        mask: Any,
        training: bool,
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Return the outputs of steps in order, and the states after them beside each other where states are given."""
        first = None if states is None else tf.concat(keras.tree.flatten(states), axis=1)
        rows = RowInputs(first, drawn=tf.concat(drawn, axis=1) if drawn else None)
        if mask is None:
            return self._outputs(program, sequences, rows, training, self.return_sequences)
        # A masked step changes no state: those that count are computed as if they came first, and read where they are.
        # Mask 0 1 0 1: steps 1 and 3 are computed as steps 0 and 1; ``done`` is 0 1 1 2, and step t reads done[t] - 1.
        order = tf.argsort(tf.cast(~mask, tf.int32), axis=1, stable=True)
        done = tf.cumsum(tf.cast(mask, tf.int32), axis=1)  # steps that count, up to and with each step
        total = done[:, -1]
        counts = tf.sequence_mask(total, tf.shape(mask)[1])[..., None]
        reordered = tf.where(counts, tf.gather(sequences, order, axis=1, batch_dims=1), 0.0)
        rows = rows._replace(ends=tf.maximum(total, 1))
        outputs, last = self._outputs(program, reordered, rows, training, True)
        if not self.return_sequences:
            done, mask = done[:, -1:], mask[:, -1:]
        read = tf.gather(outputs, tf.maximum(done - 1, 0), axis=1, batch_dims=1)
        read = tf.where((mask if self.zero_output_for_mask else done > 0)[..., None], read, 0.0)
        if last is not None:
            last = tf.where(total[:, None] > 0, last, first)
        return read if self.return_sequences else read[:, 0], last

    def why_stock(self, sequences: Any, initial_state: Any, mask: Any, training: bool) -> str | None:
        """Return why the kernel must not compute this call where it is made, traced or differentiated, or None."""
        if dtypes := {self.variable_dtype, self.compute_dtype, sequences.dtype.name} - {"float32"}:
            return f"dtype is {dtypes.pop()}, not float32"
        if sequences.ndim != 3:
            return f"its sequences have {sequences.ndim} axes, not 3"
        if self.unroll:
            return "unroll is True"
        states = self._given_states(initial_state)
        if reason := self._states_problem(sequences, states):
            return reason
        if mask is not None and not _by_steps(mask).shape[1:].is_compatible_with(sequences.shape[1:2]):
            return f"its mask is {tuple(_by_steps(mask).shape)}"
        for name in LOOP:
            if getattr(type(self), name) is not getattr(stock_class(self), name):
                return f"it has its own {name}"
        if reason := why_not_native():
            return reason
        if not isinstance(self.cell, keras.Layer):
            return "its cell is no layer of Keras"
        if self.runs_program and os.getpid() != _first_process():
            return "this process was forked from one that had a layer, and lacks the threads of TensorFlow"
        if self.runs_program and isinstance(program := self._program(sequences.shape[-1], training), Untranslatable):
            return str(program)
        if not self.runs_program and sequences.shape[-1] != self.cell.kernel.shape[0]:
            return "its weights are for another number of features"
        watched = [tf.convert_to_tensor(value) for value in (*self.weights, *states)]
        if has_tangents([sequences, *watched]):
            return "the kernel has no forward-mode gradients"
        if not training and in_users_function():
            return "a graph outside of fit, evaluate and predict may be saved, and the kernel cannot be saved in it"
        return None

    def _given_states(self, initial_state: Any) -> list[Any]:
        """Return the states that a call begins with, as one list; empty for the cell's own first states."""
        if initial_state is None and self.stateful:
            initial_state = self.states
        return [] if initial_state is None else keras.tree.flatten(initial_state)

    def _states_problem(self, sequences: Any, states: list[Any]) -> str | None:
        """Return why the kernel cannot begin with these states, or None: each must have a row for each sequence."""
        if self.stateful and (self.states is None or sequences.shape[0] not in (None, batch_size(self))):
            return "its states are for another batch"
        if not states:
            return None
        sizes = keras.tree.flatten(self.cell.state_size)
        shapes = [tf.TensorShape(state.shape) for state in states]
        wanted = [tf.TensorShape((sequences.shape[0], size)) for size in sizes]
        if len(shapes) == len(wanted) and all(map(tf.TensorShape.is_compatible_with, shapes, wanted)):
            return None
        return f"its initial states are {[tuple(shape) for shape in shapes]}, not of sizes {sizes}"

    def _program(self, features: int, training: bool) -> StepProgram | Untranslatable:
        programs: dict[tuple[int | None, ...], StepProgram | Untranslatable]
        programs = self.cell.__dict__.setdefault(PROGRAMS, {})
        mode = training if draws(self.cell) else None
        key = (features, mode, *map(id, self.cell.variables))  # ``enable_lora`` of a layer in the cell changes them
        if key not in programs:
            try:
                # The translation computes. A call may be traced, and its weights be other tensors for the time being.
                with tf.init_scope(), keras.StatelessScope():
                    programs[key] = translate(self.cell, features, mode)
            except Untranslatable as error:
                programs[key] = Untranslatable(str(error))  # without what it was raised from, which holds the graph
        return programs[key]

    def _outputs(
        self, program: StepProgram | None, sequences: tf.Tensor, rows: RowInputs, training: bool, all_steps: bool
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        options: Any = {"all_steps": all_steps, "threads": self.threads, "training": training}
        return rnn_outputs(cast(StepProgram, program), self.cell, sequences, rows, **options)


@keras.saving.register_keras_serializable(package=PACKAGE)
class LSTM(RNN, keras.layers.LSTM):
    """``keras.layers.LSTM`` on the native CPU kernel: same arguments, same weights in the same order, same results.

    Sequences float32 (n, steps, features) to the last hidden states float32 (n, units) or, with ``return_sequences``,
    to those of all steps, (n, steps, units), so that layers stack. The states differ from stock Keras's by rounding:
    additions have another order, and AMX multiplies bfloat16 parts. An LSTM of the usual arguments has its own kernel.
    With other activations, or without a bias, it runs as a program: see :class:`RNN`, which also says what is left to
    stock Keras.

    A step: i, f, o = sigmoid(x W + h U + b), g = tanh(x W + h U + b), c' = f c + i g, h' = o tanh(c'), where each gate
    has its own part of the last axis of kernel W, recurrent kernel U and bias b, in Keras's order i, f, g, o
    (Hochreiter & Schmidhuber 1997; the forget gate: Gers, Schmidhuber & Cummins 2000).

    Args:
        threads: CPU threads, 0 to 1,024; 0 is all cores. The result does not depend on it, to the last bit.
        args, kwargs: as ``keras.layers.LSTM``.

    Raises:
        ValueError: another number of threads.

    Example::

        model = keras.Sequential([keras.Input((784, 1)), LSTM(128), keras.layers.Dense(10)])
    """

    @property
    def runs_program(self) -> bool:
        return not has_own_kernel(self)

    def _outputs(
        self, program: StepProgram | None, sequences: tf.Tensor, rows: RowInputs, training: bool, all_steps: bool
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        if self.runs_program:
            return super()._outputs(program, sequences, rows, training, all_steps)
        threads = self.threads or min(available_cores(), native.MAX_THREADS)
        if rows.drawn is not None:
            sequences = sequences * rows.drawn[:, None, :]
            rows = rows._replace(drawn=None)

        def forward(x: np.ndarray, *weights: np.ndarray, rows: RowInputs, keep: bool) -> Any:
            last = None if rows.first is None else np.empty_like(rows.first)
            options: Any = {"first": rows.first, "ends": rows.ends, "last": last}
            outputs, kept = native.forward(x, weights, threads=threads, keep=keep, all_steps=all_steps, **options)
            return outputs, last, kept

        def backward(
            x: np.ndarray, *rest: np.ndarray, rows: RowInputs, last_gradient: Any, want_sequences: bool
        ) -> list[np.ndarray]:
            *weights, kept, upstream = rest
            first_gradient = None if rows.first is None else np.empty_like(rows.first)
            states: Any = {"first": rows.first, "ends": rows.ends, "last_gradient": last_gradient}
            options: Any = {**states, "first_gradient": first_gradient, "want_sequences": want_sequences}
            *gradients, x_gradient = native.backward(x, weights, kept, upstream, threads=threads, **options)
            found = [x_gradient, *gradients, first_gradient]
            return [gradient for gradient in found if gradient is not None]

        weights = (self.cell.kernel, self.cell.recurrent_kernel, self.cell.bias)
        return differentiable(
            forward,
            backward,
            (sequences, *map(tf.convert_to_tensor, weights)),
            rows,
            units=self.units,
            all_steps=all_steps,
            training=training,
            stock="LSTM",
        )


@keras.saving.register_keras_serializable(package=PACKAGE)
class GRU(RNN, keras.layers.GRU):
    """``keras.layers.GRU`` on the native CPU kernel, with ``threads``; see :class:`RNN`.

    Example::

        model = keras.Sequential([keras.Input((784, 1)), GRU(128), keras.layers.Dense(10)])
    """


@keras.saving.register_keras_serializable(package=PACKAGE)
class SimpleRNN(RNN, keras.layers.SimpleRNN):
    """``keras.layers.SimpleRNN`` on the native CPU kernel, with ``threads``; see :class:`RNN`.

    Example::

        model = keras.Sequential([keras.Input((784, 1)), SimpleRNN(128), keras.layers.Dense(10)])
    """


def to_keras(model: keras.Model) -> keras.Model:
    """Return the same model of stock Keras layers, with the same weights: what it saves loads without this package.

    If the model is compiled, so is the result, with the state of the optimizer.

    Args:
        model: a built model, which has a configuration; it stays as it is.

    Raises:
        ValueError: a class of the model makes a drop-in itself, or is a subclass of one.

    Example::

        seqmnist_tf.to_keras(model).save("model.keras")
    """

    def stock(part: Any) -> Any:
        if isinstance(part, list | tuple):
            return [stock(one) for one in part]
        if not isinstance(part, dict):
            return part
        part = {key: stock(value) for key, value in part.items()}
        if str(part.get("registered_name")).startswith(f"{PACKAGE}>"):
            part |= {"module": "keras.layers", "registered_name": None}
            part["config"].pop("threads", None)
        return part

    classes = {type(layer) for layer in all_layers(model)}
    known = {keras.saving.get_registered_name(kind): kind for kind in classes}  # they need not be registered
    same = keras.saving.deserialize_keras_object(stock(keras.saving.serialize_keras_object(model)), known)
    for layer in all_layers(same):
        if isinstance(layer, RNN):
            raise ValueError(
                f"layer {layer.name} stays a {type(layer).__name__} on the native kernel: a class of the model makes "
                "it, or is a subclass of it"
            )
    same.set_weights(model.get_weights())
    if getattr(model, "optimizer", None) is not None and model.optimizer.built:
        for variable, value in zip(same.optimizer.variables, model.optimizer.variables, strict=True):
            variable.assign(value)
    return same


def has_own_kernel(layer: keras.layers.LSTM) -> bool:
    """Return whether an LSTM of Keras is the one that the kernel has; other LSTMs are run as programs."""
    cell = layer.cell
    if type(cell) is not keras.layers.LSTMCell or getattr(cell.call, "__func__", None) is not LSTM_STEP:
        return False  # another cell, or one whose step was replaced
    usual = (cell.activation, cell.recurrent_activation) == (keras.activations.tanh, keras.activations.sigmoid)
    one_mask = cell.implementation != 1 or not layer.dropout  # not one for each gate
    return usual and layer.use_bias and one_mask and not layer.recurrent_dropout


def _by_steps(mask: Any) -> tf.Tensor:
    """Return a mask as bool (n or 1, steps); one that has a column for each unit stays as it is."""
    mask = tf.convert_to_tensor(mask[0] if keras.tree.is_nested(mask) else mask)
    return tf.cast(tf.squeeze(mask, 2) if mask.shape.rank == 3 and mask.shape[2] == 1 else mask, tf.bool)


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


@functools.cache
def _first_process() -> int:
    """Return the process that made the first layer. A child that is forked later lacks the threads of TensorFlow.

    A program needs them, since a function of TensorFlow computes its parameters. The LSTM's kernel does not.
    """
    return os.getpid()


def _have_values(variables: Sequence[keras.Variable]) -> bool:
    """Return whether variables have values while a function is traced: those that it made itself get them later."""
    with tf.init_scope():
        values = [variable.value for variable in variables]
        return all(tf.compat.v1.is_variable_initialized(value) for value in values if isinstance(value, tf.Variable))


def in_users_function() -> bool:
    """Return whether a ``tf.function`` of the user's is traced; it may be saved, unlike those of Keras."""
    return not (tf.executing_eagerly() or traced_by_keras(tf.compat.v1.get_default_graph()))


@functools.cache
def _marker() -> tf.Variable:
    """Return a variable that no model has: a graph that reads it cannot be saved, and TensorFlow's error has its name.

    A custom training step may use the kernel; saved, it would fail in every other process.
    """
    with tf.init_scope():
        return tf.Variable(0.0, trainable=False, name="the_native_kernel_is_in_this_process_alone")


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
            for inner in sublayers(part):
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
    share_states(layer, stock)
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

"""The recurrent layer of a configuration: a stock Keras layer, or one of a user's own module or file."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import importlib
import inspect
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..config import (
    LAYER_FILE,
    NUM_TIMESTEPS,
    OPTIONS,
    Config,
    LayerFile,
    has_stock_layer,
    layer_file,
    num_params,
    read_layer,
    with_values,
)
from ..kernel import LSTM, RNN
from ..system import InputError, call_when_slow, note
from .layer_import import describe_error, import_layer
from .layer_source import layer_source, without_constants

KEYS_OF_NAMES = ("name", "keras_history", "input_layers", "output_layers")  # of Keras, in configurations

LayerFactory = Callable[..., keras.Layer]  # of units, and of model.layer_options

TRACE_SECONDS = 10.0  # of a layer's tracing, after which a note says that it is traced
LARGE_GRAPH = 5_000  # operations of a training step; a loop in the graph has some hundred
FIRST_NUMBERS = 6  # of two weights, by which they are compared
STRIDE = 16  # of the numbers of units that a layer takes, at most: a layer may take even ones only
MAX_UNITS = int(OPTIONS["model.hidden_size"].meta.le or 0)
ADVICE = "a loop of Python is traced pixel by pixel; keras.layers.RNN and keras.ops.scan are traced once"
STOCK_LAYERS: dict[str, LayerFactory] = {
    "LSTM": keras.layers.LSTM,
    "GRU": keras.layers.GRU,
    "SimpleRNN": keras.layers.SimpleRNN,
}


class LayerError(InputError):
    """The layer of a configuration cannot be used."""


def with_layer(config: Config, layer: LayerFactory) -> tuple[Config, LayerFile | None]:
    """Return ``config`` with a layer that was defined in Python, and the file that its source makes.

    Args:
        config: the experiment.
        layer: a layer class or a function of units, or a ``functools.partial`` of one, or a lambda that calls one with
            constants, which become ``model.layer_options``. A stock layer needs no file.

    Raises:
        InputError: the source of the layer is not known, or a constant is no number, text or boolean.
    """
    layer, constants = without_constants(layer)
    config = with_values(config, {f"model.layer_options.{key}": value for key, value in constants.items()})
    spec, file = next((name for name, factory in STOCK_LAYERS.items() if factory is layer), None), None
    if spec is None:
        name, content = layer_source(layer)
        spec, file = f"{LAYER_FILE}:{name}", LayerFile(Path(f"<{LAYER_FILE}>"), content)
    return replace(config, model=replace(config.model, layer=spec)), file


def custom_objects(config: Config, file: LayerFile | None = None) -> dict[str, Any]:
    """Return the Keras classes of the module of ``model.layer`` by name, for ``keras.saving.load_model``.

    Classes that are registered under a name with Keras are registered anew: of several files with one such name, as of
    two versions of a layer, the last to be imported would stand for all.

    Raises:
        LayerError: the module or file cannot be imported.
    """
    if has_stock_layer(config):
        return {}
    classes = {
        name: value
        for name, value in vars(_module(config, file)).items()
        if isinstance(value, type) and issubclass(value, keras.Layer) and not value.__module__.startswith("keras.")
    }
    registered = {keras.saving.get_registered_name(value): value for value in classes.values()}
    # The name of a class that nobody registered is its own, without a package.
    keras.saving.get_custom_objects().update({name: value for name, value in registered.items() if ">" in name})
    return classes


def check_layer(config: Config, file: LayerFile | None = None) -> None:
    """Try the layer of a configuration on two sequences: one training step's gradient, then saved and loaded again.

    Raises:
        LayerError: the factory or the layer raises, or the layer has another output shape, one of the kernel's drop-
            ins, no trainable weight, weights of another type, no gradient, random numbers that a resumed run would not
            repeat, losses that the recipe's noise leaves out, or does not load as it was saved.
    """
    if has_stock_layer(config):
        return
    spec = config.model.layer
    model = _model_of_layer(config, file)
    for part in model._flatten_layers():
        if isinstance(part, LSTM | RNN):  # model.keras would need this package
            name = "LSTM" if isinstance(part, LSTM) else "RNN"
            raise LayerError(
                f"model.layer {spec} must have keras.layers.{name}, which training computes on the native kernel (got "
                f"seqmnist_tf.{name})"
            )
    weights = model.trainable_variables
    if not weights:
        raise LayerError(f"model.layer {spec} must have at least one trainable weight (got none)")
    if types := {weight.dtype for weight in weights} - {"float32"}:
        raise LayerError(f"model.layer {spec} must have weights in float32 (got {min(types)})")
    _name_alike(spec, weights)
    sequences = np.random.RandomState(0).standard_normal((2, NUM_TIMESTEPS, 1)).astype(np.float32)
    states = [(variable, variable.numpy()) for variable in model.variables]

    @_in_a_graph
    def step(x: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            output = model(x, training=True)
        gradients = tape.gradient(output, [weight.value for weight in weights])
        operations.append(len(tf.compat.v1.get_default_graph().get_operations()))
        return output, gradients

    operations: list[int] = []
    started = time.monotonic()
    try:
        with call_when_slow(TRACE_SECONDS, _say_traced, spec):
            output, gradients = step(sequences)
        if operations[0] > LARGE_GRAPH:
            note(
                f"model.layer {spec}: a training step is a graph of {operations[0]:,} operations, traced in "
                f"{time.monotonic() - started:.0f} s here and again in each run ({ADVICE})"
            )
        own_losses = len(model.losses) - sum(weight.regularizer is not None for weight in weights)
        for variable, state in states:
            variable.assign(state)
        again, _ = step(sequences)
    except (Exception, SystemExit) as error:
        raise LayerError(f"model.layer {spec}: in training it raised {describe_error(error)}") from error
    if all(gradient is None for gradient in gradients):
        raise LayerError(f"model.layer {spec} must have a gradient for one of its trainable weights (got none)")
    if not np.allclose(output, again, rtol=1e-3, atol=1e-4, equal_nan=True):
        raise LayerError(
            f"model.layer {spec} must draw its random numbers with a keras.random.SeedGenerator of its own (two calls "
            "from one state differ, so a resumed run would differ from a whole one)"
        )
    if own_losses and config.recurrent_noise and recurrent_weights(model.layers[0]):
        raise LayerError(
            f"model.layer {spec} must have no losses of its own, by add_loss or activity_regularizer, with recurrent "
            "noise, which leaves them out (give --train.recurrent-noise 0)"
        )
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "layer.keras"
            model.save(path)
            loaded = keras.saving.load_model(path, custom_objects=custom_objects(config, file))
        before, after = (_in_a_graph(m)(sequences).numpy() for m in (model, loaded))
    except (Exception, SystemExit) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):  # no fault of the layer
            raise
        raise LayerError(
            f"model.layer {spec} must save and load as a Keras layer (got {describe_error(error)})"
        ) from error
    if not np.array_equal(before, after, equal_nan=True):
        raise LayerError(f"model.layer {spec} must give the same output after it was saved and loaded (it differs)")
    if problems := setting_problems(loaded.layers[0], _model_of_layer(config, file).layers[0]):
        raise LayerError(f"model.layer {spec} must have the same get_config() whenever it is made: {problems[0]}")


def _in_a_graph(function: Callable[[tf.Tensor], Any]) -> Callable[[np.ndarray], Any]:
    """Return a function of sequences as ``fit`` calls it: traced once, without AutoGraph, for any size of a batch."""
    signature = [tf.TensorSpec((None, NUM_TIMESTEPS, 1), tf.float32)]
    return tf.function(function, input_signature=signature, autograph=False)


def recurrent_weights(layer: keras.Layer) -> list[keras.Variable]:
    """Return the weights of a layer that ``train.recurrent_noise`` acts on.

    They are those of the layer's attribute ``recurrent_weights``, else the trainable weights with "recurrent" in their
    name; an empty list where there are none.
    """
    named = getattr(layer, "recurrent_weights", None)
    return list(named) if named is not None else [w for w in layer.trainable_variables if "recurrent" in w.name]


def setting_problems(layer: keras.Layer, reference: keras.Layer) -> list[str]:
    """Return how the configuration of a layer differs from that of a reference, names left out.

    Keras numbers the layers that were not given a name, so two layers of one factory have other names.
    """
    given, wanted = (_without_names(one.get_config()) for one in (layer, reference))
    return [
        f"{key} of its layer {reference.name} must be {value} (got {given.get(key)})"
        for key, value in wanted.items()
        if given.get(key) != value
    ]


def _without_names(config: Any) -> Any:
    """Return a layer's configuration in plain values, each name of a layer replaced by its number in the configuration.

    A model in it, as of ``keras.Model(inputs, outputs)``, repeats the names of its layers where it connects them.
    """
    plain = keras.saving.serialize_keras_object(config)
    numbers: dict[str, int] = {}

    def collect(value: Any) -> None:
        if isinstance(value, dict) and not _is_policy(value):
            if isinstance(name := value.get("name"), str):
                numbers.setdefault(name, len(numbers))
            value = list(value.values())
        for part in value if isinstance(value, list | tuple) else ():
            collect(part)

    def replaced(value: Any, is_name: bool = False) -> Any:
        if isinstance(value, dict) and value.get("class_name") == "__tuple__":
            return replaced(value["config"]["value"], is_name)
        if isinstance(value, dict):
            return value if _is_policy(value) else {k: replaced(part, k in KEYS_OF_NAMES) for k, part in value.items()}
        if isinstance(value, list | tuple):
            return [replaced(part, is_name) for part in value]
        return f"name {numbers[value]}" if is_name and isinstance(value, str) and value in numbers else value

    collect(plain)
    return replaced(plain)


def _is_policy(value: dict[str, Any]) -> bool:
    """Return whether a value is the type of a layer, whose name counts: ``float32``."""
    return str(value.get("class_name")).endswith("DTypePolicy")


def _model_of_layer(config: Config, file: LayerFile | None, *after: keras.Layer) -> keras.Sequential:
    """Return a model of the layer, and of other layers after it.

    Raises:
        LayerError: the factory or the layer raises, or the layer has another output shape.
    """
    spec, units = config.model.layer, config.model.hidden_size
    layer = make_layer(config, file)
    try:
        with call_when_slow(TRACE_SECONDS, _say_traced, spec):
            model = keras.Sequential([keras.Input((NUM_TIMESTEPS, 1)), layer])
            if not hasattr(model, "output_shape"):  # Sequential is silent about a NotImplementedError
                layer(keras.Input((NUM_TIMESTEPS, 1)))
    except (Exception, SystemExit) as error:
        is_cell = hasattr(layer, "state_size") and not isinstance(layer, keras.layers.RNN)
        cure = "; a cell needs a function that returns keras.layers.RNN of it" if is_cell else ""
        raise LayerError(f"model.layer {spec}: its layer raised {describe_error(error)}{cure}") from error
    if model.output_shape != (None, units):
        raise LayerError(
            f"model.layer {spec} must turn (n, {NUM_TIMESTEPS}, 1) into (n, {units}) (got {model.output_shape})"
        )
    for further in after:
        model.add(further)
    return model


@functools.cache  # once for each layer
def _say_traced(spec: str) -> None:
    note(f"model.layer {spec}: TensorFlow is tracing its operations, one by one, which takes long here ({ADVICE})")


@functools.cache  # once for each layer
def _say_alike(spec: str, names: str) -> None:
    note(f"model.layer {spec}: {names} begin with the same numbers (give each weight an initializer of its own)")


def _name_alike(spec: str, weights: Sequence[keras.Variable]) -> None:
    """Name the weights that begin with the same numbers: a Keras initializer gives the same ones at each call."""
    alike: dict[bytes, list[str]] = {}
    for weight in weights:
        first = np.ravel(weight)[:FIRST_NUMBERS]
        if len(np.unique(first)) > FIRST_NUMBERS // 2:  # neither zeros nor part of an identity matrix
            alike.setdefault(first.tobytes(), []).append(weight.path.partition("/")[2])  # without the layer's number
    for paths in alike.values():
        if len(paths) > 1:
            _say_alike(spec, " and ".join(paths))


def require_float32() -> None:
    """Raise InputError where Keras would make layers of another type, by its settings or by keras.json."""
    types = {keras.config.floatx(), keras.config.dtype_policy().name}
    if other := types - {"float32"}:
        raise InputError(
            f"Keras must compute in float32 (got {min(other)}: see keras.config.set_dtype_policy, and floatx in "
            "keras.json)"
        )


def make_layer(config: Config, file: LayerFile | None = None) -> keras.Layer:
    """Return a new layer of ``model.hidden_size`` units. This runs the code of its module or file.

    Raises:
        InputError: Keras is set to another type than float32.
        LayerError: there is no such factory, it raises, does not take ``model.layer_options``, or returns no layer.
    """
    require_float32()
    spec, name = config.model.layer, config.model.layer.rpartition(":")[2]
    factory = STOCK_LAYERS[spec] if has_stock_layer(config) else getattr(_module(config, file), name, None)
    if factory is None:
        raise LayerError(f"model.layer {spec}: there is no {name} in it (give the name of a layer class or a function)")
    if not callable(factory):
        raise LayerError(
            f"model.layer {spec} must be a layer class or a function of units (got {type(factory).__name__})"
        )
    _require_arguments(factory, config)
    try:
        layer = factory(config.model.hidden_size, **config.model.layer_options)
    except (Exception, SystemExit) as error:
        raise LayerError(f"model.layer {spec} raised {describe_error(error)}") from error
    if not isinstance(layer, keras.Layer):
        raise LayerError(f"model.layer {spec} must return a Keras layer (got {type(layer).__name__})")
    return layer


def _require_arguments(factory: LayerFactory, config: Config) -> None:
    """Raise LayerError where ``model.layer_options`` has other constants than the factory's signature."""
    is_class = isinstance(factory, type)  # whose ``__new__``, Keras's, takes anything
    try:
        signature = inspect.signature(factory.__init__ if is_class else factory)
    except (ValueError, TypeError):  # the call itself will tell
        return
    parameters = list(signature.parameters.values())[1 + is_class :]  # without units
    spec, given = config.model.layer, config.model.layer_options
    by_name = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [p.name for p in by_name]
    unknown = [name for name in given if name not in names]
    if unknown and not any(p.kind == p.VAR_KEYWORD for p in parameters):
        allowed = ", ".join(names) or "none"
        raise LayerError(f"model.layer_options of {spec} may have {allowed} (got {unknown[0]})")
    if missing := [p.name for p in by_name if p.default is p.empty and p.name not in given]:
        raise LayerError(f"model.layer_options of {spec} must have {', '.join(missing)} (got {json.dumps(given)})")


def match_units(config: Config, file: LayerFile | None = None) -> Config:
    """Return ``config`` with the units whose model has nearest to ``model.match_parameters`` parameters, if it is set.

    A search over models, so that it works for any layer whose parameters grow with its units. Of two equally near
    numbers of units it is the smaller; they are 1 to 16,384. Numbers that the layer refuses are passed over: a
    ``Bidirectional`` of two halves takes even ones only.

    Raises:
        LayerError: as :func:`make_layer`, for sixteen numbers of units in a row.

    Example:
        >>> from seqmnist_tf.config import Config, Model
        >>> match_units(Config(model=Model(layer="GRU", match_parameters=67_850))).model.hidden_size
        147
    """
    target = config.model.match_parameters
    if target is None:
        return config

    @functools.cache
    def parameters(units: int) -> int:
        sized = replace(config, model=replace(config.model, hidden_size=units))
        if (known := num_params(sized)) is not None:
            return known
        return int(_model_of_layer(sized, file, keras.layers.Dense(config.model.output_size)).count_params())

    def taken(units: int) -> int:
        """Return the first number of units from ``units`` on that the layer takes."""
        for candidate in range(units, min(units + STRIDE, MAX_UNITS + 1)):
            with contextlib.suppress(LayerError):
                parameters(candidate)
                return candidate
        parameters(units)
        return units

    low, high = 1, taken(1)
    while parameters(high) < target and high < MAX_UNITS:
        low, high = high + 1, taken(min(2 * high, MAX_UNITS))
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if parameters(taken(middle)) >= target else (middle + 1, high)
    above = taken(low)
    candidates = [above]
    for units in range(low - 1, max(0, low - 1 - STRIDE), -1):
        with contextlib.suppress(LayerError):
            parameters(units)
            candidates.append(units)
            break
    units = min(candidates, key=lambda units: (abs(parameters(units) - target), units))
    return replace(config, model=replace(config.model, hidden_size=units))


def module_code(config: Config, _: LayerFile | None = None) -> str | None:
    """Return the SHA-256 of the code of a layer ``MODULE:NAME``.

    It is that of the module's file; this imports the module. None of other layers, and of a module without a file.

    Raises:
        LayerError: the module cannot be imported.
    """
    if has_stock_layer(config) or layer_file(config):
        return None
    path = getattr(_module(config, None), "__file__", None)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else None


def _module(config: Config, file: LayerFile | None) -> ModuleType:
    """Import the module of ``model.layer``."""
    spec = config.model.layer
    try:
        if file := file or read_layer(config):
            return import_layer(file)
        return importlib.import_module(spec.rpartition(":")[0])
    except InputError as error:
        raise LayerError(str(error)) from None
    except (Exception, SystemExit) as error:
        raise LayerError(f"model.layer {spec}: importing it raised {describe_error(error)}") from error

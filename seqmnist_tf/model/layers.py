"""The model of a configuration: a recurrent layer, of Keras or custom, and a dense layer."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import inspect
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..config import NUM_TIMESTEPS, OPTIONS, Config, LayerFile, has_stock_layer, layer_name, num_params, read_layer
from ..system import InputError

MAX_UNITS = int(OPTIONS["model.hidden_size"].meta.le or 0)
MATCHED_WITHIN = 0.05  # of model.match_parameters


class LayerError(InputError):
    """The layer of a configuration cannot be used."""


def make_layer(config: Config, file: LayerFile | None = None) -> keras.Layer:
    """Return a new layer of ``model.hidden_size`` units; this runs the code of its file or module."""
    return as_layer(call_factory(config, file))


def as_layer(made: keras.Layer) -> keras.Layer:
    """Return a layer as it is, and a cell in ``keras.layers.RNN``."""
    return keras.layers.RNN(made) if is_cell(made) else made


def is_cell(layer: keras.Layer) -> bool:
    """Return whether a layer computes one timestep: it has states, and is no recurrent layer."""
    return hasattr(layer, "state_size") and not isinstance(layer, keras.layers.RNN)


def call_factory(config: Config, file: LayerFile | None) -> keras.Layer:
    """Return the layer or cell that ``model.layer`` makes; LayerError where it makes none."""
    spec, units, options = config.model.layer, config.model.hidden_size, config.model.layer_options
    if has_stock_layer(config):
        return getattr(keras.layers, spec)(units)
    factory = getattr(_module(config, file), layer_name(spec), None)
    if not callable(factory):
        raise LayerError(f"model.layer must name a layer class or a function of units (got {spec})")
    try:
        inspect.signature(factory).bind(units, **options)
    except TypeError as error:
        raise LayerError(f"model.layer_options of {spec}: {error}") from None
    return factory(units, **options)


def _module(config: Config, file: LayerFile | None) -> ModuleType:
    """Import the file or module of ``model.layer``.

    A file must be self-contained: modules beside it would be missing in its runs, and do not count in ``config_id``.
    The name of a file's module depends on its content, so that one process can hold two versions of a layer.
    """
    try:
        if (file := file or read_layer(config)) is None:
            return importlib.import_module(config.model.layer.rpartition(":")[0])
        name = f"seqmnist_layer_{hashlib.sha256(file.content).hexdigest()[:16]}"
        if name not in sys.modules:
            module = sys.modules[name] = ModuleType(name)  # before its code runs: dataclasses look for it there
            module.__file__ = str(file.path)
            try:
                exec(compile(file.content, str(file.path), "exec"), vars(module))
                _require_self_contained(file)
            except BaseException:
                del sys.modules[name]
                raise
        return sys.modules[name]
    except ModuleNotFoundError as error:
        raise LayerError(f"model.layer {config.model.layer}: {error}") from error


def _require_self_contained(file: LayerFile) -> None:
    """Raise LayerError where a layer's file has imported a module, or a package, that stands beside it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.content)):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    folder = file.path.resolve().parent
    for name in sorted(names - {__name__.partition(".")[0]}):
        path = getattr(sys.modules.get(name), "__file__", None)
        if path and folder in (Path(path).resolve().parent, Path(path).resolve().parents[1]):
            raise LayerError(
                f"model.layer: {file.path} imports {path} (put it into the file, which is all that is kept)"
            )


def custom_objects(config: Config, file: LayerFile | None = None) -> dict[str, Any]:
    """Return the Keras classes of a custom layer's module by name, for ``keras.saving.load_model``."""
    classes = [value for value in vars(_module(config, file)).values() if isinstance(value, type)]
    own = [value for value in classes if issubclass(value, keras.Layer) and not value.__module__.startswith("keras.")]
    return {name: value for value in own for name in (value.__name__, keras.saving.get_registered_name(value))}


def match_units(config: Config, file: LayerFile | None = None) -> Config:
    """Return ``config`` with the units whose model has nearest to ``model.match_parameters`` parameters, if it is set.

    The units, 2 to 16,384, are found by bisection, for any layer whose parameters grow with its units; of equally near
    numbers, the smallest is taken. LayerError is raised where the nearest is not within 5 %.
    """
    target = config.model.match_parameters
    if target is None:
        return config

    @functools.cache
    def parameters(units: int) -> int:
        return _count_parameters(_with_units(config, units), file)

    low, high = 2, 2  # double until there are enough parameters
    while parameters(high) < target and high < MAX_UNITS:
        low, high = high + 1, min(2 * high, MAX_UNITS)
    while low < high:  # the smallest number of units that has enough
        middle = (low + high) // 2
        low, high = (low, middle) if parameters(middle) >= target else (middle + 1, high)
    below = max(low - 1, 2)
    # Of those that have as many parameters, the smallest: a Bidirectional of units // 2 has equally many for 4 and 5.
    while 2 < below < MAX_UNITS - 1 and parameters(below - 1) == parameters(below):
        below -= 1
    units = min(below, low, key=lambda units: (abs(parameters(units) - target), units))
    if abs(parameters(units) - target) > MATCHED_WITHIN * target:
        raise LayerError(
            f"model.match_parameters must be within 5 % of a model's parameters (got {target:,}: the nearest of "
            f"{config.model.layer} has {units:,} units and {parameters(units):,} parameters)"
        )
    return _with_units(config, units)


def _with_units(config: Config, units: int) -> Config:
    return replace(config, model=replace(config.model, hidden_size=units))


def _count_parameters(config: Config, file: LayerFile | None) -> int:
    """Return the number of parameters of a configuration's model; of a custom layer, one is made and counted."""
    if (known := num_params(config)) is not None:
        return known
    layers = [make_layer(config, file), keras.layers.Dense(config.model.output_size)]
    model = keras.Sequential([keras.Input((NUM_TIMESTEPS, 1)), *layers])
    if not all(layer.built for layer in model._flatten_layers()):  # their first call makes their weights
        tf.function(model, autograph=False).get_concrete_function(tf.TensorSpec((2, NUM_TIMESTEPS, 1)))
    return int(model.count_params())


def build_model(config: Config, file: LayerFile | None = None) -> keras.Sequential:
    """Build the model of a configuration: sequences float32 (n, 784, 1) to logits float32 (n, 10).

    A plain ``keras.Sequential`` of stock layers, or of a custom layer (from ``file``, else from where the configuration
    says) and a dense layer. Keras's global random seed is set to ``train.seed`` first, so that the initial weights
    depend on the configuration alone and equal those of plain Keras code with that seed.
    """
    if (policy := keras.config.dtype_policy().name) != "float32":
        raise InputError(f"Keras must compute in float32 (got {policy}: see keras.config.set_dtype_policy)")
    keras.utils.set_random_seed(config.train.seed)
    units = config.model.hidden_size
    recipe: dict[str, Any] = {}
    dense: dict[str, Any] = {}
    if config.model.initializer == "torch":
        # torch.nn.LSTM and torch.nn.Linear: U(-k, k) with k = 1/sqrt(units) for every parameter.
        uniform = [keras.initializers.RandomUniform(-(units**-0.5), units**-0.5) for _ in range(4)]
        recipe = {"kernel_initializer": uniform[0], "recurrent_initializer": uniform[1], "unit_forget_bias": False}
        dense = {"kernel_initializer": uniform[2], "bias_initializer": uniform[3]}
    is_lstm = config.model.layer == "LSTM"
    layer = keras.layers.LSTM(units, name="lstm", **recipe) if is_lstm else make_layer(config, file)
    logits = keras.layers.Dense(config.model.output_size, name="logits", **dense)
    model = keras.Sequential([keras.Input((NUM_TIMESTEPS, config.model.input_size)), layer, logits])
    if config.model.layer in ("LSTM", "GRU"):
        _set_initial_bias(config, layer.cell.bias)
    return model


def _set_initial_bias(config: Config, variable: keras.Variable) -> None:
    """Set the bias of an LSTM or a GRU to what the configuration says, if it says anything.

    An LSTM's is (4 * units,), in the order of its gates: input, forget, candidate, output. A GRU's is (2, 3 * units),
    biases of input and of state: update, reset, candidate. Its update gate z has the part of the forget gate, for
    h' = z h + (1 - z) candidate. ``chrono`` follows Tallec & Ollivier 2018, section 3, for T = 784; for a GRU it is
    their rule applied to z.
    """
    units = config.model.hidden_size
    bias = keras.ops.convert_to_numpy(variable)
    drawn = np.random.RandomState(config.train.seed)
    if config.model.initializer == "torch":
        # PyTorch adds two bias vectors, each from U(-k, k); Keras has one, here their sum.
        bias = drawn.uniform(-(units**-0.5), units**-0.5, (2, 4 * units)).sum(axis=0)
    bias = bias.astype(np.float32)
    is_gru = config.model.layer == "GRU"
    gate = bias[0, :units] if is_gru else bias[units : 2 * units]  # a view
    if config.model.forget_bias == "chrono":
        # b_f = log U(1, T - 1), b_i = -b_f
        gate[:] = np.log(drawn.uniform(1, NUM_TIMESTEPS - 1, units))
        if not is_gru:
            bias[:units] = -gate
    elif config.model.forget_bias is not None:
        gate[:] = config.model.forget_bias
    variable.assign(bias)

"""The recurrent layer of a configuration: a stock Keras layer, or one of a user's own module or file."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np

from ..config import NUM_TIMESTEPS, OPTIONS, Config, has_stock_layer, layer_file
from ..system import InputError, first_line
from .layer_source import layer_source

LayerFactory = Callable[[int], keras.Layer]

MAX_UNITS = OPTIONS["model.hidden_size"].meta["high"]
STOCK_LAYERS: dict[str, LayerFactory] = {
    "LSTM": keras.layers.LSTM,
    "GRU": keras.layers.GRU,
    "SimpleRNN": keras.layers.SimpleRNN,
}


def with_layer(config: Config, layer: LayerFactory, folder: Path) -> tuple[Config, Path | None]:
    """Return ``config`` with a layer that was defined in Python, and the file of its source.

    Args:
        config: the experiment.
        layer: a layer class or a function of units.
        folder: where the source is written, as ``layer.py``. A stock layer needs no file.

    Raises:
        InputError: the source of the layer is not known.
    """
    spec, file = next((name for name, factory in STOCK_LAYERS.items() if factory is layer), None), None
    if spec is None:
        name, source = layer_source(layer)
        file = folder / "layer.py"
        file.write_bytes(source)
        spec = f"layer.py:{name}"
    return replace(config, model=replace(config.model, layer=spec)), file


def layer_factory(config: Config, file: Path | None = None) -> LayerFactory:
    """Return the factory of ``model.layer``. This runs the code of its module or file.

    Args:
        config: ``model.layer`` is used.
        file: the file to read in place of the one that ``model.layer`` names; a run's copy of it.

    Raises:
        InputError: the module or file cannot be imported, or has no such name.
    """
    spec = config.model.layer
    if has_stock_layer(config):
        return STOCK_LAYERS[spec]
    name = spec.rpartition(":")[2]
    factory = getattr(_module(config, file), name, None)
    if factory is None:
        raise InputError(f"model.layer {spec}: there is no {name} in it (give the name of a layer class or a function)")
    if not callable(factory):
        raise InputError(
            f"model.layer {spec} must be a layer class or a function of units (got {type(factory).__name__})"
        )
    return factory


def custom_objects(config: Config, file: Path | None = None) -> dict[str, Any]:
    """Return the Keras classes of the module of ``model.layer`` by name, for ``keras.saving.load_model``.

    Classes that are registered under a name with Keras are registered anew: of several files with one such name, as of
    two versions of a layer, the last to be imported would stand for all.

    Raises:
        InputError: the module or file cannot be imported.
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


def check_layer(config: Config, file: Path | None = None) -> None:
    """Try the layer of a configuration on two sequences, saved and loaded again.

    Raises:
        InputError: the factory raises, or its layer has another output shape, no trainable weight, or does not load as
            it was saved.
    """
    if has_stock_layer(config):
        return
    spec, units = config.model.layer, config.model.hidden_size
    layer = make_layer(config, file)
    try:
        model = keras.Sequential([keras.Input((NUM_TIMESTEPS, 1)), layer])
    except Exception as error:
        raise InputError(f"model.layer {spec}: its layer raised {type(error).__name__}: {first_line(error)}") from None
    if model.output_shape != (None, units):
        raise InputError(
            f"model.layer {spec} must turn (n, {NUM_TIMESTEPS}, 1) into (n, {units}) (got {model.output_shape})"
        )
    if not layer.trainable_variables:
        raise InputError(f"model.layer {spec} must have at least one trainable weight (got none)")
    sequences = np.random.RandomState(0).standard_normal((2, NUM_TIMESTEPS, 1)).astype(np.float32)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "layer.keras"
            model.save(path)
            loaded = keras.saving.load_model(path, custom_objects=custom_objects(config, file))
        before, after = (keras.ops.convert_to_numpy(m(sequences)) for m in (model, loaded))
    except Exception as error:
        raise InputError(
            f"model.layer {spec} must save and load as a Keras layer (got {type(error).__name__}: {first_line(error)})"
        ) from None
    if not np.array_equal(before, after, equal_nan=True):
        raise InputError(f"model.layer {spec} must give the same output after it was saved and loaded (it differs)")


def make_layer(config: Config, file: Path | None = None) -> keras.Layer:
    """Return a new layer of ``model.hidden_size`` units.

    Raises:
        InputError: the factory raises, or returns no Keras layer.
    """
    spec = config.model.layer
    factory = layer_factory(config, file)
    try:
        layer = factory(config.model.hidden_size)
    except Exception as error:
        raise InputError(f"model.layer {spec} raised {type(error).__name__}: {first_line(error)}") from None
    if not isinstance(layer, keras.Layer):
        raise InputError(f"model.layer {spec} must return a Keras layer (got {type(layer).__name__})")
    return layer


def match_units(config: Config, file: Path | None = None) -> Config:
    """Return ``config`` with the units whose model has nearest to ``model.match_parameters`` parameters, if it is set.

    A search over models, so that it works for any layer whose parameters grow with its units. Of two equally near
    numbers of units it is the smaller; they are 1 to 16,384.

    Raises:
        InputError: as :func:`make_layer`.

    Example:
        >>> from seqmnist_tf.config import Config, Model
        >>> match_units(Config(model=Model(layer="GRU", match_parameters=67_850))).model.hidden_size
        147
    """
    target = config.model.match_parameters
    if target is None:
        return config

    def count(units: int) -> int:
        sized = replace(config, model=replace(config.model, hidden_size=units))
        layer = make_layer(sized, file)
        model = keras.Sequential([keras.Input((NUM_TIMESTEPS, 1)), layer, keras.layers.Dense(config.model.output_size)])
        return int(model.count_params())

    high = 1
    while count(high) < target and high < MAX_UNITS:
        high = min(2 * high, MAX_UNITS)
    low = max(1, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if count(middle) >= target else (middle + 1, high)
    units = min((u for u in (low - 1, low) if u >= 1), key=lambda u: (abs(count(u) - target), u))
    return replace(config, model=replace(config.model, hidden_size=units))


def _module(config: Config, file: Path | None) -> ModuleType:
    """Import the module of ``model.layer``; a file's name in ``sys.modules`` depends on its content."""
    spec = config.model.layer
    path = file or layer_file(config)
    try:
        if path is None:
            return importlib.import_module(spec.rpartition(":")[0])
        source = path.read_bytes()
        name = f"seqmnist_layer_{hashlib.sha256(source).hexdigest()[:16]}"
        if name not in sys.modules:
            module = ModuleType(name)
            module.__file__ = str(path)
            sys.modules[name] = module
            try:
                exec(compile(source, str(path), "exec"), module.__dict__)
            except BaseException:
                del sys.modules[name]
                raise
        return sys.modules[name]
    except OSError as error:
        raise InputError(f"model.layer must name a file that can be read (got {spec!r}: {error.strerror})") from None
    except Exception as error:
        raise InputError(
            f"model.layer {spec}: importing it raised {type(error).__name__}: {first_line(error)}"
        ) from None

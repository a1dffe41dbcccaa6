"""Configurations from values and JSON files, their validation, and how they differ.

Standard library only.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..system import InputError, parse_json
from .layer_file import has_stock_layer
from .sections import NOISY_PARTS, OPTIONS, SECTIONS, Config, find_option

KEYS_OF_LAYERS = {  # keys that have a meaning for some of Keras's layers only
    "model.forget_bias": ("LSTM", "GRU"),
    "model.initializer": ("LSTM",),
    "optimizer.bias_rate": ("LSTM",),
}


def unknown_key(key: str) -> InputError:
    """Return the error for a key, or a section, that does not exist."""
    section = key.split(".")[0]
    if section in SECTIONS:
        allowed = ", ".join(f.name for f in dataclasses.fields(SECTIONS[section]))
        return InputError(f"unknown key {key} (allowed in {section}: {allowed})")
    return InputError(f"unknown key {key} (allowed sections: {', '.join(SECTIONS)})")


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """Return ``config`` with the values of some keys replaced; each value is checked, their combination is not.

    ``model.layer_options.NAME`` replaces one constant, also of an object that is among the values.

    Raises:
        InputError: an unknown key, or a value of the wrong type or out of range.

    Example:
        >>> with_values(Config(), {"train.seed": 1}).train.seed
        1
    """
    sections: dict[str, dict[str, Any]] = {}
    for key in sorted(values, key=lambda key: key.count(".")):
        if (option := find_option(key)) is None:
            raise unknown_key(key)
        section, name, *constant = key.split(".")
        fields, value = sections.setdefault(section, {}), option.check(values[key])
        if constant:
            value = {**fields.get(name, getattr(getattr(config, section), name)), constant[0]: value}
        fields[name] = value
    return replace(config, **{s: replace(getattr(config, s), **fields) for s, fields in sections.items()})


def validate(config: Config) -> Config:
    """Return ``config`` if every value and their combination are allowed, else raise InputError."""
    values = flatten(config)
    config = with_values(config, values)
    opt = config.optimizer
    if opt.grad_clip_value is not None and opt.grad_clip_norm is not None:
        raise InputError(
            "optimizer.grad_clip_value and optimizer.grad_clip_norm exclude each other: one of them must be null "
            f"(got {opt.grad_clip_value:g} and {opt.grad_clip_norm:g})"
        )
    if opt.epsilon_placement == "outside" and opt.name != "RMSProp":
        raise InputError(f"optimizer.epsilon_placement must be inside with optimizer.name {opt.name} (got 'outside')")
    if opt.bias_rate != 1 and opt.epsilon_placement != "outside":
        raise InputError(
            f"optimizer.bias_rate must be 1 without optimizer.epsilon_placement outside (got {opt.bias_rate:g})"
        )
    if opt.momentum and opt.name == "Adam":
        raise InputError(f"optimizer.momentum must be 0 with optimizer.name Adam (got {opt.momentum:g})")
    for key, layers in KEYS_OF_LAYERS.items():
        if values[key] != (default := OPTIONS[key].default) and config.model.layer not in layers:
            raise InputError(
                f"{key} must be {json.dumps(default)} with model.layer {config.model.layer}: it is for "
                f"{' and '.join(layers)} only (got {json.dumps(values[key])})"
            )
    if config.model.layer_options and has_stock_layer(config):
        raise InputError(
            f"model.layer_options must be {{}} with model.layer {config.model.layer}: it is for layers of one's own "
            f"only (got {json.dumps(config.model.layer_options)})"
        )
    if config.train.recurrent_noise and config.train.recurrent_noise_relative:
        raise InputError("train.recurrent_noise and train.recurrent_noise_relative exclude each other: one must be 0")
    last = config.num_train - (config.steps_per_epoch - 1) * config.train.batch_size
    if config.recurrent_noise and last < NOISY_PARTS:
        raise InputError(
            f"train.recurrent_noise needs at least {NOISY_PARTS} images in each batch (got {last} in an epoch's last)"
        )
    check_permutation(config.task.permutation)
    return config


def check_permutation(permutation: str) -> str:
    """Return a value of ``task.permutation`` in its own spelling, or raise InputError."""
    permutation = str(OPTIONS["task.permutation"].check(permutation))
    if permutation.startswith("seed:") and int(permutation.removeprefix("seed:")) >= 2**32:
        raise InputError(f"task.permutation seed:N needs N from 0 to {2**32 - 1} (got {permutation!r})")
    return permutation


def flatten(config: Config) -> dict[str, Any]:
    """Return the configuration as one level of ``section.key`` names."""
    return flatten_sections(config_to_dict(config))


def flatten_sections(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values of a JSON configuration by ``section.key`` name, unchecked."""
    return {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}


def contradictions(given: Mapping[str, Any], config: Config) -> dict[str, tuple[Any, Any]]:
    """Return the keys whose given value is not that of a configuration, each with the given and the actual value.

    Units that ``model.match_parameters`` chose contradict no others that were given.

    Example:
        >>> contradictions({"train.seed": 1, "train.n_epochs": 100}, Config())
        {'train.seed': (1, 0)}
    """
    constants = {f"model.layer_options.{name}": value for name, value in config.model.layer_options.items()}
    actual = {**flatten(config), **constants}
    chosen = ("model.hidden_size",) if config.model.match_parameters is not None else ()
    return {
        key: (value, was) for key, value in given.items() if value != (was := actual.get(key)) and key not in chosen
    }


def differences(config: Config, base: Config) -> dict[str, Any]:
    """Return the values in which a configuration differs from another, by ``section.key``.

    Example:
        >>> differences(with_values(Config(), {"model.hidden_size": 64}), Config())
        {'model.hidden_size': 64}
    """
    before = flatten(base)
    return {key: value for key, value in flatten(config).items() if value != before[key]}


def value_text(value: Any) -> str:
    """Return the value of a key as a flag takes it.

    Example:
        >>> value_text(None), value_text(True), value_text(0.001), value_text("Adam")
        ('null', 'true', '0.001', 'Adam')
    """
    return value if isinstance(value, str) else json.dumps(value)


def config_to_dict(config: Config) -> dict[str, dict[str, Any]]:
    """Return the configuration as nested plain values, ready for JSON."""
    return dataclasses.asdict(config)


def config_to_json(config: Config) -> str:
    """Return the configuration as an indented JSON document."""
    return json.dumps(config_to_dict(config), indent=2)


def read_values(path: Path) -> dict[str, Any]:
    """Return the values of a JSON configuration file, by ``section.key``.

    The block as the original project printed it is accepted too: without its outer braces, and with a comma after the
    last entry.

    Raises:
        InputError: the file cannot be read, is not a JSON object of sections, or names a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(f"cannot read configuration {path}: {reason} (give a JSON file)") from None
    if text.startswith('"'):
        text = "{" + text + "}"
    # Remove a comma after a last entry: neither one in a string nor one with no entry before it.
    text = re.sub(r'("(?:\\.|[^"\\])*"|[{\[,]\s*,)|,(?=\s*[}\]])', lambda match: match[1] or "", text)
    try:
        document = parse_json(text)
    except ValueError as error:
        raise InputError(f"configuration {path} is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise InputError(f"configuration {path} must be a JSON object of sections (got {type(document).__name__})")
    for section, fields in document.items():
        if section not in SECTIONS:
            raise InputError(f"unknown section {section} in {path} (allowed: {', '.join(SECTIONS)}; each holds keys)")
        if not isinstance(fields, dict):
            raise InputError(f"{section} must be a JSON object of keys (got {json.dumps(fields)})")
    return flatten_sections(document)


def read_config(path: Path) -> Config:
    """Return the configuration of a run directory's ``config.json``; missing keys have their defaults."""
    return validate(with_values(Config(), read_values(path)))

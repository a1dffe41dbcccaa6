"""Configurations from values and JSON files, and their validation."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from ..system import InputError, reading
from .sections import NOISY_PARTS, OPTIONS, SECTIONS, STOCK_LAYERS, Config, find_option

KEYS_OF_LAYERS = {  # keys that have a meaning for some of Keras's layers only
    "model.forget_bias": ("LSTM", "GRU"),
    "model.initializer": ("LSTM",),
    "optimizer.bias_rate": ("LSTM",),
}


def unknown_key(key: str) -> InputError:
    """Return the error for a key, or a section, that does not exist."""
    section = key.split(".")[0]
    names = [f.name for f in dataclasses.fields(SECTIONS[section])] if section in SECTIONS else SECTIONS
    return InputError(f"unknown key {key} (allowed: {', '.join(names)})")


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """Return ``config`` with the values of some keys replaced; each value is checked, their combination is not.

    ``model.layer_options.NAME`` replaces one constant, also of an object that is among the values.

    Example:
        >>> with_values(Config(), {"train.seed": 1}).train.seed
        1
    """
    sections: dict[str, dict[str, Any]] = {}
    for key in sorted(values, key=lambda key: key.count(".")):
        if (option := find_option(key)) is None:
            raise unknown_key(key)
        section, name, *constant = key.split(".")
        fields = sections.setdefault(section, {})
        value = option.check(values[key])
        if constant:
            value = {**fields.get(name, getattr(getattr(config, section), name)), constant[0]: value}
        fields[name] = value
    return replace(config, **{s: replace(getattr(config, s), **fields) for s, fields in sections.items()})


def validate(config: Config) -> Config:
    """Return ``config`` if every value and their combination are allowed, else raise InputError."""
    values = flatten(config)
    config = with_values(config, values)
    model, optimizer = config.model, config.optimizer
    last = config.num_train - (config.steps_per_epoch - 1) * config.train.batch_size
    rules = {
        "optimizer.grad_clip_value and optimizer.grad_clip_norm exclude each other: one of them must be null": (
            optimizer.grad_clip_value is None or optimizer.grad_clip_norm is None
        ),
        f"optimizer.epsilon_placement must be inside with optimizer.name {optimizer.name}": (
            optimizer.epsilon_placement == "inside" or optimizer.name == "RMSProp"
        ),
        "optimizer.bias_rate must be 1 without optimizer.epsilon_placement outside": (
            optimizer.bias_rate == 1 or optimizer.epsilon_placement == "outside"
        ),
        "optimizer.momentum must be 0 with optimizer.name Adam": not (optimizer.momentum and optimizer.name == "Adam"),
        f"model.layer_options must be {{}} with model.layer {model.layer}: it is for custom layers only": (
            not model.layer_options or model.layer not in STOCK_LAYERS
        ),
        f"train.recurrent_noise needs at least {NOISY_PARTS} images in each batch (an epoch's last has {last})": (
            not config.recurrent_noise or last >= NOISY_PARTS
        ),
        "train.recurrent_noise and train.recurrent_noise_relative exclude each other: one must be 0": (
            not (config.train.recurrent_noise and config.train.recurrent_noise_relative)
        ),
    }
    for key, layers in KEYS_OF_LAYERS.items():
        default = value_text(OPTIONS[key].default)
        text = f"{key} must be {default} with model.layer {model.layer}: it is for {' and '.join(layers)} only"
        rules[text] = values[key] == OPTIONS[key].default or model.layer in layers
    for text, holds in rules.items():
        if not holds:
            raise InputError(text)
    return config


def flatten(config: Config) -> dict[str, Any]:
    """Return the configuration as one level of ``section.key`` names."""
    return flatten_sections(config_to_dict(config))


def flatten_sections(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values of a JSON configuration by ``section.key`` name, unchecked."""
    return {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}


def value_text(value: Any) -> str:
    """Return the value of a key as a flag takes it: ``null``, ``true``, ``0.001``, ``Adam``."""
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
    """
    with reading(f"configuration {path}"):
        text = path.read_text(encoding="utf-8-sig").strip()
        if text.startswith('"'):
            text = "{" + text + "}"
        # Remove a comma after a last entry, but none in a string.
        text = re.sub(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])', lambda match: match[1] or "", text)
        return flatten_sections(msgspec.json.decode(text, type=dict[str, dict[str, Any]]))


def read_config(path: Path) -> Config:
    """Return the configuration of a run directory's ``config.json``; missing keys have their defaults."""
    return validate(with_values(Config(), read_values(path)))

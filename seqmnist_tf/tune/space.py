"""A search as a value: the space of keys that it varies, and the folder with its settings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import config as cfg
from ..config import Config
from ..system import InputError, json_bytes, read_json_object, reading, require_folder, write_atomically

SETTINGS, ORACLE = "search.json", "oracle.json"
TUNERS = ("random", "bayesian", "hyperband")
DEPENDS_ON_THE_MACHINE = ("train.threads", "train.kernel", "data.source", "data.dir")
# Keys that a search may not vary, beside those that are no part of the experiment: the protocol and the budget.
FIXED = ("criterion.", "task.", "test.", "train.n_epochs", "train.precision")
EDGE = 0.05  # a value within this share of a range's width, on its scale, from an end is at the edge

DEFAULT_SPACE: dict[str, dict[str, Any]] = {
    "optimizer.name": {"choices": ["RMSProp", "Adam"], "reason": "SGD needs learning rates beyond this range."},
    "optimizer.lr": {"low": 3e-4, "high": 3e-2, "scale": "log", "reason": "The presets have 0.001 to 0.02."},
    "optimizer.rho": {
        "choices": [0.9, 0.99],
        "only_with": {"optimizer.name": "RMSProp"},
        "reason": "Keras's default and PyTorch's.",
    },
    "optimizer.epsilon": {
        "low": 1e-8,
        "high": 1e-4,
        "scale": "log",
        "reason": "Keras's default and around it; gradients through 784 steps can be smaller.",
    },
    "clipping": {
        "choices": [
            {"optimizer.grad_clip_value": 1.0, "optimizer.grad_clip_norm": None},
            {"optimizer.grad_clip_value": 0.1, "optimizer.grad_clip_norm": None},
            {"optimizer.grad_clip_value": None, "optimizer.grad_clip_norm": 1.0},
            {"optimizer.grad_clip_value": None, "optimizer.grad_clip_norm": 0.1},
        ],
        "reason": "By value as in the original, or by norm, which keeps the direction.",
    },
    "model.initializer": {"choices": ["keras", "torch"], "reason": "Keras's default and PyTorch's."},
    "model.forget_bias": {"choices": [0, 1, "chrono"], "reason": "A memory of some steps, or up to all 784 (chrono)."},
    "optimizer.schedule": {"choices": ["constant", "cosine"], "reason": "As in the original, or falling to 0."},
    "train.batch_size": {"choices": [50, 100, 200], "reason": "Around the original's: more steps, or less noise."},
    "optimizer.weight_decay": {"choices": [0, 0.01, 0.1], "reason": "None, up to that of the preset strong."},
    "train.recurrent_noise": {"choices": [0, 0.03, 0.1], "reason": "None, up to that of the preset strong."},
}


@dataclass(frozen=True)
class Dimension:
    """One row of a search space: a range, or choices."""

    name: str  # a key of the configuration, or a name for several keys that are set together
    low: float | None = None  # None for choices
    high: float | None = None
    scale: str = "linear"  # or log
    choices: dict[str, dict[str, Any]] = field(default_factory=dict)  # keys and values by label; empty for a range
    only_with: tuple[str, str] | None = None  # another row and its label, without which this one has no effect
    reason: str = ""

    @property
    def integer(self) -> bool:
        """Whether its values are integers: those between two integers are."""
        return type(self.low) is type(self.high) is int

    @property
    def allowed(self) -> str:
        if self.choices:
            return ", ".join(map(self.text, self.choices))
        return f"{self.low:g} to {self.high:g}{', log-uniform' if self.scale == 'log' else ''}"

    def text(self, value: Any) -> str:
        """Return one of its values as text."""
        return value.replace('"', "") if self.choices else str(int(value)) if self.integer else f"{value:.3g}"

    def applies(self, values: Mapping[str, Any]) -> bool:
        """Return whether this row has an effect in a trial with these values."""
        return self.name in values and (self.only_with is None or values.get(self.only_with[0]) == self.only_with[1])

    def settings(self, value: Any) -> dict[str, Any]:
        """Return the keys and values that a value sets."""
        return self.choices[value] if self.choices else {self.name: int(value) if self.integer else float(value)}

    def at_edge(self, value: Any) -> str | None:
        """Return ``low`` or ``high`` where a value lies at that end of a range, else None."""
        if self.choices:
            return None
        scale = math.log if self.scale == "log" else float
        low, high, at = (scale(x) for x in (self.low, self.high, value))  # type: ignore[arg-type]
        edge = EDGE * (high - low)
        return "low" if at - low < edge else "high" if high - at < edge else None


def parse_space(document: Mapping[str, Any]) -> tuple[Dimension, ...]:
    """Return a search space from its JSON form, such as DEFAULT_SPACE; ``oracle.declare_space`` checks the rest."""
    rows: dict[str, Dimension] = {}
    for name, row in document.items():
        with reading(f"{name} in the search space"):
            rows[name] = _dimension(name, rows, **row)
    return tuple(rows.values())


def _dimension(
    name: str,
    before: Mapping[str, Dimension],
    *,
    low: Any = None,
    high: Any = None,
    scale: str = "linear",
    choices: Any = None,
    only_with: dict[str, Any] | None = None,
    reason: str = "",
) -> Dimension:
    """Return a dimension of a search space from its keys in JSON."""
    condition = None
    for other, choice in (only_with or {}).items():
        condition = (other, _label(choice))
        before[other].choices[condition[1]]  # a KeyError where it is not there
    if choices:
        made = {_label(choice): _settings(name, choice) for choice in choices}
        return Dimension(name, choices=made, only_with=condition, reason=reason)
    low, high = (_settings(name, end)[name] for end in (low, high))
    return Dimension(name, low, high, scale, only_with=condition, reason=reason)


def _label(choice: Any) -> str:
    """Return a choice as text: its JSON, or the keys that it sets, without sections and, if others are left, nulls."""
    if not isinstance(choice, dict):
        return json.dumps(choice)
    shown = {key: value for key, value in choice.items() if value is not None} or choice
    return ", ".join(f"{key.split('.')[-1]}={json.dumps(value)}" for key, value in shown.items())


def _settings(name: str, choice: Any) -> dict[str, Any]:
    """Return the keys and values that a choice sets, each value checked."""
    settings = choice if isinstance(choice, dict) else {name: choice}
    for key in settings:
        if key.startswith(FIXED) or not cfg.of_the_experiment(key):
            raise InputError(f"{key} is fixed in a search (a search space varies keys of model, optimizer and train)")
    cfg.with_values(Config(), settings)  # for the error of an unknown key
    return {key: option.check(value) for key, value in settings.items() if (option := cfg.find_option(key))}


@dataclass(frozen=True)
class SearchFolder:
    """A search and its folder; ``search.json`` there holds its settings."""

    path: Path
    tuner: str  # of TUNERS
    base: Config  # that trials change; it holds out a split and leaves the test set unread
    space: tuple[Dimension, ...]
    space_document: dict[str, Any]  # the space in its JSON form
    preset: str | None  # that ``base`` started from, for the record
    stops: bool = True  # trials at chance after half of their epochs

    @classmethod
    def read(cls, path: Path, document: dict[str, Any] | None = None) -> SearchFolder:
        """Return the search in a folder; its settings are ``document``, or those in ``search.json``."""
        document = read_json_object(path / SETTINGS) if document is None else document
        with reading(f"the settings of the search {path}"):
            base = cfg.validate(cfg.with_values(Config(), cfg.flatten_sections(document["base"])))
            tuner = TUNERS[TUNERS.index(document["tuner"])]
            stops = bool(document.get("stops", True))
            space = parse_space(document["space"])
            return cls(path, tuner, base, space, document["space"], document.get("preset"), stops)

    @property
    def document(self) -> dict[str, Any]:
        """The settings, ready for JSON. Its hashes hold files that the base and the space name to their content."""
        named = [keys["model.layer"] for row in self.space for keys in row.choices.values() if "model.layer" in keys]
        configs = [cfg.with_values(self.base, {"model.layer": layer}) for layer in named]
        return {
            "tuner": self.tuner,
            "base": self._shared_values(),
            "space": self.space_document,
            "config_id": cfg.config_id(self.base),
            "layers": {config.model.layer: cfg.config_id(config) for config in configs if cfg.layer_file(config)},
            **({} if self.stops else {"stops": False}),
        }

    def require_own(self) -> None:
        """Raise InputError where the folder belongs to another search, holds other files or cannot be written."""
        document = self.document
        require_folder(self.path, (SETTINGS, ORACLE), "search")
        if (self.path / SETTINGS).exists():
            saved = read_json_object(self.path / SETTINGS)
            saved["base"] = SearchFolder.read(self.path)._shared_values()  # newer keys have their defaults
            if saved != document:
                raise InputError(f"{self.path} holds another search (give a new --dir, or its own arguments and files)")

    def claim(self) -> None:
        """Write ``search.json``."""
        self.require_own()
        write_atomically(self.path / SETTINGS, json_bytes(self.document))

    def _shared_values(self) -> dict[str, dict[str, Any]]:
        """Return the base's values without those that depend on the machine, by section."""
        sections = cfg.config_to_dict(self.base)
        for name in DEPENDS_ON_THE_MACHINE:
            section, key = name.split(".")
            del sections[section][key]
        return sections

    def config(self, values: Mapping[str, Any]) -> Config:
        """Return the configuration of a trial with these values; rows that do not apply change nothing."""
        settings: dict[str, Any] = {"train.n_epochs": values.get("tuner/epochs", self.base.train.n_epochs)}
        for row in self.space:
            if row.applies(values):
                settings |= row.settings(values[row.name])
        return cfg.validate(cfg.with_values(self.base, settings))

    def trial_path(self, trial_id: str) -> Path:
        return self.path / "trials" / trial_id


def on_all_images(config: Config) -> Config:
    """Return the configuration of a trial on all training images, with the test set."""
    values = {"task.validation_size": 0, "task.limit_train": 0, "test.enabled": True}
    return cfg.validate(cfg.with_values(config, values))

"""The search space: the keys that a search varies, their bounds, and why."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from .. import config as cfg
from ..config import Config
from ..system import InputError

# Keys that a search may not vary: the protocol, the budget, and keys that are no part of the experiment.
FIXED = ("criterion.", "task.", "test.", "data.", "wandb.", "tensorboard.")
FIXED_KEYS = ("train.n_epochs", "train.seed", "train.threads", "train.kernel", "train.precision")
ROW_KEYS = ("low", "high", "scale", "choices", "only_with", "reason")  # of a row
EDGE = 0.05  # a value within this share of a range's width, on its scale, from an end is at the edge

DEFAULT_SPACE: dict[str, dict[str, Any]] = {
    "optimizer.name": {
        "choices": ["RMSProp", "Adam"],
        "reason": "The original's optimizer and the usual one; SGD needs learning rates beyond this range.",
    },
    "optimizer.lr": {
        "low": 3e-4,
        "high": 3e-2,
        "scale": "log",
        "reason": "Below, an epoch moves too little to leave the plateau; the presets have 0.001 to 0.02.",
    },
    "optimizer.rho": {
        "choices": [0.9, 0.99],
        "only_with": {"optimizer.name": "RMSProp"},
        "reason": "Keras's default and PyTorch's.",
    },
    "optimizer.epsilon": {
        "low": 1e-8,
        "high": 1e-4,
        "scale": "log",
        "reason": "Keras's default and around it, inside of the root; gradients through 784 steps can be smaller.",
    },
    "clipping": {
        "choices": [
            {"optimizer.grad_clip_value": 1.0, "optimizer.grad_clip_norm": None},
            {"optimizer.grad_clip_value": 0.1, "optimizer.grad_clip_norm": None},
            {"optimizer.grad_clip_value": None, "optimizer.grad_clip_norm": 1.0},
            {"optimizer.grad_clip_value": None, "optimizer.grad_clip_norm": 0.1},
        ],
        "reason": "By value as in the original, or by norm, which keeps the direction; loose and tight.",
    },
    "model.initializer": {"choices": ["keras", "torch"], "reason": "Keras's and PyTorch's."},
    "model.forget_bias": {
        "choices": [0, 1, "chrono"],
        "reason": "How long the initial memory lasts: some steps (0, 1), or up to all 784 (chrono).",
    },
    "optimizer.schedule": {
        "choices": ["constant", "cosine"],
        "reason": "As in the original, or falling to 0 over the run.",
    },
    "train.batch_size": {"choices": [50, 100, 200], "reason": "Around the original's 100: more steps, or less noise."},
    "optimizer.weight_decay": {
        "choices": [0, 0.01, 0.1],
        "reason": "Against overfitting: none, as in the original, up to that of the preset strong.",
    },
    "train.recurrent_noise": {
        "choices": [0, 0.03, 0.1],
        "reason": "Against overfitting: none, as in the original, up to that of the preset strong.",
    },
}


@dataclass(frozen=True)
class Dimension:
    """One row of a search space.

    Attributes:
        name: a key of the configuration, or a name for several keys that are set together.
        low: the lowest value of a range; None for choices.
        high: the highest.
        log: the range is explored on a logarithmic scale.
        integer: its values are whole numbers.
        choices: the keys and values that each choice sets, by its label; empty for a range.
        only_with: the row applies only where this other row has this label; None for always.
        reason: why these values are explored.
    """

    name: str
    low: float | None
    high: float | None
    log: bool
    integer: bool
    choices: dict[str, dict[str, Any]]
    only_with: tuple[str, str] | None
    reason: str

    @property
    def allowed(self) -> str:
        """Its range or choices, as text."""
        if self.choices:
            return ", ".join(self.choices)
        return f"{self.low:g} to {self.high:g}{', log-uniform' if self.log else ''}"

    def text(self, value: Any) -> str:
        """Return one of its values as text."""
        return value if self.choices else str(int(value)) if self.integer else f"{value:.3g}"

    def applies(self, values: Mapping[str, Any]) -> bool:
        """Return whether this row has an effect in a trial with these values."""
        return self.name in values and (self.only_with is None or values.get(self.only_with[0]) == self.only_with[1])

    @property
    def keys(self) -> set[str]:
        """The keys of the configuration that it sets."""
        return {key for settings in self.choices.values() for key in settings} if self.choices else {self.name}

    def settings(self, value: Any) -> dict[str, Any]:
        """Return the keys and values that a value sets."""
        return self.choices[value] if self.choices else {self.name: int(value) if self.integer else float(value)}

    def admits(self, value: Any) -> bool:
        """Return whether a value is one of its choices, or a number in its range."""
        if self.choices:
            return isinstance(value, str) and value in self.choices
        return type(value) in (int, float) and self.low <= value <= self.high

    def at_edge(self, value: Any) -> str | None:
        """Return ``low`` or ``high`` where a value lies at that end of a range or of numbers in order, else None.

        The lowest choice that the key allows is no edge: nothing is left to explore below it.
        """
        if not self.choices:
            scale = math.log if self.log else float
            low, high, at = (scale(x) for x in (self.low, self.high, value))  # type: ignore[arg-type]
            share = (at - low) / (high - low)
            return "low" if share < EDGE else "high" if share > 1 - EDGE else None
        numbers: dict[str, Any] = {label: settings.get(self.name) for label, settings in self.choices.items()}
        if len(numbers) < 3 or not all(type(number) in (int, float) for number in numbers.values()):
            return None
        in_order = sorted(numbers, key=lambda label: float(numbers[label]))
        if value == in_order[0]:
            option = cfg.find_option(self.name)
            return None if option and numbers[value] == option.meta["low"] else "low"
        return "high" if value == in_order[-1] else None


def parse_space(document: Any) -> tuple[Dimension, ...]:
    """Return a search space from its JSON form; DEFAULT_SPACE is an example.

    Raises:
        InputError: an unknown or fixed key, a range or a choice that the key does not allow, a key that two rows set,
            no row.
    """
    try:
        return _parse_rows(document)
    except RecursionError:
        raise InputError("a search space must be a JSON object of rows (got one that is nested too deep)") from None


def _parse_rows(document: Any) -> tuple[Dimension, ...]:
    if not isinstance(document, dict) or not document:
        raise InputError(f"a search space must be a JSON object of rows (got {json.dumps(document)[:60]})")
    rows: dict[str, Dimension] = {}
    for name, row in document.items():
        rows[name] = made = _row(name, row, rows)
        for other in list(rows.values())[:-1]:
            one, two = made.only_with, other.only_with
            exclude = one and two and one[0] == two[0] and one != two  # no trial has both rows
            if (shared := made.keys & other.keys) and not exclude:
                raise InputError(
                    f"{other.name} and {name} in the search space both set {min(shared)} (allowed: once, or in rows "
                    "with only_with different choices of one row)"
                )
    return tuple(rows.values())


def apply_values(space: tuple[Dimension, ...], values: Mapping[str, Any], config: Config) -> Config:
    """Return a configuration with the values of a trial; rows that do not apply leave it unchanged."""
    settings: dict[str, Any] = {}
    for row in space:
        if row.applies(values):
            settings.update(row.settings(values[row.name]))
    return cfg.validate(cfg.with_values(config, settings))


def _row(name: str, row: Any, before: Mapping[str, Dimension]) -> Dimension:
    def refuse(text: str, got: Any) -> NoReturn:
        raise InputError(f"{name} in the search space {text} (got {json.dumps(got)[:60]})")

    if not isinstance(row, dict) or ("choices" in row) == ("low" in row or "high" in row):
        refuse("must have either low and high, or choices", row)
    if unknown := sorted(set(row) - set(ROW_KEYS)):
        refuse(f"may have {', '.join(ROW_KEYS)}", unknown[0])
    reason = str(row.get("reason", ""))
    only_with = None
    if (condition := row.get("only_with")) is not None:
        parts = list(condition.items()) if isinstance(condition, dict) else []
        if len(parts) != 1 or parts[0][0] not in before or _label(parts[0][1]) not in before[parts[0][0]].choices:
            refuse("may have only_with one choice of a row above", condition)
        only_with = (parts[0][0], _label(parts[0][1]))
    if "choices" in row:
        choices = row["choices"]
        if not isinstance(choices, list) or not choices:
            refuse("must have a list of choices", choices)
        if "scale" in row:
            refuse("may have a scale only with low and high", row)
        made = {_label(choice): _settings(name, choice) for choice in choices}
        if min(len(made), len({json.dumps(one, sort_keys=True) for one in made.values()})) < len(choices):
            refuse("must have choices that differ", choices)
        return Dimension(name, None, None, False, False, made, only_with, reason)
    if any(isinstance(row.get(end), dict) for end in ("low", "high")):
        refuse("must have numbers for low and high", row)
    low, high = (_settings(name, row.get(end))[name] for end in ("low", "high"))
    scale = row.get("scale", "linear")
    if scale not in ("linear", "log"):
        refuse("must have a scale of linear or log", scale)
    if type(low) not in (int, float) or type(high) not in (int, float) or not low < high:
        refuse("must have low below high", [low, high])
    if scale == "log" and low <= 0:
        refuse("must have low above 0 on a log scale", low)
    integer = type(low) is type(high) is int  # of a key that takes fractions, its check has made them
    return Dimension(name, low, high, scale == "log", integer, {}, only_with, reason)


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
        if key.startswith(FIXED) or key in FIXED_KEYS:
            raise InputError(f"{key} is fixed in a search (a search space varies keys of model, optimizer and train)")
    cfg.with_values(Config(), settings)  # for the error of an unknown key
    return {key: option.check(value) for key, value in settings.items() if (option := cfg.find_option(key))}

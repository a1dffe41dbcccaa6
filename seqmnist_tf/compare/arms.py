"""The arms and seeds of a comparison as a command line gives them. No code of a layer is run here."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import config as cfg
from ..config import KEYS_OF_LAYERS, OPTIONS, PRESETS, Config, LayerFile
from ..data import pixel_order
from ..system import InputError, is_there
from .runs import CompletedRun, name_of_folder, read_given_runs

DEFAULT_SEEDS = "0-5"  # with six seeds the sign-flip p can reach 0.03125, with five no less than 0.0625
MAX_SEEDS = 1000
CONSTANTS = "model.layer_options"
KERAS_LAYERS: tuple[str, ...] = OPTIONS["model.layer"].meta["choices"]


ArmWord = str | os.PathLike[str] | Config | tuple[Config, LayerFile]  # a pair: a layer of Python code, and its source


@dataclass(frozen=True)
class Arm:
    """One side of a comparison.

    Attributes:
        name: in reports, and the name of its folder.
        word: as it was given.
        config: its experiment, without a seed.
        matched: whether its units are chosen to match the first arm's number of parameters.
        file: of its layer: given where it was defined in Python, read where its runs are made ready.
        given: its completed runs by seed; empty for an arm that is trained.
        diverged: seeds of its existing runs that diverged: they are in no mean, and are not trained again.
        notes: sentences for the report.
        config_id: of its runs, once they are made ready.
        noise: ``Config.recurrent_noise``, once they are made ready; 0 where its layer names no weights for it.
    """

    name: str
    word: str
    config: Config
    matched: bool = False
    file: LayerFile | None = None
    given: Mapping[int, CompletedRun] = field(default_factory=dict)
    diverged: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    config_id: str = ""
    noise: float = 0.0

    @property
    def is_trained(self) -> bool:
        """Whether the comparison trains all of its runs."""
        return not self.given

    @property
    def recipe(self) -> Config:
        """The configuration for further runs, whose seed is set for each.

        Where existing runs were trained, on which kernel and threads and with which tracking, is not part of it.
        """
        apart = {key: option.default for key, option in OPTIONS.items() if not cfg.of_the_experiment(key)}
        return self.config if self.is_trained else cfg.with_values(self.config, apart)


def parse_arms(words: Sequence[ArmWord], overrides: Mapping[str, Any], *, allow_code: bool = False) -> list[Arm]:
    """Return the arms of a comparison; raise InputError where one is unknown or cannot be read.

    A word is a preset, a JSON configuration, a layer (``FILE.py:NAME``, ``MODULE:NAME``, or one of Keras's), a run
    directory, a folder of runs, or a published record; in Python also a configuration, or a layer with its source. A
    layer takes the recipe of the first arm. ``overrides`` are values of keys, which change all arms that are trained.
    """
    if not words:
        raise InputError(f"give at least one arm ({_allowed()})")
    if "train.seed" in overrides:
        raise InputError(f"train.seed is set by --seeds (got {overrides['train.seed']})")
    if overrides.get("test.enabled", True) is False:
        raise InputError("test.enabled must be true in a comparison (got false): arms are compared on the test set")
    arms: list[Arm] = []
    for word in words:
        arm = _parse_arm(word, arms[0] if arms else None, overrides, allow_code)
        arms.append(replace(arm, name=_unique_name(arm.name, [other.name for other in arms])))
    constants = [key for key in overrides if key.startswith(CONSTANTS)]
    if constants and not any(arm.is_trained and not cfg.has_stock_layer(arm.config) for arm in arms):
        raise InputError(f"{constants[0]} needs a layer of one's own among the arms (got {', '.join(map(str, words))})")
    recipe, matched = cfg.flatten(arms[0].config), [arm.name for arm in arms if arm.matched]
    keys = ("model.hidden_size", "model.match_parameters")
    units = [key for key in keys if overrides.get(key, recipe[key]) != recipe[key]]
    if units and matched and not any(arm.is_trained and not arm.matched for arm in arms):
        raise InputError(
            f"{units[0]} has no effect: {matched[0]} gets the units that match the parameters of {arms[0].name}"
        )
    return arms


def _parse_arm(given: ArmWord, first: Arm | None, overrides: Mapping[str, Any], allow_code: bool) -> Arm:
    if isinstance(given, Config):
        return Arm("config", "config", _with_overrides(given, overrides))
    if isinstance(given, tuple):
        config, file = given
        return _layer_arm(config.model.layer, file, first, {CONSTANTS: dict(config.model.layer_options), **overrides})
    word, path = os.fspath(given), Path(given)
    if word in PRESETS:
        return Arm(word, word, _with_overrides(cfg.preset(word), overrides))
    if word in KERAS_LAYERS or re.fullmatch(OPTIONS["model.layer"].meta["pattern"], word):
        return _layer_arm(word, None, first, overrides)
    if is_there(path) and path.is_dir():
        given_runs, diverged = read_given_runs(path, allow_code=allow_code)
        config = next(iter(given_runs.values())).config
        return Arm(name_of_folder(path), word, config, given=given_runs, diverged=diverged)
    if path.suffix == ".json":
        config = cfg.with_values(Config(), cfg.read_values(path))
        return Arm(path.stem, word, _with_overrides(config, overrides))
    raise InputError(f"unknown arm {word!r} (allowed: {_allowed()})")


def _layer_arm(word: str, file: LayerFile | None, first: Arm | None, overrides: Mapping[str, Any]) -> Arm:
    """Return the arm of a layer: the first arm's recipe, without the keys that it does not have."""
    if first is None or first.matched:
        raise InputError(
            f"a layer ({word}) needs a first arm whose recipe it takes (give a preset, a configuration or runs first)"
        )
    if "model.layer" in overrides:
        raise InputError(f"model.layer is set by the arm {word} (got {overrides['model.layer']} for all arms)")
    name = word.rpartition(":")[2]
    recipe = cfg.flatten(first.config)
    values: dict[str, Any] = {
        "model.layer": word,
        CONSTANTS: {},
        "model.match_parameters": None,
        "train.kernel": "auto",
    }
    notes = []
    apart = [key for key, layers in KEYS_OF_LAYERS.items() if word not in layers]
    if first.is_trained:  # it has the overrides already
        overrides = {key: value for key, value in overrides.items() if key not in apart}
    for key in apart:
        if recipe[key] != OPTIONS[key].default:
            values[key] = OPTIONS[key].default
            notes.append(
                f"{name}: `{key}` is not applied to it and is left at its default, {json.dumps(values[key])} "
                f"({first.name} has {json.dumps(recipe[key])})."
            )
    config = _with_overrides(cfg.with_values(first.recipe, values), overrides)
    return Arm(name, word, config, matched=True, file=file, notes=tuple(notes))


def _with_overrides(config: Config, overrides: Mapping[str, Any]) -> Config:
    """Return a configuration of an arm that is trained; its seed is set for each run.

    Constants of a layer are not for Keras's layers.
    """
    if overrides.get("model.layer", config.model.layer) in KERAS_LAYERS:
        overrides = {key: value for key, value in overrides.items() if not key.startswith(CONSTANTS)}
    return cfg.validate(cfg.with_values(config, {**overrides, "train.seed": OPTIONS["train.seed"].default}))


def _unique_name(name: str, taken: Sequence[str]) -> str:
    """Return a name that is a file name and differs from those taken, also where a file system ignores case."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip(".-") or "arm"
    lower, number, candidate = [other.lower() for other in taken], 2, name
    while candidate.lower() in lower:
        candidate, number = f"{name}-{number}", number + 1
    return candidate


def _allowed() -> str:
    return (
        f"a preset ({', '.join(PRESETS)}), a JSON configuration, a layer ({', '.join(KERAS_LAYERS)}, FILE.py:NAME or "
        "MODULE:NAME), a run directory, a folder of runs, or a published record"
    )


def require_one_task(arms: Sequence[Arm]) -> None:
    """Raise InputError where arms differ in their task, naming the difference."""
    first = arms[0]
    for arm in arms:
        if not arm.config.test.enabled:
            raise InputError(f"{arm.word}: test.enabled must be true in a comparison (got false)")
        ours, theirs = cfg.flatten(first.config), cfg.flatten(arm.config)
        for key, value in theirs.items():
            if key.startswith("task.") and key != "task.permutation" and value != ours[key]:
                raise InputError(
                    f"arms must agree in their task, but {key} is {ours[key]} for {first.word} and {value} for "
                    f"{arm.word}"
                )
        if not np.array_equal(_order(first), _order(arm)):
            raise InputError(
                f"arms must agree in their task, but task.permutation is {ours['task.permutation']} for {first.word} "
                f"and {theirs['task.permutation']} for {arm.word}"
            )


def _order(arm: Arm) -> np.ndarray:
    """Return the order in which an arm reads the pixels, int64 (784,)."""
    for completed in arm.given.values():
        return completed.run.pixel_order()
    return pixel_order(arm.config.task.permutation)


def nearest_preset(config: Config) -> str:
    """Return the preset that differs from a configuration in the fewest keys, the first among equal ones."""
    return min(PRESETS, key=lambda name: len(cfg.differences(config, PRESETS[name].config)))


def preset_of(arm: Arm, first: Arm) -> str:
    """Return the preset that an arm's recipe is from: its own or the nearest one; for a layer, the first arm's."""
    origin = first if arm.matched else arm
    return origin.word if origin.word in PRESETS else nearest_preset(origin.config)


def parse_seeds(given: str | Iterable[int]) -> tuple[int, ...]:
    """Return seeds in ascending order.

    Args:
        given: text such as ``0-5`` or ``0,2,4``, or the numbers themselves.

    Raises:
        InputError: the text cannot be read, a range falls, a seed is given twice or is out of range.

    Example:
        >>> parse_seeds("0-2,7")
        (0, 1, 2, 7)
    """
    text = given if isinstance(given, str) else ",".join(str(seed) for seed in given)
    allowed = f"--seeds must be seeds such as 0-5 or 0,2,4 (got {text!r})"
    seeds: list[int] = []
    for part in text.split(","):
        if not (match := re.fullmatch(r"\s*([0-9]{1,10})(?:-([0-9]{1,10}))?\s*", part)):
            raise InputError(allowed)
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise InputError(f"{allowed}: the range {part.strip()} falls")
        if len(seeds) + last - first >= MAX_SEEDS:
            raise InputError(f"--seeds must be at most {MAX_SEEDS:,} seeds (got {text!r})")
        seeds += range(first, last + 1)
    for seed in seeds:
        OPTIONS["train.seed"].check(seed)
    if len(set(seeds)) != len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise InputError(f"{allowed}: {twice} is given twice")
    return tuple(sorted(seeds))

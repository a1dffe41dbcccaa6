"""The arms and seeds of a comparison as a command line gives them. No code of a layer is run here."""

from __future__ import annotations

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
from ..system import InputError
from .runs import CompletedRun, name_of_folder, read_given_runs

DEFAULT_SEEDS = "0-5"
CONSTANTS = "model.layer_options"
ALLOWED = (
    f"a preset ({', '.join(PRESETS)}), a JSON configuration, a layer ({', '.join(cfg.STOCK_LAYERS)}, FILE.py:NAME or "
    "MODULE:NAME), a run directory, a folder of runs, or a published record"
)

ArmWord = str | os.PathLike[str] | Config


@dataclass(frozen=True)
class Arm:
    """One side of a comparison."""

    name: str
    config: Config  # its seed means nothing: each run has its own
    preset: str  # that its recipe is from
    matched: bool = False  # a layer: its units are chosen to match the first arm's number of parameters
    file: LayerFile | None = None
    given: Mapping[int, CompletedRun] = field(default_factory=dict)  # by seed; empty for an arm that is trained
    diverged: tuple[int, ...] = ()  # seeds of given runs
    notes: tuple[str, ...] = ()  # sentences for the report

    @property
    def to_train(self) -> bool:
        """Whether the comparison trains it; else its runs are given."""
        return not self.given

    @property
    def first_given(self) -> CompletedRun | None:
        """The given run of the lowest seed; None for an arm that is trained."""
        return self.given[min(self.given)] if self.given else None

    @property
    def config_id(self) -> str:
        return self.first_given.config_id if self.first_given else cfg.config_id(self.config, self.file)


def parse_arms(words: Sequence[ArmWord], overrides: Mapping[str, Any], *, allow_code: bool = False) -> list[Arm]:
    """Return the arms of a comparison; raise InputError where one is unknown or cannot be read.

    A word is as ALLOWED says; in Python also a configuration. A layer takes the recipe of the first arm. ``overrides``
    are values of keys, which change all arms that are trained; one that has no effect is an error.
    """
    if "train.seed" in overrides:
        raise InputError("train.seed has no effect in a comparison (give --seeds)")
    arms: list[Arm] = []
    for word in words:
        arm = _parse_arm(word, arms[0] if arms else None, overrides, allow_code)
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", arm.name).strip(".-") or "arm"
        name, taken, number = stem, {other.name.lower() for other in arms}, 2
        while name.lower() in taken:  # a file system may ignore case
            name, number = f"{stem}-{number}", number + 1
        arms.append(replace(arm, name=name))
    if overrides and not any(arm.to_train for arm in arms):
        raise InputError(
            f"{next(iter(overrides))} has no effect: all arms exist, and nothing is trained (leave it out)"
        )
    _require_one_task(arms)
    return arms


def _parse_arm(given: ArmWord, first: Arm | None, overrides: Mapping[str, Any], allow_code: bool) -> Arm:
    if isinstance(given, Config):
        return _trained("config", given, overrides)
    word, path = os.fspath(given), Path(given)
    if word in PRESETS:
        return replace(_trained(word, cfg.preset(word), overrides), preset=word)
    if re.match(cfg.LAYER, word):
        return _layer_arm(word, first, overrides)
    if path.is_dir():
        runs, diverged = read_given_runs(path, allow_code=allow_code)
        run = next(iter(runs.values()))
        preset, code = nearest_preset(run.config), run.directory.layer_file
        return Arm(name_of_folder(path), run.config, preset, file=code, given=runs, diverged=diverged)
    if path.suffix == ".json":
        return _trained(path.stem, cfg.with_values(Config(), cfg.read_values(path)), overrides)
    raise InputError(f"unknown arm {word!r} (allowed: {ALLOWED})")


def _layer_arm(word: str, first: Arm | None, overrides: Mapping[str, Any]) -> Arm:
    """Return the arm of a layer: the first arm's recipe, without the keys that the layer does not have."""
    if first is None or first.matched:
        raise InputError(f"the first arm cannot be a layer, whose recipe is the first arm's (got {word})")
    recipe = cfg.flatten(first.config)
    idle = [key for key, layers in KEYS_OF_LAYERS.items() if word not in layers]
    apart = list(idle)
    if not first.to_train:  # where its runs were trained, and how they were tracked
        apart += [key for key in recipe if not cfg.of_the_experiment(key)]
    values = {key: OPTIONS[key].default for key in apart}
    values |= {"model.layer": word, CONSTANTS: {}, "model.match_parameters": None, "train.kernel": "auto"}
    overrides = {key: value for key, value in overrides.items() if key not in idle and key != "model.layer"}
    name = cfg.layer_name(word)
    left = [f"`{key}`" for key in idle if recipe[key] != OPTIONS[key].default]
    notes = (f"{name}: {' and '.join(left)} of {first.name} is not applied to it.",) if left else ()
    arm = _trained(name, cfg.with_values(first.config, values), overrides)
    return replace(arm, preset=first.preset, matched=True, notes=notes)


def _trained(name: str, config: Config, overrides: Mapping[str, Any]) -> Arm:
    """Return an arm that is trained; its seed is set for each run. Constants of a layer are not for Keras's layers."""
    if overrides.get("model.layer", config.model.layer) in cfg.STOCK_LAYERS:
        overrides = {key: value for key, value in overrides.items() if not key.startswith(CONSTANTS)}
    config = cfg.validate(cfg.with_values(config, {**overrides, "train.seed": OPTIONS["train.seed"].default}))
    return Arm(name, config, nearest_preset(config), file=cfg.read_layer(config))


def _require_one_task(arms: Sequence[Arm]) -> None:
    """Raise InputError where arms differ in their task, or have no test results."""
    first = cfg.flatten(arms[0].config)
    for arm in arms:
        if not arm.config.test.enabled:
            raise InputError(f"{arm.name}: test.enabled must be true in a comparison (got false)")
        values = cfg.flatten(arm.config)
        differing = {key for key in values if key.startswith("task.") and values[key] != first[key]}
        differing -= {"task.permutation"}  # one order may have two names, and a file may have changed
        if not np.array_equal(_order(arms[0]), _order(arm)):
            differing.add("task.permutation")
        for key in sorted(differing):
            got = f"{first[key]} of {arms[0].name}, {values[key]} of {arm.name}"
            raise InputError(f"arms must agree in {key} (got {got})")


def _order(arm: Arm) -> np.ndarray:
    """Return the order in which an arm reads the pixels, int64 (784,)."""
    return arm.first_given.directory.pixel_order() if arm.first_given else pixel_order(arm.config.task.permutation)


def nearest_preset(config: Config) -> str:
    """Return the preset that differs from a configuration in the fewest keys, the first among equal ones."""
    return min(PRESETS, key=lambda name: len(cfg.differences(config, PRESETS[name].config)))


def parse_seeds(given: str | Iterable[int]) -> tuple[int, ...]:
    """Return seeds in ascending order, of text such as ``0-5`` or ``0,2,4``, or of the numbers themselves."""
    text = given if isinstance(given, str) else ",".join(str(seed) for seed in given)
    seeds: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,10})(?:-([0-9]{1,10}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise InputError(f"--seeds must be seeds such as 0-5 or 0,2,4 (got {text!r})")
        OPTIONS["train.seed"].check(last)
        seeds.update(range(first, last + 1))
    return tuple(sorted(seeds))

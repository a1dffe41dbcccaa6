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
    """One side of a comparison.

    Attributes:
        name: in reports, and the name of its folder.
        config: its experiment, without a seed.
        preset: the preset that its recipe is from.
        matched: whether it is a layer: its units are chosen to match the first arm's number of parameters.
        file: of its layer.
        given: its completed runs by seed; empty for an arm that is trained.
        diverged: seeds of its runs that diverged.
        notes: sentences for the report.
    """

    name: str
    config: Config
    preset: str
    matched: bool = False
    file: LayerFile | None = None
    given: Mapping[int, CompletedRun] = field(default_factory=dict)
    diverged: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_trained(self) -> bool:
        """Whether the comparison trains its runs."""
        return not self.given

    @property
    def config_id(self) -> str:
        """The id of its experiment."""
        for run in self.given.values():
            return run.config_id
        return cfg.config_id(self.config, self.file)


def parse_arms(words: Sequence[ArmWord], overrides: Mapping[str, Any], *, allow_code: bool = False) -> list[Arm]:
    """Return the arms of a comparison; raise InputError where one is unknown or cannot be read.

    A word is a preset, a JSON configuration, a layer (``FILE.py:NAME``, ``MODULE:NAME``, or one of Keras's), a run
    directory, a folder of runs, or a published record; in Python also a configuration. A layer takes the recipe of the
    first arm. ``overrides`` are values of keys, which change all arms that are trained.
    """
    arms: list[Arm] = []
    for word in words:
        arm = _parse_arm(word, arms[0] if arms else None, overrides, allow_code)
        arms.append(replace(arm, name=_unique_name(arm.name, [other.name for other in arms])))
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
        preset, code = nearest_preset(run.config), run.run.layer_file
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
    if not first.is_trained:  # where its runs were trained, and how they were tracked
        apart += [key for key in recipe if not cfg.of_the_experiment(key)]
    values = {key: OPTIONS[key].default for key in apart}
    values |= {"model.layer": word, CONSTANTS: {}, "model.match_parameters": None, "train.kernel": "auto"}
    overrides = {key: value for key, value in overrides.items() if key not in idle and key != "model.layer"}
    name = word.rpartition(":")[2]
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


def _unique_name(name: str, taken: Sequence[str]) -> str:
    """Return a name that is a file name and differs from those taken, also where a file system ignores case."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip(".-") or "arm"
    lower, number, candidate = [other.lower() for other in taken], 2, name
    while candidate.lower() in lower:
        candidate, number = f"{name}-{number}", number + 1
    return candidate


def _require_one_task(arms: Sequence[Arm]) -> None:
    """Raise InputError where arms differ in their task, or have no test results."""
    for arm in arms:
        if not arm.config.test.enabled:
            raise InputError(f"{arm.name}: test.enabled must be true in a comparison (got false)")
        for key, value in cfg.flatten(arm.config).items():
            first = cfg.flatten(arms[0].config)[key]
            if key == "task.permutation":
                differs = not np.array_equal(_order(arms[0]), _order(arm))
            else:
                differs = key.startswith("task.") and value != first
            if differs:
                raise InputError(f"arms must agree in {key} (got {first} of {arms[0].name}, {value} of {arm.name})")


def _order(arm: Arm) -> np.ndarray:
    """Return the order in which an arm reads the pixels, int64 (784,)."""
    for completed in arm.given.values():
        return completed.run.pixel_order()
    return pixel_order(arm.config.task.permutation)


def nearest_preset(config: Config) -> str:
    """Return the preset that differs from a configuration in the fewest keys, the first among equal ones."""
    return min(PRESETS, key=lambda name: len(cfg.differences(config, PRESETS[name].config)))


def parse_seeds(given: str | Iterable[int]) -> tuple[int, ...]:
    """Return seeds in ascending order.

    Args:
        given: text such as ``0-5`` or ``0,2,4``, or the numbers themselves.

    Raises:
        InputError: the text cannot be read, a range falls, or a seed is out of range.

    Example:
        >>> parse_seeds("0-2,7")
        (0, 1, 2, 7)
    """
    text = given if isinstance(given, str) else ",".join(str(seed) for seed in given)
    seeds: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,10})(?:-([0-9]{1,10}))?\s*", part)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise InputError(f"--seeds must be seeds such as 0-5 or 0,2,4 (got {text!r})")
        first, last = int(match[1]), int(match[2] or match[1])
        OPTIONS["train.seed"].check(last)
        seeds.update(range(first, last + 1))
    return tuple(sorted(seeds))

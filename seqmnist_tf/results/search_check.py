"""The rows of a published search, and the checks of its file. Nothing is trained, and no model is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import takewhile, zip_longest
from pathlib import Path
from typing import Any

from .. import config as cfg
from ..model import match_units
from ..system import InputError
from ..train import RunDirectory
from ..tune import drawn_values, on_all_images, stop_at_chance
from .formats import SHOWN_TYPES, environment_problems, layer_problems, text_problems
from .origin import code_problems
from .records import REPLAYED_BATCHES, SEARCHES, publication_problems, require_name
from .searches import ROW_STATUSES, Search

# Of environment.json: what a replay and the checks of the code need.
LEFT_OUT = ("started", "command", "preset", "config_id")
ENVIRONMENT_KEYS = (*(key for key in SHOWN_TYPES if key not in (*LEFT_OUT, "resumed")), "sources", "first_step")


def row_of(row: Mapping[str, Any], run: RunDirectory, environments: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of a run, from :func:`~seqmnist_tf.tune.read_search`; a new environment joins ``environments``."""
    summary, started = run.summary or {}, run.environment
    parts = [{key: part[key] for key in ENVIRONMENT_KEYS if key in part} for part in (started, *started["resumed"])]
    if (environment := {**parts[0], "resumed": parts[1:]}) not in environments:
        environments.append(environment)
    return {
        **{key: row[key] for key in ("trial", "seed", "status", "values", "score")},
        "epochs": summary["epochs"],
        "seconds": summary["seconds_total"],
        "units": run.config.model.hidden_size,
        "losses": list(takewhile(math.isfinite, run.step_losses()[:REPLAYED_BATCHES])),
        "environment": environments.index(environment),
    }


def search_problems(path: Path, root: Path) -> list[str]:
    """Return what keeps a file of ``searches/`` from being published in the clone at ``root``; nothing is trained."""
    if path.suffix != ".json" or path.is_symlink() or not path.is_file():
        return [f"it must be a file NAME.json, as everything in {SEARCHES}/"]
    try:
        require_name(path.stem)
        search = Search.read(path)
        space = {name: {**row, "reason": ""} for name, row in search.document["space"].items()}  # no page shows it
        document = {**search.document, "layers": sorted(search.document["layers"]), "space": space}
        return (
            text_problems(path.name, document)
            or [
                problem
                for environment in search.document["environments"]
                for problem in environment_problems(environment, LEFT_OUT)
            ]
            or [problem for text in search.document["layers"].values() for problem in layer_problems(text.encode())]
            or _content_problems(search, root)
        )
    except InputError as error:
        return [str(error)]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, RecursionError) as error:
        return [f"it is not in the format of a search ({type(error).__name__}: {error})"]


def _content_problems(search: Search, root: Path) -> list[str]:
    """Return where a search contradicts itself, its seed or the clone."""
    problems = publication_problems(search.settings.base)
    if not cfg.is_trial(search.settings.base):
        problems.append("its trials must be scored on held-out images (task.validation_size), without the test set")
    _ = search.replays
    environments = search.document["environments"]
    problems += [problem for environment in environments for problem in code_problems(environment, root)]
    if len({environment["git"]["commit"] for environment in environments}) != 1:
        problems.append("its trials must be trained from one commit")
    trials, repeats = search.of_seed(own=True), search.of_seed(own=False)
    if not trials or [row["trial"] for row in trials] != list(range(len(trials))):
        return [*problems, "its trials must be 0, 1 and so on, each once, with the seed of its base"]
    best = search.best
    sizes = {config.model: config for config in map(search.config, search.ended) if cfg.has_stock_layer(config)}
    problems += [
        f"model.match_parameters gives no {one.model.hidden_size} units"
        for one in sizes.values()
        if match_units(one) != one
    ]
    problems += [problem for row in search.document["trials"] for problem in _row_problems(search, row)]
    problems += [
        f"trial {row['trial']} must have the values that the seed gives (got {row['values']})"
        for row, drawn in zip_longest(
            trials, drawn_values(search.settings, len(trials)) or [row["values"] for row in trials]
        )
        if drawn is None or not _agree(row["values"], drawn)
    ]
    return problems + [
        f"a repeat must be of the best trial, {best['trial']} (got trial {row['trial']})"
        for row in repeats
        if (row["trial"], row["values"]) != (best["trial"], best["values"])
    ]


def _agree(values: Mapping[str, Any], drawn: Mapping[str, Any]) -> bool:
    """Return whether the values of a trial are those that were drawn; logarithms may round otherwise elsewhere."""
    return values.keys() == drawn.keys() and all(
        value == drawn[key] or (isinstance(value, float) and math.isclose(value, drawn[key], rel_tol=1e-9))
        for key, value in values.items()
    )


def _row_problems(search: Search, row: Mapping[str, Any]) -> list[str]:
    """Return where a trial or a repeat contradicts the space, the base or itself."""
    name, dimensions = f"trial {row['trial']}", {dimension.name: dimension for dimension in search.settings.space}
    banded = search.settings.tuner == "hyperband"
    values = {key: value for key, value in row["values"].items() if not (banded and key.startswith("tuner/"))}
    problems = [
        f"{name} has a value for {key} that is not in the space (got {value!a})"
        for key, value in values.items()
        if key not in dimensions or not dimensions[key].admits(value)
    ]
    if row["status"] not in ROW_STATUSES:
        problems.append(f"status of {name} must be {', '.join(ROW_STATUSES)} (got {row['status']!a})")
    if problems or row["status"] == "failed":
        return problems
    config = search.config(row)
    known = publication_problems(search.settings.base)
    problems += [f"{name}: {problem}" for problem in publication_problems(config) if problem not in known]
    _ = search.environment(row), search.layer(config)
    on_all_images(config)
    if type(row["seconds"]) not in (int, float) or not 0 <= row["seconds"] < math.inf:
        problems.append(f"seconds of {name} must be a finite number of at least 0 (got {row['seconds']!a})")
    correct = row["score"] * config.task.validation_size
    if abs(correct - round(correct)) > 1e-6 or not 0 <= row["score"] <= 1:
        problems.append(f"score of {name} is not a whole number of {config.task.validation_size:,} images")
    epochs, losses, most = config.train.n_epochs, row["losses"], search.settings.base.train.n_epochs
    if epochs > most:
        problems.append(f"{name} must be of at most {most} epochs (got {epochs})")
    if type(row["epochs"]) is not int or not (0 <= row["epochs"] <= epochs):
        problems.append(f"{name} must have at most {epochs} epochs (got {row['epochs']})")
    elif row["status"] == "completed" and row["epochs"] != epochs:
        problems.append(f"{name} must have {epochs} epochs, as it is completed (got {row['epochs']})")
    elif row["status"] == "diverged" and (row["score"] or row["epochs"] == epochs):
        problems.append(f"{name} must have score 0 and less than {epochs} epochs, as it is diverged")
    elif row["status"] == "stopped" and not (
        search.settings.stops
        and stop_at_chance(epochs, [{"val_accuracy": row["score"], "train_accuracy": 0.0}] * row["epochs"])
    ):
        problems.append(f"{name} must be at chance after half of its {epochs} epochs, as it is stopped")
    number = min(REPLAYED_BATCHES, (epochs if row["status"] == "diverged" else row["epochs"]) * config.steps_per_epoch)
    may_end = row["status"] == "diverged" or config.optimizer.nonfinite == "skip"  # before a loss that is not finite
    is_whole = len(losses) == number or (may_end and 0 < len(losses) < number)
    if not is_whole or not all(0 <= loss < math.inf for loss in losses):
        problems.append(f"{name} must have the losses of {number} batches, finite numbers of at least 0")
    return problems

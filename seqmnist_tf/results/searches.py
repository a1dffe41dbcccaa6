"""Published searches: ``results/searches/NAME.json`` holds what a search was to try, and what its trials came to.

Its keys are ``schema``, those of ``search.json`` (``tuner``, ``base``, ``space``, ``stops``), ``preset``, ``layers``
(the text of each layer from a file), ``environments`` (where its runs were trained, each once), ``trials`` and
``replayed``. A row of ``trials`` is a trial, or in older searches a repeat of the best one with another seed. It has
``trial``, ``seed``, ``status``, ``values`` (KerasTuner's), and of all but failed ones ``score`` (held-out accuracy, 0
to 1), ``epochs``, ``seconds``, ``units``, ``losses`` (of the first batches) and ``environment`` (a number).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

from .. import config as cfg
from ..config import LAYER_FILE, Config, LayerFile
from ..system import json_bytes
from ..train import RunDirectory
from ..tune import SearchFolder, best_of
from .records import REPLAYED_BATCHES, SEARCHES, latest_replays, read_document, sorted_replays

WITH_SCORE = ("completed", "stopped", "diverged")
# Of environment.json: what a replay needs.
ENVIRONMENT_KEYS = ("git", "python", "versions", "machine", "device", "threads", "onednn", "kernel", "first_step")


@dataclass(frozen=True)
class Search:
    """A published search.

    Attributes:
        settings: its space, tuner and base; the path is that of its file.
        document: the content of its file.
    """

    settings: SearchFolder
    document: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Search:
        """Read ``results/searches/NAME.json``, or raise InputError where it is not in the format of a search."""
        document = read_document(path)
        return cls(SearchFolder.read(path, document), document)

    @property
    def path(self) -> Path:
        """Its file."""
        return self.settings.path

    @property
    def name(self) -> str:
        """Its name, such as ``searches/lem``."""
        return f"{SEARCHES}/{self.path.stem}"

    @property
    def ended(self) -> list[dict[str, Any]]:
        """The rows with a score."""
        return [row for row in self.document["trials"] if row["status"] in WITH_SCORE]

    @property
    def trials(self) -> list[dict[str, Any]]:
        """The trials, without repeats."""
        return [row for row in self.document["trials"] if row["seed"] == self.settings.base.train.seed]

    @cached_property
    def best(self) -> dict[str, Any]:
        """The trial that the search chose."""
        return best_of(row for row in self.trials if row["status"] in WITH_SCORE)

    @property
    def replays(self) -> list[dict[str, Any]]:
        """Where it was trained anew, by date, as :func:`~seqmnist_tf.results.records.read_replays`."""
        return sorted_replays(self.document)

    def environment(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return where a row was trained."""
        return self.document["environments"][row["environment"]]

    def config(self, row: Mapping[str, Any]) -> Config:
        """Return the configuration of a row."""
        values = {"train.seed": row["seed"], **({"model.hidden_size": row["units"]} if "units" in row else {})}
        return cfg.with_values(self.settings.config(row["values"]), values)

    def layer(self, config: Config) -> LayerFile | None:
        """Return the layer's file of a configuration, None of a stock layer."""
        if not cfg.layer_file(config):
            return None
        return LayerFile(Path(LAYER_FILE), self.document["layers"][config.model.layer].encode())

    @property
    def of_settings(self) -> bool:
        """Whether it has the settings of a recipe one at a time, to compare them and not to choose one."""
        return [row.name for row in self.settings.space] == ["settings"]

    def with_replay(self, entry: dict[str, Any]) -> bytes:
        """Return the content of its file with one more entry of ``replayed``."""
        return json_bytes({**self.document, **latest_replays([*self.replays, entry])})


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


def read_searches(folder: Path) -> list[Search]:
    """Return the searches of a results folder, by name."""
    return [Search.read(path) for path in sorted((folder / SEARCHES).glob("*.json")) if path.name[0] != "."]

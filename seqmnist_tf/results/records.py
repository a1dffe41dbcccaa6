"""Published runs and searches.

``results/<name>/seed<k>/`` holds the files of a run directory, and ``record.json``: where ``results add`` replayed it.
A trial is a record too, in ``results/trials/<config_id>/seed<k>/``.

``results/searches/NAME.json`` holds what a search was to try, and what its trials came to. Its keys are ``schema``,
those of ``search.json`` (``tuner``, ``base``, ``space``, ``stops``), ``preset``, ``layers`` (the text of each layer
from a file), ``environments`` (where its runs were trained, each once), ``trials`` and ``replayed``. A row of
``trials`` is a trial, or in older searches a repeat of the best one with another seed. It has ``trial``, ``seed``,
``status``, ``values`` (KerasTuner's), and of all but failed ones ``score`` (held-out accuracy, 0 to 1), ``epochs``,
``seconds``, ``units``, ``losses`` (of the first batches) and ``environment`` (a number).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import config as cfg
from ..compare import CompletedRun
from ..config import LAYER_FILE, PRESETS, Config, LayerFile
from ..system import read_json_object
from ..train import load_run
from ..tune import SearchFolder, best_of

RESULTS_FOLDER = Path("results")
REQUIRED_DOCUMENTS = (Path("README.md"), RESULTS_FOLDER / "README.md", Path("export", "README.md"))  # of a clone
REPLAYS_FILE = "record.json"
REPLAYED_BATCHES = 20  # unless all are asked for
TRIALS, SEARCHES = "trials", "searches"
WITH_SCORE = ("completed", "stopped", "diverged")  # statuses of a trial


@dataclass(frozen=True)
class Record(CompletedRun):
    """A published run; its name is that of its experiment, of a trial ``trials/<config_id>``."""

    name: str = ""

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read the folder of a record."""
        run, name = load_run(path), path.parent.name
        name = f"{TRIALS}/{name}" if path.parent.parent.name == TRIALS else name
        return cls(run, run.config, run.environment, read_json_object(path / "summary.json"), run.history(), name)

    @property
    def diverged(self) -> bool:
        """Whether it has no results: its loss, or a weight, was not a finite number."""
        return self.summary.get("status") == "diverged"

    @property
    def minutes(self) -> float:
        """Minutes of training, evaluations included, had each epoch taken the median time: pauses do not count."""
        return len(self.history) * statistics.median(row["seconds"] for row in self.history) / 60


@dataclass(frozen=True)
class Search:
    """A published search: its space, tuner and base, and the content of its file."""

    settings: SearchFolder
    document: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Search:
        """Read ``results/searches/NAME.json``."""
        document = read_json_object(path)
        return cls(SearchFolder.read(path, document), document)

    @property
    def path(self) -> Path:
        """Its file, ``results/searches/NAME.json``."""
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


def all_records(folder: Path) -> list[Record]:
    """Return the records of a results folder by name and seed, presets first; InputError where one cannot be read."""
    presets = list(PRESETS)

    def place(record: Record) -> tuple[int, str, int]:
        return presets.index(record.name) if record.name in presets else len(presets), record.name, record.seed

    return sorted(map(Record.read, folder.glob("*/seed*")), key=place)


def all_trials(folder: Path) -> list[Record]:
    """Return the trials of a results folder: runs that were scored on held-out training images, to choose a recipe."""
    return [Record.read(path) for path in sorted(folder.glob(f"{TRIALS}/*/seed*"))]


def all_searches(folder: Path) -> list[Search]:
    """Return the searches of a results folder, by name."""
    return [Search.read(path) for path in sorted((folder / SEARCHES).glob("[!.]*.json"))]

"""Published runs and searches.

``results/<name>/seed<k>/`` holds the files of a run directory, and ``record.json``, which says where it was trained
anew. A trial is a record too, in ``results/trials/<config_id>/seed<k>/``.

``results/searches/NAME.json`` holds what a search was to try, and what its trials came to. Its keys are ``schema``,
those of ``search.json`` (``tuner``, ``base``, ``space``, ``stops``), ``preset``, ``layers`` (the text of each layer
from a file), ``environments`` (where its runs were trained, each once), ``trials`` and ``replayed``. A row of
``trials`` is a trial, or in older searches a repeat of the best one with another seed. It has ``trial``, ``seed``,
``status``, ``values`` (KerasTuner's), and of all but failed ones ``score`` (held-out accuracy, 0 to 1), ``epochs``,
``seconds``, ``units``, ``losses`` (of the first batches) and ``environment`` (a number).

Each entry of ``replayed`` has ``date``, ``processor``, ``kernel`` (whose name ends in the instruction set),
``versions``, ``batches``, and ``largest_difference`` of a loss, relative to the recorded one: 0 is bit for bit. Where a
run was trained to its end, ``weights`` is the distance of the weights from those of ``model.keras``; the runs of a
search have ``scores``.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import config as cfg
from ..compare import CompletedRun
from ..config import LAYER_FILE, PRESETS, Config, LayerFile, is_trial
from ..system import InputError, read_json_object
from ..train import RunDirectory, load_run
from ..tune import SearchFolder, best_of

RESULTS_FOLDER = Path("results")
REQUIRED_DOCUMENTS = (Path("README.md"), RESULTS_FOLDER / "README.md", Path("export", "README.md"))  # of a clone
REPLAYS_FILE = "record.json"
COPIED_FILES = ("config.json", "environment.json", "history.jsonl", "model.keras", "pixel_order.txt", "summary.json")
REPLAYED_BATCHES = 20  # unless all are asked for
TRIALS, SEARCHES = "trials", "searches"
RESERVED_NAMES = ("full", "plots", TRIALS, SEARCHES)  # a word of the command line, and folders beside the records
SCHEMA = 1
WITH_SCORE = ("completed", "stopped", "diverged")  # statuses of a trial


@dataclass(frozen=True)
class Record(CompletedRun):
    """A published run.

    Attributes:
        name: name of the experiment; the preset's name if the run is of a preset; of a trial ``trials/<config_id>``.
    """

    name: str = ""

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read the folder of a record, or raise InputError where a file is missing or cannot be read."""
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


def choose_name(run: RunDirectory, name: str | None) -> str:
    """Return the name of a run's record: the given one, or of a trial, which has none, ``trials/<config_id>``."""
    if run.config.task.permutation.startswith("file:"):  # its config_id is no hash
        raise InputError(f"{run.path} is not published: task.permutation must not be a file")
    if is_trial(run.config):
        if name is not None:
            raise InputError(f"a trial has no name: leave out --name (got {name!r})")
        return f"{TRIALS}/{run.config_id}"
    return require_name(name)


def require_name(name: str | None) -> str:
    """Return a name of records or of a search, or raise InputError."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", name or "") or name in RESERVED_NAMES:
        raise InputError(
            f"--name must be the name of the run's preset, or a new one: 1 to 40 of a-z, 0-9, - and _, a letter or "
            f"digit first, and not {' or '.join(RESERVED_NAMES)} (got {name!r})"
        )
    return str(name)


def read_document(path: Path) -> dict[str, Any]:
    """Return the content of ``record.json``, or of the file of a search; InputError where it has another schema."""
    document = read_json_object(path)
    if document.get("schema") != SCHEMA:
        raise InputError(f"{path} has schema {document.get('schema')!a} (this version reads {SCHEMA})")
    return document


def with_replay(document: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """Return a document with an entry of ``replayed`` in place of that by machine, kernel, batches and ``scores``."""

    def key(one: dict[str, Any]) -> list[Any]:
        return [one.get(name) for name in ("processor", "kernel", "batches", "scores")]

    return {**document, "replayed": [*(one for one in document["replayed"] if key(one) != key(entry)), entry]}

"""Published records, trials and searches: everything that tables and pictures are made from."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import config as cfg
from ..compare import CompletedRun, SeededRuns
from ..config import LAYER_FILE, PRESETS, Config, LayerFile
from ..system import InputError, read_json_object
from ..train import load_run
from ..tune import SearchFolder
from .contents import CONTENTS_FILE, Contents

RESULTS_FOLDER = Path("results")
REQUIRED_DOCUMENTS = (Path("README.md"), RESULTS_FOLDER / "README.md", Path("export", "README.md"))  # of a clone
REPLAYS_FILE = "record.json"
REPLAYED_BATCHES = 20  # unless all are asked for
TRIALS, SEARCHES = "trials", "searches"
WITH_SCORE = ("completed", "stopped", "diverged")  # statuses of a trial
HEADLINE = "strong"  # name of the experiment that this project is judged by
PICTURE_FOLDER = "plots"


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
    def rows_with_score(self) -> list[dict[str, Any]]:
        """The rows with a score."""
        return [row for row in self.document["trials"] if row["status"] in WITH_SCORE]

    @property
    def trials(self) -> list[dict[str, Any]]:
        """The rows of the search's own seed; the others repeat a trial with another seed."""
        return [row for row in self.document["trials"] if row["seed"] == self.settings.base.train.seed]

    @property
    def trials_with_score(self) -> list[dict[str, Any]]:
        """The trials that have a score; a diverged one has one, too."""
        return [row for row in self.trials if row["status"] in WITH_SCORE]

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
    places = {name: place for place, name in enumerate(PRESETS)}
    records = map(Record.read, folder.glob("*/seed*"))
    return sorted(records, key=lambda one: (places.get(one.name, len(places)), one.name, one.seed))


def all_trials(folder: Path) -> list[Record]:
    """Return the trials of a results folder: runs that were scored on held-out training images, to choose a recipe."""
    return [Record.read(path) for path in sorted(folder.glob(f"{TRIALS}/*/seed*"))]


def all_searches(folder: Path) -> list[Search]:
    """Return the searches of a results folder, by name."""
    return [Search.read(path) for path in sorted((folder / SEARCHES).glob("[!.]*.json"))]


@dataclass(frozen=True)
class ResultsFolder:
    """The content of a results folder, read once."""

    contents: Contents  # which records make which table
    records: dict[str, list[Record]]  # by name, without those that diverged
    diverged: list[Record] = field(default_factory=list)  # their seeds belong to an experiment, and have no results
    trials: list[Record] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)
    speed: list[dict[str, Any]] = field(default_factory=list)  # what commands measured: benchmark/*.json

    def experiment(self, name: str) -> SeededRuns:
        """Return the completed runs of an experiment, and which of its seeds diverged."""
        if name not in self.records:
            raise InputError(f"{CONTENTS_FILE} names {name}, of which there is no record with a result")
        diverged = tuple(record.seed for record in self.diverged if record.name == name)
        return SeededRuns(name, self.records[name], diverged=diverged)

    @classmethod
    def read(cls, folder: Path) -> ResultsFolder:
        """Read a results folder."""
        completed: dict[str, list[Record]] = {}
        diverged: list[Record] = []
        for record in all_records(folder):
            if record.diverged:
                diverged.append(record)
            else:
                completed.setdefault(record.name, []).append(record)
        contents = Contents.read(folder)
        speed = [read_json_object(path) for path in sorted((folder / "benchmark").glob("*.json"))]
        return cls(contents, completed, diverged, all_trials(folder), all_searches(folder), speed)

"""Published runs: ``results/<name>/seed<k>/`` holds the files of a run directory, and ``record.json``, which says where
it was trained anew. A trial is a record too, in ``results/trials/<config_id>/seed<k>/``.
"""

from __future__ import annotations

import decimal
import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..compare import CompletedRun
from ..config import PRESETS, is_trial
from ..system import InputError, read_json_object
from ..train import RunDirectory, load_run

RESULTS_FOLDER = Path("results")
REQUIRED_DOCUMENTS = (Path("README.md"), RESULTS_FOLDER / "README.md", Path("export", "README.md"))  # of a clone
REPLAYS_FILE = "record.json"
COPIED_FILES = ("config.json", "environment.json", "history.jsonl", "model.keras", "pixel_order.txt", "summary.json")
REPLAYED_BATCHES = 20  # unless all are asked for
TRIALS, SEARCHES = "trials", "searches"
RECORD_FOLDERS = "*/seed*"
TRIAL_FOLDERS = f"{TRIALS}/*/seed*"
RESERVED_NAMES = ("full", "plots", TRIALS, SEARCHES)  # a word of the command line, and folders beside the records
SCHEMA = 1  # of records; records of version 0.1.0 have none
REPLAY_TOLERANCE = 5e-5  # relative; AMX against AVX-512 gave at most 1.2e-5 in the first 20 batches (sprint)
# Of weights, times the largest difference of a loss; AMX against AVX-512 gave less than 1 (strong, 100 batches).
WEIGHTS_TOLERANCE = 10.0


@dataclass(frozen=True)
class Record(CompletedRun):
    """A published run.

    Attributes:
        name: name of the experiment; the preset's name if the run is of a preset; of a trial ``trials/<config_id>``.
        replays: where it was trained anew, by date; see :func:`read_replays`.
    """

    name: str = ""
    replays: list[dict[str, Any]] = field(default_factory=list, repr=False)

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read the folder of a record.

        Raises:
            InputError: a file is missing or cannot be read.
        """
        run = load_run(path)
        summary = read_json_object(path / "summary.json")
        return cls(run, run.config, run.environment, summary, run.history(), record_name(path), read_replays(path))

    @property
    def diverged(self) -> bool:
        """Whether it has no results: its loss, or a weight, was not a finite number."""
        return self.summary.get("status") == "diverged"

    def minutes_to(self, epoch: int) -> float:
        """Return the minutes until the end of an epoch, evaluations included, had each epoch taken the median time.

        So the pauses of a run, which lengthen a few of its epochs, do not count.
        """
        return epoch * statistics.median(row["seconds"] for row in self.history) / 60


def completed_by_name(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Return those of some records that did not diverge, by name, in the order given."""
    completed: dict[str, list[Record]] = {}
    for record in records:
        if not record.diverged:
            completed.setdefault(record.name, []).append(record)
    return completed


def all_records(folder: Path) -> list[Record]:
    """Return the records of a results folder by name and seed, presets first; InputError where one cannot be read."""
    presets = list(PRESETS)

    def place(record: Record) -> tuple[int, str, int]:
        return presets.index(record.name) if record.name in presets else len(presets), record.name, record.seed

    return sorted((Record.read(path) for path in folders_of(folder, RECORD_FOLDERS)), key=place)


def all_trials(folder: Path) -> list[Record]:
    """Return the trials of a results folder: runs that were scored on held-out training images, to choose a recipe."""
    return [Record.read(path) for path in folders_of(folder, TRIAL_FOLDERS)]


def folders_of(folder: Path, pattern: str) -> list[Path]:
    """Return the folders of a results folder that match RECORD_FOLDERS or TRIAL_FOLDERS, sorted."""
    return sorted(path for path in folder.glob(pattern) if not is_hidden(path.relative_to(folder)))


def is_hidden(path: Path) -> bool:
    """Return whether a relative path leads to what a killed command left behind, or to a hidden file of a system."""
    return any(part.startswith(".") for part in path.parts)


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
    if name is None:
        raise InputError("--name is needed: the name of the run's preset, or a new name")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", name) or name in RESERVED_NAMES:
        raise InputError(
            f"--name must be 1 to 40 of a-z, 0-9, - and _, a letter or digit first, and not "
            f"{' or '.join(RESERVED_NAMES)} (got {name!r})"
        )
    return name


def record_name(folder: Path) -> str:
    """Return the name of the record in a folder: ``strong``; of a trial ``trials/<config_id>``."""
    name = folder.parent.name
    return f"{TRIALS}/{name}" if folder.parent.parent.name == TRIALS else name


def read_replays(folder: Path) -> list[dict[str, Any]]:
    """Return the replays of a record, in the order of their dates; an empty list where it has none.

    Each has ``date``, ``processor``, ``kernel`` (whose name ends in the instruction set), ``versions``, ``batches``,
    and ``largest_difference`` of a loss, relative to the recorded one: 0 is bit for bit. Where a run was trained to its
    end, ``weights`` is the distance of the weights from those of ``model.keras``; the runs of a search have ``scores``.
    """
    path = folder / REPLAYS_FILE
    return sorted_replays(read_document(path)) if path.exists() else []


def read_document(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file that has a schema, or raise InputError."""
    document = read_json_object(path)
    if document.get("schema") != SCHEMA:
        raise InputError(f"{path} has schema {document.get('schema')!a} (this version reads {SCHEMA})")
    return document


def sorted_replays(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return ``replayed`` of a document, by date."""
    return sorted(document["replayed"], key=lambda entry: entry["date"])


def latest_replays(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the content of ``record.json``: the last replay by machine, kernel, batches and ``scores``."""
    latest = {tuple(entry.get(key) for key in ("processor", "kernel", "batches", "scores")): entry for entry in entries}
    return {"schema": SCHEMA, "replayed": list(latest.values())}


def agreement(largest: float) -> str:
    """Return in words how well losses agree, from their largest relative difference; its first digit is rounded up.

    Example:
        >>> agreement(0.0), agreement(2.07e-7), agreement(9.5e-8)
        ('bit for bit', 'within 3e-7', 'within 1e-7')
    """
    if not largest:
        return "bit for bit"
    return f"within {decimal.Context(prec=1, rounding=decimal.ROUND_UP).create_decimal(largest):.0e}"

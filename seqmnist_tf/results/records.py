"""Published runs: ``results/<name>/seed<k>/`` holds the files of a run directory; trials are in
``results/trials/<config_id>/seed<k>/``."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from ..config import NUM_TEST, PRESETS, Config
from ..train import LAYER_FILE, RunDirectory
from .layout import RECORD_FOLDERS, TRIAL_FOLDERS, is_hidden, record_name
from .replays import read_replays
from .wellformed import read_json_rows, read_strict_object

RESULTS_FOLDER = Path("results")


@dataclass(frozen=True)
class Record:
    """A published run. A trial has no test results: only its configuration, summary and history can be asked.

    Attributes:
        name: name of the experiment; the preset's name if the run is of a preset; of a trial ``trials/<config_id>``.
        run: its folder, read as a run directory.
        config, environment, summary: the content of its JSON files.
        history: one row per epoch.
        replays: where it was trained anew, by date; see :func:`~seqmnist_tf.results.replays.read_replays`.
    """

    name: str
    run: RunDirectory
    config: Config
    environment: dict[str, Any]
    summary: dict[str, Any]
    history: list[dict[str, Any]]
    replays: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read the folder of a record.

        Raises:
            InputError: a file is missing or cannot be read.
        """
        run = RunDirectory.open(path)
        documents = {name: read_strict_object(path / f"{name}.json") for name in ("config", "environment", "summary")}
        return cls(
            record_name(path),
            run,
            run.config,
            documents["environment"],
            documents["summary"],
            read_json_rows(path / "history.jsonl"),
            read_replays(path),
        )

    @property
    def layer_source(self) -> str | None:
        """The text of ``layer.py``, None where the layer is a stock one."""
        path = self.run.path / LAYER_FILE
        return path.read_text(encoding="utf-8") if path.exists() else None

    @property
    def seed(self) -> int:
        """``train.seed``."""
        return self.config.train.seed

    @property
    def correct(self) -> int:
        """Number of test digits that the final model classifies correctly, 0 to 10,000."""
        return self.summary["final"]["test_correct"]

    @property
    def accuracy(self) -> float:
        """Test accuracy of the final model, 0 to 1."""
        return self.correct / NUM_TEST

    @property
    def highest(self) -> dict[str, Any]:
        """The first row of the history with the highest test accuracy of any epoch."""
        return max(self.history, key=lambda row: row["test_accuracy"])

    @property
    def largest_fall(self) -> float | None:
        """The largest drop from the highest test accuracy so far to a later one, from the first above 0.5 on, 0 to 1.

        None where no epoch exceeds 0.5.
        """
        escaped = self.summary["escape_epoch"]
        if escaped is None:
            return None
        accuracies = [row["test_accuracy"] for row in self.history[escaped - 1 :]]
        return max(highest - now for highest, now in zip(accumulate(accuracies, max), accuracies, strict=True))

    @property
    def late_deviation(self) -> float | None:
        """Standard deviation of the test accuracy over the last ten epochs, 0 to 1; None of fewer than 20 epochs."""
        accuracies = [row["test_accuracy"] for row in self.history]
        return statistics.stdev(accuracies[-10:]) if len(accuracies) >= 20 else None

    def epochs_to(self, accuracy: float) -> int | None:
        """Return the first epoch with a test accuracy of at least ``accuracy`` (0 to 1), or None."""
        return next((row["epoch"] for row in self.history if row["test_accuracy"] >= accuracy), None)

    def minutes_to(self, epoch: int) -> float:
        """Return the minutes until the end of an epoch, evaluations included, had each epoch taken the median time.

        So the pauses of a run, which lengthen a few of its epochs, do not count.
        """
        return epoch * statistics.median(row["seconds"] for row in self.history) / 60


def read_records(folder: Path) -> dict[str, list[Record]]:
    """Return the records of a results folder by name, sorted by seed; presets come first, in their own order.

    Raises:
        InputError: a record cannot be read.

    Example::

        best = read_records(Path("results"))["strong"][0]
        print(best.accuracy, best.config.optimizer.lr)
    """
    records: dict[str, list[Record]] = {}
    for path in folders_of(folder, RECORD_FOLDERS):
        record = Record.read(path)
        records.setdefault(record.name, []).append(record)
    presets = list(PRESETS)
    names = sorted(records, key=lambda name: (presets.index(name) if name in presets else len(presets), name))
    return {name: sorted(records[name], key=lambda record: record.seed) for name in names}


def all_records(folder: Path) -> list[Record]:
    """Return the records of a results folder, of all names, in the order of :func:`read_records`.

    Raises:
        InputError: a record cannot be read.
    """
    return [record for same in read_records(folder).values() for record in same]


def all_trials(folder: Path) -> list[Record]:
    """Return the trials of a results folder: runs that were scored on held-out training images, to choose a recipe.

    Raises:
        InputError: a trial cannot be read.
    """
    return [Record.read(path) for path in folders_of(folder, TRIAL_FOLDERS)]


def folders_of(folder: Path, pattern: str) -> list[Path]:
    """Return the folders of a results folder that match a pattern of :mod:`~seqmnist_tf.results.layout`, sorted."""
    return sorted(path for path in folder.glob(pattern) if not is_hidden(path.relative_to(folder)))

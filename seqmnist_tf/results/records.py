"""Published runs: ``results/<name>/seed<k>/`` holds the files of a run directory."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import NUM_TEST, PRESETS, Config
from ..system import InputError
from ..train import RunDirectory

RESULTS_FOLDER = Path("results")
STEPS_FILE = "steps.csv.gz"
COPIED_FILES = ("config.json", "environment.json", "history.jsonl", "model.keras", "pixel_order.txt", "summary.json")


@dataclass(frozen=True)
class Record:
    """A published run.

    Attributes:
        name: name of the experiment; the preset's name if the run is of a preset.
        run: its folder, read as a run directory.
        config, environment, summary: the content of its JSON files.
        history: one row per epoch.
    """

    name: str
    run: RunDirectory
    config: Config
    environment: dict[str, Any]
    summary: dict[str, Any]
    history: list[dict[str, Any]]

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

    def epochs_to(self, accuracy: float) -> int | None:
        """Return the first epoch with a test accuracy of at least ``accuracy`` (0 to 1), or None."""
        return next((row["epoch"] for row in self.history if row["test_accuracy"] >= accuracy), None)

    def step_losses(self) -> bytes:
        """Return the uncompressed content of ``steps.csv.gz``: the loss of every batch.

        Raises:
            InputError: the file is missing or broken.
        """
        path = self.run.path / STEPS_FILE
        try:
            return gzip.decompress(path.read_bytes())
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"cannot read {path}: {error}") from None


def read_records(folder: Path) -> dict[str, list[Record]]:
    """Return the records of a results folder by name, sorted by seed; presets come first, in their own order.

    Raises:
        InputError: a record cannot be read.

    Example::

        best = read_records(Path("results"))["strong"][0]
        print(best.accuracy, best.config.optimizer.lr)
    """
    records: dict[str, list[Record]] = {}
    for path in folder.glob("*/seed*"):
        run = RunDirectory.open(path)
        record = Record(path.parent.name, run, run.config, run.environment, run.summary or {}, run.history())
        records.setdefault(record.name, []).append(record)
    presets = list(PRESETS)
    names = sorted(records, key=lambda name: (presets.index(name) if name in presets else len(presets), name))
    return {name: sorted(records[name], key=lambda record: record.seed) for name in names}

"""The folder of a search: its settings, its trials and its result."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import config as cfg
from ..config import Config
from ..system import InputError, write_atomically
from ..train import RunDirectory
from .space import Dimension, apply_values

ORACLE = "oracle"  # KerasTuner's own files
WORST = 0.0  # score of a trial that diverged


@dataclass(frozen=True)
class SearchFolder:
    """A search and its folder; ``search.json`` there holds its settings.

    Attributes:
        path: the folder.
        tuner: random, bayesian or hyperband.
        base: the configuration that trials change; it holds out a split and leaves the test set unread.
        space: the keys that trials change.
        space_document: the space in its JSON form.
        preset: the preset that ``base`` started from, for the record.
    """

    path: Path
    tuner: str
    base: Config
    space: tuple[Dimension, ...]
    space_document: dict[str, Any]
    preset: str | None

    @property
    def document(self) -> dict[str, Any]:
        """The settings that two processes of one search share, ready for JSON."""
        base = cfg.config_to_dict(self.base)
        for section, key in (("train", "threads"), ("train", "kernel")):
            del base[section][key]
        return {"tuner": self.tuner, "base": base, "space": self.space_document}

    @property
    def file(self) -> Path:
        """The file of ``document``."""
        return self.path / "search.json"

    def claim(self) -> None:
        """Write ``search.json``, or check that it is of the same search.

        Raises:
            InputError: the folder belongs to another search, holds other files, or cannot be written.
        """
        try:
            if self.file.is_file():
                if json.loads(self.file.read_text()) != self.document:
                    raise InputError(f"{self.path} holds another search (give a new --dir, or that search's arguments)")
            elif self.path.is_dir() and any(path.name[0] != "." for path in self.path.iterdir()):
                raise InputError(f"{self.path} holds other files and no search (give a new --dir)")
            else:
                self.path.mkdir(parents=True, exist_ok=True)
                write_atomically(self.file, (json.dumps(self.document, indent=2) + "\n").encode())
        except OSError as error:
            raise InputError(f"cannot write to {self.path}: {error.strerror} (give a writable --dir)") from None
        except json.JSONDecodeError as error:
            raise InputError(f"cannot read {self.file}: {error}") from None

    def config(self, values: dict[str, Any]) -> Config:
        """Return the configuration of a trial with these values."""
        config = apply_values(self.space, values, self.base)
        epochs = values.get("tuner/epochs", config.train.n_epochs)
        return cfg.validate(cfg.with_values(config, {"train.n_epochs": epochs}))

    def trial_path(self, trial_id: str) -> Path:
        """Return the run directory of a trial."""
        return self.path / "trials" / trial_id


def outcome(run: RunDirectory) -> tuple[str, float] | None:
    """Return the status of a trial's run (completed, stopped, diverged) and its score; None where it has not ended."""
    summary, history = run.summary, run.history()
    if summary is None:
        return None
    if summary["status"] in ("completed", "stopped"):
        return summary["status"], history[-1]["val_accuracy"]
    if summary["status"] == "diverged":
        return "diverged", WORST
    return None


def read_trials(search: SearchFolder) -> list[dict[str, Any]]:
    """Return a row for each trial that has ended, in the order of their numbers."""
    rows = []
    files = (search.path / ORACLE).glob("trial_*/trial.json")
    for file in sorted(files, key=lambda file: int(file.parent.name.removeprefix("trial_"))):
        trial = json.loads(file.read_text())
        run = RunDirectory(search.trial_path(trial["trial_id"]))
        summary = run.summary
        if trial["status"] != "COMPLETED" or summary is None:
            continue
        # A trial that version 0.1.0 stopped at chance has the status "interrupted"; KerasTuner has its score.
        status, score = outcome(run) or ("stopped", trial["score"])
        values = {k: v for k, v in trial["hyperparameters"]["values"].items() if not k.startswith("tuner/")}
        rows.append(
            {
                "trial": trial["trial_id"],
                "status": status,
                "score": score,
                "epochs": summary["epochs"],
                "escape_epoch": summary["escape_epoch"],
                "seconds": summary["seconds_total"],
                "values": values,
                "hyperparameters": trial["hyperparameters"]["values"],
            }
        )
    return rows


def best_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row with the highest score, the first among equal ones."""
    return max(rows, key=lambda row: row["score"])


def best_config(search: SearchFolder, row: dict[str, Any]) -> Config:
    """Return the result of a search: the best trial's configuration, on all training images, with the test set."""
    config = apply_values(search.space, row["values"], search.base)
    return cfg.validate(
        cfg.with_values(config, {"task.validation_size": 0, "task.limit_train": 0, "test.enabled": True})
    )

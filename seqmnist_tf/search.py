"""A search's folder: what it was asked for, its trials, its result; and the report and the picture of them."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import config as cfg
from . import space as sp
from .config import Config
from .errors import InputError
from .evaluate import AT_CHANCE
from .run_dir import RunDirectory, write_atomically
from .space import Dimension

ORACLE = "oracle"  # KerasTuner's own files
WORST = 0.0  # the score of a trial that diverged


@dataclass(frozen=True)
class Search:
    """What a search was asked for; ``search.json`` in its folder.

    Attributes:
        path: its folder.
        tuner: random, bayesian or hyperband.
        base: the configuration that trials change, with the protocol's split and without the test set.
        space: what they change.
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
        """What makes two searches the same one, ready for JSON."""
        base = cfg.to_dict(self.base)
        for section, key in (("train", "threads"), ("train", "kernel")):
            del base[section][key]
        return {"tuner": self.tuner, "base": base, "space": self.space_document}

    @property
    def file(self) -> Path:
        """Where ``document`` is kept."""
        return self.path / "search.json"

    def claim(self) -> None:
        """Write ``search.json``, or see that it is that of the same search.

        Raises:
            InputError: the folder is another search's, holds other things, or cannot be written.
        """
        try:
            if self.file.is_file():
                if json.loads(self.file.read_text()) != self.document:
                    raise InputError(f"{self.path} holds another search (give a new --dir, or the arguments it had)")
            elif self.path.is_dir() and any(path.name[0] != "." for path in self.path.iterdir()):
                raise InputError(f"{self.path} holds no search, but other things (give a new --dir)")
            else:
                self.path.mkdir(parents=True, exist_ok=True)
                write_atomically(self.file, (json.dumps(self.document, indent=2) + "\n").encode())
        except OSError as error:
            raise InputError(f"cannot write to {self.path}: {error.strerror} (give a --dir to write to)") from None
        except json.JSONDecodeError as error:
            raise InputError(f"cannot read {self.file}: {error}") from None

    def config(self, values: dict[str, Any]) -> Config:
        """Return the configuration of a trial with these values."""
        config = sp.apply(self.space, values, self.base)
        epochs = values.get("tuner/epochs", config.train.n_epochs)
        return cfg.validate(cfg.with_values(config, {"train.n_epochs": epochs}))

    def trial_path(self, trial_id: str) -> Path:
        """Return the run directory of a trial."""
        return self.path / "trials" / trial_id


def at_chance(history: list[dict[str, Any]], n_epochs: int) -> bool:
    """Tell whether a run has sat at chance for half of its epochs, with more to come."""
    return len(history) < n_epochs and 2 * len(history) >= n_epochs and history[-1]["val_accuracy"] < AT_CHANCE


def outcome(run: RunDirectory) -> tuple[str, float] | None:
    """Return how a trial's run ended (completed, diverged, at chance) and its score; None where it has not ended."""
    summary, history = run.summary, run.history()
    if summary is None:
        return None
    if summary["status"] == "completed":
        return "completed", history[-1]["val_accuracy"]
    if summary["status"] == "diverged":
        return "diverged", WORST
    if summary["status"] == "interrupted" and history and at_chance(history, run.config.train.n_epochs):
        return "at chance", history[-1]["val_accuracy"]
    return None


def read_trials(search: Search) -> list[dict[str, Any]]:
    """Return a row for each trial that has ended, in the order of their numbers."""
    rows = []
    files = (search.path / ORACLE).glob("trial_*/trial.json")
    for file in sorted(files, key=lambda file: int(file.parent.name.removeprefix("trial_"))):
        trial = json.loads(file.read_text())
        path = search.trial_path(trial["trial_id"])
        ended = outcome(RunDirectory(path)) if path.is_dir() else None
        if ended is None or trial["status"] != "COMPLETED":
            continue
        run = RunDirectory(path)
        summary = run.summary or {}
        values = {k: v for k, v in trial["hyperparameters"]["values"].items() if not k.startswith("tuner/")}
        rows.append(
            {
                "trial": trial["trial_id"],
                "status": ended[0],
                "score": ended[1],
                "epochs": summary["epochs"],
                "escape_epoch": summary["escape_epoch"],
                "seconds": summary["seconds_total"],
                "values": values,
                "hyperparameters": trial["hyperparameters"]["values"],
            }
        )
    return rows


def best_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row with the highest score, the first of equal ones."""
    return max(rows, key=lambda row: row["score"])


def best_config(search: Search, row: dict[str, Any]) -> Config:
    """Return the configuration that a search yields: the best trial's, on all training data, with the test set on."""
    config = sp.apply(search.space, row["values"], search.base)
    return cfg.validate(
        cfg.with_values(config, {"task.validation_size": 0, "task.limit_train": 0, "test.enabled": True})
    )


def report(search: Search, rows: list[dict[str, Any]], repeats: list[float]) -> str:
    """Return a finished search as Markdown: the best trial, its edges, its repetitions, all trials."""
    best = best_of(rows)
    counts = {status: sum(row["status"] == status for row in rows) for status in ("completed", "at chance", "diverged")}
    counted = ", ".join(f"{count} {status}" for status, count in counts.items())
    lines = [
        f"# Search: {search.tuner}, {len(rows)} trials ({counted})",
        "",
        f"Best: trial {best['trial']}, validation accuracy {best['score']:.2%} after {best['epochs']} epochs.",
    ]
    if repeats:
        spread = f" ± {statistics.stdev(repeats):.2%}" if len(repeats) > 1 else ""
        each = ", ".join(f"{score:.2%}" for score in repeats)
        lines.append(f"With {len(repeats)} other seeds: {statistics.mean(repeats):.2%}{spread} ({each}).")
    lines += ["", "| | best | explored | at the edge |", "|---|---|---|---|"]
    for row in search.space:
        if row.name not in best["values"]:
            continue
        value = best["values"][row.name]
        shown = value if row.choices else f"{value:.3g}"
        used = row.counts(best["values"])
        lines.append(f"| `{row.name}` | {shown if used else '-'} | {row.allowed} | {row.at_edge(value) or ''} |")
    lines += [
        "",
        "| trial | validation accuracy | | epochs | left the plateau in epoch | seconds |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for trial in sorted(rows, key=lambda trial: -trial["score"]):
        numbers = f"{trial['epochs']} | {trial['escape_epoch'] or '-'} | {trial['seconds']:.0f}"
        lines.append(f"| {trial['trial']} | {trial['score']:.2%} | {trial['status']} | {numbers} |")
    return "\n".join(lines) + "\n"


def draw(search: Search, rows: list[dict[str, Any]], path: Path) -> None:
    """Draw score by trial, and score against each hyperparameter."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [row for row in search.space if any(row.name in trial["values"] for trial in rows)]
    across = 3
    down = -(-(len(shown) + 1) // across)
    figure = Figure(figsize=(4.2 * across, 3.2 * down), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    scores = [100 * trial["score"] for trial in rows]
    best_so_far = [max(scores[: n + 1]) for n in range(len(scores))]
    axes[0].plot(range(1, len(rows) + 1), scores, "o", label="trial")
    axes[0].step(range(1, len(rows) + 1), best_so_far, where="post", label="best so far")
    axes[0].set_xlabel("trial")
    axes[0].legend()
    for panel, row in zip(axes[1:], shown, strict=False):
        used = [trial for trial in rows if row.counts(trial["values"])]
        heights = [100 * trial["score"] for trial in used]
        if row.choices:
            labels = list(row.choices)
            panel.plot([labels.index(trial["values"][row.name]) for trial in used], heights, "o", alpha=0.7)
            panel.set_xticks(range(len(labels)), labels, fontsize="x-small")
            panel.tick_params(axis="x", rotation=20 if max(map(len, labels)) > 10 else 0)
            panel.set_xlim(-0.5, len(labels) - 0.5)
        else:
            panel.plot([trial["values"][row.name] for trial in used], heights, "o", alpha=0.7)
            panel.set_xscale("log" if row.log else "linear")
        panel.set_xlabel(row.name)
    for panel in axes[: len(shown) + 1]:
        panel.set_ylabel("validation accuracy, %")
        panel.grid(alpha=0.3)
    for panel in axes[len(shown) + 1 :]:
        panel.set_axis_off()
    figure.savefig(path, dpi=110)

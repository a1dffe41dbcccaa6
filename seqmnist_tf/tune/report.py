"""What one looks at after a search: its report, its picture, and TensorBoard's page HParams."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path
from typing import Any

import tensorflow as tf
from matplotlib.axes import Axes
from tensorboard.plugins.hparams import api

from ..system import first_line, markdown_table, warn
from ..train import RunDirectory, new_figure, write_figure
from .folder import SearchFolder
from .oracle import OBJECTIVE
from .space import Dimension
from .trials import WORST

MOST_TRIALS = 50  # in the table
MOST_FAILURES = 20
SUFFIX = ".hparams"  # of TensorBoard's files


def search_report(
    search: SearchFolder, rows: list[dict[str, Any]], best: dict[str, Any], repeats: list[float], failed: dict[str, str]
) -> str:
    """Return a finished search as Markdown: the best trial, values at the edge of their range, repeats, best trials.

    ``rows`` are of trials with a score, ``repeats`` scores of the best one with other seeds; ``failed`` says of the
    other trials, by number, why they failed.
    """
    counts = {status: sum(row["status"] == status for row in rows) for status in ("completed", "stopped", "diverged")}
    counts |= {"failed": len(failed)} if failed else {}
    counted = ", ".join(f"{count} {status}" for status, count in counts.items())
    lines = [
        f"# Search: {search.tuner}, {len(rows) + len(failed)} trials ({counted})",
        "",
        f"Best: trial {best['trial']}, validation accuracy {best['score']:.2%} after {best['epochs']} epochs.",
    ]
    if repeats:
        trained = [score for score in repeats if score > WORST]
        mean = f"{statistics.mean(trained):.2%}" if trained else "no mean"
        spread = f" ± {statistics.stdev(trained):.2%}" if len(trained) > 1 else ""
        each = ", ".join(f"{score:.2%}" if score > WORST else "diverged" for score in repeats)
        lines.append(f"With {len(repeats)} other seeds: {mean}{spread} ({each}).")
    lines += ["", _best_table(search, best["values"]), ""]
    if len(rows) > MOST_TRIALS:
        lines += [f"The best {MOST_TRIALS} of {len(rows):,} trials with a score; `trials.json` has all:", ""]
    lines.append(_trial_table(rows))
    if failed:
        listed = list(failed.items())[:MOST_FAILURES]
        lines += ["", "Failed:", "", *(f"- trial {trial}: {reason}" for trial, reason in listed)]
        if len(failed) > len(listed):
            lines.append(f"- and {len(failed) - len(listed):,} more")
    return "\n".join(lines) + "\n"


def draw_search(search: SearchFolder, rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the score by trial, and the score against each hyperparameter."""
    shown = [row for row in search.space if any(row.name in trial["values"] for trial in rows)]
    across = 3
    down = -(-(len(shown) + 1) // across)
    figure = new_figure(4.2 * across, 3.2 * down)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    scores = [100 * trial["score"] for trial in rows]
    best_so_far = list(itertools.accumulate(scores, max))
    axes[0].plot(range(1, len(rows) + 1), scores, "o", label="trial")
    axes[0].step(range(1, len(rows) + 1), best_so_far, where="post", label="best so far")
    axes[0].set_xlabel("trial")
    axes[0].legend()
    for panel, row in zip(axes[1:], shown, strict=False):
        _draw_dimension(panel, row, [trial for trial in rows if row.applies(trial["values"])])
    for panel in axes[: len(shown) + 1]:
        panel.set_ylabel("validation accuracy, %")
        panel.grid(alpha=0.3)
    for panel in axes[len(shown) + 1 :]:
        panel.set_axis_off()
    write_figure(figure, path, dpi=110)


def _best_table(search: SearchFolder, values: dict[str, Any]) -> str:
    rows = []
    for row in search.space:
        if row.name in values:
            value = values[row.name]
            shown = row.text(value) if row.applies(values) else "-"
            rows.append((f"`{row.name}`", shown, row.allowed, row.at_edge(value) or ""))
    return markdown_table(("hyperparameter", "best", "explored", "at the edge"), rows)


def _trial_table(rows: list[dict[str, Any]]) -> str:
    cells = [
        (row["trial"], f"{row['score']:.2%}", row["status"], row["epochs"], row["escape_epoch"] or "-",
         f"{row['seconds']:.0f}")
        for row in sorted(rows, key=lambda row: -row["score"])[:MOST_TRIALS]
    ]  # fmt: skip
    head = ("trial", ">validation accuracy", "status", ">epochs", ">first epoch above 50 %", ">seconds")
    return markdown_table(head, cells)


def _draw_dimension(panel: Axes, row: Dimension, trials: list[dict[str, Any]]) -> None:
    """Draw the scores of the trials to which a row of the space applies, against its values."""
    heights = [100 * trial["score"] for trial in trials]
    if row.choices:
        labels = list(row.choices)
        panel.plot([labels.index(trial["values"][row.name]) for trial in trials], heights, "o", alpha=0.7)
        panel.set_xticks(range(len(labels)), labels, fontsize="x-small", parse_math=False)
        panel.tick_params(axis="x", rotation=20 if max(map(len, labels)) > 10 else 0)
        panel.set_xlim(-0.5, len(labels) - 0.5)
    else:
        panel.plot([trial["values"][row.name] for trial in trials], heights, "o", alpha=0.7)
        panel.set_xscale("log" if row.log else "linear")
    panel.set_xlabel(row.name, parse_math=False)


def log_hparams(search: SearchFolder, row: dict[str, Any]) -> None:
    """Write the values and the score of a trial's row to its ``tensorboard/``, once, where that is switched on.

    The search's ``tensorboard/`` gets the space. Repeats are left out: they have the values of their trial.
    """
    if not search.base.tensorboard.enabled:
        return
    trial_id, values = row["trial"], row["hyperparameters"]
    try:
        hparams = {
            _hparam(one): values[one.name] if one.choices else one.settings(values[one.name])[one.name]
            for one in search.space
            if one.applies(values)
        }
        if writer := _new_writer(search.path / "tensorboard"):
            with writer.as_default():
                metric = api.Metric(OBJECTIVE, display_name="validation accuracy")
                api.hparams_config([_hparam(one) for one in search.space], [metric])
            writer.close()
        run = RunDirectory(search.trial_path(trial_id))
        if writer := _new_writer(run.path / "tensorboard"):
            callback = api.KerasCallback(writer, hparams, trial_id=trial_id)
            callback.on_train_begin()
            with writer.as_default():
                tf.summary.scalar(OBJECTIVE, row["score"], step=len(run.history()))
            callback.on_train_end()
            writer.close()
    except Exception as error:  # of any kind: the trial has its score
        warn(f"trial {trial_id} is not on TensorBoard's page HParams: {first_line(error)}")


def _new_writer(folder: Path) -> Any:
    """Return a writer of a file in a folder, None where it has one of an earlier call."""
    if any(folder.glob(f"*{SUFFIX}")):
        return None
    return tf.summary.create_file_writer(str(folder), filename_suffix=SUFFIX)


def _hparam(row: Dimension) -> api.HParam:
    if row.choices:
        return api.HParam(row.name, api.Discrete(list(row.choices)))
    domain, number = (api.IntInterval, int) if row.integer else (api.RealInterval, float)
    return api.HParam(row.name, domain(number(row.low or 0), number(row.high or 0)))

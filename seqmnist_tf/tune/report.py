"""The report and the picture of a search."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..system import markdown_table
from ..train import new_figure
from .space import Dimension, SearchFolder

DOT: dict[str, Any] = {"marker": "o", "alpha": 0.7, "linestyle": ""}
STAR: dict[str, Any] = {"marker": "*", "color": "C3", "markersize": 14, "linestyle": ""}  # of the best trial


def search_report(
    search: SearchFolder, rows: list[dict[str, Any]], best: dict[str, Any], failed: dict[str, str]
) -> str:
    """Return a finished search as Markdown: the best trial, values at the edge of their range, all trials.

    ``rows`` are of trials with a score; ``failed`` says of the other trials, by number, why they failed.
    """
    counts = Counter(row["status"] for row in rows) + Counter(failed=len(failed))
    counted = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    best_rows = [
        (f"`{row.name}`", _shown(row, best["values"]), row.allowed, row.at_edge(best["values"][row.name]) or "")
        for row in search.space
        if row.name in best["values"]
    ]
    parts = [
        f"# Search: {search.tuner}, {len(rows) + len(failed)} trials ({counted})",
        f"Best: trial {best['trial']}, validation accuracy {best['score']:.2%} after epoch {best['epochs']}.",
        markdown_table(("hyperparameter", "best", "explored", "at the edge"), best_rows),
        _trial_table(search, rows),
    ]
    if failed:
        parts += ["Failed:", "\n".join(f"- trial {trial}: {reason}" for trial, reason in failed.items())]
    return "\n\n".join(parts) + "\n"


def draw_search(search: SearchFolder, rows: list[dict[str, Any]], best: dict[str, Any]) -> Figure:
    """Draw the score by trial, and the score against each hyperparameter; the best trial is a star."""
    shown = [row for row in search.space if any(row.name in trial["values"] for trial in rows)]
    across = 3
    down = math.ceil((len(shown) + 1) / across)
    figure = new_figure(4.2 * across, 3.2 * down)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    numbers = [int(trial["trial"]) for trial in rows]
    scores = [100 * trial["score"] for trial in rows]
    axes[0].plot(numbers, scores, **DOT, label="trial")
    axes[0].step(numbers, list(itertools.accumulate(scores, max)), where="post", label="best so far")
    axes[0].plot(int(best["trial"]), 100 * best["score"], **STAR, label=f"best: trial {best['trial']}")
    axes[0].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes[0].set_xlabel("trial")
    axes[0].legend()
    for panel, row in zip(axes[1:], shown, strict=False):
        _draw_dimension(panel, row, [trial for trial in rows if row.applies(trial["values"])], best)
    for panel in axes[: len(shown) + 1]:
        panel.set_ylabel("validation accuracy, %")
        panel.grid(alpha=0.3)
    for panel in axes[len(shown) + 1 :]:
        panel.set_axis_off()
    return figure


def _trial_table(search: SearchFolder, rows: list[dict[str, Any]]) -> str:
    cells = [
        (row["trial"], f"{row['score']:.2%}", row["status"], row["epochs"], row["escape_epoch"] or "-",
         f"{row['seconds']:.0f}", *(_shown(one, row["values"]) for one in search.space))
        for row in sorted(rows, key=lambda row: -row["score"])
    ]  # fmt: skip
    head = ("trial", ">validation accuracy", "status", ">epochs", ">first epoch above 50 %", ">seconds")
    return markdown_table((*head, *(f"`{one.name}`" for one in search.space)), cells)


def _shown(row: Dimension, values: dict[str, Any]) -> str:
    """Return a trial's value of a row of the space; a dash where the row has no effect."""
    return row.text(values[row.name]) if row.applies(values) else "-"


def _draw_dimension(panel: Axes, row: Dimension, trials: list[dict[str, Any]], best: dict[str, Any]) -> None:
    """Draw the scores of the trials to which a row of the space applies, against its values."""
    labels = list(row.choices)
    chosen = [trial for trial in trials if trial["trial"] == best["trial"]]
    for some, style in ((trials, DOT), (chosen, STAR)):
        values = [trial["values"][row.name] for trial in some]
        places = [labels.index(value) for value in values] if labels else values
        panel.plot(places, [100 * trial["score"] for trial in some], **style)
    if labels:
        panel.set_xticks(range(len(labels)), map(row.text, labels), fontsize="x-small", parse_math=False)
        panel.tick_params(axis="x", rotation=20 if max(map(len, labels)) > 10 else 0)
        panel.set_xlim(-0.5, len(labels) - 0.5)
    else:
        panel.set_xscale(row.scale)
        if row.scale == "log":  # Matplotlib's labels within a decade overlap
            low, high = float(row.low or 0), float(row.high or 0)
            ticks = [low, math.sqrt(low * high), high]
            panel.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
            panel.minorticks_off()
    panel.set_xlabel(row.name, parse_math=False)

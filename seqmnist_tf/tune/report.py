"""What one looks at after a search: its report and its picture."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from ..system import markdown_table
from ..train import new_figure, write_figure
from .folder import SearchFolder
from .space import Dimension

MOST_TRIALS = 50  # in the table
MOST_FAILURES = 20


def search_report(
    search: SearchFolder, rows: list[dict[str, Any]], best: dict[str, Any], failed: dict[str, str]
) -> str:
    """Return a finished search as Markdown: the best trial, values at the edge of their range, the best trials.

    ``rows`` are of trials with a score; ``failed`` says of the other trials, by number, why they failed.
    """
    counts = {status: sum(row["status"] == status for row in rows) for status in ("completed", "stopped", "diverged")}
    counts |= {"failed": len(failed)} if failed else {}
    counted = ", ".join(f"{count} {status}" for status, count in counts.items())
    lines = [
        f"# Search: {search.tuner}, {len(rows) + len(failed)} trials ({counted})",
        "",
        f"Best: trial {best['trial']}, validation accuracy {best['score']:.2%} after {best['epochs']} epochs.",
    ]
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
        panel.set_xscale(row.scale)
    panel.set_xlabel(row.name, parse_math=False)

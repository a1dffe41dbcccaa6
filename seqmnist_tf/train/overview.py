"""What one looks at first: predictions as a table, the overview as a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from ..config import arguments_text
from ..data import Split
from ..model import learning_rates
from ..system import write_atomically
from .figures import draw_counts, new_figure, write_figure
from .metrics import Metrics
from .run_directory import PREDICTIONS_FILE, RunDirectory
from .summary import Predictions

OVERVIEW_FILE = "overview.png"
MISREAD_ACROSS, MISREAD_DOWN, MISREAD_GAP = 8, 3, 8  # images across and down, and the pixels between them
DPI = 100


def write_predictions(run: RunDirectory, split: Split, metrics: Metrics) -> None:
    """Write ``predictions.csv``, from the metrics of the final model on the test split."""
    table = Predictions(split.labels, metrics.predictions, metrics.probabilities)
    write_atomically(run.path / PREDICTIONS_FILE, table.to_csv())


def write_overview(run: RunDirectory, split: Split | None, metrics: Metrics | None) -> None:
    """Write ``overview.png``; arguments as :func:`draw_overview`."""
    write_figure(draw_overview(run, split, metrics), run.path / OVERVIEW_FILE, DPI)


def draw_overview(run: RunDirectory, split: Split | None, metrics: Metrics | None) -> Figure:
    """Draw losses, accuracies and learning rate; where there are test metrics, confusion matrix and misread digits."""
    history, config = run.history(), run.config
    figure = new_figure(13, 8)
    subfigures: Any = figure.subfigures(2, 1, height_ratios=(1, 1.1))
    losses, accuracies, rates = subfigures[0].subplots(1, 3)
    batches = run.step_losses()
    places = np.arange(1, len(batches) + 1) / config.steps_per_epoch
    losses.plot(places, batches, color="#9ecae1", linewidth=0.6, label="batches")
    marker = "o" if len(history) == 1 else ""
    for name, label, colour in (("train", "training", "C0"), ("val", "validation", "C2"), ("test", "test", "C1")):
        for axes, key, scale in ((losses, "loss", 1), (accuracies, "accuracy", 100)):
            if rows := [row for row in history if row.get(f"{name}_{key}") is not None]:
                values = [scale * row[f"{name}_{key}"] for row in rows]
                axes.plot([row["epoch"] for row in rows], values, color=colour, label=label, marker=marker)
    if any(loss > 0 for loss in batches):
        losses.set_yscale("log")
        losses.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        losses.yaxis.set_major_formatter("{x:g}")
        losses.yaxis.set_minor_formatter("")
    losses.set(title="loss", xlabel="epoch")
    losses.legend()
    accuracies.set(title="accuracy, %", xlabel="epoch")
    accuracies.legend()
    low, high = accuracies.get_ylim()
    accuracies.set_ylim(max(0, low - 1), min(100, high + 1))  # lest noise at chance fill the panel
    rates.plot(places, learning_rates(config, len(batches)), color="0.3")
    rates.set(title="learning rate", xlabel="epoch")
    rates.set_ylim(bottom=0)
    for axes in (losses, accuracies, rates):
        axes.grid(alpha=0.3)
        axes.set_xlim(0, max(1, len(history)) * 1.02)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    if split is not None and metrics is not None:
        counts, misread = subfigures[1].subplots(1, 2, width_ratios=(1, 1.6))
        draw_counts(counts, metrics.confusion)
        counts.set_title("confusion matrix (colour: errors)", fontsize=10)
        _draw_misread(misread, split, metrics)
    result = f", {metrics.correct:,} of {metrics.total:,} test digits classified correctly" if metrics else ""
    title = f"{config.model.layer}({arguments_text(config)}), seed {config.train.seed}{result}"
    figure.suptitle(title, parse_math=False)  # a path or a constant may have $
    return figure


def _draw_misread(axes: Axes, split: Split, metrics: Metrics) -> None:
    """Draw the misclassified digits with the highest probability of their wrong class."""
    wrong = np.flatnonzero(metrics.predictions != split.labels)
    worst = wrong[metrics.probabilities[wrong].argsort(kind="stable")[::-1]]
    height, width = (side + MISREAD_GAP for side in split.images.shape[1:])
    field = np.zeros((MISREAD_DOWN * height, MISREAD_ACROSS * width), np.uint8)
    for place, index in enumerate(worst[: MISREAD_DOWN * MISREAD_ACROSS]):
        y, x = (place // MISREAD_ACROSS) * height + MISREAD_GAP, (place % MISREAD_ACROSS) * width
        field[y : y + height - MISREAD_GAP, x : x + width - MISREAD_GAP] = split.images[index]
        text = f"{split.labels[index]} as {metrics.predictions[index]}"
        axes.text(x + (width - MISREAD_GAP) / 2, y - 1, text, ha="center", va="bottom", fontsize=8)
    axes.imshow(field, cmap="gray_r", vmin=0, vmax=255)
    axes.set_axis_off()
    axes.set_title(f"{len(wrong):,} misclassified, those with the highest probability first", fontsize=10)

"""The pictures of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from ..config import Data
from ..data import load_test
from ..system import InputError, RunError, count_of, warn
from ..train import new_figure
from .comparison import Comparison, SeededRuns

SHOWN_PAIRS, SHOWN_DIGITS = 4, 8  # pairs in the picture of disagreements, and digits in each of its rows


def draw_comparison(comparison: Comparison, data_dir: str | None = None) -> dict[str, Figure]:
    """Return the pictures of a comparison by the names of their files, without suffix; those of digits need MNIST."""
    pictures = {"curves": draw_curves(comparison)}
    if gradients := draw_gradients(comparison):
        pictures["gradients"] = gradients
    if comparison.pairs:
        pictures["differences"] = draw_differences(comparison)
        try:
            pictures["disagreements"] = draw_disagreements(comparison, data_dir)
        except (InputError, RunError) as error:  # runs that exist may be compared where MNIST is not
            warn(f"disagreements.png is left out: {error}")
    return pictures


def draw_curves(comparison: Comparison) -> Figure:
    """Draw the test error by epoch of each arm."""
    lowest = 100 / comparison.arms[0].total / 2  # half a digit stands for no error on the logarithmic axis
    errors = [np.maximum(100 * (1 - np.array([run.curve for run in arm.runs])), lowest) for arm in comparison.arms]
    return _draw_by_epoch(comparison, errors, "test error, %")


def draw_gradients(comparison: Comparison) -> Figure | None:
    """Draw the norm of the gradients by epoch of each arm; None where a run has not logged it."""
    norms = [[run.gradient_norms for run in arm.runs] for arm in comparison.arms]
    if not all(row for rows in norms for row in rows):
        return None
    return _draw_by_epoch(comparison, [np.array(rows) for rows in norms], "gradient norm")


def _draw_by_epoch(comparison: Comparison, values: Sequence[np.ndarray], label: str) -> Figure:
    """Draw numbers by epoch, (seeds, epochs) for each arm: mean over seeds, and range from lowest to highest seed."""
    figure = new_figure(5.5, 3.4)
    axes = figure.subplots()
    for number, (arm, rows) in enumerate(zip(comparison.arms, values, strict=True)):
        epochs = np.arange(1, arm.config.train.n_epochs + 1)
        name, marker = f"{arm.name} ({count_of(arm.n, 'seed')})", "o" if len(epochs) == 1 else ""
        axes.plot(epochs, rows.mean(axis=0), color=f"C{number}", linewidth=1.4, marker=marker, label=name)
        axes.fill_between(epochs, rows.min(axis=0), rows.max(axis=0), color=f"C{number}", alpha=0.2, linewidth=0)
    axes.set(xlabel="epoch", ylabel=label, yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3, which="major")
    axes.legend(frameon=False)
    return figure


def draw_differences(comparison: Comparison) -> Figure:
    """Draw the differences in test accuracy from the first arm's mean: seeds, mean, and Welch's 95 % interval."""
    first, *others = comparison.arms
    figure = new_figure(5.5, 0.9 + 0.55 * len(others))
    axes = figure.subplots()
    for row, (arm, pair) in enumerate(zip(others, comparison.pairs, strict=True)):
        points = 100 * (np.array(arm.test_accuracy) - first.mean)
        offsets = np.linspace(0.12, 0.3, len(points)) if len(points) > 1 else np.array([0.2])
        axes.plot(points, row + offsets, "o", color="0.55", markersize=3.5, markeredgewidth=0)
        if pair.ci_95:
            axes.plot([100 * bound for bound in pair.ci_95], [row, row], color="C0", linewidth=2, solid_capstyle="butt")
        axes.plot([100 * pair.mean_difference], [row], "D", color="C0", markersize=5)
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_yticks(range(len(others)), [f"{arm.name}\nagainst {first.name}" for arm in others])
    axes.set_ylim(len(others) - 0.45, -0.45)
    axes.set_xlabel("difference in test accuracy, percentage points")
    axes.grid(axis="x", alpha=0.3)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def draw_disagreements(comparison: Comparison, data_dir: str | None = None) -> Figure:
    """Draw digits that one arm of a pair classifies correctly in a larger share of its seeds, largest first."""
    first, *others = comparison.arms[: SHOWN_PAIRS + 1]
    images = load_test(replace(first.config, data=Data(dir=data_dir)), np.arange(28 * 28)).images
    figure = new_figure(6.8, 2.55 * len(others))
    blocks: Any = figure.subfigures(2 * len(others), 1, squeeze=False)
    for number, other in enumerate(others):
        _draw_one_sided(blocks[2 * number, 0], first, other, images)
        _draw_one_sided(blocks[2 * number + 1, 0], other, first, images)
    return figure


def _draw_one_sided(block: Any, winner: SeededRuns, loser: SeededRuns, images: np.ndarray) -> None:
    """Draw the digits that ``winner`` classifies correctly in a larger share of its seeds than ``loser``."""
    ours, theirs = (np.mean([made.right for made in arm.predictions], axis=0) for arm in (winner, loser))
    shown = [
        int(index) for index in np.argsort(theirs - ours, kind="stable")[:SHOWN_DIGITS] if ours[index] > theirs[index]
    ]
    title = f"{winner.name} is right more often than {loser.name}: {int((ours > theirs).sum()):,} digits"
    block.suptitle(title, fontsize=9, x=0.01, horizontalalignment="left")
    labels = loser.predictions[0].labels
    for column, axes in enumerate(block.subplots(1, SHOWN_DIGITS)):
        axes.set_axis_off()
        if column < len(shown):
            index = shown[column]
            wrong = sorted({int(made.classes[index]) for made in loser.predictions} - {int(labels[index])})
            shares = f"{round(ours[index] * winner.n)}/{winner.n}, {round(theirs[index] * loser.n)}/{loser.n}"
            axes.imshow(images[index], cmap="gray_r")
            text = f"{labels[index]}, not {' or '.join(map(str, wrong))}\n{shares}"
            axes.set_title(text, fontsize=6.5, pad=2)

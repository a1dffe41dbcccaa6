"""Figures without a display, and the confusion matrix: what pictures of a run, a comparison and a search share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..config import NUM_CLASSES
from ..system import replace_atomically


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches, whose parts do not overlap."""
    return Figure(figsize=(width, height), layout="constrained")


def write_figure(figure: Figure, path: Path, dpi: int, metadata: Mapping[str, str] | None = None) -> None:
    """Write a figure as PNG or PDF, with ``dpi`` pixels per inch; ``metadata`` are texts that the file carries."""
    made: dict[str, Any] = {"CreationDate": None, **(metadata or {})}  # no date: equal figures are equal files
    replace_atomically(path, lambda new: figure.savefig(new, dpi=dpi, metadata=made))


def draw_counts(axes: Axes, counts: np.ndarray, font_size: float = 7) -> None:
    """Draw a confusion matrix int (10, 10), label (row) by class (column), its errors shaded; font size in points."""
    errors = counts - np.diag(counts.diagonal())
    axes.imshow(errors, cmap="Blues", vmin=0, vmax=max(int(errors.max()), 1))
    for label in range(NUM_CLASSES):
        for prediction in range(NUM_CLASSES):
            number = int(counts[label, prediction])
            colour = "white" if errors[label, prediction] > 0.6 * errors.max() else "black" if number else "silver"
            axes.text(prediction, label, f"{number}", ha="center", va="center", color=colour, fontsize=font_size)
    axes.set(xticks=range(NUM_CLASSES), yticks=range(NUM_CLASSES), xlabel="prediction", ylabel="label")

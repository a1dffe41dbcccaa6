"""Figures without a display, written so that a file is whole at every moment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..system import replace_atomically


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches, whose parts do not overlap."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_figure(figure: Figure, path: Path, dpi: int, metadata: Mapping[str, str] | None = None) -> None:
    """Write a figure as PNG.

    Args:
        figure: the figure.
        path: the file, which is replaced.
        dpi: pixels per inch.
        metadata: texts that the file carries, by key.

    Raises:
        OSError: the disk is full; the file is as it was.
    """

    def write(new: Path) -> None:
        figure.savefig(new, format="png", dpi=dpi, metadata=dict(metadata or {}))

    replace_atomically(path, write)

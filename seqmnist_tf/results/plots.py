"""The pictures of the results: learning curves, and the headline's model on the test set."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from scipy.special import softmax

from ..compare import layer_name
from ..config import NUM_CLASSES, NUM_TIMESTEPS
from ..data import Split, in_batches, load_test
from ..train import draw_counts, load_final_model, new_figure, score, write_figure
from .records import CELLS_PICTURE, HEADLINE, PERMUTED, PICTURE_FOLDER, Board
from .store import records_digest

DIGEST_KEY = "Source"  # entry of a PNG's metadata: the digest of the records that it shows
DPI = 110
OVERVIEW = ("baseline", "original", "adam", "sgd", HEADLINE, PERMUTED)
UNFOLDING_IMAGES = (0, 4, 30, 582)  # test images: a 7, a 4, a 3, and an 8 with open loops
ACCURACY_TICKS = (0.1, 0.5, 0.9, 0.95, 0.98, 0.99, 0.998)  # of an axis that is stretched towards 1
PIXEL_TICKS = range(0, NUM_TIMESTEPS + 1, 112)  # every four rows of an image
LABELLED_PROBABILITY = 0.25  # a digit is in the legend if its probability ever exceeds this


class ShownModel:
    """The headline's model of the lowest seed. Images are read and the model is run when first needed."""

    def __init__(self, board: Board) -> None:
        self.record = board.records[HEADLINE][0]

    @cached_property
    def test(self) -> Split:
        return load_test(self.record.config, self.record.run.pixel_order())

    @cached_property
    def model(self) -> keras.Sequential:
        return load_final_model(self.record.run)

    @cached_property
    def logits(self) -> np.ndarray:
        """Its logits for the test set, float32 (10000, 10)."""
        return self.model.predict(in_batches(self.test.sequences, self.record.config.test.batch_size), verbose=0)


class Picture(NamedTuple):
    """A picture in ``results/plots/``; ``sources`` are the beginnings of the paths of the record files it shows."""

    file: str
    draw: Callable[[Board, ShownModel], Figure]
    sources: Callable[[Board], tuple[str, ...]]

    @property
    def path(self) -> Path:
        """Its path in the results folder."""
        return Path(PICTURE_FOLDER, self.file)


def draw_pictures(board: Board, folder: Path) -> list[Path]:
    """Draw the pictures that are missing or of other records; return their paths. To draw one anew, remove it."""
    (folder / PICTURE_FOLDER).mkdir(parents=True, exist_ok=True)
    shown = ShownModel(board)
    paths = []
    for picture in outdated_pictures(board, folder):
        paths.append(folder / picture.path)
        metadata = {DIGEST_KEY: records_digest(folder, picture.sources(board))}
        write_figure(picture.draw(board, shown), paths[-1], DPI, metadata)
    return paths


def outdated_pictures(board: Board, folder: Path) -> list[Picture]:
    """Return the pictures that are missing, or not of the records in the folder (the board)."""
    outdated = []
    for picture in PICTURES:
        if picture.file == CELLS_PICTURE and not board.cells():
            continue
        try:
            with Image.open(folder / picture.path) as image:
                shown = image.info.get(DIGEST_KEY, "")
        except OSError:
            shown = ""
        if shown[:16] != records_digest(folder, picture.sources(board)):  # older pictures have a second digest
            outdated.append(picture)
    return outdated


def draw_learning_curves(board: Board, _: ShownModel) -> Figure:
    """Draw training and test loss and accuracy by epoch: of each experiment the mean, and a band over its seeds."""
    figure = new_figure(11, 7)
    panels = figure.subplots(2, 2, sharex=True)
    names = [name for name in OVERVIEW if name in board.records]
    for column, (split, title) in enumerate((("train", "training"), ("test", "test"))):
        for axes, metric, scale in zip(panels[:, column], ("loss", "accuracy"), ("log", "logit"), strict=True):
            highest = ACCURACY_TICKS[-1] if metric == "accuracy" else np.inf
            for number, name in enumerate(names):
                histories = [record.history for record in board.records[name]]
                values = np.minimum([[row[f"{split}_{metric}"] for row in rows] for rows in histories], highest)
                label = name if len(values) == 1 else f"{name} ({len(values)} seeds)"
                epochs, line = range(1, values.shape[1] + 1), {"color": f"C{number}", "label": label}
                axes.plot(epochs, values.mean(axis=0), alpha=0.85, linewidth=1.3, **line)
                if len(values) > 1:
                    low, high = values.min(axis=0), values.max(axis=0)
                    axes.fill_between(epochs, low, high, color=f"C{number}", alpha=0.25, linewidth=0)
            axes.set_title(f"{title} {metric}{', %' if metric == 'accuracy' else ''}", fontsize=11)
            _finish_curves(axes, scale)
    lines, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=3, frameon=False)  # a curve may be anywhere
    return figure


def draw_cells(board: Board, _: ShownModel) -> Figure:
    """Draw the test accuracy by epoch of the board's cells: one panel a cell, one line a seed."""
    cells = board.cells()
    down = -(-len(cells) // 3)
    figure = new_figure(9, 2.6 * down)
    panels = figure.subplots(down, 3, sharey=True, squeeze=False)
    for axes, cell in zip(panels.ravel(), cells, strict=False):
        for record in board.records[cell.name]:
            values = np.minimum(record.curve, ACCURACY_TICKS[-1])
            axes.plot(range(1, len(values) + 1), values, color="C0", alpha=0.6, linewidth=1.2)
        axes.set_title(layer_name(cell.config), fontsize=10)
        _finish_curves(axes, "logit")
    for axes in panels.ravel()[len(cells) :]:
        axes.set_axis_off()
    panels[0, 0].set_ylabel("test accuracy, %")
    return figure


def _finish_curves(axes: Axes, scale: str) -> None:
    """Set grid, scale and ticks; of accuracies (``logit``), which are the lower panels, the label of epochs too."""
    axes.grid(alpha=0.3)
    axes.set_yscale(scale)
    axes.yaxis.set_minor_formatter("")
    axes.yaxis.set_major_formatter("{x:g}")
    if scale == "logit":
        axes.set_yticks(ACCURACY_TICKS, [f"{100 * share:g}" for share in ACCURACY_TICKS])
        axes.set_xlabel("epoch")


def draw_confusion(_: Board, shown: ShownModel) -> Figure:
    """Draw how often each digit is classified as each other."""
    counts = score(shown.logits, shown.test.labels).confusion
    figure = new_figure(6.2, 6)
    axes = figure.subplots()
    draw_counts(axes, counts, font_size=9)
    title = f"{HEADLINE}, seed {shown.record.seed}: {counts.trace():,} of {counts.sum():,} correct"
    axes.set_title(title, fontsize=11)
    return figure


def draw_hardest(_: Board, shown: ShownModel) -> Figure:
    """Draw the test digits whose label gets the lowest probability."""
    across, down = 10, 4
    probabilities, labels = softmax(shown.logits.astype(np.float64), axis=-1), shown.test.labels
    label_probability = probabilities[np.arange(len(labels)), labels]
    hardest = label_probability.argsort(kind="stable")
    figure = new_figure(11, 5.4)
    for axes, index in zip(figure.subplots(down, across).ravel(), hardest, strict=False):
        axes.imshow(shown.test.images[index], cmap="gray_r")
        axes.set_title(f"{labels[index]}, predicted {probabilities[index].argmax()}", fontsize=8, pad=2)
        axes.set_xlabel(f"{100 * label_probability[index]:.1g} % · no. {index}", fontsize=7, labelpad=2)
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


def draw_unfolding(_: Board, shown: ShownModel) -> Figure:
    """Draw the ten probabilities after each pixel of some digits, with the ink shaded beneath."""
    indices = np.array(UNFOLDING_IMAGES)
    lstm, dense = shown.model.layers
    states = keras.layers.RNN(lstm.cell, return_sequences=True)(shown.test.sequences[indices])
    probabilities = softmax(keras.ops.convert_to_numpy(dense(states)).astype(np.float64), axis=-1)  # (n, 784, 10)
    figure = new_figure(11, 1.7 * len(indices))
    panels = figure.subplots(len(indices), 2, width_ratios=(1, 7))
    for (picture, axes), index, by_pixel in zip(panels, indices, probabilities, strict=True):
        picture.imshow(shown.test.images[index], cmap="gray_r")
        picture.set_axis_off()
        ink = shown.test.images[index].reshape(-1)[shown.record.run.pixel_order()] / 255
        axes.fill_between(range(NUM_TIMESTEPS), ink, step="mid", color="0.88", linewidth=0)
        for digit in range(NUM_CLASSES):
            name = str(digit) if by_pixel[:, digit].max() > LABELLED_PROBABILITY else None
            axes.plot(by_pixel[:, digit], color=f"C{digit}", linewidth=1.4, label=name)
        axes.set_xlim(0, NUM_TIMESTEPS - 1)
        axes.set_ylim(0, 1.02)
        axes.set_xticks(PIXEL_TICKS)
        axes.set_ylabel("probability", fontsize=8)
        axes.tick_params(labelsize=8)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc="upper left", fontsize=7, ncols=2, framealpha=0.8)
    panels[-1, 1].set_xlabel("pixels read", fontsize=9)
    return figure


def _model_files(board: Board) -> tuple[str, ...]:
    return (f"{HEADLINE}/seed{board.records[HEADLINE][0].seed}/",)


PICTURES = (
    Picture("learning_curves.png", draw_learning_curves, lambda _: tuple(f"{name}/" for name in OVERVIEW)),
    Picture(CELLS_PICTURE, draw_cells, lambda board: tuple(f"{cell.name}/" for cell in board.cells())),
    Picture("confusion.png", draw_confusion, _model_files),
    Picture("hardest.png", draw_hardest, _model_files),
    Picture("unfolding.png", draw_unfolding, _model_files),
)

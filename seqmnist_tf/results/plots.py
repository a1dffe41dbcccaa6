"""The pictures of the results: learning curves, and the headline's model on the test set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, NullLocator
from PIL import Image
from scipy.special import softmax

from ..compare import cell_name
from ..config import NUM_TIMESTEPS
from ..data import Split, in_batches, load_test
from ..train import draw_counts, load_final_model, new_figure, score, write_figure
from .records import HEADLINE, PICTURE_FOLDER, Record, ResultsFolder
from .store import records_digest
from .tables import compared_cells

DIGEST_KEY = "Source"  # entry of a PNG's metadata: the digest of the records that it shows
DPI = 160
UNFOLDING_IMAGES = (0, 30, 582)  # test images: a 7, a 3, and an 8 with open loops
ACCURACY_TICKS = (0.1, 0.5, 0.9, 0.95, 0.98, 0.99, 0.998)  # of an axis that is stretched towards 1
ERROR_TICKS = (0.1, 0.05, 0.04, 0.03, 0.02, 0.015, 0.01, 0.008, 0.007, 0.006, 0.005)
PIXEL_TICKS = range(0, NUM_TIMESTEPS + 1, 196)  # every seven rows of an image
LABELLED_ABOVE = 25  # percent: a curve that ever exceeds it has its digit at its peak
DIGIT_COLOURS = (  # of the live page, serve/web/style.css
    *("#1d66b5", "#b84a00", "#1a7a3c", "#c01f2e", "#7a30c9", "#7b4a2a", "#bb1c86", "#4d5866", "#7a6a00", "#00767f"),
)


class ShownModel:
    """The headline's model of the lowest seed. Images are read and the model is run when first needed."""

    def __init__(self, results: ResultsFolder) -> None:
        self.record = results.records[HEADLINE][0]

    @cached_property
    def test(self) -> Split:
        return load_test(self.record.config, self.record.directory.pixel_order())

    @cached_property
    def model(self) -> keras.Sequential:
        return load_final_model(self.record.directory)

    @cached_property
    def logits(self) -> np.ndarray:
        """Its logits for the test set, float32 (10000, 10)."""
        return self.model.predict(in_batches(self.test.sequences, self.record.config.test.batch_size), verbose=0)


class Picture(NamedTuple):
    """A picture in ``results/plots/``; ``sources`` are the beginnings of the paths of the record files it shows."""

    file: str
    draw: Callable[[ResultsFolder, ShownModel], Figure]
    sources: Callable[[ResultsFolder], tuple[str, ...]]

    @property
    def path(self) -> Path:
        """Its path in the results folder."""
        return Path(PICTURE_FOLDER, self.file)


def draw_pictures(results: ResultsFolder, folder: Path) -> list[Path]:
    """Draw the pictures that are missing or of other records; return their paths. To draw one anew, remove it."""
    (folder / PICTURE_FOLDER).mkdir(parents=True, exist_ok=True)
    shown = ShownModel(results)
    paths = []
    for picture in outdated_pictures(results, folder):
        paths.append(folder / picture.path)
        metadata = {DIGEST_KEY: records_digest(folder, picture.sources(results))}
        write_figure(picture.draw(results, shown), paths[-1], DPI, metadata)
    return paths


def outdated_pictures(results: ResultsFolder, folder: Path) -> list[Picture]:
    """Return the pictures that are missing, or not of the records in the folder."""
    outdated = []
    for picture in PICTURES:
        sources = picture.sources(results)
        if not sources:  # a picture of boards, none of which has a cell
            continue
        try:
            with Image.open(folder / picture.path) as image:
                shown = image.info.get(DIGEST_KEY, "")
        except OSError:
            shown = ""
        if shown != records_digest(folder, sources):
            outdated.append(picture)
    return outdated


def draw_learning_curves(results: ResultsFolder, _: ShownModel) -> Figure:
    """Draw the test accuracy of the presets by epoch."""
    return _draw_curves({name: results.records[name] for name in results.contents.learning_curves})


def draw_cell_curves(results: ResultsFolder, _: ShownModel) -> Figure:
    """Draw the test accuracy of the boards' cells by epoch."""
    titles: dict[str, list[Record]] = {}
    for board in results.contents.boards:
        for cell in compared_cells(results, board):
            titles[f"{cell_name(cell.runs.config)}, {board.task}"] = results.records[cell.row.records]
    return _draw_curves(titles)


def _draw_curves(experiments: Mapping[str, Sequence[Record]]) -> Figure:
    """Draw a panel for each experiment, with a line for each seed; that of the median result is strong."""
    across = min(3, len(experiments))
    down = -(-len(experiments) // across)
    figure = new_figure(3.2 * across, 2.6 * down)
    panels = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
    for axes in panels[len(experiments) :]:
        axes.set_axis_off()
    for axes, (title, records) in zip(panels, experiments.items(), strict=False):
        by_accuracy = sorted(records, key=lambda record: record.accuracy)
        median = by_accuracy[(len(by_accuracy) - 1) // 2]
        for record in records:
            values = np.minimum(record.curve, ACCURACY_TICKS[-1])
            style = {"alpha": 1.0, "linewidth": 1.8} if record is median else {"alpha": 0.35, "linewidth": 0.9}
            axes.plot(range(1, len(values) + 1), values, color="C0", **style)
        axes.set_title(f"{title}, {len(records)} seeds", fontsize=11)
        axes.grid(alpha=0.3)
        axes.set_yscale("logit")
        axes.yaxis.set_minor_formatter("")
        axes.set_yticks(ACCURACY_TICKS, [f"{100 * share:g}" for share in ACCURACY_TICKS])
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    figure.supylabel("test accuracy, % (logit scale)", fontsize=11)
    figure.supxlabel("epoch", fontsize=11)
    return figure


def draw_cells(results: ResultsFolder, _: ShownModel) -> Figure:
    """Draw each seed's final accuracy, mean and interval of the boards' cells: a panel a task, the best cell on top."""
    boards = [board for board in results.contents.boards if board.cells]
    heights = [len(board.cells) for board in boards]
    figure = new_figure(7, 1.1 + 0.45 * sum(heights) + 0.6 * len(boards))
    panels = figure.subplots(len(boards), 1, squeeze=False, height_ratios=heights).ravel()
    for axes, board in zip(panels, boards, strict=True):
        cells = compared_cells(results, board)
        for place, cell in enumerate(cells):
            errors = [1 - accuracy for accuracy in cell.runs.test_accuracy]
            axes.plot(errors, [place] * len(errors), "o", color="C0", alpha=0.45, markersize=6, markeredgewidth=0)
            if cell.runs.ci_95:
                low, high = cell.runs.ci_95
                axes.plot([1 - low, 1 - high], [place, place], color="black", linewidth=1.4)
            axes.plot([1 - cell.runs.mean], [place], "|", color="black", markersize=14, markeredgewidth=2)
        axes.set_title(f"{board.task}, {cells[0].runs.config.train.n_epochs} epochs", fontsize=11)
        axes.set_yticks(range(len(cells)), [cell_name(cell.runs.config) for cell in cells])
        axes.set_ylim(len(cells) - 0.5, -0.5)
        # Errors on a logarithmic scale, so that 0.1 points show at 99 % and a seed that fell is still in the picture.
        axes.set_xscale("log")
        axes.invert_xaxis()
        low, high = sorted(axes.get_xlim())
        ticks = [tick for tick in ERROR_TICKS if low <= tick <= high]
        axes.set_xticks(ticks, [f"{100 * (1 - tick):g}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(axis="x", alpha=0.3)
    panels[-1].set_xlabel("test accuracy, % (logarithmic scale of the error)", fontsize=11)
    return figure


def draw_confusion(_: ResultsFolder, shown: ShownModel) -> Figure:
    """Draw how often each digit is classified as each other."""
    counts = score(shown.logits, shown.test.labels).confusion
    figure = new_figure(6.2, 6)
    axes = figure.subplots()
    draw_counts(axes, counts, font_size=9)
    title = f"{HEADLINE}, seed {shown.record.seed}: {counts.trace():,} of {counts.sum():,} correct (colour: errors)"
    axes.set_title(title, fontsize=11)
    return figure


def draw_hardest(_: ResultsFolder, shown: ShownModel) -> Figure:
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


def draw_unfolding(_: ResultsFolder, shown: ShownModel) -> Figure:
    """Draw the ten probabilities after each pixel of some digits, over a strip of the pixels."""
    indices = np.array(UNFOLDING_IMAGES)
    lstm, dense = shown.model.layers
    states = keras.layers.RNN(lstm.cell, return_sequences=True)(shown.test.sequences[indices])
    probabilities = softmax(keras.ops.convert_to_numpy(dense(states)).astype(np.float64), axis=-1)  # (n, 784, 10)
    figure = new_figure(6.5, 1.8 * len(indices))
    panels = figure.subplots(len(indices), 2, width_ratios=(1, 5))
    for (picture, axes), index, by_pixel in zip(panels, indices, 100 * probabilities, strict=True):
        picture.imshow(shown.test.images[index], cmap="gray")
        picture.set_axis_off()
        pixels = shown.test.images[index].reshape(-1)[shown.record.directory.pixel_order()]
        axes.imshow(pixels[None], cmap="gray", aspect="auto", extent=(0, NUM_TIMESTEPS, -14, -4))
        style: dict[str, Any] = {
            "fontsize": 12,
            "weight": "bold",
            "path_effects": [withStroke(linewidth=3, foreground="w")],
        }
        placed: list[tuple[float, float]] = []
        for digit in by_pixel.max(axis=0).argsort()[::-1]:
            curve, colour = by_pixel[:, digit], DIGIT_COLOURS[digit]
            axes.plot(range(1, NUM_TIMESTEPS + 1), curve, color=colour, linewidth=1.6)
            x, y = int(curve.argmax()) + 1, float(curve.max())
            if curve[-1] == by_pixel[-1].max():  # the answer
                axes.text(NUM_TIMESTEPS + 8, y, str(digit), color=colour, va="center", **style)
            elif y > LABELLED_ABOVE and all(abs(x - a) > 30 or abs(y - b) > 15 for a, b in placed):
                axes.text(x, y + 2, str(digit), color=colour, ha="center", **style)
                placed.append((x, y))
        axes.set(xlim=(0, NUM_TIMESTEPS), ylim=(-16, 104), xticks=PIXEL_TICKS, yticks=(0, 50, 100))
        axes.set_yticklabels(("0 %", "50 %", "100 %"))
        axes.tick_params(labelsize=11)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1, 1].set_xlabel("pixels read", fontsize=12)
    return figure


def _model_files(results: ResultsFolder) -> tuple[str, ...]:
    return (f"{HEADLINE}/seed{results.records[HEADLINE][0].seed}/",)


def _curve_files(results: ResultsFolder) -> tuple[str, ...]:
    return tuple(f"{name}/" for name in results.contents.learning_curves)


def _cell_files(results: ResultsFolder) -> tuple[str, ...]:
    return tuple(f"{row.records}/" for board in results.contents.boards for row in board.cells)


PICTURES = (
    Picture("learning_curves.png", draw_learning_curves, _curve_files),
    Picture("cells.png", draw_cells, _cell_files),
    Picture("cell_curves.png", draw_cell_curves, _cell_files),
    Picture("confusion.png", draw_confusion, _model_files),
    Picture("hardest.png", draw_hardest, _model_files),
    Picture("unfolding.png", draw_unfolding, _model_files),
)

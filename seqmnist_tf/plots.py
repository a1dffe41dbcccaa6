"""The pictures of the results: learning curves, and what the final model of one run reads right, wrong, and when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import data, evaluate, records, runtime
from .config import NUM_CLASSES, NUM_TIMESTEPS
from .errors import InputError
from .records import Record
from .tables import HEADLINE, Board

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOLDER = "plots"
SOURCE = "Source"  # the entry of a PNG's own text that says which records it shows
DPI = 110
OVERVIEW = ("baseline", "adam", "sgd", HEADLINE)
UNFOLDING = (0, 4, 30, 582)  # test images: a 7, a 4, a 3, and an 8 whose loops are open
ACCURACIES = (0.1, 0.5, 0.9, 0.95, 0.98, 0.99, 0.998)  # marked on the axis, which is spread out towards 1
SIDE = 28


def draw(board: Board, folder: Path) -> None:
    """Draw every picture whose records are not those that it shows already.

    Raises:
        InputError: there is no record of the model that they show.
        OSError: a picture cannot be written.
    """
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    stale = [name for name in PICTURES if shown_digest(folder / FOLDER / name) != wanted_digest(folder, name)]
    if not stale:
        return
    shown = Shown(board)
    for name in stale:
        figure = PICTURES[name][0](board, shown)
        figure.savefig(folder / FOLDER / name, dpi=DPI, metadata={SOURCE: wanted_digest(folder, name)})


def differences(folder: Path) -> list[str]:
    """Return which pictures are missing or show other records than those in the folder."""
    return [
        f"{folder / FOLDER / name} shows other records (python -m seqmnist_tf.results draws it anew)"
        for name in PICTURES
        if shown_digest(folder / FOLDER / name) != wanted_digest(folder, name)
    ]


def shown_digest(path: Path) -> str | None:
    """Return the digest of the records that a picture shows, None where there is none."""
    from PIL import Image, PngImagePlugin, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.text.get(SOURCE) if isinstance(image, PngImagePlugin.PngImageFile) else None
    except (OSError, UnidentifiedImageError):
        return None


def wanted_digest(folder: Path, name: str) -> str:
    """Return the digest of the records that a picture has to show."""
    return records.digest(folder, PICTURES[name][1])


class Shown:
    """The model that pictures show, seed 0 of the headline's, on the test set; computed when first asked for."""

    def __init__(self, board: Board) -> None:
        if HEADLINE not in board.records:
            raise InputError(f"there is no record of {HEADLINE}, which the pictures show (results add RUN_DIR --name)")
        self.record: Record = board.records[HEADLINE][0]
        self._test: data.Split | None = None
        self._logits: np.ndarray | None = None

    @property
    def test(self) -> data.Split:
        """The test set."""
        if self._test is None:
            runtime.start_tensorflow()
            self._test = data.load_test(self.record.config, self.record.run.pixel_order())
        return self._test

    @property
    def logits(self) -> np.ndarray:
        """What the model gives for the test set, float32 (10000, 10)."""
        if self._logits is None:
            sequences = data.in_batches(self.test.sequences, self.record.config.test.batch_size)
            self._logits = self.record.run.load_model().predict(sequences, verbose=0)
        return self._logits

    def unfolding(self, indices: np.ndarray) -> np.ndarray:
        """Return probabilities after each pixel, float (n, 784, 10), of some test images."""
        import keras

        lstm, dense = self.record.run.load_model().layers
        states = keras.layers.RNN(lstm.cell, return_sequences=True)(self.test.sequences[indices])
        return _softmax(keras.ops.convert_to_numpy(dense(states)))


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def learning_curves(board: Board, _: Shown) -> Figure:
    """Train and test loss and accuracy by epoch, a colour an experiment, a line a seed."""
    figure = _figure(11, 7)
    panels = figure.subplots(2, 2, sharex=True)
    shown = [name for name in OVERVIEW if name in board.records]
    for column, split in enumerate(("train", "test")):
        for row, what in enumerate(("loss", "accuracy")):
            axes: Axes = panels[row][column]
            for number, name in enumerate(shown):
                for seed, record in enumerate(board.records[name]):
                    epochs = [row["epoch"] for row in record.history]
                    values = [row[f"{split}_{what}"] for row in record.history]
                    if what == "accuracy":
                        values = [min(value, ACCURACIES[-1]) for value in values]
                    label = name if seed == 0 else None
                    axes.plot(epochs, values, color=f"C{number}", alpha=0.85, linewidth=1.3, label=label)
            axes.set_title(f"{'training' if split == 'train' else 'test'} {what}{', %' if row else ''}", fontsize=11)
            axes.grid(alpha=0.3)
            axes.set_yscale("logit" if row else "log")
            axes.yaxis.set_minor_formatter("")
            axes.yaxis.set_major_formatter("{x:g}")
        panels[1][column].set_yticks(ACCURACIES, [f"{100 * share:g}" for share in ACCURACIES])
        panels[1][column].set_xlabel("epoch")
    panels[0][0].legend()
    return figure


def confusion(board: Board, shown: Shown) -> Figure:
    """How often each digit is read as each other."""
    counts = evaluate.score(shown.logits, shown.test.labels).confusion
    figure = _figure(6.2, 6)
    axes = figure.subplots()
    wrong = counts - np.diag(counts.diagonal())
    axes.imshow(wrong, cmap="Blues", vmin=0, vmax=max(wrong.max(), 1))
    for label in range(NUM_CLASSES):
        for read in range(NUM_CLASSES):
            number = counts[label, read]
            colour = "white" if wrong[label, read] > 0.6 * wrong.max() else "black" if number else "silver"
            axes.text(read, label, f"{number}", ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(NUM_CLASSES))
    axes.set_yticks(range(NUM_CLASSES))
    axes.set_xlabel("read as")
    axes.set_ylabel("label")
    right = counts.trace()
    axes.set_title(f"{HEADLINE}, seed {shown.record.seed}: {right:,} right of {counts.sum():,}", fontsize=11)
    return figure


def hardest(board: Board, shown: Shown) -> Figure:
    """The test digits to whose label the model gives the least probability."""
    across, down = 10, 4
    probabilities = _softmax(shown.logits)
    of_label = probabilities[np.arange(len(shown.test)), shown.test.labels]
    figure = _figure(11, 5.4)
    for axes, index in zip(figure.subplots(down, across).ravel(), of_label.argsort(kind="stable"), strict=False):
        read = probabilities[index].argmax()
        axes.imshow(shown.test.images[index], cmap="gray_r")
        axes.set_title(f"{shown.test.labels[index]}, read as {read}", fontsize=8, pad=2)
        axes.set_xlabel(f"{100 * of_label[index]:.1g} % · no. {index}", fontsize=7, labelpad=2)
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


def unfolding(board: Board, shown: Shown) -> Figure:
    """The ten probabilities after each pixel of some digits; the ink that comes is shaded beneath."""
    indices = np.array(UNFOLDING)
    probabilities = shown.unfolding(indices)
    figure = _figure(11, 1.7 * len(indices))
    panels = figure.subplots(len(indices), 2, width_ratios=(1, 7))
    for number, (index, by_pixel) in enumerate(zip(indices, probabilities, strict=True)):
        picture, axes = panels[number]
        picture.imshow(shown.test.images[index], cmap="gray_r")
        picture.set_axis_off()
        ink = shown.test.images[index].reshape(-1)[shown.record.run.pixel_order()] / 255
        axes.fill_between(range(NUM_TIMESTEPS), ink, step="mid", color="0.88", linewidth=0)
        for digit in range(NUM_CLASSES):
            name = str(digit) if by_pixel[:, digit].max() > 0.25 else None
            axes.plot(by_pixel[:, digit], color=f"C{digit}", linewidth=1.4, label=name)
        axes.set_xlim(0, NUM_TIMESTEPS - 1)
        axes.set_ylim(0, 1.02)
        axes.set_xticks(range(0, NUM_TIMESTEPS + 1, 4 * SIDE))
        axes.set_ylabel("probability", fontsize=8)
        axes.tick_params(labelsize=8)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc="upper left", fontsize=7, ncols=2, framealpha=0.8)
    panels[-1][1].set_xlabel("pixels read", fontsize=9)
    return figure


_OF_MODEL = (f"{HEADLINE}/seed0/",)
PICTURES: dict[str, tuple[Callable[[Board, Shown], Any], tuple[str, ...]]] = {
    "learning_curves.png": (learning_curves, tuple(f"{name}/" for name in OVERVIEW)),
    "confusion.png": (confusion, _OF_MODEL),
    "hardest.png": (hardest, _OF_MODEL),
    "unfolding.png": (unfolding, _OF_MODEL),
}

"""From ink to MNIST's form: strokes without noise, scaled to a 20x20 box, centred by mass in 28x28."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

IMAGE_SIDE, BOX = 28, 20
CENTRE = 14  # the row and the column of the pixel that contains the centre of mass of a digit of MNIST
SPECK = 0.03  # smaller pieces of ink, relative to the area of the largest, are removed
FINE = 8  # strokes are thickened at this many times the final resolution
MIN_STROKE, STROKE = 1.5, 2.5  # pixels of the 20x20 box: strokes thinner than the first are thickened to the second
NOISE = 4.0  # standard deviations above the background that count as background
# Fainter ink, relative to full ink, is noise of compression; in a small picture it is the edges of strokes, and stays.
FAINT = 0.1


def strokes(ink: np.ndarray) -> np.ndarray:
    """Return ink with strokes at 1, and background, noise and specks at 0."""
    threshold = _otsu(ink)
    full = float(np.percentile(ink[ink >= threshold], 90))
    middle, upper = np.percentile(np.append(ink[ink < threshold], 0), (50, 75))
    noise = middle + NOISE * (upper - middle) / 0.6745  # 0.6745: the upper quartile of a standard normal distribution
    low = min(max(noise, FAINT * full if max(ink.shape) > 2 * IMAGE_SIDE else 0), 0.9 * full)
    pieces, count = ndimage.label(ink > low, structure=np.ones((3, 3)))
    areas = np.bincount(pieces.ravel(), minlength=count + 1)
    areas[0] = 0
    digit = np.isin(pieces, np.flatnonzero(areas >= SPECK * areas.max()))
    return np.where(digit, np.clip((ink - low) / (full - low), 0, 1), 0)


def separability(ink: np.ndarray) -> float:
    """Return how well a threshold separates ink from background, 0 to 1: the share of the variance between the two."""
    threshold = _otsu(ink)
    low, high = ink[ink < threshold], ink[ink >= threshold]
    if not len(low) or not len(high):
        return 1.0
    between = len(low) * len(high) / ink.size**2 * (high.mean() - low.mean()) ** 2
    return float(between / ink.var())


def _otsu(ink: np.ndarray) -> float:
    """Return the threshold that separates background from ink best: the largest variance between them (Otsu 1979)."""
    counts, edges = np.histogram(ink, 256, range=(0, float(ink.max())))
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = ink.size - below
    sums = np.cumsum(counts * middles)
    means_below, means_above = sums[:-1] / np.maximum(below, 1), (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    return float(edges[1:-1][np.argmax(below * above * (means_above - means_below) ** 2)])


def in_box(digit: np.ndarray) -> np.ndarray:
    """Return a digit scaled to the 20x20 box with thin strokes thickened, float (height, width), 0 to 1."""
    if max(digit.shape) == BOX:
        return digit
    scale = BOX / max(digit.shape)
    height, width = (max(1, round(side * scale)) for side in digit.shape)
    fine = Image.fromarray(digit.astype(np.float32)).resize((FINE * width, FINE * height), Image.Resampling.BICUBIC)
    values = np.clip(np.asarray(fine), 0, None)
    values /= values.max()
    stroke = _stroke_width(values > 0.5) / FINE
    if stroke < MIN_STROKE:
        # Thickening makes the whole digit larger, so that it is scaled down first to fit its box.
        reach = round((STROKE - stroke) / 2 * FINE)
        inner = fine.resize((max(1, fine.width - 2 * reach), max(1, fine.height - 2 * reach)), Image.Resampling.BICUBIC)
        values = ndimage.maximum_filter(np.pad(np.asarray(inner), reach), footprint=_disc(reach))
        values = np.clip(values[: FINE * height, : FINE * width], 0, None)
    blocks = values.reshape(height, FINE, width, FINE).mean(axis=(1, 3))
    return np.minimum(blocks / np.percentile(blocks, 95), 1) if blocks.max() > 0 else blocks


def _disc(radius: int) -> np.ndarray:
    """Return a disc, bool (2 radius + 1, 2 radius + 1)."""
    across = np.arange(-radius, radius + 1) ** 2
    return across[:, None] + across <= radius**2


def _stroke_width(strokes: np.ndarray) -> float:
    """Return the mean width of strokes, bool (height, width): twice their area over the length of their outline."""
    padded = np.pad(strokes, 1)
    outline = sum(int((padded != np.roll(padded, 1, axis)).sum()) for axis in (0, 1))
    return (
        2 * float(strokes.sum()) / max(outline * np.pi / 4, 1.0)
    )  # pi / 4: the steps of a slanting outline are longer than the line


def centred(digit: np.ndarray) -> np.ndarray:
    """Return a digit of at most 20x20, 0 to 1, centred by mass, to whole pixels, as an image uint8 (28, 28)."""
    height, width = digit.shape
    corner = [round(CENTRE - centre) for centre in centre_of_mass(digit)]
    top, left = (min(max(at, 0), IMAGE_SIDE - side) for at, side in zip(corner, (height, width), strict=True))
    image = np.zeros((IMAGE_SIDE, IMAGE_SIDE))
    image[top : top + height, left : left + width] = digit
    return np.rint(image * 255).astype(np.uint8)


def centre_of_mass(ink: np.ndarray) -> tuple[float, float]:
    """Return the row and the column of the centre of mass."""
    row, column = (ink.sum(axis=1 - axis) @ np.arange(ink.shape[axis]) / ink.sum() for axis in (0, 1))
    return float(row), float(column)

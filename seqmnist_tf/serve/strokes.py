"""From ink to MNIST's form: strokes without noise, the digits among them, a 20x20 box, centred by mass in 28x28."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.measure import label, regionprops
from skimage.morphology import disk

from .ink import Ink, otsu, separability, without_lines
from .versions import IMAGE_SIDE

BOX = 20
CENTRE = 14  # the row and the column of the pixel that contains the centre of mass of a digit of MNIST
# Blank paper: a separability of up to 0.73, or hundreds of pieces; nearly all digits: more than 0.8, and up to three.
GRAIN, MIN_SEPARABILITY, MAX_PIECES = 32, 0.75, 30  # a plain picture with more contrast than GRAIN has no grain
MIN_DIGIT = 0.1  # of the picture's longer side: the height or width of a digit that stands free of the picture's edge
SPECK = 0.03  # smaller pieces of ink, relative to the area of the largest, are removed
FINE = 8  # strokes are thickened at this many times the final resolution
MIN_STROKE, STROKE = 1.5, 2.5  # pixels of the 20x20 box: strokes thinner than the first are thickened to the second
NOISE = 4.0  # standard deviations above the background that count as background
# Fainter ink, relative to full ink, is noise of compression; in a small picture it is the edges of strokes, and stays.
FAINT = 0.1
# Strokes of one digit may stand apart (a 5 with its bar, a 4 of two lines); two digits have a gap between them.
MIN_GAP = 0.2  # columns without ink between two digits, relative to the height of the tallest stroke
MIN_HEIGHT = 0.4  # of a digit, relative to the tallest; a lower group of strokes is a comma, a dash or noise


def strokes(ink: Ink) -> np.ndarray:
    """Return ink with strokes at 1, and background, noise, printed lines and specks at 0; all 0 without a digit."""
    low, _ = _range(ink.values)
    values = without_lines(ink.values, low)
    nothing = np.zeros_like(values)
    if not (values > low).any():
        return nothing
    if (values.max() < GRAIN or ink.is_local) and separability(values) < MIN_SEPARABILITY:
        return nothing
    above, full = _range(values)
    low = min(max(low, above), 0.9 * full)
    pieces = label(values > low, connectivity=2)
    kept = _pieces_of_digits(regionprops(pieces), values.shape, ink.is_local)
    if len(kept) > MAX_PIECES:
        return nothing
    return np.where(np.isin(pieces, kept), np.clip((values - low) / (full - low), 0, 1), 0)


def _range(ink: np.ndarray) -> tuple[float, float]:
    """Return the levels at which ink begins, and at which it is full."""
    threshold = otsu(ink)
    above = ink[ink > threshold]
    full = float(np.percentile(above if above.size else ink, 90))
    middle, upper = np.percentile(np.append(ink[ink <= threshold], 0), (50, 75))
    noise = middle + NOISE * (upper - middle) / 0.6745  # 0.6745: the upper quartile of a standard normal distribution
    return min(max(noise, FAINT * full if max(ink.shape) > 2 * IMAGE_SIDE else 0), 0.9 * full), full


def _pieces_of_digits(pieces: list[Any], shape: tuple[int, ...], is_photograph: bool) -> list[int]:
    """Return the labels of the pieces that are large enough, without what the picture's edge cuts off."""
    edge: list[Any] = []
    inner: list[Any] = []
    for piece in pieces:
        (edge if _is_at_edge(piece.bbox, shape) else inner).append(piece)
    largest = max((max(_sides(piece)) for piece in inner), default=0)
    if is_photograph:
        pieces = inner
    elif largest >= MIN_DIGIT * max(shape):  # a larger piece at the edge is the digit itself, a lower one is not
        pieces = inner + [piece for piece in edge if min(_sides(piece)) > largest]
    area = max((piece.area for piece in pieces), default=0)
    return [piece.label for piece in pieces if piece.area >= SPECK * area]


def _sides(piece: Any) -> tuple[int, int]:
    top, left, bottom, right = piece.bbox
    return bottom - top, right - left


def _is_at_edge(box: tuple[int, int, int, int], shape: tuple[int, ...]) -> bool:
    return min(box[:2]) == 0 or box[2] == shape[0] or box[3] == shape[1]


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
        values = ndimage.maximum_filter(np.pad(np.asarray(inner), reach), footprint=disk(reach, dtype=bool))
        values = np.clip(values[: FINE * height, : FINE * width], 0, None)
    blocks = values.reshape(height, FINE, width, FINE).mean(axis=(1, 3))
    full = np.percentile(blocks, 95) or blocks.max()  # two blots far apart may leave less than 5 % of it with ink
    return np.minimum(blocks / full, 1) if full > 0 else blocks


def _stroke_width(strokes: np.ndarray) -> float:
    """Return the mean width of strokes, bool (height, width): twice their area over the length of their outline."""
    padded = np.pad(strokes, 1)
    outline = sum(int((padded != np.roll(padded, 1, axis)).sum()) for axis in (0, 1))
    # pi / 4: the steps of a slanting outline are longer than the line.
    return 2 * float(strokes.sum()) / max(outline * np.pi / 4, 1.0)


def centred(digit: np.ndarray) -> np.ndarray:
    """Return a digit of at most 20x20, 0 to 1, centred by mass, to whole pixels, as an image uint8 (28, 28)."""
    height, width = digit.shape
    corner = [round(CENTRE - centre) for centre in ndimage.center_of_mass(digit)]
    top, left = (min(max(at, 0), IMAGE_SIDE - side) for at, side in zip(corner, (height, width), strict=True))
    image = np.zeros((IMAGE_SIDE, IMAGE_SIDE))
    image[top : top + height, left : left + width] = digit
    return np.rint(image * 255).astype(np.uint8)


def find_digits(strokes: np.ndarray) -> list[tuple[slice, slice]]:
    """Return the places of the digits that stand side by side, the largest first: at least one, if there is any ink.

    A place has a slice of rows and one of columns. A lone digit's holds all strokes; with several, commas, dashes and
    noise between them are in none.
    """
    pieces = regionprops(label(strokes > 0, connectivity=2))
    tallest = max((_sides(piece)[0] for piece in pieces), default=0)
    columns = np.flatnonzero(strokes.any(axis=0))
    groups = np.zeros(strokes.shape[1], int)  # of each column: 1, 2 and so on; 0 without ink
    groups[columns] = 1 + np.cumsum(np.diff(columns, prepend=columns[:1]) - 1 >= MIN_GAP * tallest)
    places = ndimage.find_objects(np.where(strokes > 0, groups, 0))
    heights = [rows.stop - rows.start for rows, _ in places]
    digits = [place for place, height in zip(places, heights, strict=True) if height >= MIN_HEIGHT * max(heights)]
    if len(digits) == 1:
        digits = ndimage.find_objects((strokes > 0).astype(int))
    return sorted(digits, key=lambda digit: -strokes[digit].size)

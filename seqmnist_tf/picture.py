"""Any picture of a digit in MNIST's form: 28x28, the digit light on dark, in a 20x20 box, centred by mass."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage

from .errors import InputError

SIDE, BOX = 28, 20
CENTRE = 14  # the pixel that each MNIST digit's centre of mass lies in, across and down
MAX_PIXELS = 100_000_000
WORKING_SIDE = 256  # larger pictures are reduced to this first, which also averages noise
SPECK = 0.03  # of the area of the largest piece of ink: smaller pieces are specks
FINE = 8  # strokes are thickened in a box this many times as large
MIN_STROKE, STROKE = 1.5, 2.5  # in pixels of the 20x20 box: thinner strokes are thickened to so much
MIN_CONTRAST = 12  # of 255; below it the picture is a blank one
NOISE = 4.0  # standard deviations above the background that count as background
FAINT = 0.1  # of full ink: what compression leaves beside strokes; in a small picture it is their edges
SHADES = " .:-=+*#%@"


def read(file: Path | IO[bytes], name: str = "") -> np.ndarray:
    """Read a picture in any format that Pillow knows and return it in MNIST's form, uint8 (28, 28).

    Args:
        file: a path, or a binary file.
        name: what to call it in errors; a path's own by default.

    Raises:
        InputError: it cannot be read, is no picture, is too large, or shows nothing.
    """
    name = name or str(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata, and about sizes that are refused below
            with Image.open(file) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    size = f"{picture.width}x{picture.height}"
                    raise InputError(f"{name} has {size} pixels (at most {MAX_PIXELS:,} are read)")
                return to_mnist(ImageOps.exif_transpose(picture))
    except (UnidentifiedImageError, Image.DecompressionBombError):
        raise InputError(f"{name} is no picture that can be read (give a PNG, JPEG, GIF, BMP, TIFF or WebP)") from None
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        # Pillow's readers raise any of these where a file is cut off or damaged.
        raise InputError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from None


def to_mnist(picture: Image.Image) -> np.ndarray:
    """Return a picture in MNIST's form, uint8 (28, 28), 255 for ink.

    Ink is what differs from the background, whose colour is the median of the picture's edge; so the digit may be dark
    on light, light on dark, or of any colours. Transparent parts count as white under dark digits and as black under
    light ones. A picture that has MNIST's form already is returned as it is.

    Raises:
        InputError: the picture shows nothing.
    """
    ink = _ink(picture)
    if ink.max() < MIN_CONTRAST:
        raise InputError("the picture shows nothing: it is all of one colour (give a digit on a plain background)")
    if _is_mnist(ink):
        return ink.astype(np.uint8)
    ink = _strokes(ink)
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return _centred(_in_box(digit))


def to_text(image: np.ndarray) -> str:
    """Return an image uint8 (28, 28) as 28 lines of characters, two for a pixel."""
    shades = np.array(list(SHADES))[image.astype(int) * len(SHADES) // 256]
    return "\n".join("".join(shade * 2 for shade in row).rstrip() for row in shades)


def _ink(picture: Image.Image) -> np.ndarray:
    """Return how far each pixel's colour is from the background's, float (height, width), 0 to 255."""
    if picture.mode.startswith(("I", "F")):  # more than eight bits
        values = np.asarray(picture, np.float64)
        low, high = values.min(), values.max()
        picture = Image.fromarray(((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8))
    picture = picture.convert("RGBA")
    picture.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
    pixels = np.asarray(picture, np.float64)
    colours, opacity = pixels[..., :3], pixels[..., 3:] / 255
    visible = float((colours * opacity).sum() / max(3 * opacity.sum(), 1e-9))
    colours = colours * opacity + (255 if visible < 128 else 0) * (1 - opacity)
    edge = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
    return np.abs(colours - np.median(edge, axis=0)).max(axis=2)


def _is_mnist(ink: np.ndarray) -> bool:
    if ink.shape != (SIDE, SIDE):
        return False
    extents = [np.ptp(np.flatnonzero(ink.any(axis=axis))) + 1 for axis in (0, 1)]
    return bool(max(extents) <= BOX) and all(round(centre) == CENTRE for centre in _centre_of_mass(ink))


def _strokes(ink: np.ndarray) -> np.ndarray:
    """Return ink with the background and specks at 0 and strokes at 1."""
    threshold = _otsu(ink)
    full = float(np.percentile(ink[ink >= threshold], 90))
    middle, upper = np.percentile(np.append(ink[ink < threshold], 0), (50, 75))
    noise = middle + NOISE * (upper - middle) / 0.6745  # where a normal distribution has its upper quartile
    low = min(max(noise, FAINT * full if max(ink.shape) > 2 * SIDE else 0), 0.9 * full)
    pieces, count = ndimage.label(ink > low, structure=np.ones((3, 3)))
    areas = np.bincount(pieces.ravel(), minlength=count + 1)
    areas[0] = 0
    digit = np.isin(pieces, np.flatnonzero(areas >= SPECK * areas.max()))
    return np.where(digit, np.clip((ink - low) / (full - low), 0, 1), 0)


def _otsu(ink: np.ndarray) -> float:
    """Return the threshold that parts the values best in two (Otsu 1979)."""
    counts, edges = np.histogram(ink, 256, range=(0, float(ink.max())))
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = ink.size - below
    sums = np.cumsum(counts * middles)
    means_below, means_above = sums[:-1] / np.maximum(below, 1), (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    return float(edges[1:-1][np.argmax(below * above * (means_above - means_below) ** 2)])


def _in_box(digit: np.ndarray) -> np.ndarray:
    """Return a digit scaled to the 20x20 box, float (height, width), 0 to 1, its thin strokes thickened."""
    if max(digit.shape) == BOX:
        return digit
    scale = BOX / max(digit.shape)
    height, width = (max(1, round(side * scale)) for side in digit.shape)
    fine = Image.fromarray(digit.astype(np.float32)).resize((FINE * width, FINE * height), Image.Resampling.BICUBIC)
    values = np.clip(np.asarray(fine), 0, None)
    values /= values.max()
    stroke = _stroke_width(values > 0.5) / FINE
    if stroke < MIN_STROKE:
        # The digit grows by as much as its strokes: it is made smaller first, and fills its box again.
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
    return 2 * float(strokes.sum()) / max(outline * np.pi / 4, 1.0)  # a slanting outline is counted as its steps


def _centred(digit: np.ndarray) -> np.ndarray:
    """Return a digit of at most 20x20, 0 to 1, in the 28x28 field, moved by whole pixels."""
    height, width = digit.shape
    corner = [round(CENTRE - centre) for centre in _centre_of_mass(digit)]
    top, left = (min(max(at, 0), SIDE - side) for at, side in zip(corner, (height, width), strict=True))
    field = np.zeros((SIDE, SIDE))
    field[top : top + height, left : left + width] = digit
    return np.rint(field * 255).astype(np.uint8)


def _centre_of_mass(ink: np.ndarray) -> tuple[float, float]:
    """Return the row and the column of the centre of mass."""
    row, column = (ink.sum(axis=1 - axis) @ np.arange(ink.shape[axis]) / ink.sum() for axis in (0, 1))
    return float(row), float(column)

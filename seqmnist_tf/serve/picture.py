"""From any picture of a digit to MNIST's form: 28x28, light on dark, scaled to a 20x20 box, centred by mass."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage

from ..system import InputError, first_line
from .digit_count import count_digits
from .printable import printable

IMAGE_SIDE, BOX = 28, 20
CENTRE = 14  # the row and the column of the pixel that contains the centre of mass of a digit of MNIST
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")  # of Pillow's forty, whose decoders include Ghostscript
MAX_SIDE, MAX_PIXELS = 20_000, 50_000_000  # of a picture's header, checked before anything is decoded
WORKING_SIDE = 256  # larger pictures are first reduced to this size, which also averages noise
SPECK = 0.03  # smaller pieces of ink, relative to the area of the largest, are removed
FINE = 8  # strokes are thickened at this many times the final resolution
MIN_STROKE, STROKE = 1.5, 2.5  # pixels of the 20x20 box: strokes thinner than the first are thickened to the second
MIN_CONTRAST = 12  # of 255; a picture with less contrast is blank
NOISE = 4.0  # standard deviations above the background that count as background
# Fainter ink, relative to full ink, is noise of compression; in a small picture it is the edges of strokes, and stays.
FAINT = 0.1
SHADES = " .:-=+*#%@"


class Prepared(NamedTuple):
    """A picture in MNIST's form, uint8 (28, 28), 0 (background) to 255 (ink), and how many digits it seems to show."""

    image: np.ndarray
    digits: int


def read_picture(file: str | Path | IO[bytes], name: str = "") -> np.ndarray:
    """Read a picture of a digit, a PNG, JPEG, WebP, GIF, BMP or TIFF, and return it in MNIST's form.

    Args:
        file: a path, or a binary file.
        name: the picture's name in error messages; by default its path.

    Returns:
        uint8 (28, 28), 0 (background) to 255 (ink).

    Raises:
        InputError: the file cannot be read, is not a picture, is too large, or is blank.

    Example::

        image = read_picture("digit.png")
        print(picture_to_text(image))
    """
    return prepare_picture(file, name).image


def prepare_picture(file: str | Path | IO[bytes], name: str = "") -> Prepared:
    """Read a picture as :func:`read_picture` does, and count its digits."""
    name = printable(name or str(file))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of damaged metadata, and of sizes that are refused below
            with Image.open(file, formats=FORMATS) as picture:
                _check_size(picture)
                picture.draft("RGB", (WORKING_SIDE, WORKING_SIDE))  # a JPEG is decoded at a fraction of its size
                picture.load()
                ImageOps.exif_transpose(picture, in_place=True)
                return prepare(picture)
    except Image.DecompressionBombError:
        raise InputError(f"{name}: the picture has too many pixels (at most {MAX_PIXELS:,} are allowed)") from None
    except UnidentifiedImageError:
        raise InputError(f"{name} is not a readable picture (give a PNG, JPEG, WebP, GIF, BMP or TIFF)") from None
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror or first_line(error)}") from None
    except Exception as error:
        # Pillow raises many kinds of exceptions for damaged files: struct.error, KeyError, SyntaxError, MemoryError.
        raise InputError(f"cannot read {name}: it is damaged ({printable(first_line(error))})") from None


def _check_size(picture: Image.Image) -> None:
    size = f"the picture has {picture.width}x{picture.height} pixels"
    if max(picture.size) > MAX_SIDE:
        raise InputError(f"{size} (at most {MAX_SIDE:,} on a side are allowed)")
    if picture.width * picture.height > MAX_PIXELS:
        raise InputError(f"{size} (at most {MAX_PIXELS:,} are allowed)")


def to_mnist(picture: Image.Image) -> np.ndarray:
    """Return a picture in MNIST's form, uint8 (28, 28), 0 (background) to 255 (ink).

    The background's colour is the median colour of the picture's edge, and ink is how much a pixel differs from it; so
    the digit may be dark on light, light on dark, or of any colours. Transparent parts count as white under dark digits
    and as black under light digits. A picture that is already in MNIST's form is returned unchanged.

    Raises:
        InputError: the picture is blank.
    """
    return prepare(picture).image


def prepare(picture: Image.Image) -> Prepared:
    """Return a picture in MNIST's form, as :func:`to_mnist`, and how many digits it seems to show."""
    ink = _ink(picture)
    if ink.max() < MIN_CONTRAST:
        raise InputError("the picture is blank: it has only one colour (give a digit on a plain background)")
    if _is_mnist(ink):
        return Prepared(ink.astype(np.uint8), 1)
    ink = _strokes(ink)
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Prepared(_centred(_in_box(digit)), count_digits(digit))


def picture_to_text(image: np.ndarray) -> str:
    """Return an image uint8 (28, 28) as 28 lines of text, two characters per pixel."""
    shades = np.array(list(SHADES))[image.astype(int) * len(SHADES) // 256]
    return "\n".join("".join(shade * 2 for shade in row).rstrip() for row in shades)


def _ink(picture: Image.Image) -> np.ndarray:
    """Return the distance of each pixel's colour from the background's, float (height, width), 0 to 255."""
    if picture.mode.startswith(("I", "F")):  # more than eight bits
        values = np.asarray(_reduced(picture.convert("F")), np.float64)
        if not np.isfinite(values).all():
            raise InputError("the picture has pixels that are not finite numbers")
        low, high = values.min(), values.max()
        picture = Image.fromarray(((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8))
    if picture.mode in ("L", "RGB") and "transparency" not in picture.info:
        picture = _reduced(picture)  # before the conversion, which would hold a large picture twice
    picture = _reduced(picture.convert("RGBA"))
    pixels = np.asarray(picture, np.float64)
    colours, opacity = pixels[..., :3], pixels[..., 3:] / 255
    visible = float((colours * opacity).sum() / max(3 * opacity.sum(), 1e-9))
    colours = colours * opacity + (255 if visible < 128 else 0) * (1 - opacity)
    edge = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
    return np.abs(colours - np.median(edge, axis=0)).max(axis=2)


def _reduced(picture: Image.Image) -> Image.Image:
    """Return a picture, or its reduction to 256 pixels on the longer side, proportions kept."""
    if max(picture.size) <= WORKING_SIDE:
        return picture
    scale = WORKING_SIDE / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BOX)


def _is_mnist(ink: np.ndarray) -> bool:
    if ink.shape != (IMAGE_SIDE, IMAGE_SIDE):
        return False
    extents = [np.ptp(np.flatnonzero(ink.any(axis=axis))) + 1 for axis in (0, 1)]
    return bool(max(extents) <= BOX) and all(round(centre) == CENTRE for centre in _centre_of_mass(ink))


def _strokes(ink: np.ndarray) -> np.ndarray:
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


def _otsu(ink: np.ndarray) -> float:
    """Return the threshold that separates background from ink best: the largest variance between them (Otsu 1979)."""
    counts, edges = np.histogram(ink, 256, range=(0, float(ink.max())))
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = ink.size - below
    sums = np.cumsum(counts * middles)
    means_below, means_above = sums[:-1] / np.maximum(below, 1), (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    return float(edges[1:-1][np.argmax(below * above * (means_above - means_below) ** 2)])


def _in_box(digit: np.ndarray) -> np.ndarray:
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


def _centred(digit: np.ndarray) -> np.ndarray:
    """Return a digit of at most 20x20, 0 to 1, centred by mass, to whole pixels, as an image uint8 (28, 28)."""
    height, width = digit.shape
    corner = [round(CENTRE - centre) for centre in _centre_of_mass(digit)]
    top, left = (min(max(at, 0), IMAGE_SIDE - side) for at, side in zip(corner, (height, width), strict=True))
    image = np.zeros((IMAGE_SIDE, IMAGE_SIDE))
    image[top : top + height, left : left + width] = digit
    return np.rint(image * 255).astype(np.uint8)


def _centre_of_mass(ink: np.ndarray) -> tuple[float, float]:
    """Return the row and the column of the centre of mass."""
    row, column = (ink.sum(axis=1 - axis) @ np.arange(ink.shape[axis]) / ink.sum() for axis in (0, 1))
    return float(row), float(column)

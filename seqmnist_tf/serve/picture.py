"""From any picture of a digit to MNIST's form: 28x28, light on dark, scaled to a 20x20 box, centred by mass."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..system import InputError, first_line
from .digit_count import count_digits
from .printable import printable
from .strokes import BOX, CENTRE, IMAGE_SIDE, centre_of_mass, centred, in_box, separability, strokes

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")  # of Pillow's forty, whose decoders include Ghostscript
MAX_SIDE, MAX_PIXELS = 20_000, 50_000_000  # of a picture's header, checked before anything is decoded
WORKING_SIDE = 256  # larger pictures are first reduced to this size, which also averages noise
MIN_CONTRAST = 12  # of 255; a picture with less contrast is blank
# Blank paper with grain has a separability of 0.67 to 0.68 and a contrast of 17; digits have 0.84 and more.
GRAIN_CONTRAST, MIN_SEPARABILITY = 32, 0.75
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
        InputError: the file cannot be read, is not a picture, is too large, or shows no digit.

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
        InputError: the picture is blank, or shows grain only.
    """
    return prepare(picture).image


def prepare(picture: Image.Image) -> Prepared:
    """Return a picture in MNIST's form, as :func:`to_mnist`, and how many digits it seems to show."""
    ink = _ink(picture)
    if ink.max() < MIN_CONTRAST:
        raise InputError("the picture is blank: it has only one colour (give a digit on a plain background)")
    if ink.max() < GRAIN_CONTRAST and separability(ink) < MIN_SEPARABILITY:
        raise InputError("no digit was found: the picture shows grain only (give a digit on a plain background)")
    if _is_mnist(ink):
        return Prepared(ink.astype(np.uint8), 1)
    ink = strokes(ink)
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Prepared(centred(in_box(digit)), count_digits(digit))


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
    return bool(max(extents) <= BOX) and all(round(centre) == CENTRE for centre in centre_of_mass(ink))

"""From any picture of a digit to MNIST's form: 28x28, light on dark, scaled to a 20x20 box, centred by mass."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from scipy import ndimage

from ..system import InputError, first_line, printable
from .ink import find_ink
from .strokes import BOX, CENTRE, centred, find_digits, in_box, strokes
from .versions import IMAGE_SIDE

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # of the names of files of FORMATS
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")  # of Pillow's forty, whose decoders include Ghostscript
MAX_SIDE, MAX_PIXELS = 20_000, 50_000_000  # of a picture's header, checked before anything is decoded
WORKING_SIDE = 256  # larger pictures are first reduced to this size, which also averages noise
MIN_CONTRAST = 12  # of 255; a picture with less contrast shows no digit
MIN_SIDE = 0.03  # of a digit, relative to the picture's shorter side; what is lower and narrower is a speck
SHADES = " .:-=+*#%@"
ORIENTATIONS = {  # of Exif, and what turns them upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Prepared(NamedTuple):
    """What was found in a picture: its largest digit in MNIST's form, and the number of digits side by side.

    The image is uint8 (28, 28), 0 (background) to 255 (ink), or None where no digit was found.
    """

    image: np.ndarray | None
    digits: int


def prepare_picture(file: str | Path | IO[bytes], name: str = "") -> Prepared:
    """Read a picture, and return its largest digit in MNIST's form and the number of digits, which may be none.

    Args:
        file: a path or an open file: PNG, JPEG, WebP, GIF, BMP or TIFF, of any size and colours.
        name: what messages call it; its path if it is empty.

    Raises:
        InputError: the file cannot be read, is not a picture, or is too large.

    Example::

        image = prepare_picture("digit.png").image
        print(picture_to_text(image))
    """
    name = printable(name or str(file)) or "''"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of damaged metadata, and of sizes that are refused below
            with Image.open(file, formats=FORMATS) as picture:
                _check_size(picture)
                picture.draft("RGB", (WORKING_SIDE, WORKING_SIDE))  # a JPEG is decoded at a fraction of its size
                picture.load()
                return prepare(_upright(picture))
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


def picture_files(folder: Path) -> list[Path]:
    """Return the pictures in a folder in the order of their names: the files with an ending such as ``.png``.

    Raises:
        InputError: the folder cannot be read, or has none.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and path.is_file())
    except OSError as error:
        raise InputError(f"cannot read {printable(str(folder))}: {error.strerror}") from None
    if not files:
        raise InputError(f"no picture in {printable(str(folder))} (files that end in {', '.join(ENDINGS)})")
    return files


def _upright(picture: Image.Image) -> Image.Image:
    """Return a picture as a camera held it.

    Pillow's exif_transpose decodes all Exif and writes it anew, which odd tags break and large ones make slow.
    """
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # of many kinds, for damaged Exif
        return picture
    return picture.transpose(ORIENTATIONS[orientation]) if orientation in ORIENTATIONS else picture


def _check_size(picture: Image.Image) -> None:
    size = f"the picture has {picture.width}x{picture.height} pixels"
    if max(picture.size) > MAX_SIDE:
        raise InputError(f"{size} (at most {MAX_SIDE:,} on a side are allowed)")
    if picture.width * picture.height > MAX_PIXELS:
        raise InputError(f"{size} (at most {MAX_PIXELS:,} are allowed)")


def prepare(picture: Image.Image) -> Prepared:
    """Return the largest digit of a picture in MNIST's form, if it shows one, and how many digits there are.

    Ink is how much a pixel differs from the background around it; so the digit may be dark on light, light on dark, or
    of any colours, in a shadow, or on lined or squared paper. Transparent parts count as white under dark digits and as
    black under light digits. A picture that is already in MNIST's form is returned unchanged.
    """
    ink = find_ink(_colours(picture))
    if ink.values.max() < MIN_CONTRAST:
        return Prepared(None, 0)
    if _is_mnist(ink.values):
        return Prepared(ink.values.astype(np.uint8), 1)
    drawn = strokes(ink)
    digits = find_digits(drawn)
    if not digits or max(drawn[digits[0]].shape) < MIN_SIDE * min(drawn.shape):
        return Prepared(None, 0)
    return Prepared(centred(in_box(drawn[digits[0]])), len(digits))


def picture_to_text(image: np.ndarray) -> str:
    """Return an image uint8 (28, 28) as 28 lines of text, two characters per pixel."""
    shades = np.array(list(SHADES))[image.astype(int) * len(SHADES) // 256]
    return "\n".join("".join(shade * 2 for shade in row).rstrip() for row in shades)


def _colours(picture: Image.Image) -> np.ndarray:
    """Return the colours of a picture without transparency, float (height, width, 3), 0 to 255."""
    if picture.mode.startswith(("I", "F")):  # more than eight bits
        values = np.asarray(_reduced(picture.convert("F")), np.float64)
        if not np.isfinite(values).all():
            raise InputError("the picture has pixels that are not finite numbers")
        low, high = float(values.min()), float(values.max())
        if high - low < MIN_CONTRAST / 255 * max(abs(low), abs(high)):
            high = np.inf  # stretched, so little contrast would look like a digit
        picture = Image.fromarray(((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8))
    if picture.mode in ("L", "RGB") and "transparency" not in picture.info:
        picture = _reduced(picture)  # before the conversion, which would hold a large picture twice
    picture = _reduced(picture.convert("RGBA"))
    pixels = np.asarray(picture, np.float64)
    colours, opacity = pixels[..., :3], pixels[..., 3:] / 255
    visible = float((colours * opacity).sum() / max(3 * opacity.sum(), 1e-9))
    return colours * opacity + (255 if visible < 128 else 0) * (1 - opacity)


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
    return bool(max(extents) <= BOX) and all(round(centre) == CENTRE for centre in ndimage.center_of_mass(ink))

"""From any picture of a digit to MNIST's form, as LeCun et al. (1998) made it.

28x28, light on dark, scaled to a 20x20 box, centred by mass.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from ..system import InputError, reading
from .versions import IMAGE_SIDE

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # of the names of files of FORMATS
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")  # of Pillow's forty, whose decoders include Ghostscript
MAX_PIXELS = 50_000_000  # of a picture's header, checked before anything is decoded
WORKING_SIDE = 256  # larger pictures are first reduced to this size, which also averages noise
MIN_CONTRAST = 12  # of 255; a picture with less contrast shows no digit
MIN_STROKE = 0.1  # of the area of the largest stroke; smaller pieces are specks
MIN_PIECE = 0.01  # of the area of the largest stroke
MAX_PIECES = 12  # of at least that area; a picture with more shows a text, a drawing or noise
MIN_SHARE = 0.8  # of the dark area that strokes cover; where specks cover more, they are noise
MAX_EDGE = 0.22  # of the picture's edge; a piece that covers more is a shadow or a line of the paper, and no stroke
PAPER_PARTS = 5  # a shadow is wider than this part of a picture, and a stroke is narrower
SAMPLED_SIDE = 32  # enough pixels to see whether the paper is light or dark
BOX = 20
CENTRE = 14  # the row and the column of the pixel that contains the centre of mass of a digit of MNIST
SHADES = " .:-=+*#%@"


def prepare_picture(file: str | Path | IO[bytes], name: str = "") -> np.ndarray | None:
    """Return the digit of a picture in MNIST's form, uint8 (28, 28), 255 for ink, or None where it is blank.

    ``file`` is a path or an open file: PNG, JPEG, WebP, GIF, BMP or TIFF, of any size and colours; ``name`` is what
    messages call it. InputError is raised where it cannot be read, is not a picture, or is too large.
    """
    with reading(name or str(file)), Image.open(file, formats=FORMATS) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise InputError(f"{picture.width}x{picture.height} pixels (at most {MAX_PIXELS:,} are allowed)")
        picture.draft("RGB", (WORKING_SIDE, WORKING_SIDE))  # a JPEG is decoded at a fraction of its size
        return prepare(ImageOps.exif_transpose(picture))


def prepare(picture: Image.Image) -> np.ndarray | None:
    """Return the digit of a picture in MNIST's form, uint8 (28, 28), or None where the picture shows no digit.

    The digit may be dark on light or light on dark, in uneven light. A picture that is already in MNIST's form is
    returned unchanged.
    """
    grey = _grey(picture)
    contrast = np.abs(grey - np.median(_edge(grey))).round().astype(np.uint8)
    if contrast.max() < MIN_CONTRAST:
        return None
    if _is_mnist(contrast):
        return contrast
    ink = _ink(grey)
    if ink.max() < MIN_CONTRAST:
        return None
    strokes = _strokes(ink)
    if not strokes.any():
        return None
    place = ndimage.find_objects(strokes.astype(int))[0]
    # A stroke's soft edge is below the threshold.
    drawn = np.where(ndimage.binary_dilation(strokes, np.ones((3, 3))), ink, 0)[place]
    height, width = (max(1, round(side * BOX / max(drawn.shape))) for side in drawn.shape)
    resized = Image.fromarray(drawn.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    digit = np.clip(np.asarray(resized), 0, None)
    digit = np.rint(255 * digit / digit.max())
    corner = [round(CENTRE - centre) for centre in ndimage.center_of_mass(digit)]
    top, left = (min(max(at, 0), IMAGE_SIDE - side) for at, side in zip(corner, digit.shape, strict=True))
    image = np.zeros((IMAGE_SIDE, IMAGE_SIDE), np.uint8)
    image[top : top + height, left : left + width] = digit
    return image


def otsu(values: np.ndarray) -> int:
    """Return the threshold of uint8 values with the largest variance between those above and the others (Otsu 1979)."""
    below = np.cumsum(np.bincount(values.ravel(), minlength=256))
    sums = np.cumsum(np.bincount(values.ravel(), minlength=256) * np.arange(256.0))
    with np.errstate(invalid="ignore"):  # 0 / 0 where all or none are above
        between = (sums[-1] * below / below[-1] - sums) ** 2 / (below * (below[-1] - below))
    return int(np.argmax(np.nan_to_num(between)))


def picture_files(folder: Path) -> list[Path]:
    """Return the pictures in a folder in the order of their names: the files with an ending such as ``.png``."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and path.is_file())


def picture_to_text(image: np.ndarray) -> str:
    """Return an image uint8 (28, 28) as 28 lines of text, two characters per pixel."""
    shades = np.array(list(SHADES))[image.astype(int) * len(SHADES) // 256]
    return "\n".join("".join(shade * 2 for shade in row).rstrip() for row in shades)


def _grey(picture: Image.Image) -> np.ndarray:
    """Return the grey of a picture of at most 256 pixels on a side, float (height, width), 0 to 255.

    Transparent parts count as white under dark ink and as black under light ink.
    """
    if picture.mode.startswith(("I", "F")):  # more than eight bits
        values = np.asarray(picture, np.float64)
        values = values - values.min()
        picture = Image.fromarray((values * (255 / max(values.max(), 1e-9))).astype(np.uint8))
    picture = picture.convert("RGBA")
    picture.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
    grey, opacity = np.asarray(picture.convert("L"), np.float64), np.asarray(picture.getchannel("A")) / 255
    mean = (grey * opacity).sum() / max(opacity.sum(), 1e-9)
    return grey * opacity + (255 if mean < 128 else 0) * (1 - opacity)


def _ink(grey: np.ndarray) -> np.ndarray:
    """Return how much darker than the paper around it each pixel is, uint8 (height, width), 255 for black.

    Paper is what remains when dark strokes are closed: for each pixel, the lightest levels in the windows around it. A
    shadow is wider than a window and remains too. In a shadow, ink and paper lose the same share of their light, so ink
    is a share of the paper's level. Light ink on dark paper is inverted first.
    """
    step = -(-max(grey.shape) // SAMPLED_SIDE)
    sample = grey[::step, ::step]
    window = SAMPLED_SIDE // 2 - 1
    lighter = sample - ndimage.median_filter(sample, window, mode="nearest")
    if (lighter**3).sum() > 0:
        grey = 255 - grey
    paper = ndimage.grey_closing(grey, max(grey.shape) // PAPER_PARTS // 2 * 2 + 1, mode="nearest")
    ink = (255 * (paper - grey) / np.maximum(paper, 1)).round()
    noise = np.sort(ink, axis=None)[ink.size // 2]  # of the paper, of which the closing keeps the lightest pixels
    return np.maximum(ink - noise, 0).astype(np.uint8)


def _strokes(ink: np.ndarray) -> np.ndarray:
    """Return which pixels of uint8 ink are strokes: above Otsu's threshold, in pieces that are no specks or shadows.

    None are, where there are too many pieces, or specks cover too much.
    """
    pieces, _ = ndimage.label(ink > otsu(ink), np.ones((3, 3)))
    areas = np.bincount(pieces.ravel())
    areas[0] = 0  # the background
    large = areas >= MIN_STROKE * areas.max()
    if (areas >= MIN_PIECE * areas.max()).sum() > MAX_PIECES or areas[large].sum() < MIN_SHARE * areas.sum():
        return np.zeros(ink.shape, bool)
    at_edge = np.bincount(_edge(pieces), minlength=areas.size)
    return np.isin(pieces, np.flatnonzero(large & (at_edge <= MAX_EDGE * at_edge.sum())))


def _edge(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _is_mnist(ink: np.ndarray) -> bool:
    if ink.shape != (IMAGE_SIDE, IMAGE_SIDE):
        return False
    extents = [np.ptp(np.flatnonzero(ink.any(axis=axis))) + 1 for axis in (0, 1)]
    return bool(max(extents) <= BOX) and all(round(centre) == CENTRE for centre in ndimage.center_of_mass(ink))

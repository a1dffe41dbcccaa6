"""How much each pixel of a picture is ink: on plain paper, in a shadow, beside the paper's edge, on printed lines."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from skimage.filters import gaussian, threshold_otsu
from skimage.measure import label, regionprops
from skimage.morphology import black_tophat, footprint_rectangle, white_tophat
from skimage.transform import downscale_local_mean

# Pixels are those of the reduced picture, of at most 256 on its longer side.
LOCAL_SIDE = 100  # px of the shorter side: a smaller picture is taken for a drawing on plain paper
UNEVEN, UNEVEN_SHARE = 0.15, 0.05  # this share of the picture's edge differs by so much of the strongest ink
COVERED = 0.95  # share of a side of the picture: a side that is covered by ink is a table's or a shadow's
REACH = 0.25  # of the longer side: what is thinner is ink, what is wider is background
SMOOTHING = 1.0  # px, against grain
COARSE = 4  # px: to tell dark strokes from light ones, as many pixels are averaged
# Printed lines cross the picture. They are longer than digits are wide, and thinner than REACH; of the longer side.
CROSSING, LINE_LENGTH, LINE_WIDTH = 0.9, 0.5, 0.03
LINE_SHARE = 0.8  # of a printed line's pixels that are dark enough
FRINGE = 2  # px: of a printed line's edges
MAX_CLIMB = 12  # px: by how much a printed line may rise over the picture


class Ink(NamedTuple):
    """How much each pixel differs from the background, float (height, width), 0 to 255, and how that was found."""

    values: np.ndarray
    is_local: bool  # the background was estimated at each pixel, since the picture's edge is uneven


def find_ink(colours: np.ndarray) -> Ink:
    """Return how much each pixel of a picture (height, width, 3), 0 to 255, differs from the background around it.

    The background is the median colour of the picture's edge. Where the edge is uneven, in a photograph with a shadow
    or with a table beside the paper, it is estimated at each pixel by a morphological closing (or opening, for a light
    digit), whose difference from the picture is the top-hat transform.
    """
    edge = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
    ink = np.abs(colours - np.median(edge, axis=0)).max(axis=2)
    return Ink(_local_ink(colours), True) if _is_uneven(ink) else Ink(ink, False)


def _is_uneven(ink: np.ndarray) -> bool:
    if min(ink.shape) < LOCAL_SIDE or not ink.any():
        return False
    smooth = gaussian(ink, SMOOTHING, preserve_range=True)
    sides = [side / smooth.max() for side in (smooth[0], smooth[-1], smooth[:, 0], smooth[:, -1])]
    # A digit that was cut out tightly touches all four sides, and covers none.
    is_cut_out = all(side.max() > 0.5 for side in sides) and max((side > UNEVEN).mean() for side in sides) < COVERED
    return not is_cut_out and bool((np.concatenate(sides) > UNEVEN).mean() > UNEVEN_SHARE)


def _local_ink(colours: np.ndarray) -> np.ndarray:
    smooth = gaussian(colours, SMOOTHING, channel_axis=2, preserve_range=True)
    return np.max([_top_hat(smooth[..., channel]) for channel in range(3)], axis=0)


def _top_hat(values: np.ndarray) -> np.ndarray:
    """Return how far the narrow parts of a channel are from what surrounds them, 0 to 255."""
    reach = int(REACH * max(values.shape)) | 1
    square = footprint_rectangle((reach, reach), decomposition="separable")
    inside = (slice(reach, -reach), slice(reach, -reach))
    padded = np.pad(values, reach, mode="edge")
    if not _is_dark_on_light(values):
        return white_tophat(padded, square)[inside]
    hat = black_tophat(padded, square)[inside]
    return 255 * hat / np.maximum(values + hat, 1)  # of the paper's brightness, which a shadow lowers


def _is_dark_on_light(values: np.ndarray) -> bool:
    """Return whether strokes are darker than the paper around them, the median of a square of REACH."""
    height, width = (side // COARSE * COARSE for side in values.shape)
    coarse = downscale_local_mean(values[:height, :width], COARSE)
    differences = coarse - ndimage.median_filter(coarse, int(REACH * max(coarse.shape)) | 1, mode="nearest")
    return bool((differences * np.abs(differences)).sum() < 0)


def without_lines(ink: np.ndarray, low: float) -> np.ndarray:
    """Return ink (height, width), which is what is above ``low``, without the lines of lined or squared paper.

    Where a stroke crosses a line, the stroke stays.
    """
    pieces = label(ink > low, connectivity=2)
    crossing = [
        piece.label
        for piece in regionprops(pieces)
        if any(
            stop - start >= CROSSING * side
            for start, stop, side in zip(piece.bbox[:2], piece.bbox[2:], ink.shape, strict=True)
        )
    ]
    if not crossing or min(ink.shape) < LOCAL_SIDE:
        return ink
    mask = np.isin(pieces, crossing)
    across, along = _lines(mask), _lines(mask.T).T
    width = 2 * round(LINE_WIDTH * max(ink.shape)) + 1
    rest = np.where(across | along, 0, ink)
    repaired = np.maximum(
        np.where(across, ndimage.grey_closing(rest, (width, 1)), 0),
        np.where(along, ndimage.grey_closing(rest, (1, width)), 0),
    )
    return np.where(across | along, repaired, ink)


def _lines(mask: np.ndarray) -> np.ndarray:
    """Return the parts of a mask that are thin lines from left to right, level or a little tilted."""
    height, width = mask.shape
    side = max(mask.shape)
    length = round(LINE_LENGTH * width)
    thick = ndimage.binary_opening(mask, np.ones((round(LINE_WIDTH * side),) * 2))
    thin = mask & ~ndimage.binary_dilation(thick, np.ones((3, 3)))
    lines = np.zeros_like(mask)
    for climb in range(-MAX_CLIMB, MAX_CLIMB + 1):
        rows = (np.arange(height)[:, None] + np.round(climb * np.arange(width) / width).astype(int)) % height
        level = np.take_along_axis(mask, rows, 0)
        dense = ndimage.uniform_filter1d(level.astype(np.float32), length, mode="nearest") > LINE_SHARE
        line = ndimage.maximum_filter1d(dense, length) & np.take_along_axis(thin, rows, 0)
        np.put_along_axis(lines, rows, np.take_along_axis(lines, rows, 0) | line, 0)
    return ndimage.binary_dilation(lines, np.ones((2 * FRINGE + 1, 1))) & thin


def otsu(ink: np.ndarray) -> float:
    """Return the threshold that separates background from ink best: the largest variance between them (Otsu 1979)."""
    return float(threshold_otsu(ink.round(3)))  # its histogram needs a range that is not of rounding alone


def separability(ink: np.ndarray) -> float:
    """Return how well a threshold separates ink from background, 0 to 1: the share of the variance between the two."""
    threshold = otsu(ink)
    low, high = ink[ink <= threshold], ink[ink > threshold]
    if not len(low) or not len(high):
        return 1.0
    between = len(low) * len(high) / ink.size**2 * (high.mean() - low.mean()) ** 2
    return float(between / ink.var())

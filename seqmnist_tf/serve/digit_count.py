"""How many digits a picture shows, by the gaps between its strokes."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# Strokes of one digit may stand apart (a 5 with its bar, a 4 of two lines); two digits have a gap between them.
MIN_GAP = 0.2  # columns without ink between two digits, relative to the height of the tallest stroke
MIN_HEIGHT = 0.4  # of a digit, relative to the tallest; a lower group of strokes is a comma, a dash or noise


def count_digits(strokes: np.ndarray) -> int:
    """Return the number of digits that stand side by side, at least 1.

    Args:
        strokes: (height, width), 0 where there is background; some of it is ink.
    """
    pieces, _ = ndimage.label(strokes > 0, structure=np.ones((3, 3)))
    boxes = sorted((box[1].start, box[1].stop, box[0].start, box[0].stop) for box in ndimage.find_objects(pieces))
    tallest = max(bottom - top for _, _, top, bottom in boxes)
    groups: list[list[int]] = []  # left, right, top, bottom
    for left, right, top, bottom in boxes:
        if groups and left - groups[-1][1] < MIN_GAP * tallest:
            last = groups[-1]
            groups[-1] = [last[0], max(last[1], right), min(last[2], top), max(last[3], bottom)]
        else:
            groups.append([left, right, top, bottom])
    heights = [bottom - top for _, _, top, bottom in groups]
    return sum(height >= MIN_HEIGHT * max(heights) for height in heights)

"""The digits of a picture that stand side by side, told apart by the gaps between their strokes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage.measure import label, regionprops

# Strokes of one digit may stand apart (a 5 with its bar, a 4 of two lines); two digits have a gap between them.
MIN_GAP = 0.2  # columns without ink between two digits, relative to the height of the tallest stroke
MIN_HEIGHT = 0.4  # of a digit, relative to the tallest; a lower group of strokes is a comma, a dash or noise


@dataclass
class Box:
    """The smallest rectangle around some strokes; rows and columns begin at 0, ``bottom`` and ``right`` are outside."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows of the box."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns of the box."""
        return self.right - self.left

    @property
    def area(self) -> int:
        """Pixels of the box."""
        return self.height * self.width

    def include(self, other: Box) -> None:
        """Grow to hold another box."""
        self.top, self.left = min(self.top, other.top), min(self.left, other.left)
        self.bottom, self.right = max(self.bottom, other.bottom), max(self.right, other.right)

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """Return the part of a picture in this box."""
        return picture[self.top : self.bottom, self.left : self.right]


def find_digits(strokes: np.ndarray) -> list[Box]:
    """Return the boxes of the digits that stand side by side, the largest first.

    Args:
        strokes: (height, width), 0 where there is background.

    Returns:
        At least one box, if there is any ink. A lone digit's box holds all strokes; with several, commas, dashes and
        noise between them are in none.
    """
    pieces = [Box(*piece.bbox) for piece in regionprops(label(strokes > 0, connectivity=2))]
    tallest = max((piece.height for piece in pieces), default=0)
    groups: list[Box] = []
    for piece in sorted(pieces, key=lambda piece: piece.left):
        if groups and piece.left - groups[-1].right < MIN_GAP * tallest:
            groups[-1].include(piece)
        else:
            groups.append(piece)
    height = max((group.height for group in groups), default=0)
    digits = [group for group in groups if group.height >= MIN_HEIGHT * height]
    if len(digits) == 1:
        for piece in groups:
            digits[0].include(piece)
    return sorted(digits, key=lambda digit: -digit.area)

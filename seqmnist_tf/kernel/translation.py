"""A cell's step as a program for the native machine: traced once, translated, checked."""

from __future__ import annotations

from dataclasses import dataclass

import keras


class Untranslatable(Exception):
    """The native machine cannot compute a cell; the message names the operation and the line that asked for it."""


@dataclass(frozen=True)
class StepProgram:
    """The step of a cell, forward and backward, as the native machine runs it."""

    features: int


def translate(cell: keras.Layer, features: int) -> StepProgram:
    """Return the program of a built cell, or of ``StackedRNNCells``, for inputs of so many features.

    Raises:
        Untranslatable: the machine cannot compute it.
    """
    raise Untranslatable(f"{cell.name} with {features} features: there is no machine yet")

"""The model: built from a configuration, its optimizer, the kernel that computes it, and the step that is measured."""

from ..system import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__)

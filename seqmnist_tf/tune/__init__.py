"""A search for hyperparameters: its space, folder, trials and report."""

from ..system import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__, light=("space",))

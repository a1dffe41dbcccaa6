"""A search for hyperparameters: its space, folder, trials and report."""

from typing import TYPE_CHECKING

from ..system import lazy_names

if TYPE_CHECKING:
    from .oracle import drawn_values
    from .search import read_search, stop_at_chance
    from .space import DEFAULT_SPACE, SETTINGS, Dimension, SearchFolder, parse_space
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__, without_tensorflow=("space",))

"""MNIST as sequences: images from their sources, pixel orders, splits and batches."""

from ..system import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__, light=("pixel_orders",))

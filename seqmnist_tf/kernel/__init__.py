"""Fast recurrent layers for any Keras model on CPUs: drop-ins for Keras's own, on a native kernel.

It knows nothing of the experiment, and could be a separate package.
"""

from ..system import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__, light=("native",))

"""Fast recurrent layers for any Keras model on CPUs: drop-ins for Keras's own, on a native kernel.

The room knows nothing of the experiment; it could be a package of its own.
"""

from ..system import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__, light=("native",))

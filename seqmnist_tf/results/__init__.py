"""What is published: records in ``results/``, their checks, and the documents and pictures made from them."""

from ..system import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__, light=("records",))

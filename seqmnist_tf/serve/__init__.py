"""A run as a service: export for TF Serving, the local server, and a client for both."""

from ..system import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__, light=("ask", "picture", "versions"))

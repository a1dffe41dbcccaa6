"""How fast: the training step beside its rivals, the exported model beside stock export, and the reports of both."""

from ..system import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__, light=("report",))

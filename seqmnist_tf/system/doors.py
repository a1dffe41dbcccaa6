"""The door of a room: names that are imported when they are first asked for (PEP 562), and rooms that can be called.

A room is a subpackage. Its ``__init__.pyi`` says which names it hands on and where they live, for type checkers and for
:func:`open_door`, so that a name is declared once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Collection
from types import ModuleType
from typing import Any

import lazy_loader

from .runtime import start_tensorflow


def open_door(
    room: str, file: str, *, light: Collection[str] = (), rooms: Collection[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a room.

    TensorFlow is imported first, without its notes on the terminal, except for names in ``light``.

    Args:
        room: ``__name__`` of the room.
        file: ``__file__`` of the room; its ``__init__.pyi`` stands beside it.
        light: names whose modules import neither TensorFlow nor Keras.
        rooms: names of rooms that can be called, which the stub declares as functions.

    Example::

        __getattr__, __dir__, __all__ = open_door(__name__, __file__, light=("RunDirectory",))
    """
    load, list_names, names = lazy_loader.attach_stub(room, file)

    def get(name: str) -> Any:
        if name in rooms:
            return importlib.import_module(f"{room}.{name}")
        if name in names and name not in light:
            start_tensorflow()
        return load(name)

    return get, lambda: sorted([*list_names(), *rooms]), sorted([*names, *rooms])


def call_room(room: str, function: str) -> None:
    """Let a room be called in place of its function, so that ``seqmnist_tf.train(...)`` is ``train.train(...)``.

    Args:
        room: ``__name__`` of the room, which has been imported.
        function: a name that the room hands on.
    """

    class CallableRoom(ModuleType):
        """A room that is also a function."""

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return getattr(self, function)(*args, **kwargs)

    sys.modules[room].__class__ = CallableRoom

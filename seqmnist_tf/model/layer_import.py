"""Importing the file of a custom layer, and saying where its code raised an error.

It is imported from memory, under a name that depends on its content, so that two versions of a layer stand side by side
in one process.
"""

from __future__ import annotations

import hashlib
import linecache
import os
import re
import sys
import traceback
from types import ModuleType

import tensorflow as tf

from ..config import LayerFile
from ..system import first_line

PREFIX = "seqmnist_layer_"


def import_layer(file: LayerFile) -> ModuleType:
    """Return the module of a layer's file. This runs its code, unless the same code was imported before."""
    name = f"{PREFIX}{hashlib.sha256(file.content).hexdigest()[:16]}"
    if name not in sys.modules:
        path, module = str(file.path), ModuleType(name)
        module.__file__ = path
        if not file.path.exists():  # tracebacks show its lines all the same
            lines = file.content.decode(errors="replace").splitlines(keepends=True)
            linecache.cache[path] = (len(file.content), None, lines, path)
        sys.modules[name] = module  # before its code runs: dataclasses and Keras look for it there
        try:
            exec(compile(file.content, path, "exec"), vars(module))
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def describe_error(error: BaseException) -> str:
    """Return class and message of an error's own cause in one line, with the file and line of the layer's code.

    Keras and TensorFlow raise errors anew, with advice and arguments around the message of the error that was raised.
    """
    errors = [error]
    while (inner := errors[-1].__cause__ or errors[-1].__context__) and _repeats(errors[-1], inner):
        errors.append(inner)
    cause = errors[-1]
    own = re.sub(r"\x1b\[\d*m|Exception encountered when calling.*|Arguments received by (?s:.*)", "", str(cause))
    text = first_line(cause) if isinstance(cause, tf.errors.OpError) or not own.split() else " ".join(own.split())
    name = re.sub(rf"{PREFIX}\w+\.", "", type(cause).__name__ + f": {text}" * (text != type(cause).__name__))
    place = next((place for one in reversed(errors) if (place := _place(one))), None)
    return name if place is None else f"{name} ({place[0]}, line {place[1]})"


def _repeats(outer: BaseException, inner: BaseException) -> bool:
    """Return whether an error was raised for another one, whose message is in its own."""
    text, said = (" ".join(re.sub(r"\x1b\[\d*m", "", str(one)).split()) for one in (outer, inner))
    return said.strip("'") in text if said else "encountered" in text


def _place(error: BaseException) -> tuple[str, int] | None:
    """Return file and line of the innermost code of a layer that an error passed through, or that built its graph."""
    files = {vars(module).get("__file__") for name, module in list(sys.modules.items()) if name.startswith(PREFIX)}
    frames = [(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, tf.errors.OpError):
        frames += [(file, int(line)) for file, line in re.findall(r'File "(.+?)", line (\d+)', str(error))]
    own = [(file.removeprefix(f"{os.getcwd()}{os.sep}"), n) for file, n in frames if os.path.abspath(file) in files]
    return own[-1] if own else None

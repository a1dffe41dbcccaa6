"""Importing the file of a layer, with the modules of its own, and saying where their code raised an error.

They are imported from memory, under names that depend on their content, so that two versions of a layer, or of a module
that it imports, stand side by side in one process.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib.abc
import importlib.util
import linecache
import os
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any

import tensorflow as tf

from ..config import LayerFile, Source, own_modules
from ..system import InputError, first_line

PREFIX = "seqmnist_layer_"


def import_layer(spec: str, file: LayerFile) -> ModuleType:
    """Return the module of the file of layer ``spec``. This runs its code, unless the same code was imported before.

    Raises:
        InputError: it imports a module of its own in a way that its source does not show.
    """
    name = f"{PREFIX}{hashlib.sha256(file.content).hexdigest()[:16]}"
    if name not in sys.modules:
        finder, before = _Finder(name, file), set(sys.modules)
        sys.meta_path.append(finder)
        try:
            importlib.import_module(name)
            _require_known(spec, set(sys.modules) - before)
        except BaseException:
            sys.meta_path.remove(finder)
            for module in layer_modules(name):
                del sys.modules[module]
            raise
    return sys.modules[name]


def layer_modules(name: str) -> list[str]:
    """Return the names of the imported modules of a layer, by the name of its file's: that one comes last."""
    return [*(module for module in list(sys.modules) if module.startswith(f"{name}.")), *[name] * (name in sys.modules)]


def _require_known(layer: str, names: set[str]) -> None:
    """Raise InputError where one of the modules that an import has brought is the user's own, and not a copy."""
    for name in sorted(names):
        if not name.startswith(PREFIX) and "." not in name:
            for module, spec in own_modules(name, sys.path):
                del sys.modules[module]  # the next import is refused, too
                raise InputError(
                    f"model.layer {layer} imports {module} ({spec.origin}) in a way that its source does not show, so "
                    f"that a run cannot keep a copy (write import {module}, and put it into the folder of the file)"
                )


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


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds and loads the modules of a layer: ``seqmnist_layer_1f2e.cells.util`` has the source ``cells/util.py``."""

    def __init__(self, name: str, file: LayerFile) -> None:
        modules = {path.removesuffix(".py").removesuffix("/__init__"): s for path, s in file.imports.items()}
        self.sources = {name: file.main, **{f"{name}.{path.replace('/', '.')}": s for path, s in modules.items()}}
        self.name, self.own = name, {path.split("/")[0] for path in modules}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        is_package = any(module.startswith(f"{fullname}.") for module in self.sources)
        source = self.sources.get(fullname)
        if source is None:  # a folder without __init__.py
            return importlib.util.spec_from_loader(fullname, self, is_package=True) if is_package else None
        is_package |= source.path.name == "__init__.py"
        spec = importlib.util.spec_from_file_location(fullname, source.path, loader=self)
        if spec and is_package:
            spec.submodule_search_locations = []  # no folder: what is not among the sources is not found
        return spec

    def exec_module(self, module: ModuleType) -> None:
        if source := self.sources.get(module.__name__):
            # Also where a function of it imports, later.
            vars(module)["__builtins__"] = {**vars(builtins), "__import__": self._import}
            exec(_compiled(source), vars(module))

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Import as the statement does, where ``import helper`` means ``import seqmnist_layer_1f2e.helper``."""
        first = name.partition(".")[0]
        if level or first not in self.own:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = builtins.__import__(f"{self.name}.{name}", globals, locals, fromlist or (), 0)
        return module if fromlist else sys.modules[f"{self.name}.{first}"]


def _compiled(source: Source) -> CodeType:
    """Compile a source; tracebacks show its lines, also where it is in no file of that name."""
    path = str(source.path)
    if not source.path.exists():
        lines = source.content.decode(errors="replace").splitlines(keepends=True)
        linecache.cache[path] = (len(source.content), None, lines, path)
    return compile(source.content, path, "exec")

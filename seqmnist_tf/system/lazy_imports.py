"""Lazy imports: a name of a package is imported when it is first asked for (PEP 562).

Under ``if TYPE_CHECKING:``, the ``__init__.py`` of a package imports its public names. Type checkers follow these
imports. Python skips them, and :func:`lazy_names` reads where each name comes from, so that importing a package is
quick and ``--help`` does not wait for TensorFlow.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable, Collection
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from .tensorflow_start import start_tensorflow


def lazy_names(
    package: str, *, without_tensorflow: Collection[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a package, by its full name.

    TensorFlow is started before a name is imported, so that its notes stay off the terminal. The modules
    ``without_tensorflow`` import neither TensorFlow nor Keras.
    """
    modules = _modules_of_names(Path(str(sys.modules[package].__file__)))
    names = sorted(modules)

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = modules[name]
        if (module or name) not in without_tensorflow:
            start_tensorflow()
        if module is None:
            return importlib.import_module(f"{package}.{name}")
        return getattr(importlib.import_module(f"{package}.{module}"), name)

    return get, lambda: names, names


def _modules_of_names(init: Path) -> dict[str, str | None]:
    """Return the names that an ``__init__.py`` imports under its only ``if``, each with its module.

    A module itself has None:
    ``from .metrics import Metrics`` is ``{"Metrics": "metrics"}``, ``from . import native`` is ``{"native": None}``.
    """
    statements = ast.parse(init.read_text(encoding="utf-8")).body
    (for_type_checkers,) = (statement for statement in statements if isinstance(statement, ast.If))
    modules = {}
    for node in for_type_checkers.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                modules[alias.name] = node.module
    return modules


def when_keras_is_imported(call: Callable[[ModuleType], object]) -> None:
    """Call a function with the module of Keras once it has been imported; at once if it has been already."""
    if "keras" in sys.modules:
        call(sys.modules["keras"])
    else:
        sys.meta_path.insert(0, _KerasFinder(call))


class _KerasFinder(MetaPathFinder):
    """Finds Keras as Python does, with a loader that calls a function after the import.

    It stays in ``sys.meta_path``: code that only looks for Keras, with ``importlib.util.find_spec``, changes nothing.
    """

    def __init__(self, call: Callable[[ModuleType], object]) -> None:
        self.call = call

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname != "keras":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _KerasLoader(spec.loader, self.call)
        return spec


class _KerasLoader(SourceFileLoader):
    def __init__(self, loader: SourceFileLoader, call: Callable[[ModuleType], object]) -> None:
        super().__init__(loader.name, loader.path)
        self.call = call

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        self.call(module)

"""The file of a layer of one's own, with the modules that it imports from its own folder, package or project.

They are found in the source, by the finders of Python's imports; no code is run. Standard library only.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import NamedTuple

from ..system import InputError
from .sections import OPTIONS, Config

LAYER_FILE, IMPORTS_FOLDER = "layer.py", "layer_imports"  # in a run
INSTALLED = {"site-packages", "dist-packages"}  # folders whose packages have versions, and need no copy
PYTHON = Path(ast.__file__).parent  # has modules that sys.stdlib_module_names lacks
NOT_COPIED = {*sys.stdlib_module_names, __name__.partition(".")[0]}


class Source(NamedTuple):
    """The content of a file, and where it was read, which tracebacks name."""

    path: Path
    content: bytes


@dataclass(frozen=True)
class LayerFile:
    """The source of a layer of one's own: a value that stands on its own.

    Attributes:
        main: the layer's file. Of a layer ``MODULE:NAME`` its content imports NAME.
        imports: the modules of its own that it imports, by their file below a folder: ``helper.py``, ``cells/util.py``.
    """

    main: Source
    imports: Mapping[str, Source] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        """What the identity of the layer is made of; without imports it is the content of the file."""
        parts = [f"\0{name}\0".encode() + source.content for name, source in sorted(self.imports.items())]
        return self.main.content + b"".join(parts)

    @property
    def files(self) -> dict[str, bytes]:
        """The files of a copy: ``layer.py``, and the imports in ``layer_imports/``."""
        imports = {f"{IMPORTS_FOLDER}/{name}": source.content for name, source in sorted(self.imports.items())}
        return {LAYER_FILE: self.main.content, **imports}


def layer_file(config: Config) -> Path | None:
    """Return the file of ``model.layer``, or None where the layer is not from a file."""
    path, _, _ = config.model.layer.rpartition(":")
    return Path(path) if path.endswith(".py") else None


def has_stock_layer(config: Config) -> bool:
    """Return whether ``model.layer`` is a layer of Keras, so that building or loading it runs no other code."""
    return config.model.layer in OPTIONS["model.layer"].meta["choices"]


def read_layer(config: Config) -> LayerFile | None:
    """Return the file of ``model.layer`` with the modules of its own that it imports; no code is run.

    None of a layer of Keras, and of one whose module is installed.

    Raises:
        InputError: the file cannot be read, or imports a module of its own that cannot be copied.
    """
    if has_stock_layer(config):
        return None
    module, _, name = config.model.layer.rpartition(":")
    if path := layer_file(config):
        return with_imports(config, read_source("model.layer", path))
    file = with_imports(config, Source(Path(f"<{config.model.layer}>"), f"from {module} import {name}\n".encode()))
    return file if file.imports else None


def with_imports(config: Config, main: Source) -> LayerFile:
    """Return the layer's file with the modules of its own that it imports, and those that they import.

    Raises:
        InputError: one of them cannot be read, or is no Python source.
    """
    importlib.invalidate_caches()  # a file may be new
    imports: dict[str, Source] = {}
    left = [("", main)]
    while left:
        package, source = left.pop()
        for name in _imported_names(source.content, package):
            for module, spec in own_modules(name, [str(main.path.parent), *sys.path]):
                path, is_package = Path(spec.origin or ""), spec.submodule_search_locations is not None
                file = f"{module.replace('.', '/')}{'/__init__' if is_package else ''}.py"
                if not spec.has_location or file in imports:  # a folder without __init__.py has none
                    continue
                if path.suffix != ".py":
                    raise InputError(
                        f"model.layer {config.model.layer} imports {module}, and {path} is no Python source, so that "
                        "a run cannot keep a copy of it (install it as a package, or do without it)"
                    )
                imports[file] = read_source("model.layer", path)
                left.append((module if is_package else module.rpartition(".")[0], imports[file]))
    return LayerFile(main, imports)


def read_copy(folder: Path) -> LayerFile | None:
    """Return the layer's file that a run keeps in its folder; None where it has none."""
    if not (folder / LAYER_FILE).is_file():
        return None
    place = folder / IMPORTS_FOLDER
    paths = {path.relative_to(place).as_posix(): path for path in place.rglob("*.py") if path.is_file()}
    imports = {name: read_source("model.layer", path) for name, path in sorted(paths.items())}
    return LayerFile(read_source("model.layer", folder / LAYER_FILE), imports)


def read_source(key: str, path: Path) -> Source:
    """Return the content of a file that a key names; raise InputError where it cannot be read."""
    try:
        return Source(path, path.read_bytes())
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{key} must name a file that can be read (got {str(path)!r}: {reason})") from None


def _imported_names(content: bytes, package: str) -> Iterator[str]:
    """Return what the import statements of a module of ``package`` name, in functions too: modules, and names in them.

    Nothing of a source that has an error, which its import says.
    """
    try:
        nodes = ast.walk(ast.parse(content))
    except (SyntaxError, ValueError):
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if package and node.level else []
            parents = parts[: len(parts) + 1 - node.level] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}".strip(".") for alias in node.names)


def own_modules(name: str, places: Sequence[str]) -> Iterator[tuple[str, ModuleSpec]]:
    """Return the modules of a dotted name, outermost first, that are neither Python's nor of an installed package.

    Args:
        name: a module, or a name in one.
        places: the folders where it is looked for first.
    """
    first, *others = name.split(".")
    if first in NOT_COPIED or (spec := _find_first(first, places)) is None or _is_installed(spec):
        return
    module = first
    yield module, spec
    for part in others:
        spec = PathFinder.find_spec(part, list(spec.submodule_search_locations or []))
        if spec is None:
            return
        module = f"{module}.{part}"
        yield module, spec


def _find_first(name: str, places: Sequence[str]) -> ModuleSpec | None:
    """Return where a module or package is; also where another finder has it, as of one that is installed editable."""
    try:
        return PathFinder.find_spec(name, places) or importlib.util.find_spec(name)
    except ValueError:  # of a module without a spec, such as __main__
        return None


def _is_installed(spec: ModuleSpec) -> bool:
    """Return whether an installer has put a module or package where it is."""
    places = spec.submodule_search_locations or [spec.origin or ""] * spec.has_location
    folders = [Path(place).parent for place in places]
    return not folders or any(
        INSTALLED.intersection(f.parts) or f.is_relative_to(PYTHON) or any(f.glob("*.dist-info")) for f in folders
    )

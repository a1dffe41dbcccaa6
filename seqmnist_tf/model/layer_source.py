"""The source of a layer that was defined in Python, in a notebook for example: a module that stands on its own."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import linecache
import symtable
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from ..system import InputError

HEAD = "from __future__ import annotations"


def without_constants(layer: Callable[..., Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return a factory without the constants that a ``functools.partial`` or a lambda of one call gives it, and these.

    Example:
        >>> without_constants(functools.partial(complex, imag=2.0))
        (<class 'complex'>, {'imag': 2.0})
    """
    if isinstance(layer, functools.partial) and not layer.args:
        factory, given = layer.func, layer.keywords
    elif (call := _call_of_lambda(layer)) is not None:
        factory, given = call
    else:
        return layer, {}
    factory, constants = without_constants(factory)
    return factory, {**constants, **given}


def _call_of_lambda(layer: Any) -> tuple[Callable[..., Any], dict[str, Any]] | None:
    """Return what ``lambda units: factory(units, name=value)`` calls, and the keyword arguments; None of others."""
    if not isinstance(layer, FunctionType) or layer.__name__ != "<lambda>":
        return None
    places = set(layer.__code__.co_positions())
    for node in ast.walk(_tree(layer.__code__.co_filename)):
        match node:
            case ast.Lambda(
                args=ast.arguments(args=[units, *defaults]), body=ast.Call(args=[ast.Name(id=name)]) as call
            ) if name == units.arg and (call.lineno, call.end_lineno, call.col_offset, call.end_col_offset) in places:
                known = inspect.getclosurevars(layer)
                names = {**vars(builtins), **layer.__globals__, **known.nonlocals}
                last = zip(reversed(defaults), reversed(layer.__defaults__ or ()), strict=False)
                names |= {argument.arg: value for argument, value in last} | (layer.__kwdefaults__ or {})
                used = {n.id for part in (call.func, *call.keywords) for n in ast.walk(part) if isinstance(n, ast.Name)}
                if name in used:
                    return None
                pair = ast.Tuple([call.func, ast.Call(ast.Name("dict", ast.Load()), [], call.keywords)], ast.Load())
                code = compile(ast.fix_missing_locations(ast.Expression(pair)), "<constants>", "eval")
                return eval(code, names)
    return None


def layer_source(layer: Callable[[int], Any]) -> tuple[str, bytes]:
    """Return the name of a layer and the source of a module that defines it.

    The source has the definition of the layer, the functions, classes and constants of its module that it uses, and
    the imports that they need. InputError is raised where its source is not known, or it uses a value that has none.
    """
    if not isinstance(layer, type | FunctionType):
        raise InputError(f"layer must be a layer class or a function of units (got {type(layer).__name__})")
    if not layer.__qualname__.isidentifier():
        raise InputError(
            "layer must be defined at the top level of a module or a notebook, with constants in a functools.partial "
            f"(got {layer.__qualname__})"
        )
    parts = _Parts(layer.__name__)
    parts.define(layer)
    text = "\n".join([HEAD, "", *sorted(parts.imports), "", *parts.constants, "", "\n\n\n".join(parts.definitions), ""])
    return layer.__name__, text.encode()


class _Parts:
    """The imports, constants and definitions of the module that is written."""

    def __init__(self, layer: str) -> None:
        self.layer = layer
        self.imports: set[str] = set()
        self.constants: list[str] = []
        self.definitions: list[str] = []
        self.known: set[str] = set()

    def define(self, value: type | FunctionType) -> None:
        """Add a class or function of the layer's module, after all that it uses."""
        self.known.add(value.__name__)
        source = _definition(value)
        names = vars(sys.modules[value.__module__]) if isinstance(value, type) else value.__globals__
        for name in _global_names(symtable.symtable(source, value.__name__, "exec")):
            if name in names and name not in self.known:
                self._add(name, names[name], value.__module__)
        self.definitions.append(source)

    def _add(self, name: str, value: Any, module: str) -> None:
        if isinstance(value, ModuleType):
            self.imports.add(f"import {value.__name__} as {name}" if value.__name__ != name else f"import {name}")
        elif getattr(value, "__module__", None) == module and isinstance(value, type | FunctionType):
            if value.__name__ not in self.known:
                self.define(value)
            if value.__name__ != name:
                self.definitions.append(f"{name} = {value.__name__}")
        elif _is_constant(value):
            self.constants.append(f"{name} = {value!r}")
        elif (home := _home(value)) is not None:
            renamed = f" as {name}" if value.__name__ != name else ""
            self.imports.add(f"from {home} import {value.__name__}{renamed}")
        elif getattr(builtins, name, None) is not inspect.unwrap(value):  # IPython wraps ``open``
            raise InputError(
                f"layer {self.layer} uses {name}, a {type(value).__name__} whose source is not known (define it inside "
                "of the layer, or give the layer as FILE.py:NAME)"
            )
        self.known.add(name)


def _global_names(table: symtable.SymbolTable) -> list[str]:
    """Return the names that a piece of a module reads from the module, in order; local variables are none of them."""
    module = table.get_type() == "module"
    here = {s.get_name() for s in table.get_symbols() if s.is_referenced() and (module or s.is_global())}
    return sorted(here.union(*map(_global_names, table.get_children())))


def _definition(value: type | FunctionType) -> str:
    """Return the source of a class or function.

    A class of a notebook has no file of its own; its methods know the cell that they were defined in.
    """
    if isinstance(value, FunctionType) and value.__closure__:
        raise InputError(f"layer uses {value.__name__}, which has variables of another function (define it by itself)")
    functions = [value] if isinstance(value, FunctionType) else vars(value).values()
    files = [
        f.__code__.co_filename
        for f in map(inspect.unwrap, functions)
        if isinstance(f, FunctionType) and f.__module__ == value.__module__
    ]
    module = sys.modules.get(value.__module__)  # a class without methods has no code of its own
    for file in [*files, str(getattr(module, "__file__", None))]:
        lines = linecache.getlines(file)
        for node in reversed(_tree(file).body):
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == value.__name__:
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                return "".join(lines[first - 1 : node.end_lineno]).rstrip()
    raise InputError(f"the source of layer {value.__name__} is not known (give the layer as FILE.py:NAME)")


def _tree(file: str) -> ast.Module:
    """Return the syntax of a file or of a notebook's cell, without its magics; an empty module where none is known."""
    lines = linecache.getlines(file)
    try:
        return ast.parse("".join(line if line.lstrip()[:1] not in "%!" else "\n" for line in lines))
    except SyntaxError:
        return ast.Module([], [])


def _is_constant(value: Any) -> bool:
    """Return whether the text of a value is the value: numbers, strings, and containers of them."""
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError, TypeError):
        return False


def _home(value: Any) -> str | None:
    """Return the module that a class or function can be imported from by its name, or None."""
    module = getattr(value, "__module__", None)
    if (
        module in (None, "__main__")
        or getattr(sys.modules.get(module), getattr(value, "__name__", ""), None) is not value
    ):
        return None
    return str(module)

"""One key of the configuration: its type with bounds, its default and its meaning, and the check of a value."""

from __future__ import annotations

import contextlib
import json
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from ..system import InputError

Constant = bool | int | float | str  # of a layer


def key(default: Any, meaning: str) -> Any:
    """Return a field whose meaning ``--help`` shows up to its first full stop, and docs/training.md in full."""
    start = {"default_factory": dict, "hash": False} if default == {} else {"default": default}
    return field(**start, metadata={"meaning": meaning})


@dataclass(frozen=True)
class Option:
    """One key of the configuration: its type with bounds, its default and its meaning."""

    key: str
    type: Any
    default: Any
    meaning: str = ""

    @property
    def kinds(self) -> list[Any]:
        """The types that a value may have, each perhaps with bounds."""
        is_union = typing.get_origin(self.type) in (types.UnionType, typing.Union)
        return list(typing.get_args(self.type)) if is_union else [self.type]

    @property
    def meta(self) -> Meta:
        """The bounds of the key; a bound that it does not have is None."""
        for kind in self.kinds:
            if typing.get_origin(kind) is Annotated:
                return kind.__metadata__[0]
        return Meta()

    @property
    def choices(self) -> tuple[Any, ...]:
        """All values of a key that takes one of a few; else empty."""
        return tuple(v for kind in self.kinds if typing.get_origin(kind) is Literal for v in typing.get_args(kind))

    @property
    def hidden(self) -> bool:
        """Whether the key has only one value. ``--help`` leaves it out; files may name it."""
        return len(self.choices) == 1 == len(self.kinds)

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        meta = self.meta
        words = [str(choice) for choice in self.choices]
        if meta.title:
            words.append(meta.title)
        elif meta.ge is not None and meta.le is not None:
            words.append(f"{meta.ge:,} to {meta.le:,}")
        elif bounds := [
            f"{sign} {x:,}" for sign, x in ((">=", meta.ge), (">", meta.gt), ("<", meta.lt)) if x is not None
        ]:
            words.append(" and ".join(bounds))
        elif float in self.kinds:
            words.append("a number")
        words += ["true", "false"] if bool in self.kinds else []
        words += ["text"] if str in self.kinds or meta.min_length else []
        words += ["null"] if types.NoneType in self.kinds else []
        return " or ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)

    def check(self, value: Any) -> Any:
        """Return ``value`` converted to the key's type; InputError where it is not allowed."""
        if isinstance(value, np.generic):
            value = value.item()
        return self._convert(value)

    def parse(self, text: str) -> Any:
        """Return the value of a command-line word; InputError where it is not allowed."""
        if types.NoneType in self.kinds and text.lower() == "null":
            return None
        if self.key.startswith("model.layer_options"):  # JSON; for one constant also True, False and plain text
            with contextlib.suppress(msgspec.DecodeError):
                return self.check(msgspec.json.decode(text.lower() if text.lower() in ("true", "false") else text))
        return self._convert(text, strict=False)

    def _convert(self, value: Any, strict: bool = True) -> Any:
        try:
            converted = msgspec.convert(value, self.type, strict=strict)
            if isinstance(converted, float) and not math.isfinite(converted):
                raise msgspec.ValidationError
        except msgspec.ValidationError:
            raise InputError(f"{self.key} must be {self.allowed} (got {json.dumps(value, default=str)})") from None
        return converted

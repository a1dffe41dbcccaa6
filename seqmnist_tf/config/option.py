"""One key of the configuration: its help, its allowed values, and the check of a value.

Standard library only.
"""

from __future__ import annotations

import json
import re
import struct
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..system import InputError, parse_json, parse_number

MAX_FLOAT32 = 3.4028234663852886e38  # numbers go into float32


def option(
    default: Any,
    doc: str,
    *,
    details: str = "",
    hidden: bool = False,
    hint: str = "",
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] = (),
    pattern: str = "",
    forms: tuple[str, ...] = (),
) -> Any:
    """Return a dataclass field with its help and its allowed values.

    Args:
        default: the value where none is given; ``{}`` makes a key that holds constants by name.
        doc: one short line, for ``--help``.
        details: the rest, for the documentation.
        hidden: the key has one value and is left out of ``--help``; files may name it.
        hint: what errors add.
        low, high: inclusive bounds.
        above, below: exclusive bounds.
        choices: accepted in any case and kept in the spelling given here.
        pattern: a regular expression that a string outside of ``choices`` must match in full.
        forms: ``pattern`` in words.
    """
    limits = {"low": low, "high": high, "above": above, "below": below}
    words = {"choices": choices, "pattern": pattern, "forms": forms}
    help_ = {"doc": doc, "details": details, "hidden": hidden, "hint": hint}
    start = {"default_factory": dict, "hash": False} if default == {} else {"default": default}
    return field(**start, metadata={**help_, **limits, **words})


@dataclass(frozen=True)
class Option:
    """One key of the configuration, as the command line and the checks use it."""

    key: str
    types: tuple[type, ...]
    default: Any
    meta: Mapping[str, Any]

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        meta, words = self.meta, []
        if numeric := [t for t in self.types if t in (int, float)]:
            words.append("an integer" if numeric == [int] else "a number")
            bounds = [
                f"{sign} {meta[name]:,}"
                for name, sign in (("low", ">="), ("above", ">"), ("high", "<="), ("below", "<"))
                if meta[name] is not None
            ]
            if meta["low"] is not None and meta["low"] == meta["high"]:
                words[0] = str(meta["low"])
            elif meta["low"] is not None and meta["high"] is not None:
                words[0] += f" from {meta['low']:,} to {meta['high']:,}"
            elif bounds:
                words[0] += " " + " and ".join(bounds)
        if bool in self.types:
            words += ["true", "false"]
        words += meta["choices"] + meta["forms"]
        if str in self.types and not (meta["choices"] or meta["forms"]):
            words.append("text")
        if types.NoneType in self.types:
            words.append("null")
        return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]

    def check(self, value: Any) -> Any:
        """Return ``value`` in the key's own type and spelling, or raise InputError."""
        if value is None and types.NoneType in self.types:
            return None
        if isinstance(value, bool):
            if bool in self.types:
                return value
        elif isinstance(value, int | float) and self._admits_number(value):
            return float(value) if isinstance(value, float) or int not in self.types else value
        elif dict in self.types and isinstance(value, dict) and all(map(_is_name, value)):
            return {name: self.constant(name).check(part) for name, part in value.items()}
        elif isinstance(value, str) and str in self.types:
            for choice in self.meta["choices"]:
                if value.lower() == choice.lower():
                    return choice
            open_ended = not self.meta["choices"] and not self.meta["pattern"]
            is_text = value and not re.search("[\ud800-\udfff]", value)  # of a file name that is not UTF-8
            if is_text and (open_ended or re.fullmatch(self.meta["pattern"], value)):
                return value
        given = json.dumps(value, default=lambda other: f"{type(other).__name__} {other}")
        raise InputError(self._refusal(given))

    def parse(self, text: str) -> Any:
        """Return the value of a command-line word, or raise InputError."""
        if types.NoneType in self.types and text.lower() == "null":
            return None
        if bool in self.types and (text.lower() in ("true", "false") or str not in self.types):
            return self.check({"true": True, "false": False}.get(text.lower(), text))
        if dict in self.types:
            try:
                document = parse_json(text)
            except ValueError:
                raise InputError(self._refusal(repr(text))) from None
            return self.check(document)
        for number in (int, float):
            if number in self.types:
                try:
                    return self.check(parse_number(number, text))
                except ValueError as error:
                    if isinstance(error, InputError):
                        raise InputError(self._refusal(repr(text))) from None
        return self.check(text)

    def constant(self, name: str) -> Option:
        """Return the option of one of the constants that this key holds."""
        return Option(f"{self.key}.{name}", (int, float, bool, str), None, {**self.meta, "forms": ()})

    def _refusal(self, given: str) -> str:
        hint = f"; {self.meta['hint']}" if self.meta["hint"] else ""
        return f"{self.key} must be {self.allowed} (got {given}){hint}"

    def _admits_number(self, value: float) -> bool:
        if float not in self.types and not (int in self.types and isinstance(value, int)):
            return False
        meta = self.meta
        if not abs(value) <= MAX_FLOAT32:  # NaN is neither
            return False
        if float in self.types:
            (value,) = struct.unpack("f", struct.pack("f", value))  # a number near a bound becomes the bound
        return (
            (meta["low"] is None or value >= meta["low"])
            and (meta["high"] is None or value <= meta["high"])
            and (meta["above"] is None or value > meta["above"])
            and (meta["below"] is None or value < meta["below"])
        )


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value.isidentifier()

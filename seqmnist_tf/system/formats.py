"""Numbers and tables as people read them: counts, times, percentages, p values, Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 seed``, ``2 seeds``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a time in words: ``75 s``, ``10 min``, ``2.0 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def in_percent(share: float, sign: bool = False) -> str:
    """Return a share (-1 to 1) in percent with two decimals, without the percent sign; never a signed zero.

    Halves are rounded away from 0, as by hand: 0.98915 is ``98.92``. A mean of counts that is a half in the decimal
    system is not one as a binary number, so digits from the tenth on are dropped first.
    """
    percent = Decimal(f"{100 * share:.9f}").quantize(Decimal("0.01"), ROUND_HALF_UP)
    if percent == 0:
        return "0.00"
    return f"{percent:+}" if sign else str(percent)


def percent_range(shares: tuple[float, float] | None, sign: bool = False) -> str:
    """Return two shares in percent, such as ``99.06 to 99.16``; an empty string for None."""
    return "" if shares is None else f"{in_percent(shares[0], sign)} to {in_percent(shares[1], sign)}"


def p_text(p: float | None) -> str:
    """Return a p value with two significant digits, or ``<0.001``; an empty string where no test was made."""
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:#.2g}"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table; a column is right-aligned where its heading begins with ``>``."""
    texts = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    names = " | ".join(name.removeprefix(">") for name in head)
    rule = "|".join("---:" if name.startswith(">") else "---" for name in head)
    return "\n".join([f"| {names} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in texts)])

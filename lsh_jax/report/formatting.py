"""Numbers as a reader wants them; what is missing becomes a dash."""

import math
from typing import Any

MISSING = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"


def number(value: float | None, digits: int = 4) -> str:
    """A number with `digits` significant digits, thousands apart, and a true minus."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value != 0 and not 1e-4 <= abs(value) < 1e15:
        return f"{value:.{digits}g}".replace("-", _MINUS)
    decimals = digits - 1 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{max(decimals, 0)}f}".replace("-", _MINUS)


def signed(value: float, decimals: int = 4) -> str:
    """A difference, with its sign."""
    form = f"+.{decimals}f" if abs(value) < 1e15 else "+.4g"
    return f"{value:{form}}".replace("-", _MINUS)


def percent(share: float, digits: int = 1) -> str:
    """A share in [0, 1] in percent."""
    return f"{100 * share:.{digits}f} %"


def with_error(value: float | None, error: float | None) -> str:
    """A value and its standard error."""
    if value is None:
        return MISSING
    return number(value) if error is None else f"{number(value)} ± {number(error, 2)}"


def duration(seconds: float | None) -> str:
    """A time in the units one would say it in."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def plural(count: int, noun: str) -> str:
    """A count and what is counted."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def setting(value: Any) -> str:
    """A setting: lists by commas, numbers short."""
    if isinstance(value, list):
        return ", ".join(setting(inner) for inner in value)
    if isinstance(value, float):
        return f"{value:g}"
    return MISSING if value is None else str(value)

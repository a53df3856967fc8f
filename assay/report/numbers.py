"""How a number is printed: as many digits as its uncertainty deserves, and the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Iterable

MINUS, TIMES, NARROW = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}", "\N{NARROW NO-BREAK SPACE}"
DASH = "\N{EM DASH}"
_EXPONENT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | None, decimals: int | None = None) -> str:
    """Four significant digits, or the decimals asked for; a dash where there is no number."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return ("" if value > 0 else MINUS) + "\N{INFINITY}"
    size = abs(value)
    if size >= 1e6 or (decimals is None and 0 < size < 1e-3):
        mantissa, exponent = f"{value:.2e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".")
        power = str(int(exponent)).translate(_EXPONENT)
        return f"{mantissa}{NARROW}{TIMES}{NARROW}10{power}".replace("-", MINUS)
    if decimals is not None:
        text = f"{value:.{decimals}f}"
    elif float(value).is_integer():
        text = f"{int(value)}"
    else:
        text = f"{value:.4g}"
    if float(text) == 0:
        text = text.lstrip("-")
    whole, dot, rest = text.partition(".")
    if len(whole.lstrip("-")) > 4:
        whole = f"{int(whole):,}".replace(",", NARROW)
    return (whole + dot + rest).replace("-", MINUS)


def with_unit(text: str, unit: str) -> str:
    """A value and its unit, kept on one line."""
    return f"{text}{NARROW}{unit}" if unit and text != DASH else text


def decimals_for(uncertainty: float | None) -> int | None:
    """Decimals that show two digits of an uncertainty; None where there is none to go by."""
    if uncertainty is None or not math.isfinite(uncertainty) or uncertainty <= 0:
        return None
    decimals = max(0, 1 - math.floor(math.log10(uncertainty)))
    return decimals if decimals <= 6 else None


def estimate_text(estimate: float | None, interval: Iterable[float | None] | None) -> tuple[str, str]:
    """An estimate and its interval, both to the digits that the interval's half width deserves."""
    low, high = interval if interval is not None else (None, None)
    if low is None and high is None:
        return number(estimate), ""
    half = (high - low) / 2 if low is not None and high is not None else None
    decimals = decimals_for(half)
    ends = [
        number(end if end is not None else open_end, decimals) for end, open_end in ((low, -math.inf), (high, math.inf))
    ]
    return number(estimate, decimals), f"{ends[0]} to {ends[1]}"


def mean_and_spread(mean: float | None, spread: float | None) -> str:
    """`0.953 ± 0.004`; the mean alone where nothing varied or nothing was repeated."""
    if mean is None or not spread:
        return number(mean)
    decimals = decimals_for(spread)
    return f"{number(mean, decimals)} ± {number(spread, decimals)}"


def byte_text(count: float | None) -> str:
    """Bytes in binary units, as machines are sold: `31.3 GiB`."""
    if count is None:
        return DASH
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return with_unit(number(count, 0 if unit == "B" else 1), unit)
        count /= 1024
    return with_unit(number(count, 1), "TiB")


def duration_text(seconds: float | None) -> str:
    """`0.4 s`, `12 min 5 s`, `3 h 20 min`."""
    if seconds is None:
        return DASH
    if seconds < 60:
        return with_unit(number(seconds, 1 if seconds < 10 else 0), "s")
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"

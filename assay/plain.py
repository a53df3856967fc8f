"""What can be recorded: plain numbers, texts and truth values. Refused where it is recorded, not when it is stored.

A scalar of numpy or torch becomes the plain one that equals it exactly. All else would be lost with its whole job when
that ends and is written as JSON.
"""

from __future__ import annotations

import math
import reprlib
from typing import Any

from assay.errors import RecordError
from assay.record import Scalar


def scalar(value: Any, what: str) -> Scalar:
    """A finite number, a text or a truth value. `what` opens the error: where, and of which name, the value is."""
    plain = _without_array(value, what)
    if isinstance(plain, bool):
        return plain
    if isinstance(plain, int | float):
        return _finite(plain, what)
    if isinstance(plain, str):
        return text(plain, what)
    raise _refused(value, what, "neither a number, nor a text, nor a truth value")


def number(value: Any, what: str) -> int | float:
    """A number that JSON can hold, or one that is not finite, which the caller makes a missing value."""
    plain = _without_array(value, what)
    if not isinstance(plain, int | float):
        raise _refused(value, what, "no number")
    return float(plain) if isinstance(plain, float) else int(_finite(plain, what))


def index(value: Any, what: str) -> int | None:
    """A whole number or None."""
    plain = _without_array(value, what)
    if plain is None:
        return None
    if not isinstance(plain, int) or isinstance(plain, bool):
        raise _refused(value, what, "no whole number")
    return int(plain)


def text(value: Any, what: str) -> str:
    """A text that can be written as UTF-8."""
    if not isinstance(value, str):
        raise _refused(value, what, "no text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _refused(value, what, "half of a character, which no file can hold") from None
    return str.__str__(value)  # of numpy's text and of an enumeration too


def printable(message: str) -> str:
    """A message of somebody else's error, with what no file can hold written as an escape."""
    return message.encode(errors="backslashreplace").decode()


def _without_array(value: Any, what: str) -> Any:
    if not hasattr(value, "item"):
        return value
    try:
        return value.item()
    except (TypeError, ValueError, RuntimeError):
        raise _refused(value, what, "no single number") from None


def _finite(value: int | float, what: str) -> int | float:
    try:
        if math.isfinite(value):
            return float(value) if isinstance(value, float) else int(value)
    except OverflowError:
        raise RecordError(f"{what} is a whole number of {int(value).bit_length()} bits, the most are 1,024") from None
    raise _refused(value, what, "not finite")


def _refused(value: Any, what: str, why: str) -> RecordError:
    return RecordError(f"{what} is {printable(reprlib.repr(value))} ({type(value).__name__}): {why}")

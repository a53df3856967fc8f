"""How the series of a paper look: a colour, a marker, dashes and a hatch for each, the same in all of its figures.

The look is numbered over the paper's series, so that a reader learns it once. Any two of the first 32 differ in more
than colour: lines in their marker or dashes, bars of one colour in their hatch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COLOURS = 8  # s1 to s8 of the style sheet
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
HATCHES = ("", "////", r"\\\\", "xxxx")
# the same shapes for the key beside a picture, 10 units wide around the origin
_MARKER_PATHS = (
    "M4,0A4,4 0 1 1 -4,0 4,4 0 1 1 4,0Z", "M-3.6,-3.6H3.6V3.6H-3.6Z", "M0,-4.4 4.4,3.8H-4.4Z",
    "M0,-4.8 4.8,0 0,4.8 -4.8,0Z", "M0,4.4 4.4,-3.8H-4.4Z",
    "M-1.5,-4.5H1.5V-1.5H4.5V1.5H1.5V4.5H-1.5V1.5H-4.5V-1.5H-1.5Z",
    "M-4.2,-2.1 -2.1,-4.2 0,-2.1 2.1,-4.2 4.2,-2.1 2.1,0 4.2,2.1 2.1,4.2 0,2.1 -2.1,4.2 -4.2,2.1 -2.1,0Z",
    "M0,-5 1.3,-1.7 4.8,-1.5 2.1,.7 3,4.1 0,2.2 -3,4.1 -2.1,.7 -4.8,-1.5 -1.3,-1.7Z",
)  # fmt: skip
_HATCH_PATHS = ("", "M-6,0 0,-6M-6,6 6,-6M0,6 6,0", "M-6,0 0,6M-6,-6 6,6M0,-6 6,0",
                "M-6,0 0,-6M-6,6 6,-6M0,6 6,0M-6,0 0,6M-6,-6 6,6M0,-6 6,0")  # fmt: skip


def colour_of(style: int) -> int:
    return style % COLOURS


def marker_of(style: int) -> str:
    return MARKERS[_marker(style)]


def dashes_of(style: int) -> Any:
    return DASHES[_second(style)]


def hatch_of(style: int) -> str:
    return HATCHES[_second(style)]


def _marker(style: int) -> int:
    """The next eight series have the colours again, each with a marker from the other side of the list."""
    return (style + 4 * (style // COLOURS)) % len(MARKERS)


def _second(style: int) -> int:
    return (style % COLOURS // 2 + style // COLOURS) % len(DASHES)


def key(style: int) -> Mapping[str, str]:
    """What the key beside a picture draws: the marker's path, the dash pattern and the hatch's path (or empty)."""
    pattern = dashes_of(style)
    return {
        "colour": f"s{colour_of(style) + 1}",
        "marker": _MARKER_PATHS[_marker(style)],
        "dashes": "" if pattern == "-" else " ".join(f"{2 * length:g}" for length in pattern[1]),
        "hatch": _HATCH_PATHS[_second(style)],
    }

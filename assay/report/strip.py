"""The strip beside every verdict: one line of numbers with the claim's region, our interval, and what was reported.

A strip is plain SVG with positions in percent, so it takes the width it is given and needs no inline style.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from assay.card import Reported, Test
from assay.ratio import ratio_form
from assay.report.numbers import estimate_text, number, with_unit

_EDGE = 3.0  # percent kept free at both ends, for the marks' own width
_REACH = 3.0  # a reported number further away than this many spans is drawn as an arrow at the edge


@dataclass(frozen=True)
class Scale:
    """Numbers to percent of the strip's width, linear or logarithmic."""

    low: float
    high: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self._position(self.low), self._position(self.high)
        share = (self._position(min(max(value, self.low), self.high)) - low) / (high - low)
        return round(_EDGE + share * (100 - 2 * _EDGE), 2)

    def _position(self, value: float) -> float:
        return math.log(value) if self.log else value

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Region:
    """Where an interval must lie for `reproduced`; an open side is None."""

    low: float | None
    high: float | None
    text: str

    def ends(self) -> list[float]:
        return [end for end in (self.low, self.high) if end is not None]


def region_of(test: Test) -> Region | None:
    """The acceptance region of a test, in the words of the card."""
    if test.target is not None and test.within is not None:
        text = f"{number(test.target)} ± {number(test.within)}"
        if test.within == 0:
            text = f"= {number(test.target)}"
        return Region(test.target - test.within, test.target + test.within, text)
    if test.kind == "equivalence" and test.margin is not None:
        return Region(-test.margin, test.margin, f"0 ± {number(test.margin)}")
    if test.bar is not None:
        sign = {">=": "≥", "<=": "≤"}.get(test.bar.op, test.bar.op)
        text = f"{sign} {number(test.bar.threshold)}"
        if test.bar.higher_is_claimed:
            return Region(test.bar.threshold, None, text)
        return Region(None, test.bar.threshold, text)
    return None


def no_effect_of(test: Test) -> float | None:
    """0 for a difference, 1 for a ratio. Values, equivalences and slopes have none."""
    if test.kind != "effect" or test.value is None:
        return None
    form = ratio_form(test.expression())
    return form.no_effect if form is not None else 0.0


@dataclass(frozen=True)
class Strip:
    """What a strip shows. `estimate` may be missing: then the bar is drawn alone."""

    estimate: float | None
    interval: tuple[float, float] | None
    region: Region | None
    no_effect: float | None = None
    reported: tuple[float, ...] = ()
    unit: str = ""

    def label(self) -> str:
        """The strip in words, for those who do not see it."""
        middle, ends = estimate_text(self.estimate, self.interval)
        said = [f"estimate {with_unit(middle, self.unit)}" if self.estimate is not None else "no estimate"]
        if ends:
            said.append(f"interval {ends}")
        if self.region is not None:
            said.append(f"bar {self.region.text}")
        if self.no_effect is not None:
            said.append(f"no effect {number(self.no_effect)}")
        if self.reported:
            said.append("reported " + " to ".join(number(value) for value in self.reported))
        return ", ".join(said)

    def scale(self) -> Scale | None:
        """Wide enough for all that decides the verdict, and for the reported number where it is not far away."""
        inside = [self.estimate, *(self.interval or ()), self.no_effect]
        inside += self.region.ends() if self.region else []
        values = [value for value in inside if value is not None and math.isfinite(value)]
        if not values:
            return None
        low, high = min(values), max(values)
        span = high - low or abs(high) or 1.0
        for value in self.reported:
            if low - _REACH * span <= value <= high + _REACH * span:
                values.append(value)
        low, high = min(values), max(values)
        if low > 0 and high / low > 20:
            return Scale(*_round_ends(low / 1.3, high * 1.3, low / 1.3, high * 1.3), log=True)
        pad = 0.08 * (high - low) or 0.5 * abs(high) or 1.0
        return Scale(*_round_ends(low - pad, high + pad, high - low + 2 * pad, high - low + 2 * pad))


def _round_ends(low: float, high: float, low_size: float, high_size: float) -> tuple[float, float]:
    """Outward to two digits of the sizes, so that the ends of a strip can be read."""
    digits = [1 - math.floor(math.log10(size)) for size in (low_size, high_size)]
    ends = math.floor(low * 10.0 ** digits[0]), math.ceil(high * 10.0 ** digits[1])
    return round(ends[0] * 10.0 ** -digits[0], digits[0]), round(ends[1] * 10.0 ** -digits[1], digits[1])


def draw(strip: Strip, tone: str) -> Markup:
    """The strip as SVG. `tone` names the verdict's colour, a class of the style sheet."""
    scale = strip.scale()
    if scale is None:
        return Markup("")
    parts = ['<line class="axis" x1="0" x2="100%" y1="14" y2="14"/>']
    if strip.region is not None:
        parts += _draw_region(strip.region, scale)
    if strip.no_effect is not None:
        at = scale(strip.no_effect)
        parts.append(f'<line class="none" x1="{at}%" x2="{at}%" y1="4" y2="24"/>')
    parts += _draw_reported(strip.reported, scale)
    if strip.interval is not None:
        parts += _draw_interval(strip.interval, scale)
    if strip.estimate is not None and math.isfinite(strip.estimate):
        parts.append(f'<circle class="estimate" cx="{scale(strip.estimate)}%" cy="14" r="4.5"/>')
    return Markup('<svg class="strip {}" height="28" width="100%" role="img" aria-label="{}">{}</svg>').format(
        tone, strip.label(), Markup("".join(parts))
    )


def _draw_region(region: Region, scale: Scale) -> list[str]:
    low = scale(region.low) if region.low is not None else 0.0
    high = scale(region.high) if region.high is not None else 100.0
    wide = round(max(high - low, 0.4), 2)
    parts = [f'<rect class="region" x="{low}%" width="{wide}%" y="3" height="22" rx="2"/>']
    for end in region.ends():
        parts.append(f'<line class="bar" x1="{scale(end)}%" x2="{scale(end)}%" y1="1" y2="27"/>')
    return parts


def _draw_interval(interval: tuple[float, float], scale: Scale) -> list[str]:
    """A thick line; a cap at each end that is really the end, and none where it goes on."""
    finite = [
        value if value is not None and math.isfinite(value) else edge
        for value, edge in zip(interval, (scale.low, scale.high), strict=True)
    ]
    low, high = scale(finite[0]), scale(finite[1])
    parts = [f'<line class="interval" x1="{low}%" x2="{high}%" y1="14" y2="14"/>']
    for value, at in zip(interval, (low, high), strict=True):
        if value is not None and math.isfinite(value) and scale.holds(value):
            parts.append(f'<line class="cap" x1="{at}%" x2="{at}%" y1="9" y2="19"/>')
    return parts


def _draw_reported(reported: tuple[float, ...], scale: Scale) -> list[str]:
    """A hollow diamond at the number; an arrow at the edge where it lies outside the strip."""
    parts = []
    for value in reported:
        shape = "M0,-5.5 5.5,0 0,5.5 -5.5,0Z"
        if not scale.holds(value):
            shape = "M-1,-5 5,0 -1,5Z" if value > scale.high else "M1,-5 -5,0 1,5Z"
        # a nested svg takes a percentage where a transform cannot
        parts.append(f'<svg class="at" x="{scale(value)}%" y="14"><path class="reported" d="{shape}"/></svg>')
    return parts


def reported_values(reported: Reported | None, unit: str) -> tuple[float, ...]:
    """The reported number or range, where it is in the unit of our estimate; else nothing can be drawn."""
    if reported is None or not same_unit(reported.unit, unit):
        return ()
    return tuple(v for v in (reported.value, reported.low, reported.high) if v is not None)


def same_unit(one: str, other: str) -> bool:
    """A factor may be written with a unit or without."""
    ratio = ("", "x", "×", "ratio")
    return one == other or (one in ratio and other in ratio)

"""The result of one test, and the region that the estimate is compared with."""

from __future__ import annotations

from dataclasses import dataclass

from assay.acceptance import Test
from assay.verdict import regions
from assay.verdict.reduce import Samples
from assay.verdict.stats import VerdictError


@dataclass(eq=False)
class Outcome:
    """The result of one test. `estimate`, `low` and `high` are in the claim's unit; None if there is none."""

    word: str
    reason: str
    bar: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    unit: str = ""
    evidence: str = "measured"
    p: float | None = None
    needed: int | None = None


@dataclass(frozen=True)
class Around:
    """The region of a value claim, or of an equivalence claim (around 0)."""

    target: float
    within: float
    outside: float


Region = regions.Effect | Around


def region_of(test: Test, samples: Samples) -> Region:
    """The one region of a test. Raises VerdictError where there is none, or more than one."""
    try:
        region = test.region()
    except ValueError as error:
        raise VerdictError(str(error)) from error
    if region == "bar":
        return regions.thresholds(test, samples.no_effect)
    target, within = (test.target, test.within) if region == "target" else (0.0, test.margin)
    if target is None or within is None:
        raise VerdictError("a claim needs a `bar`, a `target` with `within`, or a `margin`")
    return Around(target, within, within if test.outside is None else test.outside)


def bar_text(test: Test) -> str:
    if test.bar is not None:
        return str(test.bar)
    if test.target is not None:
        return f"= {test.target:g}" if not test.within else f"within {test.within:g} of {test.target:g}"
    return f"within {test.margin:g} of 0" if test.margin is not None else ""

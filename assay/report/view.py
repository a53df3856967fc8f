"""What the pages and the scoreboard show of a claim: which verdict leads, what it rests on, what to flag."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from assay.card import PROFILES, Card, Claim, Reported, Test
from assay.report.numbers import estimate_text, number, with_unit
from assay.report.strip import Strip, draw, no_effect_of, region_of, reported_values, same_unit
from assay.report.tables import setting_text
from assay.verdict import VERDICTS, Verdict, bh

TONES = {word: word.split()[0] for word in VERDICTS}
WEAK_SOURCES = ("second-hand", "from memory")
PROFILE_NOTES = {
    "quick": "a small run, not the paper's",
    "standard": "real data, no GPU",
    "gpu": "the paper's protocol, or as near as one card allows",
}


@dataclass(frozen=True)
class Shown:
    """One verdict, or one part of a conjunction, as a page prints it."""

    word: str
    tone: str
    reason: str
    profile: str
    device: str
    evidence: str
    estimate: str
    interval: str
    strip: Markup
    scale_ends: tuple[str, str] | None
    bar: str
    value: str
    no_effect: float | None
    replicates: str
    needed: int | None
    p: float | None
    unit: str = ""
    notes: tuple[str, ...] = ()
    reported_drawn: bool = False
    outside: bool = False
    changed: bool = False
    core: bool = False
    parts: tuple[Shown, ...] = ()

    @property
    def small(self) -> bool:
        """Whether it rests on a quick run, which must never be read as the paper's run."""
        return self.profile == "quick" and self.word != "untested"


@dataclass(frozen=True)
class ClaimView:
    """A claim with its verdicts, that of the largest profile first."""

    card: Card
    id: str
    claim: Claim
    reported: Reported | None
    verdicts: tuple[Shown, ...]
    q: float | None = None

    @property
    def lead(self) -> Shown:
        return self.verdicts[0]

    @property
    def parts(self) -> list[Shown]:
        """What a short table shows of it: its parts, those in the reported number's unit first, or itself."""
        unit = self.reported.unit if self.reported else ""
        shown = self.lead.parts or (self.lead,)
        return sorted(shown, key=lambda part: not (unit and part.estimate.endswith(unit)))

    @property
    def own(self) -> bool:
        """Whether it is a check of ours, which no paper claims: shown and counted apart."""
        return self.claim.of == "ours"

    @property
    def anchor(self) -> str:
        return "claim-" + re.sub(r"[^a-z0-9]+", "-", self.id.lower())

    @property
    def kind(self) -> str:
        return next((test.kind for test in self.claim.tests() if test.kind), "")

    @property
    def reported_text(self) -> str:
        return reported_text(self.reported)

    @property
    def other_unit(self) -> bool:
        """Whether no estimate of ours is in the unit of the reported number: then they are not compared."""
        shown = [part for part in self.lead.parts or (self.lead,) if part.estimate]
        return self.reported is not None and bool(shown) and \
            all(not same_unit(self.reported.unit, part.unit) for part in shown)  # fmt: skip

    @property
    def simulated(self) -> bool:
        """Whether a model of a machine answers it: such claims are shown apart from measured ones."""
        return any(test.evidence == "simulated" for test in self.claim.tests())

    @property
    def where(self) -> str:
        return setting_text(self.claim.where)

    @property
    def changes(self) -> str:
        """What a new replicate changes, and so what the interval is about."""
        replicate = self.claim.tests()[0].replicate
        changes = replicate.changes if replicate else None
        return {"init": "new initialisation, fixed data", "split": "new split", "data": "new data"}.get(
            changes or "", ""
        )

    @property
    def weak_source(self) -> bool:
        return self.reported is not None and self.reported.known in WEAK_SOURCES


def reported_text(reported: Reported | None) -> str:
    """`84.4 ± 0.5 %`, `1.2 to 3.4`, `up to 3.4 ×`."""
    if reported is None:
        return ""
    if reported.value is not None:
        spread = f" ± {number(reported.std)}" if reported.std else ""
        return with_unit(number(reported.value) + spread, reported.unit)
    if reported.low is None:
        return "up to " + with_unit(number(reported.high), reported.unit)
    if reported.high is None:
        return "at least " + with_unit(number(reported.low), reported.unit)
    return with_unit(f"{number(reported.low)} to {number(reported.high)}", reported.unit)


def claim_views(cards: Iterable[Card], verdicts: Iterable[Verdict]) -> list[ClaimView]:
    """Every claim of every card, in the order of the cards, with its verdicts and its place after Benjamini-Hochberg.

    A verdict without a device was given without a result: a profile that never ran has nothing to say.
    """
    found: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.device is not None:
            found.setdefault((verdict.paper, verdict.claim), []).append(verdict)
    views = [
        ClaimView(card, claim_id, claim, card.reported.get(claim.reported or ""),
                  _in_order(card, claim, found.get((card.slug, claim_id), [])))
        for card in cards
        for claim_id, claim in card.claims.items()
    ]  # fmt: skip
    return [replace(view, q=q) for view, q in zip(views, _adjusted(views), strict=True)]


def _in_order(card: Card, claim: Claim, verdicts: list[Verdict]) -> tuple[Shown, ...]:
    """The largest profile that judged the claim leads, whatever it says; one that the card rules out is not shown."""
    if claim.untested is not None or not verdicts:
        return (_not_run(claim, claim.untested or "not run yet"),)
    attempts = [v for v in verdicts if v.verdict != "untested" or v.profile in claim.profiles]
    if not attempts:
        return (_not_run(claim, verdicts[-1].reason),)
    size: dict[str, int] = {profile: place for place, profile in enumerate(PROFILES)}
    attempts.sort(key=lambda v: (v.verdict == "untested", -size.get(v.profile, -1)))
    return tuple(_shown(card, claim, verdict) for verdict in attempts)


def _not_run(claim: Claim, reason: str) -> Shown:
    """A claim with nothing to rest on: its bars alone."""
    nothing = _nothing(claim)
    return replace(_of_tests(claim, nothing, nothing[0], ()), reason=reason)


def _nothing(claim: Claim) -> list[dict[str, Any]]:
    """What an untested claim knows of each of its tests."""
    unknown = {"estimate": None, "interval": None, "verdict": "untested", "reason": ""}
    return [{**unknown, "unit": test.unit} for test in claim.tests()]


def _shown(card: Card, claim: Claim, verdict: Verdict) -> Shown:
    tests = claim.tests()
    reported = card.reported.get(claim.reported or "") if len(tests) == 1 else None
    drawn = reported_values(reported, verdict.unit)
    return replace(
        _of_tests(claim, verdict.parts or _nothing(claim), vars(verdict), drawn),
        reason=verdict.reason,
        profile=verdict.profile,
        device=verdict.device or "",
        evidence=verdict.evidence,
        replicates=_replicates(tests[0], verdict.n),
        needed=verdict.needed,
        p=verdict.p,
        notes=tuple(_notes(verdict)),
        reported_drawn=bool(drawn),
        outside=_is_outside(reported, verdict),
        changed=verdict.changed,
    )


def _of_tests(
    claim: Claim, parts: Sequence[Mapping[str, Any]], whole: Mapping[str, Any], reported: tuple[float, ...]
) -> Shown:
    """The numbers and strips of a claim; those of its parts where it has several tests."""
    tests = claim.tests()
    shown = _test_shown(tests[0], whole, reported)
    if len(tests) == 1:
        return shown
    return replace(
        shown,
        strip=Markup(""),
        scale_ends=None,
        estimate="",
        interval="",
        bar="",
        parts=tuple(
            replace(_test_shown(test, part, ()), core=test.core, reason=part["reason"])
            for test, part in zip(tests, parts, strict=False)
        ),
    )


def _test_shown(test: Test, judged: Mapping[str, Any], reported: tuple[float, ...]) -> Shown:
    """One test's numbers and strip; what belongs to the whole claim is filled in by the caller."""
    estimate, interval, unit = judged["estimate"], judged["interval"], judged["unit"]
    middle, ends = estimate_text(estimate, interval) if estimate is not None else ("", "")
    region = region_of(test)
    strip = Strip(estimate, interval, region, no_effect_of(test), reported, unit)
    scale = strip.scale()
    tone = TONES[judged["verdict"]]
    return Shown(
        word=judged["verdict"], tone=tone, reason="", profile="", device="", evidence="",
        estimate=with_unit(middle, unit) if middle else "", interval=ends, strip=draw(strip, tone),
        scale_ends=(number(scale.low), number(scale.high)) if scale else None,
        bar=region.text if region else "", value=_value(test), no_effect=strip.no_effect, replicates="", needed=None,
        p=None, unit=unit,
    )  # fmt: skip


def _value(test: Test) -> str:
    return test.value or (f"slope of {test.slope}" if test.slope else "")


def _replicates(test: Test, n: int | None) -> str:
    """`10 seeds`, `5 processes`, `exact`."""
    unit = test.replicate.unit if test.replicate else ""
    if unit == "exact":
        return "exact"
    if not n or not unit:
        return ""
    return f"{n} {unit}" + ("" if n == 1 else "es" if unit == "process" else "s")


def _notes(verdict: Verdict) -> list[str]:
    """What must stand beside a verdict, so that nobody takes more from it than there is."""
    notes = []
    if verdict.changed:
        notes.append("The card changed since the run: its bar may have been moved after the result was known.")
    if verdict.evidence == "simulated" and verdict.verdict != "untested":
        notes.append("Simulated, not measured: a model of the machine gave these numbers.")
    return notes


def _is_outside(reported: Reported | None, verdict: Verdict) -> bool:
    """Whether the paper's number lies outside our interval; not judged where both are not in one unit."""
    if verdict.interval is None or not reported_values(reported, verdict.unit) or reported is None:
        return False
    low, high = (_or(end, infinite) for end, infinite in zip(verdict.interval, (-math.inf, math.inf), strict=True))
    if reported.value is not None:
        return not low <= reported.value <= high
    return _or(reported.low, -math.inf) > high or _or(reported.high, math.inf) < low


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _adjusted(views: Sequence[ClaimView]) -> list[float | None]:
    """Each claim's p after Benjamini-Hochberg, over the claims that have one: the papers' and our own apart."""
    found: list[float | None] = [view.lead.p if view.lead.word != "untested" else None for view in views]
    for own in (False, True):
        family = {i: p for i, p in enumerate(found) if p is not None and views[i].own == own}
        for place, q in zip(family, bh(list(family.values())), strict=True):
            found[place] = float(q)
    return found


def apart(views: Iterable[ClaimView]) -> tuple[list[ClaimView], list[ClaimView]]:
    """What the papers claim, and the checks of our own."""
    views = list(views)
    return [view for view in views if not view.own], [view for view in views if view.own]


def counts(views: Iterable[ClaimView]) -> dict[str, int]:
    """How many claims lead with each verdict; every word is there."""
    total = dict.fromkeys(VERDICTS, 0)
    for view in views:
        total[view.lead.word] += 1
    return total


def judged_by_interval(views: Iterable[ClaimView]) -> int:
    """Claims that chance could make `reproduced`: judged, and not exact."""
    return sum(view.lead.word != "untested" and not _is_exact(view.claim) for view in views)


def _is_exact(claim: Claim) -> bool:
    return all(test.replicate is not None and test.replicate.unit == "exact" for test in claim.tests())

"""A claim and the measurements of its paper become a verdict. Pure: no files, no torch, no clock."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from assay.card import Card, Claim, Reported, Test
from assay.record import Result
from assay.verdict import stats
from assay.verdict.decide import decide
from assay.verdict.outcome import Outcome, bar_text
from assay.verdict.regions import CONTRADICTED, DIRECTION_ONLY, INCONCLUSIVE, REPRODUCED, UNTESTED
from assay.verdict.rows import incomplete
from assay.verdict.stats import VerdictError

# numbers that nobody here has read in the paper itself
HEARSAY = ("second-hand", "from memory")
EVIDENCE = ("simulated", "measured", "counted")


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Attributes:
        estimate, interval: in `unit`; None where nothing could be estimated. An end is None where it is unbounded.
        n: replicates behind the estimate.
        p: one-sided p value of the bar, for the scoreboard's Benjamini-Hochberg column; None for exact claims.
        needed: replicates that would decide between the estimate and the bar.
        of: whose claim it is, the `paper`'s or `ours`.
        changed: the claim on the card is no longer the one that was there at the run.
        parts: one entry for each part of a conjunction.
    """

    paper: str
    claim: str
    kind: str | None
    says: str
    verdict: str
    reason: str
    profile: str
    of: str = "paper"
    evidence: str = "measured"
    estimate: float | None = None
    interval: tuple[float | None, float | None] | None = None
    n: int = 0
    unit: str = ""
    reported: dict[str, Any] | None = None
    bar: str = ""
    needed: int | None = None
    p: float | None = None
    parts: list[dict[str, Any]] = field(default_factory=list)
    changed: bool = False
    device: str | None = None

    def json(self) -> dict[str, Any]:
        """Ready for `json.dumps(allow_nan=False)`; the keys that scripts rely on come first."""
        return {
            "paper": self.paper, "claim": self.claim, "kind": self.kind, "says": self.says,
            "verdict": self.verdict, "reason": self.reason, "evidence": self.evidence,
            "estimate": self.estimate, "interval": None if self.interval is None else list(self.interval),
            "n": self.n, "unit": self.unit, "reported": self.reported, "bar": self.bar, "profile": self.profile,
            "needed": self.needed, "p": self.p, "parts": self.parts, "changed": self.changed, "device": self.device,
            "of": self.of,
        }  # fmt: skip


def judge(card: Card, claim_id: str, result: Result | None, profile: str) -> Verdict:
    """The verdict of one claim in one profile.

    Raises:
        VerdictError: the claim cannot be answered as it is written, or its measurements contradict themselves:
            a free knob without a rule, an incomplete block, exact counts that differ, a ratio of values <= 0.
    """
    claim = card.claims.get(claim_id)
    if claim is None:
        raise VerdictError(f"{card.slug} has no claim `{claim_id}`; it has {', '.join(card.claims)}")
    if result is not None and (result.profile != profile or result.paper != card.slug):
        raise VerdictError(
            f"{card.slug}, profile {profile}: was given the result of {result.paper}, profile {result.profile}"
        )
    reported = card.reported[claim.reported] if claim.reported else None
    tests = claim.tests()
    reason = _why_untested(claim, result, profile)
    try:
        outcomes = [] if reason or result is None else _outcomes(tests, result, reported)
    except VerdictError as error:
        raise VerdictError(f"{card.slug}, claim {claim_id}, profile {profile}: {error}") from error
    cores = _cores(tests)
    if outcomes:
        outcome = outcomes[0] if len(outcomes) == 1 else _joined(outcomes, cores)
    else:
        outcome = Outcome(UNTESTED, reason or "", bar="; ".join(map(bar_text, tests)), unit=tests[0].unit)
    _cap_simulated(outcome)
    _note(outcome, tests[cores[0]], reported)
    return Verdict(
        paper=card.slug, claim=claim_id, kind=tests[cores[0]].kind, says=claim.says, verdict=outcome.word,
        reason=outcome.reason, profile=profile, of=claim.of, evidence=outcome.evidence, estimate=outcome.estimate,
        interval=None if outcome.low is None and outcome.high is None else (outcome.low, outcome.high),
        n=outcome.n, unit=outcome.unit, reported=reported.model_dump(exclude_none=True) if reported else None,
        bar=outcome.bar, needed=outcome.needed, p=outcome.p, device=_device(result),
        parts=[_part(t, o, i in cores) for i, (t, o) in enumerate(zip(tests, outcomes, strict=True))]
        if len(outcomes) > 1 else [],
        changed=result is not None and _changed(result.claims.get(claim_id), claim, judged=not reason),
    )  # fmt: skip


def _changed(stored: str | None, claim: Claim, judged: bool) -> bool:
    """Whether the claim is another than at the run. One that had no job there has changed only if it is judged now."""
    return (judged or stored is not None) and stored != claim.hash()


def _why_untested(claim: Claim, result: Result | None, profile: str) -> str | None:
    if claim.untested is not None:
        return claim.untested
    if profile not in claim.profiles:
        return f"profile {profile} cannot judge this claim; {' and '.join(claim.profiles)} can"
    if result is None:
        return f"not run in profile {profile}"
    return next((reason for test in claim.tests() if (reason := incomplete(test, result))), None)


def _cores(tests: list[Test]) -> list[int]:
    """The parts that can contradict a conjunction; all of them where the card marks none."""
    return [i for i, test in enumerate(tests) if test.core] or list(range(len(tests)))


def _outcomes(tests: list[Test], result: Result, reported: Reported | None) -> list[Outcome]:
    cores = _cores(tests)
    outcomes = []
    for i, test in enumerate(tests):
        outcome = decide(test, result, stats.ALPHA / len(cores) if i in cores else stats.ALPHA)
        _forgive_hearsay(outcome, test, reported)
        outcomes.append(outcome)
    return outcomes


def _joined(outcomes: list[Outcome], cores: list[int]) -> Outcome:
    """A conjunction: its word from all parts, its numbers from the first core part."""
    core = [outcomes[i] for i in cores]
    head = core[0]
    p = [outcome.p for outcome in outcomes if outcome.p is not None]
    needed = [outcome.needed for outcome in outcomes if outcome.needed is not None]
    word, reason = conjunction(outcomes, core)
    return Outcome(
        word, reason, bar="; ".join(outcome.bar for outcome in outcomes), estimate=head.estimate, low=head.low,
        high=head.high, n=head.n, unit=head.unit, p=max(p, default=None), needed=max(needed, default=None),
        evidence=min((outcome.evidence for outcome in outcomes), key=EVIDENCE.index),
    )  # fmt: skip


def conjunction(outcomes: list[Outcome], core: list[Outcome]) -> tuple[str, str]:
    """The word of a conjunction of parts, of which `core` can contradict it, and why."""

    def of(some: list[Outcome], *words: str) -> list[Outcome]:
        return [outcome for outcome in some if outcome.word in words]

    if lost := of(core, CONTRADICTED):
        return CONTRADICTED, f"part {outcomes.index(lost[0]) + 1}: {lost[0].reason}"
    if absent := of(core, UNTESTED):
        return UNTESTED, absent[0].reason
    if len(of(outcomes, REPRODUCED)) == len(outcomes):
        return REPRODUCED, "every part is reproduced"
    short = next(outcome for outcome in outcomes if outcome.word != REPRODUCED)
    why = f"part {outcomes.index(short) + 1} is {short.word}: {short.reason}"
    if len(of(core, REPRODUCED, DIRECTION_ONLY)) == len(core):
        return DIRECTION_ONLY, why
    short = next(outcome for outcome in core if outcome.word == INCONCLUSIVE)
    return INCONCLUSIVE, f"part {outcomes.index(short) + 1}: {short.reason}"


def _part(test: Test, outcome: Outcome, core: bool) -> dict[str, Any]:
    bounded = outcome.low is not None or outcome.high is not None
    return {
        "value": test.value or test.slope, "where": dict(test.where), "kind": test.kind, "core": core,
        "verdict": outcome.word, "reason": outcome.reason, "evidence": outcome.evidence,
        "estimate": outcome.estimate, "interval": [outcome.low, outcome.high] if bounded else None,
        "n": outcome.n, "unit": outcome.unit, "bar": outcome.bar, "needed": outcome.needed, "p": outcome.p,
    }  # fmt: skip


def _forgive_hearsay(outcome: Outcome, test: Test, reported: Reported | None) -> None:
    """A target that we know second-hand can be wrong itself, so missing it contradicts nobody."""
    if outcome.word != CONTRADICTED or test.bar is not None or reported is None or reported.known not in HEARSAY:
        return
    target = 0.0 if test.target is None else test.target
    low, high = _range(reported)
    if low - 1e-9 * abs(low) <= target <= high + 1e-9 * abs(high):
        outcome.word = INCONCLUSIVE
        outcome.reason += f"; but the target is known {reported.known} only, which cannot contradict a paper"


def _range(reported: Reported) -> tuple[float, float]:
    if reported.value is not None:
        return reported.value, reported.value
    return (
        -math.inf if reported.low is None else reported.low,
        math.inf if reported.high is None else reported.high,
    )


def _range_text(low: float, high: float) -> str:
    if low == high:
        return f"{low:g}"
    if math.isinf(low) or math.isinf(high):
        return f"up to {high:g}" if math.isinf(low) else f"{low:g} and more"
    return f"{low:g} to {high:g}"


def _cap_simulated(outcome: Outcome) -> None:
    if outcome.evidence == "simulated" and outcome.word == REPRODUCED:
        outcome.word = DIRECTION_ONLY
        outcome.reason += "; simulated, and a simulation alone never reproduces a claim"


def _note(outcome: Outcome, test: Test, reported: Reported | None) -> None:
    """Say where the paper's number lies, where both are in one unit."""
    if reported is None or outcome.word == UNTESTED or (outcome.low is None and outcome.high is None):
        return
    if reported.unit and outcome.unit and reported.unit != outcome.unit:
        return
    low, high = _range(reported)
    if (outcome.high is not None and low > outcome.high) or (outcome.low is not None and high < outcome.low):
        outcome.reason += f"; the reported {_range_text(low, high)} lies outside our interval"


def _device(result: Result | None) -> str | None:
    """The GPU's model, or "CPU". Raises VerdictError for rows of several models: they are never pooled."""
    if result is None:
        return None
    gpu = result.provenance.get("gpu")
    if isinstance(gpu, (list, tuple, set)):
        models = sorted(set(gpu))
        if len(models) > 1:
            raise VerdictError(
                f"{result.paper}: the rows come from {' and '.join(models)}; run the profile again on one of them"
            )
        gpu = models[0] if models else None
    return gpu or "CPU"

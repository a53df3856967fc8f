"""Small cards and results for tests of verdicts: one experiment `e`, methods `a` and `b`, one metric `m`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from assay.card import Card, Reported, Test
from assay.record import JobRecord, Result, Row, finite_row
from assay.verdict import Verdict, judge

SEEDS = {"unit": "seed", "changes": "data"}
PROCESSES = {"unit": "process"}
OF_CLAIM = ("of", "says", "paper_says", "why", "reported", "profiles", "rests_on", "untested")
EFFECT: dict[str, Any] = {"kind": "effect", "experiment": "e", "metric": "m", "replicate": SEEDS}


def card_of(numbers: Mapping[str, Any] | None = None, /, **fields: Any) -> Card:
    """A card with the reported numbers and one claim, `c`: its own fields, and those of its test or, with `all`, tests.

    Tests are given by the fields that a parsed line has; each is an effect unless `kind` says otherwise.
    """
    parts = fields.pop("all", [{}])
    own = {name: fields.pop(name) for name in list(fields) if name in OF_CLAIM}
    claim = {"says": "a beats b", "why": "a test", **own}
    card = Card.model_validate(
        {
            "title": "A toy", "authors": "Nobody", "venue": "Nowhere 2020", "idea": "none",
            "setting_of_paper": "none", "methods": {"a": "proposed", "b": "baseline", "c": "variant"},
            "experiments": {} if "untested" in own else {"e": {"metrics": {"m": ""}, "replicate": "3 seeds"}},
            "reported": {name: Reported(**number) for name, number in (numbers or {}).items()},
            "claims": {"c": claim if "untested" in own else {**claim, "test": "a > 0, from e"}}, "slug": "toy",
        }
    )  # fmt: skip
    return card if "untested" in own else with_tests(card, "c", [{**EFFECT, **fields, **part} for part in parts])


def with_tests(card: Card, claim_id: str, tests: Sequence[dict[str, Any]], **fields: Any) -> Card:
    """The card with other tests in a claim, past what a line can say."""
    claim = card.claims[claim_id].model_copy(update=fields)
    exact = {"unit": "exact", "n": 1}
    claim._tests = tuple(
        Test.model_validate({**test, "replicate": exact} if test.get("replicate") == "exact" else test)
        for test in tests
    )
    if claim.untested is None:
        for test in claim.tests():
            test.check()
    return card.model_copy(update={"claims": {**card.claims, claim_id: claim}})


def rows(method: str | None, values: Sequence[float], metric: str = "m", **row: Any) -> list[Row]:
    """One row for each replicate; keywords that are no field of a row are knobs."""
    known = {key: row.pop(key) for key in ("unit", "evidence", "repeat", "rank") if key in row}
    return [
        finite_row(experiment="e", metric=metric, value=value, method=method, setting=dict(row), seed=seed, **known)
        for seed, value in enumerate(values)
    ]


def job(seed: int, status: str = "done", reason: str | None = None, dataset: str | None = None) -> JobRecord:
    return JobRecord("e", dataset, seed, status, "f", 1.0, reason)  # type: ignore[arg-type]


def result_of(measurements: Sequence[Row], *, n: int | None = None, profile: str = "standard", gpu: Any = None,
              jobs: Sequence[JobRecord] | None = None, claims: dict[str, str] | None = None) -> Result:  # fmt: skip
    planned = 1 + max((row.seed for row in measurements), default=0) if n is None else n
    return Result(
        paper="toy", profile=profile, provenance={"gpu": gpu}, parameters={}, replicates={"e": planned},
        claims=claims or {}, jobs=[job(seed) for seed in range(planned)] if jobs is None else list(jobs),
        rows=list(measurements),
    )  # fmt: skip


def judged(measurements: Sequence[Row] | Result, numbers: Mapping[str, Any] | None = None, /, **claim: Any) -> Verdict:
    """The verdict of the claim over these rows."""
    result = measurements if isinstance(measurements, Result) else result_of(measurements)
    return judge(card_of(numbers, **claim), "c", result, result.profile)


def versus(difference: Sequence[float], **knobs: Any) -> list[Row]:
    """Rows of `a` and `b` whose difference `a - b` is given, replicate by replicate."""
    base = [50.0 + 3 * seed for seed in range(len(difference))]
    return rows("a", [x + d for x, d in zip(base, difference, strict=True)], **knobs) + rows("b", base, **knobs)

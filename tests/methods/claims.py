"""Every part of every claim on a card finds rows where its experiment runs, if only small."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import assay
from assay.card import load_card
from assay.experiment import Run
from assay.record import JobRecord, Result, Row
from assay.verdict import UNTESTED, judge
from tests.methods.blindness import experiments, run_small


def assert_claims_find_rows(slug: str, runs: Mapping[str, Run], *, elsewhere: Collection[str] = ()) -> None:
    """A claim that names a metric, a method or a knob that no row has would stay untested for ever.

    A knob that is a word has to take the card's value in some row; a number, which a small run makes smaller, has to
    be there. The data set may be another.

    Args:
        slug: the paper.
        runs: experiment -> a run of it, as `run_small` and `assert_blind` return them.
        elsewhere: experiments that need what a test has not (a GPU).
    """
    problems = []
    for claim_id, claim in load_card(assay.ROOT / "methods" / slug / "paper.yaml").claims.items():
        for test in [] if claim.untested else claim.tests():
            if test.experiment in elsewhere:
                continue
            if test.experiment not in runs:
                problems.append(f"{claim_id}: experiment {test.experiment} was not run")
                continue
            for atom in test.expression().atoms():
                method, metric = None if atom.name == "value" else atom.name, atom.metric or test.metric
                rows = [r for r in runs[test.experiment].rows if (r.metric, r.method) == (metric, method)]
                problems += [f"{claim_id}: no row of {metric} of {atom}"] if not rows else []
                knobs = {k: v for k, v in test.where.items() if any(k in row.setting for row in rows)}
                for knob, value in {**knobs, **atom.knobs}.items():
                    if knob != "dataset" and rows and not any(_at(row, knob, value) for row in rows):
                        problems.append(f"{claim_id}: no row of {metric} of {atom} has {knob}={value}")
    assert not problems, "\n".join(problems)


def assert_claims_are_judged(slug: str, profile: str, tiny: Mapping[str, Mapping[str, Any]]) -> None:
    """The engine gives every claim of a profile a verdict, its rules for free knobs and its replicates included.

    Args:
        slug: the paper.
        profile: whose data sets and numbers of replicates are taken.
        tiny: experiment -> parameters that make it small. It runs once on each data set, and its rows are those of
            every replicate.
    """
    card, rows, jobs, replicates = load_card(assay.ROOT / "methods" / slug / "paper.yaml"), [], [], {}
    declared = {name: found for name, found in experiments(slug).items() if profile in found.profiles}
    for name, found in declared.items():
        replicates[name] = found.replicates(profile)
        for dataset in found.datasets(profile, getattr(card.datasets, profile)):
            run = run_small(slug, name, dataset=dataset, **tiny[name])
            for seed in range(replicates[name]):
                jobs.append(JobRecord(name, dataset, seed, "done", "", 1.0))
                rows += [replace(row, seed=seed) for row in run.rows]
    result = Result(slug, profile, {}, {}, replicates, {}, jobs, rows)
    for claim_id, claim in card.claims.items():
        verdict = judge(card, claim_id, result, profile)
        judged = claim.untested is None and profile in claim.profiles
        words = [verdict.verdict, *(part["verdict"] for part in verdict.parts)]
        assert all((word != UNTESTED) == judged for word in words), f"{claim_id}: {verdict.reason}"
        assert not judged or "too few replicates" not in verdict.reason, f"{claim_id}: {verdict.reason}"


def _at(row: Row, knob: str, value: object) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return isinstance(row.setting.get(knob), int | float)
    return row.setting.get(knob) == value

"""What a card says of its experiments, held against what they plan and have measured: nothing may be said in vain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assay.card import Card, Claim, Profile
from assay.record import Result


def deciding(claim: Claim) -> Profile:
    """The profile whose replicates the card plans: standard, else gpu, else quick."""
    order: tuple[Profile, ...] = ("standard", "gpu", "quick")
    return next(profile for profile in order if profile in claim.profiles)


def wrong_numbers(card: Card, profile: str, replicates: Mapping[str, int]) -> list[str]:
    """Where the card plans another number of replicates than an experiment has in the profile that decides."""
    found: dict[str, None] = {}
    for claim_id, claim in card.claims.items():
        for test in claim.tests() if claim.untested is None and deciding(claim) == profile else ():
            runs, replicate = replicates.get(str(test.experiment)), test.replicate
            if runs is None or replicate is None or replicate.unit == "exact" or replicate.n in (None, runs):
                continue
            found[
                f"claims.{claim_id}: plans {replicate.n} replicates, and {test.experiment} has {runs} in profile "
                f"{profile}: run as many, or plan `replicate: {runs} ...` before the next run"
            ] = None
    return list(found)


def unmeasured(card: Card, results: Sequence[Result]) -> list[str]:
    """Where the card names what no measurement has: the metric of a figure, a method, a unit."""
    return [*_figures(card, results), *_units(card, results), *_methods(card, results)]


def _figures(card: Card, results: Sequence[Result]) -> list[str]:
    known: dict[str, set[str]] = {}
    for result in results:
        for row in result.rows:
            known.setdefault(row.experiment, set()).add(row.metric)
        for curve in result.curves:
            known.setdefault(curve.experiment, set()).add(curve.metric)
        for artifact in result.artifacts:
            known.setdefault(artifact.experiment, set()).add(artifact.name)
    return [
        f"figures.{index}: {figure.experiment} measures no `{figure.metric}`; it measures "
        f"{', '.join(sorted(known[figure.experiment]))}"
        for index, figure in enumerate(card.figures)
        if figure.experiment in known and figure.metric not in known[figure.experiment]
    ]


def _units(card: Card, results: Sequence[Result]) -> list[str]:
    units: dict[tuple[str, str], set[str]] = {}
    for row in (row for result in results for row in result.rows if row.unit):
        units.setdefault((row.experiment, row.metric), set()).add(row.unit)
    return [
        f"experiments.{name}.metrics: {metric} is in `{head.unit(metric)}` here and in "
        f"`{', '.join(sorted(units[name, metric]))}` in the rows; a right card has the unit of the rows"
        for name, head in card.heads.items()
        for metric in head.metrics
        if (name, metric) in units and head.unit(metric) not in units[name, metric]
    ]


def _methods(card: Card, results: Sequence[Result]) -> list[str]:
    """Only where every experiment has run: a method may need a GPU."""
    if {name for result in results for name in result.replicates} != set(card.experiments()):
        return []
    ran = {row.method for result in results for row in result.rows}
    ran |= {curve.method for result in results for curve in result.curves}
    ran |= {artifact.method for result in results for artifact in result.artifacts}
    return [f"methods.{name}: no experiment runs it; remove it" for name in card.methods if name not in ran]

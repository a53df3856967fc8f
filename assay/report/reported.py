"""Which reported numbers a figure can show: those of claims about one method's value of the very metric it draws."""

from __future__ import annotations

from collections.abc import Sequence

from assay.card import Card, Claim, Figure, Reported, Test
from assay.expression import Atom
from assay.record import Row, Scalar
from assay.report.picture import Mark
from assay.report.strip import reported_values, same_unit
from assay.report.tables import WITHOUT_METHOD
from assay.verdict.claim import HEARSAY


def marks_of(card: Card, figure: Figure, rows: Sequence[Row]) -> list[Mark]:
    """The reported numbers that belong into a figure of these rows, each once."""
    found: dict[tuple[object, ...], Mark] = {}
    for claim in card.claims.values():
        reported = card.reported.get(claim.reported or "")
        if reported is None or claim.untested is not None or figure.kind not in ("line", "bars"):
            continue
        for test in claim.tests():
            if test.experiment == figure.experiment and _is_reported(claim, test, reported):
                for mark in _marks(figure, rows, test, reported):
                    found[mark.series, mark.x, mark.value] = mark
    return list(found.values())


def _is_reported(claim: Claim, test: Test, reported: Reported) -> bool:
    """Whether the number is that of this test: of the only one, or of the part that is held against it."""
    return len(claim.tests()) == 1 or (reported.value is not None and test.target == reported.value)


def _marks(figure: Figure, rows: Sequence[Row], test: Test, reported: Reported) -> list[Mark]:
    """No mark where the test is about a difference or a ratio, another metric, or a setting that is not drawn."""
    atom = test.expression() if test.value is not None else None
    if not isinstance(atom, Atom) or (atom.metric or test.metric) != figure.metric:
        return []
    asked: dict[str, Scalar] = {**test.where, **atom.knobs, "method": atom.name}
    knobs = [{**row.setting, "method": row.method or WITHOUT_METHOD} for row in rows]
    fixed = {knob: value for knob, value in asked.items() if knob not in (figure.x, figure.by)}
    if any(of_row.get(knob) != value for of_row in knobs for knob, value in fixed.items()):
        return []
    unit = next((row.unit for row in rows if row.unit), "")
    series, x = asked.get(figure.by), asked.get(figure.x)
    drawn = [of_row for of_row in knobs if series is None or of_row.get(figure.by) == series]
    several = series is None and len({of_row.get(figure.by) for of_row in knobs}) > 1
    if several or not drawn or (x is not None and all(of_row.get(figure.x) != x for of_row in drawn)):
        return []
    weak = reported.known if reported.known in HEARSAY else ""
    return [
        Mark(series, x, value, reported.source, weak)
        for value in reported_values(reported, unit)
        if same_unit(reported.unit, unit)
    ]

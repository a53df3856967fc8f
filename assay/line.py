"""One line of a card is one test: what is compared, the region that it must lie in, and clauses after commas.

    dagnn - gcn >= 1, on cora, direction > 0.5, from accuracy

`FORMS` and `CLAUSES` are all that it can say. Nothing here is handed to Python's own evaluator: the comparison is read
by `assay.expression`, the rest below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

from assay.expression import Atom, Binary, Expression, ExpressionError, check_length, parse, parse_scalar
from assay.ratio import ratio_form

Fields = dict[str, Any]
Side = Literal["value", "slope"]

_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_RULE = re.compile(r"(mean|any|all|[1-9][0-9]{0,3} of|(?:100|[1-9][0-9]?)% of) ([A-Za-z_]\w*)")
_CALL = re.compile(r"(slope|rate|spread)\s*\((.*)\)", re.DOTALL)
FORMS = {
    "dagnn - gcn >= 1": "an effect: a difference or a ratio (`a / b`, `1 - a / b`) and a bar (`>=`, `>`, `<=`, `<`)",
    "dagnn ~ 84.4 +- 0.5": "a value: a target and its tolerance",
    "wire - formula = 0": "a value that is met exactly",
    "|found - random| <= 0.5": "an equivalence: a margin; the line stands in quotes",
    "slope(log fast ~ log n) <= 1.15": "a trend: an exponent, a slope (`y ~ n`) or a rank contrast (`y ~ rank n`)",
    "rate(net.misses / net.solves) <= 0.01": "a rate: counts of violations and of trials over all replicates",
    "spread(pres / plain) <= 0.5": "standard deviations over replicates, at least 20, against each other",
    "semba - tgn; semba - gcn >= 2": "several tests in one region: each must lie in it",
    "fast - slow >= 30 and small / large < 0.5": "several tests; the clauses are of each",
}
METHODS = {
    "gcn": "a method of the card; `value` where a row has no method",
    "gcn[depth=2, width=64]": "at these knobs",
    "gcn.time_s": "in this metric, where one test has several",
}
CLAUSES = {
    "on NAME": "the data set",
    "KNOB VALUE": "where the knob has this value: `depth 64`, `side below`, `pair 'S(0)->S(1)'`",
    "mean KNOB": "the mean over the knob's values; a knob that takes several and has no rule is an error",
    "all KNOB": "every value of the knob meets the bar",
    "any KNOB": "one of the knob's values does",
    "2 of KNOB": "so many of the knob's values do; `80% of KNOB`: such a share",
    "direction > 0": "beside a bar: where `direction only` begins; no effect if left out",
    "contradicted < 0": "beside a bar: where `contradicted` begins; at `direction` if left out",
    "outside 1": "beside a target or a margin: how far off is contradicted; as far as the target's own if left out",
    "core": "of several tests, one that can contradict the claim; all can where none is marked",
    "metric NAME": "another metric than the first of the experiment",
    "in UNIT": "another unit than follows from the metric's; `no unit` for none",
    "from EXPERIMENT": "whose measurements decide, one of `experiments`",
    "exact": "nothing is repeated: every row agrees with the target",
    "unpaired": "not measured pair by pair, though the experiment's times are",
    "measured": "the evidence, where it is not the metric's; or `counted`, or `simulated`",
    "median": "the median over replicates in place of the mean",
    "resolution 0.1": "the smallest step of the metric, a floor for a spread of zero",
    "censored at 20": "a value from here on is only known to be at least so large; or `censored at KNOB`",
}
_BOUNDS = ("direction", "contradicted")
_NUMBERS = ("outside", "resolution")
_WORDS: dict[str, Fields] = {
    "core": {"core": True}, "median": {"stat": "median"}, "no unit": {"unit": ""}, "unpaired": {"unpaired": True},
    "exact": {"replicate": {"unit": "exact", "n": 1}},
    "measured": {"evidence": "measured"}, "counted": {"evidence": "counted"}, "simulated": {"evidence": "simulated"},
}  # fmt: skip
_DIFFERENCE = {"%": "points"}
_RANKED = {"%": "% per rank"}


def read_line(line: str) -> list[Fields]:
    """The fields of each test that a line says, but for those that it leaves to the claim and the experiment.

    Raises ValueError, which says what cannot be read and how a right line looks.
    """
    check_length(line)
    comparison, *clauses = split(line, ",")
    given = read_clauses(clauses)
    found = []
    for part in split(comparison, " and "):
        left, region = _region(part)
        found += [_test(side, dict(region)) | given for side in split(left, ";")]
    return found


def read_each(text: str) -> Fields:
    """Clauses that several tests share: `on cora, mean split`."""
    check_length(text)
    return read_clauses(split(text, ",")) if text.strip() else {}


def merged(*levels: Fields) -> Fields:
    """Of the experiment, the claim and the line: knobs are added up, anything else is replaced by what comes later."""
    found: Fields = {}
    for level in levels:
        for name, value in level.items():
            found[name] = {**found.get(name, {}), **value} if name in ("where", "over") else value
    return found


def split(text: str, mark: str) -> list[str]:
    """At each mark that stands outside of brackets and quotes. Raises ValueError where something is left open."""
    parts, depth, quote, start = [], 0, "", 0
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "([":
            depth += 1
        elif letter in ")]":
            depth -= 1
        elif depth == 0 and place >= start and text.startswith(mark, place):
            parts.append(text[start:place].strip())
            start = place + len(mark)
    if quote or depth:
        raise ValueError(f"a {'quote' if quote else 'bracket'} is left open in `{_short(text)}`")
    return [*parts, text[start:].strip()]


def read_clauses(clauses: list[str]) -> Fields:
    """Raises ValueError for a clause that cannot be read, that is given twice, or whose knob is given twice."""
    found: Fields = {}
    for clause in clauses:
        for name, value in _clause(clause).items():
            if name in ("where", "over"):
                (knob,) = value
                if any(knob in found.get(other, {}) for other in ("where", "over")):
                    raise ValueError(f"`{clause}`: the knob `{knob}` is given twice, and one would be ignored")
                found.setdefault(name, {}).update(value)
            elif name in found:
                raise ValueError(f"`{clause}`: this is given twice, and one would be ignored; remove one")
            else:
                found[name] = value
    return found


def _clause(text: str) -> Fields:
    if text in _WORDS:
        return dict(_WORDS[text])
    if rule := _RULE.fullmatch(text):
        return {"over": {rule[2]: rule[1].removesuffix(" of") if "%" in rule[1] else rule[1]}}
    first, _, rest = text.partition(" ")
    rest = rest.strip()
    if rest and first in _BOUNDS:
        return {first: rest}
    if rest and first in _NUMBERS:
        return {first: _number(rest, text)}
    if rest and first == "in":
        return {"unit": rest}
    if rest and first == "on":
        return {"where": {"dataset": _value(rest, text)}}
    if first == "censored" and (limit := re.fullmatch(r"at (\w[\w.+-]*)", rest)):
        return {"censored_at": float(limit[1]) if re.fullmatch(_NUMBER, limit[1]) else limit[1]}
    if rest and first in ("metric", "from"):
        return {"metric" if first == "metric" else "experiment": rest}
    if rest and re.fullmatch(r"[A-Za-z_]\w*", first):
        return {"where": {first: _value(rest, text)}}
    raise ValueError(f"`{_short(text)}` is no clause; there are {', '.join(CLAUSES)}")


def _value(text: str, clause: str) -> Any:
    try:
        return parse_scalar(text)
    except ExpressionError:
        raise ValueError(f"`{_short(clause)}`: a knob has one value, such as `depth 64` or `pair 'a->b'`") from None


def _number(text: str, clause: str) -> float:
    if not re.fullmatch(_NUMBER, text):
        raise ValueError(f"`{_short(clause)}`: expected a number, such as `outside 1`")
    return float(text)


def _region(comparison: str) -> tuple[str, Fields]:
    """The left side, and what stands behind it: `>= 1`, `~ 84.4 +- 0.5`, `= 35`."""
    place, sign = next(_signs(comparison), (0, ""))
    left, right = comparison[:place].strip(), comparison[place + len(sign) :].strip()
    if not sign or not left:
        raise ValueError(
            f"`{_short(comparison)}` says no region: write `a - b >= 1`, `a ~ 84.4 +- 0.5`, `a = 35` or "
            "`|a - b| <= 0.5`"
        )
    if sign == "~":
        target, plus_minus, within = (part.strip() for part in right.partition("+-"))
        if not plus_minus:
            raise ValueError(
                f"`{_short(comparison)}`: a target has a tolerance: `a ~ 84.4 +- 0.5`, or `a = 35` for none"
            )
        return left, {"target": _number(target, comparison), "within": _number(within, comparison)}
    if sign == "=":
        return left, {"target": _number(right, comparison), "within": 0.0}
    _number(right, comparison)
    return left, {"bar": f"{sign} {right}"}


def _signs(text: str) -> Iterator[tuple[int, str]]:
    """Where a sign of a region stands outside of brackets and quotes."""
    depth, quote = 0, ""
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "([":
            depth += 1
        elif letter in ")]":
            depth -= 1
        elif letter in "<>~=" and depth == 0:
            yield place, letter + ("=" if letter in "<>" and text[place + 1 : place + 2] == "=" else "")


def _test(side: str, region: Fields) -> Fields:
    """Kind, comparison and region of one test."""
    if side.startswith("|") and side.endswith("|") and len(side) > 2:
        bar = region.get("bar", "")
        if not bar.startswith("<= "):
            raise ValueError(f"`{_short(side)}`: an equivalence is written `|a - b| <= 0.5`")
        return {"kind": "equivalence", "value": side[1:-1].strip(), "margin": float(bar[3:])}
    call = _CALL.fullmatch(side)
    if call and call[1] == "slope":
        return {"kind": "trend", "slope": call[2].strip(), **region}
    if call:
        return {"kind": call[1], "value": call[2].strip(), **region}
    return {"kind": "effect" if "bar" in region else "value", "value": side, **region}


def unit_of(fields: Fields, unit: str) -> str:
    """The unit of an estimate whose metric is in `unit`: `x` for ratios, points for differences of percentages."""
    if "slope" in fields:
        scale = fields["slope"].partition("~")[2].split()[:1]
        return "exponent" if scale == ["log"] else _RANKED.get(unit, unit) if scale == ["rank"] else unit
    try:
        expression = parse(fields["value"])
    except ExpressionError:  # said where the test is checked
        return unit
    if form := ratio_form(expression):
        return "x" if form.no_effect == 1 else ""
    return _DIFFERENCE.get(unit, unit) if _is_difference(expression) else unit


def _is_difference(expression: Expression) -> bool:
    return isinstance(expression, Binary) and expression.operator in "+-"


def names_every_metric(fields: Fields) -> bool:
    """Whether each side of the comparison says its metric, as in `direct.energy_j / direct.time_s`."""
    try:
        atoms: tuple[Atom, ...] = parse(fields["value"]).atoms() if "value" in fields else ()
    except ExpressionError:
        return False
    return bool(atoms) and all(atom.metric for atom in atoms)


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."

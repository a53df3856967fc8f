"""One number per replicate: pairs to medians, ratios to logarithms, sizes to slopes, settings to means."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from assay.acceptance import Test
from assay.errors import AssayError
from assay.expression import Expression
from assay.ratio import RatioForm, ratio_form
from assay.record import Result, Scalar
from assay.verdict import stats
from assay.verdict.regions import UNTESTED
from assay.verdict.rows import Cell, Measured, Undecided, measured, shown
from assay.verdict.stats import VerdictError


@dataclass
class Samples:
    """What a verdict is made of.

    `low` and `high` have the shape (replicate, column) and are equal unless a value is censored; where `link` is set
    they are logarithms of its ratio. A column is one setting that a rule of `over` counts; `tree` holds the rules.
    For an exact claim both are (1, column) on the claim's own scale. `failed` are the replicates without a finite
    number, `failures` what is known about why; `rounding` is what an exact float's rounding is relative to,
    `whole` whether every exact measurement is an integer, and `problem` says why there can be no slope.
    """

    low: np.ndarray
    high: np.ndarray
    tree: stats.Tree
    link: RatioForm | None
    no_effect: float
    floor: float | None
    tail: np.ndarray | None
    replicates: int
    failed: frozenset[int]
    failures: dict[int, str]
    unit: str
    evidence: str
    pairs: int
    rounding: float
    whole: bool
    problem: str | None


@dataclass
class _Columns:
    """Arrays (replicate, column) on their way through the reduction, and the knobs that each column still has."""

    low: np.ndarray
    high: np.ndarray
    cells: list[Cell]
    tail: np.ndarray | None = None
    problem: str | None = None
    norm: float = 1.0


def reduce(test: Test, result: Result) -> Samples:
    """Reduce the rows of a test. Raises VerdictError or Undecided where that is not possible."""
    _check(test)
    table = measured(test, result)
    exact = test.replicate is not None and test.replicate.unit == "exact"
    expression = test.expression()
    form = None if test.slope else ratio_form(expression)
    if exact and not table.failures:
        _agree(table)
        if form and "mean" in test.over.values():
            _check_positive(form.ratio, table)  # a geometric mean is not taken over signs
    link = None if exact else form
    columns = _columns(test, expression, link, table)
    replicates, failed = columns.low.shape[0], {*table.failures, *_not_finite(columns)}
    if exact:
        columns.low, columns.high = columns.low[:1], columns.high[:1]
    if test.slope:
        columns = _along(test, columns)
    columns = _averaged(test, columns, form if exact else None)
    return Samples(
        low=columns.low,
        high=columns.high,
        tree=_tree(test, columns.cells, result.profile),
        link=link,
        no_effect=form.no_effect if form else 0.0,
        floor=_floor(test, table, logarithm=link is not None or _is_exponent(test), norm=columns.norm),
        tail=columns.tail,
        replicates=replicates,
        failed=frozenset(failed),
        failures=table.failures,
        unit=_unit(test, table, form),
        evidence=table.evidence,
        pairs=table.pairs,
        rounding=0.0 if form else _size(table),
        whole=all(isinstance(x, int) for values in table.low.values() for x in values.flat),
        problem=columns.problem,
    )


def _unit(test: Test, table: Measured, form: RatioForm | None) -> str:
    """Of the estimate. A rank contrast is a weighted sum over the sizes, no change per rank, whatever a card says."""
    if test.slope and test.slope_parts()[1] == "rank":
        return f"{table.unit} rank contrast".strip()
    return test.unit or ("" if test.slope or form else table.unit)


def _check(test: Test) -> None:
    """Combinations of fields that would be judged wrongly."""
    if test.censored_at is not None and (test.stat != "median" or test.slope):
        raise VerdictError("a censored value has no mean and no slope: give `stat: median` beside `censored_at`")
    replicate = test.replicate
    if replicate is not None and replicate.changes == "split" and replicate.n_test is None:
        raise VerdictError(
            "re-splits of one data set overlap: give `n_test` and `n_train` under `replicate`, or their interval "
            "is too narrow (for data drawn anew write `changes: data`)"
        )


def _not_finite(columns: _Columns) -> list[int]:
    """Replicates with a number that is none, such as a difference divided by 0; a censored one is infinite by right."""
    low, high = columns.low.astype(float), columns.high.astype(float)
    bad = np.isnan(low) | np.isnan(high) | (np.isinf(low) & (low == high))
    return np.flatnonzero(bad.any(axis=1)).tolist()


def _columns(test: Test, expression: Expression, link: RatioForm | None, table: Measured) -> _Columns:
    """Evaluate the expression for every pair, then take each process's median."""
    inner = link.ratio if link else expression
    logarithm = link is not None or _is_exponent(test)
    if logarithm:
        _check_positive(inner, table)

    def value(bounds: dict[str, np.ndarray]) -> np.ndarray:
        try:
            found = inner.evaluate(lambda atom: _exactly(bounds[str(atom)]))
        except AssayError as error:
            raise VerdictError(str(error)) from error
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.log(found.astype(float)) if logarithm else found)

    low, high = _corners(value, table)
    cells = (low.shape[0], len(table.cells))
    if low.dtype == object:
        low, high = low[..., :1], high[..., :1]  # exact: every pair agrees
    low, high = (np.broadcast_to(stats.over_pairs(x), cells) for x in (low, high))
    return _Columns(low, high, table.cells)


def _exactly(values: np.ndarray) -> np.ndarray:
    """Exact measurements as fractions, so that no term of a sum is lost beside a larger one."""
    if values.dtype != object:
        return values
    exact = [x if isinstance(x, float) and not math.isfinite(x) else Fraction(x) for x in values.flat]
    return np.array([*exact, None], dtype=object)[:-1].reshape(values.shape)


def _corners(value: Callable[[dict[str, np.ndarray]], np.ndarray], table: Measured) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest value over what censored measurements may be. Each atom moves the expression one way."""
    names = [name for name in table.low if not _equal(table.low[name], table.high[name])]
    if not names:
        found = value(table.low)
        return found, found
    corners = [
        value({**table.low, **dict(zip(names, chosen, strict=True))})
        for chosen in itertools.product(*((table.low[name], table.high[name]) for name in names))
    ]
    # inf / inf is no number; the other corners already span what it could be
    return np.fmin.reduce(corners), np.fmax.reduce(corners)


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == object or np.array_equal(a, b, equal_nan=True)


def _check_positive(expression: Expression, table: Measured) -> None:
    for atom in expression.atoms():
        values = table.low[str(atom)]
        bad = np.argwhere(values.astype(float) <= 0)
        if len(bad):
            replicate, cell, _ = bad[0]
            where = shown(table.cells[cell]) or "its setting"
            raise VerdictError(
                f"{atom} is {values[tuple(bad[0])]:g} in replicate {replicate} at {where}: a ratio and a logarithm "
                "need values above 0; compare it as a difference"
            )


def _is_exponent(test: Test) -> bool:
    return test.slope is not None and test.slope_parts()[1] == "log"


def _along(test: Test, columns: _Columns) -> _Columns:
    """Slopes along a knob, one for each replicate and remaining setting."""
    _, scale, knob = test.slope_parts()
    groups = _groups(columns.cells, without=[knob])
    low, high, tails, problem, norm = [], [], [], None, 0.0
    for members in groups.values():
        sizes = [columns.cells[column].get(knob) for column in members]
        x = np.array([_number(knob, size) for size in sizes])
        if len(x) < 2:
            raise Undecided(UNTESTED, f"only one value of `{knob}` is measured, a slope needs more")
        order = np.argsort(x)
        x, members = x[order], [members[i] for i in order]
        if scale == "log":
            problem = problem or _too_few_sizes(x, knob)
            x = np.log(x)
        weights = stats.rank_weights(len(x)) if scale == "rank" else stats.slope_weights(x)
        norm = max(norm, float(np.sqrt(np.sum(weights**2))))
        y = columns.low[:, members].astype(float)
        low.append(stats.contrast(y, weights))
        high.append(stats.contrast(columns.high[:, members].astype(float), weights))
        tails.append((y[:, -1] - y[:, -2]) / (x[-1] - x[-2]))
    tail = np.stack(tails, axis=1) if scale == "log" else None
    return _Columns(np.stack(low, axis=1), np.stack(high, axis=1), [dict(key) for key in groups], tail, problem, norm)


def _number(knob: str, value: Scalar | None) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise VerdictError(f"a slope needs numbers along `{knob}`, not {value!r}")
    return float(value)


def _too_few_sizes(x: np.ndarray, knob: str) -> str | None:
    if x[0] <= 0:
        raise VerdictError(f"an exponent needs `{knob}` above 0, not {x[0]:g}")
    if len(x) >= stats.MIN_SIZES and x[-1] / x[0] >= stats.MIN_RANGE:
        return None
    return (
        f"{len(x)} sizes over a {x[-1] / x[0]:g}x range; an exponent needs {stats.MIN_SIZES} over {stats.MIN_RANGE:g}x"
    )


def _averaged(test: Test, columns: _Columns, form: RatioForm | None) -> _Columns:
    """Average the settings whose rule is `mean`, within the replicate; exact ratios through their logarithm."""
    means = [knob for knob, rule in test.over.items() if rule == "mean"]
    groups = _groups(columns.cells, without=means)

    def average(x: np.ndarray) -> np.ndarray:
        return np.stack([_mean(x[:, members], form) for members in groups.values()], axis=1)

    tail = None if columns.tail is None else average(columns.tail)
    return _Columns(average(columns.low), average(columns.high), [dict(key) for key in groups], tail,
                    columns.problem, columns.norm)  # fmt: skip


def _mean(x: np.ndarray, form: RatioForm | None) -> np.ndarray:
    if x.shape[1] == 1:
        return x[:, 0]
    if form is None:
        return stats.over_settings(x)
    logs = np.array([[form.to_log(float(value)) for value in row] for row in x])
    return form.back(stats.over_settings(logs))


def _groups(cells: list[Cell], without: list[str]) -> dict[tuple[tuple[str, Scalar], ...], list[int]]:
    groups: dict[tuple[tuple[str, Scalar], ...], list[int]] = {}
    for column, cell in enumerate(cells):
        groups.setdefault(tuple((k, v) for k, v in cell.items() if k not in without), []).append(column)
    return groups


def _tree(test: Test, cells: list[Cell], profile: str) -> stats.Tree:
    """The rules of `over` from left to right: `{graph: all, L: any}` is "on every graph there is an L"."""
    rules = [(knob, rule) for knob, rule in test.over.items() if rule != "mean" and any(knob in c for c in cells)]
    return _branch(rules, cells, list(range(len(cells))), profile)


def _branch(rules: list[tuple[str, str]], cells: list[Cell], columns: list[int], profile: str) -> stats.Tree:
    if not rules:
        assert len(columns) == 1
        return columns[0]
    (knob, rule), *rest = rules
    groups: dict[Scalar, list[int]] = {}
    for column in columns:
        groups.setdefault(cells[column][knob], []).append(column)
    k = _count(rule, len(groups))
    if k > len(groups):
        raise Undecided(
            UNTESTED, f"profile {profile} runs {len(groups)} value(s) of `{knob}` and the claim is about {rule} them"
        )
    return stats.Rule(k, tuple(_branch(rest, cells, members, profile) for members in groups.values()))


def _count(rule: str, m: int) -> int:
    """How many of m must hold: `any`, `all`, `2 of` or `80%`."""
    if rule in ("any", "all"):
        return 1 if rule == "any" else m
    if rule.endswith("%"):
        return math.ceil(int(rule[:-1]) * m / 100)
    return int(rule.split()[0])


def _floor(test: Test, table: Measured, *, logarithm: bool, norm: float) -> float | None:
    """The least spread that the metric's resolution allows: half of it, carried through logarithm and slope."""
    if test.resolution is None:
        return None
    half = test.resolution / 2
    if logarithm:
        half /= min(float(np.nanmin(values.astype(float))) for values in table.low.values())
    return half * norm


def _agree(table: Measured) -> None:
    """Exact measurements are the same in every run: integers exactly, floats to a relative 1e-12."""
    for name, values in table.low.items():
        for column, cell in enumerate(table.cells):
            first, *others = values[:, column].ravel()
            for other in others:
                if not _same_number(first, other):
                    where = f" at {shown(cell)}" if cell else ""
                    raise VerdictError(
                        f"{name}{where} is {first} in one run and {other} in another: an exact claim has no noise; "
                        "fix the seed, or judge it with replicates"
                    )


def _same_number(a: Any, b: Any) -> bool:
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return math.isclose(a, b, rel_tol=1e-12)


def _size(table: Measured) -> float:
    """What a float's rounding is relative to: a sum's terms, not their small difference."""
    return max(float(np.nanmax(np.abs(values.astype(float)), initial=0.0)) for values in table.low.values())

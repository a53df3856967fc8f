"""Judging costs in proportion to the rows: calls are counted at n and at 4n values, in C and in Python."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from assay.record import Row
from assay.report.tables import measurement_tables
from assay.verdict import judge
from tests.assay.claims import card_of, job, result_of

N = 40
EXACT = {"replicate": {"unit": "exact"}}


class Knob(int):
    """A value of a knob whose comparisons are calls too, also those that a list or a tuple makes."""

    def __eq__(self, other: object) -> bool:
        return int(self) == other

    def __hash__(self) -> int:
        return int.__hash__(self)


def calls(function: Callable[[], Any]) -> int:
    count = 0

    def note(*_: Any) -> None:
        nonlocal count
        count += 1

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def over_knob(n: int, *, datasets: int = 1, whole: bool = False) -> list[Row]:
    """`a` about twice `b` at n values of k, with some spread over three seeds; `c` has a second knob."""
    found = []
    for k in range(n):
        for dataset in range(datasets):
            setting = {"k": Knob(k + 1)} | ({"dataset": f"d{dataset}"} if datasets > 1 else {})
            for seed in range(3):
                noise = 0 if whole else ((7 * seed + 3 * k) % 11) / 100
                found += [Row("e", "m", (k + 2) * 2 + noise, "a", setting, seed),
                          Row("e", "m", (k + 2) * 1 + noise, "b", setting, seed),
                          Row("e", "m", (k + 2) * 1 + noise, "c", setting | {"j": Knob(k % 3)}, seed)]  # fmt: skip
    return found


@pytest.mark.parametrize(
    "claim",
    [
        {"value": "a - b", "bar": "> 0", "over": {"k": "all"}},
        {"value": "a - b", "bar": "> 0", "over": {"k": "mean"}},
        {"value": "a / b", "bar": "> 1", "over": {"k": "80%"}},
        {"value": "a - c", "bar": "> 0", "over": {"k": "all", "j": "mean"}},
        {"value": "a - b", "bar": "> 0", "where": {"k": 5}},
        {"value": "a - b", "kind": "equivalence", "margin": 3, "over": {"k": "any"}},
        {"kind": "trend", "slope": "log a ~ log k", "bar": "> 0.5"},
        {"value": "a - b", "bar": "> 0", "over": {"k": "all"}, **EXACT},
        {"value": "a / b", "bar": "> 1", "over": {"k": "mean"}, **EXACT},
    ],
    ids=str,
)
def test_judging_grows_with_the_values_of_a_knob(claim: dict[str, Any]) -> None:
    def cost(n: int) -> int:
        result = result_of(over_knob(n, whole="replicate" in claim))
        card = card_of(None, **claim)
        return calls(lambda: judge(card, "c", result, "standard"))

    cost(N)  # what is imported and kept on first use
    assert cost(4 * N) < 5 * cost(N)


def test_judging_grows_with_data_sets_and_with_replicates() -> None:
    card = card_of(None, value="a - b", bar="> 0", over={"dataset": "all", "k": "mean"})
    by_seed = card_of(None, value="a - b", bar="> 0")

    def of_datasets(n: int) -> int:
        result = result_of(over_knob(3, datasets=n), jobs=[job(s, dataset=f"d{d}") for s in range(3) for d in range(n)])
        return calls(lambda: judge(card, "c", result, "standard"))

    def of_seeds(n: int) -> int:
        """Every other replicate failed."""
        measured = [
            Row("e", "m", 1 + shift + (s % 7) / 9, name, {}, s)
            for s in range(0, n, 2)
            for name, shift in (("a", 2), ("b", 0))
        ]
        result = result_of(measured, n=n, jobs=[job(s, "failed" if s % 2 else "done") for s in range(n)])
        return calls(lambda: judge(by_seed, "c", result, "standard"))

    for cost in (of_datasets, of_seeds):
        cost(N)
        assert cost(4 * N) < 5 * cost(N)


def test_tables_grow_with_their_lines() -> None:
    def cost(n: int) -> int:
        rows = over_knob(n)
        return calls(lambda: measurement_tables(rows, ["a", "b", "c"]))

    cost(N)
    assert cost(4 * N) < 5.5 * cost(N)  # lines are sorted

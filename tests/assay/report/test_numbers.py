from __future__ import annotations

import math

import pytest

from assay.report.numbers import (
    DASH,
    byte_text,
    decimals_for,
    duration_text,
    estimate_text,
    mean_and_spread,
    number,
    with_unit,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (-0.0, "0"), (12, "12"), (84.44444, "84.44"), (-3.5, "−3.5"), (12345.0, "12 345"),
        (1234567.0, "1.23 × 10⁶"), (-0.00012, "−1.2 × 10⁻⁴"), (math.inf, "∞"), (-math.inf, "−∞"),
        (None, DASH), (math.nan, DASH),
    ],
)  # fmt: skip
def test_a_number_has_four_digits_and_a_real_minus(value: float | None, text: str) -> None:
    assert number(value).replace("\N{NARROW NO-BREAK SPACE}", " ") == text


def test_an_estimate_has_the_digits_that_its_interval_deserves() -> None:
    assert estimate_text(1.72841598, (1.69226852, 1.76533556)) == ("1.728", "1.692 to 1.765")
    assert estimate_text(54.9677, (30.1, 79.8)) == ("55", "30 to 80")


def test_a_small_end_of_an_interval_keeps_the_form_of_the_other() -> None:
    assert estimate_text(-0.00437, (-0.0084, -0.000334)) == ("−0.0044", "−0.0084 to −0.0003")


def test_an_open_end_is_infinite() -> None:
    assert estimate_text(3.0, (2.0, None)) == ("3", "2 to ∞")


def test_no_interval_prints_none() -> None:
    assert estimate_text(17, None) == ("17", "")


def test_no_spread_prints_the_mean_alone() -> None:
    assert mean_and_spread(0.95, None) == mean_and_spread(0.95, 0.0) == "0.95"
    assert mean_and_spread(0.9531, 0.0042) == "0.9531 ± 0.0042"


def test_uncertainty_that_is_none_or_absurdly_small_gives_no_decimals() -> None:
    assert decimals_for(0.0) is decimals_for(None) is decimals_for(1e-12) is None
    assert decimals_for(250.0) == 0


def test_sizes_and_durations_are_read_by_people() -> None:
    assert byte_text(33_554_432_000).replace("\N{NARROW NO-BREAK SPACE}", " ") == "31.2 GiB"
    assert duration_text(431.2) == "7 min 11 s"
    assert duration_text(12_000) == "3 h 20 min"
    assert with_unit(DASH, "s") == duration_text(None) == byte_text(None) == DASH


def test_a_minute_has_sixty_seconds() -> None:
    assert (duration_text(119.6), duration_text(60), duration_text(3600)) == ("2 min", "1 min", "1 h")

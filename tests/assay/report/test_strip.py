from __future__ import annotations

import math
import re

import pytest

from assay.card import Reported, Test
from assay.report.strip import Region, Strip, draw, no_effect_of, region_of, reported_values

BAR = Region(2.5, None, "≥ 2.5")


def test_the_region_of_a_bar_is_open_on_the_claimed_side() -> None:
    assert region_of(Test(kind="effect", bar=">= 2.5")) == BAR
    assert region_of(Test(kind="effect", bar="< 0")) == Region(None, 0.0, "< 0")


def test_the_region_of_a_target_or_margin_is_closed() -> None:
    assert region_of(Test(kind="value", target=2.0, within=0.5)) == Region(1.5, 2.5, "2 ± 0.5")
    assert region_of(Test(kind="value", target=0, within=0)) == Region(0.0, 0.0, "= 0")
    assert region_of(Test(kind="equivalence", margin=1.5)) == Region(-1.5, 1.5, "0 ± 1.5")


@pytest.mark.parametrize(
    ("value", "no_effect"), [("a - b", 0.0), ("a / b", 1.0), ("1 - a / b", 0.0), ("a[batch=4] - b[batch=1]", 0.0)]
)
def test_no_effect_is_one_for_a_ratio_and_zero_for_a_difference(value: str, no_effect: float) -> None:
    assert no_effect_of(Test(kind="effect", value=value)) == no_effect


def test_marks_stand_in_the_order_of_their_numbers() -> None:
    scale = Strip(1.73, (1.69, 1.77), BAR, 1.0, (3.4,)).scale()
    assert scale is not None
    places = [scale(value) for value in (1.0, 1.69, 1.73, 1.77, 2.5, 3.4)]
    assert places == sorted(places)
    assert all(0 < place < 100 for place in places)


def test_positive_numbers_far_apart_get_a_logarithmic_strip() -> None:
    scale = Strip(100.0, (50.0, 200.0), Region(2.0, None, "≥ 2"), 1.0).scale()
    assert scale is not None
    assert scale.log
    assert scale(10.0) - scale(1.0) == pytest.approx(scale(100.0) - scale(10.0), abs=0.02)


def test_a_reported_number_far_away_becomes_an_arrow_and_does_not_squash_the_interval() -> None:
    near, far = (Strip(1.0, (0.9, 1.1), Region(1.2, None, "≥ 1.2"), None, (value,)) for value in (1.3, 5000.0))
    assert far.scale().high < 2  # type: ignore[union-attr]
    assert "5.5,0" in draw(near, "reproduced")
    assert "5.5,0" not in draw(far, "reproduced")
    below = Strip(1.0, (0.9, 1.1), Region(1.2, None, "≥ 1.2"), None, (-5000.0,))
    assert "M-1,-5 5,0 -1,5Z" in draw(far, "reproduced")  # to the right
    assert "M1,-5 -5,0 1,5Z" in draw(below, "reproduced")  # to the left


def test_an_open_end_has_no_cap() -> None:
    closed = draw(Strip(3.0, (2.0, 4.0), BAR), "reproduced")
    opened = draw(Strip(3.0, (2.0, math.inf), BAR), "reproduced")
    assert (closed.count('class="cap"'), opened.count('class="cap"')) == (2, 1)
    assert draw(Strip(3.0, (2.0, None), BAR), "reproduced").count('class="cap"') == 1


def test_a_strip_says_in_words_what_it_shows() -> None:
    label = Strip(1.73, (1.69, 1.77), BAR, 1.0, (3.4,), "x").label().replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert label == "estimate 1.730 x, interval 1.690 to 1.770, bar ≥ 2.5, no effect 1, reported 3.4"


def test_a_strip_without_any_number_is_empty_and_one_of_equal_numbers_is_not() -> None:
    assert draw(Strip(None, None, None), "untested") == ""
    assert 'cx="50.0%"' in draw(Strip(0.0, None, Region(0.0, 0.0, "= 0")), "reproduced")


def test_a_unit_of_a_card_is_escaped() -> None:
    assert "<b" not in draw(Strip(1.0, None, None, unit='"><b>'), "reproduced")


def test_numbers_in_another_unit_are_not_drawn() -> None:
    reported = Reported(value=84.4, unit="%", source="Table 3", known="paper")
    assert reported_values(reported, "") == ()
    assert reported_values(reported, "%") == (84.4,)
    assert reported_values(Reported(high=3.4, unit="x", source="abstract", known="abstract"), "") == (3.4,)
    assert reported_values(None, "") == ()


def test_no_drawing_needs_an_inline_style() -> None:
    drawn = draw(Strip(1.73, (1.69, 1.77), BAR, 1.0, (3.4,), "x"), "direction")
    assert not re.search(r"style=|<style|\son\w+=", drawn)


def test_a_tolerance_far_below_its_target_still_has_a_width() -> None:
    target, within = 0.172922390756, 1e-9
    scale = Strip(target, None, Region(target - within, target + within, "")).scale()
    assert scale is not None
    assert scale.low < target - within < target + within < scale.high
    assert 0 < scale(target - within) < scale(target) < scale(target + within) < 100

"""Arguments are refused in one sentence that holds their name and their value."""

from __future__ import annotations

import numpy as np
import pytest

from methods.shared.checks import check_numbers, check_option, check_probabilities, check_sizes


def test_good_arguments_pass() -> None:
    check_sizes("f", width=1, depth=np.int64(3))
    check_sizes("f", least=0, K=0)
    check_probabilities("f", dropout=0, alpha=1.0, p=np.float32(0.5))
    check_numbers("f", above=0, lr=1e-300)
    check_option("f", "norm", None, ("sym", None))


@pytest.mark.parametrize("size", [0.5, 2.0, True, "3", None, np.float64(1)])
def test_a_size_is_a_whole_number(size: object) -> None:
    with pytest.raises(TypeError, match=r"^f: width must be a whole number; got "):
        check_sizes("f", width=size)  # type: ignore[arg-type]


def test_a_size_below_the_least_is_named() -> None:
    with pytest.raises(ValueError, match=r"^f: width must be at least 1; got 0$"):
        check_sizes("f", depth=2, width=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.1])
def test_a_probability_lies_between_0_and_1(value: float) -> None:
    with pytest.raises(ValueError, match=r"^f: dropout must be at least 0 and at most 1; got "):
        check_probabilities("f", dropout=value)


def test_bounds_may_be_open() -> None:
    with pytest.raises(ValueError, match=r"^f: lr must be above 0; got 0$"):
        check_numbers("f", above=0, lr=0)
    with pytest.raises(ValueError, match=r"must be finite; got nan"):
        check_numbers("f", lr=float("nan"))


def test_a_misspelt_option_is_told_the_right_ones() -> None:
    with pytest.raises(ValueError, match=r"^f: norm must be one of 'official', 'paper'; got 'oficial'$"):
        check_option("f", "norm", "oficial", ("official", "paper"))

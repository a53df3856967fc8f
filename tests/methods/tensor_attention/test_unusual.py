"""Unusual arguments of everything that is exported are taken or refused in one sentence."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from methods.tensor_attention import (
    degree_for,
    error_bound,
    fast_attention,
    fast_tensor_attention,
    match2_unit,
    match3_unit,
    tensor_attention,
)
from methods.tensor_attention.inputs import uniform
from tests.methods.unusual import assert_takes_or_refuses

NAMES = ("q", "k1", "k2", "v1", "v2")


def good() -> dict[str, Any]:
    return dict(zip(NAMES, uniform(6, 2, 1.0, seed=0).flat(), strict=True))


def test_attention_of_unusual_tensors() -> None:
    assert_takes_or_refuses(tensor_attention, **good())
    assert_takes_or_refuses(fast_tensor_attention, **good(), degree=6, polynomial="chebyshev")
    assert_takes_or_refuses(fast_tensor_attention, **good(), error=1e-3, polynomial="taylor")


def test_all_of_one_unusual_type_are_taken_in_it() -> None:
    for dtype, tolerance in ((torch.float64, 1e-5), (torch.bfloat16, 0.02)):
        x = {name: value.to(dtype) for name, value in good().items()}
        for attention in (tensor_attention, lambda **y: fast_tensor_attention(**y, degree=8)):
            out = attention(**x)
            assert out.dtype == dtype
            torch.testing.assert_close(out.float(), attention(**good()), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("rows", NAMES)
def test_a_nan_shows_or_is_refused(rows: str) -> None:
    x = good()
    x[rows][0, 0] = torch.nan
    assert bool(tensor_attention(**x).isnan().any())
    try:
        assert bool(fast_tensor_attention(**x, degree=4).isnan().any())
    except ValueError as error:
        assert "nan" in str(error)  # noqa: PT017


def test_an_order_needs_as_many_keys_as_values() -> None:
    q, *rest = uniform(6, 2, 1.0, seed=0).flat()
    for keys, values in (([], []), (rest[:2], rest[2:3])):
        with pytest.raises(ValueError, match="key matrices"):
            fast_attention(q, keys, values, degree=2)


def test_numbers_of_the_guarantee_are_checked() -> None:
    assert_takes_or_refuses(degree_for, error=1e-3, bound=1.0, largest=1.0, polynomial="chebyshev")
    assert_takes_or_refuses(error_bound, eps=0.1, largest=1.0)


@pytest.mark.parametrize("unit", [match2_unit, match3_unit])
def test_tokens_and_modulus_of_a_unit_are_checked(unit: Any) -> None:
    assert_takes_or_refuses(unit, tokens=torch.arange(6).view(2, 3), modulus=7)
    for modulus in (0, 1):
        with pytest.raises(ValueError, match="modulus must be at least 2"):
            unit(torch.arange(6).view(2, 3), modulus)
    with pytest.raises(ValueError, match=r"integers \(batch, n\)"):
        unit(torch.arange(6), 7)

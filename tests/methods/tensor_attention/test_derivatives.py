"""Derivatives of derivatives, of the scale, and under autocast: right, or refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.tensor_attention import fast_tensor_attention, tensor_attention
from methods.tensor_attention.baselines import naive_attention

WAYS: dict[str, Callable[..., Tensor]] = {
    "exact": tensor_attention, "fast": partial(fast_tensor_attention, degree=14),
}  # fmt: skip


def inputs(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 2), (4, 2), (3, 2), (4, 3), (3, 3)]
    return [
        torch.rand(2, *shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes
    ]


def naive(*x: Tensor, scale: Any = None) -> Tensor:
    return naive_attention(x[0], x[1:3], x[3:], scale=scale)


def penalty(attention: Callable[..., Tensor], x: list[Tensor]) -> Tensor:
    """The squared gradient of the plain sum: what comes back into the attention is a constant."""
    found = torch.autograd.grad(attention(*x).sum(), x, create_graph=True)
    return sum((g.square().sum() for g in found), torch.zeros(()))


@pytest.mark.parametrize("way", list(WAYS))
def test_a_gradient_penalty_has_the_gradient_of_the_plain_softmax(way: str) -> None:
    x = inputs()
    ours, theirs = penalty(WAYS[way], x), penalty(naive, x)
    torch.testing.assert_close(ours, theirs)
    assert float(theirs) > 0.1
    for got, wanted in zip(torch.autograd.grad(ours, x), torch.autograd.grad(theirs, x), strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("which", range(5))
def test_a_hessian_is_that_of_the_plain_softmax(way: str, which: int) -> None:
    x = [y.detach() for y in inputs()]

    def loss(y: Tensor, attention: Callable[..., Tensor]) -> Tensor:
        return attention(*x[:which], y, *x[which + 1 :]).sin().sum()

    ours, theirs = (
        torch.autograd.functional.hessian(partial(loss, attention=attention), x[which])
        for attention in (WAYS[way], naive)
    )
    torch.testing.assert_close(ours, theirs)
    assert float(theirs.abs().max()) > 1e-3


@pytest.mark.parametrize("way", list(WAYS))
def test_second_derivatives_pass_gradgradcheck_and_only_asked_ones_are_computed(way: str) -> None:
    x = [y[:1, :2].detach().requires_grad_(i in (0, 3)) for i, y in enumerate(inputs())]
    assert torch.autograd.gradgradcheck(lambda *y: WAYS[way](*y), x)


@pytest.mark.parametrize("transform", ["hessian", "vmap", "jvp"])
def test_transforms_of_functions_are_refused_by_name(transform: str) -> None:
    x = [y.detach() for y in inputs()]

    def loss(q: Tensor) -> Tensor:
        return tensor_attention(q, *x[1:]).sum()

    calls: dict[str, Callable[[], Any]] = {
        "hessian": lambda: torch.func.hessian(loss)(x[0]),
        "vmap": lambda: torch.func.vmap(tensor_attention)(*x),
        "jvp": lambda: torch.func.jvp(loss, (x[0],), (x[0],)),
    }
    with pytest.raises(RuntimeError, match="setup_context"):
        calls[transform]()


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("number", [False, True])
def test_a_scale_that_is_a_tensor_gets_its_gradient(way: str, number: bool) -> None:
    x, scale = inputs(), torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    if number:
        torch.testing.assert_close(WAYS[way](*x, scale=0.7), WAYS[way](*x, scale=scale))
        return
    found, wanted = (torch.autograd.grad(a(*x, scale=scale).sin().sum(), [scale, *x]) for a in (WAYS[way], naive))
    for got, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, right)


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("scale", [torch.tensor([1.0, 2.0]), torch.tensor(torch.nan), float("inf"), float("nan")])
def test_a_scale_that_is_no_finite_number_is_refused(way: str, scale: Any) -> None:
    with pytest.raises(ValueError, match="scale must be"):
        WAYS[way](*inputs(), scale=scale)


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("inside", [False, True], ids=["backward after", "backward inside"])
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_autocast_changes_nothing(way: str, inside: bool, twice: bool) -> None:
    x, results = inputs(torch.float32), []
    for autocast in (False, True):
        context = torch.autocast("cpu", torch.bfloat16, enabled=autocast)
        with context:
            out = WAYS[way](*x)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast and inside):
            found = torch.autograd.grad(out.square().sum(), x, create_graph=twice)
            if twice:
                found = torch.autograd.grad(sum(g.square().sum() for g in found), x)
        results.append([out, *found])
    for plainly, under in zip(*results, strict=True):
        assert under.dtype == torch.float32
        torch.testing.assert_close(under, plainly, rtol=1e-5, atol=1e-5)

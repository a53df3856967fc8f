"""Exact tensor attention: what it computes, how little memory it takes, and what it refuses."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from assay.measure.memory import live_tensor_peak
from methods.shared.interpreter import interpreted
from methods.tensor_attention import fast_tensor_attention, kernels, tensor_attention
from methods.tensor_attention import tensor_attention as exact_attention
from methods.tensor_attention.baselines import loop_attention, naive_attention, sampled_attention, sdpa_attention
from methods.tensor_attention.baselines import top_attention as top_pairs
from methods.tensor_attention.inputs import uniform

MODULE = __import__("sys").modules["methods.tensor_attention.tensor_attention"]
SHAPES = [(1, 1, 1, 1, 1, 1), (2, 5, 4, 7, 3, 2), (1, 33, 17, 40, 16, 16), (300, 6, 5, 7, 4, 3)]


def random(batch: int, n_q: int, n_1: int, n_2: int, d: int, e: int, size: float = 1.0) -> list[Tensor]:
    """q, k1, k2, v1, v2 in float64, ready for gradients; `size` multiplies q and k1."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(n_q, d, size), (n_1, d, size), (n_2, d, 1.0), (n_1, e, 1.0), (n_2, e, 1.0)]
    return [
        (s * torch.randn(batch, n, w, generator=generator, dtype=torch.float64)).requires_grad_() for n, w, s in shapes
    ]


def naive(x: list[Tensor], scale: float | None = None) -> Tensor:
    return naive_attention(x[0], x[1:3], x[3:], scale=scale)


def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that even tiny inputs pass in many blocks, whose edges do not meet the inputs'."""
    monkeypatch.setattr(MODULE, "BLOCK_BYTES", 60 * 8)
    monkeypatch.setattr(MODULE, "BLOCK_QUERIES", 4)


@pytest.mark.parametrize("size", [1.0, 8.0], ids=["small logits", "large logits"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("blocks", ["small", "own"])
def test_in_blocks_it_is_the_whole_softmax_and_so_are_its_gradients(
    shape: tuple[int, ...], size: float, blocks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if blocks == "small":
        small_blocks(monkeypatch)
    x = random(*shape, size=size)
    wanted, found = naive(x, scale=0.3), tensor_attention(*x, scale=0.3)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)
    given = torch.randn_like(found)
    torch.testing.assert_close(
        torch.autograd.grad(found, x, given), torch.autograd.grad(wanted, x, given), rtol=1e-9, atol=1e-9
    )


def test_gradients_pass_gradcheck(monkeypatch: pytest.MonkeyPatch) -> None:
    small_blocks(monkeypatch)
    assert torch.autograd.gradcheck(tensor_attention, random(1, 4, 4, 4, 2, 2))


def test_the_scale_is_one_over_the_width_and_leading_dimensions_are_batch_and_heads() -> None:
    x = [y.detach() for y in random(6, 5, 4, 7, 3, 2)]
    whole = tensor_attention(*(y.unflatten(0, (2, 3)) for y in x))
    assert whole.shape == (2, 3, 5, 2)
    torch.testing.assert_close(whole.flatten(0, 1), naive(x, scale=1 / 3))
    torch.testing.assert_close(whole[1, 2], tensor_attention(*(y[5] for y in x)))


@pytest.mark.parametrize("other", [loop_attention, sdpa_attention])
def test_other_exact_ways_agree_to_1e_10(other: object) -> None:
    x = [y.detach() for y in random(2, 9, 7, 8, 4, 3)]
    torch.testing.assert_close(other(*x), tensor_attention(*x), rtol=0, atol=1e-10)
    torch.testing.assert_close(other(*x, scale=2.0), tensor_attention(*x, scale=2.0), rtol=0, atol=1e-10)


def test_with_second_keys_and_values_of_ones_it_is_ordinary_attention() -> None:
    q, k1, _, v1, _ = (y.detach() for y in random(2, 6, 5, 7, 4, 4))
    ones = torch.ones(2, 7, 4, dtype=torch.float64)
    wanted = F.scaled_dot_product_attention(q, k1, v1, scale=0.7)
    torch.testing.assert_close(tensor_attention(q, k1, ones, v1, ones, scale=0.7), wanted, rtol=1e-12, atol=1e-12)


def test_queries_of_zero_give_the_product_of_the_means() -> None:
    q, k1, k2, v1, v2 = (y.detach() for y in random(1, 6, 5, 7, 4, 3))
    wanted = (v1.mean(dim=1) * v2.mean(dim=1)).unsqueeze(1).expand(1, 6, 3)
    torch.testing.assert_close(tensor_attention(torch.zeros_like(q), k1, k2, v1, v2), wanted)


@pytest.mark.parametrize("constant", [3.0, -500.0, 800.0])
def test_a_constant_on_all_logits_changes_nothing_however_large(constant: float) -> None:
    q, k1, k2, v1, v2 = (y.detach() for y in random(1, 6, 5, 7, 4, 3))
    longer = [F.pad(q, (0, 1), value=constant), F.pad(k1, (0, 1), value=1.0), F.pad(k2, (0, 1), value=1.0)]
    wanted = tensor_attention(q, k1, k2, v1, v2, scale=1.0)
    torch.testing.assert_close(tensor_attention(*longer, v1, v2, scale=1.0), wanted, rtol=1e-9, atol=1e-9)


def test_it_is_symmetric_in_the_keys_and_deaf_to_the_order_of_tokens() -> None:
    q, k1, k2, v1, v2 = (y.detach() for y in random(2, 6, 5, 7, 4, 3))
    wanted, moved = tensor_attention(q, k1, k2, v1, v2), torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(tensor_attention(q, k2, k1, v2, v1), wanted)
    torch.testing.assert_close(tensor_attention(q, k1[:, moved], k2, v1[:, moved], v2), wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_half_types_accumulate_in_float32(dtype: torch.dtype) -> None:
    x = [y.detach().to(dtype).requires_grad_() for y in random(1, 30, 20, 40, 4, 4)]
    found, wanted = tensor_attention(*x), naive([y.detach().double() for y in x])
    assert found.dtype == dtype
    # no more than the result's own rounding, and float32's over 800 pairs
    torch.testing.assert_close(found.double(), wanted, rtol=torch.finfo(dtype).eps, atol=1e-6)
    found.sum().backward()
    assert all(y.grad.dtype == dtype for y in x)


@pytest.mark.parametrize("batch", [(0,), (2, 0)], ids=str)
def test_an_empty_batch_has_an_empty_result_and_empty_gradients(batch: tuple[int, ...]) -> None:
    x = [torch.zeros(*batch, n, w, requires_grad=True) for n, w in ((5, 3), (4, 3), (6, 3), (4, 2), (6, 2))]
    for attention in (tensor_attention, partial(fast_tensor_attention, degree=2)):
        found = attention(*x)
        assert found.shape == (*batch, 5, 2)
        gradients = torch.autograd.grad(found.sum(), x)
        assert [y.shape for y in gradients] == [y.shape for y in x]
        with torch.no_grad():
            assert attention(*x).shape == found.shape


@pytest.mark.parametrize("step", ["forward", "training"])
@pytest.mark.parametrize("batch", [1, 40])
def test_few_queries_do_not_make_blocks_of_many_wide_pairs(batch: int, step: str) -> None:
    x = random(batch, 1, 64, 64, 64, 64)
    if step == "forward":
        x = [y.detach() for y in x]

    def call() -> None:
        out = tensor_attention(*x)
        if step == "training":
            out.sum().backward()

    # all pairs' keys would be 4 blocks an element; six tensors of a block live at once, of inputs and gradients a few
    inputs = sum(y.nbytes for y in x)
    assert live_tensor_peak(call).bytes < 6 * MODULE.BLOCK_BYTES + 4 * inputs


@pytest.mark.parametrize("step", ["forward", "training"])
def test_memory_is_a_block_and_not_n_squared(step: str) -> None:
    def peak(n: int) -> int:
        x = [y.requires_grad_(step == "training") for y in uniform(n, 4, 1.0, seed=0).flat()]

        def call() -> None:
            out = tensor_attention(*x)
            if step == "training":
                out.sum().backward()

        return live_tensor_peak(call).bytes

    small, large = peak(64), peak(256)
    assert large < 1.1 * small  # the block rules: n^2 logits would be 16 times as many


def test_with_all_pairs_the_estimates_are_exact() -> None:
    x = [y.detach() for y in random(2, 6, 5, 5, 3, 3)]
    torch.testing.assert_close(top_pairs(*x, pairs=25), tensor_attention(*x))
    many = sampled_attention(*x, pairs=200_000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(many, tensor_attention(*x), rtol=0, atol=0.02)


@pytest.mark.skipif(kernels.triton is None, reason="Triton is not installed")
def test_where_the_kernels_run_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def spy(name: str) -> object:
        return lambda *given: (calls.append(name), getattr(interpreted(kernels), name)(*given))[1]

    for name in ("forward", "backward"):
        monkeypatch.setattr(MODULE.kernels, name, spy(name))
    monkeypatch.setattr(MODULE.kernels, "can_run", lambda q, v: True)
    x = [y.detach().float().requires_grad_() for y in random(1, 5, 3, 4, 3, 2)]
    wanted = naive(x)
    found = tensor_attention(*x)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), x), torch.autograd.grad(wanted.sum(), x))
    assert calls == ["forward", "backward"]


def test_what_does_not_fit_together_is_named() -> None:
    q, k1, k2, v1, v2 = (y.detach() for y in random(2, 6, 5, 7, 4, 3))
    for given, message in [
        ((q, k1[..., :3], k2, v1, v2), "k1 has width 3, q has 4"),
        ((q, k1, k2, v1[:, :4], v2), "4 rows in v1 for 5 in k1"),
        ((q, k1, k2, v1, v2[..., :2]), "v2 has width 2, v1 has 3"),
        ((q, k1[0], k2, v1, v2), "k1 has shape \\(5, 4\\) beside q's \\(2, 6, 4\\)"),
        ((q, k1[:1], k2, v1, v2), "same leading dimensions"),
        ((q, k1, k2, v1, v2.float()), "v2 is torch.float32"),
        ((q, k1, k2[:, :0], v1, v2[:, :0]), "k2 is empty"),
        ((q.long(), k1, k2, v1, v2), "floating-point"),
    ]:
        with pytest.raises(ValueError, match=message):
            exact_attention(*given)

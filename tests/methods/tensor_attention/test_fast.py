"""The nearly linear algorithm: its identities, its rank, its guarantee, and what it refuses."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from assay.measure.memory import live_tensor_peak
from methods.tensor_attention import degree_for, error_bound, fast_attention, fast_tensor_attention, tensor_attention
from methods.tensor_attention.baselines import naive_attention
from methods.tensor_attention.inputs import balanced, signs, uniform
from methods.tensor_attention.tensor_attention import _pairs

MODULE = sys.modules["methods.tensor_attention.fast_attention"]


def inputs(n: int = 20, d: int = 3, bound: float = 0.5) -> tuple[Tensor, ...]:
    return uniform(n, d, bound, seed=0, dtype=torch.float64).flat()


def test_the_mixed_product_rule() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b, c, d = (torch.randn(2, n, 3, generator=generator, dtype=torch.float64) for n in (6, 4, 6, 4))
    found, wanted = _pairs(a, b).mT @ _pairs(c, d), (a.mT @ c) * (b.mT @ d)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    assert torch.equal(_pairs(a, b)[1, 4 * 2 + 3], a[1, 2] * b[1, 3])


def test_a_high_degree_is_the_exact_result_to_1e_12_and_so_are_its_gradients() -> None:
    x = [y.requires_grad_() for y in inputs()]
    found, wanted = fast_tensor_attention(*x, degree=12), tensor_attention(*x)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    given = torch.randn_like(found)
    torch.testing.assert_close(
        torch.autograd.grad(found, x, given), torch.autograd.grad(wanted, x, given), rtol=0, atol=1e-12
    )


def polynomial_matrix(q: Tensor, k1: Tensor, k2: Tensor, degree: int, kind: str) -> Tensor:
    """U1 (U2 (/) U3)^T of equation (5), (n, n, n)."""
    width = q.shape[1]
    bound = MODULE.logit_bound(q, (k1, k2), 1 / width)
    weights = MODULE.monomial_weights(width, degree, MODULE.coefficients(degree, bound, kind), 1 / width)
    u1, u2, u3 = (MODULE.monomials(x.unsqueeze(0), degree)[0] for x in (q, k1, k2))
    return torch.einsum("ri,rj,rl->ijl", u1 * weights[:, None], u2, u3)


@pytest.mark.parametrize("kind", ["taylor", "chebyshev"])
@pytest.mark.parametrize("degree", [0, 1, 2, 3, 5, 8])
def test_the_low_rank_matrix_is_the_polynomial_of_the_logits_at_any_degree(degree: int, kind: str) -> None:
    q, k1, k2, *_ = inputs(bound=1.2)
    logits = torch.einsum("it,jt,lt->ijl", q, k1, k2) / 3
    c = MODULE.coefficients(degree, MODULE.logit_bound(q, (k1, k2), 1 / 3), kind)
    wanted = sum(c[m] * logits**m for m in range(degree + 1))
    torch.testing.assert_close(polynomial_matrix(q, k1, k2, degree, kind), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("degree", [2, 5])
def test_the_result_is_the_softmax_of_that_matrix(degree: int) -> None:
    q, k1, k2, v1, v2 = inputs(bound=1.0)
    matrix = polynomial_matrix(q, k1, k2, degree, "chebyshev")
    wanted = torch.einsum("ijl,je,le->ie", matrix, v1, v2) / matrix.sum(dim=(1, 2))[:, None]
    torch.testing.assert_close(fast_tensor_attention(q, k1, k2, v1, v2, degree=degree), wanted, rtol=0, atol=1e-12)


def test_the_rank_is_the_number_of_monomials() -> None:
    q, k1, k2, *_ = inputs(n=14, d=2, bound=1.0)
    matrix = polynomial_matrix(q, k1, k2, 3, "taylor").flatten(1)
    assert np.linalg.matrix_rank(matrix.numpy(), tol=1e-9) == MODULE.rank(2, 3) == 10
    assert [MODULE.rank(d, g) for d, g in ((4, 6), (4, 8), (8, 8))] == [210, 495, 12870]
    for d, g in ((1, 4), (2, 3), (4, 6), (5, 0), (8, 2)):
        degrees, multinomials = MODULE._multi_indices(d, g)
        assert len(degrees) == len(multinomials) == math.comb(d + g, g)
        # (1 + ... + 1)^m: the multinomials of degree m sum to d^m
        sums = [float(multinomials[degrees == m].sum()) for m in range(g + 1)]
        assert sums == pytest.approx([float(d**m) for m in range(g + 1)])


def test_coefficients_of_degree_one_are_the_bessel_numbers() -> None:
    assert MODULE.coefficients(1, 1.0) == pytest.approx([1.2660659, 1.1303182], abs=5e-8)


@pytest.mark.parametrize("kind", ["taylor", "chebyshev"])
@pytest.mark.parametrize("bound", [0.1, 1.0, 3.375, 8.0])
@pytest.mark.parametrize("degree", [1, 2, 4, 8, 14])
def test_the_guaranteed_eps_holds_on_the_interval_and_is_nearly_attained(degree: int, bound: float, kind: str) -> None:
    x = np.linspace(-bound, bound, 4001)
    c = MODULE.coefficients(degree, bound, kind)
    measured = np.abs(np.polynomial.polynomial.polyval(x, c) / np.exp(x) - 1).max()
    guaranteed = MODULE.relative_error(degree, bound, kind)
    assert measured <= guaranteed * (1 + 1e-9) + 1e-12
    if degree > bound and guaranteed > 1e-9:
        assert measured > 0.3 * guaranteed


@pytest.mark.parametrize("seed", range(5))
def test_no_error_passes_the_bound_of_the_eps_that_was_measured(seed: int) -> None:
    for bound in (0.5, 1.0, 1.5):
        for x in (signs(24, 4, bound, seed), uniform(24, 4, bound, seed, dtype=torch.float64)):
            q, k1, k2, v1, v2 = x.flat()
            logits = torch.einsum("it,jt,lt->ijl", q, k1, k2) / 4
            exact, largest = tensor_attention(*x.flat()), float(v1.abs().amax() * v2.abs().amax())
            for kind in ("taylor", "chebyshev"):
                for degree in (2, 4, 6, 8):
                    eps = float((polynomial_matrix(q, k1, k2, degree, kind) / logits.exp() - 1).abs().max())
                    if eps < 1:
                        found = fast_tensor_attention(*x.flat(), degree=degree, polynomial=kind)
                        assert float((found - exact).abs().max()) <= error_bound(eps, largest) + 1e-13


def test_the_bound_is_within_a_factor_of_eight_of_what_balanced_inputs_reach() -> None:
    x = balanced(4, 1.0)
    for degree in (2, 3, 4, 5, 6, 7):
        error = float((fast_tensor_attention(*x.flat(), degree=degree) - tensor_attention(*x.flat())).abs().max())
        guaranteed = error_bound(MODULE.relative_error(degree, 1.0), 1.0)
        assert guaranteed / 8 < error <= guaranteed


@pytest.mark.parametrize("error", [1e-1, 1e-3, 1e-8])
@pytest.mark.parametrize("kind", ["taylor", "chebyshev"])
def test_a_target_error_is_kept(error: float, kind: str) -> None:
    for x in (signs(24, 3, 1.2, seed=1), balanced(3, 1.2)):
        found = fast_tensor_attention(*x.flat(), error=error, polynomial=kind)
        assert float((found - tensor_attention(*x.flat())).abs().max()) <= error


def test_chebyshev_needs_about_half_of_taylors_degree() -> None:
    degrees = [degree_for(1e-3, 8.0, 1.0, kind) for kind in ("chebyshev", "taylor")]
    assert degrees[0] < 0.7 * degrees[1]
    assert degree_for(1e-3, 1.0, 1.0) == 5


SIZE_OF_ERRORS = [(2, 2e-3, 6e-4), (4, 8e-5, 7e-6), (6, 2e-6, 4e-8), (8, 2e-8, 1e-10)]


@pytest.mark.parametrize(("degree", "taylor", "chebyshev"), SIZE_OF_ERRORS)
def test_errors_at_entries_of_one_have_the_expected_size(degree: int, taylor: float, chebyshev: float) -> None:
    x = signs(96, 4, 1.0, seed=0)
    for kind, wanted in (("taylor", taylor), ("chebyshev", chebyshev)):
        found = fast_tensor_attention(*x.flat(), degree=degree, polynomial=kind)
        error = float((found - tensor_attention(*x.flat())).abs().max())
        assert wanted / 10 < error < wanted * 10


@pytest.mark.parametrize("order", [2, 3, 4])
def test_any_order_and_key_lengths_that_differ(order: int) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(n: int, width: int) -> Tensor:
        return torch.rand(2, n, width, generator=generator, dtype=torch.float64) - 0.5

    lengths = [4, 7, 3][: order - 1]
    q, keys, values = draw(5, 3), [draw(n, 3) for n in lengths], [draw(n, 2) for n in lengths]
    wanted = naive_attention(q, keys, values)
    torch.testing.assert_close(fast_attention(q, keys, values, degree=10), wanted, rtol=0, atol=1e-10)
    if order == 2:
        torch.testing.assert_close(F.scaled_dot_product_attention(q, *keys, *values, scale=1 / 3), wanted)


def test_streaming_in_small_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = inputs(n=50)
    wanted = fast_tensor_attention(*x, degree=5)
    monkeypatch.setattr(MODULE, "BLOCK_FEATURES", 1)
    monkeypatch.setattr(MODULE, "MIN_BLOCK", 7)
    torch.testing.assert_close(fast_tensor_attention(*x, degree=5), wanted, rtol=0, atol=1e-14)


def test_half_types_are_computed_in_float32() -> None:
    x = [y.to(torch.bfloat16) for y in inputs(bound=1.0)]
    found = fast_tensor_attention(*x, degree=8)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), tensor_attention(*(y.double() for y in x)), rtol=8e-3, atol=1e-6)


def test_gradients_of_monomials_pass_gradcheck() -> None:
    x = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: MODULE.monomials(y, 4), [x])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_without_gradients_only_the_result_grows_with_n(dtype: torch.dtype) -> None:
    def peak(n: int) -> int:
        x = uniform(n, 4, 1.0, seed=0, dtype=dtype).flat()
        return live_tensor_peak(lambda: fast_tensor_attention(*x, degree=6)).bytes

    # blocks of equal length fit both; a result has 4 numbers a token
    rows = MODULE.BLOCK_FEATURES // 210
    assert peak(12 * rows) - peak(4 * rows) == 8 * rows * 4 * dtype.itemsize


@pytest.mark.parametrize("kind", ["taylor", "chebyshev"])
def test_entries_whose_exp_overflows_are_refused_at_once(kind: str) -> None:
    assert MODULE.relative_error(2, 8e9, kind) == math.inf
    assert MODULE.relative_error(2, 700.1, kind) == math.inf
    x = inputs(bound=2000.0)
    with pytest.raises(ValueError, match="use `tensor_attention`"):
        fast_tensor_attention(*x, error=1e-3, polynomial=kind)
    for degree in (2, 40):
        with pytest.raises(ValueError, match="exp overflows: use `tensor_attention`"):
            fast_tensor_attention(*x, degree=degree)


def test_a_denominator_that_is_not_positive_is_an_error_of_its_own() -> None:
    ones = torch.ones(3, 4, dtype=torch.float64)
    with pytest.raises(MODULE.DenominatorError):
        fast_tensor_attention(2 * ones, 2 * ones, -2 * ones, ones, ones, degree=1)


def test_what_cannot_be_done_is_said_with_the_way_out() -> None:
    x = inputs(bound=2.0)
    ones = torch.ones(3, 4, dtype=torch.float64)
    below = (1.6 * ones, 1.6 * ones, -1.6 * ones, ones, ones)  # all logits -4.096, where Taylor of degree 3 is negative
    for call, message in [
        (lambda: fast_tensor_attention(*x), "either degree or error"),
        (lambda: fast_tensor_attention(*x, degree=3, error=0.1), "either degree or error"),
        (lambda: fast_tensor_attention(*x, degree=-1), "degree must be at least 0; got -1"),
        (lambda: fast_tensor_attention(*x, error=0.0), "above 0"),
        (
            lambda: fast_tensor_attention(*x, degree=2, polynomial="pade"),
            "polynomial must be one of 'chebyshev', 'taylor'; got 'pade'",
        ),
        (lambda: fast_tensor_attention(x[0] * math.nan, *x[1:], degree=2), "inf or nan"),
        (lambda: fast_tensor_attention(*x[:4], x[4] * math.nan, error=0.1), "values hold inf or nan"),
        (lambda: fast_tensor_attention(*(9 * y for y in x), error=1e-3), "use `tensor_attention`"),
        (lambda: fast_tensor_attention(*inputs(d=64), degree=8), "rank 11,969,016,345"),
        (lambda: fast_attention(x[0], x[1:3], x[3:4], degree=3), "2 key matrices and 1 value matrices"),
        (lambda: fast_tensor_attention(*below, degree=3, polynomial="taylor"), "is not near exp; degree 12 is safe"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()

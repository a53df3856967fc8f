"""Expectations, recursions and critical points by the constants of the book and by closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import chi2
from torch import nn
from torch.nn import functional as F

from methods.dl_theory import (
    ACTIVATIONS,
    Activation,
    NoCriticalPoint,
    activation_of,
    chi_parallel,
    chi_perpendicular,
    critical_init_,
    critical_point,
    depth_scaled_rates,
    gaussian_mean,
    kernel_decay,
    kernel_recursion,
    leaky_relu,
    linear_metric_moment,
    mean_square,
    metric_variance,
    ntk_recursion,
    parameter_groups,
    square_variance,
    vertex_recursion,
    vertex_slope,
)

RELU, TANH, SIN, GELU = (ACTIVATIONS[name] for name in ("relu", "tanh", "sin", "gelu"))
KERNELS = torch.tensor([1e-3, 0.1, 1.0, 7.0], dtype=torch.float64)


def test_moments_of_a_normal_are_those_of_a_normal() -> None:
    torch.testing.assert_close(gaussian_mean(lambda z: z**4, KERNELS), 3 * KERNELS**2, rtol=1e-12, atol=0)


def test_expectations_of_relu_are_the_closed_forms() -> None:
    torch.testing.assert_close(mean_square(RELU, KERNELS), KERNELS / 2, rtol=1e-12, atol=0)
    torch.testing.assert_close(square_variance(RELU, KERNELS), 1.25 * KERNELS**2, rtol=1e-12, atol=0)
    for chi in (chi_parallel, chi_perpendicular):
        torch.testing.assert_close(chi(RELU, KERNELS, 1.7), torch.full_like(KERNELS, 0.85), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["tanh", "sin", "gelu", "swish", "sigmoid"])
def test_the_parallel_susceptibility_is_the_derivative_of_the_layer_map(name: str) -> None:
    sigma, h = ACTIVATIONS[name], 1e-4
    K = KERNELS[1:]
    difference = 1.3 * (mean_square(sigma, K + h) - mean_square(sigma, K - h)) / (2 * h)
    torch.testing.assert_close(chi_parallel(sigma, K, 1.3), difference, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "C_b", "C_W", "K"),
    [
        ("gelu", 0.172922390756, 1.983058257425, (3 + math.sqrt(17)) / 2),
        ("swish", 0.555143170722, 1.988004678256, 14.320173618026),
    ],
)
def test_half_stable_critical_points_are_those_of_the_book(name: str, C_b: float, C_W: float, K: float) -> None:
    point = critical_point(name)
    assert point.universality == "half-stable"
    assert (point.C_b, point.C_W) == pytest.approx((C_b, C_W), abs=1e-10)
    assert abs(point.K - K) < 1e-9
    assert abs(C_b + C_W * float(mean_square(ACTIVATIONS[name], K)) - K) < 1e-10
    for chi in (chi_parallel, chi_perpendicular):
        assert float(chi(ACTIVATIONS[name], point.K, point.C_W)) == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize(
    ("sigma", "C_W", "K"),
    [("relu", 2, None), ("linear", 1, None), ("tanh", 1, 0), ("sin", 1, 0), (leaky_relu(0.5), 1.6, None),
     (nn.Tanh(), 1, 0), (nn.LeakyReLU(0.5), 1.6, None)],
)  # fmt: skip
def test_critical_points_of_the_other_two_classes(sigma: str | Activation | nn.Module, C_W: float, K: float) -> None:
    point = critical_point(sigma)
    assert (point.C_b, point.K) == (0, K)
    assert abs(point.C_W - C_W) < 1e-12


@pytest.mark.parametrize("name", ["sigmoid", "softplus"])
def test_an_activation_without_criticality_says_so(name: str) -> None:
    with pytest.raises(NoCriticalPoint, match=f"{name} has no critical initialisation: chi_par and chi_perp differ"):
        critical_point(name)


def test_a_smooth_activation_of_ones_own_has_a_critical_point_too() -> None:
    arctangent = Activation("atan", torch.atan)
    assert critical_point(arctangent).universality == "K* = 0"
    assert critical_point(Activation("mish", F.mish)).universality == "half-stable"


def test_an_unknown_activation_and_an_impossible_skip_are_refused() -> None:
    with pytest.raises(ValueError, match="no activation 'tanhh'"):
        activation_of("tanhh")
    with pytest.raises(ValueError, match="no activation GELU"):
        activation_of(nn.GELU("tanh"))
    with pytest.raises(ValueError, match="0 <= gamma < 1"):
        critical_point("relu", gamma=1.0)


@pytest.mark.parametrize("name", ["gelu", "relu", "tanh"])
def test_with_a_skip_connection_both_susceptibilities_fill_what_it_leaves(name: str) -> None:
    plain, skip = critical_point(name), critical_point(name, gamma=0.6)
    assert (skip.C_b, skip.C_W) == pytest.approx((0.64 * plain.C_b, 0.64 * plain.C_W))
    if plain.K:
        kernels = kernel_recursion(ACTIVATIONS[name], plain.K, 20, skip.C_b, skip.C_W, gamma=0.6)
        torch.testing.assert_close(kernels, torch.full_like(kernels, plain.K), rtol=1e-9, atol=0)


def test_the_kernels_of_tanh_and_sin_fall_as_one_over_depth_with_their_own_constants() -> None:
    assert (kernel_decay(TANH), kernel_decay(SIN)) == (2, 1)
    K = kernel_recursion(TANH, 1.0, 1001, 0, 1)
    assert float(K[999]) == pytest.approx(0.0005016665, abs=1e-10)
    assert float(K[1000]) == pytest.approx(0.0005011639, abs=1e-10)
    found = [2 * layer * float(K[layer - 1]) for layer in (10, 50, 100, 1000)]
    assert found == pytest.approx([1.160, 1.043, 1.024, 1.0033], abs=5e-4)
    assert 1000 * float(kernel_recursion(SIN, 1.0, 1000, 0, 1)[-1]) == pytest.approx(1, abs=3e-3)


def test_a_curvature_at_zero_slows_the_fall_of_the_kernel() -> None:
    bent = Activation("bent", lambda z: torch.sin(z) + 0.2 * torch.sin(z) ** 2)
    assert kernel_decay(bent) == pytest.approx(1 - 0.75 * 0.4**2)
    K = kernel_recursion(bent, 0.1, 1000, 0, critical_point(bent).C_W)
    assert 1 / float(K[-1]) - 1 / float(K[499]) == pytest.approx(500 * kernel_decay(bent), rel=0.02)


def test_the_vertex_of_tanh_approaches_two_thirds() -> None:
    K = kernel_recursion(TANH, 1.0, 1000, 0, 1)
    normalised = vertex_recursion(TANH, K, 1.0) / K**2
    found = [float(normalised[layer - 1]) / layer for layer in (10, 50, 100, 1000)]
    assert found == pytest.approx([0.552, 0.634, 0.648, 0.664], abs=6e-4)
    assert vertex_slope(TANH) == vertex_slope(SIN) == 2 / 3


@pytest.mark.parametrize(("slope", "nu"), [(0.0, 5), (1.0, 2), (0.5, 6 * 1.0625 / 1.5625 - 1)])
def test_the_vertex_of_leaky_relu_is_the_closed_form_at_every_depth(slope: float, nu: float) -> None:
    sigma = leaky_relu(slope)
    K = kernel_recursion(sigma, torch.tensor([0.3, 2.0]), 30, 0, critical_point(sigma).C_W)
    V = vertex_recursion(sigma, K, critical_point(sigma).C_W)
    assert vertex_slope(sigma) == pytest.approx(nu)
    torch.testing.assert_close(V, nu * torch.arange(30.0, dtype=torch.float64)[:, None] * K**2, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("slope", [0.0, -1.0, 1.0])
def test_with_a_skip_the_formula_holds_for_the_first_step_and_for_all_where_the_square_is_a_square(
    slope: float,
) -> None:
    sigma = leaky_relu(slope)
    C_W = critical_point(sigma, gamma=0.7).C_W
    K = kernel_recursion(sigma, torch.tensor([0.3, 2.0]), 8, 0, C_W, gamma=0.7)
    V = vertex_recursion(sigma, K, C_W, gamma=0.7) / K**2
    formula = vertex_slope(sigma, gamma=0.7) * torch.arange(8.0, dtype=torch.float64)[:, None]
    torch.testing.assert_close(V[:2], formula[:2].expand(2, 2), rtol=1e-10, atol=1e-12)
    if slope:
        torch.testing.assert_close(V, formula.expand(8, 2), rtol=1e-10, atol=1e-12)
    else:
        assert (V[2:] > 1.1 * formula[2:]).all()


def test_the_slopes_of_a_skip_connection_are_those_of_linear_and_relu() -> None:
    for gamma in (0.0, 0.5, 0.95):
        rest = 1 - gamma**2
        assert vertex_slope(ACTIVATIONS["linear"], gamma) == pytest.approx(rest * (2 + 2 * gamma**2))
        assert vertex_slope(RELU, gamma) == pytest.approx(rest * (5 - gamma**2))
    with pytest.raises(ValueError, match="no closed form of nu for gelu"):
        vertex_slope(GELU)


def test_the_second_vertex_is_the_variance_of_one_layer() -> None:
    K = kernel_recursion(GELU, 2.0, 2, 0.1, 1.9)
    assert float(vertex_recursion(GELU, K, 1.9)[1]) == pytest.approx(1.9**2 * float(square_variance(GELU, 2.0)))


def test_the_second_moment_of_a_linear_network_is_its_variance() -> None:
    variance = metric_variance(ACTIVATIONS["linear"], 50, 21)
    assert variance == pytest.approx((1 + 2 / 50) ** 20 - 1)
    assert linear_metric_moment(2, 50, 21) == pytest.approx(1 + variance)
    assert linear_metric_moment(1, 50, 21) == 1


@pytest.mark.parametrize("order", [3, 4])
def test_every_moment_of_a_linear_network_is_a_power_of_that_of_a_mean_square(order: int) -> None:
    one_layer = chi2(50).moment(order) / 50**order
    assert linear_metric_moment(order, 50, 21) == pytest.approx(one_layer**20, rel=1e-9)


def test_off_critical_kernels_of_relu_move_by_half_of_C_W_a_layer() -> None:
    K = kernel_recursion(RELU, 1.0, 11, 0, 1.6)
    assert math.log(float(K[-1])) / 10 == pytest.approx(math.log(0.8))


def test_the_ntk_of_one_hidden_layer_is_written_out() -> None:
    K = kernel_recursion(RELU, 2.0, 2, 0, 2.0)
    theta = ntk_recursion(RELU, K, 0, 2.0, lambda_b=0.3, lambda_W=0.7)
    first = 0.3 + 0.7 * 1.0
    assert theta.tolist() == pytest.approx([first, 0.3 + 0.7 * 1.0 + first])


def test_the_ntk_of_critical_relu_grows_linearly_and_depth_scaled_rates_hold_it_still() -> None:
    K = kernel_recursion(RELU, 2.0, 20, 0, 2.0)
    torch.testing.assert_close(
        ntk_recursion(RELU, K, 0, 2.0, 0.0, 1.0), torch.arange(1.0, 21, dtype=torch.float64), rtol=1e-10, atol=0
    )
    assert float(ntk_recursion(RELU, K, 0, 2.0, *depth_scaled_rates(critical_point("relu"), 20))[-1]) == (
        pytest.approx(2)
    )


def test_with_depth_scaled_rates_late_layers_of_tanh_contribute_equally_to_the_ntk() -> None:
    depth = 400
    K = kernel_recursion(TANH, 1.0, depth, 0, 1)
    scaled = depth_scaled_rates(critical_point("tanh"), depth)
    for which, rates in enumerate(scaled):
        share = []
        for layer in (100, 200, 300):
            alone = torch.zeros(2, depth, dtype=torch.float64)
            alone[which, layer] = rates[layer]
            share.append(float(ntk_recursion(TANH, K, 0, 1, alone[0], alone[1])[-1]))
        assert max(share) / min(share) < 1.05


def test_critical_init_draws_weights_and_biases_of_the_critical_variances() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(300, 400), nn.GELU(), nn.Sequential(nn.Linear(400, 500)))
    assert critical_init_(model, nn.GELU()) is model
    point = critical_point("gelu")
    for layer in (model[0], model[2][0]):
        assert float(layer.weight.detach().var() * layer.in_features) == pytest.approx(point.C_W, rel=0.02)
        assert float(layer.bias.detach().var()) == pytest.approx(point.C_b, rel=0.25)
    with pytest.raises(ValueError, match="has no nn"):
        critical_init_(nn.Tanh(), "tanh")


def test_parameter_groups_carry_the_rates_of_their_layer() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 6, bias=False), nn.Tanh(), nn.Linear(6, 1))
    groups = parameter_groups(model, "tanh", lr=0.6)
    assert [group["lr"] for group in groups] == pytest.approx([0.15, 0.6, 0.12, 0.1, 0.2])
    assert [id(p) for group in groups for p in group["params"]] == [id(p) for p in model.parameters()]


def test_parameter_groups_leave_no_parameter_out() -> None:
    """What is in no nn.Linear has the learning rate itself; an optimizer without it would never train it."""
    model = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 1), nn.PReLU())
    groups = parameter_groups(model, "tanh", lr=0.6)
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(id(p) for p in model.parameters())
    assert groups[-1]["lr"] == 0.6
    assert [id(p) for p in groups[-1]["params"]] == [id(p) for p in (*model[1].parameters(), model[4].weight)]
    with pytest.raises(ValueError, match="lr must be above 0"):
        parameter_groups(model, "tanh", lr=0.0)

"""Sampled networks against the theory: the chain and its weights, the NTK, information, and training in batches."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from methods.dl_theory import (
    ACTIVATIONS,
    Activation,
    Networks,
    batched_ntk,
    chi_perpendicular,
    critical_init_,
    critical_point,
    empirical_ntk,
    gradient_descent,
    kernel_recursion,
    log_normal_information,
    metric_chain,
    metric_variance,
    mixture_information,
    ntk_recursion,
    optimal_aspect_ratio,
    pair_covariance,
    rectifier_log_variance,
    relative_change,
    truncated_information,
    vertex_recursion,
    vertex_slope,
    weight_matrix_chain,
)
from methods.dl_theory.baselines import plain_rates, torch_default
from methods.dl_theory.ensembles import distance_chain, preactivation_chain, relative_variance
from methods.dl_theory.information import leading_information, log_normal_metric
from methods.dl_theory.training import Task, unit_rows
from methods.shared.networks import accuracy, cross_entropy, half_squares

LINEAR, RELU, TANH = (ACTIVATIONS[name] for name in ("linear", "relu", "tanh"))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("sigma", [LINEAR, RELU], ids=lambda sigma: sigma.name)
def test_metrics_of_scale_invariant_networks_vary_exactly_as_predicted(sigma) -> None:
    blocks = metric_chain(sigma, 1.0, 50, 9, 60_000, 0, critical_point(sigma).C_W, seeded()).view(9, 10, -1)
    ratios = relative_variance(blocks)[-1] / metric_variance(sigma, 50, 9)
    assert abs(float(ratios.mean()) - 1) < 3 * float(ratios.std()) / math.sqrt(10) + 1e-3
    assert float(ratios.std()) / math.sqrt(10) < 0.05
    assert float(blocks[-1].mean()) == pytest.approx(1, abs=0.02)


def test_the_fourth_cumulant_of_a_linear_network_is_three_vertices() -> None:
    (*_, (_, z)) = preactivation_chain(LINEAR, 1.0, 20, 5, 100_000, 0, 1.0, generator=seeded(1))
    cumulants = (z**4).view(10, -1).mean(dim=1).double() - 3 * (z**2).view(10, -1).mean(dim=1).double() ** 2
    error = float(cumulants.std()) / math.sqrt(10)
    assert abs(float(cumulants.mean()) - 3 * metric_variance(LINEAR, 20, 5)) < 3 * error
    assert error < 0.05


@pytest.mark.parametrize("sigma", [RELU, TANH], ids=lambda sigma: sigma.name)
def test_the_chain_without_weights_has_the_law_of_the_networks_with_weights(sigma) -> None:
    width, depth, nets, point = 12, 6, 30_000, critical_point(sigma)
    x = torch.full((1, 3), 1 / math.sqrt(point.C_W))  # K^(1) = 1
    (*_, with_weights) = weight_matrix_chain(sigma, x, width, depth, nets, 0, point.C_W, seeded(1))
    (*_, (_, without)) = preactivation_chain(sigma, 1.0, width, depth, nets, 0, point.C_W, generator=seeded(2))
    size = [z.square().mean(dim=-1).flatten().sort().values for z in (with_weights, without)]
    # two samples of 30,000 from one law differ by less than 1.63 sqrt(2/N) in 99 % of all cases
    merged = torch.cat(size).sort().values
    below = [torch.searchsorted(values, merged, right=True) / nets for values in size]
    assert float((below[0] - below[1]).abs().max()) < 1.63 * math.sqrt(2 / nets)


def test_fluctuations_of_tanh_follow_the_recursion() -> None:
    G = metric_chain(TANH, 1.0, 200, 21, 20_000, 0, 1.0, seeded())
    K = kernel_recursion(TANH, 1.0, 21, 0, 1.0)
    V = vertex_recursion(TANH, K, 1.0)
    assert float(relative_variance(G)[-1] * 200 / (V / K**2)[-1]) == pytest.approx(1, abs=0.08)
    assert float(G[-1].mean() / K[-1]) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("gamma", [0.0, 0.9])
def test_skip_connections_reduce_the_fluctuations_of_linear_networks(gamma: float) -> None:
    C_W = critical_point(LINEAR, gamma).C_W
    found = pair_covariance(LINEAR, 1.0, 200, 6, 20_000, 0, C_W, gamma, seeded())
    assert float(found[-1]) * 200 / 5 == pytest.approx(vertex_slope(LINEAR, gamma), rel=0.1)


def test_an_activation_that_returns_its_argument_is_the_linear_one() -> None:
    identity = Activation("id", lambda z: z)
    found, wanted = [pair_covariance(sigma, 1.0, 20, 6, 500, 0, 0.19, 0.9, seeded()) for sigma in (identity, LINEAR)]
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_the_chain_draws_on_the_device_that_it_is_given() -> None:
    G = metric_chain(RELU, 1.0, 5, 4, 3, 0, 2.0, device="meta")
    assert (G.device.type, G.shape) == ("meta", (4, 3))


def test_the_skip_of_relu_networks_carries_fluctuations_that_the_recursion_has_and_the_formula_has_not() -> None:
    C_W = critical_point(RELU, 0.5).C_W
    found = float(pair_covariance(RELU, 1.0, 400, 9, 30_000, 0, C_W, 0.5, seeded())[-1]) * 400 / 8
    V = vertex_recursion(RELU, torch.ones(9, dtype=torch.float64), C_W, 0.5)
    assert found == pytest.approx(float(V[-1]) / 8, rel=0.08)
    assert found > 1.4 * vertex_slope(RELU, 0.5)


def test_the_logarithm_of_a_layers_factor_has_the_exact_variance() -> None:
    squares = torch.randn(200_000, 7, generator=seeded()).relu().square().sum(dim=1)
    assert float(squares[squares > 0].log().var()) == pytest.approx(rectifier_log_variance(7), rel=0.05)
    G = metric_chain(RELU, 1.0, 50, 51, 5_000, 0, 2.0, seeded())
    assert float(G[-1].log().var()) == pytest.approx(50 * rectifier_log_variance(50), rel=0.07)


def test_distances_of_near_inputs_shrink_by_the_perpendicular_susceptibility() -> None:
    distance, norm = distance_chain(TANH, 0.5, 1e-3, 1000, 11, 60, 0, 0.8, seeded())
    K = kernel_recursion(TANH, 0.5, 10, 0, 0.8)
    measured = (distance[-1].mean() / distance[0].mean()).log()
    assert float(measured / chi_perpendicular(TANH, K, 0.8).log().sum()) == pytest.approx(1, abs=0.01)
    assert float(norm[1].mean()) == pytest.approx(float(K[1]), rel=0.01)


def test_the_batched_ntk_is_the_one_of_automatic_differentiation() -> None:
    torch.manual_seed(0)
    model = critical_init_(
        nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 2)), "tanh"
    )
    x = torch.randn(4, 5)
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    networks = Networks(
        TANH, [la.weight.detach().T[None] for la in layers], [la.bias.detach()[None, None] for la in layers]
    )
    with torch.no_grad():
        torch.testing.assert_close(networks(x)[0], model(x))
    full = empirical_ntk(model, x, lambda_b=0.3, lambda_W=0.7)
    assert full.shape == (4, 4, 2, 2)
    torch.testing.assert_close(batched_ntk(networks, x, 0.3, 0.7)[0], full[:, :, 0, 0])
    torch.testing.assert_close(empirical_ntk(model, x, x[:2], 0.3, 0.7), full[:, :2])
    with pytest.raises(ValueError, match="belongs to no nn"):
        empirical_ntk(nn.Sequential(model, nn.LayerNorm(2)), x)


def test_the_mean_ntk_of_wide_networks_is_the_infinite_one() -> None:
    x = unit_rows(torch.randn(1, 10, generator=seeded())) / math.sqrt(10)  # of norm 1
    networks = Networks.draw(RELU, [10, 4096, 1], 20, 0, 2.0, seeded(1))
    K = kernel_recursion(RELU, 2 / 10, 2, 0, 2.0)
    wanted = float(ntk_recursion(RELU, K, 0, 2.0, 0.3, 0.7)[-1])
    assert float(batched_ntk(networks, x, 0.3, 0.7).mean()) == pytest.approx(wanted, rel=0.03)


def test_information_of_nearly_gaussian_outputs_is_the_leading_order_less_a_little() -> None:
    for n_A, n_B, ratio in ((1, 1, 0.9914), (2, 2, 0.9895)):
        found = log_normal_information(0.002, n_A, n_B) / leading_information(0.002, n_A, n_B)
        assert float(found) == pytest.approx(ratio, abs=1e-4)


def test_the_exact_information_keeps_growing_where_the_truncated_series_falls() -> None:
    found = [log_normal_information(v, 1, 1) for v in (0.1, 1.0, 2.0)]
    assert found == pytest.approx([8.8e-4, 0.0208, 0.038], rel=0.01)
    assert truncated_information(0.4, 1, 1) < 0 < truncated_information(0.1, 1, 1)


@pytest.mark.parametrize("sizes", [(1, 1), (1, 2), (2, 4)])
def test_the_truncated_series_peaks_at_the_optimal_aspect_ratio(sizes: tuple[int, int]) -> None:
    v = torch.linspace(0, 0.3, 30_001)
    peak = float(v[truncated_information(v, *sizes).argmax()])
    assert peak / 5 == pytest.approx(optimal_aspect_ratio(5, sum(sizes)), abs=1e-5)


def test_the_optimal_ratios_are_those_of_relu_and_tanh() -> None:
    assert optimal_aspect_ratio(5, 2) == pytest.approx(0.0308, abs=5e-5)
    assert optimal_aspect_ratio(2 / 3, 2) == pytest.approx(0.231, abs=5e-4)


def test_the_cubic_coefficient_of_the_series_is_that_of_the_exact_information() -> None:
    for n_A, n_B, coefficient in ((1, 1, 4.33), (2, 1, 4.83), (2, 2, 5.33), (3, 3, 6.33)):
        slope = (1 - log_normal_information(1e-3, n_A, n_B) / float(leading_information(1e-3, n_A, n_B))) / 1e-3
        assert slope == pytest.approx(coefficient, rel=0.02)


def test_information_does_not_depend_on_the_unit_of_the_metric() -> None:
    G, weights = log_normal_metric(0.5)
    assert mixture_information(100 * G, 1, 2, weights) == pytest.approx(mixture_information(G, 1, 2, weights), rel=1e-8)
    assert mixture_information(torch.ones(3), 1, 1) == pytest.approx(0, abs=1e-9)


def test_networks_of_a_batch_train_as_a_module_does_alone() -> None:
    x, y = torch.randn(30, 6, generator=seeded()), torch.randint(3, (30,), generator=seeded(1))
    batch = Networks.draw(TANH, [6, 9, 9, 3], 2, 0.1, 1.0, seeded(2))
    model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 9), nn.Tanh(), nn.Linear(9, 3))
    for layer, W, b in zip(model[::2], batch.weights, batch.biases, strict=True):
        layer.weight.data, layer.bias.data = W[1].T.clone(), b[1, 0].clone()
    rates = torch.tensor([0.5, 1.0, 2.0]), torch.tensor([3.0, 2.0, 1.0])
    gradient_descent(batch, x, y, cross_entropy, 10, torch.tensor([0.1, 0.4]), rates, momentum=0.5)
    parameters = list(model.parameters())
    steps = [step for rate_b, rate_W, n_in in zip(*rates, [6, 9, 9], strict=True) for step in (rate_W / n_in, rate_b)]
    moving = [torch.zeros_like(parameter) for parameter in parameters]
    for _ in range(10):
        gradients = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), parameters)
        moving = [0.5 * mean + gradient for mean, gradient in zip(moving, gradients, strict=True)]
        for parameter, step, mean in zip(parameters, steps, moving, strict=True):
            parameter.data -= 0.4 * step * mean
    torch.testing.assert_close(batch(x)[1], model(x), rtol=1e-4, atol=1e-5)


def test_plain_rates_are_those_of_torchs_sgd() -> None:
    x, y = torch.randn(20, 6, generator=seeded()), torch.randint(3, (20,), generator=seeded(1))
    networks = torch_default(RELU, [6, 9, 3], 1, seeded(2))
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3))
    for layer, W, b in zip(model[::2], networks.weights, networks.biases, strict=True):
        layer.weight.data, layer.bias.data = W[0].T.clone(), b[0, 0].clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    gradient_descent(networks, x, y, cross_entropy, 5, torch.tensor([0.1]), plain_rates([6, 9, 3]), momentum=0.9)
    torch.testing.assert_close(networks(x)[0], model(x), rtol=1e-4, atol=1e-5)


def test_the_ntk_predicts_a_small_step_of_gradient_descent() -> None:
    x, y = torch.randn(5, 4, generator=seeded()), torch.randn(5, 1, generator=seeded(1))
    networks = Networks.draw(TANH, [4, 30, 1], 2, 0, 1.0, seeded(2))
    before, ntk = networks(x), batched_ntk(networks, x, 0.5, 1.0)
    gradient_descent(networks, x, y, half_squares, 1, torch.full((2,), 1e-3), (torch.full((2,), 0.5), torch.ones(2)))
    torch.testing.assert_close(networks(x) - before, -1e-3 * ntk @ (before - y), rtol=0.02, atol=1e-5)


def test_the_ntk_moves_less_in_wider_networks() -> None:
    x = unit_rows(torch.randn(8, 6, generator=seeded()))
    y = x[:, :1].sign()
    moved = []
    for width in (16, 256):
        networks = Networks.draw(TANH, [6, width, width, 1], 5, 0, 1.0, seeded(1))
        before = batched_ntk(networks, x, 0.0)
        lr = 1 / torch.linalg.eigvalsh(before)[:, -1]
        gradient_descent(networks, x, y, half_squares, 30, lr, (torch.zeros(3), torch.ones(3)))
        moved.append(float(relative_change(before, batched_ntk(networks, x, 0.0)).mean()))
    assert moved[1] < moved[0] / 3


def test_pytorchs_default_is_the_default_of_its_linear_layer() -> None:
    networks = torch_default(RELU, [50, 200, 30], 3, seeded())
    layer = nn.Linear(200, 30)
    assert float(networks.weights[1].abs().max()) == pytest.approx(float(layer.weight.detach().abs().max()), rel=0.01)
    assert float(networks.weights[1].var() * 200) == pytest.approx(1 / 3, rel=0.03)
    assert float(networks.biases[1].abs().max()) <= 1 / math.sqrt(200)


def test_images_become_rows_of_norm_one_a_pixel_with_a_validation_set() -> None:
    import datasets

    task = Task.of(datasets.load("digits"), torch.device("cpu"))
    assert [len(x) for x, _ in (task.train, task.validation, task.test)] == [898, 300, 599]
    torch.testing.assert_close(task.test[0].square().mean(dim=1), torch.ones(599))
    networks = Networks.draw(RELU, [64, 16, 10], 2, 0, 2.0, seeded())
    networks.weights[1][1] = float("nan")
    assert accuracy(networks, *task.test)[1] == 0

"""What is out of range is refused by name, before it becomes a NaN of the theory."""

from __future__ import annotations

import pytest
import torch

from methods import dl_theory as dl
from methods.shared.networks import half_squares
from tests.methods.unusual import assert_takes_or_refuses

RELU, TANH = dl.ACTIVATIONS["relu"], dl.ACTIVATIONS["tanh"]


def test_unusual_inputs_are_taken_or_refused() -> None:
    assert_takes_or_refuses(lambda activation, gamma: dl.critical_point(activation, gamma).C_W, activation="relu",
                            gamma=0.5)  # fmt: skip
    assert_takes_or_refuses(lambda depth, C_b, C_W, gamma: dl.kernel_recursion(RELU, 1.0, depth, C_b, C_W, gamma),
                            depth=3, C_b=0.1, C_W=2.0, gamma=0.5)  # fmt: skip
    assert_takes_or_refuses(lambda depth: dl.depth_scaled_rates(dl.critical_point("tanh"), depth)[0], depth=4)
    assert_takes_or_refuses(lambda width, depth: dl.metric_variance(RELU, width, depth), width=5, depth=3)
    assert_takes_or_refuses(dl.linear_metric_moment, order=2, width=5, depth=3)
    assert_takes_or_refuses(dl.rectifier_log_variance, width=5)
    assert_takes_or_refuses(dl.optimal_aspect_ratio, nu=5.0, n_L=2)
    assert_takes_or_refuses(lambda n_A, n_B: dl.truncated_information(0.1, n_A, n_B), n_A=1, n_B=2)
    assert_takes_or_refuses(dl.mixture_information, G=torch.rand(9) + 0.5, n_A=1, n_B=2)
    assert_takes_or_refuses(dl.log_normal_information, v=0.1, n_A=1, n_B=2)
    assert_takes_or_refuses(lambda K1, width, depth, nets, C_b, C_W: dl.metric_chain(
        TANH, K1, width, depth, nets, C_b, C_W), K1=1.0, width=4, depth=3, nets=5, C_b=0.0, C_W=1.0)  # fmt: skip
    assert_takes_or_refuses(lambda nets, C_b, C_W: dl.Networks.draw(TANH, [3, 4, 2], nets, C_b, C_W).weights, nets=2,
                            C_b=0.1, C_W=1.0)  # fmt: skip
    assert_takes_or_refuses(lambda lr: dl.parameter_groups(torch.nn.Linear(2, 1), "tanh", lr)[0]["lr"], lr=0.1)
    with pytest.raises(ValueError, match="K is a variance"):
        dl.mean_square(TANH, -1.0)


def test_unusual_inputs_of_expectations_and_recursions() -> None:
    K = torch.rand(3, generator=torch.Generator().manual_seed(0)) + 0.5
    assert_takes_or_refuses(lambda activation: dl.kernel_decay(dl.activation_of(activation)), activation="tanh")
    assert_takes_or_refuses(lambda negative_slope: dl.leaky_relu(negative_slope)(-K), free=("negative_slope",),
                            negative_slope=0.1)  # fmt: skip
    with pytest.raises(ValueError, match="negative_slope"):
        dl.leaky_relu(float("nan"))
    for mean in (dl.mean_square, dl.square_variance):
        assert_takes_or_refuses(lambda K, mean=mean: mean(TANH, K), K=K)
    assert_takes_or_refuses(lambda K: dl.gaussian_mean(torch.tanh, K), K=K)
    for chi in (dl.chi_parallel, dl.chi_perpendicular):
        assert_takes_or_refuses(lambda K, C_W, chi=chi: chi(TANH, K, C_W), K=K, C_W=1.5)
        with pytest.raises(ValueError, match="K is a variance"):
            chi(TANH, -K, 1.5)
    assert_takes_or_refuses(lambda K, C_W, gamma: dl.vertex_recursion(RELU, K, C_W, gamma), K=K, C_W=1.5, gamma=0.5)
    assert_takes_or_refuses(lambda gamma: dl.vertex_slope(RELU, gamma), gamma=0.5)
    assert_takes_or_refuses(lambda K, C_b, C_W, lambda_b, lambda_W: dl.ntk_recursion(
        TANH, K, C_b, C_W, lambda_b, lambda_W), K=K, C_b=0.1, C_W=1.5, lambda_b=0.5, lambda_W=1.0)  # fmt: skip


def test_unusual_inputs_of_networks() -> None:
    sizes = dict(width=4, depth=3, nets=5, C_b=0.1, C_W=1.0)
    assert_takes_or_refuses(lambda **given: [z for _, z in dl.preactivation_chain(TANH, **given)], K1=1.0, gamma=0.5,
                            **sizes)  # fmt: skip
    assert_takes_or_refuses(lambda **given: dl.pair_covariance(TANH, **given), K1=1.0, gamma=0.5, **sizes)
    with pytest.raises(ValueError, match="width must be at least 2"):
        dl.pair_covariance(TANH, 1.0, 1, 3, 5, 0.0, 1.0, 0.5)
    assert_takes_or_refuses(lambda **given: list(dl.weight_matrix_chain(TANH, **given)), x=torch.rand(2, 4).double(),
                            **sizes)  # fmt: skip

    def perceptron() -> torch.nn.Sequential:
        return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))

    def drawn() -> dl.Networks:
        return dl.Networks.draw(TANH, [3, 4, 2], 2, 0.1, 1.0)

    def trained(x: torch.Tensor, y: torch.Tensor, lr: float, **options: float) -> list[torch.Tensor]:
        networks = drawn()
        dl.gradient_descent(networks, x, y, half_squares, lr=torch.full((2,), lr),
                            rates=(torch.ones(2), torch.ones(2)), **options)  # fmt: skip
        return networks.weights

    x, rates = torch.rand(4, 3), dict(lambda_b=0.5, lambda_W=1.0)
    assert_takes_or_refuses(trained, x=x, y=torch.rand(4, 2), steps=2, lr=0.1, momentum=0.5, batch_size=2)
    assert_takes_or_refuses(lambda x, **given: dl.batched_ntk(drawn(), x, **given), x=x, **rates)
    assert_takes_or_refuses(lambda x, **given: dl.empirical_ntk(perceptron(), x, **given), x=x, **rates)
    assert_takes_or_refuses(dl.relative_change, before=torch.rand(3, 3), after=torch.rand(3, 3))
    assert_takes_or_refuses(lambda activation, gamma: list(
        dl.critical_init_(perceptron(), activation, gamma).parameters()), activation="tanh", gamma=0.5)  # fmt: skip

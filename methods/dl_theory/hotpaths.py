"""What is tracked over commits: one set-up and one call each."""

from __future__ import annotations

from collections.abc import Callable

import torch

from methods.dl_theory.activations import ACTIVATIONS
from methods.dl_theory.criticality import critical_point, depth_scaled_rates
from methods.dl_theory.ensembles import metric_chain, weight_matrix_chain
from methods.dl_theory.information import mixture_information
from methods.dl_theory.ntk import batched_ntk
from methods.dl_theory.recursions import kernel_recursion, vertex_recursion
from methods.shared.networks import Networks, cross_entropy, gradient_descent

RELU, TANH = ACTIVATIONS["relu"], ACTIVATIONS["tanh"]


def critical_point_of_gelu() -> Callable[[], object]:
    return lambda: critical_point("gelu")


def kernel_and_vertex_recursion() -> Callable[[], object]:
    def flow() -> object:
        return vertex_recursion(TANH, kernel_recursion(TANH, 1.0, 100, 0.0, 1.0), 1.0)

    return flow


def chain_of_metrics() -> Callable[[], object]:
    torch.manual_seed(0)
    return lambda: metric_chain(RELU, 1.0, 200, 21, 2_000, 0.0, 2.0)


def chain_of_weight_matrices() -> Callable[[], object]:
    torch.manual_seed(0)
    return lambda: list(weight_matrix_chain(RELU, torch.ones(1, 64), 64, 8, 200, 0.0, 2.0))


def information_of_networks() -> Callable[[], object]:
    torch.manual_seed(0)
    G = torch.randn(2_000).mul(0.3).exp()
    return lambda: mixture_information(G, 1, 1)


def _networks() -> tuple[Networks, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    networks = Networks.draw(RELU, [64] + [64] * 9 + [10], 8, 0.0, 2.0)
    return networks, torch.randn(100, 64), torch.randint(10, (100,))


def ntk_of_a_batch() -> Callable[[], object]:
    networks, x, _ = _networks()
    return lambda: batched_ntk(networks, x[:24])


def training_step() -> Callable[[], object]:
    networks, x, y = _networks()
    lr, rates = torch.full((8,), 1e-3), depth_scaled_rates(critical_point("relu"), networks.depth)
    return lambda: gradient_descent(networks, x, y, cross_entropy, 1, lr, rates)

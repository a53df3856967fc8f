"""What the theory says in closed form: the slope nu by class, and moments that are exact at every width."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from methods.dl_theory.activations import Activation
from methods.dl_theory.criticality import critical_point
from methods.shared.checks import check_numbers, check_sizes


def vertex_slope(sigma: Activation, gamma: float = 0.0) -> float:
    """nu: V/(n K^2) = nu l/n at criticality, of first order in l/n and for large l.

    Scale-invariant: (1 - gamma^2) (4 gamma^2 + (1 - gamma^2) (3 A_4/A_2^2 - 1)), the formula of appendix B
    (from memory); for gamma > 0 it is that of the first layer alone unless sigma^2 is a multiple of z^2 (see
    `recursions`). K* = 0: 2/3.

    Raises:
        ValueError: another class, a skip connection with an activation that is not scale-invariant, or gamma outside
            [0, 1].
    """
    check_numbers("vertex_slope", least=0.0, most=1.0, gamma=gamma)
    if sigma.slopes is not None:
        rest = 1 - gamma**2
        return rest * (4 * gamma**2 + rest * (3 * sigma.moment(4) / sigma.moment(2) ** 2 - 1))
    if gamma == 0 and critical_point(sigma).universality == "K* = 0":
        return 2 / 3
    raise ValueError(f"no closed form of nu for {sigma.name} with gamma = {gamma:g}: use vertex_recursion")


def metric_variance(sigma: Activation, width: int, depth: int) -> float:
    """Var(G^(depth)) / E[G^(depth)]^2 of scale-invariant sigma and C_b = 0, exact at every width: (1 + nu/n)^{l-1} - 1.

    Layers multiply independently: G^(l+1)/G^(l) = C_W mean sigma(u)^2 with u ~ N(0, 1).
    """
    check_sizes("metric_variance", width=width, depth=depth)
    return float((1 + vertex_slope(sigma) / width) ** (depth - 1) - 1)


def linear_metric_moment(order: int, width: int, depth: int) -> float:
    """E[G^k] / K^k of a linear network, k = order: the product over layers of prod_{j<k} (1 + 2j/n)."""
    check_sizes("linear_metric_moment", least=0, order=order)
    check_sizes("linear_metric_moment", width=width, depth=depth)
    factor = 1.0
    for j in range(order):
        factor *= 1 + 2 * j / width
    return factor ** (depth - 1)


def rectifier_log_variance(width: int) -> float:
    """Var(log f) of one layer's factor f = (2/n) sum relu(u_i)^2 of a ReLU network, exact at every width.

    Of n neurons k ~ Binomial(n, 1/2) are on, and their squares sum to chi^2_k, with E log = psi(k/2) + log 2 and
    Var log = psi_1(k/2). k = 0 (probability 2^-n) is left out.
    """
    check_sizes("rectifier_log_variance", width=width)
    k = torch.arange(1, width + 1, dtype=torch.float64)
    log_weight = math.lgamma(width + 1) - torch.lgamma(k + 1) - torch.lgamma(width - k + 1)
    p = F.softmax(log_weight, dim=0)
    centre = torch.special.digamma(k / 2)
    within = torch.special.polygamma(1, k / 2)
    return float((p * (within + centre.square())).sum() - (p * centre).sum() ** 2)

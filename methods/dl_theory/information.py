"""Mutual information of two disjoint groups of output neurons, and the depth-to-width ratio it singles out.

Given its network's metric G, an output z is N(0, G) in every component, so the components know of each other only
through G. With v = Var(G)/E[G]^2 = V/(n K^2) = nu r, r = L/n, and n_A + n_B = n_L (appendix A)

    I(A; B) = (n_A n_B / 8) v^2 [1 - ((20 + 3 n_L)/6) v + ...]

whose first two terms peak at r* = (4 / (20 + 3 n_L)) / nu. Two terms are not the function: the exact information of the
same mixture keeps growing with v, as `mixture_information` shows.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from methods.shared.checks import check_numbers, check_sizes

# log r^2, less the mean log G. I at v = 0.002 is 5e-7, as little as the mass of a normal below r^2 = 1e-12, so the grid
# begins far below that; the trapezoid rule converges faster than any power here, so a coarse step serves
LOG_RADII = torch.arange(math.log(1e-36), math.log(1e6), 0.1, dtype=torch.float64)
HERMITE_NODES = 96


def truncated_information(v: Tensor | float, n_A: int, n_B: int) -> Tensor:
    """The series to third order in v, in nats."""
    check_sizes("truncated_information", n_A=n_A, n_B=n_B)
    v = torch.as_tensor(v, dtype=torch.float64)
    return n_A * n_B / 8 * v**2 * (1 - (20 + 3 * (n_A + n_B)) / 6 * v)


def leading_information(v: Tensor | float, n_A: int, n_B: int) -> Tensor:
    """(n_A n_B / 8) v^2, in nats."""
    return n_A * n_B / 8 * torch.as_tensor(v, dtype=torch.float64) ** 2


def optimal_aspect_ratio(nu: float, n_L: int) -> float:
    """r* = 4 / ((20 + 3 n_L) nu), where the truncated series peaks. ReLU (nu = 5), two outputs: 0.0308."""
    check_numbers("optimal_aspect_ratio", above=0.0, nu=nu)
    check_sizes("optimal_aspect_ratio", least=2, n_L=n_L)
    return 4 / ((20 + 3 * n_L) * nu)


def log_normal_metric(v: float) -> tuple[Tensor, Tensor]:
    """Values and weights of a log-normal G with mean 1 and variance v (Gauss-Hermite in log G)."""
    x, w = np.polynomial.hermite_e.hermegauss(HERMITE_NODES)
    spread = math.log1p(v)
    values = torch.exp(math.sqrt(spread) * torch.from_numpy(x) - spread / 2)
    return values, torch.from_numpy(w / w.sum())


def radial_entropy(G: Tensor, weights: Tensor, dimension: int) -> float:
    """Differential entropy in nats of z (dimension,) with z | G ~ N(0, G I), G in {values} with {weights}.

    The density depends on the radius alone, so one integral over s = log r^2 is left:
    h = -int q(s) log p(s) ds, q the density of s and p that of z.
    """
    s, d = LOG_RADII + G.log().mean(), dimension
    parts = weights.log() - d / 2 * torch.log(2 * math.pi * G) - torch.exp(s[:, None] - G.log()) / 2
    log_p = torch.logsumexp(parts, dim=1)
    surface = math.log(math.pi) * d / 2 - math.lgamma(d / 2)  # r^(d-1) dr over the sphere = e^(surface + d s/2) ds
    q = torch.exp(log_p + surface + d / 2 * s)
    return float(-torch.trapezoid(torch.where(q > 0, q * log_p, 0.0), s))


def mixture_information(G: Tensor, n_A: int, n_B: int, weights: Tensor | None = None) -> float:
    """I(A; B) in nats of components that are N(0, G) given G, by quadrature.

    Args:
        G: (nodes,) values of the metric > 0, such as those of sampled networks (a few thousand), or a rule's nodes.
        weights: (nodes,) that sum to 1; equal where None.
    """
    check_sizes("mixture_information", n_A=n_A, n_B=n_B)
    G = G.double()
    if not bool((G > 0).all()) or not len(G):
        raise ValueError("mixture_information: G has values above 0, one at least, none of them NaN")
    weights = torch.full_like(G, 1 / len(G)) if weights is None else weights
    h = {d: radial_entropy(G, weights, d) for d in {n_A, n_B, n_A + n_B}}
    return h[n_A] + h[n_B] - h[n_A + n_B]


def log_normal_information(v: float, n_A: int, n_B: int) -> float:
    """I(A; B) in nats where G is log-normal with mean 1 and variance v, which is nearly its law in a deep network."""
    check_numbers("log_normal_information", least=0.0, v=v)
    values, weights = log_normal_metric(v)
    return mixture_information(values, n_A, n_B, weights)

"""Gaussian expectations <f(z)>_K over z ~ N(0, K), and the three functions of K that the theory is made of.

    g(K)      = <sigma(z)^2>_K                            a layer maps K to C_b + C_W g(K)
    chi_par   = C_W g'(K) = C_W <sigma^2 (z^2 - K)>_K / (2 K^2)     how a difference of norms grows in a layer
    chi_perp  = C_W <sigma'(z)^2>_K                                 how a distance between equal norms grows

Gauss-Hermite nodes converge badly for a function with a kink. Here each half line has Gauss-Legendre nodes of its own,
up to 12 standard deviations (beyond lies 1e-32 of the mass): a kink at 0 is then no kink, and one rule serves all.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from methods.dl_theory.activations import Activation
from methods.shared.checks import check_numbers

REACH, NODES = 12.0, 256


@functools.cache
def standard_normal_rule() -> tuple[Tensor, Tensor]:
    """Nodes u and weights w, (2 NODES,) float64: <f>_1 = sum(w * f(u))."""
    x, w = np.polynomial.legendre.leggauss(NODES)
    u = torch.from_numpy(REACH / 2 * (x + 1))
    w = torch.from_numpy(REACH / 2 * w) * torch.exp(-(u**2) / 2) / math.sqrt(2 * math.pi)
    return torch.cat([-u.flip(0), u]), torch.cat([w.flip(0), w])


def gaussian_mean(f: Callable[[Tensor], Tensor], K: Tensor | float) -> Tensor:
    """<f(z)>_K, the shape of K, float64.

    Args:
        f: elementwise; smooth but for a kink at 0, with features no finer than about 0.05 sqrt(K).
        K: variances, any shape, >= 0.
    """
    u, w = standard_normal_rule()
    K = _variances(K)
    return (f(K.sqrt()[..., None] * u) * w).sum(dim=-1)


def _variances(K: Tensor | float) -> Tensor:
    K = torch.as_tensor(K, dtype=torch.float64)
    if bool((K < 0).any()):
        raise ValueError(f"K is a variance, at least 0; got {float(K.min())}")
    return K


def mean_square(sigma: Activation, K: Tensor | float) -> Tensor:
    """g(K) = <sigma^2>_K."""
    return gaussian_mean(lambda z: sigma(z) ** 2, K)


def square_variance(sigma: Activation, K: Tensor | float) -> Tensor:
    """<sigma^4>_K - <sigma^2>_K^2: what one neuron's draw adds to the fluctuation of a layer."""
    return gaussian_mean(lambda z: sigma(z) ** 4, K) - mean_square(sigma, K) ** 2


def square_coefficients(sigma: Activation, K: Tensor | float, orders: Sequence[int]) -> Tensor:
    """<sigma(z)^2 He_q(z/sqrt K)>_K / sqrt(q!) for the Hermite polynomials of these orders q, (*K.shape, orders)."""
    u, w = standard_normal_rule()
    K = torch.as_tensor(K, dtype=torch.float64)
    hermite = [torch.ones_like(u), u]
    for q in range(1, max(orders)):
        hermite.append((u * hermite[q] - math.sqrt(q) * hermite[q - 1]) / math.sqrt(q + 1))
    weighted = torch.stack([hermite[q] * w for q in orders], dim=1)
    return sigma(K.sqrt()[..., None] * u) ** 2 @ weighted


def chi_parallel(sigma: Activation, K: Tensor | float, C_W: float) -> Tensor:
    """C_W g'(K), the parallel susceptibility; K > 0, any shape."""
    check_numbers("chi_parallel", least=0.0, C_W=C_W)
    u, w = standard_normal_rule()
    K = _variances(K)
    return C_W * (sigma(K.sqrt()[..., None] * u) ** 2 * (u**2 - 1) * w).sum(dim=-1) / (2 * K)


def chi_perpendicular(sigma: Activation, K: Tensor | float, C_W: float) -> Tensor:
    """C_W <sigma'^2>_K, the perpendicular susceptibility."""
    check_numbers("chi_perpendicular", least=0.0, C_W=C_W)
    return C_W * gaussian_mean(lambda z: sigma.derivative(z) ** 2, K)

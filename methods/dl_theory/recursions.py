"""The effective theory of deep networks: layers as a flow of kernel, four-point vertex and neural tangent kernel.

A multilayer perceptron at initialisation is a distribution over functions. Its preactivations

    z^(1)_i = b_i + sum_j W_ij x_j,      z^(l+1)_i = b_i + sum_j W_ij sigma(z^(l)_j),
    W ~ N(0, C_W / n_in),  b ~ N(0, C_b),   n hidden units a layer

are Gaussian for n -> infinity, with the kernel K^(l) = E[z_i^2]. At finite width they are nearly Gaussian: given the
metric G^(l) = C_b + C_W mean_j sigma(z^(l-1)_j)^2, they are independent N(0, G), but G itself fluctuates from network
to network, with variance V^(l)/n. So K and V say everything to first order in 1/n (chapters 4 and 5):

    K^(l+1) = C_b + C_W g(K^(l)),                                     K^(1) = C_b + C_W |x|^2/n_0
    V^(l+1) = chi_par(K^(l))^2 V^(l) + C_W^2 (<sigma^4> - <sigma^2>^2),   V^(1) = 0

    E[z_a z_b z_c z_d]_connected = (V/n) (d_ab d_cd + d_ac d_bd + d_ad d_bc)

Where chi differs from 1, both grow or die exponentially. At criticality (see `criticality`) V/(n K^2) -> nu l/n: all
that is not Gaussian is controlled by the depth-to-width ratio. The null model of every experiment is V = 0.
The neural tangent kernel, which says how gradient descent moves the function, flows by (chapter 8)

    Theta^(1) = lambda_b + lambda_W |x|^2/n_0,   Theta^(l+1) = lambda_b + lambda_W g(K^(l)) + chi_perp(K^(l)) Theta^(l)

With a skip connection, z^(l+1)_i = gamma z^(l)_i + b_i + sum_j W_ij sigma(z^(l)_j) (appendix B):

    K^(l+1) = C_b + C_W g + gamma^2 K
    V^(l+1) = (gamma^2 + chi_par)^2 V + 4 gamma^2 K^2 chi_par + C_W^2 (<sigma^4> - <sigma^2>^2) + S

S = 0 where sigma^2 is a multiple of z^2, and the book's closed form, as far as we know it (from memory), leaves it out.
Derived here: with Hermite polynomials H_q(z) of variance K and c_q = n cov(z_i^2, H_q(z_j)), i != j, the skip carries
every c_q along,

    c_q^(l+1) = gamma^q [(gamma^2 + chi_par) c_q + C_W <sigma^2 H_q>],   c_q^(1) = 0
    S = 2 C_W (gamma^2 + chi_par) sum over q != 2 of <sigma^2 H_q> c_q / (q! K^q)

Everything is float64, over depth in the first dimension and over inputs in the others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from methods.dl_theory.activations import Activation
from methods.dl_theory.expectations import (
    chi_parallel,
    chi_perpendicular,
    mean_square,
    square_coefficients,
    square_variance,
)
from methods.shared.checks import check_numbers, check_sizes

# Hermite orders q of S; order 2 is V itself. Those beyond hold less than 1e-4 of the mean square of ReLU's square, and
# fade as gamma^q
SKIP_ORDERS = (1, *range(3, 41))


def kernel_recursion(
    sigma: Activation, K1: Tensor | float, depth: int, C_b: float, C_W: float, gamma: float = 0.0
) -> Tensor:
    """K^(1), ..., K^(depth).

    Args:
        K1: kernel of the first layer, C_b + C_W |x|^2/n_0, any shape, >= 0.
        depth: L, layers of weights.
        gamma: strength of the skip connection.

    Returns:
        (depth, *K1.shape) float64.
    """
    check_sizes("kernel_recursion", depth=depth)
    check_numbers("kernel_recursion", least=0.0, C_b=C_b, C_W=C_W, gamma=gamma)
    kernels = [torch.as_tensor(K1, dtype=torch.float64)]
    for _ in range(depth - 1):
        kernels.append(C_b + C_W * mean_square(sigma, kernels[-1]) + gamma**2 * kernels[-1])
    return torch.stack(kernels)


def vertex_recursion(sigma: Activation, K: Tensor, C_W: float, gamma: float = 0.0) -> Tensor:
    """V^(1), ..., V^(L) along given kernels: the four-point vertex, n times the variance of the metric G.

    For gamma > 0 it is n times the covariance of z_i^2 and z_j^2, i != j, in the same order.

    Args:
        K: (L, ...) from `kernel_recursion`, > 0.
    """
    check_numbers("vertex_recursion", least=0.0, C_W=C_W, gamma=gamma)
    vertices = [torch.zeros_like(K[0])]
    q = torch.tensor(SKIP_ORDERS, dtype=torch.float64)
    carried = torch.zeros(*K[0].shape, len(q), dtype=torch.float64)  # c_q / sqrt(q!)
    for kernel in K[:-1]:
        chi = chi_parallel(sigma, kernel, C_W)
        kept = gamma**2 + chi
        vertex = kept**2 * vertices[-1] + 4 * gamma**2 * kernel**2 * chi + C_W**2 * square_variance(sigma, kernel)
        if gamma:
            a, scale = square_coefficients(sigma, kernel, SKIP_ORDERS), kernel[..., None] ** (q / 2)
            vertex = vertex + 2 * C_W * kept * (a / scale * carried).sum(dim=-1)
            carried = gamma**q * (kept[..., None] * carried + C_W * a * scale)
        vertices.append(vertex)
    return torch.stack(vertices)


def ntk_recursion(
    sigma: Activation, K: Tensor, C_b: float, C_W: float, lambda_b: Tensor | float, lambda_W: Tensor | float
) -> Tensor:
    """Theta^(1), ..., Theta^(L) of an infinitely wide network along given kernels.

    Args:
        K: (L, ...) from `kernel_recursion`.
        lambda_b, lambda_W: a number, or (L,) rates by layer; a weight's rate is lambda_W / n_in, a bias's lambda_b.

    Raises:
        ValueError: C_W is not above 0, or C_b or a rate below 0 or not finite.
    """
    check_numbers("ntk_recursion", least=0.0, C_b=C_b)
    check_numbers("ntk_recursion", above=0.0, C_W=C_W)
    rate_b, rate_W = (torch.as_tensor(rate, dtype=torch.float64).expand(len(K)) for rate in (lambda_b, lambda_W))
    rates = torch.stack([rate_b, rate_W])
    if not bool(((rates >= 0) & rates.isfinite()).all()):
        raise ValueError(f"ntk_recursion: rates lambda_b, lambda_W are finite and at least 0; got {rates.tolist()}")
    thetas = [rate_b[0] + rate_W[0] * (K[0] - C_b) / C_W]  # (K^(1) - C_b) / C_W = |x|^2 / n_0
    for layer, kernel in enumerate(K[:-1], start=1):
        own = rate_b[layer] + rate_W[layer] * mean_square(sigma, kernel)
        thetas.append(own + chi_perpendicular(sigma, kernel, C_W) * thetas[-1])
    return torch.stack(thetas)

"""Tens of thousands of random networks at once.

Given the metric G^(l) of its layer, a network's preactivations z^(l)_i are independent N(0, G^(l)): the weights enter
in no other way. So a network is simulated exactly, to the last moment, by a chain that draws n normals a layer and no
weight (`metric_chain`). `weight_matrix_chain` draws all n^2 weights and is what the chain is checked against.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from methods.dl_theory.activations import Activation
from methods.shared.checks import check_numbers, check_sizes

CHUNK = 1 << 18  # numbers of a layer that are in flight: they stay in the cache of one core


def preactivation_chain(
    sigma: Activation, K1: float, width: int, depth: int, nets: int, C_b: float, C_W: float, gamma: float = 0.0,
    generator: torch.Generator | None = None, device: torch.device | str = "cpu",
) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """Layers 1 to depth of `nets` networks with one input.

    Args:
        K1: kernel of the first layer, the same for all networks.
        gamma: strength of the skip connection, z' = gamma z + sqrt(G') u.
        device: where to draw; a generator belongs to it.

    Yields:
        G (nets,) and z (nets, width), float32: the metric and the preactivations of a layer.
    """
    check_sizes("preactivation_chain", width=width, depth=depth, nets=nets)
    check_numbers("preactivation_chain", least=0.0, K1=K1, C_b=C_b, C_W=C_W, gamma=gamma)
    G = torch.full((nets,), K1, device=device)
    z = G.sqrt()[:, None] * torch.randn(nets, width, generator=generator, device=device)
    yield G, z
    for _ in range(depth - 1):
        G = C_b + C_W / width * torch.linalg.vector_norm(sigma(z), dim=1).square()
        fresh = torch.randn(nets, width, generator=generator, device=device).mul_(G.sqrt()[:, None])
        z = fresh.add_(z, alpha=gamma) if gamma else fresh
        yield G, z


def _chunks(nets: int, width: int) -> Iterator[int]:
    check_sizes("chain", nets=nets, width=width)
    size = max(1, min(nets, CHUNK // width))
    for start in range(0, nets, size):
        yield min(size, nets - start)


def metric_chain(
    sigma: Activation, K1: float, width: int, depth: int, nets: int, C_b: float, C_W: float,
    generator: torch.Generator | None = None, device: torch.device | str = "cpu",
) -> Tensor:  # fmt: skip
    """G^(1), ..., G^(depth) of `nets` networks, (depth, nets) float64; arguments as in `preactivation_chain`."""
    blocks = []
    for size in _chunks(nets, width):
        layers = preactivation_chain(sigma, K1, width, depth, size, C_b, C_W, generator=generator, device=device)
        blocks.append(torch.stack([G for G, _ in layers]).double())
    return torch.cat(blocks, dim=1)


def pair_covariance(
    sigma: Activation, K1: float, width: int, depth: int, nets: int, C_b: float, C_W: float, gamma: float,
    generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """cov(z_i^2, z_j^2) / E[z_i^2]^2 over i != j for each layer, (depth,): V/(n K^2) of networks with skip connections.

    E[z_i^2] is the one of the sample, which takes most of the noise of the mean square out of the difference.
    Raises as `preactivation_chain`; a width below 2 has no pairs.
    """
    check_sizes("pair_covariance", depth=depth)
    check_sizes("pair_covariance", least=2, width=width)
    square, product = (torch.zeros(depth, dtype=torch.float64) for _ in range(2))
    for size in _chunks(nets, width):
        layers = preactivation_chain(sigma, K1, width, depth, size, C_b, C_W, gamma, generator)
        for layer, (_, z) in enumerate(layers):
            squares = z.square()
            first, second = squares.sum(dim=1).double(), squares.square_().sum(dim=1).double()
            square[layer] += first.sum() / width
            product[layer] += (first.square() - second).sum() / (width * (width - 1))
    return (product / nets) / (square / nets).square() - 1


def weight_matrix_chain(
    sigma: Activation, x: Tensor, width: int, depth: int, nets: int, C_b: float, C_W: float,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:  # fmt: skip
    """The same networks with all their weights drawn: preactivations z (nets, inputs, width) of layers 1 to depth.

    Args:
        x: (inputs, n_0), float32 or float64.
    """
    check_sizes("weight_matrix_chain", width=width, depth=depth, nets=nets)
    check_numbers("weight_matrix_chain", least=0.0, C_b=C_b, C_W=C_W)
    if x.dim() != 2 or x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"weight_matrix_chain: x is (inputs, n_0), float32 or float64; got {x.dtype} {tuple(x.shape)}")
    signal = x.expand(nets, *x.shape)
    for _ in range(depth):
        fan_in = signal.shape[-1]
        W = torch.randn(nets, fan_in, width, generator=generator, dtype=x.dtype).mul_(math.sqrt(C_W / fan_in))
        b = torch.randn(nets, 1, width, generator=generator, dtype=x.dtype).mul_(math.sqrt(C_b))
        z = torch.baddbmm(b, signal, W)
        yield z
        signal = sigma(z)


def distance_chain(
    sigma: Activation, K1: float, angle: float, width: int, depth: int, nets: int, C_b: float, C_W: float,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Two inputs of equal norm at a small angle: mean square distance and mean square norm of their preactivations.

    Args:
        angle: between the first layer's preactivations, radians; float64 keeps 1e-3 exact.

    Returns:
        distance, norm: (depth, nets) float64, of G_aa + G_bb - 2 G_ab and (G_aa + G_bb) / 2.
    """
    G_aa = torch.full((nets,), K1, dtype=torch.float64)
    G_bb, G_ab = G_aa.clone(), G_aa * math.cos(angle)
    distance, norm = [G_aa * (2 * math.sin(angle / 2)) ** 2], [G_aa]
    for _ in range(depth - 1):
        # the distance is carried, not computed as a difference of kernels: it is far smaller than they are
        along = G_ab / G_aa
        across = (distance[-1] - (1 - along).square() * G_aa).clamp_min(0)
        u, v = (torch.randn(nets, width, generator=generator, dtype=torch.float64) for _ in range(2))
        z_a = G_aa.sqrt()[:, None] * u
        z_b = along[:, None] * z_a + across.sqrt()[:, None] * v
        s_a, s_b = sigma(z_a), sigma(z_b)
        G_aa, G_bb = (C_b + C_W * s.square().mean(dim=1) for s in (s_a, s_b))
        G_ab = C_b + C_W * (s_a * s_b).mean(dim=1)
        distance.append(C_W * (s_a - s_b).square().mean(dim=1))
        norm.append((G_aa + G_bb) / 2)
    return torch.stack(distance), torch.stack(norm)


def relative_variance(G: Tensor) -> Tensor:
    """Var(G) / E[G]^2 over networks, the last dimension."""
    return G.var(dim=-1) / G.mean(dim=-1).square()


def slope_through_origin(x: Tensor, y: Tensor) -> float:
    """Least-squares slope of y = slope * x."""
    return float((x * y).sum() / x.square().sum())

"""How smooth representations are (the paper's metric), and where propagation ends (its two theorems).

Two representations are compared by direction alone:

    D(x_i, x_j) = 1/2 || x_i / |x_i|  -  x_j / |x_j| ||          in [0, 1]
    SMV_i = mean of D(x_i, x_j) over j != i,     SMV = mean of SMV_i

A small SMV means smooth: all vertices look the same way. On a connected graph with d_i neighbours of vertex i, n
vertices and m edges,

    A^k -> v v^T,    v_i = sqrt((d_i + 1) / (2 m + n))           A = D^-1/2 (A + I) D^-1/2
    (D^-1 (A + I))^k -> 1 pi^T,    pi_i = v_i^2

because all other eigenvalues of A lie in (-1, 1); the distance falls like |lambda_2|^k, lambda_2 being the second
largest by magnitude. In the limit a vertex knows its degree and nothing else. A graph of several components has
this limit in each of them.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from methods.shared.graph import limit_parts, propagation

BLOCK = 1024  # rows at a time, so that no N x N matrix is held
ROUNDING = 1e-9  # below this a distance to the limit, computed in float64, is rounding


def vertex_smv(x: Tensor) -> Tensor:
    """SMV_i of each row of x (N, d), N >= 2: (N,) float64. A zero row has no direction and is taken as the zero vector.

    Raises:
        ValueError: fewer than two rows, or no matrix.
    """
    if x.dim() != 2 or x.shape[0] < 2:
        raise ValueError(f"smoothness compares vertices: needs (N, d), N >= 2; got {tuple(x.shape)}")
    unit = F.normalize(x.double(), dim=1)
    square = unit.square().sum(dim=1)
    total = torch.cat([_distances(rows, s, unit, square).sum(dim=1)
                       for rows, s in zip(unit.split(BLOCK), square.split(BLOCK), strict=True)])  # fmt: skip
    return total / (x.shape[0] - 1)


def smv(x: Tensor) -> float:
    """SMV of representations x (N, d): 0 where all rows have one direction, at most 1."""
    return float(vertex_smv(x).mean())


def _distances(rows: Tensor, square: Tensor, unit: Tensor, squares: Tensor) -> Tensor:
    """D between some rows (r, d) and all (N, d), given their squared norms: (r, N)."""
    apart = square.unsqueeze(1) + squares - 2 * (rows @ unit.T)
    return apart.clamp(min=0).sqrt() / 2


def limit_vector(edge_index: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """v of the theorems, component by component: (N,) float64, and the component of each vertex (N,) int64.

    Raises:
        ValueError: the graph is directed; arcs that `checked_edge_index` refuses raise as there.
    """
    mass, component = limit_parts(propagation(edge_index, num_nodes, torch.float64))
    mass = mass.double()
    total = torch.zeros_like(mass).index_add_(0, component, mass)
    return (mass / total[component]).sqrt(), component


def infinite_depth(z: Tensor, edge_index: Tensor) -> Tensor:
    """lim A^k z, the representations (N, d) that z (N, d) ends in: v_i (sum of v_j z_j over the component of i).

    Raises: as `limit_vector`.
    """
    v, component = limit_vector(edge_index, z.shape[0])
    v = v.to(z.dtype).unsqueeze(1)
    return v * torch.zeros_like(z).index_add_(0, component, v * z)[component]


def distance_to_limit(adjacency: Tensor, v: Tensor, depths: list[int]) -> list[float]:
    """Spectral norms ||A^k - v v^T||_2 for dense A (N, N), float64, of a connected graph, at each depth k."""
    end = torch.outer(v, v)
    return [float(torch.linalg.matrix_norm(torch.matrix_power(adjacency, k) - end, 2)) for k in depths]


def fitted_rate(depths: list[int], distances: list[float]) -> float:
    """The factor by which the distance falls with each hop: exp of the slope of its logarithm.

    Raises:
        ValueError: fewer than two distances above rounding.
    """
    kept = [(k, np.log(distance)) for k, distance in zip(depths, distances, strict=True) if distance > ROUNDING]
    if len(kept) < 2:
        raise ValueError(f"a rate needs two depths with a distance above {ROUNDING}; got {distances}")
    return float(np.exp(np.polyfit(*zip(*kept, strict=True), deg=1)[0]))


def second_eigenvalue(adjacency: Tensor) -> float:
    """|lambda_2| of a dense symmetric matrix (N, N): the second largest magnitude among its eigenvalues."""
    return float(torch.linalg.eigvalsh(adjacency).abs().sort().values[-2])

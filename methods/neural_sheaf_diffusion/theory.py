"""What the paper proves about sheaf diffusion, in a form that can be computed: limits, separation, energy.

Diffusion dX/dt = -Delta X tends to the projection of X(0) on the kernel of Delta. Whether a sheaf can separate classes
is whether a linear classifier can read them from that limit (sections 3.1 and 3.2 of the paper).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from methods.shared.sheaf import SheafIndex, SheafLaplacian

KERNEL = 1e-8  # eigenvalues below are zero; those of the graphs here are either < 1e-13 or > 1e-4


def kernel(laplacian: SheafLaplacian) -> Tensor:
    """(N d, k) an orthonormal basis of the harmonic space, by a dense decomposition: for small graphs."""
    values, vectors = torch.linalg.eigh(laplacian.to_dense())
    return vectors[:, values < KERNEL]


def limit(laplacian: SheafLaplacian, x: Tensor) -> Tensor:
    """X (N, d, f) after diffusion for ever."""
    basis = kernel(laplacian)
    return (basis @ (basis.T @ x.flatten(0, 1))).reshape(x.shape)


def flow(laplacian: SheafLaplacian, x: Tensor, time: float) -> Tensor:
    """X (N, d, f) after dX/dt = -Delta X for `time`, exactly; differentiable in the maps."""
    return (torch.linalg.matrix_exp(-time * laplacian.to_dense()) @ x.flatten(0, 1)).reshape(x.shape)


def separable(x: Tensor, of_class: Tensor) -> bool:
    """Whether a hyperplane has the rows of x (N, c) where `of_class` (N,) on one side and the others on the other.

    A linear programme looks for w, b with sign (w x + b) >= 1; x is scaled to unit size first, since limits are small.
    """
    points = (x / x.abs().max().clamp(min=1e-300)).double().numpy()
    sign = np.where(of_class.numpy(), 1.0, -1.0)[:, None]
    rows = -sign * np.hstack([points, np.ones((len(points), 1))])
    found = linprog(np.zeros(rows.shape[1]), A_ub=rows, b_ub=-np.ones(len(rows)), bounds=(None, None))
    return found.status == 0


def threshold_accuracy(x: Tensor, y: Tensor) -> float:
    """The best that a threshold on the numbers x (N,) does for two classes y (N,). Equal numbers fall on one side."""
    x = torch.where((x - x[0]).abs() < 1e-9 * x.abs().max(), x[0], x)
    cuts = torch.cat([x.new_tensor([-math.inf]), x.unique()])
    right = ((x.unsqueeze(0) > cuts.unsqueeze(1)) == (y == 1)).double().mean(dim=1)
    return float(torch.maximum(right, 1 - right).max())


def signed(index: SheafIndex, of_class: Tensor, strength: Tensor) -> Tensor:
    """(2m,) scalar maps: -alpha_e at the nodes of one class, +alpha_e elsewhere (proof of Proposition 10)."""
    alpha = torch.cat([strength, strength])
    return torch.where(of_class[index.arcs[0]], -alpha, alpha)


def diagonal(index: SheafIndex, y: Tensor, strength: Tensor) -> Tensor:
    """(2m, C) diagonal maps: channel c is signed for class c (Proposition 12)."""
    return torch.stack([signed(index, y == c, strength) for c in range(int(y.max()) + 1)], dim=1)


def quarter_turns(index: SheafIndex, y: Tensor) -> Tensor:
    """(2m, 2, 2) orthogonal maps: a rotation by 90 degrees times the class (Proposition 13, d = 2, C <= 4)."""
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    powers = torch.stack([torch.linalg.matrix_power(turn, c) for c in range(4)])
    return powers[y[index.arcs[0]]]


def complete_bipartite(side: int) -> tuple[SheafIndex, Tensor]:
    """K_{a,a} and which part (2a,) each node is in."""
    nodes = torch.arange(side)
    pairs = torch.cartesian_prod(nodes, nodes + side).T
    return SheafIndex(pairs, 2 * side), (torch.arange(2 * side) >= side).long()


def connected_graph(num_nodes: int, num_edges: int, generator: torch.Generator) -> SheafIndex:
    """A random tree, and further random edges until there are `num_edges`."""
    later = torch.arange(1, num_nodes)
    earlier = (torch.rand(num_nodes - 1, generator=generator) * later).long()
    pairs = torch.combinations(torch.arange(num_nodes)).T
    pairs = pairs[:, torch.randperm(pairs.shape[1], generator=generator)]
    tree = torch.stack([earlier, later])
    used = (pairs.T.unsqueeze(1) == tree.T.unsqueeze(0)).all(2).any(1)
    rest = pairs[:, ~used][:, : num_edges - tree.shape[1]]
    return SheafIndex(torch.cat([tree, rest], dim=1), num_nodes)


def energy(laplacian: SheafLaplacian, x: Tensor) -> Tensor:
    """trace(X^T Delta X), the Dirichlet energy: how much neighbours disagree."""
    return (x * (laplacian @ x)).sum()


def energy_step(laplacian: SheafLaplacian, x: Tensor, left: Tensor, right: Tensor, slope: float = 0.0) -> Tensor:
    """X (N, d, f) -> sigma((I - Delta)(I x W1) X W2), the layer of Theorems 15 to 17; sigma a (leaky) ReLU."""
    mixed = left @ x @ right
    return torch.nn.functional.leaky_relu(mixed - laplacian @ mixed, slope)


def energy_bound(laplacian: SheafLaplacian, left: Tensor, right: Tensor) -> Tensor:
    """lambda* |W1|^2 |W2|^2 with lambda* = max (lambda_i - 1)^2 over eigenvalues that are not zero (Theorem 16)."""
    values = torch.linalg.eigvalsh(laplacian.to_dense())
    factor = (values[values > KERNEL] - 1).square().max()
    return factor * torch.linalg.matrix_norm(left, 2).square() * torch.linalg.matrix_norm(right, 2).square()

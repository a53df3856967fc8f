"""Linear problems whose optimum under ordered decomposition is known: SVD, PCA, and an order set by the data.

The recipes are those of the official notebook: one step of SGD without momentum on all inputs, factors from their
default start, pairs drawn by the sampler. Singular values are fixed and factors random: where two of them are close by
chance, their order takes long to be found, and no method is to blame.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.maestro.layers import LowRankLinear, truncated
from methods.maestro.maestro import RankSampler

TARGET_VALUES = (9.0, 6.0, 3.0)  # singular values of the linear target
SAMPLE_VALUES = (6.0, 4.0, 2.0)  # of the autoencoder's samples


def matrix_of(values: tuple[float, ...], rows: int, columns: int) -> Tensor:
    """A random (rows, columns) matrix with these singular values and no others."""
    left, right = (torch.linalg.qr(torch.randn(size, len(values)))[0] for size in (rows, columns))
    return left * torch.tensor(values) @ right.T


def learn(layer: LowRankLinear, x: Tensor, y: Tensor, steps: int, lr: float, *, ordered: bool,
          columns_penalty: float | None = None, every: int = 1,
          watch: Callable[[], object] = lambda: None) -> None:  # fmt: skip
    """Fit y (N, n) from x (N, m) by least squares, mean over all entries.

    Args:
        ordered: cut to a sampled rank in each step (LoD), or not at all (plain).
        columns_penalty: where given, each step adds the loss of the whole map and this times the sum of the norms of
            single columns, as the notebook's autoencoder does.
        watch: called before the first step and then before each `every`-th.
    """
    sampler = RankSampler(layer)
    optimizer = torch.optim.SGD(layer.parameters(), lr)
    for step in range(steps):
        if step % every == 0:
            watch()
        optimizer.zero_grad()
        with truncated(layer, next(sampler)[1]) if ordered else nullcontext():
            loss = F.mse_loss(layer(x), y)
        if columns_penalty is not None:
            columns = (torch.linalg.vector_norm(factor, dim=0).sum() for factor in (layer.U, layer.V))
            loss = loss + F.mse_loss(layer(x), y) + columns_penalty * sum(columns)
        loss.backward()
        optimizer.step()


@torch.no_grad()
def prefix_error(layer: LowRankLinear, targets: list[Tensor], within: Tensor | None = None) -> float:
    """Largest relative Frobenius error of the map of the first k columns against the k-th target, k = 1, 2, ...

    within: a projector (m, m) to the inputs that count; default all.
    """
    errors = []
    for k, target in enumerate(targets, start=1):
        error = layer.U[:, :k] @ layer.V[:, :k].T - target
        errors.append(torch.linalg.norm(error if within is None else error @ within) / torch.linalg.norm(target))
    return float(torch.stack(errors).max())


def prefixes(terms: Tensor) -> list[Tensor]:
    """Sums of the first k terms (K, n, m), k = 1..K."""
    return list(terms.cumsum(0))


def svd_terms(matrix: Tensor, rank: int) -> Tensor:
    """s_k p_k q_k^T (rank, n, m), largest first."""
    P, S, Qt = torch.linalg.svd(matrix, full_matrices=False)
    return torch.einsum("k,nk,km->knm", S[:rank], P[:, :rank], Qt[:rank])


def largest_angle(a: Tensor, b: Tensor) -> float:
    """Largest principal angle in degrees between the spans of columns (n, k) and (n, k)."""
    a, b = (torch.linalg.qr(m.double())[0] for m in (a, b))
    sine = torch.linalg.matrix_norm(a - b @ (b.T @ a), ord=2)  # arc cosine loses all small angles
    return float(torch.rad2deg(torch.asin(sine.clamp(max=1))))


def column_importances(layer: LowRankLinear) -> Tensor:
    """||U[:, j]|| * ||V[:, j]|| of single columns, (r,)."""
    return torch.linalg.vector_norm(layer.U.detach(), dim=0) * torch.linalg.vector_norm(layer.V.detach(), dim=0)


def data_ordered_problem() -> tuple[Tensor, Tensor, Tensor]:
    """Inputs that reverse the order of a map: its singular terms, inputs (3, 9) and their images (3, 6).

    The k-th input is the k-th right singular vector times k / s_k: in the data the term with the smallest singular
    value weighs 3 and that with the largest weighs 1.

    Returns:
        terms (3, 6, 9) by falling singular value; x (3, 9); y (3, 6).
    """
    W = matrix_of(TARGET_VALUES, 6, 9)
    terms = svd_terms(W, 3)
    _, S, Qt = torch.linalg.svd(W, full_matrices=False)
    x = Qt[:3] * (torch.arange(1, 4) / S[:3])[:, None]
    return terms, x, x @ W.T

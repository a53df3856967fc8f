"""Products with a symmetric matrix of blocks, sums of both ends of arcs, and inverse roots of small matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from methods.shared.checks import refuse_to_derive_again

if TYPE_CHECKING:
    from methods.shared.sheaf import Pattern, SheafIndex


def laplacian_product(edge_values: Tensor, node_values: Tensor, x: Tensor, pattern: Pattern) -> Tensor:
    """L x (N d, f) of the symmetric L that has these values at the places of a pattern; x (N d, f)."""
    return _LaplacianProduct.apply(edge_values, node_values, x, pattern)


def plain_laplacian_product(edge_values: Tensor, node_values: Tensor, x: Tensor, pattern: Pattern) -> Tensor:
    rows = torch.repeat_interleave(pattern.starts.diff())
    values = torch.cat([edge_values.flatten(), node_values.flatten()])[pattern.take]
    return x.new_zeros(pattern.size, pattern.size).index_put((rows, pattern.columns), values) @ x


def pairs(own: Tensor, other: Tensor, index: SheafIndex) -> Tensor:
    """own (N, P), other (N, P) -> own[v] + other[u] (2m, P) for every arc (v, u)."""
    return _Pairs.apply(own, other, index)


def plain_pairs(own: Tensor, other: Tensor, index: SheafIndex) -> Tensor:
    return own[index.arcs[0]] + other[index.arcs[1]]


def matrix_inverse_sqrt(matrices: Tensor) -> Tensor:
    """A^-1/2 of symmetric positive matrices (N, d, d); its gradient is finite where eigenvalues coincide."""
    return _MatrixInverseSqrt.apply(matrices)


def plain_matrix_inverse_sqrt(matrices: Tensor) -> Tensor:
    eigenvalues, vectors = torch.linalg.eigh(matrices)
    return (vectors * eigenvalues.rsqrt().unsqueeze(1)) @ vectors.mT


class _LaplacianProduct(torch.autograd.Function):
    """L x for a symmetric L. dx = L dy; the gradient of an entry of L is the dot product of a row of dy and one of x,
    so torch evaluates dy x^T at the entries of L only."""

    @staticmethod
    def forward(ctx: Any, edge_values: Tensor, node_values: Tensor, x: Tensor, pattern: Pattern) -> Tensor:
        matrix = pattern.matrix(edge_values, node_values)
        ctx.save_for_backward(matrix.values(), x)
        ctx.pattern, ctx.shapes = pattern, (edge_values.shape, node_values.shape)
        return matrix @ x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        refuse_to_derive_again("SheafLaplacian")
        values, x = ctx.saved_tensors
        pattern: Pattern = ctx.pattern
        gradient = gradient.contiguous()
        matrix = pattern.with_values(values)
        edge, node, needs = None, None, ctx.needs_input_grad
        if needs[0] or needs[1]:
            entries = torch.sparse.sampled_addmm(matrix, gradient, x.t(), beta=0.0).values()
            first, second = pattern.edge_places
            edge = (entries.index_select(0, first) + entries.index_select(0, second)).reshape(ctx.shapes[0])
            node = entries.index_select(0, pattern.node_places).reshape(ctx.shapes[1])
        return edge, node, matrix @ gradient if needs[2] else None, None


class _Pairs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, other: Tensor, index: SheafIndex) -> Tensor:
        ctx.index = index
        return own.index_select(0, index.arcs[0]) + other.index_select(0, index.arcs[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        index: SheafIndex = ctx.index
        both = torch.cat([gradient, index.reverse(gradient)], dim=1)
        own, other = (index.incidence(gradient.dtype) @ both).split(gradient.shape[1], dim=1)
        return own, other, None


class _MatrixInverseSqrt(torch.autograd.Function):
    """A^-1/2 by eigenvalues, with the derivative of Daleckii and Krein: the divided differences of x^-1/2, in a form
    that has no division by the difference of two eigenvalues."""

    @staticmethod
    def forward(ctx: Any, matrices: Tensor) -> Tensor:
        # eigh ends on NaN with an error of LAPACK; here it comes out as it went in
        finite = matrices.isfinite().all(dim=(1, 2))[:, None, None]
        eye = torch.eye(matrices.shape[1]).to(matrices)
        eigenvalues, vectors = torch.linalg.eigh(torch.where(finite, matrices, eye))
        root = torch.where(finite[:, 0], eigenvalues.sqrt(), torch.nan)
        ctx.save_for_backward(root, vectors)
        return (vectors / root.unsqueeze(1)) @ vectors.mT

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        refuse_to_derive_again("inverse_sqrt")
        root, vectors = ctx.saved_tensors
        i, j = root.unsqueeze(2), root.unsqueeze(1)
        inner = vectors.mT @ ((gradient + gradient.mT) / 2) @ vectors
        return vectors @ (-inner / (i * j * (i + j))) @ vectors.mT

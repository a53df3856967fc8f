"""Constant sparse matrices that networks multiply by: the propagation over a graph, and features that are mostly zero.

Autograd's own backward pass of a sparse product transposes the matrix in every step. Here the transpose is made once
and kept; for a feature matrix that turns the slowest layer of a graph network into a fast one (Cora's features are
1.3 % full).
"""

from __future__ import annotations

import warnings
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.shared.kernels.linear import linear


class SparseMatrix:
    """A sparse (N, M) matrix and its transpose. `matrix @ x` is differentiable in x, never in the matrix.

    Args:
        csr: (N, M) sparse CSR tensor of floats.

    Raises:
        ValueError: no such matrix. TypeError: whole numbers.
    """

    def __init__(self, csr: Tensor) -> None:
        if csr.layout != torch.sparse_csr or csr.dim() != 2:
            raise ValueError(f"needs a sparse CSR matrix, got {csr.layout} of shape {tuple(csr.shape)}")
        if not csr.is_floating_point():
            raise TypeError(f"needs a sparse matrix of floats, got {csr.dtype}")
        rows = torch.arange(csr.shape[0], device=csr.device).repeat_interleave(csr.crow_indices().diff())
        columns = csr.col_indices()
        # values of the transpose are csr.values()[order]: by column, and by row inside a column
        self.order = columns.argsort(stable=True)
        starts = torch.zeros(csr.shape[1] + 1, dtype=torch.int64, device=csr.device)
        starts[1:] = torch.bincount(columns, minlength=csr.shape[1]).cumsum(0)
        shape = (csr.shape[1], csr.shape[0])
        self.csr = csr.detach()
        with _no_beta_warning():
            self.transpose = _csr(starts, rows[self.order], self.csr.values()[self.order], shape)

    @classmethod
    def from_dense(cls, x: Tensor) -> SparseMatrix:
        """The non-zero entries of x (N, M)."""
        with _no_beta_warning():
            return cls(x.to_sparse_csr())

    @property
    def shape(self) -> torch.Size:
        return self.csr.shape

    @property
    def device(self) -> torch.device:
        return self.csr.device

    @property
    def values(self) -> Tensor:
        """(nnz,) by row, and by column inside a row."""
        return self.csr.values()

    @property
    def T(self) -> SparseMatrix:
        """The transpose. Shares memory."""
        flipped = object.__new__(SparseMatrix)
        flipped.csr, flipped.transpose, flipped.order = self.transpose, self.csr, self.order.argsort()
        return flipped

    @property
    def is_symmetric(self) -> bool:
        """Equal to its transpose, values to rounding."""
        a, b = self.csr, self.transpose
        return (
            a.shape == b.shape
            and torch.equal(a.crow_indices(), b.crow_indices())
            and torch.equal(a.col_indices(), b.col_indices())
            and torch.allclose(a.values(), b.values())
        )

    def with_values(self, values: Tensor) -> SparseMatrix:
        """The same entries with other values (nnz,)."""
        other = object.__new__(SparseMatrix)
        other.order = self.order
        other.csr = _csr(self.csr.crow_indices(), self.csr.col_indices(), values, self.shape)
        t = self.transpose
        other.transpose = _csr(t.crow_indices(), t.col_indices(), values[self.order], t.shape)
        return other

    def to(self, *args: torch.device | torch.dtype | str) -> SparseMatrix:
        """On another device, or of another dtype."""
        other = object.__new__(SparseMatrix)
        other.csr, other.transpose = self.csr.to(*args), self.transpose.to(*args)
        other.order = self.order.to(other.csr.device)
        return other

    def to_dense(self) -> Tensor:
        return self.csr.to_dense()

    def __matmul__(self, x: Tensor) -> Tensor:
        """(N, M) @ (M, d) -> (N, d), of one dtype; under autocast x is given the matrix's.

        Raises:
            TypeError: x of another dtype.
            ValueError: x of another shape.
        """
        if x.dtype != self.csr.dtype:
            if not torch.is_autocast_enabled(x.device.type):
                raise TypeError(f"a sparse matrix of {self.csr.dtype} times a matrix of {x.dtype}; make them one dtype")
            x = x.to(self.csr.dtype)
        if x.dim() != 2 or x.shape[0] != self.shape[1]:
            raise ValueError(f"a sparse matrix of shape {tuple(self.shape)} times one of shape {tuple(x.shape)}")
        return linear(x, partial(_multiply, self.csr), partial(_multiply, self.transpose))


class Linear(nn.Linear):
    """torch's linear layer, whose input may be a SparseMatrix (N, in_features) too."""

    def forward(self, input: Tensor | SparseMatrix) -> Tensor:
        if not isinstance(input, SparseMatrix):
            return super().forward(input)
        product = input @ self.weight.T
        return product if self.bias is None else product + self.bias


def drop(x: Tensor | SparseMatrix, p: float, training: bool = True) -> Tensor | SparseMatrix:
    """Dropout. Of a SparseMatrix it draws for the stored entries only, since a zero stays zero either way."""
    if not training or p == 0:
        return x
    if isinstance(x, SparseMatrix):
        return x.with_values(_dropped(x.values, p))
    return _dropped(x, p)


def _dropped(x: Tensor, p: float) -> Tensor:
    """torch's dropout draws Bernoulli variables one by one on a CPU, which takes four times as long."""
    return x * torch.rand_like(x).ge_(p).div_(1 - p) if p < 1 else torch.zeros_like(x)


def _multiply(csr: Tensor, x: Tensor) -> Tensor:
    """csr @ x. On a CPU a weighted sum of embeddings, which is the same, takes half of the time or less."""
    if x.is_cuda or x.dtype == torch.float64:
        return csr @ x
    return F.embedding_bag(
        csr.col_indices(), x.contiguous(), csr.crow_indices(), mode="sum", per_sample_weights=csr.values(),
        include_last_offset=True,
    )  # fmt: skip


def _csr(starts: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    with torch.sparse.check_sparse_tensor_invariants(False):
        return torch.sparse_csr_tensor(starts, columns, values, size=shape)


class _no_beta_warning(warnings.catch_warnings):
    """torch calls this layout a beta in every process that uses it."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")

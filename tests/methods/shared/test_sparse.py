"""A sparse matrix does what the dense one does, backwards too."""

from __future__ import annotations

import pytest
import torch

from methods.shared.sparse import Linear, SparseMatrix, drop


def holey(rows: int = 7, columns: int = 5) -> torch.Tensor:
    """float64, with an empty row and an empty column."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    x[torch.rand(rows, columns, generator=generator) < 0.5] = 0
    x[2], x[:, 3] = 0, 0
    return x


def test_the_transpose_is_the_transpose() -> None:
    dense = holey()
    matrix = SparseMatrix.from_dense(dense)
    assert torch.equal(matrix.to_dense(), dense)
    assert torch.equal(matrix.transpose.to_dense(), dense.T)
    assert torch.equal(matrix.T.to_dense(), dense.T)
    assert torch.equal(matrix.T.T.to_dense(), dense)
    assert torch.equal(matrix.T.with_values(matrix.T.values * 2).transpose.to_dense(), dense * 2)


def test_product_and_gradient_are_the_dense_ones() -> None:
    dense = holey()
    matrix = SparseMatrix.from_dense(dense)
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(matrix @ x, dense @ x)
    assert torch.autograd.gradcheck(lambda x: matrix @ x, x)
    assert torch.autograd.gradgradcheck(lambda x: matrix @ x.sin(), x)
    weight = torch.randn(7, 3, dtype=torch.float64)
    (found,) = torch.autograd.grad((matrix @ x).mul(weight).sum(), x)
    torch.testing.assert_close(found, dense.T @ weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_multiplies_too(dtype: torch.dtype) -> None:
    dense = holey().to(dtype)
    x = torch.randn(5, 3).to(dtype).requires_grad_()
    out = SparseMatrix.from_dense(dense) @ x
    out.sum().backward()
    torch.testing.assert_close(out, dense @ x, rtol=0.02, atol=0.05)
    torch.testing.assert_close(x.grad, dense.sum(dim=0).unsqueeze(1).expand(5, 3), rtol=0.02, atol=0.05)


def test_other_types_and_shapes_are_refused_but_autocast_is_followed() -> None:
    matrix = SparseMatrix.from_dense(holey().float())
    with pytest.raises(TypeError, match=r"matrix of torch\.float32 times a matrix of torch\.float64"):
        matrix @ torch.ones(5, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"shape \(7, 5\) times one of shape \(4, 2\)"):
        matrix @ torch.ones(4, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (matrix @ torch.ones(5, 2, dtype=torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize("width", [0, 1, 33])
def test_single_precision_goes_another_way_to_the_same_result(width: int) -> None:
    dense = holey().float()
    matrix = SparseMatrix.from_dense(dense)
    x = torch.randn(width, 5).T.requires_grad_()  # not contiguous
    out = matrix @ x
    torch.testing.assert_close(out, dense @ x)
    (found,) = torch.autograd.grad(out.sum(), x, retain_graph=True)
    torch.testing.assert_close(found, dense.sum(dim=0).unsqueeze(1).expand(5, width))
    (slope,) = torch.autograd.grad(out.pow(3).sum(), x, create_graph=True)
    (twice,) = torch.autograd.grad(slope.sum(), x)
    torch.testing.assert_close(twice, 6 * dense.T @ ((dense @ x) * dense.sum(dim=1, keepdim=True)))


def test_a_linear_layer_takes_sparse_features() -> None:
    dense = holey()
    layer = Linear(5, 4).double()
    for features in (dense, SparseMatrix.from_dense(dense)):
        layer.zero_grad()
        out = layer(features)
        out.pow(2).sum().backward()
        torch.testing.assert_close(out, dense @ layer.weight.T + layer.bias)
        torch.testing.assert_close(layer.weight.grad, 2 * out.detach().T @ dense)


def test_dropout_scales_what_it_keeps_and_is_the_same_in_both_directions() -> None:
    dense = torch.ones(200, 50)
    torch.manual_seed(0)
    dropped = drop(SparseMatrix.from_dense(dense), 0.75)
    assert isinstance(dropped, SparseMatrix)
    kept = dropped.to_dense()
    assert set(kept.unique().tolist()) == {0.0, 4.0}
    assert 0.23 < float((kept > 0).float().mean()) < 0.27
    assert torch.equal(dropped.transpose.to_dense(), kept.T)
    matrix = SparseMatrix.from_dense(dense)
    assert drop(matrix, 0.75, training=False) is matrix
    assert drop(matrix, 0.0) is matrix
    assert set(drop(dense, 0.75).unique().tolist()) == {0.0, 4.0}
    assert not drop(dense, 1.0).any()


def test_another_dtype_keeps_the_transpose_too() -> None:
    single = SparseMatrix.from_dense(holey()).to(torch.float32)
    assert single.to_dense().dtype == single.transpose.to_dense().dtype == torch.float32
    assert (single @ torch.ones(5, 2)).dtype == torch.float32


def test_what_is_no_sparse_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sparse CSR matrix, got torch.strided of shape \(2, 2\)"):
        SparseMatrix(torch.ones(2, 2))

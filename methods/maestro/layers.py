"""Linear maps written as a product of two factors, W = U V^T, of which any first few columns can be used alone.

    linear:       y = U (V^T x) + bias            U (n, r), V (m, r),       r = min(m, n)
    convolution:  a k x k convolution m -> r, then a 1 x 1 convolution r -> n; the kernel (n, m, k, k) is read as
                  an (n, m k^2) matrix, so V is (m k^2, r),                 r = min(n, m k^2)

There is nothing between the factors. A layer works with its first `rank` columns, always as two maps; only a deployed
net (`deployment.py`) merges a layer back into one map, where two would cost as much: r (m + n) >= m n.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.shared.checks import check_numbers, check_sizes


class LowRank(nn.Module):
    """What both layers share: factors whose columns are counted and dropped from the end.

    Attributes:
        U (n, r), V (m, r): the factors; m counts the inputs of one output, k^2 times the channels in a convolution.
        bias (n,) or None.
        rank: columns that are alive. Shrinking lowers it; the columns behind it stay stored, so that an optimizer keeps
            its state, but no output depends on them.
    """

    def __init__(self, U: Tensor, V: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.U, self.V = nn.Parameter(U), nn.Parameter(V)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.rank = U.shape[1]
        self._truncation: int | None = None

    @property
    def rank_in_use(self) -> int:
        """`rank`, or less inside `truncated`."""
        return self.rank if self._truncation is None else min(self.rank, self._truncation)

    @property
    def out_channels(self) -> int:
        """n."""
        return len(self.U)

    def macs_per_position(self) -> int:
        """b (m + n): two maps of the b columns in use."""
        return self.rank_in_use * (len(self.U) + len(self.V))

    @property
    def weight(self) -> Tensor:
        """The matrix (n, m) that the columns in use amount to."""
        b = self.rank_in_use
        return self.U[:, :b] @ self.V[:, :b].T

    @property
    def dense_is_cheaper(self) -> bool:
        """The merge-back rule: two maps of this rank cost as much as one."""
        n, m = len(self.U), len(self.V)
        return self.rank_in_use * (m + n) >= m * n

    @torch.no_grad()
    def _fill(self, dense: nn.Linear | nn.Conv2d, weight: Tensor) -> None:
        dense.weight.copy_(weight)
        if dense.bias is not None and self.bias is not None:
            dense.bias.copy_(self.bias)
        dense.train(self.training)

    def extra_repr(self) -> str:
        return f"in={len(self.V)}, out={len(self.U)}, rank={self.rank}, bias={self.bias is not None}"

    def get_extra_state(self) -> int:
        return self.rank

    def set_extra_state(self, state: int) -> None:
        self.rank = state


class LowRankLinear(LowRank):
    """y = U (V^T x) + bias, as `nn.Linear`: (..., in_features) -> (..., out_features).

    Starts as two linear layers would: V and U uniform in +-1/sqrt(fan in).
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, rank: int | None = None) -> None:
        check_sizes("LowRankLinear", in_features=in_features, out_features=out_features)
        rank = _rank("LowRankLinear", rank, min(in_features, out_features))
        first, second = nn.Linear(in_features, rank, bias=False), nn.Linear(rank, out_features, bias)
        super().__init__(second.weight.detach(), first.weight.detach().T.clone(), _values(second.bias))

    @classmethod
    def from_linear(cls, linear: nn.Linear, rank: int | None = None) -> Self:
        """The first `rank` columns of its singular value decomposition; all of them are the same function."""
        layer = cls.__new__(cls)
        LowRank.__init__(layer, *spectral_factors(linear.weight.detach(), rank), _values(linear.bias))
        return layer

    def forward(self, x: Tensor) -> Tensor:
        b = self.rank_in_use
        return F.linear(F.linear(x, self.V[:, :b].T), self.U[:, :b], self.bias)

    def to_dense(self) -> nn.Linear:
        linear = nn.Linear(len(self.V), len(self.U), self.bias is not None, self.U.device, self.U.dtype)
        self._fill(linear, self.weight)
        return linear


class LowRankConv2d(LowRank):
    """A k x k convolution to `rank` channels and a 1 x 1 convolution from them, as `nn.Conv2d` without groups."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int],
                 stride: int | tuple[int, int] = 1, padding: int | tuple[int, int] | str = 0,
                 dilation: int | tuple[int, int] = 1, bias: bool = True, rank: int | None = None) -> None:  # fmt: skip
        window = nn.modules.utils._pair(kernel_size)
        check_sizes(
            "LowRankConv2d", in_channels=in_channels, out_channels=out_channels, height=window[0], width=window[1]
        )
        rank = _rank("LowRankConv2d", rank, min(out_channels, in_channels * window[0] * window[1]))
        first = nn.Conv2d(in_channels, rank, window, bias=False)
        second = nn.Conv2d(rank, out_channels, 1, bias=bias)
        super().__init__(
            second.weight.detach().flatten(1), first.weight.detach().flatten(1).T.clone(), _values(second.bias)
        )
        self._shape_like(nn.Conv2d(in_channels, 1, window, stride, padding, dilation, device="meta"))

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, rank: int | None = None) -> Self:
        """The first `rank` columns of its singular value decomposition; all of them are the same function."""
        layer = cls.__new__(cls)
        LowRank.__init__(layer, *spectral_factors(conv.weight.detach().flatten(1), rank), _values(conv.bias))
        layer._shape_like(conv)
        return layer

    def _shape_like(self, conv: nn.Conv2d) -> None:
        self.in_channels, self.kernel_size = conv.in_channels, conv.kernel_size
        self.geometry = {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation}

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H', W')."""
        b, window = self.rank_in_use, (self.in_channels, *self.kernel_size)
        if b == 0:  # no convolution has zero channels: one of zeros, which counts nothing
            return F.conv2d(x, self.weight.unflatten(1, window), self.bias, **self.geometry)
        features = F.conv2d(x, self.V[:, :b].T.unflatten(1, window), **self.geometry)
        return F.conv2d(features, self.U[:, :b, None, None], self.bias)

    def to_dense(self) -> nn.Conv2d:
        conv = nn.Conv2d(self.in_channels, len(self.U), self.kernel_size, bias=self.bias is not None,
                         device=self.U.device, dtype=self.U.dtype, **self.geometry)  # fmt: skip
        self._fill(conv, self.weight.unflatten(1, (self.in_channels, *self.kernel_size)))
        return conv


def spectral_factors(weight: Tensor, rank: int | None = None) -> tuple[Tensor, Tensor]:
    """U = P sqrt(S) (n, r) and V = Q sqrt(S) (m, r) of W = P S Q^T (n, m), by falling singular value."""
    P, S, Qt = torch.linalg.svd(weight, full_matrices=False)
    root = S.sqrt()
    return (P * root)[:, :rank].contiguous(), (Qt.T * root)[:, :rank].contiguous()


@contextmanager
def truncated(layer: LowRank, rank: int) -> Iterator[None]:
    """Inside, the layer works with its first `rank` columns only; gradients reach no others.

    Raises ValueError where the layer has no such rank.
    """
    check_sizes("truncated", least=0, rank=rank)
    if rank > layer.U.shape[1]:
        raise ValueError(f"truncated: the layer has {layer.U.shape[1]} columns, so it cannot be cut to {rank}")
    layer._truncation = rank
    try:
        yield
    finally:
        layer._truncation = None


def decompose(model: nn.Module, *, skip: Collection[str] = (), share: float = 1.0) -> nn.Module:
    """A copy of a model whose linear and convolution layers are factorised by SVD, biases and all else kept.

    Embeddings, recurrent layers, convolutions with groups or padding that is not of zeros, subclasses of the two layers
    and layers that share their weight with another module stay as they are.

    Args:
        skip: names of layers, as in `named_modules`, that stay dense.
        share: of each layer's full rank min(m, n) that is kept, rounded up; 1: the function is unchanged.

    Raises:
        ValueError: a name to skip that the model does not have; or `nn.MultiheadAttention`, whose fused projections
            cannot be reached.
    """
    check_numbers("decompose", above=0.0, most=1.0, share=share)
    model = copy.deepcopy(model)
    names = dict(model.named_modules())
    unknown = [name for name in skip if name not in names]
    if unknown:
        raise ValueError(f"decompose: the model has no layer {unknown[0]!r} to skip; it has {', '.join(names)}")
    for name, module in names.items():
        if isinstance(module, nn.MultiheadAttention):
            raise ValueError(
                f"decompose: {name or 'the model'} is an nn.MultiheadAttention, which fuses its projections; "
                "write them as separate nn.Linear layers for queries, keys, values and output"
            )
    owners = Counter(id(p) for module in names.values() for p in module.parameters(recurse=False))
    for name, module in names.items():
        if name not in skip and _can_factorise(module) and owners[id(module.weight)] == 1:
            layer = _factorised(module, share)
            if not name:
                return layer
            for place, held in list(model.named_modules(remove_duplicate=False)):
                if held is module:
                    model.set_submodule(place, layer)
    return model


def low_rank_layers(model: nn.Module) -> dict[str, LowRank]:
    """Name -> factorised layer, in order of the model."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LowRank)}


def ranks_of(model: nn.Module) -> dict[str, int]:
    """Name -> columns alive of each factorised layer."""
    return {name: layer.rank for name, layer in low_rank_layers(model).items()}


def _can_factorise(module: nn.Module) -> bool:
    if type(module) is nn.Conv2d:
        return module.groups == 1 and module.padding_mode == "zeros"
    return type(module) is nn.Linear


def _factorised(module: nn.Module, share: float) -> LowRank:
    weight = module.weight.flatten(1)
    rank = share_of(share, min(weight.shape))
    convolves = isinstance(module, nn.Conv2d)
    layer = LowRankConv2d.from_conv(module, rank) if convolves else LowRankLinear.from_linear(module, rank)
    return layer.train(module.training)


def share_of(share: float, rank: int) -> int:
    """ceil(share * rank), where 0.07 * 100 is 7."""
    return math.ceil(share * rank - 1e-9)


def _rank(where: str, rank: int | None, most: int) -> int:
    if rank is None:
        return most
    check_sizes(where, rank=rank)
    if rank > most:
        raise ValueError(f"{where}: rank must be at most {most}, the full rank; got {rank}")
    return rank


def _values(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.detach().clone()

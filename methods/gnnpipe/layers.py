"""Graph networks as lists of blocks, which is how a pipeline cuts them: GCN, GraphSAGE and GCNII.

A block sees the rows h of some vertices, z = A h for the same vertices where it aggregates, and h0, the output of the
input block, where the model has a use for it. It computes row by row from there on, so it runs on a chunk of the
vertices as well as on all of them. Every model is an input block (F -> H), L blocks that aggregate width H, and an
output block (H -> C): all aggregations and all stage borders have the same width.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from methods.shared.checks import check_option, check_sizes

MODELS = ("gcn", "graphsage", "gcnii")


class Block(nn.Module, ABC):
    """One step of a model.

    aggregates: whether it reads z = A h. makes_h0: whether its output is the h0 of all later blocks. drops: whether
    dropout follows. `in_channels` is the width of h. `forward(h, z, h0)`: rows (n, in_channels), (n, in_channels) or
    None, (n, H) or None; returns (n, out_channels).
    """

    aggregates = True
    makes_h0 = False
    drops = True

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels

    @abstractmethod
    def forward(self, h: Tensor, z: Tensor | None, h0: Tensor | None) -> Tensor:
        """The rows of the next block."""


class Input(Block):
    """ReLU(h W + b). makes_h0: True in GCNII."""

    aggregates = False

    def __init__(self, in_channels: int, out_channels: int, *, makes_h0: bool) -> None:
        super().__init__(in_channels)
        self.makes_h0 = makes_h0
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, h: Tensor, z: Tensor | None, h0: Tensor | None) -> Tensor:
        return torch.relu(self.linear(h))


class Output(Block):
    """Logits h W + b."""

    aggregates = False
    drops = False

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels)
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, h: Tensor, z: Tensor | None, h0: Tensor | None) -> Tensor:
        return self.linear(h)


class GCN(Block):
    """ReLU(z W + b), z = sum_u A[v, u] h_u with A = D^-1/2 (adjacency + I) D^-1/2 (Kipf and Welling, ICLR 2017)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels)
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, h: Tensor, z: Tensor | None, h0: Tensor | None) -> Tensor:
        return torch.relu(self.linear(z))


class GraphSAGE(Block):
    """ReLU(h W_self + z W_neighbor + b), z the mean of the neighbours (Hamilton et al., NeurIPS 2017)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels)
        self.self_linear = nn.Linear(in_channels, out_channels)
        self.neighbor_linear = nn.Linear(in_channels, out_channels, bias=False)

    def forward(self, h: Tensor, z: Tensor | None, h0: Tensor | None) -> Tensor:
        return torch.relu(self.self_linear(h) + self.neighbor_linear(z))


class GCNII(Block):
    """ReLU(theta s W + (1 - theta) s), s = (1 - alpha) z + alpha h0, theta = log(lambda / l + 1) (Chen et al., 2020).

    Args:
        channels: H, of input and output.
        layer: l, from 1.
    """

    alpha, lambda_ = 0.1, 0.5

    def __init__(self, channels: int, layer: int) -> None:
        super().__init__(channels)
        self.theta = math.log(self.lambda_ / layer + 1)
        self.linear = nn.Linear(channels, channels, bias=False)

    def forward(self, h: Tensor, z: Tensor | None, h0: Tensor | None) -> Tensor:
        assert z is not None
        support = torch.lerp(z, h0, self.alpha)
        return torch.relu(torch.lerp(support, self.linear(support), self.theta))


def build_blocks(
    model: str, in_channels: int, hidden_channels: int, out_channels: int, num_layers: int
) -> nn.ModuleList:
    """The blocks of a model with L = num_layers aggregations: L + 2 of them.

    Raises:
        ValueError, TypeError: an unknown model, or an invalid size.
    """
    check_sizes("build_blocks", in_channels=in_channels, hidden_channels=hidden_channels, out_channels=out_channels,
                num_layers=num_layers)  # fmt: skip
    check_option("build_blocks", "model", model, MODELS)
    width = hidden_channels
    if model == "gcn":
        layers: list[Block] = [GCN(width, width) for _ in range(num_layers)]
    elif model == "graphsage":
        layers = [GraphSAGE(width, width) for _ in range(num_layers)]
    else:
        layers = [GCNII(width, layer) for layer in range(1, num_layers + 1)]
    first = Input(in_channels, width, makes_h0=model == "gcnii")
    return nn.ModuleList([first, *layers, Output(width, out_channels)])


class Aggregate(torch.autograd.Function):
    """z = A h for a constant sparse A and its transpose, both CSR. h: (n, d)."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, h: Tensor, adjacency: Tensor, transpose: Tensor) -> Tensor:
        ctx.transpose = transpose  # type: ignore[attr-defined]
        return adjacency @ h

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transpose @ gradient, None, None  # type: ignore[attr-defined]


def run_blocks(
    blocks: Sequence[Block] | nn.ModuleList, x: Tensor, adjacency: Tensor, transpose: Tensor, dropout: float = 0.0
) -> Tensor:
    """The exact forward pass over the whole graph: x (N, F) -> logits (N, C). Differentiable."""
    h, h0 = x, None
    for block in blocks:
        z = Aggregate.apply(h, adjacency, transpose) if block.aggregates else None
        h = block(h, z, h0)
        h0 = h if block.makes_h0 else h0
        if block.drops and dropout:
            h = torch.dropout(h, dropout, True)
    return h

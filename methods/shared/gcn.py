"""One family of graph convolutional networks, in which propagation and transformation are counted apart.

Layer l is H_l = relu(A^(k_l) (H_(l-1) W_l) + b_l), without the relu in the last one, where A = D^-1/2 (A + I) D^-1/2
and k_l is the number of its hops. The list of hops names the model:

    [1, 1]          GCN (Kipf and Welling, ICLR 2017)
    [0, 0]          a multilayer perceptron
    [K]             SGC (Wu et al., ICML 2019)
    [0, K]          transform first, then propagate K times: the last hop of a decoupled model
    [0, K], alpha   APPNP (Klicpera et al., ICLR 2019): each hop is (1 - alpha) A H + alpha Z, Z what it started from
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from methods.shared.checks import check_option, check_probabilities, check_sizes
from methods.shared.graph import propagation
from methods.shared.sparse import Linear, SparseMatrix, drop

Residual = Literal["res", "dense"]


class GCN(nn.Module):
    """See above. Weights are Glorot's, biases zero, dropout is before every linear map (Kipf and Welling).

    Args:
        in_channels: F.
        hidden_channels: width of all layers but the last.
        out_channels: C.
        hops: k_l of each layer.
        dropout: probability.
        residual: "res" adds to the output of a hidden layer its input, "dense" the sum of all its predecessors'
            outputs (ResGCN and DenseGCN); layers that change the width have neither.
        alpha: restart probability of a hop.

    Raises:
        ValueError, TypeError: no layers, hops below 0, a width below 1, dropout or alpha outside [0, 1], or another
            residual.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, out_channels: int, hops: Sequence[int], *, dropout: float = 0.5,
        residual: Residual | None = None, alpha: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if not hops:
            raise ValueError("GCN: hops needs a number of hops for each layer; got none")
        check_sizes("GCN", least=0, **{f"hops[{i}]": k for i, k in enumerate(hops)})
        check_sizes("GCN", in_channels=in_channels, hidden_channels=hidden_channels, out_channels=out_channels)
        check_probabilities("GCN", dropout=dropout, alpha=alpha)
        check_option("GCN", "residual", residual, (None, "res", "dense"))
        widths = [in_channels, *[hidden_channels] * (len(hops) - 1), out_channels]
        self.linears = nn.ModuleList(Linear(a, b) for a, b in itertools.pairwise(widths))
        self.hops, self.dropout, self.residual, self.alpha = list(hops), dropout, residual, alpha
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for linear in self.linears:
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor | SparseMatrix, edge_index: Tensor | SparseMatrix) -> Tensor:
        """x (N, F), edge_index (2, A) or the propagation (N, N) -> logits (N, C)."""
        dtype = self.linears[0].weight.dtype
        adjacency = propagation(edge_index, x.shape[0], dtype) if any(self.hops) else None
        before: list[Tensor] = []  # outputs of hidden layers
        h: Tensor | SparseMatrix = x
        for linear, hops in zip(self.linears, self.hops, strict=True):
            z = drop(h, self.dropout, self.training) @ linear.weight.T
            if self.alpha:  # what a hop restarts from is the whole output of the linear map
                h = propagate(z + linear.bias, adjacency, hops, self.alpha)
            else:
                h = propagate(z, adjacency, hops) + linear.bias
            if linear is self.linears[-1]:
                break
            h = torch.relu(h)
            if self.residual and before:
                h = h + (before[-1] if self.residual == "res" else sum(before))
            before.append(h)
        return h


def propagate(z: Tensor, adjacency: SparseMatrix | None, hops: int, alpha: float = 0.0) -> Tensor:
    """`hops` times h <- (1 - alpha) A h + alpha z, from h = z (N, d). Without hops no adjacency is needed."""
    h = z
    for _ in range(hops):
        h = adjacency @ h
        if alpha:
            h = torch.lerp(h, z, alpha)
    return h

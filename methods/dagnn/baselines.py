"""What DAGNN is compared with: two ablations of its last step, APPNP, the family of GCNs, and a racing peer.

GCN, SGC and the MLP come from `methods/shared/gcn.py`. They and APPNP give the outputs of torch-geometric's layers (the
tests compare them) in a fraction of the time; the last two classes here are the same models of its parts.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric import nn as pyg

from methods.dagnn.dagnn import DAGNN
from methods.shared.gcn import propagate
from methods.shared.graph import propagation
from methods.shared.sparse import SparseMatrix

ALPHA = 0.1  # APPNP's restart probability, as published for all three citation graphs


class _WithoutGate(DAGNN):
    """DAGNN's transformation, and another way to use the hops."""

    def __init__(self, *args: int, **kwargs: float) -> None:
        super().__init__(*args, **kwargs)
        del self.gate


class Ungated(_WithoutGate):
    """Every gate at 1/2, its mean value at the start: a constant weight on the same scale."""

    def mix(self, h: Tensor) -> Tensor:
        return h.sum(dim=0) / 2


class LastHop(_WithoutGate):
    """The decoupled model alone: A^K MLP(X), nothing of the hops before."""

    def mix(self, h: Tensor) -> Tensor:
        return h[-1]


class APPNP(_WithoutGate):
    """H_k = (1 - alpha) A H_(k-1) + alpha Z, the last hop (Klicpera, Bojchevski, Guennemann; ICLR 2019)."""

    def forward(self, x: Tensor | SparseMatrix, edge_index: Tensor | SparseMatrix) -> Tensor:
        return propagate(self.transform(x), propagation(edge_index, x.shape[0]), self.K, ALPHA)


class TorchGeometricDAGNN(nn.Module):
    """DAGNN as one composes it from torch-geometric's parts: dense features, messages along `edge_index`.

    `APPNP` with one step and without restart is one hop of A; `cached` keeps the normalised arcs.
    """

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int, K: int, dropout: float) -> None:
        super().__init__()
        self.mlp = nn.ModuleList([nn.Linear(in_channels, hidden_channels), nn.Linear(hidden_channels, out_channels)])
        self.hop = pyg.APPNP(K=1, alpha=0.0, cached=True)
        self.gate = nn.Linear(out_channels, 1)
        self.K, self.dropout = K, dropout

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """x (N, F), edge_index (2, A) -> logits (N, C)."""
        x = F.dropout(x, self.dropout, self.training)
        x = F.dropout(self.mlp[0](x).relu(), self.dropout, self.training)
        hops = [self.mlp[1](x)]
        for _ in range(self.K):
            hops.append(self.hop(hops[-1], edge_index))
        h = torch.stack(hops, dim=1)
        return (torch.sigmoid(self.gate(h)) * h).sum(dim=1)


class TorchGeometricBaseline(nn.Module):
    """GCN, APPNP or SGC from torch-geometric's layers, with dropout before each linear map."""

    def __init__(self, method: str, in_channels: int, hidden_channels: int, out_channels: int, depth: int,
                 dropout: float) -> None:  # fmt: skip
        super().__init__()
        widths = (in_channels, hidden_channels, out_channels)
        self.method, self.dropout = method, dropout
        if method == "gcn":
            steps = [in_channels, *[hidden_channels] * (depth - 1), out_channels]
            self.layers = nn.ModuleList(pyg.GCNConv(a, b, cached=True) for a, b in pairwise(steps))
        elif method == "appnp":
            self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
            self.propagation = pyg.APPNP(K=depth, alpha=ALPHA, cached=True)
        else:
            # cached: torch-geometric's SGConv then propagates the features once for all epochs
            self.layers = nn.ModuleList([pyg.SGConv(in_channels, out_channels, K=depth, cached=True)])

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """x (N, F), edge_index (2, A) -> logits (N, C)."""
        arcs = () if self.method == "appnp" else (edge_index,)
        for layer in self.layers:
            x = layer(F.dropout(x, self.dropout, self.training), *arcs)
            if layer is not self.layers[-1]:
                x = x.relu()
        return self.propagation(x, edge_index) if self.method == "appnp" else x

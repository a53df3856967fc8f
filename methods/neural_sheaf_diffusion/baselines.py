"""What NSD is compared with: GCN, a perceptron, GCNII from torch-geometric, and NSD on the trivial sheaf."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GCN2Conv

from methods.neural_sheaf_diffusion.nsd import NSD
from methods.shared.gcn import GCN
from methods.shared.graph import propagation
from methods.shared.sheaf import SheafIndex
from methods.shared.sparse import Linear, SparseMatrix, drop


class GCN2(nn.Module):
    """GCNII (Chen et al., ICML 2020) of torch-geometric's layers, between two linear layers.

    Args:
        in_channels, hidden_channels, out_channels, num_layers: sizes.
        dropout: before every layer.
        alpha: strength of the connection to the first representation.
        theta: layer l is the identity but for log(theta / l + 1) of its weights.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, out_channels: int, num_layers: int, *, dropout: float = 0.5,
        alpha: float = 0.5, theta: float = 1.5,
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder, self.decoder = Linear(in_channels, hidden_channels), nn.Linear(hidden_channels, out_channels)
        self.layers = nn.ModuleList(
            GCN2Conv(hidden_channels, alpha, theta, layer=depth + 1, normalize=False) for depth in range(num_layers)
        )
        self.dropout = dropout

    def forward(self, x: Tensor | SparseMatrix, edge_index: Tensor | SparseMatrix) -> Tensor:
        """x (N, F), edge_index (2, A) or the propagation (N, N) -> logits (N, C)."""
        adjacency = propagation(edge_index, x.shape[0])
        first = h = self.encoder(drop(x, self.dropout, self.training)).relu()
        for layer in self.layers:
            h = layer(F.dropout(h, self.dropout, self.training), first, adjacency.csr).relu()
        return self.decoder(F.dropout(h, self.dropout, self.training))


def build(name: str, in_channels: int, out_channels: int, settings: dict[str, Any]) -> nn.Module:
    """A method of the card by name; `settings` are its constructor's further arguments."""
    if name == "gcn" or name == "mlp":
        hops = [int(name == "gcn")] * settings["num_layers"]
        return GCN(in_channels, settings["hidden_channels"], out_channels, hops, dropout=settings["dropout"])
    if name == "gcn2":
        return GCN2(in_channels, out_channels=out_channels, **settings)
    return NSD(in_channels, out_channels=out_channels, maps=name.removeprefix("nsd_"), **settings)


def prepare(name: str, edge_index: Tensor, num_nodes: int) -> SheafIndex | SparseMatrix:
    """What the method multiplies by, made once for all epochs."""
    if name.startswith("nsd_"):
        return SheafIndex(edge_index, num_nodes)
    return propagation(edge_index, num_nodes, torch.float32)

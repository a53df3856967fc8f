"""GCNII from torch-geometric's layers. GCN and the perceptron are those of `methods/shared/gcn.py`."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GCN2Conv

from methods.shared.graph import propagation
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

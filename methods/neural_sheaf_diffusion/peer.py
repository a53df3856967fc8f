"""NSD as one would compose it from torch-geometric's parts: maps and messages per arc. For a race, not for use."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import degree, scatter

from methods.neural_sheaf_diffusion.contenders import features
from methods.neural_sheaf_diffusion.nsd import NSD, Maps, SheafLayer
from methods.shared.node_classification import Masks, fit
from methods.shared.sheaf import SheafIndex


class PeerLayer(MessagePassing):
    """One layer: every arc holds [x_v || x_u], its map by `torch.linalg.householder_product`, and d f numbers."""

    def __init__(self, channels: int, stalk_dim: int, orthogonal: bool) -> None:
        super().__init__(aggr="add", node_dim=0)
        self.stalk_dim, self.orthogonal = stalk_dim, orthogonal
        num_params = stalk_dim * (stalk_dim - 1) // 2 if orthogonal else stalk_dim
        self.sheaf = nn.Linear(2 * stalk_dim * channels, num_params, bias=False)
        self.left = nn.Linear(stalk_dim, stalk_dim, bias=False)
        self.right = nn.Linear(channels, channels, bias=False)
        self.epsilon = nn.Parameter(torch.zeros(stalk_dim, 1))

    def forward(self, x: Tensor, edge_index: Tensor, reverse: Tensor, dropout: float, sheaf_dropout: float) -> Tensor:
        """x (N, d, f), edge_index (2, E) with both arcs of each edge, reverse (E,) the place of the other arc."""
        seen = F.dropout(x, sheaf_dropout, self.training).flatten(1)
        params = torch.tanh(self.sheaf(torch.cat([seen[edge_index[0]], seen[edge_index[1]]], dim=1)))
        y = self.left(F.dropout(x, dropout, self.training).transpose(1, 2)).transpose(1, 2)
        y = self.right(y)
        if self.orthogonal:
            maps = self._householder(params)
            total = degree(edge_index[0], x.shape[0]).reshape(-1, 1, 1)
        else:
            maps = params
            total = scatter(maps.square(), edge_index[0], dim=0, dim_size=x.shape[0]).unsqueeze(2)
        scaled = y * (total + 1).rsqrt()
        # propagate sends from edge_index[0]: the receiver's own map is that of the reversed arc
        sums = self.propagate(edge_index, x=scaled, sender=maps, receiver=maps[reverse], size=None)
        diffused = (total + 1).rsqrt() * (total * scaled - sums)
        return (1 + torch.tanh(self.epsilon)) * x - F.elu(diffused)

    def _householder(self, params: Tensor) -> Tensor:
        row, column = torch.tril_indices(self.stalk_dim, self.stalk_dim, -1)
        lower = torch.eye(self.stalk_dim).repeat(params.shape[0], 1, 1)
        lower[:, row, column] = params
        return torch.linalg.householder_product(lower, 2 / lower.square().sum(dim=1))

    def message(self, x_j: Tensor, sender: Tensor, receiver: Tensor) -> Tensor:
        if self.orthogonal:
            return receiver.mT @ sender @ x_j
        return (receiver * sender).unsqueeze(2) * x_j


class PeerNSD(nn.Module):
    """The whole network, with diagonal or orthogonal maps and no extras."""

    def __init__(
        self, in_channels: int, hidden_channels: int, out_channels: int, num_layers: int, *, stalk_dim: int,
        maps: str, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        width = stalk_dim * hidden_channels
        self.stalk_dim, self.dropout = stalk_dim, dropout
        self.encoder, self.decoder = nn.Linear(in_channels, width), nn.Linear(width, out_channels)
        self.layers = nn.ModuleList(
            PeerLayer(hidden_channels, stalk_dim, maps == "orthogonal") for _ in range(num_layers)
        )

    def forward(self, x: Tensor, edge_index: Tensor, reverse: Tensor) -> Tensor:
        h = F.dropout(F.elu(self.encoder(x)), self.dropout, self.training).unflatten(1, (self.stalk_dim, -1))
        for depth, layer in enumerate(self.layers):
            h = layer(h, edge_index, reverse, self.dropout, self.dropout if depth else 0.0)
        return self.decoder(h.flatten(1))

    @torch.no_grad()
    def copy(self, model: NSD) -> PeerNSD:
        """Take the weights of ours, so that both compute the same."""
        self.encoder.load_state_dict(model.encoder.state_dict())
        self.decoder.load_state_dict(model.decoder.state_dict())
        for peer, ours in zip(self.layers, model.layers, strict=True):
            assert isinstance(ours, SheafLayer)
            assert ours.sheaf is not None
            peer.sheaf.weight.copy_(torch.cat(ours.sheaf.weight.split(ours.sheaf.num_params), dim=1))
            peer.left.weight.copy_(ours.left)
            peer.right.weight.copy_(ours.right)
            peer.epsilon.copy_(ours.epsilon)
        return self


def epochs_of(data: Data, maps: Maps) -> dict[str, Callable[[], None]]:
    """An epoch of each (a training step and an evaluation) on a graph with masks, from the same weights.

    Both know the graph in the form they need beforehand, and ours the features as a sparse matrix.
    """
    x, y, num_classes = features(data), data.y, int(data.y.max()) + 1
    sizes = dict(hidden_channels=16, num_layers=2, stalk_dim=3, dropout=0.5)
    ours = NSD(x.shape[1], out_channels=num_classes, maps=maps, **sizes).to(y.device)
    peer = PeerNSD(x.shape[1], out_channels=num_classes, maps=maps, **sizes).to(y.device).copy(ours)
    index = SheafIndex(data.edge_index, data.num_nodes)
    reverse = index.reverse(torch.arange(index.arcs.shape[1], device=y.device))
    masks = Masks.of(data)
    return {
        "nsd": _epoch(ours, lambda: ours(x, index), y, masks),
        "pyg_nsd": _epoch(peer, lambda: peer(data.x, index.arcs, reverse), y, masks),
    }


def _epoch(model: nn.Module, forward: Callable[[], Tensor], y: Tensor, masks: Masks) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)

    def epoch() -> None:
        fit(model, forward, y, masks, optimizer, 1, select="loss")

    return epoch

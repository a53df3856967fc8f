"""The racing peer: TGN assembled from torch-geometric's parts.

`TGNMemory` (GRU, identity message, last aggregator), `LastNeighborLoader` and `TransformerConv`, with the width, heads,
neighbours, dropout, merge layers, loss and optimiser of our TGN. What belongs to the design of these parts stays:
messages are built when they are used, from the memory of that moment; neighbours are those of earlier batches only;
a node is embedded once per batch, at the time of its last update, where our TGN embeds it anew for each of its events.
The last two are less work than TGN's definition asks for, so the comparison leans towards the peer.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import TransformerConv
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator, LastNeighborLoader, TGNMemory

from datasets.temporal import EventStream
from methods.pres.layers import MergeLayer
from methods.shared.temporal import Batch
from methods.shared.tgn_parts import TGNParts


class PeerTGN(TGNParts):
    """TGN from torch-geometric's parts over one stream.

    Args:
        stream: the events; times are rounded to whole units, which is what `TGNMemory` keeps.
        dim: width of memory, embedding and time encoding. num_neighbors: most recent neighbours kept per node.
    """

    def __init__(self, stream: EventStream, dim: int, *, num_neighbors: int = 10, dropout: float = 0.1) -> None:
        super().__init__()
        edge_dim = stream.edge_features.shape[1]
        self.features, self.t = stream.edge_features, stream.t.long()
        self.memory = TGNMemory(
            stream.num_nodes, edge_dim, dim, dim,
            message_module=IdentityMessage(edge_dim, dim, dim), aggregator_module=LastAggregator(),
        )  # fmt: skip
        # two heads of width d, as in TGN, whose queries [s ; phi(0)] are 2d wide
        self.conv = TransformerConv(dim, dim, heads=2, dropout=dropout, edge_dim=edge_dim + dim)
        self.merge = MergeLayer(2 * dim, dim, dim, dim)
        self.decoder = MergeLayer(dim, dim, dim, 1)
        self.neighbors = LastNeighborLoader(stream.num_nodes, size=num_neighbors, device=stream.src.device)
        self.row = torch.empty(stream.num_nodes, dtype=torch.int64, device=stream.src.device)
        self.to(stream.src.device)

    def embed(self, nodes: Tensor) -> Tensor:
        """Embeddings (k, d) of distinct nodes (k,) and of their neighbours; `row` then holds each node's row."""
        nodes, edge_index, event = self.neighbors(nodes)
        self.row[nodes] = torch.arange(len(nodes), device=nodes.device)
        memory, last_update = self.memory(nodes)
        age = (last_update[edge_index[0]] - self.t[event]).to(memory.dtype)
        edge = torch.cat([self.memory.time_enc(age), self.features[event]], dim=-1)
        return self.merge(self.conv(memory, edge_index, edge), memory)

    def score(self, z: Tensor, src: Tensor, dst: Tensor) -> Tensor:
        """Logit (b,) of each pair."""
        return self.decoder(z[self.row[src]], z[self.row[dst]]).squeeze(-1)

    def train_batches(self, optimizer: torch.optim.Optimizer, parts: Iterable[tuple[Batch, Tensor]]) -> None:
        """Learn from batches in order; each comes with its negative destinations (1, b)."""
        self.train()
        for batch, negatives in parts:
            negative = negatives[0]
            z = self.embed(torch.cat([batch.src, batch.dst, negative]).unique())
            positive_logit = self.score(z, batch.src, batch.dst)
            negative_logit = self.score(z, batch.src, negative)
            loss = F.softplus(-positive_logit).mean() + F.softplus(negative_logit).mean()
            self.memory.update_state(batch.src, batch.dst, batch.t.long(), batch.edge_features)
            self.neighbors.insert(batch.src, batch.dst)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            self.memory.detach()

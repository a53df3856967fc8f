"""The racing peer: SEMBA assembled from torch-geometric's parts, on the double cover of the signed graph.

`TGNMemory` (identity message, mean aggregator), `LastNeighborLoader` and `TransformerConv`. Node v on the sheet + is v,
on the sheet - it is v + N; a positive event joins equal sheets, a negative one opposite sheets. A plain TGN memory on
that graph has exactly SEMBA's messages; `SheetGRU` gives each sheet its own weights.

What belongs to the design of these parts stays: messages are built when they are applied, from the memories of that
moment, and the loader keeps the neighbours of the earlier batches. Widths, heads, neighbours, dropout, loss and
optimiser are those of our SEMBA, and so are the nodes that a batch asks for.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.nn import TransformerConv
from torch_geometric.nn.models.tgn import IdentityMessage, LastNeighborLoader, MeanAggregator, TGNMemory

from datasets.temporal import EventStream
from methods.shared.temporal import Batch, NeighborIndex
from methods.shared.tgn_parts import TGNParts


class SheetGRU(nn.Module):
    """A GRU cell for each sheet: the first half of the rows is on the sheet +, the second on the sheet -."""

    def __init__(self, message_dim: int, memory_dim: int) -> None:
        super().__init__()
        self.cells = nn.ModuleList(nn.GRUCell(message_dim, memory_dim) for _ in range(2))

    def forward(self, message: Tensor, memory: Tensor) -> Tensor:
        halves = zip(self.cells, message.chunk(2), memory.chunk(2), strict=True)
        return torch.cat([cell(m, s) for cell, m, s in halves])

    def reset_parameters(self) -> None:
        """`TGNMemory` calls this when it is made."""


class PeerSEMBA(TGNParts):
    """SEMBA from torch-geometric's parts; the methods that `methods.semba.training` asks of a model.

    Args:
        stream: the events; times are rounded to whole units, which is what `TGNMemory` keeps.
    """

    def __init__(
        self, stream: EventStream, out_channels: int = 64, num_scores: int = 1, *, memory_dim: int = 64,
        time_dim: int = 32, heads: int = 8, dropout: float = 0.5, num_neighbors: int = 10,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_nodes, self.size, self.t = stream.num_nodes, stream.edge_features.abs(), stream.t.long()
        message = IdentityMessage(1, memory_dim, time_dim)
        self.memory = TGNMemory(
            2 * stream.num_nodes, 1, memory_dim, time_dim, message_module=message, aggregator_module=MeanAggregator()
        )
        self.memory.gru = SheetGRU(message.out_channels, memory_dim)
        self.conv = TransformerConv(
            2 * memory_dim, out_channels // heads, heads=heads, dropout=dropout, edge_dim=time_dim + 1
        )
        self.head = nn.Linear(2 * out_channels, num_scores)
        self.neighbors = LastNeighborLoader(stream.num_nodes, size=num_neighbors, device=stream.src.device)
        self.row = torch.empty(stream.num_nodes, dtype=torch.int64, device=stream.src.device)
        self.to(stream.src.device)

    def embed(self, nodes: Tensor, index: NeighborIndex, first: int, last: int) -> tuple[Tensor, None]:
        asked, (involved, edge_index, event) = nodes, self.neighbors(nodes)
        memory, last_update = self.memory(torch.cat([involved, involved + self.num_nodes]))
        x = torch.cat(memory.chunk(2), dim=1)
        time = torch.stack(last_update.chunk(2)).amax(0)
        age = (time[edge_index[0]] - self.t[event]).to(x.dtype)
        edge_attr = torch.cat([self.memory.time_enc(age), self.size[event]], dim=1)
        self.row[involved] = torch.arange(len(involved), device=nodes.device)
        return self.conv(x, edge_index, edge_attr)[self.row[asked]], None

    def commit(self, batch: Batch, measured: None) -> None:
        src, dst, t, size = double_cover(batch, self.num_nodes)
        with torch.no_grad():  # what is kept carries no gradient
            self.memory.update_state(src, dst, t.long(), size)
        self.neighbors.insert(batch.src, batch.dst)


def double_cover(batch: Batch, num_nodes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The batch's events on both sheets: src, dst, t (2b,) and size (2b, 1), first those that leave the sheet +."""
    negative = (batch.edge_features[:, 0] < 0).long()
    src = torch.cat([batch.src, batch.src + num_nodes])
    dst = torch.cat([batch.dst + num_nodes * negative, batch.dst + num_nodes * (1 - negative)])
    return src, dst, batch.t.repeat(2), batch.edge_features.abs().repeat(2, 1)

"""The layers of SEMBA: time encoding, and attention from ragged lists of neighbours."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from methods.shared.kernels.temporal import cosine_of_time, rows_of
from methods.shared.temporal import segment_softmax


class TimeEncoder(nn.Module):
    """phi(dt) = cos(Linear_{1 -> out_channels}(dt)): (...) -> (..., out_channels), dt in the stream's unit of time."""

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.lin = nn.Linear(1, out_channels)

    def forward(self, dt: Tensor) -> Tensor:
        return cosine_of_time(dt, self.lin.weight.squeeze(1), self.lin.bias)


class NeighborAttention(nn.Module):
    """`torch_geometric.nn.TransformerConv` for some of the nodes, with the same weights under the same names.

    z_q = W_skip x_q + sum_k a_qk (W_value x_k + W_edge e_qk), per head; a_q = softmax over the neighbours k of
    (W_query x_q) . (W_key x_k + W_edge e_qk) / sqrt(c), then dropout. TransformerConv computes all rows of x; here
    only those that are asked for have queries, and keys and values are projected in one product.

    Args:
        in_channels: of x. out_channels: of all heads together, a multiple of `heads`. edge_dim: of e.
    """

    def __init__(
        self, in_channels: int, out_channels: int, heads: int = 1, *, dropout: float = 0.0, edge_dim: int
    ) -> None:
        super().__init__()
        if out_channels % heads:
            raise ValueError(f"NeighborAttention: out_channels={out_channels} is not a multiple of heads={heads}")
        self.heads, self.dropout = heads, dropout
        self.lin_key, self.lin_query, self.lin_value, self.lin_skip = (
            nn.Linear(in_channels, out_channels) for _ in range(4)
        )
        self.lin_edge = nn.Linear(edge_dim, out_channels, bias=False)

    def forward(self, x: Tensor, query: Tensor, near: Tensor, owner: Tensor, edge_attr: Tensor) -> Tensor:
        """Attend.

        Args:
            x: (U, in_channels). query: (Q,) rows of x that ask.
            near: (P,) rows of x, the neighbours of all queries. owner: (P,) int64, ascending, the query of each.
            edge_attr: (P, edge_dim).

        Returns:
            (Q, out_channels).
        """
        asking, edge = x.index_select(0, query), self.lin_edge(edge_attr)
        heads = (self.heads, edge.shape[1] // self.heads)
        q = self.lin_query(asking) * heads[1] ** -0.5
        k = rows_of(self.lin_key(x), near) + edge
        v = rows_of(self.lin_value(x), near) + edge
        scores = (q.index_select(0, owner) * k).unflatten(1, heads).sum(-1)
        share = segment_softmax(scores.T, owner, len(query)).T
        share = F.dropout(share, self.dropout, self.training)
        mixed = (share.unsqueeze(-1) * v.unflatten(1, heads)).flatten(1)
        return self.lin_skip(asking).index_add(0, owner, mixed)

"""The layers that the memory models share: time encoding, merge layer, attention of one query."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from methods.shared.checks import check_probabilities, check_sizes
from methods.shared.kernels.attention import attend
from methods.shared.kernels.temporal import cosine_of_time

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")


class TimeEncoder(nn.Module):
    """phi(dt) = cos(w dt + b), w_k = 10^(-9k/(d-1)), b = 0, both trained: (...) -> (..., d)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        frequencies = 10 ** torch.linspace(0, -9, dim, dtype=torch.float64)
        self.weight = nn.Parameter(frequencies.to(torch.get_default_dtype()))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, dt: Tensor) -> Tensor:
        return cosine_of_time(dt, self.weight, self.bias)


class MergeLayer(nn.Module):
    """FC-ReLU-FC on two concatenated vectors, weights Xavier-normal: (..., in_a), (..., in_b) -> (..., out)."""

    def __init__(self, in_a: int, in_b: int, hidden: int, out: int) -> None:
        super().__init__()
        self.in_a = in_a
        self.hidden, self.out = nn.Linear(in_a + in_b, hidden), nn.Linear(hidden, out)
        nn.init.xavier_normal_(self.hidden.weight)
        nn.init.xavier_normal_(self.out.weight)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.out(torch.relu(self.hidden(torch.cat([a, b], dim=-1))))

    def halves(self) -> tuple[Tensor, Tensor]:
        """The parts of the first layer's weight that read `a` and `b`: (hidden, in_a), (hidden, in_b)."""
        return self.hidden.weight.split([self.in_a, self.hidden.in_features - self.in_a], dim=1)


class OneQueryAttention(nn.Module):
    """Multi-head attention where each query has keys of its own, few or none, that are also the values.

    For each query the same function as `nn.MultiheadAttention(query_dim, heads, kdim=key_dim, vdim=key_dim)`, with
    zeros for a query without keys. With one query to its keys no key need ever be projected: the score is
    (W_q q)' (W_k k) = (W_k' W_q q)' k, and sum_j a_j W_v k_j = W_v sum_j a_j k_j. So the products of weights are
    formed first, and what is left is one matrix product per query on either side of the softmax. Keys come as a
    ragged list, so that none is computed for an empty slot.

    Args:
        query_dim: D, width of query and output, a multiple of `heads`.
        key_dim: K.

    Raises:
        TypeError, ValueError: a size or share out of range; query_dim is not a multiple of heads.
    """

    def __init__(self, query_dim: int, key_dim: int, heads: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        check_sizes("OneQueryAttention", query_dim=query_dim, key_dim=key_dim, heads=heads)
        check_probabilities("OneQueryAttention", dropout=dropout)
        if query_dim % heads:
            raise ValueError(f"OneQueryAttention: query_dim={query_dim} is not a multiple of heads={heads}")
        self.heads, self.dropout = heads, dropout
        width = query_dim // heads
        # Stored head by head, as they are multiplied. An input of 1 that follows the others carries the biases; that
        # of the keys moves all scores of a query alike, so the softmax ignores it.
        self.query = nn.Parameter(torch.zeros(heads, query_dim + 1, width))
        self.key = nn.Parameter(torch.zeros(heads, width, key_dim + 1))
        self.value = nn.Parameter(torch.zeros(heads, key_dim + 1, width))
        self.out, self.out_bias = (
            nn.Parameter(torch.zeros(heads, width, query_dim)),
            nn.Parameter(torch.zeros(query_dim)),
        )
        with torch.no_grad():
            self.query[:, :-1] = _xavier(query_dim, query_dim).view(query_dim, heads, width).transpose(0, 1)
            self.key[:, :, :-1] = _xavier(key_dim, query_dim).T.view(heads, width, key_dim)
            self.value[:, :-1] = _xavier(key_dim, query_dim).view(key_dim, heads, width).transpose(0, 1)
            self.out.copy_(nn.Linear(query_dim, query_dim).weight.T.view(heads, width, query_dim))

    def forward(
        self, query: Tensor, key: Tensor, owner: Tensor, *, shared: Tensor | None = None, then: Tensor | None = None,
        onto: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Attend.

        Args:
            query: (Q, q), the part of the queries that differs. shared: (D - q,) the rest, equal for all; None if
                q = D.
            key: (P, K + 1), the keys of all queries, each followed by a 1 that carries the biases.
            owner: (P,) int64, ascending, the query that each key belongs to.
            then: (o, D), a linear map to apply to the output; None for the output itself, o = D.
            onto: (Q, o), what the output is added to; None for zeros.

        Returns:
            (Q, o); of a query without keys, what `onto` holds.
        """
        heads, part = self.heads, query.shape[1]
        # a query without keys gets zeros, so only the others are computed
        asking, owner = torch.unique_consecutive(owner, return_inverse=True)
        scale = self.key.shape[1] ** -0.5
        own, rest = self.query.split([part, self.query.shape[1] - part], dim=1)
        if shared is not None:
            rest = torch.matmul(torch.cat([shared, shared.new_ones(1)]), rest).unsqueeze(1)
        own, rest = torch.bmm(torch.cat([own, rest], dim=1), scale * self.key).split([part, 1], dim=1)
        probe = torch.baddbmm(rest, query.index_select(0, asking).expand(heads, -1, -1), own)  # (h, asking, K + 1)

        keep = None
        if self.training and self.dropout > 0:
            drawn = torch.rand(heads, len(key), dtype=key.dtype, device=key.device)
            keep = (drawn >= self.dropout).to(key.dtype).mul_(1 / (1 - self.dropout))
        mixed = attend(probe, key, owner, keep)  # (h, asking, K + 1)

        out, bias = self.out, self.out_bias  # (h, D / h, D), (D,)
        if then is not None:
            out, bias = out @ then.T, then @ bias
        result = torch.bmm(mixed, torch.bmm(self.value, out)).sum(0) + bias
        base = result.new_zeros(len(query), result.shape[1]) if onto is None else onto
        return base.index_add(0, asking, result)


def _xavier(fan_in: int, fan_out: int) -> Tensor:
    """(fan_in, fan_out), uniform with variance 2 / (fan_in + fan_out)."""
    return nn.init.xavier_uniform_(torch.empty(fan_in, fan_out))

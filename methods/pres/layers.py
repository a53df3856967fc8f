"""The layers that the memory models share: time encoding, merge layer, attention of one query."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.shared.checks import check_probabilities, check_sizes, refuse_to_derive_again
from methods.shared.temporal import CosineOfTime, segment_softmax, segment_sum

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")


class TimeEncoder(nn.Module):
    """phi(dt) = cos(w dt + b), w_k = 10^(-9k/(d-1)), b = 0, both trained: (...) -> (..., d)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        frequencies = 10 ** torch.linspace(0, -9, dim, dtype=torch.float64)
        self.weight = nn.Parameter(frequencies.to(torch.get_default_dtype()))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, dt: Tensor) -> Tensor:
        return CosineOfTime.apply(dt, self.weight, self.bias)


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
        mixed = Attend.apply(probe, key, owner, keep)  # (h, asking, K + 1)

        out, bias = self.out, self.out_bias  # (h, D / h, D), (D,)
        if then is not None:
            out, bias = out @ then.T, then @ bias
        result = torch.bmm(mixed, torch.bmm(self.value, out)).sum(0) + bias
        base = result.new_zeros(len(query), result.shape[1]) if onto is None else onto
        return base.index_add(0, asking, result)


def _xavier(fan_in: int, fan_out: int) -> Tensor:
    """(fan_in, fan_out), uniform with variance 2 / (fan_in + fan_out)."""
    return nn.init.xavier_uniform_(torch.empty(fan_in, fan_out))


class Attend(torch.autograd.Function):
    """share = dropout(softmax(probe . key)) over the keys of a query; mixed = sum_j share_j key_j.

    `attend` is the same in plain torch. Here scores are a sparse sampled product and sums are bags of an embedding,
    so that nothing of size (keys x heads x K) is ever made, forwards or backwards. Differentiable once.

    Shapes: probe (h, Q, K), key (P, K), owner (P,), keep (h, P) or None -> mixed (h, Q, K).
    """

    @staticmethod
    def forward(ctx: Any, probe: Tensor, key: Tensor, owner: Tensor, keep: Tensor | None) -> Tensor:
        heads, num, _ = probe.shape
        first = torch.searchsorted(owner, torch.arange(num + 1, device=owner.device))  # each query's first key
        bounds = torch.cat([first[:-1] + head * len(owner) for head in range(heads)] + [first[-1:] * heads])
        columns = torch.arange(len(owner), device=owner.device).repeat(heads)
        scores = _sampled_product(bounds, columns, probe.flatten(0, 1), key).view(heads, -1)
        share = segment_softmax(scores, owner, num)
        kept = share if keep is None else share * keep
        ctx.save_for_backward(probe, key, owner, share, kept, keep, bounds, columns)
        return _bags(columns, bounds[:-1], key, kept).view_as(probe)

    @staticmethod
    def backward(ctx: Any, grad_mixed: Tensor) -> tuple[Tensor, Tensor, None, None]:
        refuse_to_derive_again("Attend")
        probe, key, owner, share, kept, keep, bounds, columns = ctx.saved_tensors
        heads, num, _ = probe.shape
        grad_mixed = grad_mixed.contiguous()
        grad_kept = _sampled_product(bounds, columns, grad_mixed.flatten(0, 1), key).view(heads, -1)
        weighted = (grad_kept if keep is None else grad_kept * keep) * share
        grad_scores = weighted - share * segment_sum(weighted, owner, num).index_select(1, owner)
        grad_probe = _bags(columns, bounds[:-1], key, grad_scores).view_as(probe)
        # a key acts as scored, on the probes, and as mixed, on the outputs: both in one bag
        table = torch.cat([probe, grad_mixed]).flatten(0, 1)
        members = owner.unsqueeze(1) + num * torch.arange(2 * heads, device=owner.device)  # (P, 2h)
        weights = torch.cat([grad_scores, kept]).T.contiguous()
        grad_key = F.embedding_bag(members, table, mode="sum", per_sample_weights=weights)
        return grad_probe, grad_key, None, None


def attend(probe: Tensor, key: Tensor, owner: Tensor, keep: Tensor | None) -> Tensor:
    """The plain twin of `Attend`."""
    share = segment_softmax((probe[:, owner] * key).sum(-1), owner, probe.shape[1])
    share = share if keep is None else share * keep
    return torch.zeros_like(probe).index_add(1, owner, share.unsqueeze(-1) * key)


def _sampled_product(bounds: Tensor, columns: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """left (R, K) . right (P, K) at the entries of a sparse pattern: bounds (R + 1,), columns (nnz,) -> (nnz,)."""
    entries = left.new_zeros(len(columns))
    pattern = torch.sparse_csr_tensor(bounds, columns, entries, (len(left), len(right)), check_invariants=False)
    return torch.sparse.sampled_addmm(pattern, left, right.T, beta=0.0).values()


def _bags(columns: Tensor, rows: Tensor, table: Tensor, weights: Tensor) -> Tensor:
    """Row r of the result is the sum of weight x table[column] over the entries of row r."""
    return F.embedding_bag(columns, table, rows, mode="sum", per_sample_weights=weights.flatten())

"""Attention of queries over ragged lists of keys."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.shared.checks import refuse_to_derive_again
from methods.shared.temporal import segment_softmax, segment_sum


def attend(probe: Tensor, key: Tensor, owner: Tensor, keep: Tensor | None) -> Tensor:
    """share = dropout(softmax(probe . key)) over the keys of a query; sum_j share_j key_j. Differentiable once.

    Args:
        probe: (h, Q, K), of each head and query. key: (P, K). owner: (P,) int64, ascending, the query of each key.
        keep: (h, P), what dropout multiplies shares by; None for no dropout.

    Returns:
        (h, Q, K).
    """
    return _Attend.apply(probe, key, owner, keep)


def plain_attend(probe: Tensor, key: Tensor, owner: Tensor, keep: Tensor | None) -> Tensor:
    share = segment_softmax((probe[:, owner] * key).sum(-1), owner, probe.shape[1])
    share = share if keep is None else share * keep
    return torch.zeros_like(probe).index_add(1, owner, share.unsqueeze(-1) * key)


class _Attend(torch.autograd.Function):
    """Scores are a sparse sampled product and sums are bags of an embedding, so that nothing of size (keys x heads x K)
    is ever made, forwards or backwards."""

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


def _sampled_product(bounds: Tensor, columns: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """left (R, K) . right (P, K) at the entries of a sparse pattern: bounds (R + 1,), columns (nnz,) -> (nnz,)."""
    entries = left.new_zeros(len(columns))
    pattern = torch.sparse_csr_tensor(bounds, columns, entries, (len(left), len(right)), check_invariants=False)
    return torch.sparse.sampled_addmm(pattern, left, right.T, beta=0.0).values()


def _bags(columns: Tensor, rows: Tensor, table: Tensor, weights: Tensor) -> Tensor:
    """Row r of the result is the sum of weight x table[column] over the entries of row r."""
    return F.embedding_bag(columns, table, rows, mode="sum", per_sample_weights=weights.flatten())

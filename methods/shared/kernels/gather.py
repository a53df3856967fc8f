"""Weighted sums over the arcs of an undirected graph, with one learned weight an arc."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from methods.shared.checks import refuse_to_derive_again


class Arcs(Protocol):
    """Arcs by receiver, both of each edge and the self loops.

    receiver, sender: (A,) int64. reverse: (A,) int64, the place of the reversed arc.
    """

    receiver: Tensor
    sender: Tensor
    reverse: Tensor

    def matrix(self, values: Tensor) -> Tensor:
        """(A,) values of arcs -> (N, N) sparse CSR, a row per receiver."""


def gather(values: Tensor, x: Tensor, graph: Arcs) -> Tensor:
    """y_v = sum over arcs into v of value * x_sender, (N, c); of values (A,) and x (N, c). Differentiable once."""
    return _Gather.apply(values, x, graph)


def plain_gather(values: Tensor, x: Tensor, graph: Arcs) -> Tensor:
    return torch.zeros_like(x).index_add(0, graph.receiver, values.unsqueeze(1) * x[graph.sender])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, x: Tensor, graph: Arcs) -> Tensor:
        ctx.save_for_backward(values, x)
        ctx.graph = graph
        return graph.matrix(values) @ x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        refuse_to_derive_again("StoredGATConv")
        (values, x), graph = ctx.saved_tensors, ctx.graph
        gradient = gradient.contiguous()
        of_values = torch.sparse.sampled_addmm(graph.matrix(values), gradient, x.T, beta=0.0).values()
        # the graph is undirected, so its transpose has the same places
        return of_values, graph.matrix(values.index_select(0, graph.reverse)) @ gradient, None

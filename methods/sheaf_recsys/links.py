"""Link prediction with the same layers, on a generated graph; every model scores a pair by a dot product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import datasets
from methods.shared.metrics import require_finite
from methods.shared.training import train, update

HELD_OUT = 0.1
# A pair of classes joined or not is all that there is to know here, so with as many pairs as held-out edges nobody
# can reach even 4 %. Among 100 pairs the best possible Hits@20 is about 40 %, as models have on ogbl-ddi.
NEGATIVES = 100
EVALUATE_EVERY = 10  # steps


@dataclass(frozen=True, eq=False)
class LinkSplit:
    """A graph, its held-out edges, and pairs without an edge.

    Attributes:
        edge_index: (2, A) int64, both arcs of each training edge.
        edges: (2, m) int64, training edges, each once.
        joined: (N, N) bool, the training edges.
        val, test: held-out edges (2, p) and pairs (2, n) that are no edge of the whole graph; int64.
    """

    num_nodes: int
    edge_index: Tensor
    edges: Tensor
    joined: Tensor
    val: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]

    @classmethod
    def draw(cls, name: str | None, class_size: int, degree: int, seed: int, device: torch.device) -> LinkSplit:
        """Generate the graph of this seed and hold out a tenth of its edges for validation and one for the test."""
        graph = datasets.load(str(name), class_size=class_size, degree=degree, seed=seed, num_splits=1)
        n, edge_index = graph.num_nodes, graph.edge_index
        edges = edge_index[:, edge_index[0] < edge_index[1]]
        free = torch.ones(n, n, dtype=torch.bool).triu(1)
        free[edges[0], edges[1]] = False
        generator = torch.Generator().manual_seed(seed)
        edges, others = (_shuffled(pairs, generator) for pairs in (edges, free.nonzero().T))
        held = int(HELD_OUT * edges.shape[1])
        val = (edges[:, :held].to(device), others[:, :NEGATIVES].to(device))
        test = (edges[:, held : 2 * held].to(device), others[:, NEGATIVES : 2 * NEGATIVES].to(device))
        edges = edges[:, 2 * held :].to(device)
        arcs = torch.cat([edges, edges.flip(0)], dim=1)
        joined = torch.zeros(n, n, dtype=torch.bool, device=device)
        joined[arcs[0], arcs[1]] = True
        return cls(n, arcs, edges, joined, val, test)


def _shuffled(pairs: Tensor, generator: torch.Generator) -> Tensor:
    return pairs[:, torch.randperm(pairs.shape[1], generator=generator)]


def train_links(model: Any, graph: Any, split: LinkSplit, *, steps: int, lr: float, seed: int) -> float:
    """Adam on the BCE of all training edges and as many random pairs, drawn anew in each step.

    Returns:
        Hits@20 of the test, at the step with the best one of the validation.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    generator = torch.Generator().manual_seed(seed)
    m = split.edges.shape[1]

    def step() -> Tensor:
        pairs = draw_negatives(split, m, generator)
        output = model.get_embedding(graph)
        loss = F.softplus(-_score(output, split.edges)).mean() + F.softplus(_score(output, pairs)).mean()
        return update(optimizer, loss)

    def hits(held_out: tuple[Tensor, Tensor]) -> float:
        with torch.no_grad():
            return hits_at(20, model.get_embedding(graph), held_out)

    train(model, step, lambda: hits(split.val), epochs=steps, every=min(EVALUATE_EVERY, steps))
    return hits(split.test)


def draw_negatives(split: LinkSplit, size: int, generator: torch.Generator) -> Tensor:
    """At most `size` random pairs of two nodes that no training edge joins; those held out may be among them."""
    pairs = torch.randint(split.num_nodes, (2, size), generator=generator).to(split.edges.device)
    return pairs[:, ~split.joined[pairs[0], pairs[1]] & (pairs[0] != pairs[1])]


def hits_at(k: int, output: Tensor, held_out: tuple[Tensor, Tensor]) -> float:
    """Share of held-out edges that score above the k-th best of the pairs without an edge (Hu et al. 2020).

    An edge that equals such pairs counts as in a random order of them, on average.

    Raises:
        ValueError: a score is not finite.
    """
    positive, negative = (_score(output, pairs) for pairs in held_out)
    require_finite(torch.cat([positive, negative]))
    above = (negative > positive.unsqueeze(1)).sum(1)
    equal = (negative == positive.unsqueeze(1)).sum(1)
    return float(((k - above) / (equal + 1)).clamp(0, 1).double().mean())


def _score(output: Tensor, pairs: Tensor) -> Tensor:
    return (output[pairs[0]] * output[pairs[1]]).sum(1)

"""Neighbour sampling on the CPU: which rows a mini-batch needs, and how its vertices hang together.

For each layer, from the output to the input, every vertex whose value is wanted draws up to `fan-out` distinct
neighbours, uniformly; what they and it need makes the vertices wanted of the layer before. All vertices of a layer
draw at once, by Floyd's algorithm: k distinct numbers below d in k draws, whatever d, so hubs cost no more than
others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from methods.shared.checks import check_sizes


@dataclass(frozen=True)
class Graph:
    """Neighbours in rows: those of v are neighbors[start[v] : start[v + 1]]. start (N + 1,), neighbors (A,), int64."""

    start: Tensor
    neighbors: Tensor

    @property
    def num_nodes(self) -> int:
        return len(self.start) - 1


def graph_of(edge_index: Tensor, num_nodes: int) -> Graph:
    """From arcs (2, A) int64, source above target: the neighbours of a vertex are the sources of its arcs.

    Raises ValueError, TypeError or IndexError for invalid arcs, and for vertices that the graph does not have.
    """
    check_sizes("graph_of", least=0, num_nodes=num_nodes)
    if edge_index.dim() != 2 or len(edge_index) != 2:
        raise ValueError(f"graph_of: arcs have the shape (2, A), not {tuple(edge_index.shape)}")
    _check_nodes("graph_of: edge_index", edge_index, num_nodes)
    source, target = edge_index
    order = target.argsort(stable=True)
    start = torch.zeros(num_nodes + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(target, minlength=num_nodes), 0, out=start[1:])
    return Graph(start, source[order])


def _check_nodes(what: str, nodes: Tensor, num_nodes: int) -> None:
    if nodes.dtype != torch.int64:
        raise TypeError(f"{what}: vertices are int64, not {nodes.dtype}")
    if nodes.numel() and not 0 <= int(nodes.min()) <= int(nodes.max()) < num_nodes:
        raise IndexError(
            f"{what} runs from {int(nodes.min())} to {int(nodes.max())}; vertices are 0 to {num_nodes - 1}"
        )


@dataclass(frozen=True)
class Layer:
    """One layer of message passing; all are positions in the layer's input.

    targets: (B,) the vertices whose value is wanted. neighbors: (E,) the neighbours drawn, target by target.
    offsets: (B,) where the neighbours of each target begin.
    """

    targets: Tensor
    neighbors: Tensor
    offsets: Tensor

    def to(self, device: torch.device | str) -> Layer:
        return Layer(self.targets.to(device), self.neighbors.to(device), self.offsets.to(device))


@dataclass(frozen=True)
class Batch:
    """What a step needs. nodes: (U,) distinct vertices whose features are read, ascending, always on the CPU.

    layers: from the input to the output. seeds: (B,) the vertices to be classified, on the CPU.
    """

    nodes: Tensor
    layers: tuple[Layer, ...]
    seeds: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The layers on a device; the vertices stay."""
        return replace(self, layers=tuple(layer.to(device) for layer in self.layers))


def draw_neighbors(graph: Graph, nodes: Tensor, fanout: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Up to `fanout` distinct neighbours of each vertex, all of them where there are no more.

    Args:
        nodes: (B,) int64.

    Returns:
        the neighbours (E,), vertex by vertex, and how many each vertex has (B,).
    """
    degree = graph.start[nodes + 1] - graph.start[nodes]
    places = torch.arange(fanout).repeat(len(nodes), 1)
    many = (degree > fanout).nonzero().squeeze(1)
    places[many] = _distinct_below(degree[many], fanout, generator)
    taken = degree.clamp(max=fanout)
    chosen = graph.start[nodes].unsqueeze(1) + places
    return graph.neighbors[chosen[torch.arange(fanout) < taken.unsqueeze(1)]], taken


def _distinct_below(limits: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` distinct integers in [0, limit) for each limit (m,) > count, every subset equally likely: (m, count).

    Floyd: draw from the first limit - count + 1 numbers, then from one more each time; who draws a number that is
    taken takes the newest one instead.
    """
    drawn = torch.empty((len(limits), count), dtype=torch.int64)
    uniform = torch.rand((count, len(limits)), dtype=torch.float64, generator=generator)
    for turn in range(count):
        newest = limits - count + turn
        # in [0, 1] of float64 the largest draw is below 1, so the product is at most `newest`
        number = (uniform[turn] * (newest + 1)).long()
        taken = (drawn[:, :turn] == number.unsqueeze(1)).any(dim=1)
        drawn[:, turn] = torch.where(taken, newest, number)
    return drawn


def sample(graph: Graph, seeds: Tensor, fanouts: tuple[int, ...], generator: torch.Generator) -> Batch:
    """The batch of `seeds` (B,) int64.

    Args:
        fanouts: one for each layer, from the input to the output (DGL's order: (10, 25) draws 25 for the seeds).

    Raises:
        ValueError, TypeError, IndexError: seeds that are no vertices, or fan-outs that are no numbers of neighbours.
    """
    check_sizes("sample", **{f"fan-out {number}": fanout for number, fanout in enumerate(fanouts)})
    _check_nodes("sample: seeds", seeds, graph.num_nodes)
    layers: list[Layer] = []
    wanted = seeds
    for fanout in reversed(fanouts):
        neighbors, counts = draw_neighbors(graph, wanted, fanout, generator)
        nodes, place = torch.unique(torch.cat([wanted, neighbors]), return_inverse=True)
        layers.append(Layer(place[: len(wanted)], place[len(wanted) :], counts.cumsum(0) - counts))
        wanted = nodes
    return Batch(wanted, tuple(reversed(layers)), seeds)


def batches(
    graph: Graph, nodes: Tensor, batch_size: int, fanouts: tuple[int, ...], generator: torch.Generator
) -> Iterator[Batch]:
    """The batches of one epoch over `nodes` (n,), shuffled."""
    for seeds in nodes[torch.randperm(len(nodes), generator=generator)].split(batch_size):
        yield sample(graph, seeds, fanouts, generator)

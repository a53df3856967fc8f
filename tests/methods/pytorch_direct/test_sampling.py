"""Neighbour sampling: true neighbours, distinct, uniform, and positions that lead back to vertices."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare

from methods.pytorch_direct.sampling import Batch, Graph, batches, draw_neighbors, graph_of, sample

NODES = 200


@pytest.fixture(scope="module")
def graph() -> Graph:
    """Vertex 0 has every other one as neighbour, vertex 199 none, the rest between 3 and some dozen."""
    generator = torch.Generator().manual_seed(0)
    arcs = torch.randint(1, NODES - 1, (2, 2_000), generator=generator)
    star = torch.stack([torch.arange(1, NODES), torch.zeros(NODES - 1, dtype=torch.int64)])
    arcs = torch.cat([arcs, star], dim=1).unique(dim=1)
    return graph_of(arcs[:, arcs[0] != arcs[1]], NODES)


def neighbors_of(graph: Graph, node: int) -> list[int]:
    return graph.neighbors[graph.start[node] : graph.start[node + 1]].tolist()


def test_neighbours_of_a_vertex_are_the_sources_of_its_arcs() -> None:
    graph = graph_of(torch.tensor([[2, 0, 1], [0, 1, 0]]), 3)
    assert [neighbors_of(graph, v) for v in range(3)] == [[2, 1], [0], []]


@pytest.mark.parametrize("fanout", [1, 4, 25])
def test_neighbours_drawn_are_distinct_true_ones_and_all_where_there_are_few(graph: Graph, fanout: int) -> None:
    nodes = torch.arange(NODES)
    drawn, counts = draw_neighbors(graph, nodes, fanout, torch.Generator().manual_seed(1))
    assert int(counts.sum()) == len(drawn)
    for node, mine in zip(nodes.tolist(), drawn.split(counts.tolist()), strict=True):
        known = neighbors_of(graph, node)
        assert len(mine) == min(fanout, len(known)) == len(set(mine.tolist()))
        assert set(mine.tolist()) <= set(known)


def test_every_subset_of_neighbours_is_equally_likely() -> None:
    """Four of six neighbours, 6,000 times: 15 subsets."""
    star = graph_of(torch.stack([torch.arange(1, 7), torch.zeros(6, dtype=torch.int64)]), 7)
    generator = torch.Generator().manual_seed(0)
    drawn, _ = draw_neighbors(star, torch.zeros(6_000, dtype=torch.int64), 4, generator)
    subsets = (1 << drawn.view(-1, 4)).sum(1)
    _, counts = subsets.unique(return_counts=True)
    assert len(counts) == 15
    assert chisquare(counts.numpy()).pvalue > 0.01


def test_positions_of_a_batch_lead_back_to_vertices_and_their_neighbours(graph: Graph) -> None:
    seeds = torch.tensor([0, 17, NODES - 1, 5])
    batch = sample(graph, seeds, (3, 5), torch.Generator().manual_seed(2))
    wanted = {1: seeds}
    # what the output layer reads is what the input layer makes
    wanted[0] = batch.nodes[batch.layers[0].targets]
    names = {0: batch.nodes, 1: wanted[0]}
    for number, layer in enumerate(batch.layers):
        assert torch.equal(names[number][layer.targets], wanted[number])
        ends = [*layer.offsets.tolist()[1:], len(layer.neighbors)]
        for target, first, last in zip(wanted[number].tolist(), layer.offsets.tolist(), ends, strict=True):
            mine = names[number][layer.neighbors[first:last]].tolist()
            assert set(mine) <= set(neighbors_of(graph, target))
            assert len(mine) == min((3, 5)[number], len(neighbors_of(graph, target)))
    assert torch.equal(batch.nodes, batch.nodes.unique())


def test_an_epoch_takes_every_vertex_once_and_a_seed_fixes_it(graph: Graph) -> None:
    def epoch(seed: int) -> list[Batch]:
        return list(batches(graph, torch.arange(NODES), 64, (2, 2), torch.Generator().manual_seed(seed)))

    assert torch.cat([batch.seeds for batch in epoch(0)]).sort().values.tolist() == list(range(NODES))
    assert all(torch.equal(a.nodes, b.nodes) for a, b in zip(epoch(0), epoch(0), strict=True))
    assert not all(torch.equal(a.seeds, b.seeds) for a, b in zip(epoch(0), epoch(1), strict=True))

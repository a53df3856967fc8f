from __future__ import annotations

import numpy as np
import pytest
import torch

from methods.gnnpipe.partition import PARTITIONERS, make_partition, make_shards, to_scipy, to_torch, transposed
from methods.gnnpipe.volume import count_mirrors
from methods.shared.graph import load_graph, mean_adjacency


def directed():
    """800 arcs between 200 vertices, from those of low numbers more than from the others."""
    generator = torch.Generator().manual_seed(0)
    source = (200 * torch.rand(800, generator=generator) ** 2).long()
    edge_index = torch.stack([source, torch.randint(200, (800,), generator=generator)])
    return mean_adjacency(edge_index.unique(dim=1), 200, torch.float64)


def graph_of(homophily=0.5):
    options = dict(num_nodes=200, num_blocks=4, num_classes=4, degree=8, homophily=homophily)
    data = load_graph("csbm", **options)
    return mean_adjacency(data.edge_index, 200, torch.float64)


@pytest.mark.parametrize("how", PARTITIONERS)
def test_every_vertex_has_one_place_and_parts_are_of_similar_size(how):
    partition = make_partition(graph_of(), 2, 3, how)
    assert np.array_equal(np.sort(partition.order), np.arange(200))
    sizes = np.diff(partition.bounds, axis=1)
    assert sizes.sum() == 200
    assert sizes.max() <= 1.35 * sizes.min()


def test_metis_finds_the_communities_that_a_random_order_misses():
    adjacency = graph_of(homophily=0.95)
    mirrors = {how: count_mirrors(adjacency, make_partition(adjacency, 4, 1, how)) for how in PARTITIONERS}
    assert mirrors["metis"] <= 1.2 * mirrors["order"]
    assert mirrors["metis"] < mirrors["random"] / 2


GRAPHS = {"undirected": graph_of, "directed": directed}


@pytest.mark.parametrize("kind", GRAPHS)
@pytest.mark.parametrize("how", PARTITIONERS)
def test_shards_multiply_like_the_whole_graph(how, kind):
    adjacency = GRAPHS[kind]()
    partition = make_partition(adjacency, 3, 4, how)
    x = torch.randn(200, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = {"forward": adjacency @ x, "backward": to_torch(to_scipy(adjacency).T.tocsr()) @ x}
    for shard in make_shards(adjacency, partition):
        for side, expected in whole.items():
            halo = getattr(shard, side)
            rows = torch.cat([part @ x[halo.columns] for part in halo.matrices])
            torch.testing.assert_close(rows, expected[shard.vertices])


@pytest.mark.parametrize("kind", GRAPHS)
@pytest.mark.parametrize("side", ["forward", "backward"])
def test_what_a_way_sends_is_what_the_others_expect_row_by_row(kind, side):
    adjacency = GRAPHS[kind]()
    partition = make_partition(adjacency, 3, 4, "metis")
    shards = make_shards(adjacency, partition)
    halos = [getattr(shard, side) for shard in shards]
    for chunk in range(4):
        for reader, reads in zip(shards, halos, strict=True):
            sent = []
            for owner, gives in zip(shards, halos, strict=True):
                rows = gives.send[chunk].split(gives.send_splits[chunk])[reader.way]
                assert len(rows) == reads.receive_splits[chunk][owner.way]
                assert all(owner.own[chunk].start <= row < owner.own[chunk].stop for row in rows.tolist())
                sent.append(owner.vertices[rows])
            assert torch.equal(torch.cat(sent), reads.columns[reads.mirrors[chunk]])


@pytest.mark.parametrize("kind", GRAPHS)
def test_mirrors_are_counted_as_the_shards_hold_them(kind):
    adjacency = GRAPHS[kind]()
    partition = make_partition(adjacency, 3, 4, "random")
    shards = make_shards(adjacency, partition)
    for side, matrix in (("forward", adjacency), ("backward", transposed(adjacency))):
        halos = [getattr(shard, side) for shard in shards]
        held = [len(halo.columns) - shard.size for shard, halo in zip(shards, halos, strict=True)]
        assert sum(held) == count_mirrors(matrix, partition)
        neighbors = to_scipy(matrix)
        for shard, halo in zip(shards, halos, strict=True):
            own = shard.vertices.numpy()
            outside = np.setdiff1d(np.unique(neighbors[own].indices), own)
            assert np.array_equal(np.sort(halo.columns[shard.size :].numpy()), outside)


def test_in_a_directed_graph_what_is_read_forward_is_not_what_is_read_backward():
    adjacency = directed()
    partition = make_partition(adjacency, 3, 1, "random")
    assert count_mirrors(adjacency, partition) != count_mirrors(transposed(adjacency), partition)


def test_shards_of_one_graph_and_partition_know_each_other():
    adjacency = graph_of()
    one, other = (make_partition(adjacency, 2, 2, how) for how in ("order", "random"))
    digests = [shard.digest for shard in make_shards(adjacency, one)]
    assert digests[0] == digests[1] != make_shards(adjacency, other)[0].digest
    assert digests[0] != make_shards(2 * adjacency, one)[0].digest


def test_impossible_cuts_are_refused():
    with pytest.raises(ValueError, match="more than the graph's 200 vertices"):
        make_partition(graph_of(), 20, 20, "order")
    with pytest.raises(ValueError, match="how must be one of 'metis', 'order', 'random'; got 'best'"):
        make_partition(graph_of(), 1, 1, "best")

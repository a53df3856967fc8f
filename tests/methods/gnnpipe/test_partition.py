from __future__ import annotations

import numpy as np
import pytest
import torch

from methods.gnnpipe.partition import PARTITIONERS, make_partition, make_shards, to_scipy, to_torch
from methods.gnnpipe.volume import count_mirrors
from methods.shared.graph import load_graph, mean_adjacency, normalized_adjacency


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


@pytest.mark.parametrize("how", PARTITIONERS)
def test_shards_multiply_like_the_whole_graph(how):
    adjacency = graph_of()
    partition = make_partition(adjacency, 3, 4, how)
    x = torch.randn(200, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = {"forward": adjacency @ x, "backward": to_torch(to_scipy(adjacency).T.tocsr()) @ x}
    for shard in make_shards(adjacency, partition):
        for side, expected in whole.items():
            rows = torch.cat([part @ x[shard.vertices] for part in getattr(shard, side)])
            torch.testing.assert_close(rows, expected[shard.vertices[: shard.size]])


def test_what_a_way_sends_is_what_the_others_expect_row_by_row():
    adjacency = graph_of()
    partition = make_partition(adjacency, 3, 4, "metis")
    shards = make_shards(adjacency, partition)
    for chunk in range(4):
        for reader in shards:
            sent = []
            for owner in shards:
                splits = owner.send_splits[chunk]
                rows = owner.send[chunk].split(splits)[reader.way]
                assert len(rows) == reader.receive_splits[chunk][owner.way]
                assert all(owner.own[chunk].start <= row < owner.own[chunk].stop for row in rows.tolist())
                sent.append(owner.vertices[rows])
            assert torch.equal(torch.cat(sent), reader.vertices[reader.mirrors[chunk]])


def test_mirrors_are_counted_as_the_shards_hold_them():
    adjacency = graph_of()
    partition = make_partition(adjacency, 3, 4, "random")
    shards = make_shards(adjacency, partition)
    held = [len(shard.vertices) - shard.size for shard in shards]
    assert sum(held) == count_mirrors(adjacency, partition)
    neighbors = to_scipy(adjacency)
    for shard in shards:
        own = shard.vertices[: shard.size].numpy()
        outside = np.setdiff1d(np.unique(neighbors[own].indices), own)
        assert np.array_equal(np.sort(shard.vertices[shard.size :].numpy()), outside)


def test_a_directed_graph_is_refused():
    adjacency = normalized_adjacency(torch.tensor([[0, 1], [1, 2]]), 3)
    with pytest.raises(ValueError, match="directed"):
        make_shards(adjacency, make_partition(adjacency, 1, 1, "order"))


def test_impossible_cuts_are_refused():
    with pytest.raises(ValueError, match="more than the graph's 200 vertices"):
        make_partition(graph_of(), 20, 20, "order")
    with pytest.raises(ValueError, match="no partitioner 'best'"):
        make_partition(graph_of(), 1, 1, "best")

"""Adjacency matrices against torch-geometric's layers, on a graph with every kind of trouble."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.nn import GCNConv, SAGEConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import (
    coalesce,
    remove_self_loops,
    scatter,
    to_dense_adj,
    to_torch_coo_tensor,
    to_torch_csr_tensor,
)

import datasets
from assay import ROOT
from assay.errors import DataError
from methods.shared.graph import (
    checked_edge_index,
    load_graph,
    mean_adjacency,
    node_ids,
    normalized_adjacency,
    propagation,
)

NUM_NODES = 30


def troubled() -> torch.Tensor:
    """(2, A): directed, with self loops and double arcs; 26 only sends, 27 only receives, 28 has a loop, 29 nothing."""
    arcs = torch.randint(26, (2, 200), generator=torch.Generator().manual_seed(0))
    loops = torch.tensor([[3, 28], [3, 28]])
    edges = torch.tensor([[26, 0], [1, 27]])
    return torch.cat([arcs, arcs[:, :20], loops, edges], dim=1)


def dense(edge_index: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Rows are targets."""
    return to_dense_adj(edge_index.flip(0), edge_attr=weight, max_num_nodes=NUM_NODES)[0]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-15), (torch.float32, 1e-7)])
def test_the_normalised_adjacency_is_that_of_gcn(dtype: torch.dtype, tolerance: float) -> None:
    edge_index = troubled()
    ones = torch.ones(edge_index.shape[1], dtype=dtype)
    wanted = dense(*gcn_norm(edge_index, ones, NUM_NODES, dtype=dtype))
    found = normalized_adjacency(edge_index, NUM_NODES, dtype)
    assert (found.layout, found.dtype, tuple(found.shape)) == (torch.sparse_csr, dtype, (NUM_NODES, NUM_NODES))
    torch.testing.assert_close(found.to_dense(), wanted, rtol=0, atol=tolerance)


def test_it_propagates_as_a_gcn_layer_does() -> None:
    edge_index, x = troubled(), torch.randn(NUM_NODES, 5, generator=torch.Generator().manual_seed(1))
    layer = GCNConv(5, 4, bias=False)
    ours = normalized_adjacency(edge_index, NUM_NODES) @ layer.lin(x)
    torch.testing.assert_close(ours, layer(x, edge_index), rtol=1e-5, atol=1e-6)


def test_the_mean_adjacency_is_the_mean_of_a_sage_layer() -> None:
    edge_index, x = troubled(), torch.randn(NUM_NODES, 5, generator=torch.Generator().manual_seed(1)).double()
    adjacency = mean_adjacency(edge_index, NUM_NODES, torch.float64)
    source, target = edge_index
    assert bool((source == target).any())
    mean = scatter(x[source], target, dim_size=NUM_NODES, reduce="mean")
    torch.testing.assert_close(adjacency @ x, mean, rtol=0, atol=1e-14)
    layer = SAGEConv(5, 4, root_weight=False, bias=False).double()
    ours = layer.lin_l(adjacency @ x)
    torch.testing.assert_close(ours, layer(x, torch.stack([source, target])), rtol=0, atol=1e-14)


def test_isolated_vertices_keep_their_value_in_gcn_and_hear_nothing_in_a_mean() -> None:
    gcn, mean = normalized_adjacency(troubled(), NUM_NODES), mean_adjacency(troubled(), NUM_NODES)
    unit = torch.eye(NUM_NODES)
    for vertex in (26, 28, 29):  # nothing arrives there but, at 28, a self loop
        assert torch.equal(gcn.to_dense()[vertex], unit[vertex])
        assert torch.equal(mean.to_dense()[vertex], unit[vertex] if vertex == 28 else torch.zeros(NUM_NODES))
    sums = mean.to_dense().sum(dim=1)
    assert torch.allclose(sums[[*range(26), 27, 28]], torch.ones(28))


@pytest.mark.parametrize("build", [normalized_adjacency, mean_adjacency])
def test_a_graph_without_arcs_is_no_trouble(build: Callable[..., torch.Tensor]) -> None:
    adjacency = build(torch.empty(2, 0, dtype=torch.int64), 3)
    wanted = torch.eye(3) if build is normalized_adjacency else torch.zeros(3, 3)
    assert torch.equal(adjacency.to_dense(), wanted)


@pytest.mark.parametrize("build", [normalized_adjacency, mean_adjacency])
def test_gradients_flow_back_along_the_arcs(build: Callable[..., torch.Tensor]) -> None:
    adjacency = build(troubled(), NUM_NODES, torch.float64)
    x, weight = (torch.randn(NUM_NODES, 3, generator=torch.Generator().manual_seed(s)).double() for s in (1, 2))
    x.requires_grad_()
    (adjacency @ x * weight).sum().backward()
    torch.testing.assert_close(x.grad, adjacency.to_dense().T @ weight)


def test_nobody_is_warned_about_the_layout() -> None:
    """In a process of its own, because torch warns once."""
    program = """
import torch
from methods.shared.graph import normalized_adjacency
x = torch.ones(3, 2, requires_grad=True)
(normalized_adjacency(torch.tensor([[0, 1], [1, 0]]), 3) @ x).sum().backward()
"""
    done = subprocess.run([sys.executable, "-W", "always::UserWarning", "-c", program], cwd=ROOT, capture_output=True,
                          text=True, timeout=240, check=True)  # fmt: skip
    assert "sparse" not in done.stderr.lower(), done.stderr


def test_movielens_becomes_the_graph_of_users_and_films() -> None:
    graph, events = load_graph("movielens_100k"), datasets.load("movielens_100k")
    assert (graph.num_nodes, graph.num_edges, sorted(graph.keys())) == (2_625, 200_000, ["edge_index", "num_nodes"])
    assert graph.is_undirected()
    assert graph.is_coalesced()
    rated = graph.edge_index[:, graph.edge_index[0] < events.num_src]
    assert {*zip(*rated.tolist(), strict=True)} == {*zip(events.src.tolist(), events.dst.tolist(), strict=True)}


def test_events_that_repeat_are_one_edge() -> None:
    graph, events = load_graph("linear_drift"), datasets.load("linear_drift")
    pairs = {frozenset(pair) for pair in zip(events.src.tolist(), events.dst.tolist(), strict=True)}
    assert graph.num_edges == 2 * len(pairs) < 2 * len(events)
    assert {frozenset(pair) for pair in zip(*graph.edge_index.tolist(), strict=True)} == pairs


def test_a_graph_is_passed_on_with_its_options() -> None:
    graph = load_graph("csbm", seed=3, signal=1.0)
    assert torch.equal(graph.x, datasets.load("csbm", seed=3, signal=1.0).x)


def test_what_is_no_graph_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load", lambda name: torch.zeros(3))
    with pytest.raises(DataError, match=r"load_graph\('digits'\): that data set is a Tensor, no graph and no stream"):
        load_graph("digits")


def test_a_propagation_is_the_normalised_adjacency_and_passes_through() -> None:
    prepared = propagation(troubled(), NUM_NODES)
    assert torch.equal(prepared.to_dense(), normalized_adjacency(troubled(), NUM_NODES).to_dense())
    assert propagation(prepared, NUM_NODES) is prepared
    with pytest.raises(ValueError, match=r"a propagation of shape \(30, 30\) for 31 vertices"):
        propagation(prepared, NUM_NODES + 1)


ARCS = torch.tensor([[0, 1, 0], [1, 0, 2]])


@pytest.mark.parametrize(
    ("arcs", "error", "message"),
    [
        ([[0, 1, 0], [1, 0, 15]], IndexError, r"edge_index\[1, 2\]: vertex 15, but ids go from 0 to 11"),
        ([[0, -1, 0], [1, 0, 2]], IndexError, r"edge_index\[0, 1\]: vertex -1, but ids go from 0 to 11"),
        ([[0.0, 1.0], [1.0, 0.0]], TypeError, r"whole numbers \(int64\) as vertex ids, got torch.float32"),
        ([[True, False], [False, True]], TypeError, "got torch.bool"),
        ([0, 1], ValueError, r"needs the shape \(2, arcs\), got \(2,\)"),
        ([[0, 1], [1, 2], [2, 0]], ValueError, r"needs the shape \(2, arcs\), got \(3, 2\)"),
    ],
)
@pytest.mark.parametrize("build", [checked_edge_index, normalized_adjacency, mean_adjacency, propagation])
def test_arcs_that_are_none_are_refused_before_native_code_sees_them(
    build: Callable[..., object], arcs: list[object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build(torch.tensor(arcs), 12)


def test_a_graph_of_no_vertices_has_no_arcs() -> None:
    assert normalized_adjacency(ARCS[:, :0], 0).shape == (0, 0)
    with pytest.raises(IndexError, match=r"edge_index\[0, 0\]: vertex 0, but ids go from 0 to -1"):
        normalized_adjacency(ARCS, 0)


@pytest.mark.parametrize("build", [normalized_adjacency, mean_adjacency])
def test_arcs_are_taken_in_all_the_forms_that_torch_geometric_takes(build: Callable[..., torch.Tensor]) -> None:
    arcs = coalesce(troubled())
    wanted = build(arcs, NUM_NODES).to_dense()
    adj_t = arcs.flip(0)
    for given in (
        arcs.int(),
        EdgeIndex(arcs, sparse_size=(NUM_NODES, NUM_NODES)),
        to_torch_csr_tensor(adj_t, size=NUM_NODES),
        to_torch_coo_tensor(adj_t, size=NUM_NODES),
    ):
        assert torch.equal(build(given, NUM_NODES).to_dense(), wanted)


def test_an_adj_t_has_a_row_for_each_target_as_in_a_gcn_layer() -> None:
    """Without loops: to those of an adj_t, other than to those of arcs, `gcn_norm` adds one more."""
    arcs, x = coalesce(remove_self_loops(troubled())[0]), torch.eye(NUM_NODES)
    layer = GCNConv(NUM_NODES, 4, bias=False)
    adj_t = to_torch_csr_tensor(arcs.flip(0), size=NUM_NODES)
    torch.testing.assert_close(normalized_adjacency(adj_t, NUM_NODES) @ layer.lin(x), layer(x, adj_t))


def test_an_adj_t_with_weights_or_of_another_size_is_refused() -> None:
    adj_t = to_torch_csr_tensor(ARCS, torch.tensor([1.0, 2.0, 1.0]), 3)
    with pytest.raises(ValueError, match="a sparse adj_t with weights other than 1"):
        checked_edge_index(adj_t, 3)
    with pytest.raises(ValueError, match=r"a sparse adj_t of shape \(3, 3\) for 4 vertices"):
        checked_edge_index(adj_t, 4)


def test_half_precision_is_single_precision_rounded_once() -> None:
    hub = torch.stack([torch.arange(1, 1000), torch.zeros(999, dtype=torch.int64)])  # bfloat16 has no 999
    for build in (normalized_adjacency, mean_adjacency):
        wanted = build(hub, 1000).to_dense().bfloat16()
        assert torch.equal(build(hub, 1000, torch.bfloat16).to_dense(), wanted)


def test_a_mask_and_the_ids_of_its_vertices_are_the_same() -> None:
    mask = torch.tensor([False, True, False, True])
    assert node_ids(mask, 4).tolist() == node_ids(torch.tensor([1, 3], dtype=torch.int32), 4).tolist() == [1, 3]
    assert node_ids(torch.tensor([3, 1]), 4).tolist() == [3, 1]


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (torch.tensor([0, 1, 0, 1]), ValueError, "train_mask: vertex 0 is named 2 times; a mask is bool"),
        (torch.tensor([0, 1, 0, 1], dtype=torch.uint8), TypeError, "train_mask: needs a mask of bool .* torch.uint8"),
        (torch.tensor([0.0, 1.0]), TypeError, "got torch.float32"),
        (torch.tensor([True]), ValueError, "train_mask: a mask of 1 vertices for a graph of 4"),
        (torch.ones(4, 10, dtype=torch.bool), ValueError, r"shape \(4, 10\) holds several splits; choose one"),
        (torch.tensor([0, 4]), IndexError, r"train_mask\[1\]: vertex 4, but ids go from 0 to 3"),
        (torch.tensor([-1]), IndexError, r"train_mask\[0\]: vertex -1"),
        ([1, 2], TypeError, "got list"),
    ],
)
def test_what_is_neither_mask_nor_ids_is_refused(mask: torch.Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        node_ids(mask, 4, "train_mask")

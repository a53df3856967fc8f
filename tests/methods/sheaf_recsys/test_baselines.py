"""Twin layers give what torch-geometric's give, and the peers what our models give; item-kNN against a loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn.models import LightGCN

from methods.shared.sheaf import SheafIndex
from methods.sheaf_recsys import SheafRecommender
from methods.sheaf_recsys.baselines import (
    GAT,
    NGCF,
    AttentionGraph,
    NGCFConv,
    item_knn,
    lightgcn,
    popularity,
    symmetric_adjacency,
)
from methods.sheaf_recsys.data import Interactions
from methods.sheaf_recsys.peer import peer

USERS, ITEMS, WIDTH = 8, 11, 5


def toy(users: int = USERS) -> Interactions:
    """Half of all pairs; item 0 was met by nobody, so its node is isolated."""
    met = torch.rand(users, ITEMS, generator=torch.Generator().manual_seed(0)) < 0.5
    met[:, 0] = False
    pairs = met.nonzero().T
    return Interactions(users, ITEMS, pairs, pairs[:, :0], pairs[:, :0])


def ours(method: str, data: Interactions) -> tuple[nn.Module, Any]:
    edge_index, n = data.edge_index, data.num_nodes
    builds: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
        "sheaf": lambda: (SheafRecommender(n, WIDTH, 2), SheafIndex(edge_index, n)),
        "lightgcn": lambda: (lightgcn(n, WIDTH, 2), symmetric_adjacency(edge_index, n)),
        "ngcf": lambda: (NGCF(n, WIDTH, 2), symmetric_adjacency(edge_index, n)),
        "gat": lambda: (GAT(n, WIDTH, 2), AttentionGraph(edge_index, n)),
    }
    return builds[method]()


def gradients(model: nn.Module, graph: Any) -> tuple[Tensor, dict[str, Tensor]]:
    output = model.eval().get_embedding(graph)
    (output * torch.linspace(-1, 1, output.shape[1])).square().sum().backward()
    return output.detach(), {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("method", ["sheaf", "lightgcn", "ngcf", "gat"])
def test_a_model_and_its_message_passing_peer_have_equal_outputs_and_gradients(method: str) -> None:
    torch.manual_seed(0)
    data = toy()
    model, graph = ours(method, data)
    twin, its_graph = peer(method, data, WIDTH, 2)
    twin.load_state_dict(model.state_dict())
    (output, of_ours), (expected, of_peer) = gradients(model, graph), gradients(twin, its_graph)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)
    assert of_ours.keys() == of_peer.keys()
    for name, gradient in of_ours.items():
        torch.testing.assert_close(gradient, of_peer[name], rtol=1e-4, atol=1e-6)


def test_lightgcn_without_layers_is_matrix_factorisation() -> None:
    data = toy()
    model = lightgcn(data.num_nodes, WIDTH, 0)
    assert isinstance(model, LightGCN)
    assert torch.equal(
        model.get_embedding(symmetric_adjacency(data.edge_index, data.num_nodes)), model.embedding.weight
    )


def test_attention_does_not_overflow_and_has_exact_gradients() -> None:
    torch.manual_seed(0)
    data = toy()
    model, graph = GAT(data.num_nodes, WIDTH, 1).double(), AttentionGraph(data.edge_index, data.num_nodes)
    conv, x = model.convs[0], model.embedding.weight
    assert torch.autograd.gradcheck(lambda x: conv(x, graph), (x.detach().requires_grad_(),))
    assert torch.isfinite(conv(1e5 * x, graph)).all()
    out = conv(x, graph)[:, 0].sum()
    with pytest.raises(RuntimeError, match="has a first derivative only"):  # torch would leave the arcs' part out
        torch.autograd.grad(out, x, create_graph=True)


def test_ngcf_sums_the_messages_of_its_equation() -> None:
    torch.manual_seed(0)
    data = toy()
    conv, x = NGCFConv(WIDTH).eval(), torch.randn(data.num_nodes, WIDTH)
    degree = torch.bincount(data.edge_index[0], minlength=data.num_nodes)
    expected = conv.lin_1(x)
    for u, v in data.edge_index.T.tolist():
        message = conv.lin_1(x[u]) + conv.lin_2(x[u] * x[v])
        expected = expected.index_add(0, torch.tensor([v]), (message / (degree[u] * degree[v]) ** 0.5).unsqueeze(0))
    out = conv(x, symmetric_adjacency(data.edge_index, data.num_nodes))
    torch.testing.assert_close(out, nn.functional.leaky_relu(expected, 0.2))


def test_popularity_counts_training_interactions() -> None:
    data = toy()
    assert torch.equal(popularity(data)[3], data.matrix(data.train).sum(0).float())


@pytest.mark.parametrize("neighbors", [2, 100])
def test_item_knn_sums_the_cosines_of_a_loop(neighbors: int) -> None:
    data = toy(users=150)  # so many that no two cosines are equal
    met = data.matrix(data.train).double()
    expected = torch.zeros_like(met)
    for item in range(1, ITEMS):  # nobody met item 0
        cosine = [float(nn.functional.cosine_similarity(met[:, item], met[:, other], dim=0)) for other in range(ITEMS)]
        cosine[item] = 0.0
        for other in sorted(range(ITEMS), key=lambda other: -cosine[other])[:neighbors]:
            expected[:, item] += cosine[other] * met[:, other]
    torch.testing.assert_close(item_knn(data, neighbors).double(), expected, rtol=1e-5, atol=1e-5)

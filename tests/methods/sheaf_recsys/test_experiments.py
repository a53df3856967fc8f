"""Measures of smoothing at their limits, link prediction's split and hits, and what a tuning trial returns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import datasets
from assay.experiment import Run
from methods.shared.sheaf import SheafIndex
from methods.sheaf_recsys import SheafRecommender
from methods.sheaf_recsys.baselines import lightgcn, symmetric_adjacency
from methods.sheaf_recsys.contenders import CONTENDERS, Recipe
from methods.sheaf_recsys.experiments import LEARNED, step_time
from methods.sheaf_recsys.links import LinkSplit, hits_at, train_links
from methods.sheaf_recsys.smoothing import last_layer, mean_cosine, two_step_energy

USERS, ITEMS = 5, 6


def arcs() -> Tensor:
    met = torch.rand(USERS, ITEMS, generator=torch.Generator().manual_seed(0)) < 0.7
    met[:, 0] = met[0] = True
    user, item = met.nonzero().T
    item = item + USERS
    return torch.stack([torch.cat([user, item]), torch.cat([item, user])])


def test_users_that_are_all_alike_have_cosine_one_even_opposite_to_the_items() -> None:
    x = torch.ones(USERS + ITEMS, 3)
    x[USERS:] = -1
    assert mean_cosine(x, USERS) == pytest.approx(1)


def test_the_cosine_is_the_mean_over_pairs_of_one_side() -> None:
    x = torch.randn(USERS + ITEMS, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    similarity = nn.functional.cosine_similarity(x[:, None], x[None], dim=2)
    sides = [similarity[:USERS, :USERS], similarity[USERS:, USERS:]]
    pairs = [float((side.sum() - len(side)) / (len(side) * (len(side) - 1))) for side in sides]
    assert mean_cosine(x, USERS) == pytest.approx(sum(pairs) / 2)


def test_the_energy_is_the_quadratic_form_of_the_two_step_graph() -> None:
    adjacency, x = symmetric_adjacency(arcs(), USERS + ITEMS), torch.randn(USERS + ITEMS, 3)
    a = adjacency.to_dense()
    expected = torch.trace(x.T @ (torch.eye(len(a)) - a @ a) @ x) / x.square().sum()
    assert two_step_energy(x, adjacency) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_lightgcns_limit_has_no_energy_whatever_the_sign_between_users_and_items(sign: int) -> None:
    edge_index = arcs()
    x = torch.bincount(edge_index[0]).float().sqrt().unsqueeze(1)
    x[USERS:] *= sign
    assert two_step_energy(x, symmetric_adjacency(edge_index, len(x))) == pytest.approx(0, abs=1e-6)


def test_the_last_layer_is_the_one_before_layers_are_joined() -> None:
    torch.manual_seed(0)
    edge_index, n = arcs(), USERS + ITEMS
    sheaf, index = SheafRecommender(n, 4, 2), SheafIndex(arcs(), n)
    assert torch.equal(last_layer(sheaf, index), sheaf.get_embedding(index)[:, -4:])
    model, adjacency = lightgcn(n, 4, 2), symmetric_adjacency(edge_index, n)
    torch.testing.assert_close(last_layer(model, adjacency), adjacency @ (adjacency @ model.embedding.weight))
    with pytest.raises(TypeError, match="knows no layers of a Linear"):
        last_layer(nn.Linear(1, 1), adjacency)


def split() -> LinkSplit:
    return LinkSplit.draw("heterophilous_ring", class_size=30, degree=12, seed=0, device=torch.device("cpu"))


def test_held_out_edges_are_not_trained_on_and_negatives_are_no_edges() -> None:
    s = split()
    held_out = [*s.val, *s.test]
    assert s.val[0].shape == s.test[0].shape
    assert s.test[0].shape[1] == (2 * s.test[0].shape[1] + s.edges.shape[1]) // 10
    assert int(s.joined.sum()) == 2 * s.edges.shape[1] == s.edge_index.shape[1]
    assert not any(s.joined[a, b].any() for a, b in held_out)
    everything = torch.cat([s.edges, *held_out], dim=1).sort(dim=0).values
    assert everything.unique(dim=1).shape == everything.shape
    whole = datasets.load("heterophilous_ring", class_size=30, degree=12, seed=0, num_splits=1)
    edges = {(a, b) for a, b in whole.edge_index.T.tolist()}
    assert all((a, b) not in edges for pairs in (s.val[1], s.test[1]) for a, b in pairs.T.tolist())


def test_hits_count_the_held_out_edges_above_the_kth_negative() -> None:
    pairs = torch.tensor([[0, 0, 0, 0], [1, 2, 3, 4]])
    score = torch.tensor([1.0, 8, 5, 3, 1, 6, 4, 2, 0]).unsqueeze(1)  # positive 8 5 3 1, negative 6 4 2 0
    held_out = (pairs, pairs + torch.tensor([[0], [4]]))
    assert [hits_at(k, score, held_out) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("method", ["sheaf", "gcn", "sage", "mf", "lightgcn"])
def test_every_link_model_learns_its_training_edges(method: str) -> None:
    torch.manual_seed(0)
    s = split()
    model, graph = CONTENDERS[method].build(s, Recipe(dim=8))
    before, after = [], []
    for scores in (before, after):
        output = model.get_embedding(graph).detach()
        scores.extend(float((output[a] * output[b]).sum(1).mean()) for a, b in (s.edges, s.test[1]))
        train_links(model, graph, s, steps=40, lr=0.05, seed=0)
    assert after[0] - after[1] > before[0] - before[1] + 0.1


def test_all_contenders_race_a_step() -> None:
    run = Run("step_time", "quick", seed=0, timed=True)
    step_time.function(run, users=60, items=80, dim=8, layers=1, pairs=1)
    times = {row.method: row.value for row in run.rows if row.metric == "time_s"}
    assert times.keys() == {*LEARNED, "sheaf_pyg", "lightgcn_pyg", "ngcf_pyg", "gat_pyg"}

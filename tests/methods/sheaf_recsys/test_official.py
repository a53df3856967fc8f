"""Golden numbers of antoniopurificato/Sheaf4Rec, commit 2cd476f (models.py, evaluation.py, competitors/lightgcn.py).

Its model and loss were run in float64 with the weights and embeddings of `formula`, which needs no random generator:
two steps of Adam with rate 0.02, each with the loss, its L2 term, and three numbers of user 2 after the first layer.
"""

from __future__ import annotations

import pytest
import torch

from methods.shared.sheaf import SheafIndex
from methods.sheaf_recsys import SheafRecommender
from methods.sheaf_recsys.baselines import StoredPropagation, symmetric_adjacency
from methods.sheaf_recsys.data import Interactions
from methods.sheaf_recsys.training import RELEASED_REG, bpr_loss, rank_items
from tests.methods.golden import formula

USERS, ITEMS, WIDTH = 4, 5, 6
TRAIN = torch.tensor([[0, 0, 1, 1, 2, 3, 3, 2], [0, 1, 1, 2, 3, 3, 4, 0]])
TEST = torch.tensor([[0, 1, 1, 2, 3], [2, 0, 4, 1, 2]])
TRIPLE = (torch.tensor([0, 1, 2, 3]), torch.tensor([4, 6, 7, 8]), torch.tensor([8, 4, 5, 6]))
TWO_STEPS = [8.2066707179, 4.3242898954, -1.0139777539, -0.884336015, -0.8973104235, 6.6498113738, 4.1541336218,
             -0.9418981799, -0.6472230544, -1.1189308116]  # fmt: skip
LIGHTGCN = [0.2395699234, -0.1211324919, -0.4654401926, -0.7467527468, -0.9269958198, -0.9817743574]
RANKING = {("recall", 1): 0.125, ("precision", 1): 0.25, ("ndcg", 1): 0.25, ("recall", 3): 0.125,
           ("precision", 3): 0.0833333333, ("ndcg", 3): 0.1532867982, ("recall", 5): 1.0, ("precision", 5): 0.25,
           ("ndcg", 5): 0.5094434343}  # fmt: skip


def toy() -> Interactions:
    return Interactions(USERS, ITEMS, TRAIN, TRAIN[:, :0], TEST)


def test_two_steps_are_those_of_the_papers_code() -> None:
    data = toy()
    model, index = SheafRecommender(data.num_nodes, WIDTH, 2).double(), SheafIndex(data.edge_index, data.num_nodes)
    with torch.no_grad():
        model.embedding.weight.copy_(formula(data.num_nodes, WIDTH))
        for k, conv in enumerate(model.convs):
            conv.linear.weight.copy_(formula(WIDTH, WIDTH, k=1 + 10 * k) / 2)
            conv.linear.bias.copy_(formula(WIDTH, k=2 + 10 * k) / 2)
            conv.learner.weight.copy_(formula(2, WIDTH, k=3 + 10 * k) / 2)
    optimizer, found = torch.optim.Adam(model.parameters(), lr=0.02, fused=True), []
    for _ in range(2):
        output, embedding = model.get_embedding(index), model.embedding.weight
        without, loss = (bpr_loss(output, embedding, TRIPLE, reg) for reg in (0.0, RELEASED_REG))
        found += [without.item(), loss.item() - without.item(), *output[2, WIDTH : WIDTH + 3].tolist()]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert found == pytest.approx(TWO_STEPS, rel=1e-6)


def test_a_layer_of_lightgcn_is_that_of_the_papers_code() -> None:
    data = toy()
    adjacency = symmetric_adjacency(data.edge_index, data.num_nodes)
    out = StoredPropagation()(formula(data.num_nodes, WIDTH).float(), adjacency)
    assert out[2].tolist() == pytest.approx(LIGHTGCN, rel=1e-5)


def test_the_released_ranking_is_that_of_the_papers_code() -> None:
    """Seen items have a score of 0, as there, and are above unseen ones of a negative score."""
    scores = formula(USERS, WIDTH) @ formula(ITEMS, WIDTH, k=5).T
    ranking = rank_items(scores, toy(), "test", released_protocol=True)
    found = {(metric, k): ranking.at(metric, k) for metric, k in RANKING}
    assert found == pytest.approx(RANKING, rel=1e-6)

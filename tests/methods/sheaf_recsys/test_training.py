"""Sampling, loss and ranking against slow references; what the released protocol does differently."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from methods.shared.sheaf import SheafIndex
from methods.sheaf_recsys import SheafRecommender, training
from methods.sheaf_recsys.baselines import NGCF, symmetric_adjacency
from methods.sheaf_recsys.data import Interactions
from methods.sheaf_recsys.training import (
    RELEASED_REG,
    TOP,
    TripleSampler,
    bpr_loss,
    evaluate,
    fit,
    rank_items,
    train_step,
)

USERS, ITEMS = 12, 130


def toy(seed: int = 0) -> Interactions:
    """Random interactions; users 0 and 1 have none to be tested on."""
    part = torch.rand(USERS, ITEMS, generator=torch.Generator().manual_seed(seed))
    test = (part >= 0.3) & (part < 0.35)
    test[:2] = False
    pairs = [mask.nonzero().T for mask in (part < 0.2, (part >= 0.2) & (part < 0.3), test)]
    return Interactions(USERS, ITEMS, *pairs)


def scores(seed: int = 3) -> Tensor:
    return torch.randn(USERS, ITEMS, generator=torch.Generator().manual_seed(seed))


def slow_ranking(score: Tensor, data: Interactions, hidden: set[tuple[int, int]], k: int) -> tuple[float, ...]:
    """Mean precision, recall and NDCG at k, user by user."""
    precision, recall, ndcg = [], [], []
    for user in range(USERS):
        wanted = {int(i) for u, i in data.test.T if u == user}
        if not wanted:
            continue
        allowed = [i for i in range(ITEMS) if (user, i) not in hidden]
        best = sorted(allowed, key=lambda i: -float(score[user, i]))[:k]
        hits = [place for place, item in enumerate(best) if item in wanted]
        precision.append(len(hits) / k)
        recall.append(len(hits) / len(wanted))
        ideal = sum(1 / math.log(place + 2) for place in range(min(k, len(wanted))))
        ndcg.append(sum(1 / math.log(place + 2) for place in hits) / ideal)
    return tuple(sum(values) / len(values) for values in (precision, recall, ndcg))


@pytest.mark.parametrize("k", [1, 10, 100])
def test_a_ranking_is_that_of_a_loop_over_users(k: int) -> None:
    data, score = toy(), scores()
    hidden = {(int(u), int(i)) for pairs in (data.train, data.val) for u, i in pairs.T}
    ranking = rank_items(score, data, "test")
    found = [ranking.at(metric, k) for metric in ("precision", "recall", "ndcg")]
    assert found == pytest.approx(slow_ranking(score, data, hidden, k), abs=1e-12)
    assert len(ranking.f1) == len(TOP)


def test_f1_is_that_of_the_mean_precision_and_the_mean_recall() -> None:
    ranking = rank_items(scores(), toy(), "test")
    p, r = ranking.at("precision", 10), ranking.at("recall", 10)
    assert ranking.at("f1", 10) == pytest.approx(2 * p * r / (p + r))


def test_perfect_scores_have_full_recall_and_ndcg() -> None:
    data = toy()
    ranking = rank_items(data.matrix(data.test).float(), data, "test")
    assert ranking.at("recall", 100) == 1
    assert ranking.ndcg == pytest.approx([1.0] * len(TOP))


def test_validation_items_take_part_in_the_validation_and_not_in_the_test() -> None:
    data = toy()
    favourite = data.matrix(data.val).float()
    assert rank_items(favourite, data, "val").at("precision", 1) == 1
    lifted = scores() + 100 * favourite
    assert rank_items(lifted, data, "test").f1 == rank_items(scores(), data, "test").f1
    assert rank_items(lifted, data, "test", released_protocol=True).at("f1", 1) == 0


def test_released_ranking_puts_seen_items_above_negative_scores() -> None:
    data = toy()
    negative = scores().sigmoid() - 2 + data.matrix(data.test)
    assert rank_items(negative, data, "test").at("recall", 100) == 1
    assert rank_items(negative, data, "test", released_protocol=True).at("f1", 10) == 0


def test_triples_are_a_liked_and_an_unmet_item_and_reach_every_pair() -> None:
    data = toy()
    sampler, liked = TripleSampler(data, seed=0), data.matrix(data.train)
    drawn = torch.zeros_like(liked)
    for _ in range(60):
        user, positive, negative = sampler.draw(1024)
        assert liked[user, positive - USERS].all()
        assert not liked[user, negative - USERS].any()
        drawn[user, positive - USERS] = drawn[user, negative - USERS] = True
    assert drawn.all()


def test_a_batch_has_distinct_users_where_there_are_enough() -> None:
    user, _, _ = TripleSampler(toy(), seed=0).draw(USERS)
    assert torch.equal(user.sort().values, torch.arange(USERS))


def test_the_loss_is_bpr_and_the_square_norm_of_layer_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    output, embedding = torch.randn(9, 6, generator=generator), torch.randn(9, 4, generator=generator)
    triple = (torch.tensor([0, 1]), torch.tensor([3, 4]), torch.tensor([5, 8]))
    rows = [output[nodes] for nodes in triple]
    gaps = [float(u @ n - u @ p) for u, p, n in zip(*rows, strict=True)]
    rank = sum(math.log1p(math.exp(gap)) for gap in gaps)
    square = sum(float(embedding[nodes].square().sum()) for nodes in triple)
    loss = bpr_loss(output, embedding, triple, reg=0.3)
    assert float(loss) == pytest.approx(rank / 2 + 0.3 / 2 * square / 2, rel=1e-5)


def model_of(data: Interactions) -> tuple[SheafRecommender, SheafIndex]:
    torch.manual_seed(0)
    return SheafRecommender(data.num_nodes, 8, 1), SheafIndex(data.edge_index, data.num_nodes)


def test_fit_keeps_the_weights_of_its_best_epoch() -> None:
    data = toy()
    model, graph = model_of(data)
    history = fit(model, graph, data, epochs=6, lr=0.3, reg=1e-4, seed=0, steps=10)
    assert history.best_epoch < 6
    assert history.best == max(history.score)
    assert evaluate(model, graph, data, "val").at("f1", 10) == max(history.score)


def test_fit_learns_and_two_fits_with_a_seed_are_equal() -> None:
    data, found = toy(), []
    for _ in range(2):
        model, graph = model_of(data)
        history = fit(model, graph, data, epochs=4, lr=0.02, reg=1e-4, seed=0, steps=10)
        found.append((history.loss, model.embedding.weight.detach().clone()))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])
    assert found[0][0][-1] < 0.8 * found[0][0][0]


def test_a_model_is_judged_without_dropout_and_trained_with_it() -> None:
    data = toy()
    torch.manual_seed(0)
    model, graph = NGCF(data.num_nodes, 8, 2), symmetric_adjacency(data.edge_index, data.num_nodes)
    found = [evaluate(model, graph, data, "val") for _ in range(2)]
    assert model.training
    output = model.eval().get_embedding(graph)
    assert found == [rank_items(output[:USERS] @ output[USERS:].T, data, "val")] * 2
    evaluate(model, graph, data, "val")
    assert not model.training


@pytest.mark.parametrize("seed", [0, 5])
def test_an_epoch_is_adam_on_as_many_triples_of_the_seed_as_make_up_the_training_set(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = toy()
    monkeypatch.setattr(training, "BATCH", data.train.shape[1] // 3)
    ours, graph = model_of(data)
    found = fit(ours, graph, data, epochs=1, lr=0.02, reg=1e-4, seed=seed)
    model, _ = model_of(data)
    optimizer, sampler = torch.optim.Adam(model.parameters(), lr=0.02), TripleSampler(data, seed)
    losses = [float(train_step(model, graph, optimizer, sampler, 1e-4)) for _ in range(3)]
    assert found.loss == pytest.approx([sum(losses) / 3])
    torch.testing.assert_close(ours.embedding.weight, model.embedding.weight)


def test_the_released_protocol_ignores_the_weight_of_the_l2_term() -> None:
    data, found = toy(), []
    for reg, released in ((1e-4, True), (RELEASED_REG, False), (1e-4, False)):
        model, graph = model_of(data)
        found.append(fit(model, graph, data, epochs=1, lr=0.01, reg=reg, seed=0, steps=5, released_protocol=released))
    assert found[0].loss == found[1].loss
    assert found[0].loss != found[2].loss


def test_a_loss_that_is_not_finite_says_what_to_do() -> None:
    data = toy()
    model, graph = model_of(data)
    with torch.no_grad():
        model.embedding.weight.fill_(torch.nan)
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.raises(FloatingPointError, match="SheafRecommender: the loss is nan; lower the learning rate"):
        train_step(model, graph, optimizer, TripleSampler(data, 0), 1e-4)


def test_a_user_without_training_items_is_refused() -> None:
    data = toy()
    without = Interactions(USERS, ITEMS, data.train[:, data.train[0] > 0], data.val, data.test)
    with pytest.raises(ValueError, match="every user needs a training item"):
        TripleSampler(without, 0)

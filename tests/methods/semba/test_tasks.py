"""The data as the brief of the paper counts it; losses, scores and the control against their definitions."""

from __future__ import annotations

import itertools
import math
import os

import pytest
import torch
from torch_geometric.data import TemporalData

from datasets.temporal import EventStream
from methods.semba.baselines import SGCN, degree_features, degrees, fit_degree_regression
from methods.semba.experiments import degree_regression
from methods.semba.tasks import (
    OBJECTIVES,
    Answers,
    load_signed,
    make_task,
    matched_pairs,
    random_pairs,
    sign_metrics,
)
from methods.shared.temporal import batches

needs_mirror = pytest.mark.skipif(
    not os.environ.get("ASSAY_MIRROR"), reason="Bitcoin data comes from upstream or a mirror: set ASSAY_MIRROR"
)


def stream_of(weights: list[float], nodes: int = 4) -> EventStream:
    count = len(weights)
    src = torch.arange(count) % nodes
    return EventStream(src, (src + 1) % nodes, torch.arange(count).double(), torch.tensor(weights)[:, None], nodes)


@needs_mirror
@pytest.mark.parametrize(
    ("name", "sizes", "shares", "known_ends", "unknown_ends", "tens"),
    [
        ("bitcoin_otc", (24_914, 5_339, 5_339), (0.936, 0.772, 0.859), 0.353, 958, (0.677, 0.024)),
        ("bitcoin_alpha", (16_940, 3_628, 3_618), (0.956, 0.933, 0.846), 0.233, 1_018, (0.529, 0.022)),
    ],
)
def test_splits_and_shares_are_those_of_the_brief(
    name: str, sizes: tuple[int, ...], shares: tuple[float, ...], known_ends: float, unknown_ends: int,
    tens: tuple[float, float],
) -> None:  # fmt: skip
    task = make_task(load_signed(name))
    weight = task.stream.edge_features[:, 0]
    cuts = [0, task.first_val, task.first_test, len(weight)]
    parts = [slice(a, b) for a, b in itertools.pairwise(cuts)]
    assert tuple(len(weight[part]) for part in parts) == sizes
    assert tuple(round(float((weight[part] > 0).double().mean()), 3) for part in parts) == shares
    known = task.familiar(task.first_test, len(weight))
    assert round(float((known == 2).double().mean()), 3) == known_ends
    assert int((known == 0).sum()) == unknown_ends
    for share, of in zip(tens, (weight < 0, weight > 0), strict=True):
        assert round(float((weight[of].abs() == 10).double().mean()), 3) == share


def test_movielens_is_signed_at_three_stars() -> None:
    weight = load_signed("movielens_100k", 8_000).edge_features[:, 0]
    assert set(weight.tolist()) == {-1.0, 1.0}
    assert round(float((weight > 0).double().mean()), 3) == 0.832
    assert round(float((weight[-1_200:] > 0).double().mean()), 3) == 0.800
    assert round(float((load_signed("movielens_100k").edge_features > 0).double().mean()), 3) == 0.825


@needs_mirror
@pytest.mark.parametrize(("name", "auc"), [("bitcoin_otc", 0.768999), ("bitcoin_alpha", 0.723665)])
def test_the_degree_control_has_its_golden_auc(name: str, auc: float) -> None:
    found = sign_metrics(degree_regression(make_task(load_signed(name)), 1_000))
    assert found["auc"] == pytest.approx(auc, abs=1e-5)


def test_time_starts_at_zero_and_a_temporal_data_is_taken_as_it_is() -> None:
    data = TemporalData(
        src=torch.arange(10) % 3, dst=(torch.arange(10) + 1) % 3, t=torch.arange(100, 110),
        msg=torch.tensor([[1.0], [-3.0]]).repeat(5, 1),
    )  # fmt: skip
    task = make_task(data)
    assert task.stream.t.tolist() == list(range(10))
    assert (task.stream.num_nodes, task.first_val, task.first_test) == (3, 7, 8)
    assert torch.equal(task.stream.edge_features, data.msg)


def test_a_weight_without_a_sign_is_refused() -> None:
    with pytest.raises(ValueError, match="got 1 features and 1 zeros"):
        make_task(stream_of([1.0, 0.0, -1.0]))


def test_three_class_loss_of_a_uniform_predictor_is_ln_3() -> None:
    weight = torch.tensor([3.0, 1.0, 2.0, -5.0])
    loss = OBJECTIVES["signlink_class"].loss(torch.zeros(4, 3), torch.zeros(4, 3), weight)
    assert float(loss) == pytest.approx(math.log(3))


def test_the_two_signs_weigh_the_same_however_rare_one_is() -> None:
    logits, weight = torch.tensor([[2.0], [2.0], [2.0], [2.0]]), torch.tensor([1.0, 4.0, 9.0, -2.0])
    wanted = math.log1p(math.exp(-2)) + math.log1p(math.exp(2))
    assert float(OBJECTIVES["sign_class"].loss(logits, None, weight)) == pytest.approx(wanted)
    only_positive = OBJECTIVES["sign_class"].loss(logits[:3], None, weight[:3])
    assert float(only_positive) == pytest.approx(math.log1p(math.exp(-2)))


def test_three_class_score_is_one_for_the_truth_and_counts_each_class_alike() -> None:
    weight = torch.tensor([3.0, 1.0, 2.0, -5.0])
    truth = torch.eye(3)[[0, 0, 0, 1]], torch.eye(3)[[2, 2, 2, 2]]
    metrics = OBJECTIVES["signlink_class"].metrics
    nobody = torch.zeros(4, dtype=torch.int64)
    assert metrics(Answers(weight, *truth, None, nobody))["macro_f1"] == 1
    all_positive = torch.eye(3)[[0, 0, 0, 0]]
    got = metrics(Answers(weight, all_positive, all_positive, None, nobody))["macro_f1"]
    assert got == pytest.approx((2 * 3 / (3 + 8)) / 3)


def test_sign_scores_follow_their_definitions() -> None:
    weight = torch.tensor([1.0, 2.0, -1.0, 4.0, -1.0])
    logits = torch.tensor([[3.0], [1.0], [2.0], [-1.0], [-2.0]])
    found = sign_metrics(Answers(weight, logits, None, None, torch.tensor([2, 2, 2, 0, 0])))
    assert found["auc"] == pytest.approx(4 / 6)
    assert found["auc_transductive"] == pytest.approx(1 / 2)
    assert found["auc_inductive"] == 1
    assert found["negative_f1"] == pytest.approx(2 * 1 / (2 + 2))


def test_matched_pairs_have_the_ends_of_the_batch_and_random_pairs_two_different_ones() -> None:
    batch, generator = next(batches(stream_of([1.0] * 50, 9), 50)), torch.Generator().manual_seed(0)
    src, dst = matched_pairs(batch, generator)
    assert torch.equal(src, batch.src)
    assert torch.equal(dst.sort().values, batch.dst.sort().values)
    assert not torch.equal(dst, batch.dst)
    src, dst = random_pairs(batch, torch.tensor([1, 4, 7]), generator)
    assert not bool((src == dst).any())
    assert {1, 4, 7} == set(src.tolist()) == set(dst.tolist())


def test_degrees_count_signs_on_both_ends_of_the_events_seen() -> None:
    stream = stream_of([1.0, -2.0, 3.0, -1.0, 1.0])  # 0 -> 1 -> 2 -> 3 -> 0 -> 1
    assert degrees(stream, 4).tolist() == [[1, 0, 0, 1], [0, 1, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0]]
    assert degrees(stream, 0).sum() == 0
    x = degree_features(stream, 0, 5, 2)
    assert torch.equal(x[:2, 1:], torch.zeros(2, 8, dtype=torch.float64))
    wanted = torch.cat([degrees(stream, 4)[0], degrees(stream, 4)[1]]).double().log1p()
    assert torch.equal(x[4, 1:], wanted)
    assert bool((x[:, 0] == 1).all())


def test_the_degree_control_is_where_the_gradient_of_its_loss_vanishes() -> None:
    torch.manual_seed(0)
    x = torch.cat([torch.ones(200, 1), torch.randn(200, 3)], dim=1).double()
    positive = x[:, 1] + torch.randn(200).double() > -1
    weights = fit_degree_regression(x, positive).requires_grad_()
    losses = torch.nn.functional.softplus(-(x @ weights) * (2.0 * positive - 1))
    loss = losses[positive].mean() / 2 + losses[~positive].mean() / 2 + 0.5e-3 * weights.square().sum()
    assert float(torch.autograd.grad(loss, weights)[0].abs().max()) < 1e-10


def test_the_seen_graph_has_both_directions_of_every_event_by_sign() -> None:
    stream = stream_of([1.0, -2.0, 3.0, -1.0])
    graph = SGCN(4).graphs.at(stream, 3)
    assert {tuple(arc) for arc in graph.positive.T.tolist()} == {(0, 1), (1, 0), (2, 3), (3, 2)}
    assert {tuple(arc) for arc in graph.negative.T.tolist()} == {(1, 2), (2, 1)}

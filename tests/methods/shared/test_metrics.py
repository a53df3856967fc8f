"""Metrics equal their definitions; equal scores get their expected rank, and what is not finite never wins."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from methods.shared.metrics import average_precision, f1, macro_f1, relevance_by_rank, roc_auc


def some(seed: int) -> tuple[Tensor, Tensor]:
    """Labels of both classes, and scores with many ties."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(31) % 3 == 0
    return y, torch.randint(6, (31,), generator=generator) / 2.0 + y


@pytest.mark.parametrize("seed", range(5))
def test_roc_auc_counts_pairs_and_average_precision_adds_steps_up(seed: int) -> None:
    y, score = some(seed)
    wins = (score[y][:, None] > score[~y]).double() + (score[y][:, None] == score[~y]).double() / 2
    assert roc_auc(y, score) == pytest.approx(float(wins.mean()))
    area, recall = 0.0, 0.0
    for threshold in score.unique().flip(0):
        hits, said = int((y & (score >= threshold)).sum()), int((score >= threshold).sum())
        area, recall = area + (hits / int(y.sum()) - recall) * hits / said, hits / int(y.sum())
    assert average_precision(y, score) == pytest.approx(area)
    assert roc_auc(y.long(), score.bfloat16()) == roc_auc(y, score)


def test_constant_scores_are_worth_what_chance_is() -> None:
    y, _ = some(0)
    assert roc_auc(y, torch.zeros(31)) == 0.5
    assert average_precision(y, torch.zeros(31)) == pytest.approx(float(y.double().mean()))
    assert relevance_by_rank(torch.zeros(1, 31), y[None], 10).tolist() == [[pytest.approx(11 / 31)] * 10]


def test_relevance_by_rank_is_the_mean_over_all_orders_of_equal_scores() -> None:
    scores, relevant = torch.tensor([[2.0, 1.0, 1.0, 1.0, 0.0, 9.0]]), torch.tensor([[0, 1, 0, 1, 0, 0]]).bool()
    allowed = torch.tensor([[1, 1, 1, 1, 1, 0]]).bool()
    orders = [[0, *middle, 4] for middle in itertools.permutations([1, 2, 3])]
    mean = torch.stack([relevant[0, order] for order in orders]).double().mean(0)
    assert torch.equal(relevance_by_rank(scores, relevant, 5, allowed), mean[None])
    distinct = torch.randn(4, 7)
    asked = torch.rand(4, 7) > 0.5
    got = relevance_by_rank(distinct, asked, 3)
    assert torch.equal(got, asked.gather(1, distinct.topk(3).indices).double())


def test_f1_is_that_of_precision_and_recall() -> None:
    y, said = torch.tensor([1, 1, 1, 0, 0]), torch.tensor([2.0, 1.0, -1.0, 3.0, 0.0])
    assert f1(y, said) == pytest.approx(2 / 3)
    assert f1(torch.zeros(2), torch.zeros(2)) == 0
    scores = torch.eye(3)[[0, 0, 1, 1]]  # class 2 is never said
    assert macro_f1(torch.tensor([0, 1, 1, 2]), scores) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused_with_their_number(bad: float) -> None:
    y, score = some(1)
    score[3], score[7] = bad, bad
    for metric in (roc_auc, average_precision, f1):
        with pytest.raises(ValueError, match="2 of 31 are NaN or infinite"):
            metric(y, score)
    with pytest.raises(ValueError, match="2 of 62 are NaN or infinite"):
        macro_f1(y.long(), torch.stack([score, torch.zeros(31)], 1))
    with pytest.raises(ValueError, match="2 of 31 are NaN or infinite"):
        relevance_by_rank(score[None], y[None], 3)
    relevance_by_rank(score[None], y[None], 3, torch.isfinite(score)[None])


def test_labels_of_one_class_or_of_none_are_refused() -> None:
    for metric in (roc_auc, average_precision):
        for y in (torch.zeros(4), torch.ones(4), torch.zeros(0)):
            with pytest.raises(ValueError, match="needs both classes"):
                metric(y, torch.arange(len(y)) * 1.0)
        with pytest.raises(ValueError, match=r"\[-1, 1\]; expected 0 and 1"):
            metric(torch.tensor([-1, 1]), torch.rand(2))
        with pytest.raises(ValueError, match=r"\(2,\) and scores \(3,\)"):
            metric(torch.tensor([0, 1]), torch.rand(3))
    with pytest.raises(ValueError, match=r"classes 0 \.\. 3 for scores of 2"):
        macro_f1(torch.tensor([0, 3]), torch.rand(2, 2))
    with pytest.raises(ValueError, match=r"relevant \(1, 3\)"):
        relevance_by_rank(torch.rand(1, 2), torch.ones(1, 3).bool(), 1)

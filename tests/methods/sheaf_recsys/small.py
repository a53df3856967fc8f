"""Every experiment of the sheaf recommender made small, and what its test interactions and links are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from methods.sheaf_recsys import experiments
from methods.sheaf_recsys.contenders import Recipe
from methods.sheaf_recsys.data import Interactions
from methods.sheaf_recsys.links import LinkSplit

FILMS, RING = "movielens_100k", "heterophilous_ring"
WHOLE = dict(dataset=FILMS, users=None, items=None, dim=8)
SMALL: dict[str, dict[str, Any]] = {
    "ranking": dict(**WHOLE, epochs=2, steps=2, tuned=True),
    "protocols": dict(**WHOLE, epochs=2, steps=2, tuned=True, methods=experiments.MAIN, others=experiments.OTHERS),
    "over_smoothing": dict(**WHOLE, epochs=1, steps=2, depths=[1, 3]),
    "stalks": dict(**WHOLE, epochs=1, steps=2, layers=1),
    "links": dict(dataset=RING, class_size=15, degree=10, dim=4, steps=20),
}
UNTRAINED = {"step_time": dict(dataset=FILMS, users=None, items=None, dim=4, layers=1, pairs=1)}
WITHOUT = {"step_time": "a race of training steps"}
RECIPES = {name: Recipe(dim=8) for name in ("sheaf", "lightgcn", "ngcf", "gat")}
TEST_METRICS = {"f1_at_10", "precision_at_10", "recall_at_10", "ndcg_at_10", "f1", "hits_at_20"}


def films() -> Interactions:
    """Users with a taste: 30 users and 60 items in three groups."""
    chance = torch.rand(30, 60, generator=torch.Generator().manual_seed(0))
    chance -= 0.3 * (torch.arange(30)[:, None] % 3 == torch.arange(60) % 3)
    parts = (chance < 0.1, (chance >= 0.1) & (chance < 0.15), (chance >= 0.15) & (chance < 0.2))
    return Interactions(30, 60, *(part.nonzero().T for part in parts))


@contextmanager
def made_small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "load_interactions", films)
        yield


@contextmanager
def test_data_permuted() -> Iterator[None]:
    """Another item for every test interaction, and edges and non-edges of the test exchanged."""

    def other_test() -> Interactions:
        data = films()
        known = torch.cat([data.train, data.val, data.test], dim=1)
        free = (~data.matrix(known)).nonzero()
        return replace(data, test=free[:: len(free) // data.test.shape[1]].T)

    def draw(*given: Any, real: Callable[..., LinkSplit] = LinkSplit.draw) -> LinkSplit:
        split = real(*given)
        return replace(split, test=split.test[::-1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "load_interactions", other_test)
        patch.setattr(LinkSplit, "draw", draw)
        yield

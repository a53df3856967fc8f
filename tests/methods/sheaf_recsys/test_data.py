"""The split of MovieLens-100K, to the row, and the one number that rests on it alone."""

from __future__ import annotations

import pytest
import torch

from methods.sheaf_recsys.baselines import popularity
from methods.sheaf_recsys.data import Interactions, load_interactions, most_active


@pytest.fixture(scope="module")
def films() -> Interactions:
    return load_interactions()


def test_the_split_has_the_sizes_of_the_papers_code(films: Interactions) -> None:
    assert (films.num_users, films.num_items) == (943, 1547)
    assert [films.train.shape[1], films.val.shape[1], films.test.shape[1]] == [66_016, 8_236, 8_235]


def test_popularity_has_the_golden_f1(films: Interactions) -> None:
    scores = popularity(films).masked_fill(films.matrix(films.train), -torch.inf)
    wanted = films.matrix(films.test)
    users = wanted.any(1)
    best = scores[users].sort(dim=1, descending=True, stable=True).indices[:, :10]
    hits, total = wanted[users].gather(1, best).sum(1).double(), wanted[users].sum(1).double()
    precision, recall = (hits / 10).mean(), (hits / total).mean()
    assert int(users.sum()) == 903
    assert float(2 * precision * recall / (precision + recall)) == pytest.approx(0.093766, abs=5e-7)


def test_no_interaction_is_in_two_parts_or_twice(films: Interactions) -> None:
    parts = [films.matrix(pairs) for pairs in (films.train, films.val, films.test)]
    assert [int(part.sum()) for part in parts] == [66_016, 8_236, 8_235]
    assert int(torch.stack(parts).sum(0).max()) == 1


def test_numbers_follow_the_ids_and_all_occur_in_training(films: Interactions) -> None:
    assert torch.equal(films.train[0].unique(), torch.arange(943))
    assert torch.equal(films.train[1].unique(), torch.arange(1547))
    # user 1 liked film 1 (Toy Story), and both have number 0
    assert any(films.matrix(pairs)[0, 0] for pairs in (films.train, films.val, films.test))


def test_the_graph_has_both_arcs_of_each_training_interaction(films: Interactions) -> None:
    source, target = films.edge_index
    assert films.edge_index.shape[1] == 2 * 66_016
    assert torch.equal(source[:66_016], target[66_016:])
    assert int(source[:66_016].max()) < films.num_users <= int(target[:66_016].min())


def test_the_most_active_part_keeps_the_rows_between_its_users_and_items(films: Interactions) -> None:
    part = most_active(films, 300, 500)
    assert (part.num_users, part.num_items) == (300, 500)
    users = torch.bincount(films.train[0]).argsort(descending=True, stable=True)[:300].sort().values
    items = torch.bincount(films.train[1]).argsort(descending=True, stable=True)[:500].sort().values
    assert torch.equal(part.matrix(part.test), films.matrix(films.test)[users][:, items])

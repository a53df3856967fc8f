"""MovieLens-100K as the paper's code splits it: ratings of 3 and more, 80/10/10 at random, by rows of the file.

`scikit-learn`'s `train_test_split(random_state=42)` is a prefix of one legacy numpy permutation, so the split is
reproduced to the row without that package. Users and items are numbered 0, 1, ... in the order of their ids, over
those that occur in training; held-out rows of others are dropped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import datasets

SPLIT_SEED = 42
LIKED = 3  # stars; a rating below is no interaction


@dataclass(frozen=True, eq=False)
class Interactions:
    """Who liked what. Pairs are (2, m) int64: user 0 .. num_users - 1, item 0 .. num_items - 1; none is there twice.

    In the graph, the node of user u is u, and that of item i is num_users + i.
    """

    num_users: int
    num_items: int
    train: Tensor
    val: Tensor
    test: Tensor

    @property
    def num_nodes(self) -> int:
        return self.num_users + self.num_items

    @property
    def edge_index(self) -> Tensor:
        """The training graph with both arcs of each interaction, (2, 2 m) int64."""
        user, item = self.train[0], self.train[1] + self.num_users
        return torch.stack([torch.cat([user, item]), torch.cat([item, user])])

    def matrix(self, pairs: Tensor) -> Tensor:
        """Pairs as a (num_users, num_items) bool matrix."""
        found = torch.zeros(self.num_users, self.num_items, dtype=torch.bool, device=pairs.device)
        found[pairs[0], pairs[1]] = True
        return found

    def to(self, device: torch.device) -> Interactions:
        parts = (self.train.to(device), self.val.to(device), self.test.to(device))
        return Interactions(self.num_users, self.num_items, *parts)


def load_interactions() -> Interactions:
    """MovieLens-100K: 943 users, 1,547 items; 66,016 / 8,236 / 8,235 interactions.

    Raises:
        DataError: no source could deliver the file.
    """
    (path,) = datasets.fetch("movielens_100k")
    # the split depends on the order of the file, which `datasets.load` sorts by time
    user, item, rating = np.loadtxt(path, delimiter="\t", skiprows=1, usecols=(0, 1, 2), unpack=True)
    liked = np.stack([user, item])[:, rating >= LIKED].astype(np.int64)
    train, rest = _split(liked, 0.2)
    val, test = _split(rest, 0.5)
    users, items = np.unique(train[0]), np.unique(train[1])
    return Interactions(len(users), len(items), *(_number(pairs, users, items) for pairs in (train, val, test)))


def generated_interactions(num_users: int, num_items: int, seed: int = 0) -> Interactions:
    """Users with a taste: items and users are in three groups, and a user likes half of the items of the own group.

    Of ten liked items eight are for training, one for validation and one for the test.
    """
    chance = torch.rand(num_users, num_items, generator=torch.Generator().manual_seed(seed))
    chance -= 0.4 * (torch.arange(num_users)[:, None] % 3 == torch.arange(num_items) % 3)
    bounds = ((-1.0, 0.04), (0.04, 0.07), (0.07, 0.1))
    return Interactions(num_users, num_items, *(((chance >= a) & (chance < b)).nonzero().T for a, b in bounds))


def most_active(whole: Interactions, num_users: int, num_items: int) -> Interactions:
    """The part between the users and the items with most training interactions; the lower number wins a tie."""
    kept = []
    for side, length in ((0, num_users), (1, num_items)):
        count = torch.bincount(whole.train[side], minlength=whole.num_users if side == 0 else whole.num_items)
        kept.append(count.argsort(descending=True, stable=True)[:length].sort().values.numpy())
    parts = (_number(pairs.numpy(), *kept) for pairs in (whole.train, whole.val, whole.test))
    return Interactions(len(kept[0]), len(kept[1]), *parts)


def _split(pairs: np.ndarray, held_out: float) -> tuple[np.ndarray, np.ndarray]:
    """(rest, held out): the first `ceil(held_out m)` rows of the permutation are held out, the others follow."""
    order = np.random.RandomState(SPLIT_SEED).permutation(pairs.shape[1])
    size = math.ceil(held_out * pairs.shape[1])
    return pairs[:, order[size:]], pairs[:, order[:size]]


def _number(pairs: np.ndarray, users: np.ndarray, items: np.ndarray) -> Tensor:
    """Ids to positions in the sorted `users` and `items`; pairs with another id are dropped."""
    known = pairs[:, np.isin(pairs[0], users) & np.isin(pairs[1], items)]
    return torch.from_numpy(np.stack([np.searchsorted(users, known[0]), np.searchsorted(items, known[1])]))

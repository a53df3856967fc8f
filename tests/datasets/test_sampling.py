"""Joined pairs are found by their numbers, without making those that are not joined."""

from __future__ import annotations

import numpy as np
import pytest

from datasets.sampling import class_features, pair_of, split_by_class, successes


def test_pairs_are_numbered_without_gaps() -> None:
    assert list(zip(*pair_of(np.arange(6)), strict=True)) == [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]
    i = np.concatenate([np.arange(2, 2_000), 10 ** np.arange(4, 8), 2**25 - np.arange(1_000)])
    for j in (0, i - 1):
        assert np.array_equal(pair_of(i * (i - 1) // 2 + j), (i, np.broadcast_to(j, i.shape)))


@pytest.mark.parametrize(("trials", "probability"), [(0, 0.5), (100, 0.0), (100, 1e-300), (10**12, 1e-18)])
def test_impossible_and_hopeless_trials_have_no_successes(trials: int, probability: float) -> None:
    assert successes(np.random.default_rng(0), trials, probability).tolist() == []


def test_successes_are_independent_trials_of_the_asked_probability() -> None:
    rng, draws, trials, probability = np.random.default_rng(0), 4_000, 20, 0.3
    happened = np.zeros((draws, trials), dtype=bool)
    for row in happened:
        row[successes(rng, trials, probability)] = True
    deviation = (probability * (1 - probability) / draws) ** 0.5
    assert np.abs(happened.mean(axis=0) - probability).max() < 4.5 * deviation
    assert np.abs(np.corrcoef(happened.T) - np.eye(trials)).max() < 4.5 / draws**0.5


def test_splits_take_other_vertices_at_each_draw_but_as_many_of_each_class() -> None:
    rng, y = np.random.default_rng(0), np.arange(40) % 4
    first, second = (split_by_class(rng, y, 4, 0.5, 0.2) for _ in range(2))
    for masks in (first, second):
        assert (masks.sum(axis=0) == 1).all()
        assert [np.bincount(y[mask]).tolist() for mask in masks] == [[5] * 4, [2] * 4, [3] * 4]
    assert (first != second).any()


def test_features_differ_between_classes_by_the_signal_alone() -> None:
    y = np.arange(6) % 3
    plain, shifted = (class_features(np.random.default_rng(0), y, 3, 5, signal) for signal in (0, 2))
    assert (plain.shape, plain.dtype) == ((6, 5), np.float32)
    shift = shifted - plain
    assert np.allclose(shift[:3], shift[3:], atol=1e-6)
    assert np.linalg.norm(shift[0] - shift[1]) > 0.1

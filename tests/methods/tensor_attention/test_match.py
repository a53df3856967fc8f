"""Match3 and Match2: labels, the units built by hand, and the trained networks."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from methods.tensor_attention import match2_unit, match3_unit
from methods.tensor_attention.match import MatchNet, balanced_accuracy, match3_vectors, match_labels, train

SIZES = [(16, 5), (31, 16), (101, 6), (499, 10)]


def tokens(modulus: int, n: int, draws: int = 300) -> torch.Tensor:
    return torch.randint(modulus, (draws, n), generator=torch.Generator().manual_seed(0))


def test_labels_are_what_a_loop_over_tuples_finds() -> None:
    x = tokens(16, 5, draws=40)
    for row, three, two in zip(x, match_labels(x, 16, "match3"), match_labels(x, 16, "match2"), strict=True):
        values = row.tolist()
        assert three.tolist() == [any((a + b + c) % 16 == 0 for b, c in product(values, repeat=2)) for a in values]
        assert two.tolist() == [any((a + b) % 16 == 0 for b in values) for a in values]


@pytest.mark.parametrize(("modulus", "n"), SIZES)
def test_the_units_built_by_hand_are_right_about_every_token(modulus: int, n: int) -> None:
    x = tokens(modulus, n)
    for unit, task in ((match3_unit, "match3"), (match2_unit, "match2")):
        labels = match_labels(x, modulus, task)
        assert labels.any()
        assert not labels.all()
        assert torch.equal(unit(x, modulus) > 0.5, labels)


def test_shares_of_positives_leave_something_to_tell() -> None:
    shares = [float(match_labels(tokens(m, n, 4000), m, "match3").float().mean()) for m, n in SIZES]
    for share, low, high in zip(shares, (0.59, 0.97, 0.17, 0.09), (0.65, 1.0, 0.21, 0.13), strict=True):
        assert low < share < high


def test_the_units_logit_is_the_cosine_of_the_sum_and_the_blanks_lies_below_only_the_largest() -> None:
    x = tokens(101, 6)
    logits = torch.einsum("nit,njt,nlt->nijl", *match3_vectors(x, 101))
    sums = x[:, :, None, None] + x[:, None, :, None] + x[:, None, None, :]
    wanted = (2 * math.pi / 101 * sums.double()).cos()
    torch.testing.assert_close(logits[:, :, :6, :6], wanted, rtol=0, atol=1e-12)
    blank = float(logits[0, 0, 6, 6])
    assert (logits[:, :, 6, 6] == blank).all()
    assert ((wanted > blank) == (sums % 101 == 0)).all()
    assert (logits[:, :, :6, 6] == 0).all()
    assert (logits[:, :, 6, :6] == 0).all()


def test_balanced_accuracy_gives_no_credit_for_always_saying_yes() -> None:
    model = MatchNet(16, 4, order=2)
    for bias, share in ((9.0, 0.5), (-9.0, 0.5)):
        with torch.no_grad():
            model.head[-1].weight.zero_()
            model.head[-1].bias.fill_(bias)
        assert balanced_accuracy(model, "match3", 16, 5, draws=200) == share


def test_the_wide_ordinary_network_has_no_fewer_parameters() -> None:
    def size(order: int, width: int) -> int:
        return sum(p.numel() for p in MatchNet(16, width, order).parameters())

    assert size(2, 24) < size(3, 24) <= size(2, 32)


def test_training_learns_pairs_with_either_attention() -> None:
    for order in (2, 3):
        torch.manual_seed(0)
        model = MatchNet(8, 16, order)
        losses = train(model, "match2", 8, 4, steps=120, batch=64)
        assert len(losses) == 120
        assert sum(losses[-10:]) < 0.6 * sum(losses[:10])
        assert balanced_accuracy(model, "match2", 8, 4, draws=500) > 0.85

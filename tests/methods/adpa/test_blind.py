"""Nothing that ADPA's experiments choose or report, but what is measured on test vertices, rests on their labels."""

from __future__ import annotations

import pytest

from tests.methods.adpa.small import SMALL, TINY, labels_permuted, make_small
from tests.methods.blindness import assert_blind
from tests.methods.claims import assert_claims_are_judged


def test_no_row_but_those_of_the_test_sees_a_test_label(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)
    tested = {"accuracy", "leaky_accuracy", "gain", "gain_at_score", "guided"}
    without = dict.fromkeys(["epoch_cost", "peer_epoch"], "records times alone")
    assert_blind("adpa", SMALL, lambda: labels_permuted(monkeypatch), tested, without)


def test_every_claim_is_judged_by_rows_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)
    assert_claims_are_judged("adpa", "standard", TINY)

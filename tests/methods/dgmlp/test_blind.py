"""Nothing that DGMLP's experiments choose or report, but the test accuracies, rests on test labels."""

from __future__ import annotations

import pytest

from tests.methods.blindness import assert_blind, run_small
from tests.methods.claims import assert_claims_find_rows
from tests.methods.dgmlp.small import SMALL, UNTRAINED, labels_permuted, make_small


def test_no_row_but_the_accuracies_sees_a_test_label_and_every_claim_finds_its_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_small(monkeypatch)
    without = dict.fromkeys(UNTRAINED, "records levels, times and bytes alone")
    metrics = {"accuracy", "last_accuracy"}
    runs = assert_blind("dgmlp", SMALL, lambda: labels_permuted(monkeypatch), metrics, without)
    runs |= {name: run_small("dgmlp", name, **parameters) for name, parameters in UNTRAINED.items()}
    assert_claims_find_rows("dgmlp", runs)

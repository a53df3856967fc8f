"""Nothing that DAGNN's experiments choose or report, but the test accuracy, rests on test labels."""

from __future__ import annotations

import pytest

from tests.methods.blindness import assert_blind, run_small
from tests.methods.claims import assert_claims_find_rows
from tests.methods.dagnn.small import SMALL, UNTRAINED, labels_permuted, make_small


def test_no_row_but_the_accuracy_sees_a_test_label_and_every_claim_finds_its_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_small(monkeypatch)
    without = {
        "feature_smoothness": "propagates features alone",
        "depth_limit": "powers of a matrix",
        "epoch_time": "records times alone",
    }
    runs = assert_blind("dagnn", SMALL, lambda: labels_permuted(monkeypatch), {"accuracy"}, without)
    runs |= {name: run_small("dagnn", name, **parameters) for name, parameters in UNTRAINED.items()}
    assert_claims_find_rows("dagnn", runs)

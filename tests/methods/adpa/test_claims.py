"""Every claim finds rows of its own, also where data sets and splits are compared."""

from __future__ import annotations

from tests.methods.adpa.small import TINY, made_small
from tests.methods.claims import assert_claims_are_judged


def test_every_claim_is_judged_by_rows_of_its_own() -> None:
    with made_small():
        assert_claims_are_judged("adpa", "standard", TINY)

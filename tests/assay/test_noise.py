"""On this very machine, a race between a thing and itself is hardly ever decided."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest

from assay import noise
from assay.noise import CLAIMS, PAIRS, PROCESSES, TOLERATED, decided, decisive_claims
from assay.record import Row


@pytest.mark.statistics
def test_false_timing_claims_are_seldom_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Row] = []
    living: list[int] = []
    monkeypatch.setattr(noise, "decided", lambda rows: seen.extend(rows) or decided(rows))
    found = decisive_claims(lambda: living.append(len(multiprocessing.active_children())))
    assert found <= TOLERATED, f"{found} of {CLAIMS} claims about a thing and itself were decided"
    assert living == [0] * PROCESSES, "a process is the replicate, so that each is a fresh one"
    assert len(seen) == PROCESSES * CLAIMS * PAIRS * 2
    assert {(row.setting["number"], row.seed) for row in seen} == {
        (number, seed) for number in range(CLAIMS) for seed in range(PROCESSES)
    }


FEW = 3  # claims, which is quicker


def rows_of(ratio: float) -> list[Row]:
    """Times of a and b, of which a takes `ratio` times as long, and each has 2 % of noise."""
    noises = np.exp(np.random.default_rng(0).normal(0, 0.02, (PROCESSES, FEW, PAIRS, 2)))
    return [
        Row("noise", "time_s", float(noise * (ratio if name == "a" else 1)), name, {"number": number}, seed,
            repeat=repeat, unit="s")
        for (seed, number, repeat, side), noise in np.ndenumerate(noises) for name in "ab"[side]
    ]  # fmt: skip


def test_true_timing_claims_are_decided_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "CLAIMS", FEW)
    assert [decided(rows_of(ratio)) for ratio in (1.5, 1 / 1.5)] == [FEW, FEW]

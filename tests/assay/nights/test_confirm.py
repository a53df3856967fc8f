"""Two commits side by side: who is first takes turns, both have the same calls, and each side's times stay its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.errors import JobError
from assay.nights import confirm as side_by_side
from assay.nights.process import HotPathError, WorkerDied
from assay.nights.record import Effort

EFFORT = Effort(replicates=4, pairs=4, slice_s=0.8)
NOISE = np.exp(np.random.default_rng(0).normal(0, 0.01, 10_000))


class FakeWorker:
    """Answers at once. `slower` takes half as long again in the new commit; every call is logged with its side."""

    def __init__(self, side: str, log: list[tuple[Any, ...]], fault: Exception | float | None) -> None:
        self.side, self.log, self.fault = side, log, fault

    def ask(self, command: str, name: str, *arguments: int) -> float:
        self.log.append((self.side, command, name, *arguments))
        if command == "open":
            return 0.01 if self.side == "old" else 0.02
        if command == "time" and self.side == "new" and self.fault is not None:
            if isinstance(self.fault, Exception):
                raise self.fault
            return self.fault
        return NOISE[len(self.log)] * (1.5 if (self.side, name) == ("new", "slower") else 1.0)


@pytest.fixture
def log(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []

    @contextmanager
    def worker(tree: Path) -> Iterator[FakeWorker]:
        found.append((tree.name, "started"))
        yield FakeWorker(tree.name, found, getattr(request, "param", None))

    monkeypatch.setattr(side_by_side, "worker", worker)
    monkeypatch.setattr(side_by_side, "checkout_of", lambda root, commit: nullcontext(Path(commit)))
    return found


def confirm(*suspects: str) -> dict[str, Any]:
    return side_by_side.confirm(Path(), "old", "new", list(suspects), EFFORT)


def test_the_slower_commit_is_the_new_one_and_a_suspect_without_change_is_not_slower(log: list[Any]) -> None:
    found = confirm("same", "slower")
    assert [(name, tested.slower) for name, tested in found.items()] == [("same", False), ("slower", True)]
    assert found["slower"].change == pytest.approx(math.log(1.5), abs=0.03)


def test_each_commit_is_first_in_every_second_couple_and_block_with_the_same_calls(log: list[Any]) -> None:
    confirm("same")
    started = [side for side, command, *_ in log if command == "started"]
    assert started == ["old", "new", "new", "old", "new", "old", "old", "new"]
    timed = [(entry[0], entry[3]) for entry in log if entry[1] == "time"]
    assert [side for side, _ in timed[:8]] == ["old", "new", "new", "old", "new", "old", "old", "new"]
    assert {calls for _, calls in timed} == {10}  # of the slower, in a slice of 0.8 s over 4 pairs
    assert len(timed) == EFFORT.replicates * EFFORT.pairs * 2


@pytest.mark.parametrize(("log", "reason"), [
    (HotPathError("ValueError: no"), "cannot be confirmed now: ValueError: no"),
    (WorkerDied("its process was ended"), "cannot be confirmed now: its process was ended"),
    (0.0, "now a call took no time by the clock"),
    (math.nan, "now a call took no time by the clock"),
], indirect=["log"])  # fmt: skip
def test_a_suspect_that_can_no_longer_be_timed_is_named(log: list[Any], reason: str) -> None:
    with pytest.raises(JobError, match=rf"^same: could be timed before.*{reason}"):
        confirm("same")

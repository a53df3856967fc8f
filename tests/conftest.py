"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.checkout import Checkout

# Before anything imports torch: small tests lose more by waking threads than they gain, above all on a busy machine.
os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS") or "1"


@pytest.fixture(scope="session", autouse=True)
def locks_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Workers that run tests side by side do not wait for each other, nor for a run on this machine."""
    os.environ.setdefault("ASSAY_LOCKS", str(tmp_path_factory.mktemp("locks")))


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)

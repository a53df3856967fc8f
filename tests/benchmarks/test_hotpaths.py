"""asv finds the hot paths of every paper, times them and counts their bytes, and only for committed code."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from assay import ROOT, hotpaths
from assay.card import find_cards
from tests.checkout import Checkout

BENCHMARKS = ("time_call", "track_peak_bytes")
TOY = """
import torch

LIMIT = 3

def adds():
    x = torch.ones(1000)
    return lambda: x + 1

def draws():
    x = torch.rand(1000)
    return lambda: x * 2

def raises():
    raise ValueError("no such file")

def of_size(n=3):
    return lambda: n

def _helper():
    return lambda: None
"""


def test_public_functions_without_arguments_are_hot_paths(checkout: Checkout) -> None:
    checkout.write("methods/toy/hotpaths.py", TOY)
    checkout.write(
        "methods/other/hotpaths.py", "from methods.toy.hotpaths import adds\n\ndef own():\n    return adds()\n"
    )
    assert hotpaths.names(checkout.root) == ["other.own", "toy.adds", "toy.draws", "toy.raises"]


@pytest.mark.parametrize("slug", sorted(find_cards(ROOT)))
def test_every_paper_has_a_hot_path(slug: str) -> None:
    assert any(name.startswith(f"{slug}.") for name in hotpaths.names(ROOT))


def test_the_suite_has_every_hot_path_and_no_list_of_them() -> None:
    suites = suites_of(importlib.import_module("benchmarks.hotpaths"))
    assert {suite.name for suite in suites.values()} == set(hotpaths.names(ROOT))
    assert suites["pres__recent_neighbors"].name == "pres.recent_neighbors"
    for name, suite in suites.items():
        assert (suite.__name__, suite.__module__) == (name, "benchmarks.hotpaths")


def suites_of(module: ModuleType) -> dict[str, Any]:
    """What asv looks through: the public classes of a module."""
    return {name: value for name, value in vars(module).items() if isinstance(value, type) and name[0] != "_"}


def test_a_set_up_is_seeded_and_its_call_is_exact_to_the_byte() -> None:
    suite = importlib.import_module("benchmarks.hotpaths").pres__recent_neighbors()
    peaks = []
    for _ in range(2):
        suite.setup()
        suite.time_call()
        peaks.append(suite.track_peak_bytes())
    assert peaks[0] == peaks[1] > 0


@pytest.fixture
def committed(checkout: Checkout) -> Checkout:
    pytest.importorskip("asv", reason="asv is in the extra `nights`")
    if shutil.which("make") is None:
        pytest.skip("needs make")
    checkout.write("methods/toy/hotpaths.py", TOY)
    shutil.copytree(ROOT / "benchmarks", checkout.root / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "asv.conf.json", ".gitignore"):
        shutil.copy(ROOT / name, checkout.root / name)
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    for command in (("init", "-q"), ("add", "--all"), (*identity, "commit", "-q", "-m", "first")):
        subprocess.run(["git", *command], cwd=checkout.root, check=True)
    return checkout


def make_asv(checkout: Checkout) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # this environment for that of `make setup`, and a home of the test's own, where asv keeps the machine's name
    command = ["make", "--old-file", "setup", "asv", "ASV=--quick", f"VENV={sys.prefix}", f"BIN={sys.prefix}/bin"]
    return subprocess.run(command, cwd=checkout.root, text=True, capture_output=True, timeout=240,
                          env={**checkout.environment, "PATH": path, "HOME": str(checkout.root / ".asv")})  # fmt: skip


def test_make_asv_stores_times_and_bytes_under_the_commit(committed: Checkout) -> None:
    done = make_asv(committed)
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=committed.root, text=True).strip()
    (path,) = committed.root.glob(".asv/results/*/*-existing-*.json")
    stored = json.loads(path.read_text())
    assert stored["commit_hash"] == commit
    results = {name: result[0] and result[0][0] for name, result in stored["results"].items()}
    hot_paths = ("adds", "draws", "raises")
    assert results.keys() == {f"hotpaths.toy__{name}.{what}" for name in hot_paths for what in BENCHMARKS}
    assert [results[f"hotpaths.toy__{name}.track_peak_bytes"] for name in hot_paths] == [4000, 4000, None]
    assert results["hotpaths.toy__adds.time_call"] > 0
    assert results["hotpaths.toy__raises.time_call"] is None, "a set-up that raises has no time"
    assert "no such file" in done.stdout
    assert done.returncode != 0, "a hot path that fails is shown, and fails the run"
    assert (committed.root / ".asv/html/index.html").exists()
    assert subprocess.check_output(["git", "status", "--porcelain"], cwd=committed.root, text=True) == ""


def test_make_asv_refuses_code_that_is_not_committed(committed: Checkout) -> None:
    committed.write("methods/toy/hotpaths.py", TOY + "\nX = 1\n")
    refused = make_asv(committed)
    assert refused.returncode != 0
    assert "commit first" in refused.stdout
    assert not (committed.root / ".asv/results").exists()

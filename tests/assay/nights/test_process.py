"""A worker's process: what its hot paths do to it is told, and nothing of it is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from assay.nights import process
from assay.nights.process import HotPathError, Worker, WorkerDied, worker
from tests.checkout import Checkout

HOT_PATHS = """
import subprocess, sys, time

def value():
    print("what a hot path prints is no answer")
    return lambda: None

def raises():
    raise ValueError("no such file")

def finds_modules_of_the_alarm():
    import canaries

def starts_a_program():
    pid = subprocess.Popen(["sleep", "600"]).pid
    open("pid", "w").write(str(pid))
    return lambda: None

def leaves():
    sys.exit("the last words")

def hangs():
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkout = Checkout(tmp_path_factory.mktemp("tree"))
    checkout.write("methods/toy/__init__.py", "")
    checkout.write("methods/toy/hotpaths.py", HOT_PATHS)
    return checkout.root


@pytest.fixture
def it(tree: Path) -> Iterator[Worker]:
    with worker(tree) as found:
        yield found


def test_a_hot_path_that_raises_stops_no_other_and_one_that_leaves_has_last_words(it: Worker) -> None:
    with pytest.raises(HotPathError, match=r"^ValueError: no such file$"):
        it.ask("open", "toy.raises")
    with pytest.raises(HotPathError, match="No module named 'canaries'"):  # which lies beside the worker's script
        it.ask("open", "toy.finds_modules_of_the_alarm")
    assert it.ask("open", "toy.value") > 0
    assert it.ask("time", "toy.value", 5) > 0
    with pytest.raises(WorkerDied, match=r"^its process was ended .*1.*: the last words$"):
        it.ask("open", "toy.leaves")
    with pytest.raises(WorkerDied, match="the last words"):
        it.ask("open", "toy.value")


def test_a_hot_path_that_hangs_is_ended(it: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    assert it.ask("open", "toy.value") > 0
    monkeypatch.setattr(process, "TIMEOUT_S", 0.5)
    with pytest.raises(WorkerDied, match=r"^gave no answer in 0\.5 s and was ended$"):
        it.ask("open", "toy.hangs")
    assert not psutil.wait_procs([psutil.Process(it.pid)], timeout=120)[1]


def test_what_a_hot_path_started_ends_with_its_worker(tree: Path) -> None:
    with worker(tree) as it:
        it.ask("open", "toy.starts_a_program")
        started = psutil.Process(int((tree / "pid").read_text()))
        assert started.is_running()
    assert not psutil.wait_procs([started], timeout=120)[1]

"""Nights of a real repository: what its commits change is found, and nothing else."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import assay
from assay.errors import AssayError, JobError, RecordError
from assay.nights.compare import Comparison, compare
from assay.nights.process import checkout_of
from assay.nights.record import FULL, QUICK, Effort, Night, find_night, load_night, night_path, record_night, save_night
from tests.checkout import Checkout

Change = Callable[[Night], Night]
DOUBLE = math.log(2)  # beyond what other work on this machine does to times that mostly sleep
LITTLE = Effort(processes=2, slice_s=0.06, replicates=3, pairs=6)

# They mostly sleep, so that what else the machine does meanwhile hardly shows in their times.
HOT_PATHS = """
import os, signal, time
import torch

def _sleeps(ms, floats=1000):
    def call():
        kept = torch.ones(floats)
        time.sleep(ms / 1000)
    return call

def ten():
    return _sleeps(10)

def twenty():
    return _sleeps(20)

def twelve():
    return _sleeps(12)

def fifteen():
    return _sleeps(15)

def draws():
    # what a call allocates depends on the calls before it
    def call():
        kept = torch.ones(int(torch.randint(1000, 2000, ())))
        time.sleep(0.01)
    return call

def not_a_hot_path(ms):
    return _sleeps(ms)
"""
HEALTHY = ["toy.draws", "toy.fifteen", "toy.ten", "toy.twelve", "toy.twenty"]
ADDED = """
def added():
    return _sleeps(10)

def raises():
    raise ValueError("no such file")

def dies():
    return lambda: os.kill(os.getpid(), signal.SIGKILL)
"""
WORSE = HOT_PATHS.replace("_sleeps(20)", "_sleeps(80)").replace("_sleeps(15)", "_sleeps(15, floats=2000)") + ADDED


class Repository(Checkout):
    """Three commits: the first, one that changes no code, and one that makes some of it worse."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.git("init", "-q")
        self.write(".gitignore", "__pycache__\n.assay\n")
        self.write("methods/toy/__init__.py", "")
        # as if it were older than the alarm itself
        shutil.rmtree(root / "assay/nights")
        (root / "assay/hotpaths.py").unlink()
        self.first = self.commit(HOT_PATHS)
        shutil.copytree(assay.ROOT / "assay/nights", root / "assay/nights", dirs_exist_ok=True)
        shutil.copy(assay.ROOT / "assay/hotpaths.py", root / "assay/hotpaths.py")
        self.same = self.commit(HOT_PATHS)
        self.worse = self.commit(WORSE)

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
        done = subprocess.run(["git", *identity, *arguments], cwd=self.root, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, hotpaths: str) -> str:
        self.write("methods/toy/hotpaths.py", hotpaths)
        self.git("add", "--all")
        self.git("commit", "-q", "-m", "a change")
        return self.git("rev-parse", "HEAD")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module")
def nights(repository: Repository) -> dict[str, Night]:
    commits = {"first": repository.first, "same": repository.same, "worse": repository.worse}
    return {name: record_night(repository.root, commit, LITTLE) for name, commit in commits.items()}


@pytest.fixture(scope="module")
def heard() -> list[str]:
    """What the comparison that is `worse` has told, in order."""
    return []


@pytest.fixture(scope="module")
def worse(repository: Repository, nights: dict[str, Night], heard: list[str]) -> Comparison:
    return compare(repository.root, nights["first"], nights["worse"], LITTLE, lambda: heard.append("couple"),
                   lambda known: heard.append(" ".join(line.name for line in known.flagged)))  # fmt: skip


def elsewhere(night: Night) -> Night:
    return replace(night, provenance=night.provenance | {"cpu": "another"})


def test_a_commit_that_changes_no_code_raises_no_alarm(repository: Repository, nights: dict[str, Night]) -> None:
    found = compare(repository.root, nights["first"], nights["same"], LITTLE)
    assert [line.name for line in found.lines if line.change > DOUBLE] == []
    assert [line.name for line in found.slower if line.change > DOUBLE] == []
    assert (found.counts, found.missing) == ([], {})


def test_exactly_the_slower_hot_path_is_confirmed(worse: Comparison) -> None:
    assert [line.name for line in worse.slower if line.change > DOUBLE] == ["toy.twenty"]
    line = worse.slower[0]
    assert line.confirmed is not None
    assert DOUBLE < line.confirmed.change < math.log(4.5)
    assert line is worse.lines[0]
    assert worse.unconfirmed is None
    assert worse.regression


def test_what_is_flagged_is_told_before_it_is_confirmed(worse: Comparison, heard: list[str]) -> None:
    assert heard == [" ".join(line.name for line in worse.flagged), *["couple"] * LITTLE.replicates]


def test_some_hot_paths_alone_are_a_night_of_their_own(repository: Repository) -> None:
    effort, told = replace(LITTLE, only=("toy.twelve", "toy.raises")), list[str]()
    night = find_night(repository.root, repository.worse, effort, tell=told.append)
    assert list(night.times) == ["toy.twelve"]
    assert list(night.missing) == ["toy.raises"]
    assert told == [f"{repository.worse}: no night of {repository.worse[:10]} on this machine yet; timing toy.twelve, "
                    "toy.raises, each for 0.06 s in each of 2 processes"]  # fmt: skip
    assert not night.full
    paths = {night_path(repository.root, repository.worse, e) for e in (effort, LITTLE, QUICK, FULL)}
    assert len(paths) == 4
    assert [path.exists() for path in paths].count(True) == 1
    assert find_night(repository.root, repository.worse, effort, tell=told.append) == night
    assert len(told) == 1
    with pytest.raises(AssayError, match=r"no hot path 'toy\.twelv'; did you mean toy\.twelve"):
        find_night(repository.root, repository.worse, replace(LITTLE, only=("toy.twelv",)))


def test_an_exact_count_that_grew_is_a_regression(worse: Comparison) -> None:
    assert worse.counts == [("toy.fifteen", "peak_bytes", 4000, 8000)]
    assert replace(worse, lines=[]).regression


def test_an_exact_count_that_shrank_is_named_and_no_regression(
    nights: dict[str, Night], repository: Repository
) -> None:
    found = compare(repository.root, elsewhere(nights["worse"]), nights["first"], LITTLE)
    assert found.counts == [("toy.fifteen", "peak_bytes", 8000, 4000)]
    assert not found.regression


def test_hot_paths_without_a_partner_are_named_and_stop_no_other(worse: Comparison) -> None:
    assert worse.missing["toy.added"] == "only in the new night"
    assert worse.missing["toy.raises"] == "new night: ValueError: no such file"
    assert worse.missing["toy.dies"] == "new night: its process was ended by SIGKILL"
    assert {line.name for line in worse.lines} == set(HEALTHY)


def test_another_machine_compares_exact_counts_only(nights: dict[str, Night], repository: Repository) -> None:
    found = compare(repository.root, nights["first"], elsewhere(nights["worse"]), LITTLE)
    assert "different machines" in (found.untimed or "")
    assert (found.lines, found.everything) == ([], None)
    assert found.grown == [("toy.fifteen", "peak_bytes", 4000, 8000)]


def unknown(night: Night) -> Night:
    return replace(night, provenance=night.provenance | {"commit": "f" * 40})


@pytest.mark.parametrize(("old", "new", "reason"), [
    (unknown, lambda night: night, "is not in the repository"),
    (elsewhere, elsewhere, "is not that of the nights"),
])  # fmt: skip
def test_what_cannot_be_confirmed_says_why(
    old: Change, new: Change, reason: str, nights: dict[str, Night], repository: Repository
) -> None:
    found = compare(repository.root, old(nights["first"]), new(nights["worse"]), LITTLE)
    assert [line.name for line in found.flagged if line.change > DOUBLE] == ["toy.twenty"]
    assert found.slower == []
    assert reason in (found.unconfirmed or "")


def test_two_nights_of_one_commit_confirm_nothing(nights: dict[str, Night], repository: Repository) -> None:
    first = nights["first"]
    slow = replace(first, times=first.times | {"toy.ten": [4 * second for second in first.times["toy.ten"]]},
                   counts=first.counts | {"toy.ten": {"peak_bytes": 10**6}})  # fmt: skip
    found = compare(repository.root, first, slow, LITTLE)
    assert [line.name for line in found.flagged] == ["toy.ten"]
    assert len(found.grown) == 1
    assert not found.regression
    assert found.unconfirmed is None


def test_other_versions_are_compared_and_named(nights: dict[str, Night], repository: Repository) -> None:
    other = nights["same"].provenance["versions"] | {"torch": "1.0"}
    night = replace(nights["same"], provenance=nights["same"].provenance | {"versions": other})
    found = compare(repository.root, nights["first"], night, LITTLE)
    assert [name for name, _, _ in found.versions] == ["torch"]
    assert found.lines


def test_too_few_hot_paths_are_not_screened(nights: dict[str, Night], repository: Repository) -> None:
    few = replace(nights["first"], times={name: nights["first"].times[name] for name in ("toy.ten", "toy.twelve")})
    assert "2 usable hot paths in common" in (compare(repository.root, few, nights["same"], LITTLE).untimed or "")


def test_a_night_is_stored_whole_and_damage_is_told(nights: dict[str, Night], tmp_path: Path) -> None:
    path = tmp_path / "night.json"
    save_night(nights["worse"], path)
    assert load_night(path) == nights["worse"]
    for damaged in ("{", "[]", '{"schema": 1}', '{"schema": 2}', '{"schema": 1, "provenance": {"cpu": "one"}}'):
        path.write_text(damaged)
        with pytest.raises(RecordError, match="assay night"):
            load_night(path)


def test_a_night_has_every_process_and_names_its_commit(nights: dict[str, Night], repository: Repository) -> None:
    night = nights["first"]
    assert night.commit == repository.first
    assert sorted(night.times) == sorted(night.counts) == HEALTHY
    assert list(night.canaries) == ["canary.matmul", "canary.memcpy", "canary.launch"]
    assert {len(times) for times in (night.times | night.canaries).values()} == {LITTLE.processes}
    assert all(second > 0.02 for second in night.times["toy.twenty"])


def test_a_night_of_this_machine_is_not_measured_again(repository: Repository, nights: dict[str, Night]) -> None:
    known = replace(nights["first"], missing={"a mark": "of this file"})
    save_night(known, night_path(repository.root, repository.first))
    assert find_night(repository.root, "HEAD~2", LITTLE) == known


def test_a_worker_ends_with_the_process_that_asked(repository: Repository) -> None:
    code = f"""
import time
from pathlib import Path
from assay.nights.process import worker
with worker(Path({str(repository.root)!r})) as it:
    it.ask("open", "canary.launch")
    print(it.pid, flush=True)
    time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=assay.ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert not psutil.wait_procs([child], timeout=120)[1]


def test_neither_file_nor_revision_is_an_error(repository: Repository) -> None:
    with pytest.raises(AssayError, match="neither a night's file nor a revision"):
        find_night(repository.root, "last-night", LITTLE)


def test_a_checkout_of_a_commit_has_its_files_and_the_fetched_data(repository: Repository) -> None:
    fetched = repository.write("data/toy/file", "1")
    with checkout_of(repository.root, repository.first) as tree:
        assert (tree / "methods/toy/hotpaths.py").read_text() == HOT_PATHS
        assert (tree / "data/toy/file").read_text() == "1"
    assert not tree.exists()
    assert fetched.exists()
    with pytest.raises(JobError, match="cannot be read"), checkout_of(repository.root, "f" * 40):
        pass


def test_the_command_line_compares_files(repository: Repository, nights: dict[str, Night], tmp_path: Path) -> None:
    """With another machine's night, so that nothing is timed here."""
    paths = {name: str(tmp_path / f"{name}.json") for name in ("first", "same", "worse")}
    for name, path in paths.items():
        save_night(elsewhere(nights[name]) if name == "first" else nights[name], Path(path))
    same = repository.assay("compare", paths["first"], paths["same"])
    assert same.returncode == 0, same.stderr
    assert "0 confirmed slower, 0 exact counts grew" in same.stdout
    worse = repository.assay("compare", paths["first"], paths["worse"], "--json")
    assert worse.returncode == 1
    assert json.loads(worse.stdout)["counts"] == [["toy.fifteen", "peak_bytes", 4000, 8000]]


def test_a_night_of_uncommitted_code_is_refused(repository: Repository) -> None:
    path = repository.write("methods/toy/other.py", "")
    refused = repository.assay("night")
    path.unlink()
    assert refused.returncode == 2
    assert "methods/toy/other.py" in refused.stderr

"""What made a number is kept with the job that measured it, and a result says where its jobs differ."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assay import ROOT
from assay.card import load_card
from assay.errors import JobError
from assay.jobs import plan
from assay.provenance import Machine, origin, provenance_of, this_machine, version_of
from assay.record import JobRecord
from assay.worker import _experiment
from tests.checkout import Checkout

HERE = {"commit": "c1", "no_commit": None, "dirty": False, "cpu": "one", "cores": 2, "memory_bytes": 8, "gpu": None,
        "os": "Linux", "versions": {"python": "3.11.7", "numpy": "2.4.6"}}  # fmt: skip


def job(seed: int, day: int = 1, **fields: Any) -> JobRecord:
    made_by = {**HERE, **fields}
    return JobRecord("toy", None, seed, "done", "f", 1.25, date=f"2026-01-0{day}T00:00:00+00:00", origin=made_by)


def test_jobs_that_agree_give_the_provenance_of_each() -> None:
    found = provenance_of([job(0), job(1, day=2)], threads=3)
    assert found == {**HERE, "date": "2026-01-02T00:00:00+00:00", "duration_s": 2.5, "threads": 3}


def test_a_result_says_where_its_jobs_differ() -> None:
    other = {"python": "3.11.7", "numpy": "2.5.0", "scipy": "1.17.1"}
    found = provenance_of(
        [job(2, cpu="two"), job(0), job(3), job(1, commit="c2", dirty=True, versions=other)], threads=1
    )
    assert (found["commit"], found["cpu"]) == ("c1", "one"), "what most of them have, whichever is the first"
    assert found["versions"] == {"python": "3.11.7", "numpy": "2.4.6", "scipy": None}
    assert found["differs"] == {
        "commit": {"c1": 3, "c2": 1}, "dirty": {"False": 3, "True": 1}, "cpu": {"one": 3, "two": 1},
        "numpy": {"2.4.6": 3, "2.5.0": 1}, "scipy": {"none": 3, "1.17.1": 1},
    }  # fmt: skip


def test_jobs_of_an_older_file_have_no_origin_and_stop_nothing() -> None:
    assert provenance_of([JobRecord("toy", None, 0, "done", "f", 1.0)], threads=1)["commit"] is None
    assert provenance_of([], threads=1)["versions"] == {}


def test_an_origin_has_the_versions_of_what_the_code_imports(tmp_path: Path) -> None:
    found = origin(tmp_path, this_machine(None), {"sklearn", "torch_geometric", "yaml", "no_such_package"})
    assert found["versions"].keys() == {"python", "scikit-learn", "torch-geometric", "PyYAML"}
    assert found["versions"]["scikit-learn"] == version_of("scikit-learn")
    assert (found["commit"], found["dirty"]) == (None, None)  # outside a repository
    assert version_of("no-such-distribution") is None


def fingerprints(machine: Machine) -> set[str]:
    card = load_card(ROOT / "methods/dagnn/paper.yaml")
    return {job.fingerprint for job in plan(ROOT, card, "quick", machine).jobs}


def test_another_machine_or_python_is_another_job(monkeypatch: pytest.MonkeyPatch) -> None:
    here = this_machine(None)
    mine = fingerprints(here)
    python = {**here.versions, "python": "3.11.99"}
    assert fingerprints(replace(here, cores=99, memory_bytes=1, os="Linux 0", versions=python)) == mine
    assert not fingerprints(replace(here, cpu="another")) & mine
    assert not fingerprints(replace(here, versions=python | {"python": "3.99.1"})) & mine


DEPENDENT = """
import toy_dependency
@experiment(quick=dict(replicates=2))
def toy(run):
    with (Path(__file__).parent / "log").open("a") as file:
        file.write(f"{run.seed}\\n")
    if run.seed == 1 and not Path(__file__).with_name("mended").exists():
        raise RuntimeError("once")
    with run.method("good") as m:
        m["score"] = float(run.cached("model", lambda: {"n": toy_dependency.VERSION})["n"])
"""


def dependency(checkout: Checkout, version: int) -> None:
    """A distribution of which the paper imports a module, as pip would install it."""
    for old in checkout.root.glob("toy_dependency-*/METADATA"):
        old.unlink()
        old.parent.rmdir()
    checkout.write("toy_dependency.py", f"VERSION = {version}\n")
    checkout.write(f"toy_dependency-{version}.0.dist-info/METADATA",
                   f"Metadata-Version: 2.1\nName: toy-dependency\nVersion: {version}.0\n")  # fmt: skip


def commit(checkout: Checkout, message: str) -> str:
    git = ["git", "-C", str(checkout.root), "-c", "user.name=x", "-c", "user.email=x@x"]
    subprocess.run([*git, "add", "-A", "methods", "assay"], check=True)
    subprocess.run([*git, "commit", "-qm", message, "--allow-empty"], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, text=True, capture_output=True).stdout.strip()


def test_each_job_keeps_what_made_it_and_another_version_makes_it_run_again(checkout: Checkout) -> None:
    dependency(checkout, 1)
    checkout.paper("toy", DEPENDENT)
    subprocess.run(["git", "init", "-q"], cwd=checkout.root, check=True)
    first = commit(checkout, "one")
    assert checkout.assay("run").returncode == 1
    before = (checkout.root / "results/quick/toy.json").read_bytes()
    (checkout.root / "methods/toy/mended").touch()
    second = commit(checkout, "two")
    again = checkout.assay("run")
    assert "ran 1 of 2 jobs" in again.stdout, again.stderr
    found = json.loads((checkout.root / "results/quick/toy.json").read_text())
    assert [found["origins"][job["origin"]]["commit"] for job in found["jobs"]] == [first, second]
    assert found["provenance"]["differs"]["commit"] == {first: 1, second: 1}
    assert found["provenance"]["versions"]["toy-dependency"] == "1.0"
    assert f"commit differs: {first} (1 jobs), {second} (1 jobs)" in checkout.assay("show", "toy").stdout
    assert before != (checkout.root / "results/quick/toy.json").read_bytes()

    dependency(checkout, 2)
    again = checkout.assay("run")
    assert "ran 2 of 2 jobs" in again.stdout, again.stderr
    last = (checkout.root / "results/quick/toy.json").read_bytes()
    found = json.loads(last)
    assert found["provenance"]["versions"]["toy-dependency"] == "2.0"
    assert "differs" not in found["provenance"]
    assert {row["value"] for row in found["rows"] if row["metric"] == "score"} == {2.0}, "a model of version 1 was kept"
    checkout.assay("run")  # nothing to run, so nothing is said anew: neither a date nor a commit
    assert (checkout.root / "results/quick/toy.json").read_bytes() == last


def test_each_job_of_a_plan_is_one_of_its_own_and_has_its_parameters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card, here = load_card(ROOT / "methods/dagnn/paper.yaml"), this_machine(None)
    jobs = plan(ROOT, card, "quick", here).jobs
    assert len({job.fingerprint for job in jobs}) == len(jobs)
    changed = next(e for e in plan(ROOT, card, "quick", here).experiments.values() if e.parameters("quick"))
    name = next(iter(changed.parameters("quick")))
    monkeypatch.setitem(changed.profiles["quick"], name, "another")
    after = plan(ROOT, card, "quick", here).jobs
    kept = {job.fingerprint for job in jobs} & {job.fingerprint for job in after}
    assert kept == {job.fingerprint for job in jobs if job.experiment != changed.name}


def test_a_version_that_changes_under_a_run_is_not_recorded_as_the_planned_one() -> None:
    job = plan(ROOT, load_card(ROOT / "methods/dagnn/paper.yaml"), "quick", this_machine(None)).jobs[0]
    assert _experiment(job).name == job.experiment
    planned = job.origin | {"versions": job.origin["versions"] | {"numpy": "0.1"}}
    with pytest.raises(JobError, match=rf"numpy is {version_of('numpy')} here and was 0\.1 when the run was planned"):
        _experiment(replace(job, origin=planned))


def test_only_what_can_change_a_number_makes_a_commit_dirty(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@x"]
    for name in ("methods/toy/model.py", "README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *arguments], check=True)
    here = this_machine(None)
    assert origin(tmp_path, here, [])["dirty"] is False
    (tmp_path / "README.md").write_text("2")
    assert origin(tmp_path, here, [])["dirty"] is False
    (tmp_path / "methods/toy/model.py").write_text("2")
    assert origin(tmp_path, here, [])["dirty"] is True

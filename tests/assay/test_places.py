"""Where Assay is used: without git, in another user's checkout, in terminals that are narrow, coloured or not UTF-8."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from assay import ROOT
from assay.provenance import provenance, why_no_commit
from tests.checkout import CARD, Checkout

TOY = """
@experiment(quick=dict(replicates=3, datasets=[]))
def toy(run):
    for name in ("good", "bad"):
        with run.method(name) as m:
            m["score"] = float(torch.rand(())) + (name == "good")

@experiment(quick=dict(datasets=[]))
def fails(run):
    raise ValueError("\\x1b[2Jno \\u2265 \\u4e2d [/b]")
"""


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def make(checkout: Checkout, target: str) -> subprocess.CompletedProcess[str]:
    """With the Makefile as it is, and the environment of these tests in place of a new one."""
    for name in ("Makefile", ".dvcignore", ".dvc/config"):
        (checkout.root / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, checkout.root / name)
    environment = checkout.root / ".venv"
    environment.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (environment / name).symlink_to(Path(sys.prefix) / name)
    (environment / ".complete").touch()
    variables = {**checkout.environment, "PYTHONPATH": str(checkout.root)}  # what is installed there is this checkout
    return subprocess.run(["make", target], cwd=checkout.root, env=variables, text=True, capture_output=True)


@pytest.fixture
def nowhere(checkout: Checkout) -> Checkout:
    """A checkout that is in no repository, as an unpacked ZIP of the project."""
    inside = subprocess.run(["git", "rev-parse"], cwd=checkout.root, capture_output=True)
    if inside.returncode == 0:
        pytest.skip("the folder for temporary files is itself in a git repository")
    return checkout


def test_an_unpacked_zip_of_the_project_reproduces_and_says_that_it_knows_no_commit(nowhere: Checkout) -> None:
    pytest.importorskip("dvc", reason="the pipeline needs dvc")
    nowhere.paper("toy", TOY.partition("@experiment(quick=dict(datasets=[]))\ndef fails")[0])
    assert nowhere.assay("pipeline").returncode == 0
    done = make(nowhere, "reproduce")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "git names no commit here" in done.stdout
    assert (nowhere.root / "site/index.html").exists()
    found = json.loads((nowhere.root / "results/quick/toy.json").read_text())["provenance"]
    assert (found["commit"], found["dirty"], found["no_commit"]) == (None, None, "unknown: not a git checkout")
    assert "unknown: not a git checkout" in (nowhere.root / "site/papers/toy.html").read_text()
    assert "unknown: not a git checkout" in nowhere.assay("show", "toy").stdout

    refused = nowhere.assay("compare", "HEAD", "HEAD")
    assert refused.returncode == 2
    assert "no night's file, and the commit of" in refused.stderr
    assert "unknown: not a git checkout" in refused.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a checkout to another user")
def test_a_checkout_of_another_user_says_so(checkout: Checkout) -> None:
    git(checkout.root, "init", "-q")
    git(checkout.root, "add", "--all")
    git(checkout.root, "commit", "-q", "-m", "all")
    ours = provenance(checkout.root, threads=1, gpu=None, duration_s=0)
    assert re.fullmatch("[0-9a-f]{40}", ours["commit"])
    assert (ours["dirty"], ours["no_commit"]) == (False, None)
    for path in (checkout.root, checkout.root / ".git"):
        os.chown(path, 65534, 65534)
    theirs = provenance(checkout.root, threads=1, gpu=None, duration_s=0)
    assert (theirs["commit"], theirs["dirty"]) == (None, None)
    assert theirs["no_commit"] == (
        "unknown: git refuses this checkout, which belongs to another user; if you trust it: "
        f"git config --global --add safe.directory {checkout.root}"
    )
    done = make(checkout, "scm")
    assert done.returncode == 0, done.stderr
    assert "dubious ownership" in done.stdout
    assert "no_scm = true" in (checkout.root / ".dvc/config.local").read_text()


def test_a_repository_without_a_commit_and_a_machine_without_git_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q")
    assert why_no_commit(tmp_path) == "unknown: no commit yet"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert why_no_commit(tmp_path) == "unknown: git is not installed"


PLACES = {
    "colours": {"FORCE_COLOR": "1"},
    "latin-1": {"LC_ALL": "C", "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ascii": {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "narrow": {"COLUMNS": "40"},
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    checkout = Checkout(tmp_path_factory.mktemp("places"))
    title = r'title: "A t\u00f6y \u2265 \u4e2d [/b]"'
    checkout.paper("toy", TOY, CARD.replace("title: A toy", title))
    done = checkout.assay("run")
    assert "ran 4 of 4 jobs, 1 failed" in done.stdout, done.stderr
    assert checkout.assay("pipeline").returncode == 0
    return checkout


@pytest.mark.parametrize("place", PLACES)
def test_json_stays_json_and_text_stays_text(ran: Checkout, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PLACES[place].items():
        monkeypatch.setenv(name, value)
    environment = {**ran.environment, "COLUMNS": os.environ.get("COLUMNS", "200")}

    def assay(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(ran.command(*arguments), cwd=ran.root, env=environment, capture_output=True)

    listed = assay("list", "--json")
    (paper,) = json.loads(listed.stdout)
    assert paper["title"] == "A töy ≥ 中 [/b]"
    (verdict,) = json.loads(assay("verdicts", "--json").stdout)
    assert verdict["claim"] == "good-is-better"
    for code, *arguments in ((0, "list"), (0, "show", "toy"), (0, "verdicts"), (1, "check")):
        done = assay(*arguments)
        assert done.returncode == code, done.stderr.decode(errors="replace")
        assert b"\x1b[2J" not in done.stdout + done.stderr, "a text moves the cursor"
        if place != "colours":
            assert b"\x1b" not in done.stdout + done.stderr
    assert b"\\x1b[2Jno " in done.stderr

"""Any repository: with Assay installed, an empty folder of one's own becomes a project, with no file of ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import assay

FOREIGN = """
import sys
from importlib.util import find_spec
from pathlib import Path
import assay.cli, assay.jobs, assay.nights.record, assay.report.site, methods.mypaper.experiments
files = [Path(m.__file__).resolve() for m in list(sys.modules.values()) if getattr(m, "__file__", None)]
checkout, environment = Path(sys.argv[1]), Path(sys.prefix).resolve()
print([str(f) for f in files if f.is_relative_to(checkout) and not f.is_relative_to(environment)])
print(assay.ROOT, assay.HOME, find_spec("datasets") and find_spec("datasets").origin)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install` of this checkout gives, in a folder."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    shutil.copytree(assay.ROOT / "assay", source / "assay", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(assay.ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run([*pip, "--target", str(folder / "site"), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(source)
    return folder / "site"


def python(installed: Path, where: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed), "ASSAY_LOCKS": str(installed.parent / "locks")}
    return subprocess.run([sys.executable, *arguments], cwd=where, env=environment, text=True, capture_output=True)


def test_an_empty_folder_becomes_a_project_that_is_run_judged_and_reported(installed: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()

    def ours(*arguments: str, where: Path = mine) -> str:
        done = python(installed, where, ["-m", "assay", *arguments])
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "methods/mypaper/experiments.py" in ours("new", "mypaper")
    assert "3 of 3 jobs, 0 failed" in ours("run", "mypaper", "--profile", "quick")
    (verdict,) = json.loads(ours("verdicts", "--profile", "quick", "--json", where=mine / "methods" / "mypaper"))
    assert (verdict["paper"], verdict["verdict"], verdict["n"]) == ("mypaper", "reproduced", 3)
    ours("check")
    ours("report")
    page = (mine / "site/papers/mypaper.html").read_text()
    assert "reproduced" in page
    assert "<style>" in page
    assert {path.name for path in mine.iterdir()} == {".assay", "methods", "results", "site", "tests"}

    tested = python(installed, mine, ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/methods/mypaper"])
    assert "1 passed" in tested.stdout, tested.stdout + tested.stderr

    trained = python(installed, mine, ["-m", "methods.mypaper"])
    assert len(trained.stdout.splitlines()) == 4, trained.stderr

    foreign, place = python(installed, mine, ["-c", FOREIGN, str(assay.ROOT)]).stdout.splitlines()
    assert (foreign, place) == ("[]", f"{mine.resolve()} {installed.resolve()} None")

    card = mine / "methods/mypaper/paper.yaml"
    card.write_text(card.read_text().replace("datasets: {}", "datasets: {quick: [rings]}"))
    done = python(installed, mine, ["-m", "assay", "run", "mypaper"])
    assert f"{mine.resolve()} has no package `datasets`: a card that names data sets needs one" in done.stderr


def test_outside_of_any_project_a_command_says_how_to_begin_one(installed: Path, tmp_path: Path) -> None:
    done = python(installed, tmp_path, ["-m", "assay", "verdicts"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"assay: no paper in {tmp_path.resolve()} or above it; go to a project, or begin one here: assay new SLUG\n"
    )
    assert list(tmp_path.iterdir()) == []

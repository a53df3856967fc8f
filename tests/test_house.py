"""Who imports whom, and what the files that describe the project promise."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from assay import ROOT
from assay.card import find_cards, load_card
from assay.pipeline import pipelines


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def test_the_harness_knows_no_paper_and_no_data_set() -> None:
    for path in files("assay"):
        assert not {name.split(".")[0] for name in imports(path)} & {"methods", "datasets", "benchmarks"}, path


def test_data_sets_import_only_errors_from_the_harness() -> None:
    for path in files("datasets"):
        assert not any(n.split(".")[0] == "methods" for n in imports(path)), path
        assert {n for n in imports(path) if n.split(".")[0] == "assay"} <= {"assay.errors"}, path


def test_a_paper_never_imports_another() -> None:
    for path in files("methods"):
        own = path.relative_to(ROOT / "methods").parts[0]
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "methods" and len(parts) > 1:
                assert parts[1] in (own, "shared"), f"{path} imports {name}"


def test_the_measuring_code_stands_alone() -> None:
    for path in files("assay/measure"):
        ours = {name for name in imports(path) if name.split(".")[0] == "assay"}
        assert all(name.startswith(("assay.errors", "assay.measure.")) for name in ours), path


@pytest.mark.parametrize("slug", sorted(find_cards(ROOT)))
def test_every_card_is_valid_and_complete(slug: str) -> None:
    card = load_card(ROOT / "methods" / slug / "paper.yaml")
    assert "proposed" in card.methods.values()
    assert "baseline" in card.methods.values()
    assert card.datasets.quick or card.setting_of_ours.get("quick")


def test_the_pipelines_are_not_stale() -> None:
    cards = {slug: load_card(path) for slug, path in find_cards(ROOT).items()}
    for name, text in pipelines(ROOT, cards).items():
        assert (ROOT / name).read_text() == text, f"run `assay pipeline` and commit {name}"


def test_listing_papers_imports_no_torch() -> None:
    code = "import sys; from assay.cli import app; from typer.testing import CliRunner; " \
           "r = CliRunner().invoke(app, ['list', '--json']); assert r.exit_code == 0, r.output; " \
           "assert 'torch' not in sys.modules"  # fmt: skip
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_running_needs_neither_dvc_nor_asv_nor_ray_nor_pooch() -> None:
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("dvc", "asv", "ray", "pooch"):
            raise ImportError(f"{name} is not installed")
sys.meta_path.insert(0, Absent())
import assay.cli, assay.jobs, assay.worker, assay.verdict, datasets
for name in datasets.names():
    datasets.info(name)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_another_package_named_datasets_stops_assay(tmp_path: Path) -> None:
    (tmp_path / "datasets.py").write_text("")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import datasets; import assay"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode != 0
    assert "another package named 'datasets'" in done.stderr


def test_no_file_is_large_without_a_reason() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.is_file() and not name.startswith("results/"):
            assert path.stat().st_size < 2**20, name

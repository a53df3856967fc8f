"""Data sets are found by their files; what a user asks for wrongly is answered helpfully."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import datasets
from assay.errors import DataError

FOLDER = Path(datasets.__file__).resolve().parent
NAMES = ["bitcoin_alpha", "bitcoin_otc", "lastfm", "linear_drift", "mooc", "movielens_100k", "reddit", "wiki"]


def python(program: str, *path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", program],
        env=environment, cwd=path[0], capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def test_the_data_sets_of_the_first_paper_are_there() -> None:
    assert set(NAMES) <= set(datasets.names())
    assert datasets.names() == sorted(datasets.names())


@pytest.mark.parametrize("name", datasets.names())
def test_every_data_set_says_what_it_is_and_whose(name: str) -> None:
    dataset = datasets.info(name)
    assert dataset.name == name
    for text in (dataset.description, dataset.licence, dataset.citation, dataset.upstream):
        assert text.strip() == text != ""
    assert dataset.size_bytes == sum(file.size_bytes for file in dataset.files)
    assert f'"{name}"' in datasets.module_of(name).read_text()


def test_generated_data_has_nothing_to_fetch() -> None:
    assert datasets.fetch("linear_drift") == []


def test_listing_imports_nothing_heavy() -> None:
    program = "import sys, datasets; datasets.names(); print({'torch', 'pandas', 'scipy'} & set(sys.modules))"
    done = python(program, FOLDER.parent)
    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "movielens-100",
            "no data set is named 'movielens-100'; did you mean movielens_100k or movielens_100k_tables?",
        ),
        ("bitcoin", "no data set is named 'bitcoin'; did you mean bitcoin_otc or bitcoin_alpha?"),
        ("zzz", "no data set is named 'zzz'; known: " + ", ".join(sorted(datasets.names()))),
    ],
)
@pytest.mark.parametrize("ask", [datasets.load, datasets.fetch, datasets.info, datasets.module_of])
def test_an_unknown_name_is_answered_with_the_closest(ask: object, name: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        ask(name)
    assert str(caught.value) == message


def test_an_unknown_option_is_answered_with_the_known_ones() -> None:
    with pytest.raises(DataError) as caught:
        datasets.load("linear_drift", nodes=3)
    assert str(caught.value) == (
        "load('linear_drift'): unknown option nodes; options of linear_drift: num_events, num_nodes, dim, seed"
    )
    with pytest.raises(DataError, match="unknown option path; options of movielens_100k: none"):
        datasets.load("movielens_100k", path="x")


@pytest.mark.parametrize(("error", "files", "options", "told"), [
    (KeyError("x"), ["a/file"], {}, "toy: a/file cannot be read: KeyError: 'x'; if a file is damaged, delete it"),
    (DataError("a/file: line 3"), ["a/file"], {}, "a/file: line 3"),
    (KeyError("x"), ["a/file"], {"size": -1}, "'x'"),  # the option may be to blame
    (KeyError("x"), [], {}, "'x'"),
])  # fmt: skip
def test_a_loaders_error_names_the_files_where_only_they_can_be_to_blame(
    error: Exception, files: list[str], options: dict[str, int], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loader(*paths: Path, size: int = 1) -> None:
        raise error

    toy = datasets.Dataset("toy", "d", "l", "c", "u", files=(), loader=loader)
    monkeypatch.setattr(datasets, "_found", lambda: {"toy": (toy, Path())})
    monkeypatch.setattr(datasets, "fetch", lambda name: [Path(file) for file in files])
    with pytest.raises(DataError if told.endswith(("delete it", "3")) else KeyError) as caught:
        datasets.load("toy", **options)
    assert str(caught.value).startswith(told)


NEW_MODULE = """
from datasets.sources import Dataset
DATASETS = {
    "added": Dataset("added", "d", "l", "c", "u", files=(), loader=lambda size=1: [0] * size),
}
"""


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the checkout, as far as data sets need it, that tests may add files to."""
    for package in (FOLDER, FOLDER.parent / "assay"):
        shutil.copytree(package, tmp_path / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_adding_a_data_set_is_adding_a_file(house: Path) -> None:
    (house / "datasets" / "added.py").write_text(NEW_MODULE)
    done = python("import datasets; print(datasets.load('added', size=3), datasets.module_of('added'))", house)
    assert done.stdout == f"[0, 0, 0] {house / 'datasets' / 'added.py'}\n", done.stderr


def test_two_data_sets_of_one_name_and_two_names_of_one_data_set_are_refused(house: Path) -> None:
    (house / "datasets" / "added.py").write_text(NEW_MODULE)
    (house / "datasets" / "again.py").write_text(NEW_MODULE)
    done = python("import datasets; datasets.names()", house)
    assert done.returncode == 1
    assert f"DataError: {house / 'datasets' / 'again.py'}: DATASETS['added']" in done.stderr
    (house / "datasets" / "again.py").write_text(NEW_MODULE.replace('"added": Dataset', '"again": Dataset'))
    done = python("import datasets; datasets.names()", house)
    assert "DATASETS['again'] has the name 'added'" in done.stderr


def test_data_sets_know_nothing_of_the_harness_but_its_errors() -> None:
    for path in sorted(FOLDER.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            foreign = [m for m in modules if m and m.split(".")[0] in ("assay", "methods") and m != "assay.errors"]
            assert not foreign, f"{path.name} imports {foreign}"

"""Exactly the code that runs decides what is run again."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from assay import ROOT
from assay.closure import _written, code_of_paper, found_in, hash_code, packages_of, place_of
from assay.errors import JobError
from tests.checkout import Checkout


def names(checkout: Checkout, slug: str) -> set[str]:
    return {str(path.relative_to(checkout.root.resolve())) for path in code_of_paper(checkout.root, slug)}


def test_closure_follows_imports_and_stops_at_other_papers(checkout: Checkout) -> None:
    checkout.write("methods/shared/__init__.py", "")
    checkout.write("methods/shared/core.py", "from methods.shared import deep\n")
    checkout.write("methods/shared/deep.py", "import methods.shared.parts.leaf\n")
    checkout.write("methods/shared/parts/__init__.py", "")
    checkout.write("methods/shared/parts/leaf.py", "")
    checkout.write("methods/shared/unused.py", "")
    checkout.paper("other", "")
    checkout.paper("toy", "from methods.shared.core import x\nfrom . import model\n")
    checkout.write("methods/toy/model.py", "import numpy, datasets\n")
    checkout.write("methods/toy/hotpaths.py", "from methods.toy import model\n")
    found = names(checkout, "toy")
    assert {"methods/toy/experiments.py", "methods/toy/model.py", "methods/shared/core.py", "methods/shared/deep.py",
            "methods/shared/parts/leaf.py", "methods/shared/parts/__init__.py",
            "datasets/__init__.py", "assay/experiment.py", "assay/measure/time.py"} <= found  # fmt: skip
    assert not found & {"methods/shared/unused.py", "methods/other/experiments.py", "methods/toy/hotpaths.py",
                        "assay/cli.py", "assay/card.py"}  # fmt: skip


def test_in_a_repository_of_ones_own_all_of_its_code_is_followed_and_assay_is_the_installed_one(tmp_path: Path) -> None:
    for name, text in {
        "methods/__init__.py": "",
        "methods/toy/__init__.py": "",
        "methods/toy/experiments.py": "import mylib.parts, numpy\nfrom assay import cli\n",
        "mylib/__init__.py": "", "mylib/parts.py": "from . import more\n", "mylib/more.py": "STEPS = 3\n",
        "mylib/unused.py": "",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    files = code_of_paper(tmp_path, "toy")
    places = {str(place_of(tmp_path, path)) for path in files}
    assert {"methods/toy/experiments.py", "mylib/__init__.py", "mylib/parts.py", "mylib/more.py",
            "assay/experiment.py", "assay/measure/time.py"} <= places  # fmt: skip
    assert not places & {"mylib/unused.py", "assay/cli.py"}
    assert {found_in(tmp_path, Path(place)).resolve() for place in places} == {path.resolve() for path in files}
    assert found_in(tmp_path, Path("assay/worker.py")) == ROOT / "assay/worker.py"
    before = hash_code(tmp_path, files)
    (tmp_path / "mylib/more.py").write_text("STEPS = 4\n")
    assert hash_code(tmp_path, files) != before


def test_comments_and_docstrings_rerun_nothing_and_code_does(tmp_path: Path) -> None:
    path = tmp_path / "a.py"

    def digest(text: str) -> str:
        path.write_text(text)
        return hash_code(tmp_path, [path])

    base = digest('"""A module."""\ndef f(x):\n    """Doubles."""\n    return 2 * x\n')
    assert digest("# why\ndef f(x):\n    '''Twice.'''\n\n    return (2*x)\n") == base
    assert digest('"""A module."""\ndef f(x):\n    """Doubles."""\n    return 3 * x\n') != base


def test_tuned_hyperparameters_are_part_of_the_code(checkout: Checkout) -> None:
    checkout.paper("toy", "")
    before = hash_code(checkout.root, code_of_paper(checkout.root, "toy"))
    tuned = checkout.write("methods/toy/tuned.json", "{}")
    with_file = hash_code(checkout.root, code_of_paper(checkout.root, "toy"))
    tuned.write_text('{"lr": 1}')
    assert len({before, with_file, hash_code(checkout.root, code_of_paper(checkout.root, "toy"))}) == 3


def test_what_turns_a_run_into_rows_is_part_of_the_code(checkout: Checkout) -> None:
    checkout.paper("toy", "")
    parts = ("experiment", "expression", "network", "plain", "processes", "ranks", "record", "worker")
    measuring = {f"assay/{name}.py" for name in parts}
    assert measuring < names(checkout, "toy")
    assert not names(checkout, "toy") & {"assay/jobs.py", "assay/provenance.py", "assay/pipeline.py", "assay/locks.py"}


def test_files_that_a_papers_code_reads_are_part_of_it_and_its_card_and_prose_are_not(checkout: Checkout) -> None:
    checkout.paper("toy", "")
    checkout.write("methods/toy/.hidden.json", "")
    before = names(checkout, "toy")
    read = ("tuned.json", "splits/one.csv", "search.yaml", "splits/paper.yaml", "weights.npz")
    for name in (*read, "NOTES.md", "page.html", "log", "__pycache__/model.cpython-311.pyc"):
        checkout.write(f"methods/toy/{name}", "")
    checkout.write("assay/report/templates/new.html", "")
    assert names(checkout, "toy") - before == {f"methods/toy/{name}" for name in read}
    table = checkout.root / "methods/toy/splits/one.csv"
    codes = set()
    for content in (b"1,2", b"1,3", b"\xff\xfe"):
        table.write_bytes(content)
        codes.add(hash_code(checkout.root, code_of_paper(checkout.root, "toy")))
    assert len(codes) == 3


SNIPPET = '''"""A module."""
from __future__ import annotations
import numpy as np, os.path
from .model import (a as b,)

class A(B, metaclass=C):
    """Of a kind."""
    x: int = 0x10
    def f(self, /, y, *z: str, k=1.5e-3, **w) -> None:
        """Doubles."""
        return f"{y!r:>{k}} {z} \\u00e9" + u"é" "b" if y else -1j

@decorated
async def g():
    match x:
        case {"a": [1, *_], **rest} if rest: yield lambda q=...: (q := 1)
    try: pass
    except* ValueError as e: raise
'''
GOLDEN = "c96cb7d027fa95512fb57351795f432b000a7e807765afd4bfa3cfc14a9e0cda"


def test_the_hash_of_code_is_the_same_in_every_version_of_python(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(SNIPPET)
    assert hash_code(tmp_path, [tmp_path / "a.py"]) == GOLDEN


def test_an_empty_text_that_some_pythons_put_into_f_strings_changes_nothing() -> None:
    plain, padded = ast.parse(SNIPPET), ast.parse(SNIPPET)
    for node in ast.walk(padded):
        if isinstance(node, ast.JoinedStr):
            node.values.append(ast.Constant(""))
    assert ast.dump(plain) != ast.dump(padded)
    assert list(_written(plain)) == list(_written(padded))


@pytest.mark.parametrize("version", ["3.12", "3.13", "3.14"])
def test_another_python_hashes_all_code_alike(version: str, tmp_path: Path) -> None:
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "-V"], capture_output=True).returncode:
        pytest.skip(f"Python {version} is not installed here; the digest that is held beside this test stands for it")
    (tmp_path / "a.py").write_text(SNIPPET)
    program = (
        "import sys; from pathlib import Path; from assay.closure import hash_code; "
        "print(hash_code(Path('.'), [p for d in ('assay', 'datasets', 'methods') for p in Path(d).rglob('*.py')]), "
        "hash_code(Path(sys.argv[1]), [Path(sys.argv[1]) / 'a.py']))"
    )
    there = subprocess.run([python, "-c", program, str(tmp_path)], cwd=ROOT, text=True, capture_output=True,
                           env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"})  # fmt: skip
    assert there.returncode == 0, there.stderr
    files = [path for place in ("assay", "datasets", "methods") for path in (ROOT / place).rglob("*.py")]
    assert there.stdout.split() == [hash_code(ROOT, files), GOLDEN]


def test_distributions_are_told_from_our_own_code_and_from_python(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "import math, numpy.linalg as la\nfrom methods.shared import x\nfrom . import datasets\nimport assay\n"
        "def f():\n    from sklearn.svm import SVC\n"
    )
    (tmp_path / "b.json").write_text("{}")
    assert packages_of(tmp_path, [tmp_path / "a.py", tmp_path / "b.json"]) == {"numpy", "sklearn"}


def test_a_file_is_parsed_once_and_again_when_it_has_changed(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout.paper("toy", "from methods.toy import model\n")
    checkout.write("methods/toy/__init__.py", "Y = 0\n")  # what two files hold alike is parsed once too
    model = checkout.write("methods/toy/model.py", "X = 1\n")
    parsed: list[str] = []
    real = ast.parse
    monkeypatch.setattr(ast, "parse", lambda source, filename: (parsed.append(filename), real(source, filename))[1])

    def code() -> str:
        files = code_of_paper(checkout.root, "toy")
        packages_of(checkout.root, files)
        return hash_code(checkout.root, files)

    first = code()
    assert len(parsed) == len(set(parsed)) == len(names(checkout, "toy"))
    assert (code(), len(parsed)) == (first, len(set(parsed)))
    before = len(parsed)
    model.write_text("X = 2\n")  # as long as before
    os.utime(model, ns=(1, 1))
    assert code() != first
    assert parsed[before:] == [str(model.resolve())]


def test_a_file_that_is_no_python_is_named(checkout: Checkout) -> None:
    checkout.paper("toy", "def (:\n")
    with pytest.raises(JobError, match=r"methods/toy/experiments\.py:\d+: is no Python: invalid syntax"):
        code_of_paper(checkout.root, "toy")

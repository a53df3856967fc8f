"""Exactly the code that runs decides what is run again."""

from __future__ import annotations

from pathlib import Path

from assay.closure import code_of_paper, hash_code
from tests.checkout import Checkout


def names(checkout: Checkout, slug: str) -> set[str]:
    return {str(path.relative_to(checkout.root.resolve())) for path in code_of_paper(checkout.root, slug)}


def test_closure_follows_imports_and_stops_at_other_papers(checkout: Checkout) -> None:
    checkout.write("methods/shared/__init__.py", "")
    checkout.write("methods/shared/core.py", "from methods.shared import deep\n")
    checkout.write("methods/shared/deep.py", "")
    checkout.write("methods/shared/unused.py", "")
    checkout.paper("other", "")
    checkout.paper("toy", "from methods.shared.core import x\nfrom . import model\n")
    checkout.write("methods/toy/model.py", "import numpy, datasets\n")
    checkout.write("methods/toy/hotpaths.py", "from methods.toy import model\n")
    found = names(checkout, "toy")
    assert {"methods/toy/experiments.py", "methods/toy/model.py", "methods/shared/core.py", "methods/shared/deep.py",
            "datasets/__init__.py", "assay/experiment.py", "assay/measure/time.py"} <= found  # fmt: skip
    assert not found & {"methods/shared/unused.py", "methods/other/experiments.py", "methods/toy/hotpaths.py",
                        "assay/cli.py", "assay/card.py"}  # fmt: skip


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

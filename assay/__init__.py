"""Assay: takes what a paper claims and says whether it holds.

A project is a folder with a package `methods`, one folder in it for each paper, and where it needs them packages
`datasets` and `benchmarks`: this checkout, or a repository of your own. It is the nearest one upward from where you
are, and comes first on `sys.path`, so that these names are its own.

    import assay

    assay.load("pres")      # its measurements as a DataFrame, a column for each knob
    assay.verdicts()        # every claim with its verdict
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from assay.errors import AssayError

HOME = Path(__file__).resolve().parent.parent  # where this package lies: a checkout, or what pip installs into


def is_project(folder: Path) -> bool:
    return (folder / "methods" / "__init__.py").is_file()


def _project() -> Path:
    """The nearest project upward; outside of any the checkout that Assay was installed from, or else this folder."""
    try:
        here = Path.cwd().resolve()
    except FileNotFoundError:  # the folder is gone
        return HOME
    found = next((folder for folder in (here, *here.parents) if is_project(folder)), None)
    return found or (HOME if is_project(HOME) else here)


ROOT = _project()


def _put_project_first() -> None:
    root = str(ROOT)
    if root in sys.path:
        sys.path.remove(root)
    sys.path.insert(0, root)
    for name in ("methods", "datasets", "benchmarks"):
        loaded = sys.modules.get(name)
        origin = getattr(loaded, "__file__", None)
        ours = (ROOT / name / "__init__.py").is_file()
        if ours and origin is not None and not Path(origin).resolve().is_relative_to(ROOT):
            raise AssayError(
                f"another package named '{name}' is already imported from {origin}; "
                f"import assay first, or run from the project {ROOT} in its own environment"
            )


_put_project_first()


def __getattr__(name: str) -> Any:
    """`assay.load` and `assay.verdicts`, imported when asked for: `assay list` needs no pandas."""
    if name in ("load", "verdicts"):
        from assay import frames

        return getattr(frames, name)
    raise AttributeError(f"module 'assay' has no attribute {name!r}")

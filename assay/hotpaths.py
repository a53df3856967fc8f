"""Hot paths: what asv tracks over commits and the alarm compares between nights.

Each public function without arguments of a `methods/<slug>/hotpaths.py` is one: it sets up and returns the call to
time. It is named `<slug>.<function>`. Nothing is registered; a set-up that raises stops no other.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable
from pathlib import Path

from assay.processes import set_threads

Call = Callable[[], object]


def names(root: Path) -> list[str]:
    """The hot paths of a checkout, sorted. Reads their files and imports none."""
    return [
        f"{path.parent.name}.{function}"
        for path in sorted((root / "methods").glob("*/hotpaths.py"))
        for function in sorted(_setups(path))
    ]


def _setups(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not ast.unparse(node.args)
    ]


def set_up(name: str) -> Call:
    """Import and set up one hot path, seeded, with one thread; whatever it raises comes through."""
    import torch

    slug, _, function = name.partition(".")
    set_threads(1)
    torch.manual_seed(0)
    return getattr(importlib.import_module(f"methods.{slug}.hotpaths"), function)()


def finished(call: Call) -> Call:
    """The call until its work is done: a GPU works on when the call has returned."""
    import torch

    if not torch.cuda.is_available():
        return call

    def waited() -> None:
        call()
        torch.cuda.synchronize()

    return waited

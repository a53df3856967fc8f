"""Assay: takes what a paper claims and says whether it holds.

Assay is run from its checkout, whose folders `methods`, `datasets` and `benchmarks` are importable by these names.
The checkout therefore comes first on `sys.path`.

    import assay

    assay.load("pres")      # its measurements as a DataFrame, a column for each knob
    assay.verdicts()        # every claim with its verdict
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from assay.errors import AssayError

ROOT = Path(__file__).resolve().parent.parent


def _put_checkout_first() -> None:
    root = str(ROOT)
    if root in sys.path:
        sys.path.remove(root)
    sys.path.insert(0, root)
    for name in ("methods", "datasets", "benchmarks"):
        loaded = sys.modules.get(name)
        origin = getattr(loaded, "__file__", None)
        if origin is not None and not Path(origin).resolve().is_relative_to(ROOT):
            raise AssayError(
                f"another package named '{name}' is already imported from {origin}; "
                f"import assay first, or run from the checkout {ROOT} in its own environment"
            )


_put_checkout_first()


def __getattr__(name: str) -> Any:
    """`assay.load` and `assay.verdicts`, imported when asked for: `assay list` needs no pandas."""
    if name in ("load", "verdicts"):
        from assay import frames

        return getattr(frames, name)
    raise AttributeError(f"module 'assay' has no attribute {name!r}")

"""The data sets of the project at hand."""

from __future__ import annotations

import importlib
from types import ModuleType

from assay import ROOT
from assay.errors import DataError


def has_data_sets() -> bool:
    return (ROOT / "datasets" / "__init__.py").is_file()


def data_sets() -> ModuleType:
    """The project's package `datasets`, with `load`, `fetch`, `info`, `module_of` and `names`.

    Raises DataError where the project has none; what another package of this name holds is none of its own.
    """
    if not has_data_sets():
        raise DataError(
            f"{ROOT} has no package `datasets`: a card that names data sets needs one with load, fetch, info, "
            "module_of and names, as in Assay's own checkout; data that an experiment makes itself need no name"
        )
    return importlib.import_module("datasets")

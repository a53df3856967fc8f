"""Data sets by name: `datasets.load("movielens_100k")` gets the files, verifies them, returns ready tensors.

A module of this folder that has a `DATASETS = {name: Dataset(...)}` is found by itself: adding a data set is
adding a file. Listing them does not import torch.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
from pathlib import Path
from typing import Any

from assay.errors import DataError
from datasets.archives import Debian, Wheel
from datasets.sources import Dataset, File, get_all

__all__ = ["Dataset", "Debian", "File", "Wheel", "fetch", "info", "load", "module_of", "names"]


def names() -> list[str]:
    """The names of all data sets, sorted."""
    return sorted(_found())


def info(name: str) -> Dataset:
    """Description, licence, citation, size, upstream and files of a data set.

    Raises:
        DataError: no such data set; names the closest ones.
    """
    return _look_up(name)[0]


def module_of(name: str) -> Path:
    """The file that defines a data set.

    Raises:
        DataError: no such data set; names the closest ones.
    """
    return _look_up(name)[1]


def fetch(name: str) -> list[Path]:
    """Get the files of a data set and return their verified paths; an empty list for generated data.

    Raises:
        DataError: no such data set, or a file that no source could deliver.
    """
    return get_all(name, info(name).files)


def load(name: str, **options: object) -> Any:
    """Get the files of a data set, verify them, and return what its loader makes of them.

    Args:
        name: one of `names()`.
        options: passed on to the loader; its module documents them.

    Raises:
        DataError: no such data set, an option that its loader does not know, a file that no source could
            deliver, or one that is not what its loader reads.
    """
    dataset = info(name)
    signature = inspect.signature(dataset.loader)
    takes = list(signature.parameters)[len(dataset.files) :]
    unknown = [option for option in options if option not in takes]
    if unknown:
        known = ", ".join(takes) if takes else "none"
        raise DataError(f"load({name!r}): unknown option {', '.join(unknown)}; options of {name}: {known}")
    paths = fetch(name)
    try:
        return dataset.loader(*paths, **options)
    except DataError:
        raise
    except Exception as error:
        if options or not paths:  # which may be to blame, and the error says so
            raise
        raise DataError(
            f"{name}: {', '.join(map(str, paths))} cannot be read: {type(error).__name__}: {error}; if a file is "
            "damaged, delete it, and it is fetched again"
        ) from error


def _look_up(name: str) -> tuple[Dataset, Path]:
    found = _found()
    if name in found:
        return found[name]
    close = difflib.get_close_matches(name, found, n=2)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(sorted(found))}"
    raise DataError(f"no data set is named {name!r}; {hint}")


@functools.cache
def _found() -> dict[str, tuple[Dataset, Path]]:
    found: dict[str, tuple[Dataset, Path]] = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        if "\nDATASETS" not in path.read_text(encoding="utf-8"):
            # `temporal.py` and its like define no data set, and importing them would import torch.
            continue
        module = importlib.import_module(f"{__name__}.{path.stem}")
        for name, dataset in module.DATASETS.items():
            if name in found or name != dataset.name:
                raise DataError(f"{path}: DATASETS[{name!r}] has the name {dataset.name!r}, or exists twice")
            found[name] = (dataset, path)
    return found

"""Reading numpy archives that others wrote: only plain arrays, never a pickle; and what several loaders do to them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from assay.errors import DataError


def read_arrays(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """The arrays of an `.npz` file that have these names, in this order; what else it holds stays unread.

    Raises:
        DataError: no such archive, a name that it lacks, or an entry that is damaged or a pickled object.
    """
    try:
        archive = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a numpy archive (.npz), or damaged: {error}") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataError(f"{path}: a single array, not a numpy archive (.npz)")
    with archive:
        missing = [name for name in names if name not in archive]
        if missing:
            raise DataError(f"{path}: has no array {', '.join(missing)}; it holds {', '.join(archive.files)}")
        return [_entry(archive, name, path) for name in names]


def _entry(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> np.ndarray:
    try:
        array: np.ndarray = archive[name]
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: the array {name} cannot be read: {error}") from error
    return array


def check_labels(labels: np.ndarray, num_nodes: int, path: Path) -> None:
    """Refuse what is not one class 0, 1, ... for each vertex.

    Raises:
        DataError: another shape, or values that are no whole numbers of 0 or more.
    """
    if labels.shape != (num_nodes,) or labels.dtype.kind not in "iu" or not num_nodes or labels.min() < 0:
        raise DataError(
            f"{path}: needs a class 0, 1, ... for each of {num_nodes} vertices; the labels have shape "
            f"{labels.shape} and dtype {labels.dtype}" + (f" from {labels.min()}" if labels.size else "")
        )


def check_arcs(arcs: np.ndarray, num_nodes: int, path: Path) -> None:
    """Refuse arcs (2, A) to or from a vertex outside 0 .. num_nodes - 1.

    Raises:
        DataError: names the range that was found.
    """
    if arcs.size and not 0 <= arcs.min() <= arcs.max() < num_nodes:
        raise DataError(f"{path}: has vertices {arcs.min()} to {arcs.max()}, outside 0 .. {num_nodes - 1}")


def rows_normalized(x: np.ndarray) -> np.ndarray:
    """Rows (N, F) divided by their sums, where those are above 1: what torch-geometric's NormalizeFeatures does."""
    return x / np.maximum(x.sum(axis=1, keepdims=True), 1)

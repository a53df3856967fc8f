"""Tables of people, visits or cases: numeric and categorical columns and a class to predict, with a fixed split.

What a categorical value's code is, is decided by the training rows alone. Numbers are as they are in the file: scaling
them, by the training rows, is for a paper to do, and so is carving out a validation set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from assay.errors import DataError

if TYPE_CHECKING:
    import torch

MISSING = "?"


class Rows(NamedTuple):
    """N rows: numeric (N, P) float32, NaN where missing; categorical (N, Q) int64 codes; y (N,) int64 classes."""

    numeric: torch.Tensor
    categorical: torch.Tensor
    y: torch.Tensor


class Table(NamedTuple):
    """Training and test rows, and what their columns are.

    Attributes:
        numeric: names of the P numeric columns.
        categories: of each of the Q categorical columns, by name, the values in the order of their codes. Code 0 is
            `?`: missing, or not seen in training. Its length is the size of an embedding.
        classes: names of the classes, in the order of their codes.
    """

    train: Rows
    test: Rows
    numeric: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]
    classes: tuple[str, ...]


def table_of(
    train: Mapping[str, Sequence[str]],
    test: Mapping[str, Sequence[str]],
    *,
    numeric: Sequence[str],
    categorical: Sequence[str],
    target: str,
    classes: Sequence[str],
) -> Table:
    """A table of columns of text, as files have them; `?` is missing.

    Args:
        train, test: name of a column -> its values.
        target: the column to predict; `classes`: its values, in the order of their codes.

    Raises:
        DataError: a number that is none, a class that is not one of `classes`; says where.
    """
    categories = {name: (MISSING, *sorted({*train[name]} - {MISSING})) for name in categorical}
    parts = [
        _rows(part, numeric, categories, target, classes, what) for part, what in ((train, "training"), (test, "test"))
    ]
    return Table(parts[0], parts[1], tuple(numeric), categories, tuple(classes))


def _rows(
    columns: Mapping[str, Sequence[str]],
    numeric: Sequence[str],
    categories: Mapping[str, Sequence[str]],
    target: str,
    classes: Sequence[str],
    what: str,
) -> Rows:
    # Listing data sets must not import torch.
    import torch

    numbers = [_numbers(columns[name], f"{what} row", name) for name in numeric]
    codes = [_codes(columns[name], values) for name, values in categories.items()]
    known = {name: code for code, name in enumerate(classes)}
    for row, value in enumerate(columns[target]):
        if value not in known:
            raise DataError(f"{what} row {row}: {target} is {value!r}, not {' or '.join(classes)}")
    y = [known[value] for value in columns[target]]
    return Rows(
        torch.from_numpy(np.stack(numbers, axis=1)) if numbers else torch.empty(len(y), 0),
        torch.from_numpy(np.stack(codes, axis=1)) if codes else torch.empty(len(y), 0, dtype=torch.int64),
        torch.tensor(y, dtype=torch.int64),
    )


def _numbers(values: Sequence[str], what: str, name: str) -> np.ndarray:
    found = np.empty(len(values), dtype=np.float32)
    for row, value in enumerate(values):
        try:
            found[row] = np.nan if value == MISSING else float(value)
        except ValueError:
            raise DataError(f"{what} {row}: {name} is {value!r}, no number") from None
    return found


def _codes(values: Sequence[str], categories: Sequence[str]) -> np.ndarray:
    known = {value: code for code, value in enumerate(categories)}
    return np.array([known.get(value, 0) for value in values], dtype=np.int64)

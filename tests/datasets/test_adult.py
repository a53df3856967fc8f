"""Tables and Adult: the form always, the genuine file where a mirror has it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import datasets
from assay.errors import DataError
from datasets import sources
from datasets.adult import COLUMNS, load_adult
from datasets.tables import Table, table_of

_MIRROR = os.environ.get("ASSAY_MIRROR")
needs_mirror = pytest.mark.skipif(
    not (_MIRROR and (Path(_MIRROR) / "adult_census").is_dir()),
    reason="Adult comes from upstream or a mirror: set ASSAY_MIRROR",
)
ROW = "39, State-gov, 77516, Bachelors, 13, Never-married, Sales, Not-in-family, White, Male, 2174, 0, 40, ?, <=50K"
TRAIN = {"age": ["30", "?", "50"], "job": ["cook", "?", "baker"], "rich": ["no", "yes", "no"]}
TEST = {"age": ["60"], "job": ["judge"], "rich": ["yes"]}


def table(**columns: list[str]) -> Table:
    return table_of({**TRAIN, **columns}, TEST, numeric=["age"], categorical=["job"], target="rich",
                    classes=["no", "yes"])  # fmt: skip


def test_codes_are_those_of_the_training_rows_and_0_is_missing_or_new() -> None:
    found = table()
    assert found.categories == {"job": ("?", "baker", "cook")}
    assert found.train.categorical.tolist() == [[2], [0], [1]]
    assert found.test.categorical.tolist() == [[0]]
    assert found.train.numeric[[0, 2]].tolist() == [[30], [50]]
    assert found.train.numeric[1].isnan().all()
    assert (found.train.y.tolist(), found.test.y.tolist()) == ([0, 1, 0], [1])
    assert (found.numeric, found.classes) == (("age",), ("no", "yes"))
    assert [t.dtype for t in found.test] == [torch.float32, torch.int64, torch.int64]


def test_nothing_of_training_rests_on_the_test_rows() -> None:
    other = table_of(TRAIN, {"age": ["1", "2"], "job": ["abbot", "cook"], "rich": ["no", "no"]}, numeric=["age"],
                     categorical=["job"], target="rich", classes=["no", "yes"])  # fmt: skip
    assert (other.categories, other.train.categorical.tolist()) == (table().categories, [[2], [0], [1]])
    assert other.test.categorical.tolist() == [[0], [2]]


def test_a_table_may_have_numbers_or_categories_only() -> None:
    options: dict[str, Any] = dict(target="rich", classes=["no", "yes"])
    assert table_of(TRAIN, TEST, numeric=["age"], categorical=[], **options).train.categorical.shape == (3, 0)
    assert table_of(TRAIN, TEST, numeric=[], categorical=["job"], **options).train.numeric.shape == (3, 0)


@pytest.mark.parametrize(("columns", "message"), [
    ({"age": ["30", "old", "50"]}, "training row 1: age is 'old', no number"),
    ({"rich": ["no", "yes", "?"]}, r"training row 2: rich is '\?', not no or yes"),
])  # fmt: skip
def test_what_is_no_number_and_no_class_is_refused(columns: dict[str, list[str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        table(**columns)


@pytest.mark.parametrize("first", ["|1x3 Cross validator", ", ".join(COLUMNS)])
def test_the_first_line_of_the_test_file_and_the_dots_are_left_out(tmp_path: Path, first: str) -> None:
    train, test = tmp_path / "adult.data", tmp_path / "adult.test"
    train.write_text(f"{ROW}\n{ROW.replace('<=', '>')}\n\n")
    test.write_text(f"{first}\n{ROW}.\n")
    found = load_adult(train, test)
    assert (found.train.y.tolist(), found.test.y.tolist()) == ([0, 1], [0])
    assert found.test.numeric.tolist() == [[39, 77516, 13, 2174, 0, 40]]
    assert found.test.categorical.tolist() == [[1] * 7 + [0]]


@pytest.mark.parametrize(("text", "message"), [
    ("", "no rows"),
    (ROW.replace(", 40", ""), "adult.data, line 1: 14 columns, wanted 15"),
    (ROW.replace("39", "old"), "age is 'old', no number"),
    (ROW.replace("<=", "<"), "income is '<50K', not <=50K or >50K"),
])  # fmt: skip
def test_a_damaged_file_is_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    train, test = tmp_path / "adult.data", tmp_path / "adult.test"
    train.write_text(text)
    test.write_text(f"remark\n{ROW}.\n")
    with pytest.raises(DataError, match=message):
        load_adult(train, test)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[None]:
    # Mirror data stays out of the checkout, its cache included.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "CACHE", tmp_path)
        yield


@needs_mirror
def test_adult_is_the_published_one(cache: None) -> None:
    data = datasets.load("adult")
    assert (data.train.numeric.shape, data.test.numeric.shape) == ((32_561, 6), (16_281, 6))
    assert (int(data.train.y.sum()), int(data.test.y.sum())) == (7_841, 3_846)
    assert {name: len(values) - 1 for name, values in data.categories.items()} == {
        "workclass": 8, "education": 16, "marital-status": 7, "occupation": 14, "relationship": 6, "race": 5, "sex": 2,
        "native-country": 41,
    }  # fmt: skip
    incomplete = [int((rows.categorical == 0).any(1).sum()) for rows in (data.train, data.test)]
    assert incomplete == [2_399, 1_221]  # adult.names: 30,162 and 15,060 without unknown values
    assert not data.train.numeric.isnan().any()

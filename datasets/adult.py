"""Adult (Census Income): does a person of the US census of 1994 earn more than 50,000 dollars a year?

The split is UCI's: 32,561 rows to train, 16,281 to test, of which 24.1 % and 23.6 % earn more. 8 columns are
categorical, 6 numeric; 7.4 % of the rows have something missing. `fnlwgt` is no trait of a person but the number of
people that the row stands for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from assay.errors import DataError
from datasets.sources import Dataset, File

if TYPE_CHECKING:
    from datasets.tables import Table

_UCI = "https://archive.ics.uci.edu/ml/machine-learning-databases/adult"
NUMERIC = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")
CATEGORICAL = ("workclass", "education", "marital-status", "occupation", "relationship", "race", "sex",
               "native-country")  # fmt: skip
COLUMNS = ("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship",
           "race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income")  # fmt: skip


def load_adult(train: Path, test: Path) -> Table:
    """48,842 people, classes `<=50K` and `>50K`.

    Raises:
        DataError: a line without 15 columns, a number that is none, a class that is neither; says where.
    """
    # Listing data sets must not import torch, so the table is imported where it is built.
    from datasets.tables import table_of

    # The first line of the test file is a remark, `|1x3 Cross validator`, or in some copies a header.
    return table_of(_columns(train, skip=0), _columns(test, skip=1), numeric=NUMERIC, categorical=CATEGORICAL,
                    target="income", classes=("<=50K", ">50K"))  # fmt: skip


def _columns(path: Path, skip: int) -> dict[str, list[str]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), 1):
        cells = [cell.strip() for cell in line.rstrip(".").split(",")]
        if number <= skip or not line.strip():
            continue
        if len(cells) != len(COLUMNS):
            raise DataError(f"{path}, line {number}: {len(cells)} columns, wanted {len(COLUMNS)}")
        rows.append(cells)
    if not rows:
        raise DataError(f"{path}: no rows")
    return {name: list(column) for name, column in zip(COLUMNS, zip(*rows, strict=True), strict=True)}


DATASETS = {
    "adult": Dataset(
        name="adult",
        description="48,842 people of the US census of 1994, 6 numbers and 8 categories; who earns more than $50,000?",
        licence="CC BY 4.0",
        citation="B. Becker, R. Kohavi, Adult, UCI Machine Learning Repository, 1996, doi:10.24432/C5XW20",
        upstream="https://archive.ics.uci.edu/dataset/2/adult",
        files=(
            File(
                name="adult.data",
                sha256="5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
                size_bytes=3_974_305,
                urls=(f"{_UCI}/adult.data",),
                mirror="adult_census/adult.data",
            ),
            File(
                name="adult.test",
                sha256="a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
                size_bytes=2_003_153,
                urls=(f"{_UCI}/adult.test",),
                mirror="adult_census/adult.test",
                # its first line is a header, and all others are UCI's
                also=(("6c33ef695950e1e8212b1388b81e82bbcb071b5f0cc8235a60c9fb5f1fd91d7d", 2_003_303),),
            ),
        ),
        loader=load_adult,
    ),
}

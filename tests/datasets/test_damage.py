"""Whatever is in a file, `load` gives the data set or a DataError that names the file and what to do."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

import datasets
from assay.errors import DataError

Damage = Callable[[bytes], bytes]


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]


DAMAGES: dict[str, Damage] = {
    "empty": lambda data: b"",
    "a page": lambda data: b"<html>Sign in</html>",
    "random": lambda data: random.Random(0).randbytes(1000),
    "half": lambda data: data[: len(data) // 2],
    "a byte of the head": lambda data: flipped(data, 10),
    "a byte of the middle": lambda data: flipped(data, len(data) // 3),
    "another table": lambda data: b"a,b,c\n1,2\n",
}
MUST_BE_REFUSED = {"empty", "a page", "random", "another table"}
WITH_FILES = [name for name in datasets.names() if datasets.info(name).files]


@pytest.mark.parametrize("name", WITH_FILES)
def test_a_damaged_file_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = datasets.info(name)
    if info.size_bytes > 4_000_000:
        pytest.skip("too large for a try with each kind of damage")
    try:
        whole = datasets.fetch(name)
    except DataError:
        pytest.skip(f"{name} is not here: set ASSAY_MIRROR to a folder that holds it")
    for index, path in enumerate(whole):
        data = path.read_bytes()
        for kind, damage in DAMAGES.items():
            bad = tmp_path / path.name
            bad.write_bytes(damage(data))
            paths = [*whole[:index], bad, *whole[index + 1 :]]
            monkeypatch.setattr(datasets, "fetch", lambda name, paths=paths: paths)
            problem = problem_of(name)
            assert problem is None or bad.name in problem, kind
            assert problem is not None or kind not in MUST_BE_REFUSED, f"{path.name} with {kind}"


def problem_of(name: str) -> str | None:
    try:
        datasets.load(name)
    except DataError as error:
        return str(error)
    return None

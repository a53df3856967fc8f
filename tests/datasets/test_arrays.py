"""Archives of others are read without ever running a pickle, and damage is told from a wrong file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from assay.errors import DataError
from datasets.arrays import check_arcs, check_labels, read_arrays, rows_normalized


class Hostile:
    """Pickles as the shell command `touch <path>`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "some.npz"
    hostile = np.array([Hostile(tmp_path / "victim")], dtype=object)
    np.savez_compressed(path, first=np.arange(1_000), second=np.eye(3), pickled=hostile)
    return path


def test_arrays_come_in_the_order_of_their_names(archive: Path) -> None:
    second, first = read_arrays(archive, ("second", "first"))
    assert np.array_equal(first, np.arange(1_000))
    assert np.array_equal(second, np.eye(3))


def test_a_pickled_entry_does_not_matter_until_it_is_asked_for_and_then_does_not_run(archive: Path) -> None:
    with pytest.raises(DataError, match=r"some\.npz: the array pickled cannot be read: Object arrays"):
        read_arrays(archive, ("first", "pickled"))
    assert not (archive.parent / "victim").exists()


def test_a_name_that_is_missing_is_told_beside_those_that_are_there(archive: Path) -> None:
    with pytest.raises(DataError, match=r"some\.npz: has no array third; it holds first, second, pickled"):
        read_arrays(archive, ("first", "third"))


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    for content in (b"", b"no archive", b"PK\x03\x04 and then nothing"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"some\.npz: not a numpy archive \(\.npz\), or damaged"):
            read_arrays(path, ("first",))
    with path.open("wb") as stream:
        np.save(stream, np.arange(3))
    with pytest.raises(DataError, match="a single array, not a numpy archive"):
        read_arrays(path, ("first",))


def test_a_damaged_entry_is_refused(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    middle = content.index(b"first.npy") + 200
    content[middle : middle + 20] = bytes(20)
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"some\.npz: the array first cannot be read"):
        read_arrays(archive, ("first",))


@pytest.mark.parametrize(
    "labels", [np.array([0, 1]), np.array([0, -1, 1]), np.array([0.0, 1.0, 2.0]), np.zeros((3, 1), dtype=int)]
)
def test_labels_are_one_whole_number_for_each_vertex(labels: np.ndarray) -> None:
    check_labels(np.array([2, 0, 1], dtype=np.int8), 3, Path("file"))
    with pytest.raises(DataError, match=r"file: needs a class 0, 1, \.\.\. for each of 3 vertices"):
        check_labels(labels, 3, Path("file"))


def test_no_vertices_are_no_graph() -> None:
    with pytest.raises(DataError, match="for each of 0 vertices"):
        check_labels(np.array([], dtype=int), 0, Path("file"))


def test_arcs_stay_among_the_vertices() -> None:
    check_arcs(np.array([[0, 2], [1, 0]]), 3, Path("file"))
    check_arcs(np.empty((2, 0), dtype=int), 3, Path("file"))
    with pytest.raises(DataError, match=r"file: has vertices -1 to 3, outside 0 \.\. 2"):
        check_arcs(np.array([[0, 3], [-1, 0]]), 3, Path("file"))


def test_normalised_rows_sum_to_one_unless_they_sum_to_less() -> None:
    rows = np.array([[1, 1, 2], [0, 0, 0], [0.25, 0.25, 0]], dtype=np.float32)
    assert np.array_equal(rows_normalized(rows), np.float32([[0.25, 0.25, 0.5], [0, 0, 0], [0.25, 0.25, 0]]))

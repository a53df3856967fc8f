"""Small images: sizes, ranges, splits; the IDX format always, the genuine Fashion-MNIST where a mirror has it."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import datasets
from assay.errors import DataError
from datasets import sources
from datasets.images import load_fashion_mnist, load_mnist_5k, read_idx

_MIRROR = os.environ.get("ASSAY_MIRROR")
needs_mirror = pytest.mark.skipif(
    not (_MIRROR and (Path(_MIRROR) / "fashion_mnist").is_dir()),
    reason="Fashion-MNIST comes from upstream or a mirror: set ASSAY_MIRROR",
)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[None]:
    # Mirror data stays out of the checkout, its cache included.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "CACHE", tmp_path)
        yield


def idx(path: Path, array: np.ndarray) -> Path:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())
    return path


@pytest.mark.parametrize(("name", "train", "test", "side"), [("digits", 1198, 599, 8), ("mnist_5k", 4000, 1000, 28)])
def test_images_without_a_split_of_their_own_are_split_by_class(name: str, train: int, test: int, side: int) -> None:
    data = datasets.load(name)
    assert data.train_x.shape == (train, 1, side, side)
    assert data.test_x.shape == (test, 1, side, side)
    assert data.train_x.dtype == torch.float32
    assert (float(data.train_x.min()), float(data.train_x.max())) == (0, 1)
    shares = [torch.bincount(y, minlength=10) / len(y) for y in (data.train_y, data.test_y)]
    torch.testing.assert_close(*shares, rtol=0, atol=1e-3)


def test_another_split_redraws_and_the_same_repeats() -> None:
    first, again, other = (datasets.load("digits", split=split) for split in (0, 0, 1))
    assert torch.equal(first.train_x, again.train_x)
    assert not torch.equal(first.train_x, other.train_x)
    total = first.train_x.sum() + first.test_x.sum()
    torch.testing.assert_close(other.train_x.sum() + other.test_x.sum(), total)


def test_a_digit_looks_like_its_class() -> None:
    # The nearest class mean finds about nine of ten digits, so pixels and classes go together.
    for data in (datasets.load("digits"), datasets.load("mnist_5k")):
        means = torch.stack([data.train_x[data.train_y == digit].mean(0) for digit in range(10)]).flatten(1)
        found = torch.cdist(data.test_x.flatten(1), means).argmin(1)
        assert (found == data.test_y).float().mean() > 0.75


def test_idx_files_are_read(tmp_path: Path) -> None:
    pictures, classes = np.arange(2 * 3 * 4).reshape(2, 3, 4) * 10, np.array([7, 3])
    x, y = idx(tmp_path / "x", pictures), idx(tmp_path / "y", classes)
    data = load_fashion_mnist(x, y, x, y)
    np.testing.assert_allclose(data.train_x[:, 0], pictures / 255, rtol=1e-6)
    assert data.test_y.tolist() == [7, 3]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content[:-1], "cut short"),
        (lambda content: content[:9], "cut short"),
        (lambda content: b"\x1f\x8b" + content[2:], "not an IDX file of bytes: it begins with 1f 8b"),
        (lambda content: b"", "begins with nothing"),
    ],
)
def test_a_damaged_idx_file_is_refused(tmp_path: Path, damage, said: str) -> None:
    path = idx(tmp_path / "x", np.zeros((2, 3, 4)))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=said):
        read_idx(path)


def test_pictures_and_classes_that_differ_in_number_are_refused(tmp_path: Path) -> None:
    x, y = idx(tmp_path / "x", np.zeros((2, 3, 4))), idx(tmp_path / "y", np.zeros(3))
    with pytest.raises(DataError, match=r"shape \(2, 3, 4\) does not go with \(3,\)"):
        load_fashion_mnist(x, y, x, y)


def test_a_table_of_another_width_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mnist.csv"
    path.write_text("0,1,2\n3,4,5\n")
    with pytest.raises(DataError, match="3 columns, wanted 784 pixels and the class"):
        load_mnist_5k(path)


@needs_mirror
def test_fashion_mnist_is_the_official_one(cache: None) -> None:
    data = datasets.load("fashion_mnist")
    assert data.train_x.shape == (60_000, 1, 28, 28)
    assert data.test_x.shape == (10_000, 1, 28, 28)
    assert torch.bincount(data.train_y).tolist() == [6_000] * 10
    # The mean and deviation that the field normalises by.
    assert (round(float(data.train_x.mean()), 3), round(float(data.train_x.std()), 3)) == (0.286, 0.353)

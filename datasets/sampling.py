"""What the generators of random graphs share: joined pairs in time of their number, features, splits."""

from __future__ import annotations

import numpy as np

from assay.errors import DataError


def successes(rng: np.random.Generator, trials: int, probability: float) -> np.ndarray:
    """The places (ascending) of the successes among independent trials, in time and memory of their number.

    The gaps between successes are geometric, so the trials themselves need not be made.
    """
    if trials == 0 or probability == 0:
        return np.empty(0, dtype=np.int64)
    found, last = [], -1
    while last < trials:
        expected = (trials - last) * probability
        gaps = rng.geometric(probability, size=int(expected + 4 * expected**0.5) + 10)
        # A gap of more than all trials is the end; uncut, those of a tiny probability would overflow the sum.
        found.append(last + np.cumsum(np.minimum(gaps, trials + 1)))
        last = int(found[-1][-1])
    places = np.concatenate(found)
    return places[: np.searchsorted(places, trials)]


def pair_of(k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The k-th pair (i, j) with i > j in the order (1, 0), (2, 0), (2, 1), (3, 0), ...: k = i (i - 1) / 2 + j.

    Exact for i up to 2^25, where 8 k + 1 is below 2^53.
    """
    i = ((1 + np.sqrt(1 + 8 * k.astype(np.float64))) / 2).astype(np.int64)
    return i, k - i * (i - 1) // 2


def class_features(
    rng: np.random.Generator, y: np.ndarray, num_classes: int, num_features: int, signal: float
) -> np.ndarray:
    """Features signal * m_class / sqrt(F) + noise: (N, F) float32; entries of means and noise are N(0, 1).

    Two classes are about signal * sqrt(2) apart, in units of the noise along that line and whatever the width F.

    Raises:
        DataError: no features.
    """
    if num_features < 1:
        raise DataError(f"generated graph: num_features must be 1 or more; got {num_features}")
    means = rng.standard_normal((num_classes, num_features), dtype=np.float32)
    x = rng.standard_normal((len(y), num_features), dtype=np.float32)
    x += np.float32(signal / num_features**0.5) * means[y]
    return x


def split_by_class(rng: np.random.Generator, y: np.ndarray, num_classes: int, train: float, val: float) -> np.ndarray:
    """Masks (3, N) of training, validation and test: as many vertices of each class.

    Args:
        rng: source of the draw.
        y: (N,) classes, all of one size.
        num_classes: C.
        train, val: shares of the vertices of a class.

    Raises:
        DataError: shares that leave nothing to train or to test on.
    """
    per_class = len(y) // num_classes
    num_train, num_val = round(train * per_class), round(val * per_class)
    if num_train < 1 or num_val < 0 or num_train + num_val >= per_class:
        raise DataError(
            f"generated graph: train={train} and val={val} of {per_class} vertices a class are {num_train} and "
            f"{num_val}; needs at least one for training, and one that is left for testing"
        )
    shuffled = rng.permutation(len(y))
    by_class = shuffled[np.argsort(y[shuffled], kind="stable")].reshape(num_classes, per_class)
    masks = np.zeros((3, len(y)), dtype=bool)
    for mask, nodes in zip(masks, np.split(by_class, [num_train, num_train + num_val], axis=1), strict=True):
        mask[nodes] = True
    return masks

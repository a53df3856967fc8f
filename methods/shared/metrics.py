"""Scores of predictions, the same for every paper: a score that is not finite never wins, and ties are not luck.

Every function raises ValueError where a score is NaN or infinite, saying how many of how many are: a diverged model
has no area under a curve. Equal scores get what a random order of them gets on average, so that constant scores have an
area under the ROC curve of 1/2 and an average precision of the share of positives.
"""

from __future__ import annotations

import torch
from torch import Tensor


def require_finite(scores: Tensor, name: str = "scores") -> None:
    """Raises ValueError if an entry is NaN or infinite."""
    bad = scores.numel() - int(torch.isfinite(scores).sum())
    if bad:
        raise ValueError(f"{name}: {bad} of {scores.numel()} are NaN or infinite; their model has diverged")


def roc_auc(y: Tensor, score: Tensor) -> float:
    """Probability that a positive scores above a negative; ties count one half.

    Args:
        y: (m,) bool, or 1 for a positive and 0 for a negative. score: (m,).

    Raises:
        ValueError: shapes differ, another label, a score that is not finite, or labels of one class only, which
            have no curve.
    """
    from sklearn.metrics import roc_auc_score  # takes a second, which those who ask for no score need not wait

    return float(roc_auc_score(*_two_classes(y, score)))


def average_precision(y: Tensor, score: Tensor) -> float:
    """Area under the precision-recall curve as a step function; equal scores are one step.

    Args, Raises: as `roc_auc`.
    """
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(*_two_classes(y, score)))


def f1(y: Tensor, score: Tensor) -> float:
    """Harmonic mean of precision and recall of the class y (m,), said where score (m,) > 0; 0 where it never occurs.

    Raises:
        ValueError: shapes differ, another label, or a score that is not finite.
    """
    true, _ = _labelled(y, score)
    return _f1(true, score > 0)


def macro_f1(y: Tensor, scores: Tensor) -> float:
    """Mean F1 of the C classes; said is the one with the highest score.

    Args:
        y: (m,) int64 in 0 .. C - 1. scores: (m, C).

    Raises:
        ValueError: shapes do not fit, a class out of range, or a score that is not finite.
    """
    if scores.dim() != 2 or y.shape != scores.shape[:1]:
        raise ValueError(f"macro_f1: y is {tuple(y.shape)} and scores {tuple(scores.shape)}; expected (m,) and (m, C)")
    classes = scores.shape[1]
    if bool(((y < 0) | (y >= classes)).any()):
        raise ValueError(f"macro_f1: classes {int(y.min())} .. {int(y.max())} for scores of {classes} classes")
    require_finite(scores)
    said = scores.argmax(1)
    return sum(_f1(y == c, said == c) for c in range(classes)) / classes


def relevance_by_rank(scores: Tensor, relevant: Tensor, top: int, allowed: Tensor | None = None) -> Tensor:
    """Probability that the item at each of the first `top` ranks is relevant, equal scores being in random order.

    Hits, precision, recall and DCG are sums along it, so their expected values follow.

    Args:
        scores: (rows, items). relevant: (rows, items) bool. allowed: (rows, items) bool, the items that are ranked at
            all, the others never being relevant; None for all.

    Returns:
        (rows, min(top, items)) float64.

    Raises:
        ValueError: shapes differ, or the score of an allowed item is not finite.
    """
    if not scores.shape == relevant.shape == (relevant if allowed is None else allowed).shape or scores.dim() != 2:
        raise ValueError(f"relevance_by_rank: scores are {tuple(scores.shape)} and relevant {tuple(relevant.shape)}")
    require_finite(scores if allowed is None else scores[allowed])
    if allowed is not None:
        scores, relevant = scores.masked_fill(~allowed, -torch.inf), relevant & allowed
    ordered, order = scores.sort(dim=1, descending=True)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    block = starts.flatten().cumsum(0) - 1  # equal scores of a row are one block
    share = torch.bincount(block, relevant.gather(1, order).flatten().double()) / torch.bincount(block)
    return share[block].view(scores.shape)[:, :top]


def _f1(true: Tensor, said: Tensor) -> float:
    return float(2 * (true & said).sum() / (true.sum() + said.sum()).clamp(min=1))


def _labelled(y: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
    if y.shape != score.shape or y.dim() != 1:
        raise ValueError(f"labels are {tuple(y.shape)} and scores {tuple(score.shape)}; expected (m,) and (m,)")
    true = y == 1
    if bool((true != (y != 0)).any()):
        raise ValueError(f"labels: {sorted(set(y.tolist()))[:5]}; expected 0 and 1, or a boolean mask")
    require_finite(score)
    return true, score.detach().double()


def _two_classes(y: Tensor, score: Tensor) -> tuple[object, object]:
    true, score = _labelled(y, score)
    positive = int(true.sum())
    if positive in (0, len(y)):
        raise ValueError(f"labels: {positive} of {len(y)} are positive; an area under a curve needs both classes")
    return true.cpu().numpy(), score.cpu().numpy()

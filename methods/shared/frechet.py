"""The Frechet distance between the features of two sets of samples."""

from __future__ import annotations

import torch
from torch import Tensor


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Frechet distance between Gaussians fitted to features x (N, F) and y (M, F).

    |mean_x - mean_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^1/2). It is biased upwards where N is small: compare at one N.
    NaN where a feature is not finite. It is FID with an Inception network's features alone; in features of another
    network its values compare with no published FID.
    """
    if not bool(x.isfinite().all() and y.isfinite().all()):
        return torch.nan
    x, y = x.double(), y.double()
    c_x, c_y = x.T.cov(), y.T.cov()
    values, vectors = torch.linalg.eigh(c_x)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ c_y @ root).clamp(min=0).sqrt().sum()
    return float((x.mean(dim=0) - y.mean(dim=0)).square().sum() + c_x.trace() + c_y.trace() - 2 * cross)

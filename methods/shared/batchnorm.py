"""Fresh batch statistics for a network whose weights were changed after training: pruned, cut, averaged or merged."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def recalibrate_batch_norm(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace running statistics by the mean over batches (n, ...) of the batches' own. Without batch norm: nothing.

    Raises ValueError where there is no batch.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    batches = list(batches)
    if not batches:
        raise ValueError("recalibrate_batch_norm: without a batch there are no statistics")
    before, training = [m.momentum for m in norms], model.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    for x in batches:
        model(x)
    model.train(training)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum

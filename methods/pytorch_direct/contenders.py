"""The contenders: ways in which rows of a table in host memory come to a device. They have nothing to tune."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from assay.contenders import Contender
from methods.pytorch_direct.baselines import Resident, Staged, StagedPinned
from methods.pytorch_direct.pytorch_direct import UnifiedTensor
from methods.pytorch_direct.training import Rows

# Method -> how its kernel maps threads to elements. `direct_prefetched` is `direct`, one batch ahead in training.
MAPPING = {"direct": "shift", "direct_naive": "naive", "direct_rowaligned": "rowaligned", "direct_prefetched": "shift"}
BASELINES = ("staged", "staged_pinned", "resident")


def _unified(mapping: str) -> Callable[[Tensor, torch.device], Rows]:
    return lambda features, device: UnifiedTensor(features, device, mapping)


CONTENDERS = {
    **{name: Contender(_unified(mapping)) for name, mapping in MAPPING.items()},
    "staged": Contender(Staged),
    "staged_pinned": Contender(StagedPinned),
    "resident": Contender(Resident),
}
"""Name on the card -> `build(features (N, F), device)`, which gives rows by `way[index]` and `gather_into`."""


def way_of(name: str, features: Tensor, device: torch.device) -> Rows:
    """A method's way to gather `features` (N, F)."""
    return CONTENDERS[name].build(features, device)

"""Canaries: calls that run no code of ours, so that they slow down only where the machine or torch does.

Three, for three limits of a machine: arithmetic, memory, and the cost of starting an operation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Call = Callable[[], object]
PREFIX = "canary."


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def matmul() -> Call:
    """Product of two square matrices, float32: 256 wide on a CPU, 4096 on a GPU, a few ms or less on either."""
    width = 4096 if _device() == "cuda" else 256
    a, b = torch.randn(2, width, width, device=_device())
    return lambda: a @ b


def memcpy() -> Call:
    """Copy of 16 MiB on a CPU, beyond most caches, or of 256 MiB on a GPU."""
    source = torch.ones(2**26 if _device() == "cuda" else 2**22, device=_device())
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def launch() -> Call:
    """One addition to one number: all that it costs is to start it."""
    number = torch.zeros(1, device=_device())
    return lambda: number.add_(1)


CANARIES: dict[str, Callable[[], Call]] = {f"{PREFIX}{f.__name__}": f for f in (matmul, memcpy, launch)}

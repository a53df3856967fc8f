"""The other ways to bring scattered rows of host memory to a device. All gather alike: `path[index]`, `gather_into`.

    staged          what a script without a thought for it does: X[index].to(device)
    staged_pinned   what a careful user does: a staging buffer, kept and page-locked, and a copy that does not wait
    resident        the features live on the device: the bound that nothing from host memory can beat

`traffic` counts what each leg moves. Where the device is the CPU itself, there is no link: the legs are passes over
memory, and the destination stands for the device's memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from methods.pytorch_direct.requests import Traffic


class Path(ABC):
    """Rows of `features` (N, ...), on the CPU, to a device."""

    def __init__(self, features: Tensor, device: torch.device | str) -> None:
        self.features, self.device, self.traffic = features, torch.device(device), Traffic()

    @property
    def shape(self) -> torch.Size:
        return self.features.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.features.dtype

    def __getitem__(self, index: Tensor) -> Tensor:
        """The rows of `index`, (n,) int64 on the CPU, in new memory of the device: (n, ...)."""
        out = torch.empty((len(index), *self.shape[1:]), dtype=self.dtype, device=self.device)
        return self.gather_into(out, index)

    @abstractmethod
    def gather_into(self, out: Tensor, index: Tensor) -> Tensor:
        """The same, into `out`, on the device's current stream; returns `out`."""


class Staged(Path):
    """Gather on the CPU into fresh memory, then copy: the paper's CPU-centric path (`Py`)."""

    def gather_into(self, out: Tensor, index: Tensor) -> Tensor:
        stage = self.features[index]
        self.traffic.add(host=2 * stage.nbytes, link=0)  # rows read, buffer written
        self.traffic.add(host=stage.nbytes, link=stage.nbytes)  # buffer read by the copy
        return out.copy_(stage)


class StagedPinned(Path):
    """Gather on the CPU into a buffer that is kept, page-locked where there is a GPU, and copy without waiting."""

    def __init__(self, features: Tensor, device: torch.device | str) -> None:
        super().__init__(features, device)
        self._buffer = features.new_empty((0, *features.shape[1:]))
        self._copied: torch.cuda.Event | None = None

    def gather_into(self, out: Tensor, index: Tensor) -> Tensor:
        if self._copied is not None:
            self._copied.synchronize()  # the last copy may still read the buffer
        if len(self._buffer) < len(index):
            shape = (len(index), *self.shape[1:])
            self._buffer = torch.empty(shape, dtype=self.dtype, pin_memory=out.is_cuda)
        stage = self._buffer[: len(index)]
        torch.index_select(self.features, 0, index, out=stage)
        self.traffic.add(host=2 * stage.nbytes, link=0)
        self.traffic.add(host=stage.nbytes, link=stage.nbytes)
        out.copy_(stage, non_blocking=True)
        if out.is_cuda:
            self._copied = torch.cuda.Event()
            self._copied.record()
        return out


class Resident(Path):
    """All features in the device's memory; only the index travels."""

    def __init__(self, features: Tensor, device: torch.device | str) -> None:
        super().__init__(features, device)
        self._resident = features.to(self.device)

    def gather_into(self, out: Tensor, index: Tensor) -> Tensor:
        self.traffic.add(host=8 * len(index), link=8 * len(index))
        return torch.index_select(self._resident, 0, index.to(self.device), out=out)

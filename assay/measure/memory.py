"""Peak memory: exact bytes of live tensors on a CPU, the allocator's peak on a GPU, and a process's resident
peak.

Why not the resident set on a CPU: malloc keeps freed pages, libraries and earlier steps stay mapped, so a
method's own peak drowns in history. Counting the storages that are alive is exact, repeatable to the byte,
and what papers mean by activation, gradient and optimiser memory.
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from assay.errors import JobError


@dataclass(frozen=True)
class PeakMemory:
    """bytes: the peak. kind: "live tensors" (CPU, exact) or "allocator" (CUDA, in the allocator's rounding)."""

    bytes: int
    kind: Literal["live tensors", "allocator"]


def live_tensor_peak(
    fn: Callable[..., object],
    *args: object,
    include: Iterable[torch.Tensor | torch.nn.Module] = (),
    device: torch.device | str | None = None,
) -> PeakMemory:
    """Run `fn(*args)` once and return the peak of the memory of the tensors it creates.

    fn: builds what is to be counted inside itself (model, optimiser, one step). include: tensors and modules
    that exist already and count as well, gradients of parameters included. device: a CUDA device reads the
    caching allocator instead, minus what was allocated before.

    On a CPU a storage counts from the operation that made it until its last reference is gone: views and
    in-place operations share their storage and count once; tensors saved for the backward pass are alive; the
    backward pass runs in the calling thread and is seen; a storage that existed before counts only by what
    `resize_` adds to it.

    What it does not see: workspace inside a kernel (it is no tensor), work in other threads or in code
    compiled by `torch.compile`, memory that torch only borrows (`from_numpy`) or maps (`torch.load`), and
    `untyped_storage().resize_()` until the next operation on that tensor. It slows each operation several
    times: never time what it watches.

    Raises JobError for tensors whose storage cannot be reached (mkldnn).
    """
    gc.collect()
    if torch.device(device or "cpu").type == "cuda":
        return _allocator_peak(fn, args, include, device)
    recorder = _LiveStorages()
    recorder.track(_tensors_of(include))
    with _storage_copies_seen_by(recorder), recorder:
        fn(*args)
    return PeakMemory(recorder.peak, "live tensors")


class _LiveStorages(TorchDispatchMode):
    """Keeps the sum of the bytes of live storages, and its peak, across the operations that run inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._counted: dict[int, int] = {}  # storage -> its bytes in `live`
        self._before: dict[int, int] = {}  # storage -> its bytes before fn, which do not count

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # torch.tensor([...]) fills its storage unseen; lift_fresh is the first that is seen of it
        fresh = func is torch.ops.aten.lift_fresh.default
        inputs = [] if fresh else list(tree_iter((args, kwargs)))
        self.track(inputs, existed=True)
        result = func(*args, **(kwargs or {}))
        self.track(tree_iter(result))
        return result

    def track(self, values: Iterable[object], *, existed: bool = False) -> None:
        for value in values:
            if isinstance(value, torch.Tensor | torch.UntypedStorage):
                for storage in _cpu_storages(value):
                    self._track_storage(storage, existed)

    def _track_storage(self, storage: torch.UntypedStorage, existed: bool) -> None:
        # The Python object of a storage lives as long as its memory: its id and a finalizer stand for that
        # memory.
        key, size = id(storage), storage.nbytes()
        if key not in self._counted:
            self._counted[key] = 0
            self._before[key] = size if existed else 0
            weakref.finalize(storage, self._release, key).atexit = False
        counts = max(0, size - self._before[key])
        self.live += counts - self._counted[key]
        self._counted[key] = counts
        self.peak = max(self.peak, self.live)

    def _release(self, key: int) -> None:
        self.live -= self._counted.pop(key)
        del self._before[key]


def _cpu_storages(tensor: torch.Tensor | torch.UntypedStorage) -> list[torch.UntypedStorage]:
    if tensor.device.type != "cpu":
        return []
    if isinstance(tensor, torch.UntypedStorage):
        return [tensor]
    if tensor.layout == torch.strided:
        parts = [tensor]
    elif tensor.layout == torch.sparse_coo:
        parts = [tensor._indices(), tensor._values()]
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        parts = [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        parts = [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    else:
        raise JobError(
            f"live_tensor_peak: a tensor of layout {tensor.layout} hides its storage; "
            "convert it with `to_dense()` or measure `rss_bytes()` in a fresh process"
        )
    return [part.untyped_storage() for part in parts]


def _tensors_of(include: Iterable[torch.Tensor | torch.nn.Module]) -> Iterator[torch.Tensor]:
    for item in include:
        tensors = [item] if isinstance(item, torch.Tensor) else [*item.parameters(), *item.buffers()]
        for tensor in tensors:
            yield tensor
            if tensor.is_leaf and tensor.grad is not None:
                yield tensor.grad


@contextmanager
def _storage_copies_seen_by(recorder: _LiveStorages) -> Iterator[None]:
    """`copy.deepcopy` of a tensor copies its storage below any operation, so the copy itself is watched."""
    inherited = torch.UntypedStorage.clone

    def clone(storage: torch.UntypedStorage) -> torch.UntypedStorage:
        recorder.track([storage], existed=True)
        with torch.utils._python_dispatch._disable_current_modes():
            copy = inherited(storage)
        recorder.track([copy])
        return copy

    torch.UntypedStorage.clone = clone  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        del torch.UntypedStorage.clone  # the inherited one shows again


def _allocator_peak(
    fn: Callable[..., object],
    args: tuple[object, ...],
    include: Iterable[torch.Tensor | torch.nn.Module],
    device: torch.device | str | None,
) -> PeakMemory:
    included = {id(s): s.nbytes() for t in _tensors_of(include) if t.is_cuda for s in [t.untyped_storage()]}
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    fn(*args)
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device) - before
    return PeakMemory(peak + sum(included.values()), "allocator")


def rss_bytes() -> int:
    """Peak resident set of this process, bytes. It never falls: it says something only in a fresh process.

    Linux: VmHWM of /proc/self/status. Not `getrusage`: its peak survives exec, so that a small program
    started by a big one reports the big one's memory.
    """
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise JobError("rss_bytes: /proc/self/status has no VmHWM line; run on a kernel that keeps it")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

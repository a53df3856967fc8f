"""PyTorch-Direct: a GPU reads the rows it needs from host memory by itself (Min et al., 2021, arXiv 2101.07956).

The features of a large graph stay in host memory, and every mini-batch needs a few thousand rows scattered over them.
The usual path is the CPU's: gather the rows into a staging buffer, then copy the buffer to the GPU. Host memory is
touched three times for each useful byte (read the row, write the buffer, read the buffer), and cores are busy:

    staged    U = n S useful bytes    host memory: 3 U          link: U                                   (n rows of S)
    direct                            host memory: U + 8 n      link: up to 128 bytes x requests, at least U + 8 n

PyTorch-Direct sends the GPU only the n indices, 8 bytes each. A kernel reads the rows through the address that
page-locked host memory has on the GPU ("zero-copy"), and writes them to GPU memory: no staging, no CPU work. Thousands
of warps in flight hide the latency of the link, so it can be kept full although the rows are scattered. What is left
to lose is alignment: rows that do not begin on a line of 128 bytes cost nearly two requests a warp, which a circular
shift of the columns mends (`kernels.py`, counted in `requests.py`).

To its user it is a tensor in another place, so that a training script changes by two lines:

    features = UnifiedTensor(features)      # was: a tensor on the CPU
    x = features[nodes]                     # a tensor on the GPU; was: features[nodes].to("cuda")

What is ours. The paper patches PyTorch with a new place for tensors; here a class holds the CPU tensor, page-locks the
same memory in place, and keeps it alive (the paper's alias dangles when the CPU tensor dies). Operators other than
gathering go through `alias`, an ordinary CUDA tensor over the host memory. Without a GPU the device is the CPU, and
the same calls gather in one pass; without Triton, torch's own kernel reads through the alias.
"""

from __future__ import annotations

import warnings
import weakref
from contextlib import suppress
from types import TracebackType

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.pytorch_direct.kernels import MAPPINGS, can_run, gather, gather_twin
from methods.pytorch_direct.requests import Traffic
from methods.shared.checks import check_option


class UnifiedTensor:
    """A CPU tensor whose rows a GPU gathers by itself.

    Nothing is copied: the tensor's own memory is page-locked (`cudaHostRegister`), so what is written to the CPU tensor
    later is seen here, and the other way round once the GPU is done. The tensor is held for as long as this object
    lives; `close`, the end of a `with` block or the object's end unlock the memory. Where the memory cannot be locked
    (`ulimit -l`, or pages that are locked already) a page-locked copy is made instead, with a warning: then `cpu()` is
    that copy. Memory that is page-locked already is used as it is; whoever locked it must leave it so.

    Args:
        tensor: (N, ...) contiguous, on the CPU, without gradient; 1, 2, 4 or 8 bytes an element.
        device: where rows go; by default the current GPU, or the CPU where there is none.
        mapping: of threads to columns, one of `kernels.MAPPINGS`; the result is the same.

    Raises:
        TypeError: not a tensor.
        ValueError: a tensor that is not as said above, or an unknown mapping.
    """

    def __init__(self, tensor: Tensor, device: torch.device | str | None = None, mapping: str = "shift") -> None:
        _check_source(tensor)
        check_option("UnifiedTensor", "mapping", mapping, MAPPINGS)
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = _indexed(torch.device(device))
        check_option("UnifiedTensor", "device", self.device.type, ("cuda", "cpu"))
        self.mapping = mapping
        self.traffic = Traffic()
        self._tensor, registered = _page_locked(tensor, self.device)
        # the finalizer holds the tensor too, so the memory outlives its registration
        self._release = weakref.finalize(self, _unlock, self._tensor, self.device, registered)

    @property
    def shape(self) -> torch.Size:
        return self._tensor.shape

    @property
    def dtype(self) -> torch.dtype:
        return self._tensor.dtype

    @property
    def closed(self) -> bool:
        return not self._release.alive

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        state = ", closed" if self.closed else ""
        return f"UnifiedTensor(shape={tuple(self.shape)}, dtype={self.dtype}, device={self.device}{state})"

    def cpu(self) -> Tensor:
        """The CPU tensor itself, no copy."""
        return self._tensor

    @property
    def alias(self) -> Tensor:
        """The same memory as a tensor of the device, for all other operators: their results are on the device.

        Writing to it is writing to the CPU tensor, visible there once the device is done. It keeps this object alive,
        but must not be used after `close`.
        """
        self._check_open()
        if self.device.type == "cpu" or self._tensor.numel() == 0:
            return self._tensor.to(self.device)
        with torch.cuda.device(self.device):
            memory = torch.as_tensor(_DeviceBytes(self), device=self.device)
        return memory.view(self.dtype).view(self.shape)

    def __getitem__(self, index: Tensor) -> Tensor:
        """The rows of `index`, on the device: see `index_select`."""
        return self.index_select(0, index)

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Gather rows: (n, ...) on the device.

        Args:
            dim: 0, the rows.
            index: (n,) int64 in [0, N), on the CPU or on the device; repetitions are welcome. An index on the CPU is
                checked. One on a GPU is not, for that would wait for the GPU: out of range, it reads foreign memory or
                stops the kernel with an illegal address. `TRITON_DEBUG=1` checks it there.

        Raises:
            TypeError, ValueError, IndexError: an index that is not as said above.
            RuntimeError: the tensor is closed.
        """
        if dim not in (0, -len(self.shape)):
            raise ValueError(f"UnifiedTensor.index_select: dim={dim}; only rows can be gathered, dim=0")
        _check_index(index)
        out = torch.empty((len(index), *self.shape[1:]), dtype=self.dtype, device=self.device)
        return self.gather_into(out, index)

    def gather_into(self, out: Tensor, index: Tensor) -> Tensor:
        """Gather rows into memory of the device, on its current stream; returns `out`.

        Args:
            out: (n, ...) contiguous, on the device, of this tensor's type.
            index: as for `index_select`.

        Raises:
            as `index_select`; ValueError: an `out` that is not as said above.
        """
        self._check_open()
        _check_index(index)
        wanted = (len(index), *self.shape[1:])
        if (
            tuple(out.shape) != wanted
            or out.dtype != self.dtype
            or out.device != self.device
            or not out.is_contiguous()
        ):
            raise ValueError(
                f"UnifiedTensor.gather_into: out must be contiguous {self.dtype} {wanted} on {self.device}; got "
                f"{out.dtype} {tuple(out.shape)} on {out.device} with strides {out.stride()}"
            )
        moved = out.nbytes + (0 if index.is_cuda else 8 * len(index))
        self.traffic.add(host=moved, link=moved)
        index = self._on_device(index)
        if out.numel() == 0:
            return out
        if can_run(out):
            gather(self._tensor.view(len(self), -1), index, out.view(len(out), -1), self.mapping)
        else:
            gather_twin(self.alias, index, out)
        return out

    def __setitem__(self, index: Tensor, rows: Tensor) -> None:
        """Scatter rows (n, ...) into the host memory through the alias; of equal indices any one may win.

        Raises as `index_select`; ValueError: rows of another shape or type.
        """
        self._check_open()
        _check_index(index)
        if not isinstance(rows, Tensor) or rows.dtype != self.dtype or rows.shape != (len(index), *self.shape[1:]):
            given = f"{rows.dtype} {tuple(rows.shape)}" if isinstance(rows, Tensor) else type(rows).__name__
            raise ValueError(f"UnifiedTensor: rows must be {self.dtype} {(len(index), *self.shape[1:])}; got {given}")
        self.alias.index_copy_(0, self._on_device(index), rows.to(self.device))

    def close(self) -> None:
        """Unlock the memory, after the GPU is done. Closing again does nothing; `cpu()` still works."""
        self._release()

    def __enter__(self) -> UnifiedTensor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self.closed:
            raise RuntimeError("UnifiedTensor: it is closed, its memory is no longer page-locked; wrap the tensor anew")

    def _on_device(self, index: Tensor) -> Tensor:
        if index.is_cuda:
            if index.device != self.device:
                raise ValueError(f"UnifiedTensor: the index is on {index.device}, rows go to {self.device}")
            return index.contiguous()
        if len(index):
            low, high = (int(end) for end in index.aminmax())
            if low < 0 or high >= len(self):
                raise IndexError(f"UnifiedTensor: the index runs from {low} to {high}; rows are 0 to {len(self) - 1}")
        if self.device.type == "cpu":
            return index.contiguous()
        # from page-locked memory, so that the CPU waits neither for the copy nor for the stream
        return index.contiguous().pin_memory().to(self.device, non_blocking=True)


def _check_source(tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"UnifiedTensor: wants a tensor on the CPU, not {type(tensor).__name__}")
    if tensor.device.type != "cpu":
        raise ValueError(f"UnifiedTensor: the tensor is on {tensor.device}; it is for host memory: pass tensor.cpu()")
    if tensor.layout != torch.strided:
        raise ValueError(f"UnifiedTensor: a tensor of layout {tensor.layout} has no rows in memory; pass it dense")
    if tensor.dim() == 0 or not tensor.is_contiguous():
        raise ValueError(
            f"UnifiedTensor: rows of {tuple(tensor.shape)} with strides {tensor.stride()} are not contiguous; "
            "pass tensor.contiguous()"
        )
    if tensor.requires_grad:
        raise ValueError("UnifiedTensor: gathering has no gradient; pass tensor.detach()")
    if tensor.element_size() > 8:
        raise ValueError(f"UnifiedTensor: {tensor.dtype} has more than 8 bytes an element; pass torch.view_as_real")


def _check_index(index: Tensor) -> None:
    if not isinstance(index, Tensor) or index.dtype != torch.int64:
        kind = index.dtype if isinstance(index, Tensor) else type(index).__name__
        raise TypeError(f"UnifiedTensor: an index is a tensor of int64, not {kind}")
    if index.dim() != 1:
        raise ValueError(f"UnifiedTensor: an index has one dimension, not the shape {tuple(index.shape)}")


def _indexed(device: torch.device) -> torch.device:
    """With its number, as tensors say it."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _page_locked(tensor: Tensor, device: torch.device) -> tuple[Tensor, bool]:
    """The tensor in page-locked memory, and whether it was locked here; on the CPU there is nothing to lock."""
    if device.type != "cuda" or tensor.numel() == 0 or tensor.is_pinned():
        return tensor, False
    with torch.cuda.device(device):
        code = int(torch.cuda.cudart().cudaHostRegister(tensor.data_ptr(), tensor.nbytes, 0))
        if code == 0:
            return tensor, True
        with suppress(RuntimeError):
            torch.zeros(1, device=device)  # CUDA keeps the error for the next call: let this one have it
        warnings.warn(
            f"UnifiedTensor: {tensor.nbytes:,} bytes cannot be page-locked in place (CUDA error {code}; see "
            "`ulimit -l`); a page-locked copy is made: it takes up to twice the memory, and later writes to the "
            "original are not seen",
            stacklevel=3,
        )
        return tensor.pin_memory(), False


def _unlock(tensor: Tensor, device: torch.device, registered: bool) -> None:
    if registered:
        torch.cuda.synchronize(device)  # a kernel may still be reading
        torch.cuda.cudart().cudaHostUnregister(tensor.data_ptr())


class _DeviceBytes:
    """A page-locked tensor's bytes as CUDA libraries exchange them: such a page has one address for CPU and GPU.

    Torch holds this object for as long as a tensor over the bytes lives, and this object holds their owner.
    """

    def __init__(self, owner: UnifiedTensor) -> None:
        self._owner, memory = owner, owner.cpu()
        self.__cuda_array_interface__ = {
            "shape": (memory.nbytes,), "typestr": "|u1", "data": (memory.data_ptr(), False), "version": 3,
        }  # fmt: skip


def main() -> None:
    """Train on sampled batches of a generated graph, its features by the usual way and by a UnifiedTensor.

    The losses are equal to the bit. On a CPU both are passes over the same memory, so nothing is saved here; `Traffic`
    says what each leg would have to move.
    """
    from methods.pytorch_direct.baselines import Staged
    from methods.pytorch_direct.sampling import batches, graph_of
    from methods.pytorch_direct.training import GraphSAGE
    from methods.shared.graph import load_graph

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    graph = graph_of(load_graph("power_law", num_nodes=2_000).edge_index, 2_000)
    features = torch.rand(2_000, 100, generator=torch.Generator().manual_seed(0))
    labels = (features[:, 0] * 4).long().to(device)
    for name, table in (("staged", Staged(features, device)), ("direct", UnifiedTensor(features, device))):
        torch.manual_seed(0)
        model = GraphSAGE(100, 4).to(device)
        optimizer, generator = torch.optim.Adam(model.parameters(), lr=3e-3), torch.Generator().manual_seed(0)
        for step, batch in enumerate(batches(graph, torch.arange(2_000), 100, (5, 10), generator), start=1):
            rows = table[batch.nodes]  # the only line that differs from training on the device's own memory
            loss = F.cross_entropy(model(rows, batch.to(device).layers), labels[batch.seeds.to(device)])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 10 == 0:
                moved = f"host {table.traffic.host:,} bytes, link {table.traffic.link:,} bytes"
                print(f"{name}  step {step:2}  loss {loss:.6f}  so far {moved}")

"""Bytes and messages that each rank sends, counted at `torch.distributed`, by collective.

A collective is not its payload: `schedules.py` says what each of them sends on each backend. Counted is payload;
the 48-byte headers and notices of gloo and TCP's own headers are not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup
from torch.utils._python_dispatch import TorchDispatchMode

from assay.errors import JobError
from assay.measure.schedules import Call, sent_by


@dataclass(frozen=True)
class Traffic:
    """What one rank sent by one collective. rank: global. calls: how often.

    known: "checked on the wire" (gloo) or "closed form" (NCCL).
    """

    rank: int
    collective: str
    backend: str
    world_size: int
    calls: int
    sent_bytes: int
    sent_messages: int
    known: str


class CommunicationCounter:
    """Sums of what this rank has sent since `count_communication` began."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, int], Traffic] = {}
        self._accounted: dict[str, int] = {}
        self._lock = threading.Lock()

    def rows(self) -> list[Traffic]:
        """One row per collective, backend and size of group, in the order of their first call."""
        return list(self._rows.values())

    @property
    def sent_bytes(self) -> int:
        return sum(row.sent_bytes for row in self._rows.values())

    @property
    def sent_messages(self) -> int:
        return sum(row.sent_messages for row in self._rows.values())

    def _add(self, group: str, issued: int, call: Call | None, backend: str, sent: tuple[int, int]) -> None:
        with self._lock:
            self._accounted[group] = self._accounted.get(group, 0) + issued
            if call is None:
                return
            key = (call.collective, backend, call.size)
            known = "checked on the wire" if backend == "gloo" else "closed form"
            row = self._rows.get(key) or Traffic(dist.get_rank(), *key, 0, 0, 0, known)
            total_bytes, total_messages = row.sent_bytes + sent[0], row.sent_messages + sent[1]
            self._rows[key] = replace(row, calls=row.calls + 1, sent_bytes=total_bytes, sent_messages=total_messages)


@contextmanager
def count_communication() -> Iterator[CommunicationCounter]:
    """Count what this process sends inside the block, over every process group, from every thread.

    A collective counts when it is issued, `async_op` included. All of `torch.distributed`'s Python functions
    are seen, however they were imported; object collectives count as the tensor collectives that they are
    made of. Functional collectives, which DTensor is built on, are seen in the thread of the block.

    Raises JobError, before anything is sent, for a collective that the backend has no exact count for; and at
    the end of the block if collectives went out that were not seen (`DistributedDataParallel` without a Python
    communication hook, functional collectives of other threads, compiled code): they would be missing from the sum.
    """
    counter = CommunicationCounter()
    before = _sequence_numbers()
    with _lock:
        if not _active:
            _install()
        _active.append(counter)
    try:
        with _FunctionalCollectives(counter):
            yield counter
    finally:
        with _lock:
            _active.remove(counter)
            if not _active:
                _uninstall()
    _refuse_unseen(counter, before)


# Every Python path to the network ends in a method of ProcessGroup, so that is where counting stands: a wrapper around
# `torch.distributed.all_reduce` would miss `from torch.distributed import all_reduce`. Names differ between versions.
METHODS = {
    "allreduce": "all_reduce",
    "reduce": "reduce",
    "broadcast": "broadcast",
    "allgather": "all_gather",
    "_allgather_base": "all_gather_into_tensor",
    "all_gather_single": "all_gather_into_tensor",
    "reduce_scatter": "reduce_scatter",
    "_reduce_scatter_base": "reduce_scatter_tensor",
    "reduce_scatter_single": "reduce_scatter_tensor",
    "alltoall": "all_to_all",
    "alltoall_base": "all_to_all_single",
    "all_to_all_single": "all_to_all_single",
    "gather": "gather",
    "scatter": "scatter",
    "send": "send",
    "recv": "recv",
    "recv_anysource": "recv",
    "barrier": "barrier",
}
REFUSED = ("_coalesced", "monitored_barrier")  # ends of names
END_OF_BATCH = "_end_coalescing"  # sends nothing more, but NCCL gives it a sequence number
SECOND_IS_INPUT = {name for name in METHODS.values() if name.startswith(("all_gather", "reduce_scatter", "all_to"))}

_lock = threading.Lock()
_active: list[CommunicationCounter] = []
_originals: dict[str, Any] = {}


def _install() -> None:
    for method in list(vars(ProcessGroup)):
        if method in METHODS or method == END_OF_BATCH or method.endswith(REFUSED):
            _originals[method] = vars(ProcessGroup)[method]  # not getattr, which would give it back unbound
            setattr(ProcessGroup, method, _counting(method, getattr(ProcessGroup, method)))


def _uninstall() -> None:
    while _originals:
        method, original = _originals.popitem()
        setattr(ProcessGroup, method, original)


def _counting(method: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def counted(group: ProcessGroup, *args: Any, **kwargs: Any) -> Any:
        call, backend, sent = None, "", (0, 0)
        if method != END_OF_BATCH:
            call, device = _read_call(METHODS.get(method, method), group, args, kwargs)
            backend = group._get_backend(device).name()
            sent = sent_by(backend, call)
        before = _issued(group)
        work = original(group, *args, **kwargs)
        issued = _issued(group) - before
        for counter in list(_active):
            counter._add(group.group_name, issued, call, backend, sent)
        return work

    return counted


def _read_call(
    collective: str, group: ProcessGroup, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Call, torch.device]:
    if dist.get_debug_level() is dist.DebugLevel.DETAIL:  # type: ignore[attr-defined]
        raise JobError("TORCH_DISTRIBUTED_DEBUG=DETAIL adds collectives of its own; unset it to count communication")
    call = Call(collective, group.rank(), group.size(), 0, 1, root=_root(args, kwargs))
    tensors = [_tensors(arg) for arg in args if isinstance(arg, list | tuple | torch.Tensor)]
    if collective.endswith("barrier"):
        return call, getattr(kwargs.get("opts"), "device", None) or torch.device("cpu")
    if not any(tensors):
        raise JobError(f"{collective}: no tensors to count; pass them by position")
    inputs = tensors[1] if collective in SECOND_IS_INPUT or collective == "gather" else tensors[0]
    if any(t.layout != torch.strided for t in inputs):
        raise JobError(f"{collective} of a sparse tensor has no exact count; send its indices and values")
    parts = tuple(t.numel() * t.element_size() for t in inputs)
    own = 0
    if collective == "all_to_all":
        own = parts[call.rank]
    elif collective == "all_to_all_single":
        splits = args[3] if len(args) > 3 else None
        rows = inputs[0].shape[0] if inputs[0].dim() else 1
        own = parts[0] * splits[call.rank] // max(1, rows) if splits else parts[0] // call.size
    item = inputs[0].element_size()
    return replace(call, input_bytes=sum(parts), item_bytes=item, own_bytes=own, parts=parts), inputs[0].device


class _FunctionalCollectives(TorchDispatchMode):
    """Counts the operators of `_c10d_functional`, which reach the backend without a method of ProcessGroup."""

    def __init__(self, counter: CommunicationCounter) -> None:
        super().__init__()
        self._counter = counter

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        run = partial(func, *args, **(kwargs or {}))
        names = [argument.name for argument in func._schema.arguments]
        if func.namespace != "_c10d_functional" or "group_name" not in names:  # a wait names no group
            return run()
        collective = func.overloadpacket.__name__.removesuffix("_out").removesuffix("_")
        group = args[names.index("group_name")]
        if isinstance(group, str):
            group = torch._C._distributed_c10d._resolve_process_group(group)  # type: ignore[arg-type]
        call, device = _read_functional(collective, group, args)
        backend = group._get_backend(device).name()
        sent = sent_by(backend, call)
        before = _issued(group)
        result = run()
        self._counter._add(group.group_name, _issued(group) - before, call, backend, sent)
        return result


def _read_functional(collective: str, group: ProcessGroup, args: tuple[Any, ...]) -> tuple[Call, torch.device]:
    """These operators put their input first, where the methods of ProcessGroup put an output before it."""
    if collective not in SECOND_IS_INPUT:
        return _read_call(collective, group, args, {})
    splits = (None, args[2]) if collective == "all_to_all_single" else ()
    return _read_call(collective, group, (args[0], args[0], *splits), {})


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [t for item in value if not isinstance(item, int) for t in _tensors(item)]


def _root(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    for value in (*args[1:], *kwargs.values()):
        root = getattr(value, "rootRank", value)
        if isinstance(root, int):
            return root
    return 0


def _issued(group: ProcessGroup) -> int:
    """How many collectives the group has issued so far, whoever issued them."""
    return int(group._get_sequence_number_for_group())  # type: ignore[attr-defined]


def _sequence_numbers() -> dict[str, int]:
    if not dist.is_initialized():
        return {}
    groups = [g for g in dist.distributed_c10d._world.pg_map if isinstance(g, ProcessGroup)]
    return {g.group_name: _issued(g) for g in groups}


def _refuse_unseen(counter: CommunicationCounter, before: dict[str, int]) -> None:
    for name, now in _sequence_numbers().items():
        unseen = now - before.get(name, 0) - counter._accounted.get(name, 0)
        if unseen > 0:
            raise JobError(
                f"{unseen} collectives of process group {name!r} were issued below Python and not counted "
                "(DistributedDataParallel without a communication hook, another thread's functional collectives, "
                "compiled code); "
                "issue them through torch.distributed, e.g. in a hook given to register_comm_hook"
            )

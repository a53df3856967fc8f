"""Bytes and messages that each rank sends, counted at `torch.distributed`, by collective.

A collective is not its payload: what a rank puts on the wire depends on the backend's algorithm. gloo's
schedules below are exact, chunk rounding included, and a test holds them against TCP's own counters between
network namespaces. `reduce_scatter_tensor`, for one, moves twice what a direct exchange would. NCCL picks its
algorithm at run time, so only what every algorithm has in common, or the closed form of its ring, is offered,
marked as such.

Counted is payload; the 48-byte headers and notices of gloo and TCP's own headers are not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup

from assay.errors import JobError

Schedule = Callable[["Call"], tuple[int, int]]  # -> bytes and messages sent
GLOO_SEGMENT_BYTES = 1 << 20  # gloo's kMaxSegmentSize


@dataclass(frozen=True)
class Call:
    """One collective as one rank sees it. `rank`, `root` and `size` are those of its group.

    input_bytes: what this rank puts in; for broadcast the tensor, for scatter what each rank gets. own_bytes: what
    of an all_to_all stays here. parts: bytes of each tensor where the input is a list.
    """

    collective: str
    rank: int
    size: int
    input_bytes: int
    item_bytes: int
    root: int = 0
    own_bytes: int = 0
    parts: tuple[int, ...] = ()


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
    made of.

    Raises JobError, before anything is sent, for a collective that the backend has no exact count for; and at
    the end of the block if collectives went out that no Python call issued (`DistributedDataParallel` without
    a Python communication hook, functional collectives, compiled code): they would be missing from the sum.
    """
    counter = CommunicationCounter()
    before = _sequence_numbers()
    with _lock:
        if not _active:
            _install()
        _active.append(counter)
    try:
        yield counter
    finally:
        with _lock:
            _active.remove(counter)
            if not _active:
                _uninstall()
    _refuse_unseen(counter, before)


def sent_by(backend: str, call: Call) -> tuple[int, int]:
    """Payload bytes and messages that this rank sends. Raises JobError where the backend has no exact count."""
    if call.size == 1:
        return 0, 0
    schedule = SCHEDULES.get(backend, {}).get(call.collective)
    if schedule is None:
        known = ", ".join(SCHEDULES.get(backend, {})) or "none"
        raise JobError(
            f"{call.collective} on {backend} has no exact count of what it sends, and Assay does not estimate; "
            f"write the exchange with one of: {known}"
        )
    return schedule(call)


@dataclass(frozen=True)
class _Ring:
    """How gloo cuts T bytes for a ring of P ranks: P chunks of `per_rank` segments each, the last of them short."""

    total: int
    size: int
    per_rank: int
    segment: int

    @classmethod
    def of(cls, total: int, call: Call, *, reduce: bool = False) -> _Ring:
        size, item = call.size, call.item_bytes
        longest = item * max(1, GLOO_SEGMENT_BYTES // item)
        if reduce:  # cuts full segments and leaves the rest short; all_reduce cuts equal ones
            longest = _round_up(min(_ceil(total, 2 * size), longest), item)
        segments = _round_up(max(_ceil(total, longest), 2 * size), size)
        segment = longest if reduce else _round_up(_ceil(total, segments), item)
        return cls(total, size, segments // size, segment)

    def lengths(self, chunk: int) -> list[int]:
        """Bytes of each segment of a chunk; 0 for those past the end, which gloo does not send."""
        first = (chunk % self.size) * self.per_rank
        starts = (i * self.segment for i in range(first, first + self.per_rank))
        return [min(self.segment, max(0, self.total - start)) for start in starts]

    def all_but(self, omitted: list[int]) -> tuple[int, int]:
        lengths = [n for chunk in range(self.size) for n in self.lengths(chunk)]
        return sum(lengths) - sum(omitted), sum(map(bool, lengths)) - sum(map(bool, omitted))


def _gloo_all_reduce(call: Call, total: int | None = None) -> tuple[int, int]:
    """Ring: 2T less two chunks: that of this rank while reducing, and its predecessor's while gathering."""
    ring = _Ring.of(call.input_bytes if total is None else total, call)
    return _sum(ring.all_but(ring.lengths(call.rank)), ring.all_but(ring.lengths(call.rank - 1)))


def _gloo_reduce(call: Call) -> tuple[int, int]:
    """Ring: T less the last two segments of this rank's chunk, not less all of it; then the chunk, to the root."""
    if call.input_bytes == 0:
        return 0, 0
    ring = _Ring.of(call.input_bytes, call, reduce=True)
    chunk = ring.lengths(call.rank)
    to_root = (0, 0) if call.rank == call.root else (sum(chunk), int(sum(chunk) > 0))
    return _sum(ring.all_but(chunk[-2:]), to_root)


def _gloo_reduce_scatter(call: Call) -> tuple[int, int]:
    """One all_reduce for each tensor of the list."""
    return _sum(*(_gloo_all_reduce(call, part) for part in call.parts))


def _gloo_broadcast(call: Call) -> tuple[int, int]:
    """Binomial tree: a rank that has the tensor after round i passes it on in every later round."""
    place, count = (call.rank - call.root) % call.size, 0
    step = 1
    while step < call.size:
        count += place < step and place + step < call.size
        step *= 2
    return count * call.input_bytes, count


def _gloo_all_gather(call: Call) -> tuple[int, int]:
    """Ring in two halves: every contribution passes every rank but one."""
    steps = call.size - 1
    return steps * call.input_bytes, 2 * steps if call.input_bytes else 0


def _gather(call: Call) -> tuple[int, int]:
    return (0, 0) if call.rank == call.root else (call.input_bytes, 1)


def _scatter(call: Call) -> tuple[int, int]:
    return ((call.size - 1) * call.input_bytes, call.size - 1) if call.rank == call.root else (0, 0)


def _gloo_barrier(call: Call) -> tuple[int, int]:
    """Dissemination: ceil(log2 P) empty messages."""
    return 0, (call.size - 1).bit_length()


def _ring_share(rounds: int) -> Schedule:
    """NCCL's ring: `rounds` times (P-1)/P of the tensor. Where P does not divide it, ranks differ: refused."""

    def schedule(call: Call) -> tuple[int, int]:
        if call.input_bytes % call.size:
            raise JobError(
                f"{call.collective} of {call.input_bytes} bytes over {call.size} ranks of nccl: ranks send different "
                "amounts, which it does not reveal; pad the tensor to a multiple of the ranks"
            )
        steps = rounds * (call.size - 1)
        return steps * (call.input_bytes // call.size), steps

    return schedule


POINT_TO_POINT: dict[str, Schedule] = {
    "all_to_all": lambda call: (call.input_bytes - call.own_bytes, call.size - 1),
    "all_to_all_single": lambda call: (call.input_bytes - call.own_bytes, call.size - 1),
    "gather": _gather,
    "scatter": _scatter,
    "send": lambda call: (call.input_bytes, 1),
    "recv": lambda call: (0, 0),
}
SCHEDULES: dict[str, dict[str, Schedule]] = {
    "gloo": {
        "all_reduce": _gloo_all_reduce,
        "reduce": _gloo_reduce,
        "broadcast": _gloo_broadcast,
        "all_gather": _gloo_all_gather,
        "all_gather_into_tensor": _gloo_all_gather,
        "reduce_scatter": _gloo_reduce_scatter,
        "reduce_scatter_tensor": _gloo_all_reduce,
        "barrier": _gloo_barrier,
        **POINT_TO_POINT,
    },
    # Without broadcast and reduce: NCCL does not reveal which rank ends its chain and sends nothing.
    "nccl": {
        "all_reduce": _ring_share(2),
        "all_gather": lambda call: ((call.size - 1) * call.input_bytes, call.size - 1),
        "all_gather_into_tensor": lambda call: ((call.size - 1) * call.input_bytes, call.size - 1),
        "reduce_scatter": _ring_share(1),
        "reduce_scatter_tensor": _ring_share(1),
        "barrier": lambda call: (0, 0),
        **POINT_TO_POINT,
    },
}


def _ceil(value: int, divisor: int) -> int:
    return -(-value // divisor)


def _round_up(value: int, multiple: int) -> int:
    return _ceil(value, multiple) * multiple


def _sum(*sent: tuple[int, int]) -> tuple[int, int]:
    return sum(b for b, _ in sent), sum(m for _, m in sent)


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
                "(DistributedDataParallel without a communication hook, functional collectives, compiled code); "
                "issue them through torch.distributed, e.g. in a hook given to register_comm_hook"
            )

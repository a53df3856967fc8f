"""What a rank sends by each collective, by backend.

gloo's schedules are exact, chunk rounding included, and a test holds them against TCP's own counters between network
namespaces. `reduce_scatter_tensor`, for one, moves twice what a direct exchange would. NCCL picks its algorithm at run
time, so only what every algorithm has in common, or the closed form of its ring, is offered, marked as such.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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

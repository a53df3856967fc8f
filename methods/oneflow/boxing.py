"""Boxing: how a tensor goes from one SBP to another, and what that puts on the wire.

A producer's attribute is not always what its consumer needs. Between them stands a *boxing* operator. With T the bytes
of the global tensor it moves, all devices together (payload: gloo adds 48 bytes to each message):

    from -> to     same p devices            p1 producers, p2 other consumers
    S(i) -> S(i)   0                         T
    S(i) -> S(j)   (p-1)/p T   all-to-all    T
    S -> B         (p-1) T     all-gather    p2 T
    S -> P         0                         T
    B -> S         0                         T
    B -> B         0                         p2 T
    B -> P         0                         T
    P -> S         (p-1) T     reduce-scatter   p1 T
    P -> B         2(p-1) T    all-reduce    (p1+p2-1) T
    P -> P         0                         p1 T

Here all ten are one thing: a list of *pieces*, each a region of the global tensor that one rank has and another needs,
exchanged pair by pair. So uneven parts and any axis cost what they weigh and no more, where a library's collective may
pad, or, like gloo's reduce-scatter, move twice the closed form. P -> B goes through S, as a ring all-reduce does.

On a mesh of several dimensions a tensor moves along one dimension at a time, by the cheapest `route`.
"""

from __future__ import annotations

import functools
import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor

from methods.oneflow.sbp import (
    B,
    Mesh,
    NdSbp,
    Region,
    S,
    Sbp,
    check,
    combine,
    cut,
    places,
    region_of,
    sizes_of,
)
from methods.shared.checks import check_sizes


def table_bytes(source: Sbp, target: Sbp, total: int, producers: int, consumers: int | None = None) -> float:
    """The cost table, row by row, for parts of equal sizes. total: T in bytes. consumers: None on the same devices."""
    kinds, p1 = source.kind + target.kind, producers
    if consumers is None:
        if kinds == "SS":
            return 0 if source == target else (p1 - 1) / p1 * total
        return {"SB": p1 - 1, "PS": p1 - 1, "PB": 2 * (p1 - 1)}.get(kinds, 0) * total
    return (1 + (consumers - 1) * (target.kind == "B") + (p1 - 1) * (source.kind == "P")) * total


@dataclass(frozen=True)
class Piece:
    """A region of the global tensor that `sender` has and `receiver` needs. Ranks; equal ones send nothing."""

    sender: int
    receiver: int
    region: Region

    @property
    def numel(self) -> int:
        return math.prod(sizes_of(self.region))


@dataclass(frozen=True)
class Step:
    """One exchange: a tensor of `shape` from `source` on the producers to `target` on the consumers (global ranks)."""

    shape: tuple[int, ...]
    source: Sbp
    target: Sbp
    producers: tuple[int, ...]
    consumers: tuple[int, ...]

    def has(self, rank: int) -> Region:
        return region_of(self.shape, (self.source,), (len(self.producers),), (self.producers.index(rank),))

    def needs(self, rank: int) -> Region:
        return region_of(self.shape, (self.target,), (len(self.consumers),), (self.consumers.index(rank),))

    @functools.cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """Who sends what to whom. Senders and receivers meet at most once."""
        p1, p2 = self.producers, self.consumers
        kinds = self.source.kind + self.target.kind
        stays = kinds == "SS" and self.source == self.target and p1 == p2
        if kinds in ("PS", "SB", "SS") and not stays:
            pairs = [(a, b) for b in p2 for a in p1]
        elif kinds == "BP":
            pairs = [(p1[0], p2[0])]
        elif kinds in ("SP", "PP"):  # the last producers double up where consumers are fewer
            pairs = [(a, p2[i % len(p2)]) for i, a in enumerate(p1)]
        else:
            pairs = [(p1[i % len(p1)], b) for i, b in enumerate(p2)]
        pieces = (Piece(a, b, _common(self.has(a), self.needs(b))) for a, b in pairs)
        return tuple(piece for piece in pieces if piece.numel)

    @property
    def sent_numel(self) -> int:
        """Elements on the wire, all ranks together."""
        return sum(piece.numel for piece in self.pieces if piece.sender != piece.receiver)

    def run(self, local: Tensor | None, rank: int, like: Tensor) -> Tensor | None:
        """Exchange on this rank. local: what it has (None: no producer). Returns what it needs (None: no consumer)."""
        out = None
        if rank in self.consumers:
            out = like.new_empty(sizes_of(self.needs(rank)))
            if "P" in self.source.kind + self.target.kind:
                out.fill_((self.source if self.source.kind == "P" else self.target).neutral)
        works, arrivals = [], []
        for piece in self.pieces:
            if piece.receiver == rank:
                view = cut(out, piece.region, self.needs(rank))
                if piece.sender == rank:
                    arrivals.append((view, cut(local, piece.region, self.has(rank))))
                else:
                    direct = self.source.kind != "P" and view.is_contiguous()
                    buffer = view if direct else like.new_empty(view.shape)
                    works.append(dist.irecv(buffer, piece.sender))
                    arrivals += [] if direct else [(view, buffer)]
        for piece in self.pieces:
            if piece.sender == rank != piece.receiver:
                works.append(dist.isend(cut(local, piece.region, self.has(rank)).contiguous(), piece.receiver))
        for work in works:
            work.wait()
        for view, value in arrivals:
            view.copy_(combine([view, value], self.source) if self.source.kind == "P" else value)
        return out


def _common(a: Region, b: Region) -> Region:
    return tuple((max(i, k), max(max(i, k), min(j, m))) for (i, j), (k, m) in zip(a, b, strict=True))


def steps_of(
    shape: Sequence[int], source: Sbp, target: Sbp, producers: tuple[int, ...], consumers: tuple[int, ...]
) -> list[Step]:
    """The exchanges of one boxing between two rows of ranks: one, but P -> B takes two, or three between strangers.

    P -> B works on the flat tensor, so that a scalar and an axis shorter than the ranks need no case of their own.
    Raises ValueError where the groups overlap without being equal.
    """
    shape = tuple(shape)
    if producers != consumers and set(producers) & set(consumers):
        raise ValueError(f"producers {producers} and consumers {consumers} overlap; give equal or disjoint groups")
    if source.kind == "P" and target.kind == "P" and source != target:
        raise ValueError(f"{source} -> {target}: sums and maxima are not one another; go through B or S")
    if source.kind + target.kind != "PB":
        return [Step(shape, source, target, producers, consumers)]
    flat, part = (math.prod(shape),), S(0)
    reduce_scatter = [Step(flat, source, part, producers, producers)]
    across = [Step(flat, part, part, producers, consumers)] if producers != consumers else []
    return [*reduce_scatter, *across, Step(flat, part, B, consumers, consumers)]


def box(
    local: Tensor | None, shape: Sequence[int], source: Sbp, target: Sbp, producers: Sequence[int],
    consumers: Sequence[int], like: Tensor,
) -> Tensor | None:  # fmt: skip
    """Box a tensor between two rows of ranks; every rank of both calls it.

    local: what this rank has as a producer, or None. shape: of the global tensor. like: any tensor of its dtype and
    device.
    Returns what this rank has as a consumer, or None.
    """
    rank, shape = dist.get_rank(), tuple(shape)
    flat = source.kind + target.kind == "PB"
    value = local.reshape(-1) if flat and local is not None else local
    for step in steps_of(shape, source, target, tuple(producers), tuple(consumers)):
        if rank in step.producers or rank in step.consumers:
            value = step.run(value, rank, like)
    return value.reshape(shape) if flat and value is not None else value


def box_bytes(
    shape: Sequence[int], source: Sbp, target: Sbp, producers: Sequence[int], consumers: Sequence[int], itemsize: int
) -> int:
    """What `box` puts on the wire, all ranks together, uneven parts included."""
    return itemsize * sum(s.sent_numel for s in steps_of(shape, source, target, tuple(producers), tuple(consumers)))


@dataclass(frozen=True)
class Move:
    """A boxing along one dimension of the mesh."""

    dimension: int
    source: Sbp
    target: Sbp


def mesh_groups(mesh: Mesh, dimension: int) -> list[tuple[int, ...]]:
    """Ranks that differ in one coordinate only, group by group."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for rank, place in enumerate(places(mesh)):
        groups.setdefault(place[:dimension] + place[dimension + 1 :], []).append(rank)
    return [tuple(group) for group in groups.values()]


def _held_together(shape: Sequence[int], sbp: NdSbp, mesh: Mesh, dimension: int, rank: int) -> tuple[int, ...]:
    """Shape of what the group of `rank` along a dimension shares: the rank's own part, did that dimension not split."""
    shared = (*sbp[:dimension], B, *sbp[dimension + 1 :])
    return sizes_of(region_of(shape, shared, mesh, places(mesh)[rank]))


@functools.lru_cache(maxsize=100_000)
def move_numel(shape: tuple[int, ...], sbp: NdSbp, mesh: Mesh, move: Move) -> int:
    """Elements that a move puts on the wire, over all groups of the mesh."""
    total = 0
    for group in mesh_groups(mesh, move.dimension):
        held = _held_together(shape, sbp, mesh, move.dimension, group[0])
        total += sum(step.sent_numel for step in steps_of(held, move.source, move.target, group, group))
    return total


@functools.lru_cache(maxsize=100_000)
def route(shape: tuple[int, ...], source: NdSbp, target: NdSbp, mesh: Mesh) -> tuple[tuple[Move, ...], int]:
    """The cheapest moves from one SBP to another on the same mesh, and the elements that they put on the wire.

    A dimension may begin or end S(k) only while no later dimension splits k: the later ones split its parts further, so
    its parts would not be where `region_of` says. The moves are found by Dijkstra's algorithm; of equal routes, the
    shorter. Raises TypeError or ValueError for a shape or mesh that is none, or an SBP that a tensor cannot have on it.
    """
    check_sizes("route", least=0, **{f"axis {i}": length for i, length in enumerate(shape)})
    check_sizes("route: mesh", **{f"dimension {i}": size for i, size in enumerate(mesh)})
    check(shape, source, mesh)
    check(shape, target, mesh)
    steps = [*map(S, range(len(shape))), B, *dict.fromkeys(a for a in (*source, *target) if a.kind == "P")]
    best: dict[NdSbp, tuple[int, int]] = {source: (0, 0)}
    queue: list[tuple[int, int, int, NdSbp, tuple[Move, ...]]] = [(0, 0, 0, source, ())]
    counter = 0
    while queue:
        numel, length, _, here, moves = heapq.heappop(queue)
        if here == target:
            return moves, numel
        if (numel, length) > best[here]:
            continue
        for dimension, old in enumerate(here):
            for new in steps:
                move = Move(dimension, old, new)
                if new == old or not _allowed(here, move):
                    continue
                there = (*here[:dimension], new, *here[dimension + 1 :])
                cost = (numel + move_numel(shape, here, mesh, move), length + 1)
                if cost < best.get(there, (math.inf, 0)):
                    best[there] = cost
                    counter += 1
                    heapq.heappush(queue, (*cost, counter, there, (*moves, move)))
    raise ValueError(f"no way from {source} to {target} on a mesh {mesh}")


def _allowed(here: NdSbp, move: Move) -> bool:
    later = {a.axis for a in here[move.dimension + 1 :] if a.kind == "S"}
    axes = {a.axis for a in (move.source, move.target) if a.kind == "S"}
    others = {a.combine for i, a in enumerate(here) if a.kind == "P" and i != move.dimension}
    partial = {a.combine for a in (move.source, move.target) if a.kind == "P"}
    return not (axes & later) and len(partial) <= 1 and len(partial | others) <= 1


def reshard(local: Tensor, shape: Sequence[int], source: NdSbp, target: NdSbp, mesh: Mesh) -> Tensor:
    """Box what this rank holds from one SBP to another on a mesh of all ranks of the default process group."""
    rank, here = dist.get_rank(), list(source)
    for move in route(tuple(shape), tuple(source), tuple(target), tuple(mesh))[0]:
        held = _held_together(shape, tuple(here), mesh, move.dimension, rank)
        group = next(group for group in mesh_groups(mesh, move.dimension) if rank in group)
        local = box(local, held, move.source, move.target, group, group, local)  # type: ignore[assignment]
        here[move.dimension] = move.target
    return local

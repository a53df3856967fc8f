"""SBP: how one global tensor lies on many devices.

A *global tensor* has a logical shape and, for each dimension of the mesh of devices, one attribute:

    S(k)  split: each device holds a balanced part along axis k, larger parts first
    B     broadcast: each device holds a copy
    P     partial: the element-wise sum of what the devices hold is the tensor (P_MAX: the maximum)

`to_local` spreads a tensor, `to_global` puts it together again; every decomposition whose sum is the tensor is a valid
P. On a mesh of several dimensions the attributes nest: (S(0), S(0)) splits each part of the first dimension once more
along the second. Devices are numbered row by row over the mesh.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch
from torch import Tensor

from methods.shared.checks import check_option, check_sizes

Region = tuple[tuple[int, int], ...]  # (start, stop) along each axis, in the global tensor


@dataclass(frozen=True)
class Sbp:
    """One attribute. axis: what S splits. combine: what makes the tensor of partial values.

    Raises TypeError or ValueError for what is none.
    """

    kind: Literal["S", "B", "P"]
    axis: int = 0
    combine: Literal["sum", "max"] = "sum"

    def __post_init__(self) -> None:
        check_option("Sbp", "kind", self.kind, ("S", "B", "P"))
        check_option("Sbp", "combine", self.combine, ("sum", "max"))
        check_sizes("Sbp", least=0, axis=self.axis)

    def __str__(self) -> str:
        return {"S": f"S({self.axis})", "B": "B", "P": "P" if self.combine == "sum" else f"P({self.combine})"}[
            self.kind
        ]

    __repr__ = __str__

    @property
    def neutral(self) -> float:
        """What a device that contributes nothing to a partial value holds."""
        return 0.0 if self.combine == "sum" else -math.inf


def S(axis: int) -> Sbp:
    """Split along an axis, counted from the front. Raises TypeError or ValueError for what is none."""
    return Sbp("S", axis)


B = Sbp("B")
P = Sbp("P")
P_MAX = Sbp("P", combine="max")

NdSbp = tuple[Sbp, ...]  # one attribute for each dimension of the mesh
Mesh = tuple[int, ...]


def combine(values: Sequence[Tensor], sbp: Sbp) -> Tensor:
    """The tensor of which `values` are the partial values: their sum or maximum, in order."""
    return reduce(torch.add if sbp.combine == "sum" else torch.maximum, values)


def split_range(length: int, parts: int, part: int) -> tuple[int, int]:
    """Start and stop of one part of a balanced split: sizes differ by at most 1, larger ones first."""
    size, larger = divmod(length, parts)
    start = part * size + min(part, larger)
    return start, start + size + (part < larger)


def places(mesh: Mesh) -> list[tuple[int, ...]]:
    """Coordinates of the devices of a mesh, row by row: `places(mesh)[rank]`."""
    return list(itertools.product(*map(range, mesh)))


def region_of(shape: Sequence[int], sbp: NdSbp, mesh: Mesh, place: Sequence[int]) -> Region:
    """The part of the global tensor that the device at `place` holds: all of an axis that no dimension splits.

    Raises ValueError where an axis is split that the tensor has not, where the numbers of attributes and mesh
    dimensions differ, or where sums and maxima would be mixed, which do not commute.
    """
    check(shape, sbp, mesh)
    region = [(0, length) for length in shape]
    for attribute, parts, part in zip(sbp, mesh, place, strict=True):
        if attribute.kind == "S":
            start, stop = region[attribute.axis]
            first, last = split_range(stop - start, parts, part)
            region[attribute.axis] = (start + first, start + last)
    return tuple(region)


def check(shape: Sequence[int], sbp: NdSbp, mesh: Mesh) -> None:
    """Raise ValueError where a tensor of this shape cannot lie so on this mesh."""
    if len(sbp) != len(mesh):
        raise ValueError(f"{len(sbp)} attributes {sbp} for a mesh of {len(mesh)} dimensions {mesh}; give one for each")
    for attribute in sbp:
        if attribute.kind == "S" and attribute.axis >= len(shape):
            raise ValueError(f"{attribute} of a tensor of shape {tuple(shape)}, which has no axis {attribute.axis}")
    if len({attribute.combine for attribute in sbp if attribute.kind == "P"}) > 1:
        raise ValueError(f"{sbp} mixes sums and maxima, which do not commute; box one of them first")


def sizes_of(region: Region) -> tuple[int, ...]:
    return tuple(stop - start for start, stop in region)


def cut(tensor: Tensor, region: Region, origin: Region | None = None) -> Tensor:
    """A view of `region` in a tensor whose first element lies at the start of `origin` (default: the global tensor)."""
    starts = [0] * len(region) if origin is None else [start for start, _ in origin]
    return tensor[tuple(slice(a - o, b - o) for (a, b), o in zip(region, starts, strict=True))]


def to_local(tensor: Tensor, sbp: NdSbp, mesh: Mesh) -> list[Tensor]:
    """What each device holds of a global tensor. Partial values: the first device has all, the others the neutral.

    Raises ValueError or TypeError where it cannot lie so on this mesh.
    """
    check_sizes("to_local: mesh", **{f"dimension {i}": size for i, size in enumerate(mesh)})
    local = []
    for place in places(mesh):
        part = cut(tensor, region_of(tensor.shape, sbp, mesh, place)).contiguous()
        for attribute, coordinate in zip(sbp, place, strict=True):
            if attribute.kind == "P" and coordinate > 0:
                part = torch.full_like(part, attribute.neutral)
        local.append(part)
    return local


def to_global(local: Sequence[Tensor], sbp: NdSbp, mesh: Mesh) -> Tensor:
    """The tensor whose parts `local` are. Raises ValueError where copies differ in shape or their number is wrong."""
    if len(sbp) != len(mesh):
        raise ValueError(f"{len(sbp)} attributes {sbp} for a mesh of {len(mesh)} dimensions {mesh}; give one for each")
    if len(local) != math.prod(mesh):
        raise ValueError(f"{len(local)} local tensors for a mesh of {math.prod(mesh)} devices {mesh}")
    if not mesh:
        return local[0]
    step = len(local) // mesh[0]
    rows = [to_global(local[i * step : (i + 1) * step], sbp[1:], mesh[1:]) for i in range(mesh[0])]
    attribute = sbp[0]
    if attribute.kind == "S":
        return torch.cat(rows, attribute.axis)
    if len({row.shape for row in rows}) > 1:
        raise ValueError(f"{attribute}: local tensors have the shapes {[tuple(row.shape) for row in rows]}")
    return rows[0] if attribute.kind == "B" else combine(rows, attribute)

"""The peer: `torch.distributed.tensor` (DTensor), running the same plans as OneFlow's runtime.

DTensor knows the same three attributes, `Shard`, `Replicate` and `Partial`, and boxes by `redistribute`. Operators run
on DTensors, so that the placements of the outputs are DTensor's own inference, which is checked against the plan's; an
operator that must know where its shard lies runs on the local parts.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard

from methods.oneflow.boxing import reshard
from methods.oneflow.graph import Node
from methods.oneflow.ops import NdSignature, Shape
from methods.oneflow.runtime import regions
from methods.oneflow.sbp import Mesh, NdSbp, Sbp, places, to_local


def placement_of(attribute: Sbp) -> Placement:
    if attribute.kind == "S":
        return Shard(attribute.axis)
    return Replicate() if attribute.kind == "B" else Partial(attribute.combine)


def placements_of(sbp: NdSbp) -> list[Placement]:
    return [placement_of(attribute) for attribute in sbp]


class DTensors:
    """An engine of `runtime.train`: the values are DTensors on a mesh of all ranks. Parts must divide evenly.

    (DTensor cuts uneven tensors by chunks of the rounded-up size, where SBP balances.)
    """

    def __init__(self, mesh: Mesh, device: str = "cpu") -> None:
        self.mesh = mesh
        self.device_mesh = init_device_mesh(device, mesh)
        self.rank = self.device_mesh.get_rank()

    def place(self, tensor: Tensor, sbp: NdSbp) -> DTensor:
        return self._of(to_local(tensor, sbp, self.mesh)[self.rank], sbp)

    def box(self, value: DTensor, shape: Shape, source: NdSbp, target: NdSbp) -> DTensor:
        """Boxing by DTensor. It refuses to make partial values, so S -> P and B -> P, which send nothing, are ours."""
        kept = tuple(s if t.kind == "P" else t for s, t in zip(source, target, strict=True))
        moved = value.redistribute(self.device_mesh, placements_of(kept))
        if kept == target:
            return moved
        return self._of(reshard(moved.to_local(), shape, kept, target, self.mesh), target)

    def apply(self, node: Node, choice: NdSignature, values: Sequence[DTensor], shapes: Sequence[Shape]) -> DTensor:
        if node.op.indexed is not None:
            local = [value.to_local() for value in values]
            where = regions(choice, shapes, self.mesh, places(self.mesh)[self.rank])
            return self._of(node.op.local(local, where), choice.output)
        out = node.op(*values)
        if list(out.placements) != placements_of(choice.output):
            raise RuntimeError(f"{node.name}: DTensor gives {out.placements} where the plan has {choice.output}")
        return out

    def whole(self, value: DTensor, shape: Shape, sbp: NdSbp) -> Tensor:
        return value.full_tensor()

    def _of(self, local: Tensor, sbp: NdSbp) -> DTensor:
        return DTensor.from_local(local, self.device_mesh, placements_of(sbp), run_check=False)

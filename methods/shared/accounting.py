"""What training remembers, in bytes, and what its gradients reach.

Memory is counted as by ForwardGNN's authors (ICLR 2024, appendix B): parameters, gradients, both moments of
Adam, and what the forward pass keeps for the backward pass. The last is read where autograd keeps it
(`saved_tensors_hooks`), each storage once. What is given to all methods, a graph and its features, is left out; what a
method makes of it counts, but for constant sparse matrices, which autograd does not keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn
from torch.autograd.graph import Node, saved_tensors_hooks

OF_ADAM = 4  # a parameter, its gradient and two moments


def training_bytes(module: nn.Module, step: Callable[[], object], given: Iterable[Tensor] = ()) -> int:
    """Bytes that one training step of `module` needs. given: tensors that belong to no method."""
    return OF_ADAM * sum(p.nbytes for p in module.parameters()) + saved_bytes(step, [*module.parameters(), *given])


def saved_bytes(step: Callable[[], object], known: Iterable[Tensor] = ()) -> int:
    """Bytes of the distinct storages that autograd keeps during `step`, without those of `known` tensors."""
    kept: dict[int, int] = {}
    excluded = {tensor.untyped_storage().data_ptr() for tensor in known}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in excluded:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return sum(kept.values())


def reached_parameters(loss: Tensor) -> set[Tensor]:
    """The leaves that a backward pass from `loss` would give a gradient, found by walking autograd's graph."""
    reached: set[Tensor] = set()
    seen: set[Node] = set()
    waiting = [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            reached.add(node.variable)
        waiting.extend(below for below, _ in node.next_functions)
    return reached

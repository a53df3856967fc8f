"""What a network costs: its parameters, multiply-accumulates (MACs), and the bytes that its training remembers.

Memory is counted as by ForwardGNN's authors (ICLR 2024, appendix B): parameters, gradients, both moments of
Adam, and what the forward pass keeps for the backward pass. The last is read where autograd keeps it
(`saved_tensors_hooks`), each storage once. What is given to all methods, a graph and its features, is left out; what a
method makes of it counts, but for constant sparse matrices, which autograd does not keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Protocol, Self

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, saved_tensors_hooks

DENSE = (nn.Linear, nn.Conv2d)
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


def parameter_count(model: nn.Module) -> int:
    """All parameters, trained or not."""
    return sum(p.numel() for p in model.parameters())


class Counted(Protocol):
    """A layer of another kind that says itself what it costs."""

    out_channels: int

    def macs_per_position(self) -> int:
        """MACs for one output position."""


def macs_per_position(layer: nn.Module) -> int:
    """MACs for one output position, of linear and convolution layers and those that are `Counted`."""
    if isinstance(layer, DENSE):
        return layer.weight.numel()  # (n, m), or (n, m / groups, k, k)
    return layer.macs_per_position()


class MacCounter:
    """Counts the multiply-accumulates of the forward passes of a model's layers while it is entered.

    macs: in all; positions: layer's name -> output positions in all (examples x H' W', or examples x tokens).
    """

    def __init__(self, model: nn.Module) -> None:
        self.macs, self.positions = 0, dict[str, int]()
        self._model = model

    def __enter__(self) -> Self:
        self._hooks = [
            module.register_forward_hook(self._counts(name))
            for name, module in self._model.named_modules()
            if isinstance(module, DENSE) or hasattr(module, "macs_per_position")
        ]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:  # fmt: skip
        for hook in self._hooks:
            hook.remove()

    def _counts(self, name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def count(layer: nn.Module, _: object, output: Tensor) -> None:
            channels = len(layer.weight) if isinstance(layer, DENSE) else layer.out_channels
            positions = output.numel() // channels
            self.positions[name] = self.positions.get(name, 0) + positions
            self.macs += positions * macs_per_position(layer)

        return count


@torch.no_grad()
def counted(model: nn.Module, example: Tensor) -> MacCounter:
    """The counter after one example, (1, ...)."""
    training = model.training
    model.eval()
    with MacCounter(model) as counter:
        model(example)
    model.train(training)
    return counter


def training_macs(forward_macs: int) -> int:
    """A backward pass has two products for each one of the forward pass."""
    return 3 * forward_macs

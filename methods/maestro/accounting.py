"""What a net costs: its parameters, and the multiply-accumulates (MACs) of its linear and convolution layers."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn

from methods.maestro.layers import LowRank


def parameter_count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def macs_per_position(layer: nn.Module) -> int:
    """MACs for one output position. Dense: m n; factorised: b (m + n), two maps of the b columns in use."""
    if isinstance(layer, LowRank):
        return layer.rank_in_use * (len(layer.U) + len(layer.V))
    return layer.weight.numel()  # (n, m), or (n, m / groups, k, k)


class MacCounter:
    """Counts the MACs of the forward passes of a model's linear and convolution layers while it is entered.

    macs: in all; positions: layer's name -> output positions in all (examples x H' W', or examples x tokens).
    """

    def __init__(self, model: nn.Module) -> None:
        self.macs, self.positions = 0, dict[str, int]()
        self._model = model

    def __enter__(self) -> Self:
        self._hooks = [
            module.register_forward_hook(self._counts(name))
            for name, module in self._model.named_modules() if isinstance(module, (LowRank, nn.Linear, nn.Conv2d))
        ]  # fmt: skip
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:  # fmt: skip
        for hook in self._hooks:
            hook.remove()

    def _counts(self, name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def count(layer: nn.Module, _: object, output: Tensor) -> None:
            channels = len(layer.U) if isinstance(layer, LowRank) else len(layer.weight)
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

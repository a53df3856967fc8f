"""GraphSAGE with mean aggregation (Hamilton et al., 2017) and its training loop, as in the official example.

    h_v = W_self x_v + W_neigh mean over u of x_u + b           u: the neighbours drawn for v                  (1)

2 layers, hidden width 16, ReLU and dropout 0.5 between them, Adam with 0.003. The mean is taken after W_neigh, which is
the same and 602 / 16 times less to move.

The loop knows nothing of where features are: it is given the rows of each batch. `prefetched` gathers the next rows
while the current ones are used, in place of the official example's producer process: a side stream and two buffers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.pytorch_direct.requests import Traffic
from methods.pytorch_direct.sampling import Batch, Layer
from methods.shared.checks import check_sizes

HIDDEN, DROPOUT, LEARNING_RATE = 16, 0.5, 0.003


class Rows(Protocol):
    """Features that can be gathered: `UnifiedTensor`, and the paths of `baselines.py`."""

    device: torch.device
    traffic: Traffic

    @property
    def shape(self) -> torch.Size: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def __getitem__(self, index: Tensor) -> Tensor: ...

    def gather_into(self, out: Tensor, index: Tensor) -> Tensor: ...


class MeanConv(nn.Module):
    """Equation (1): (U, in_channels) -> (B, out_channels). A vertex without neighbours has the mean 0."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.own = nn.Linear(in_channels, out_channels)
        self.neighbor = nn.Linear(in_channels, out_channels, bias=False)

    def forward(self, x: Tensor, layer: Layer) -> Tensor:
        mean = F.embedding_bag(layer.neighbors, self.neighbor(x), layer.offsets, mode="mean")
        return self.own(x[layer.targets]) + mean


class GraphSAGE(nn.Module):
    """As many layers as a batch has.

    Args:
        in_channels, hidden_channels, num_classes: widths. num_layers: at least 1.

    Raises:
        ValueError, TypeError: invalid widths or layers.
    """

    def __init__(self, in_channels: int, num_classes: int, hidden_channels: int = HIDDEN, num_layers: int = 2) -> None:
        super().__init__()
        check_sizes("GraphSAGE", in_channels=in_channels, num_classes=num_classes, hidden_channels=hidden_channels,
                    num_layers=num_layers)  # fmt: skip
        widths = [in_channels, *[hidden_channels] * (num_layers - 1), num_classes]
        self.convs = nn.ModuleList(MeanConv(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor, layers: Sequence[Layer]) -> Tensor:
        """Logits of the seeds: (U, in_channels) -> (B, num_classes)."""
        for number, (conv, layer) in enumerate(zip(self.convs, layers, strict=True)):
            x = conv(F.dropout(F.relu(x), DROPOUT, self.training) if number else x, layer)
        return x


def train(
    model: GraphSAGE, optimizer: torch.optim.Optimizer, batches: Iterable[Batch], rows: Iterable[Tensor], labels: Tensor
) -> Tensor:
    """One step for each batch; returns their losses (steps,), on the device.

    Args:
        batches: their layers on the model's device.
        rows: for each batch, the features of `batch.nodes` there: (U, in_channels).
        labels: (N,) int64 on the device.
    """
    losses = []
    for batch, x in zip(batches, rows, strict=True):
        loss = F.cross_entropy(model(x, batch.layers), labels[batch.seeds.to(labels.device)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def in_turn(features: Rows, batches: Iterable[Batch]) -> Iterator[Tensor]:
    """The rows of each batch, gathered when they are asked for."""
    return (features[batch.nodes] for batch in batches)


def prefetched(features: Rows, batches: Sequence[Batch]) -> Iterator[Tensor]:
    """The rows of each batch, gathered one batch ahead into two buffers in turn.

    On a GPU the gathering runs on a side stream while the caller's kernels run on the current one; events keep it from
    overwriting rows in use. What is yielded is valid until the iterator moves on. On a CPU there is nothing to overlap.
    """
    most = max((len(batch.nodes) for batch in batches), default=0)
    shape = (most, *features.shape[1:])
    buffers = [torch.empty(shape, dtype=features.dtype, device=features.device) for _ in range(2)]
    if features.device.type != "cuda":
        for number, batch in enumerate(batches):
            yield features.gather_into(buffers[number % 2][: len(batch.nodes)], batch.nodes)
        return
    main, side = torch.cuda.current_stream(features.device), torch.cuda.Stream(features.device)
    gathered = [torch.cuda.Event() for _ in range(2)]
    used = [torch.cuda.Event() for _ in range(2)]

    def start(number: int) -> None:
        if number < len(batches):
            nodes, buffer = batches[number].nodes, buffers[number % 2]
            side.wait_event(used[number % 2])  # passes at once the first time: nothing was recorded
            with torch.cuda.stream(side):
                features.gather_into(buffer[: len(nodes)], nodes)
            gathered[number % 2].record(side)

    side.wait_stream(main)  # the buffers' memory may still be in use by what had it before
    try:
        start(0)
        for number, batch in enumerate(batches):
            start(number + 1)
            main.wait_event(gathered[number % 2])
            yield buffers[number % 2][: len(batch.nodes)]
            used[number % 2].record(main)
    finally:
        main.wait_stream(side)  # before the buffers' memory goes to someone else

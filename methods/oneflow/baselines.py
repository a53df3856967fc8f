"""What OneFlow is compared with.

Parallel training of relu(x w1) w2 with cross-entropy, by hand, as a user of `torch.distributed` writes it:

* `one_process`: plain autograd, which all others must agree with;
* `data_parallel`: DDP: a copy of the weights on each rank, gradients summed by an all-reduce after the backward pass;
* `megatron`: Megatron-LM's MLP: w1 by columns, w2 by rows, one all-reduce of the output in the forward pass.

Plans that an expert would fix instead of searching (`EXPERT_PLANS`), and the planner's yardstick, `brute_force`. For
the actor runtime: a loop without overlap (`sequential`), a pipeline of unbounded queues (`queue_pipeline`), and a
hand-tuned loop that copies to and from a GPU while it computes (`prefetcher`).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from methods.oneflow.plan import Factor, aligned
from methods.oneflow.sbp import B, NdSbp, P, S, split_range
from methods.shared.checks import refuse_to_derive_again

Weights = dict[str, Tensor]


def one_process(inputs: Mapping[str, Tensor], steps: int, lr: float) -> tuple[list[float], Weights]:
    """Losses and final weights of gradient descent in one process. inputs: x, labels, w1, w2."""
    weights = {name: inputs[name].clone().requires_grad_() for name in ("w1", "w2")}
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(torch.relu(inputs["x"] @ weights["w1"]) @ weights["w2"], inputs["labels"])
        losses.append(float(loss.detach()))
        _descend(weights, loss, lr)
    return losses, {name: weight.detach() for name, weight in weights.items()}


def _descend(weights: Weights, loss: Tensor, lr: float, sum_gradients: bool = False) -> None:
    gradients = torch.autograd.grad(loss, list(weights.values()))
    for weight, gradient in zip(weights.values(), gradients, strict=True):
        if sum_gradients:
            dist.all_reduce(gradient)
        with torch.no_grad():
            weight -= lr * gradient


@dataclass
class HandWritten:
    """A hand-written parallel trainer: this rank's parts of x, labels and weights. step() returns the mean loss."""

    x: Tensor
    labels: Tensor
    weights: Weights
    lr: float
    batch: int
    data: bool

    def step(self) -> Tensor:
        hidden = torch.relu(self.x @ self.weights["w1"])
        logits = hidden @ self.weights["w2"]
        if not self.data:
            logits = _SumForward.apply(logits)
        loss = F.cross_entropy(logits, self.labels, reduction="sum") / self.batch  # weights uneven shards rightly
        _descend(self.weights, loss, self.lr, sum_gradients=self.data)
        mean = loss.detach()
        if self.data:
            dist.all_reduce(mean)
        return mean


class _SumForward(torch.autograd.Function):
    """Megatron's g: all-reduce forward, identity backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        refuse_to_derive_again("_SumForward")
        return gradient


def data_parallel(inputs: Mapping[str, Tensor], lr: float) -> HandWritten:
    """DDP by hand: rows of the batch on each rank."""
    rows = slice(*split_range(len(inputs["x"]), dist.get_world_size(), dist.get_rank()))
    weights = {name: inputs[name].clone().requires_grad_() for name in ("w1", "w2")}
    return HandWritten(inputs["x"][rows], inputs["labels"][rows], weights, lr, len(inputs["x"]), data=True)


def megatron(inputs: Mapping[str, Tensor], lr: float) -> HandWritten:
    """Megatron's MLP by hand: columns of w1 and the rows of w2 that they meet on each rank."""
    part = slice(*split_range(inputs["w1"].shape[1], dist.get_world_size(), dist.get_rank()))
    weights = {"w1": inputs["w1"][:, part].clone().requires_grad_(), "w2": inputs["w2"][part].clone().requires_grad_()}
    return HandWritten(inputs["x"], inputs["labels"], weights, lr, len(inputs["x"]), data=False)


# Output SBPs that an expert fixes in `graph.mlp_step`, on a mesh of so many dimensions; the rest follows at least cost.
EXPERT_PLANS: dict[str, tuple[int, dict[str, NdSbp]]] = {
    "data": (1, {"x": (S(0),), "w1": (B,), "w2": (B,), "z": (S(0),), "logits": (S(0),), "dw1": (P,), "dw2": (P,)}),
    "column": (1, {"x": (B,), "w1": (S(1),), "w2": (S(1),), "z": (S(1),), "logits": (S(1),), "dw1": (S(1),),
                   "dw2": (S(1),)}),
    "row": (1, {"x": (S(1),), "w1": (S(0),), "w2": (S(0),), "z": (P,), "logits": (P,), "dw1": (S(0),), "dw2": (S(0),)}),
    "model": (1, {"x": (B,), "w1": (S(1),), "w2": (S(0),), "z": (S(1),), "logits": (P,), "dw1": (S(1),),
                  "dw2": (S(0),)}),
    "zero": (1, {"x": (S(0),), "w1": (S(0),), "w2": (S(0),), "z": (S(0),), "logits": (S(0),), "dw1": (P,), "dw2": (P,),
                 "new_w1": (S(0),), "new_w2": (S(0),)}),
    "hybrid": (2, {"x": (S(0), B), "w1": (B, S(1)), "w2": (B, S(0)), "z": (S(0), S(1)), "logits": (S(0), P),
                   "dw1": (P, S(1)), "dw2": (P, S(0))}),
}  # fmt: skip


def brute_force(domains: Mapping[str, int], factors: Sequence[Factor]) -> float:
    """The least sum of factors over every combination of choices, by trying them all."""
    names = tuple(domains)
    return float(sum((aligned(factor, names) for factor in factors), np.zeros([domains[n] for n in names])).min())


def sequential(stages: Sequence[Callable[[Any], Any]], items: Iterable[Any]) -> list[Any]:
    """Each item through all stages before the next one starts."""
    results = []
    for item in items:
        for stage in stages:
            item = stage(item)
        results.append(item)
    return results


def queue_pipeline(stages: Sequence[Callable[[Any], Any]], items: Iterable[Any]) -> list[Any]:
    """A thread for each stage and unbounded queues between them."""
    queues: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in range(len(stages) + 1)]
    end = object()

    def work(place: int) -> None:
        while (item := queues[place].get()) is not end:
            queues[place + 1].put(stages[place](item))
        queues[place + 1].put(end)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(stages))]
    for item in (*items, end):
        queues[0].put(item)
    for thread in threads:
        thread.start()
    results = list(iter(queues[-1].get, end))
    for thread in threads:
        thread.join()
    return results


def prefetcher(
    host: Sequence[Tensor], weight: Tensor, batches: int, x: Sequence[Tensor], y: Sequence[Tensor],
    out: Sequence[Tensor],
) -> None:  # fmt: skip
    """out = x weight of each batch, on a GPU; the next batch is copied there, and the last result back, meanwhile.

    One thread queues all work on three streams; events say when a buffer is there to be read, and when it may be
    written again. Before an event's first record nothing waits for it.

    host: pinned batches, taken in turns. x, y (on the GPU) and out (pinned): as many buffers each, two to overlap.
    """
    up, main, down = (torch.cuda.Stream(weight.device) for _ in range(3))
    uploaded, computed, downloaded = ([torch.cuda.Event() for _ in x] for _ in range(3))
    for i in range(batches):
        slot = i % len(x)
        with torch.cuda.stream(up):
            up.wait_event(computed[slot])  # x is read
            x[slot].copy_(host[i % len(host)], non_blocking=True)
            uploaded[slot].record()
        with torch.cuda.stream(main):
            main.wait_event(uploaded[slot])
            main.wait_event(downloaded[slot])  # y is read
            torch.mm(x[slot], weight, out=y[slot])
            computed[slot].record()
        with torch.cuda.stream(down):
            down.wait_event(computed[slot])
            out[slot].copy_(y[slot], non_blocking=True)
            downloaded[slot].record()
    down.synchronize()

"""What GNNPipe is compared with: exact training of the whole graph, in one process and by graph parallelism.

Graph parallelism and a pipeline without overlap are grids of the same engine (`grid_of`), so that nothing but the way
of spreading the work differs.
"""

from __future__ import annotations

from torch import nn
from torch.nn import functional as F

from methods.gnnpipe.layers import run_blocks
from methods.gnnpipe.partition import Grid
from methods.gnnpipe.training import Model, Task
from methods.shared.checks import check_option, check_sizes


class FullGraph:
    """One process, the whole graph, plain autograd: the reference for accuracy. Used like `GNNPipe`."""

    def __init__(self, task: Task, model: Model) -> None:
        self.task, self.dropout, self.blocks = task, model.dropout, model.build(task)

    def parameters(self) -> list[nn.Parameter]:
        return list(self.blocks.parameters())

    def epoch(self, epoch: int) -> float:
        """Leave the gradients of the mean cross-entropy over the training vertices in `.grad`; returns it."""
        task = self.task
        self.blocks.zero_grad()
        logits = run_blocks(self.blocks, task.x, task.adjacency, task.transpose, self.dropout)
        loss = F.cross_entropy(logits[task.train], task.y[task.train])
        loss.backward()
        return float(loss.detach())


def grid_of(method: str, workers: int, chunks: int, stages: int = 1) -> Grid:
    """How a method spreads the work over a number of workers.

    Args:
        method: "pipeline" (GNNPipe), "hybrid" (`stages` stages, the rest of the workers as ways), "graph" (graph
            parallelism) or "naive" (a pipeline of one chunk: one stage works at a time).
        chunks: K, of pipeline and hybrid.

    Raises:
        ValueError: a method that there is not, or workers that the stages do not divide.
    """
    check_option("grid_of", "method", method, ("pipeline", "hybrid", "graph", "naive"))
    check_sizes("grid_of", workers=workers, chunks=chunks, stages=stages)
    if method == "hybrid" and workers % stages:
        raise ValueError(f"{workers} workers cannot be spread over {stages} stages")
    grids = {
        "pipeline": Grid(workers, 1, chunks),
        "hybrid": Grid(stages, workers // stages, chunks),
        "graph": Grid(1, workers, 1),
        "naive": Grid(workers, 1, 1),
    }
    return grids[method]

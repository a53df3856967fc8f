"""The contenders: training of the whole graph, and in chunks with one technique left out at a time.

How a method spreads the work over workers, where bytes and seconds are compared, is `baselines.grid_of`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from assay.contenders import Contender
from methods.gnnpipe.baselines import FullGraph
from methods.gnnpipe.gnnpipe import Techniques
from methods.gnnpipe.partition import make_partition
from methods.gnnpipe.training import History, Model, Task, Trained, fit, make_task, pipeline


@dataclass(frozen=True)
class Recipe:
    """The model, how it is cut, and how long it is trained; the same for all contenders of an experiment.

    Attributes:
        stages, chunks: of the pipeline; the whole graph has neither.
    """

    model: Model = field(default_factory=lambda: Model("gcnii", 8, 32))
    stages: int = 4
    chunks: int = 16
    epochs: int = 150
    lr: float = 0.01
    weight_decay: float = 5e-4


Built = tuple[Trained, nn.ModuleList]
"""What `fit` trains, and the blocks of its model."""


def _full(task: Task, recipe: Recipe) -> Built:
    engine = FullGraph(task, recipe.model)
    return engine, engine.blocks


def _pipeline(techniques: Techniques) -> Callable[[Task, Recipe], Built]:
    def build(task: Task, recipe: Recipe) -> Built:
        partition = make_partition(task.adjacency, 1, recipe.chunks, "metis")
        return pipeline(task, recipe.model, recipe.stages, partition, techniques)

    return build


CONTENDERS = {
    "full": Contender(_full, Recipe()),
    "pipeline": Contender(_pipeline(Techniques()), Recipe()),
    "no_shuffle": Contender(_pipeline(Techniques(shuffle=False)), Recipe()),
    "no_scaling": Contender(_pipeline(Techniques(scale=False)), Recipe()),
    "refresh_every_epoch": Contender(_pipeline(Techniques(period=1)), Recipe()),
}
VARIANTS = [name for name in CONTENDERS if name != "full"]


def train(name: str, task: Task, recipe: Recipe, seed: int | None = None) -> tuple[nn.ModuleList, History]:
    """Build a contender and train it; returns the blocks after the last epoch, and how the training went.

    seed: of weights and orders, in place of the model's.
    """
    if seed is not None:
        recipe = replace(recipe, model=replace(recipe.model, seed=seed))
    engine, blocks = CONTENDERS[name].build(task, recipe)
    rates: dict[str, Any] = dict(lr=recipe.lr, weight_decay=recipe.weight_decay)
    return blocks, fit(engine, blocks, task, epochs=recipe.epochs, every=1, **rates)


def example(seed: int = 0) -> Task:
    """A generated graph of 120 vertices in four classes."""
    from methods.shared.graph import load_graph  # torch-geometric, which no process of a distributed run needs

    sizes = dict(num_nodes=120, num_blocks=4, num_classes=4, degree=6, homophily=0.8)
    return make_task(load_graph("csbm", **sizes, seed=seed), "gcnii")

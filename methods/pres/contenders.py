"""The contenders of PRES's experiments: memory models, and what each attaches to their memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from assay.contenders import Contender
from datasets.temporal import EventStream
from methods.pres.baselines import APAN, JODIE, TGN, Memoryless, MemoryModel
from methods.pres.pres import PRES
from methods.pres.released import ReleasedPRES
from methods.pres.training import Fit, Task, fit, make_task

MODELS: dict[str, type[MemoryModel]] = {"tgn": TGN, "jodie": JODIE, "apan": APAN}


class Asked(NamedTuple):
    """A stream, and the memory model that is trained on it: a key of `MODELS`."""

    task: Task
    model: str


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of every contender, the same for all.

    Attributes:
        dim: width of memories, embeddings and hidden layers.
        neighbors: that attention looks at, the latest ones.
        batch_size: events of a temporal batch.
        patience: epochs without a better validation, after which training ends; None keeps the last epoch.
    """

    dim: int = 64
    neighbors: int = 10
    batch_size: int = 50
    epochs: int = 3
    lr: float = 1e-3
    patience: int | None = None


Correction = Callable[[int, int, float], PRES | ReleasedPRES | None]
"""(nodes, width, unit of time) -> what is attached to the memory."""


def _built(correction: Correction, kind: type[MemoryModel] | None = None) -> Callable[[Asked, Recipe], MemoryModel]:
    """The memory model is built first and PRES draws no random number, so all start from equal weights."""

    def build(asked: Asked, recipe: Recipe) -> MemoryModel:
        task, network_of = asked.task, kind or MODELS[asked.model]
        num_nodes, edge_dim = task.full.num_nodes, task.full.edge_features.shape[1]
        gaps = {"gaps": task.gaps} if network_of is JODIE else {}
        network = network_of(num_nodes, edge_dim, recipe.dim, num_neighbors=recipe.neighbors, **gaps)
        network.correction = correction(num_nodes, recipe.dim, task.time_unit)
        return network.to(task.full.t.device)

    return build


def _pres(**options: Any) -> Correction:
    return lambda num_nodes, dim, time_unit: PRES(num_nodes, dim, time_unit=time_unit, **options)


def _peer(asked: Asked, recipe: Recipe) -> Any:
    from methods.pres.peer import PeerTGN  # torch-geometric takes seconds to import, and only a race needs it

    return PeerTGN(asked.task.train, recipe.dim, num_neighbors=recipe.neighbors)


CONTENDERS = {
    "plain": Contender(_built(lambda *_: None), Recipe()),
    "pres": Contender(_built(_pres()), Recipe()),
    # coherence smoothing only
    "pres_s": Contender(_built(_pres(gamma=1.0, learn_gamma=False)), Recipe()),
    # prediction-correction only
    "pres_v": Contender(_built(_pres(beta=0.0)), Recipe()),
    "pres_released": Contender(_built(lambda num_nodes, dim, _: ReleasedPRES(num_nodes, dim)), Recipe()),
    "memoryless": Contender(_built(lambda *_: None, Memoryless), Recipe()),
    "pyg_tgn": Contender(_peer, Recipe()),
}


def train(name: str, asked: Asked, recipe: Recipe, seed: int = 0) -> tuple[MemoryModel, Fit]:
    """Build a contender and train it; its memory stands at the end of the training events, ready for the test."""
    network = CONTENDERS[name].build(asked, recipe)
    lengths = dict(epochs=recipe.epochs, batch_size=recipe.batch_size, patience=recipe.patience)
    return network, fit(network, asked.task, **lengths, lr=recipe.lr, seed=seed)


def example(seed: int = 0) -> Asked:
    """TGN on 600 events between 30 sources and 20 destinations; a source meets two destinations of its own."""
    generator = torch.Generator().manual_seed(seed)
    src = torch.randint(30, (600,), generator=generator)
    dst = 30 + (src + torch.randint(2, (600,), generator=generator)) % 20
    t, features = torch.arange(600, dtype=torch.float64), torch.ones(600, 1)
    return Asked(make_task(EventStream(src, dst, t, features, 50, 30)), "tgn")

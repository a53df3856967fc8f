"""The contenders of SEMBA's experiments: models of a signed stream, all trained by one recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import datasets
from assay.contenders import Contender
from methods.semba.baselines import GCN, SGCN, TGN
from methods.semba.released import ReleasedSEMBA
from methods.semba.semba import SEMBA
from methods.semba.tasks import OBJECTIVES, Task, make_task
from methods.semba.training import Fit, StreamModel, fit


class Asked(NamedTuple):
    """A stream, and what is asked about it: a key of `OBJECTIVES`."""

    task: Task
    kind: str


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of every model. `lr` is the released code's best of SEMBA in all tasks on Bitcoin.

    Attributes:
        width: of memories, embeddings and hidden layers; the time encoding has half of it.
        neighbors: that attention looks at, the latest ones; None for all.
        plateau: see `fit`.
    """

    width: int = 64
    neighbors: int | None = 10
    epochs: int = 10
    batch_size: int = 1_000
    lr: float = 0.01
    plateau: bool = False


def _temporal(kind: Callable[..., Any], **options: bool) -> Callable[[Asked, Recipe], StreamModel]:
    def build(asked: Asked, recipe: Recipe) -> StreamModel:
        sizes = dict(memory_dim=recipe.width, time_dim=recipe.width // 2, num_neighbors=recipe.neighbors)
        scores = OBJECTIVES[asked.kind].num_scores
        model = kind(asked.task.stream.num_nodes, recipe.width, scores, **sizes, **options)
        return model.to(asked.task.stream.src.device)

    return build


def _static(kind: Callable[..., Any], **options: bool) -> Callable[[Asked, Recipe], StreamModel]:
    return lambda asked, recipe: kind(recipe.width, OBJECTIVES[asked.kind].num_scores, **options).to(
        asked.task.stream.src.device
    )


def _peer(asked: Asked, recipe: Recipe) -> StreamModel:
    from methods.semba.peer import PeerSEMBA  # torch-geometric takes seconds to import, and only a race needs it

    return PeerSEMBA(asked.task.stream, recipe.width)


CONTENDERS = {
    "semba": Contender(_temporal(SEMBA), Recipe()),
    "semba_no_balance": Contender(_temporal(SEMBA, balance=False), Recipe()),
    "semba_leak": Contender(_temporal(SEMBA, leak=True), Recipe()),
    "semba_released": Contender(_temporal(ReleasedSEMBA), Recipe(neighbors=None, plateau=True)),
    "tgn": Contender(_temporal(TGN), Recipe()),
    "tgn_leak": Contender(_temporal(TGN, leak=True), Recipe()),
    "sgcn": Contender(_static(SGCN), Recipe()),
    "sgcn_zeros": Contender(_static(SGCN, zero_features=True), Recipe()),
    "gcn": Contender(_static(GCN), Recipe()),
    "pyg_semba": Contender(_peer, Recipe()),
}


def train(name: str, asked: Asked, recipe: Recipe, seed: int = 0) -> tuple[Any, Fit]:
    """Build a contender and train it; the model stands at the end of its best epoch, ready for the test."""
    model = CONTENDERS[name].build(asked, recipe)
    lengths = dict(epochs=recipe.epochs, batch_size=recipe.batch_size)
    return model, fit(model, *asked, **lengths, lr=recipe.lr, seed=seed, plateau=recipe.plateau)


def recipe_of(name: str, **changes: Any) -> Recipe:
    """A contender's recipe with the sizes of an experiment. What the released code fixes stays."""
    recipe = CONTENDERS[name].recipe
    return replace(recipe, **changes | ({"neighbors": None} if name == "semba_released" else {}))


def example(seed: int = 0) -> Asked:
    """The signs of a generated stream of two hidden factions."""
    return Asked(make_task(datasets.load("signed_factions", num_events=1_000, num_users=40, seed=seed)), "sign_class")

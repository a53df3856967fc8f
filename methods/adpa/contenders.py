"""The contenders, on which view of a digraph each is compared, and how all find their recipe by as many trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from assay.contenders import Contender
from assay.experiment import Run, seed_everything
from methods.adpa.adpa import ADPA, PATTERNS
from methods.adpa.baselines import SIGN, DirGNN
from methods.adpa.training import RECIPES, Protocol, Recipe, Task, load_tasks, of_seed_0, optimizer_of, rows_forward
from methods.shared.gcn import GCN
from methods.shared.graph import propagation
from methods.shared.node_classification import Fit, fit
from methods.shared.search import Search, Settings, search

HIDDEN, CHANNEL = 64, 32  # width of a baseline, and of each of ADPA's channels (as shipped)
Built = tuple[nn.Module, Callable[[], Tensor]]
"""A network, and its forward pass over all vertices: what needs no parameters is done beforehand."""


def _adpa(patterns: Sequence[str]) -> Callable[[Task, Recipe], Built]:
    def build(task: Task, recipe: Recipe) -> Built:
        options = dict(K=recipe.depth, r=recipe.r, dropout=recipe.dropout, patterns=patterns)
        model = ADPA(task.x.shape[1], CHANNEL, task.num_classes, **options).to(task.x.device)
        return model, rows_forward(model, task.x, model.propagate(task.x, task.edge_index), task.masks.train)

    return build


def _gcn(hops: int) -> Callable[[Task, Recipe], Built]:
    def build(task: Task, recipe: Recipe) -> Built:
        model = GCN(task.x.shape[1], HIDDEN, task.num_classes, [hops] * recipe.depth, dropout=recipe.dropout)
        adjacency = propagation(task.edge_index, len(task.x))
        return model.to(task.x.device), lambda: model(task.x, adjacency)

    return build


def _sign(task: Task, recipe: Recipe) -> Built:
    model = SIGN(task.x.shape[1], HIDDEN, task.num_classes, K=recipe.depth, dropout=recipe.dropout).to(task.x.device)
    hops = model.propagate(task.x, task.edge_index)
    return model, lambda: model(task.x, hops)


def _dir_gnn(task: Task, recipe: Recipe) -> Built:
    sizes = (task.x.shape[1], HIDDEN, task.num_classes)
    model = DirGNN(*sizes, num_layers=recipe.depth, dropout=recipe.dropout).to(task.x.device)
    means = model.propagations(task.edge_index, len(task.x))
    return model, lambda: model(task.x, means)


CONTENDERS = {
    "adpa": Contender(_adpa(PATTERNS), RECIPES["common"]),
    "adpa_one_hop": Contender(_adpa(("A", "AT")), RECIPES["common"]),
    "gcn": Contender(_gcn(1), RECIPES["common"]),
    "sign": Contender(_sign, RECIPES["common"]),
    "dir_gnn": Contender(_dir_gnn, RECIPES["common"]),
    "mlp": Contender(_gcn(0), RECIPES["common"]),
}


class Viewed(NamedTuple):
    """A method on a view of the graph, as the card and its knobs write it."""

    method: str
    view: str


DIRECTED, SYMMETRISED = Viewed("adpa", "directed"), Viewed("adpa", "symmetrised")
# the perceptron sees no graph at all; it is shown beside those that see no directions
BASELINES = [
    Viewed("adpa_one_hop", "directed"), Viewed("gcn", "symmetrised"), Viewed("sign", "symmetrised"),
    Viewed("dir_gnn", "directed"), Viewed("mlp", "symmetrised"),
]  # fmt: skip


def first_grid(method: str, protocol: Protocol) -> list[Settings]:
    """Where a search begins: a baseline's whole grid of depths and recipes; ADPA's recipes at K = 2 and r = 0.5."""
    depths = [2] if method.startswith("adpa") else protocol.depths
    return [asdict(RECIPES[name]) | dict(depth=depth) for depth, name in product(depths, protocol.recipes)]


def second_grid(method: str, protocol: Protocol, best: Settings) -> list[Settings]:
    """Where ADPA's search goes on: K and r, at the best recipe."""
    if not method.startswith("adpa"):
        return []
    pairs = product(protocol.depths, protocol.exponents)
    return [best | dict(depth=k, r=r) for k, r in pairs if (k, r) != (2, 0.5)]


def train(
    name: str, task: Task, recipe: Recipe, epochs: int = 4, patience: int | None = None
) -> tuple[nn.Module, Fit, Tensor]:
    """Build and fit one contender.

    Returns:
        The network of the chosen epoch, how it was fitted, and which test vertices it gets right (n_test,).
    """
    model, forward = CONTENDERS[name].build(task, recipe)
    optimizer = optimizer_of(model, recipe)
    fitted = fit(model, forward, task.y, task.masks, optimizer, epochs, patience=patience, restore=True)
    model.eval()
    with torch.no_grad():
        right = (forward().argmax(dim=1) == task.y)[task.masks.test]
    return model, fitted, right


def select(run: Run, viewed: Viewed, protocol: Protocol) -> tuple[Recipe, int]:
    """The grids' best on the validation vertices of split 0, for all splits and seeds, and how many were trained."""
    first, offered = of_seed_0(run), first_grid(viewed.method, protocol)
    if len(offered) == 1 and not second_grid(viewed.method, protocol, offered[0]):
        return Recipe(**offered[0]), 1  # nothing to choose: the training that is reported is the only one

    def searched() -> dict[str, Any]:
        (task,) = load_tasks(first, [0], reduce=protocol.reduce)
        task = task.viewed(viewed.view)

        def tried(settings: Settings) -> Fit:
            seed_everything(0)
            return train(viewed.method, task, Recipe(**settings), protocol.epochs, protocol.patience)[1]

        def by(fitted: Fit) -> float:
            return fitted.val_accuracy

        begun = search(tried, offered, by)
        rest = second_grid(viewed.method, protocol, begun.best.settings)
        found = Search([*begun.tried, *(search(tried, rest, by).tried if rest else [])])
        return {"recipe": found.best.settings, "trials": found.trials}

    found = first.cached(f"grid of {viewed}", searched)
    return Recipe(**found["recipe"]), found["trials"]


def example(seed: int = 0) -> Task:
    """A generated digraph of four classes in a cycle, where only the direction of an arc tells them apart."""
    return load_tasks(Run("example", "quick", seed, "directed_cyclic"), [0], reduce=True)[0]

"""What the contenders are, the data they see, and how each finds its hyper-parameters: all with the same budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from assay.experiment import Run, seed_everything
from methods.adpa.adpa import ADPA, PATTERNS
from methods.adpa.baselines import SIGN, DirGNN
from methods.shared.gcn import GCN
from methods.shared.graph import load_graph, propagation
from methods.shared.node_classification import Fit, Masks, fit

GENERATED = {"directed_cyclic": True, "directed_homophilous": False, "directed_heterophilous": False}  # keep direction?
WIDE = 1_000  # features; more are reduced
REDUCED = 256
HIDDEN, CHANNEL = 64, 32  # width of a baseline, and of each of ADPA's channels (as shipped)
ONE_HOP = ("A", "AT")


class Recipe(NamedTuple):
    lr: float
    weight_decay: float
    dropout: float


# Every method may choose any. "shipped" is the released code's own, for Cornell.
RECIPES = {
    "common": Recipe(0.03, 5e-4, 0.5), "dropout": Recipe(0.03, 5e-4, 0.8), "decay": Recipe(0.03, 5e-3, 0.5),
    "shipped": Recipe(0.06036, 0.01273, 0.64251),
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A digraph with one split.

    Attributes:
        x: (N, F) features.
        edge_index: (2, A) arcs.
        y: (N,) classes.
        masks: vertex ids of training, validation and test.
    """

    x: Tensor
    edge_index: Tensor
    y: Tensor
    masks: Masks

    @property
    def num_classes(self) -> int:
        return int(self.y.max()) + 1

    def view(self, name: str) -> Tensor:
        """Its arcs, "directed" as they are or "symmetrised"."""
        return self.edge_index if name == "directed" else to_undirected(self.edge_index, num_nodes=len(self.y))


def load_tasks(run: Run, splits: Iterable[int], *, reduce: bool) -> list[Task]:
    """The run's data set with each of some splits; a generated one is drawn anew for each seed, with its only split.

    Of data sets without splits 20 vertices a class are for training and 500 for validation, drawn by the split's
    number. With `reduce`, more than 1,000 features become their 256 leading principal scores (a randomised truncated
    SVD of the raw features).
    """
    name = str(run.dataset)
    data = load_graph(name, **({"seed": run.seed} if name in GENERATED else {}))
    x = data.x
    if reduce and x.shape[1] > WIDE:
        x = of_seed_0(run).cached("reduced features", lambda: {"x": principal_scores(data.x)})["x"]
    x, edge_index, y = (tensor.to(run.device) for tensor in (x, data.edge_index, data.y))
    every = (Masks.of(data, split) if "train_mask" in data else random_split(data, split) for split in splits)
    return [Task(x, edge_index, y, Masks(*(mask.to(run.device) for mask in masks))) for masks in every]


def principal_scores(x: Tensor) -> Tensor:
    """(N, F) -> (N, 256): U S of the truncated SVD."""
    u, s, _ = torch.svd_lowrank(x, REDUCED, niter=4)
    return u * s


def random_split(data: Data, seed: int, per_class: int = 20, num_val: int = 500) -> Masks:
    """Vertex ids: `per_class` of each class for training, `num_val` of the rest for validation, then test."""
    order = torch.randperm(len(data.y), generator=torch.Generator().manual_seed(seed))
    train = torch.cat([order[data.y[order] == c][:per_class] for c in range(int(data.y.max()) + 1)])
    rest = order[~torch.isin(order, train)]
    return Masks(train, rest[:num_val], rest[num_val:])


def of_seed_0(run: Run) -> Run:
    """The run of the first seed, so that what it caches is shared by all of them."""
    return replace(run, seed=0, rows=[], curves=[], artifacts=[])


@dataclass(frozen=True)
class Protocol:
    """How long to train, what the grids offer, and whether wide features are reduced."""

    epochs: int
    patience: int
    depths: list[int]
    exponents: list[float]
    recipes: list[str]
    reduce: bool


class Contender(NamedTuple):
    """A method on a view of the graph, as the card and its knobs write it."""

    method: str
    view: str


DIRECTED, SYMMETRISED = Contender("adpa", "directed"), Contender("adpa", "symmetrised")
# the perceptron sees no graph at all; it is shown beside those that see no directions
BASELINES = [
    Contender("adpa_one_hop", "directed"), Contender("gcn", "symmetrised"), Contender("sign", "symmetrised"),
    Contender("dir_gnn", "directed"), Contender("mlp", "symmetrised"),
]  # fmt: skip


def first_grid(method: str, protocol: Protocol) -> list[dict[str, Any]]:
    """Where a search begins: a baseline's whole grid of depths (SIGN's K, else layers) and recipes; ADPA's recipes."""
    if method.startswith("adpa"):
        return [dict(K=2, r=0.5, recipe=recipe) for recipe in protocol.recipes]
    return [dict(depth=depth, recipe=recipe) for depth, recipe in product(protocol.depths, protocol.recipes)]


def second_grid(method: str, protocol: Protocol, recipe: str) -> list[dict[str, Any]]:
    """Where ADPA's search goes on: K and r, at the best recipe. 12 trainings in all, as for a baseline."""
    if not method.startswith("adpa"):
        return []
    tried = {(2, 0.5)}
    rest = [pair for pair in product(protocol.depths, protocol.exponents) if pair not in tried]
    return [dict(K=k, r=r, recipe=recipe) for k, r in rest]


def build(contender: Contender, task: Task, **chosen: Any) -> tuple[nn.Module, Callable[[], Tensor]]:
    """A network and its forward pass over all vertices, everything that needs no parameters done beforehand."""
    x, sizes, dropout = task.x, (task.x.shape[1], HIDDEN, task.num_classes), RECIPES[chosen["recipe"]].dropout
    if contender.method.startswith("adpa"):
        patterns = ONE_HOP if contender.method == "adpa_one_hop" else PATTERNS
        model = ADPA(sizes[0], CHANNEL, sizes[2], K=chosen["K"], r=chosen["r"], dropout=dropout, patterns=patterns)
        model = model.to(x.device)
        return model, rows_forward(model, x, model.propagate(x, task.view(contender.view)), task.masks.train)
    depth = chosen["depth"]
    prepared: Any = None
    if contender.method == "sign":
        model = SIGN(*sizes, K=depth, dropout=dropout).to(x.device)
        prepared = model.propagate(x, task.view(contender.view))
    elif contender.method == "dir_gnn":
        model = DirGNN(*sizes, num_layers=depth, dropout=dropout).to(x.device)
        prepared = model.propagations(task.view(contender.view), len(x))
    else:
        hops = 1 if contender.method == "gcn" else 0
        model = GCN(*sizes, [hops] * depth, dropout=dropout).to(x.device)
        prepared = propagation(task.view(contender.view), len(x))
    return model, lambda: model(x, prepared)


def rows_forward(model: nn.Module, x: Tensor, hops: Tensor, train: Tensor) -> Callable[[], Tensor]:
    """Logits (N, C) of a decoupled network; in training mode only the rows of `train` are computed, others are 0.

    The loss reads no other rows, and no row depends on another once the features are propagated.
    """
    x_train, hops_train = x[train], hops[:, :, train]

    def forward() -> Tensor:
        if not model.training:
            return model(x, hops)
        logits = model(x_train, hops_train)
        return logits.new_zeros(len(x), logits.shape[1]).index_copy(0, train, logits)

    return forward


def optimizer_of(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)


def train(contender: Contender, task: Task, protocol: Protocol, chosen: dict[str, Any]) -> tuple[Fit, Tensor]:
    """Fit one contender; returns that and which test vertices the chosen epoch's network gets right (n_test,)."""
    model, forward = build(contender, task, **chosen)
    optimizer = optimizer_of(model, RECIPES[chosen["recipe"]])
    fitted = fit(model, forward, task.y, task.masks, optimizer, protocol.epochs, patience=protocol.patience,
                 restore=True)  # fmt: skip
    model.eval()
    with torch.no_grad():
        right = (forward().argmax(dim=1) == task.y)[task.masks.test]
    return fitted, right


def select(run: Run, contender: Contender, protocol: Protocol) -> dict[str, Any]:
    """The grids' best on the validation vertices of split 0, for all splits and seeds."""
    first = of_seed_0(run)

    def search() -> dict[str, Any]:
        (task,) = load_tasks(first, [0], reduce=protocol.reduce)

        def score(chosen: dict[str, Any]) -> float:
            seed_everything(0)
            return train(contender, task, protocol, chosen)[0].val_accuracy

        scored = [(score(chosen), chosen) for chosen in first_grid(contender.method, protocol)]
        recipe = _best(scored)["recipe"]
        return _best(scored + [(score(chosen), chosen) for chosen in second_grid(contender.method, protocol, recipe)])

    offered = first_grid(contender.method, protocol)
    return offered[0] if len(offered) == 1 else first.cached(f"grid of {contender}", search)


def _best(scored: list[tuple[float, dict[str, Any]]]) -> dict[str, Any]:
    """The first of the highest scores; NaN is the lowest."""
    return max(scored, key=lambda pair: -math.inf if math.isnan(pair[0]) else pair[0])[1]

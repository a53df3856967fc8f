"""The data that the contenders see, and the hyper-parameters that all may choose from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from assay.experiment import Run
from methods.shared.graph import load_graph
from methods.shared.node_classification import Masks

GENERATED = {"directed_cyclic": True, "directed_homophilous": False, "directed_heterophilous": False}  # keep direction?
WIDE = 1_000  # features; more are reduced
REDUCED = 256


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters: of Adam, the dropout, the depth (ADPA's and SIGN's K, else layers), and ADPA's exponent r."""

    lr: float
    weight_decay: float
    dropout: float
    depth: int = 2
    r: float = 0.5


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

    def viewed(self, name: str) -> Task:
        """The task on its arcs "directed" as they are, or "symmetrised"."""
        if name == "directed":
            return self
        return replace(self, edge_index=to_undirected(self.edge_index, num_nodes=len(self.y)))


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

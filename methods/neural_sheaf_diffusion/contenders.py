"""The contenders, the hyper-parameters that the paper's repository publishes, and how each one is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from assay.contenders import Contender
from methods.neural_sheaf_diffusion.baselines import GCN2
from methods.neural_sheaf_diffusion.nsd import NSD, Maps
from methods.shared.gcn import GCN
from methods.shared.graph import load_graph, propagation
from methods.shared.node_classification import Fit, Masks, fit
from methods.shared.sheaf import SheafIndex
from methods.shared.sparse import SparseMatrix

Built = tuple[nn.Module, SheafIndex | SparseMatrix]
"""A network, and what it multiplies by, made once for all epochs."""


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of every contender. The defaults stand in the middle of the sweep that the paper describes.

    Attributes:
        lr, weight_decay: Adam's.
        select: the epoch of the lowest validation loss, or of the highest validation accuracy.
    """

    hidden_channels: int = 16
    num_layers: int = 2
    dropout: float = 0.5
    lr: float = 0.02
    weight_decay: float = 5e-4
    select: Literal["loss", "accuracy"] = "loss"


@dataclass(frozen=True)
class SheafRecipe(Recipe):
    """Those of NSD; names as in `NSD`, but for `sheaf_decay`, the weight decay of the learners of maps."""

    stalk_dim: int = 3
    input_dropout: float = 0.0
    sparse_learner: bool = False
    edge_weights: bool = False
    add_lp: bool = False
    add_hp: bool = False
    second_linear: bool = False
    sheaf_decay: float | None = None


TRAINING = ("lr", "weight_decay", "select", "sheaf_decay")  # fields that are no argument of a network

# What the paper's repository runs for each data set: its scripts (exp/scripts), and the parser's defaults where these
# are silent; one of these is that orthogonal maps learn edge weights.
PUBLISHED: dict[str, tuple[Maps, SheafRecipe]] = {
    "texas": ("orthogonal", SheafRecipe(
        stalk_dim=3, num_layers=4, hidden_channels=20, dropout=0.7, sparse_learner=True, edge_weights=True, lr=0.02,
        weight_decay=5e-3,
    )),
    "wisconsin": ("orthogonal", SheafRecipe(
        stalk_dim=3, num_layers=2, hidden_channels=32, dropout=0.7276458263736642, add_lp=True, add_hp=True,
        edge_weights=True, lr=0.02, weight_decay=0.0006685729356079199,
    )),
    "cornell": ("diagonal", SheafRecipe(
        stalk_dim=4, num_layers=2, hidden_channels=16, dropout=0.7, input_dropout=0.2, add_lp=True, lr=0.02,
        weight_decay=0.0006914841722570725, sheaf_decay=0.00031764232712732976,
    )),
    "chameleon": ("diagonal", SheafRecipe(
        stalk_dim=4, num_layers=5, hidden_channels=32, dropout=0.0, input_dropout=0.7, add_lp=True, second_linear=True,
        lr=0.01, weight_decay=0.0002969905682317406, sheaf_decay=0.0012638885974822734, select="accuracy",
    )),
    "squirrel": ("orthogonal", SheafRecipe(
        stalk_dim=3, num_layers=5, hidden_channels=32, dropout=0.0, input_dropout=0.7, add_lp=True, second_linear=True,
        edge_weights=True, lr=0.01, weight_decay=0.00011215791366362148, select="accuracy",
    )),
}  # fmt: skip


def without_sheaf(recipe: SheafRecipe) -> SheafRecipe:
    """The recipe for maps that are the identity, which have no learner and no weights of edges."""
    return replace(recipe, edge_weights=False, sparse_learner=False)


def _classes(data: Data) -> int:
    return int(data.y.max()) + 1


def _gcn(hops: int) -> Callable[[Data, Recipe], Built]:
    def build(data: Data, recipe: Recipe) -> Built:
        layers = [hops] * recipe.num_layers
        model = GCN(data.num_features, recipe.hidden_channels, _classes(data), layers, dropout=recipe.dropout)
        return model.to(data.y.device), propagation(data.edge_index, data.num_nodes, torch.float32)

    return build


def _gcn2(data: Data, recipe: Recipe) -> Built:
    model = GCN2(data.num_features, recipe.hidden_channels, _classes(data), recipe.num_layers, dropout=recipe.dropout)
    return model.to(data.y.device), propagation(data.edge_index, data.num_nodes, torch.float32)


def _nsd(maps: Maps) -> Callable[[Data, SheafRecipe], Built]:
    def build(data: Data, recipe: SheafRecipe) -> Built:
        options = {name: value for name, value in asdict(recipe).items() if name not in TRAINING}
        model = NSD(data.num_features, out_channels=_classes(data), maps=maps, **options)
        return model.to(data.y.device), SheafIndex(data.edge_index, data.num_nodes)

    return build


def _space(hidden_channels: list[int], num_layers: list[int]) -> dict[str, list[Any]]:
    return dict(hidden_channels=hidden_channels, num_layers=num_layers, dropout=[0.3, 0.5, 0.7], lr=[0.01, 0.02],
                weight_decay=[0.0005, 0.002, 0.005])  # fmt: skip


_SHEAF_RECIPES = {"": SheafRecipe(), "heterophilous_ring": SheafRecipe(stalk_dim=2)}
CONTENDERS = {
    "gcn": Contender(_gcn(1), Recipe(), _space([16, 32, 64], [2, 3, 4])),
    "mlp": Contender(_gcn(0), Recipe(), _space([16, 32, 64], [2, 3, 4])),
    "gcn2": Contender(_gcn2, Recipe(), _space([16, 32, 64], [2, 4, 8])),
    **{
        f"nsd_{maps}": Contender(_nsd(maps), _SHEAF_RECIPES, _space([8, 16, 32], [2, 3, 4]))
        for maps in ("identity", "diagonal", "orthogonal", "general")
    },
}


def train(
    name: str, data: Data, recipe: Recipe, split: int = 0, epochs: int = 4, patience: int | None = None
) -> tuple[nn.Module, Fit]:
    """Train a contender on one split of a data set; its best validation epoch decides.

    Args:
        data: a graph with masks (N, splits); features may be mostly zero.
        split: column of the masks.
        epochs: at most.
        patience: epochs without a better validation; None: all are trained.
    """
    model, graph = CONTENDERS[name].build(data, recipe)
    x, groups = features(data), model.parameters()
    if isinstance(model, NSD):
        groups = model.parameter_groups(recipe.weight_decay, recipe.sheaf_decay)
    optimizer = torch.optim.Adam(groups, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    return model, fit(
        model, lambda: model(x, graph), data.y, Masks.of(data, split), optimizer, epochs,
        select=recipe.select, patience=patience,
    )  # fmt: skip


def features(data: Data) -> Tensor | SparseMatrix:
    """The features of a graph, as a SparseMatrix where most are zero (bags of words)."""
    mostly_zero = int((data.x != 0).sum()) < 0.2 * data.x.numel()
    return SparseMatrix.from_dense(data.x) if mostly_zero else data.x


def example(seed: int = 0) -> Data:
    """Four classes around a ring, whose members are neighbours of the next class and not of their own."""
    return load_graph("heterophilous_ring", seed=seed, num_splits=1, class_size=15)

"""Hyperparameters: those that the paper's repository publishes for each data set, and how a method is trained."""

from __future__ import annotations

from typing import Any

import torch
from torch_geometric.data import Data

from methods.neural_sheaf_diffusion.baselines import build, prepare
from methods.neural_sheaf_diffusion.nsd import NSD
from methods.shared.node_classification import Fit, Masks, fit
from methods.shared.sparse import SparseMatrix

# What the paper's repository runs for each data set: its scripts (exp/scripts), and the parser's defaults where these
# are silent; one of these is that orthogonal maps learn edge weights. Keys of `OPTIMIZER` are training's.
PUBLISHED: dict[str, dict[str, Any]] = {
    "texas": dict(
        maps="orthogonal", stalk_dim=3, num_layers=4, hidden_channels=20, dropout=0.7, sparse_learner=True,
        edge_weights=True, lr=0.02, weight_decay=5e-3, select="loss",
    ),
    "wisconsin": dict(
        maps="orthogonal", stalk_dim=3, num_layers=2, hidden_channels=32, dropout=0.7276458263736642,
        add_lp=True, add_hp=True, edge_weights=True, lr=0.02, weight_decay=0.0006685729356079199, select="loss",
    ),
    "cornell": dict(
        maps="diagonal", stalk_dim=4, num_layers=2, hidden_channels=16, dropout=0.7, input_dropout=0.2, add_lp=True,
        lr=0.02, weight_decay=0.0006914841722570725, sheaf_decay=0.00031764232712732976, select="loss",
    ),
    "chameleon": dict(
        maps="diagonal", stalk_dim=4, num_layers=5, hidden_channels=32, dropout=0.0, input_dropout=0.7, add_lp=True,
        second_linear=True, lr=0.01, weight_decay=0.0002969905682317406, sheaf_decay=0.0012638885974822734,
        select="accuracy",
    ),
    "squirrel": dict(
        maps="orthogonal", stalk_dim=3, num_layers=5, hidden_channels=32, dropout=0.0, input_dropout=0.7, add_lp=True,
        second_linear=True, edge_weights=True, lr=0.01, weight_decay=0.00011215791366362148, select="accuracy",
    ),
}  # fmt: skip
OPTIMIZER = ("lr", "weight_decay", "sheaf_decay", "select")
# Of the sweep the paper describes, in the middle; where nothing is published or tuned.
USUAL: dict[str, Any] = dict(hidden_channels=16, num_layers=2, dropout=0.5, lr=0.02, weight_decay=5e-4)


def train(
    name: str, data: Data, split: int, settings: dict[str, Any], epochs: int, patience: int | None
) -> tuple[torch.nn.Module, Fit]:
    """Train a method of the card on one split of a data set; its best validation epoch decides.

    Args:
        name: of the method.
        data: a graph with masks (N, splits); features may be mostly zero.
        split: column of the masks.
        settings: arguments of the model and those in `OPTIMIZER`.
        epochs: at most.
        patience: epochs without a better validation; None: all are trained.
    """
    options = {key: settings[key] for key in OPTIMIZER if key in settings}
    x, y = features(data), data.y
    model = build(name, x.shape[1], int(y.max()) + 1, {k: v for k, v in settings.items() if k not in OPTIMIZER})
    model = model.to(y.device)
    decay = options["weight_decay"]
    groups: Any = model.parameters()
    if isinstance(model, NSD):
        groups = model.parameter_groups(decay, options.get("sheaf_decay"))
    optimizer = torch.optim.Adam(groups, lr=options["lr"], weight_decay=decay, fused=True)
    graph = prepare(name, data.edge_index, data.num_nodes)
    return model, fit(
        model, lambda: model(x, graph), y, Masks.of(data, split), optimizer, epochs,
        select=options.get("select", "loss"), patience=patience,
    )  # fmt: skip


def features(data: Data) -> torch.Tensor | SparseMatrix:
    """The features of a graph, as a SparseMatrix where most are zero (bags of words)."""
    mostly_zero = int((data.x != 0).sum()) < 0.2 * data.x.numel()
    return SparseMatrix.from_dense(data.x) if mostly_zero else data.x

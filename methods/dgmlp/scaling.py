"""The scalability study: Erdos-Renyi graphs, on which DGMLP smooths once and GCN and APPNP propagate in every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets.csbm import generate
from methods.dgmlp.dgmlp import DGMLP
from methods.shared.gcn import GCN
from methods.shared.graph import propagation

NUM_CLASSES, K, DROPOUT = 10, 20, 0.2
METHODS = ("dgmlp", "gcn", "appnp")


@dataclass(frozen=True)
class Study:
    """x (n, F) normal features, y (n,) random classes, edge_index (2, A); every vertex is for training."""

    x: Tensor
    y: Tensor
    edge_index: Tensor

    @classmethod
    def draw(cls, n: int, degree: float, num_features: int, seed: int, device: torch.device | str = "cpu") -> Study:
        """n vertices with `degree` neighbours in expectation. The official code leaves the features uninitialised."""
        data = generate(num_nodes=n, num_blocks=1, num_classes=1, degree=degree, homophily=1.0,
                        num_features=num_features, seed=seed)  # fmt: skip
        y = torch.randint(NUM_CLASSES, (n,), generator=torch.Generator().manual_seed(seed))
        return cls(data.x.to(device), y.to(device), data.edge_index.to(device))


@dataclass(frozen=True)
class Shape:
    """Sizes of the networks: width, layers of DGMLP, layers of the others, APPNP's hops and restart probability."""

    hidden: int
    dgmlp_layers: int
    layers: int
    appnp_hops: int
    alpha: float


# At equal width and depth; and as the scripts of the official code have them, where DGMLP is the smallest by far.
SHAPES = {"equal": Shape(64, 2, 2, 10, 0.1), "official": Shape(256, 1, 3, 5, 0.5)}


def smoother(study: Study) -> Callable[[], Tensor]:
    """DGMLP's pre-processing, from arcs to smoothed features."""
    model = DGMLP(study.x.shape[1], 0, NUM_CLASSES, K=K)
    return lambda: model.smooth(study.x, study.edge_index)


def stepper(name: str, shape: Shape, study: Study) -> Callable[[], None]:
    """An epoch of a method, one step on all vertices, after whatever is done once only."""
    n, width = study.x.shape
    if name == "dgmlp":
        model: nn.Module = DGMLP(width, shape.hidden, NUM_CLASSES, shape.dgmlp_layers, dropout=DROPOUT)
        inputs: tuple[object, ...] = (smoother(study)(),)
    else:
        hops = [1] * shape.layers if name == "gcn" else [*[0] * (shape.layers - 1), shape.appnp_hops]
        alpha = shape.alpha if name == "appnp" else 0.0
        model = GCN(width, shape.hidden, NUM_CLASSES, hops, dropout=DROPOUT, alpha=alpha)
        inputs = (study.x, propagation(study.edge_index, n))
    model.to(study.x.device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(*inputs), study.y).backward()
        optimizer.step()

    return step


def smooth_and_step(name: str, shape: Shape, study: Study) -> None:
    """All that a run needs memory for: what is done once, and an epoch."""
    stepper(name, shape, study)()

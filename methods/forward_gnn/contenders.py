"""The contenders: networks that learn layer by layer, and the same network trained by backpropagation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch_geometric.data import Data

from assay.contenders import Contender
from methods.forward_gnn.baselines import LabelAppending, VirtualLinks, backprop_network, fit_backprop, network_inputs
from methods.forward_gnn.forward_gnn import ForwardGNN
from methods.forward_gnn.layers import Conv
from methods.forward_gnn.plain import PlainSingleForward
from methods.forward_gnn.top_down import Top2Input, Top2Loss
from methods.forward_gnn.training import Protocol
from methods.shared.graph import load_graph


@dataclass(frozen=True)
class Recipe(Protocol):
    """The protocol of training, and the network: its width, its depth and its convolution."""

    hidden_channels: int = 128
    num_layers: int = 2
    conv: Conv = "gcn"


def num_classes_of(data: Data) -> int:
    return int(data.y.max()) + 1


def _layerwise(kind: Callable[..., nn.Module], **options: bool) -> Callable[[Data, Recipe], nn.Module]:
    def build(data: Data, recipe: Recipe) -> nn.Module:
        sizes = (data.num_features, recipe.hidden_channels, recipe.num_layers)
        return kind(*sizes, num_classes=num_classes_of(data), conv=recipe.conv, **options).to(data.x.device)

    return build


def _backprop(data: Data, recipe: Recipe) -> nn.Module:
    sizes = (data.num_features, recipe.hidden_channels, recipe.num_layers)
    return backprop_network(*sizes, num_classes_of(data), recipe.conv).to(data.x.device)


_sf = _layerwise(ForwardGNN)
CONTENDERS = {
    "sf": Contender(_sf, Recipe()),
    "sf_isolated": Contender(_layerwise(ForwardGNN, linked=False), Recipe()),
    "sf_plain": Contender(lambda data, recipe: PlainSingleForward(_sf(data, recipe), data), Recipe()),
    "top2input": Contender(_layerwise(Top2Input), Recipe()),
    "top2loss": Contender(_layerwise(Top2Loss), Recipe()),
    "bp": Contender(_backprop, Recipe()),
    "bp_fast": Contender(_backprop, Recipe(lr=50 * Protocol.lr, num_layers=1)),
    "ff_la": Contender(_layerwise(LabelAppending), Recipe()),
    "ff_vn": Contender(_layerwise(VirtualLinks), Recipe()),
}


def train(name: str, data: Data, recipe: Recipe) -> tuple[nn.Module, Any]:
    """Build a contender and train it on a graph; the model stands at its best validation.

    Returns:
        The model, and how its training went: a `Training`, or one for each layer that was trained by itself.
    """
    model = CONTENDERS[name].build(data, recipe)
    if name.startswith("bp"):
        return model, fit_backprop(model, network_inputs(data, recipe.conv), data, recipe)
    return model, model.fit(data, recipe)


def steps_of(history: Any) -> int:
    """Updates that a training took, of all layers together."""
    return sum(t.epochs for t in history) if isinstance(history, list) else history.epochs


def example(seed: int = 0) -> Data:
    """A generated graph of 160 nodes in four communities."""
    return load_graph("csbm_clustered", num_nodes=160, num_features=8, seed=seed, train=0.64, val=0.16)

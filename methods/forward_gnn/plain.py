"""Single forward as one writes it with torch-geometric's layers alone: the peer that our version is held against.

The same method and the same numbers. A step runs the convolution over all nodes and dense features; a validation runs
all layers from the features up.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data

from methods.forward_gnn.forward_gnn import ForwardGNN, class_logits, link_with_virtual_nodes
from methods.forward_gnn.layers import EPSILON, ForwardLayer
from methods.shared.graph import node_ids


class PlainSingleForward:
    """The layers of a `ForwardGNN`, run by torch-geometric's own `forward`."""

    def __init__(self, model: ForwardGNN, data: Data) -> None:
        self.model, self.data = model, data
        nodes = node_ids(data.train_mask, data.num_nodes, "train_mask")
        self.edge_index = link_with_virtual_nodes(data.edge_index, nodes, data.y[nodes], data.num_nodes)
        self.x = torch.cat([data.x, model.virtual_x])

    def run_layer(self, layer: ForwardLayer, h: Tensor) -> Tensor:
        """h (N + C, d) -> z (N + C, d')."""
        unit = h / (h.norm(dim=1, keepdim=True) + EPSILON)
        return torch.relu(layer.conv(unit, self.edge_index))

    def logits(self, z: Tensor, mask: Tensor) -> Tensor:
        """(m, C) of the nodes of a mask (N,)."""
        real, virtual = z[: self.data.num_nodes], z[self.data.num_nodes :]
        return class_logits(torch.cat([real[mask], virtual]), self.model.num_classes)

    def step(self, layer: ForwardLayer, h: Tensor, optimizer: torch.optim.Optimizer) -> Callable[[], Tensor]:
        """One update of one layer: a function that takes a step and returns the loss."""

        def take() -> Tensor:
            optimizer.zero_grad()
            z = self.run_layer(layer, h)
            loss = F.cross_entropy(self.logits(z, self.data.train_mask), self.data.y[self.data.train_mask])
            loss.backward()
            optimizer.step()
            return loss.detach()

        return take

    @torch.no_grad()
    def validation_accuracy(self, num_layers: int) -> float:
        """Accuracy of the first layers' votes, from the features up."""
        h, votes = self.x, torch.zeros(())
        for layer in self.model.layers[:num_layers]:
            h = self.run_layer(layer, h)
            votes = votes + self.logits(h, self.data.val_mask).softmax(dim=1)
        return float((votes.argmax(dim=1) == self.data.y[self.data.val_mask]).float().mean())

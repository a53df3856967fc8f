"""Single forward with a signal from above: still no gradient crosses a layer, but the layers are trained together.

All layers have a state, u_0 = N(x), u_1 .. u_L of width d, and every epoch updates each layer once. What comes from
other layers is detached and a step old, so there is nothing to backpropagate through.

    Top2Input   the state of the layer above is part of the input:
                z_l = relu(conv([u_(l-1) || u_(l+1)])), with the one-hot classes as u_(L+1)
    Top2Loss    the states of all layers above are part of the embedding that the loss reads:
                e_l = mean(z_l, u_(l+1), .., u_L)

Then u_l = N(z_l). The loss is that of single forward, on z_l or e_l.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data

from methods.forward_gnn.forward_gnn import AugmentedGraph, ForwardGNN, class_logits
from methods.forward_gnn.layers import Block, Conv, ForwardLayer, at, unit_rows
from methods.forward_gnn.training import PAPER, Protocol, Training, accuracy, train
from methods.shared.training import update

TEST_STEPS, FIRST_COUNTED_STEP = 10, 2
MAX_GRADIENT_NORM = 1.0


class TopDown(ForwardGNN, ABC):
    """What the two have in common: one loop over epochs, and layers whose input is normalised by the caller."""

    def fit_together(self, graph: AugmentedGraph, step: Callable[[], Tensor], protocol: Protocol) -> Training:
        y = graph.y[graph.val_nodes]
        return train(self, step, lambda: accuracy(self.votes(graph, graph.val_nodes), y), protocol)

    @abstractmethod
    def votes(self, graph: AugmentedGraph, nodes: Tensor) -> Tensor:
        """Summed class probabilities (m, C) of some real nodes (m,)."""

    @torch.no_grad()
    def forward(self, data: Data | AugmentedGraph) -> Tensor:
        """Votes (N, C) of all nodes."""
        graph = self.augment(data)
        return self.votes(graph, torch.arange(graph.num_nodes, device=graph.y.device))


class Top2Input(TopDown):
    """The state above is part of the input. Arguments as for `ForwardGNN`.

    Layers of even place (counted from 0) are updated first, those of odd place then read their fresh states.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int = 128, num_layers: int = 2, *, num_classes: int, conv: Conv = "gcn"
    ) -> None:
        super().__init__(in_channels, hidden_channels, num_layers, num_classes=num_classes, conv=conv)
        widths = [in_channels, *[hidden_channels] * num_layers, num_classes]
        self.layers = nn.ModuleList(
            ForwardLayer(below + above, width, conv, normalize=False)
            for below, width, above in zip(widths, widths[1:], widths[2:], strict=False)
        )

    def fit(self, data: Data | AugmentedGraph, protocol: Protocol = PAPER) -> Training:
        """Train all layers, one update of each in an epoch."""
        graph = self.to_train_on(data)
        rows, y = graph.with_virtual(graph.train_nodes), graph.y[graph.train_nodes]
        optimizers = [protocol.optimizer(layer) for layer in self.layers]
        states = self.bottom_up(graph)

        def step() -> Tensor:
            losses = []
            for k in self.order():
                z = self.run_layer(k, states, graph)
                states[k + 1] = unit_rows(z.detach())
                losses.append(update(optimizers[k], F.cross_entropy(class_logits(z[rows], self.num_classes), y)))
            return torch.stack(losses).sum()

        return self.fit_together(graph, step, protocol)

    def order(self) -> list[int]:
        """Places of the layers in the order of their updates."""
        return [*range(0, len(self.layers), 2), *range(1, len(self.layers), 2)]

    def run_layer(self, k: int, states: list[Block], graph: AugmentedGraph) -> Tensor:
        """z (N + C, d) of the layer at place k, whose own state is states[k + 1]."""
        return self.layers[k]((states[k], states[k + 2]), graph.operator)

    @torch.no_grad()
    def bottom_up(self, graph: AugmentedGraph) -> list[Block]:
        """The first states: one pass in which nothing comes from above. States are normalised, u_0 .. u_(L+1)."""
        states, classes = [unit_rows(graph.h)], self.one_hot_classes(graph)
        widths = [*(layer.out_channels for layer in self.layers[1:]), self.num_classes]
        for layer, width in zip(self.layers, widths, strict=True):
            nothing = classes.new_zeros(len(classes), width)
            states.append(unit_rows(layer((states[-1], nothing), graph.operator)))
        return [*states, classes]

    def one_hot_classes(self, graph: AugmentedGraph) -> Tensor:
        """(N + C, C): known for training and virtual nodes, uniform for all others; normalised."""
        classes = self.virtual_x.new_full((graph.num_nodes, self.num_classes), 1 / self.num_classes)
        classes[graph.train_nodes] = F.one_hot(graph.y[graph.train_nodes], self.num_classes).to(classes.dtype)
        return unit_rows(torch.cat([classes, torch.eye(self.num_classes).to(classes)]))

    @torch.no_grad()
    def votes(self, graph: AugmentedGraph, nodes: Tensor) -> Tensor:
        """From the first states, ten steps without learning; all layers vote in the steps 2 to 9."""
        rows, states = graph.with_virtual(nodes), self.bottom_up(graph)
        votes = self.virtual_x.new_zeros(len(nodes), self.num_classes)
        for time in range(TEST_STEPS):
            for k in self.order():
                z = self.run_layer(k, states, graph)
                states[k + 1] = unit_rows(z)
                if time >= FIRST_COUNTED_STEP:
                    votes += class_logits(z[rows], self.num_classes).softmax(dim=1)
        return votes


class Top2Loss(TopDown):
    """The states above are part of the embedding that the loss reads. Arguments as for `ForwardGNN`.

    All layers are updated at once from the states of the step before; gradients are clipped to norm 1. The first
    states come from one pass in which, as in the released code, no layer's input is normalised.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int = 128, num_layers: int = 2, *, num_classes: int, conv: Conv = "gcn"
    ) -> None:
        super().__init__(in_channels, hidden_channels, num_layers, num_classes=num_classes, conv=conv)
        for layer in self.layers:
            layer.normalize = False

    def fit(self, data: Data | AugmentedGraph, protocol: Protocol = PAPER) -> Training:
        """Train all layers, one update of each in an epoch."""
        graph = self.to_train_on(data)
        rows, y = graph.with_virtual(graph.train_nodes), graph.y[graph.train_nodes]
        optimizers = [protocol.optimizer(layer) for layer in self.layers]
        first = self.layers[0].fixed(unit_rows(graph.h), graph.operator)  # u_0 never changes
        states = self.bottom_up(graph)[1:]  # u_1 .. u_L

        def step() -> Tensor:
            below, losses = list(states), []
            for k, layer in enumerate(self.layers):
                z = first() if k == 0 else layer(below[k - 1], graph.operator)
                states[k] = unit_rows(z.detach())
                logits = class_logits(self.embedding(z, below[k + 1 :], rows), self.num_classes)
                losses.append(update(optimizers[k], F.cross_entropy(logits, y), max_norm=MAX_GRADIENT_NORM))
            return torch.stack(losses).sum()

        return self.fit_together(graph, step, protocol)

    def embedding(self, z: Tensor, above: list[Tensor], rows: Tensor) -> Tensor:
        """e_l of some rows: the mean of z_l and the states above."""
        return torch.stack([at(z, rows), *(at(state, rows) for state in above)]).mean(dim=0)

    @torch.no_grad()
    def bottom_up(self, graph: AugmentedGraph) -> list[Block]:
        """The first states u_0 .. u_L: one pass of layers on what comes, each output normalised afterwards."""
        h, states = graph.h, [unit_rows(graph.h)]
        for layer in self.layers:
            h = layer(h, graph.operator)
            states.append(unit_rows(h))
        return states

    @torch.no_grad()
    def votes(self, graph: AugmentedGraph, nodes: Tensor) -> Tensor:
        """Every layer votes once, from the first states."""
        rows, states = graph.with_virtual(nodes), self.bottom_up(graph)
        votes = self.virtual_x.new_zeros(len(nodes), self.num_classes)
        for k, layer in enumerate(self.layers):
            z = layer(states[k], graph.operator)
            votes += class_logits(self.embedding(z, states[k + 2 :], rows), self.num_classes).softmax(dim=1)
        return votes

"""What single forward is compared with: backpropagation through the whole network, and forward-forward learning.

Forward-forward (FF, Hinton 2022) trains a layer to have a large *goodness* g_i = ||z_i||^2 on nodes that come with
their true class (the positive graph) and a small one where they come with a wrong class (negative graphs, one for each
of the C - 1 wrong classes of a node):

    loss = mean_i softplus(-(g_i - theta)) + mean over negative graphs and i of softplus(g_i - theta)     theta = 2

over training nodes i. A node comes with a class in one of two ways: `LabelAppending` appends its one-hot vector to the
features (1/C everywhere for nodes without one); `VirtualLinks` links the node with the virtual node of the class. To
predict, all evaluated nodes are given each class in turn, and the class with the largest goodness, summed over layers,
wins: C passes, where single forward needs one. So training costs C passes a step.

As in the released code, a prediction sums mean_j z_ij^2 - theta, not the sum that training uses (the order within a
layer is the same), and predicting the test nodes reads the validation labels too. Single forward does not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GAT, GraphSAGE

from methods.forward_gnn.forward_gnn import link_with_virtual_nodes
from methods.forward_gnn.layers import HEADS, Block, Conv, Features, ForwardLayer, Operator, sparse_or_dense, stack_rows
from methods.forward_gnn.training import PAPER, Protocol, Training, accuracy, train
from methods.shared.gcn import GCN
from methods.shared.graph import node_ids, propagation
from methods.shared.training import update

THETA = 2.0
Graph = tuple[Features, Operator]  # features (n, F) and what the convolution reads of the arcs
Inputs = tuple[Block, Operator]  # of a backpropagated network


def backprop_network(
    in_channels: int, hidden_channels: int, num_layers: int, out_channels: int, conv: Conv
) -> nn.Module:
    """The backbone that backpropagation trains: L layers, the last of width C, no dropout, no normalisation.

    torch-geometric's GraphSAGE or GAT; for "gcn" the repository's GCN, which gives what torch-geometric's does and
    takes sparse features.
    """
    if conv == "gcn":
        return GCN(in_channels, hidden_channels, out_channels, [1] * num_layers, dropout=0.0)
    if conv == "sage":
        return GraphSAGE(in_channels, hidden_channels, num_layers, out_channels)
    return GAT(in_channels, hidden_channels, num_layers, out_channels, heads=HEADS)


def network_inputs(data: Data, conv: Conv) -> Inputs:
    """Features and arcs in the form that is fastest for `backprop_network`."""
    if conv == "gcn":
        return sparse_or_dense(data.x), propagation(data.edge_index, data.num_nodes)
    return data.x, data.edge_index


def fit_backprop(model: nn.Module, inputs: Inputs, data: Data, protocol: Protocol = PAPER) -> Training:
    """Train the whole network on cross-entropy; the best validation accuracy is kept."""
    loss, optimizer = backprop_loss(model, inputs, data), protocol.optimizer(model)
    val = node_ids(data.val_mask, data.num_nodes, "val_mask")
    return train(model, lambda: update(optimizer, loss()), lambda: accuracy(model(*inputs)[val], data.y[val]), protocol)


def backprop_loss(model: nn.Module, inputs: Inputs, data: Data) -> Callable[[], Tensor]:
    """The loss of the whole network on the training nodes, as a function of its parameters."""
    nodes = node_ids(data.train_mask, data.num_nodes, "train_mask")
    return lambda: F.cross_entropy(model(*inputs)[nodes], data.y[nodes])


def goodness_loss(positive: Tensor, negative: Tensor) -> Tensor:
    """See above. positive (t,), negative (C - 1, t): goodness of the training nodes."""
    return F.softplus(THETA - positive).mean() + F.softplus(negative - THETA).mean()


class ForwardForward(nn.Module, ABC):
    """Layer-wise forward-forward learning. Arguments as for `ForwardGNN`."""

    def __init__(
        self, in_channels: int, hidden_channels: int = 128, num_layers: int = 2, *, num_classes: int, conv: Conv = "gcn"
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        widths = [self.width_of_input(in_channels), *[hidden_channels] * num_layers]
        self.layers = nn.ModuleList(ForwardLayer(a, b, conv) for a, b in pairwise(widths))

    def width_of_input(self, in_channels: int) -> int:
        return in_channels

    @abstractmethod
    def graph(self, data: Data, nodes: Tensor, classes: Tensor) -> Graph:
        """The graph in which nodes (m,) come with classes (m,), and all others without."""

    def states_above(self, layer: ForwardLayer, graphs: list[Graph]) -> list[Graph]:
        """What the next layer trains on, positive graph first."""
        return [(layer(h, operator), operator) for h, operator in graphs]

    def graphs_to_train_on(self, data: Data) -> list[Graph]:
        """The positive graph, and the C - 1 negative ones: each gives every training node another wrong class."""
        nodes = node_ids(data.train_mask, data.num_nodes, "train_mask")
        shuffled = torch.rand(len(nodes), self.num_classes, device=nodes.device)
        shuffled.scatter_(1, data.y[nodes].unsqueeze(1), -1.0)  # the true class comes first
        return [self.graph(data, nodes, classes) for classes in shuffled.argsort(dim=1).T]

    def graphs_to_predict_with(self, data: Data, labelled: Tensor, evaluated: Tensor) -> list[Graph]:
        """For each class, the graph in which all of `evaluated` (m,) come with it, and `labelled` with their own."""
        nodes = torch.cat([labelled, evaluated])
        return [
            self.graph(data, nodes, torch.cat([data.y[labelled], torch.full_like(evaluated, c)]))
            for c in range(self.num_classes)
        ]

    def fit(self, data: Data, protocol: Protocol = PAPER) -> list[Training]:
        """Train the layers one after the other; see `ForwardGNN.fit`."""
        nodes, val = (
            node_ids(data.train_mask, data.num_nodes, "train_mask"),
            node_ids(data.val_mask, data.num_nodes, "val_mask"),
        )
        graphs, history = self.graphs_to_train_on(data), []
        of_classes = self.graphs_to_predict_with(data, nodes, val)
        goodness = torch.zeros(len(val), self.num_classes, device=nodes.device)
        for layer in self.layers:
            judge = [layer.fixed(h, operator, val) for h, operator in of_classes]

            def judged(judge: list[Callable[[], Tensor]] = judge, below: Tensor = goodness) -> Tensor:
                return below + torch.stack([mean_goodness(z()) for z in judge], dim=1)

            step = forward_forward_step(layer, graphs, nodes, protocol.optimizer(layer))
            history.append(train(layer, step, lambda judged=judged: accuracy(judged(), data.y[val]), protocol))
            with torch.no_grad():
                goodness = judged()
                graphs = self.states_above(layer, graphs)
                of_classes = [(layer(h, operator), operator) for h, operator in of_classes]
        return history

    @torch.no_grad()
    def predict(self, data: Data, labelled: Tensor, evaluated: Tensor) -> Tensor:
        """Classes of the nodes `evaluated` (m,), given the labels of `labelled`."""
        goodness = torch.zeros(len(evaluated), self.num_classes, device=evaluated.device)
        for c, (h, operator) in enumerate(self.graphs_to_predict_with(data, labelled, evaluated)):
            for layer in self.layers:
                h = layer(h, operator)
                goodness[:, c] += mean_goodness(h[evaluated])
        return goodness.argmax(dim=1)


class LabelAppending(ForwardForward):
    """FF-LA: a class is a one-hot vector appended to the features, uniform for nodes without one."""

    def width_of_input(self, in_channels: int) -> int:
        return in_channels + self.num_classes

    def graph(self, data: Data, nodes: Tensor, classes: Tensor) -> Graph:
        appended = data.x.new_full((data.num_nodes, self.num_classes), 1 / self.num_classes)
        appended[nodes] = F.one_hot(classes, self.num_classes).to(appended.dtype)
        operator = self.layers[0].operator(data.edge_index, data.num_nodes)
        return (sparse_or_dense(data.x), appended), operator


class VirtualLinks(ForwardForward):
    """FF-VN: a class is a link with a virtual node, whose features are random and fixed."""

    def __init__(
        self, in_channels: int, hidden_channels: int = 128, num_layers: int = 2, *, num_classes: int, conv: Conv = "gcn"
    ) -> None:
        super().__init__(in_channels, hidden_channels, num_layers, num_classes=num_classes, conv=conv)
        self.register_buffer("virtual_x", torch.randn(num_classes, in_channels))

    def graph(self, data: Data, nodes: Tensor, classes: Tensor) -> Graph:
        edge_index = link_with_virtual_nodes(data.edge_index, nodes, classes, data.num_nodes)
        operator = self.layers[0].operator(edge_index, data.num_nodes + self.num_classes)
        return stack_rows(sparse_or_dense(data.x), self.virtual_x), operator

    def states_above(self, layer: ForwardLayer, graphs: list[Graph]) -> list[Graph]:
        """Negative graphs go on from the states of the positive one: only their links differ."""
        h, operator = graphs[0]
        z = layer(h, operator)
        return [(z, operator) for _, operator in graphs]


def mean_goodness(z: Tensor) -> Tensor:
    """mean_j z_ij^2 - theta of each row: what a prediction sums."""
    return z.square().mean(dim=1) - THETA


def forward_forward_step(
    layer: ForwardLayer, graphs: list[Graph], nodes: Tensor, optimizer: torch.optim.Optimizer
) -> Callable[[], Tensor]:
    """One update of one layer: a pass over the positive graph (the first) and over every negative one."""
    passes = [layer.fixed(h, operator, nodes) for h, operator in graphs]

    def step() -> Tensor:
        positive, *negative = (z().square().sum(dim=1) for z in passes)
        return update(optimizer, goodness_loss(positive, torch.stack(negative)))

    return step

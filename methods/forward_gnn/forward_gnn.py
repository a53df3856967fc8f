"""ForwardGNN: Forward Learning of Graph Neural Networks (Park et al., ICLR 2024, arXiv 2403.11004).

Backpropagation keeps the activations of all layers and sends an error signal through them. Here every layer has a loss
of its own and learns alone, from the bottom up; no gradient crosses a layer, and memory is that of one layer whatever
the depth. (A layer still calls autograd, for its own loss.)

Single forward (SF): give each of the C classes a virtual node with random features, and link every training node, in
both directions, with the virtual node of its class. A layer is run once on this augmented graph E_aug,

    z = relu(conv(N(h), E_aug))                       N: rows to unit length, h: (n + C, d) fixed
    loss = mean over training nodes i of CE(softmax_c(<z_i, z_(n+c)>), y_i)

and classifies a node by the inner products of its embedding with those of the virtual nodes. No negative samples, one
pass. When it has stopped, h <- z and the next layer starts. All layers vote: the prediction is the class with the
largest sum over layers of softmax probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data

from methods.forward_gnn.layers import Block, Conv, ForwardLayer, Operator, features_of, stack_rows
from methods.forward_gnn.training import PAPER, Protocol, Training, accuracy, train
from methods.shared.checks import check_sizes
from methods.shared.graph import checked_edge_index, load_graph, node_ids
from methods.shared.metrics import require_finite
from methods.shared.training import update


class ForwardGNN(nn.Module):
    """Single forward (SF).

    `model.fit(data)` trains on a torch-geometric `Data` with x, edge_index, y, train_mask and val_mask (masks of bool,
    or node ids); then `model(data)` gives the votes (N, C) and `model.predict(data)` the classes (N,). The labels of
    the training nodes are part of the input, as links; validation labels are read for early stopping only, test labels
    never.

    Args:
        in_channels: F.
        hidden_channels: width of every layer, the last included: there is no layer of width C.
        num_layers: L.
        num_classes: C.
        conv: "gcn", "sage" or "gat".
        linked: link training nodes with virtual nodes; False leaves these alone (an ablation).

    Raises:
        TypeError, ValueError: a size that is no whole number or out of range, a convolution of another name.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int = 128, num_layers: int = 2, *, num_classes: int,
        conv: Conv = "gcn", linked: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        check_sizes("ForwardGNN", in_channels=in_channels, hidden_channels=hidden_channels, num_classes=num_classes)
        check_sizes("ForwardGNN", num_layers=num_layers)
        widths = [in_channels, *[hidden_channels] * num_layers]
        self.layers = nn.ModuleList(ForwardLayer(a, b, conv) for a, b in pairwise(widths))
        self.num_classes, self.linked = num_classes, linked
        self.register_buffer("virtual_x", torch.randn(num_classes, in_channels))

    def reset_parameters(self) -> None:
        """New weights, and new features of the virtual nodes."""
        nn.init.normal_(self.virtual_x)
        for layer in self.layers:
            layer.reset_parameters()

    def augment(self, data: Data) -> AugmentedGraph:
        """The graph with its virtual nodes. `data` may be one already: fit and predict take either.

        Raises:
            TypeError, ValueError, IndexError: features, arcs, classes or masks are none of such a graph.
        """
        if isinstance(data, AugmentedGraph):
            return data
        n, layer = int(data.num_nodes), self.layers[0]
        x = features_of(data.x, n, self.virtual_x.shape[1], self.virtual_x.dtype)
        train_nodes, val_nodes = (node_ids(data[name], n, name) for name in ("train_mask", "val_mask"))
        y = self._classes(data.y, n, torch.cat([train_nodes, val_nodes]))
        links = train_nodes if self.linked else train_nodes[:0]
        edge_index = link_with_virtual_nodes(checked_edge_index(data.edge_index, n), links, y[links], n)
        operator = layer.operator(edge_index, n + self.num_classes)
        return AugmentedGraph(stack_rows(x, self.virtual_x), operator, y, train_nodes, val_nodes, n)

    def to_train_on(self, data: Data | AugmentedGraph) -> AugmentedGraph:
        """`augment`, for a graph that has nodes to train and to validate on; ValueError for one that has none."""
        graph = self.augment(data)
        for name, nodes in (("train_mask", graph.train_nodes), ("val_mask", graph.val_nodes)):
            if not len(nodes):
                raise ValueError(f"{name}: names no node; training needs some to learn from and some to stop by")
        return graph

    def _classes(self, y: Tensor, num_nodes: int, known: Tensor) -> Tensor:
        """y (N,) as int64, of which only the `known` nodes' need be classes."""
        if y.shape != (num_nodes,) or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
            raise ValueError(f"y: needs {num_nodes} whole numbers, got {y.dtype} of shape {tuple(y.shape)}")
        bad = ((y[known] < 0) | (y[known] >= self.num_classes)).nonzero()
        if len(bad):
            node = int(known[bad[0]])
            raise ValueError(f"y[{node}]: is {int(y[node])}, but classes go from 0 to {self.num_classes - 1}")
        return y.long()

    def fit(
        self, data: Data | AugmentedGraph, protocol: Protocol = PAPER, after_layer: Callable[[int], None] | None = None
    ) -> list[Training]:
        """Train the layers, one after the other.

        Args:
            data: the graph; its masks are 1-D.
            protocol: of each layer.
            after_layer: called with l = 1 .. L when layer l is done, e.g. to score the network so far.

        Returns:
            how each layer's training went.

        Raises:
            ValueError: no node to train or to validate on; and as `augment`.
            FloatingPointError: training diverged.
        """
        graph = self.to_train_on(data)
        h, history = graph.h, []
        votes = graph.y.new_zeros(len(graph.val_nodes), self.num_classes, dtype=self.virtual_x.dtype)
        for depth, layer in enumerate(self.layers, start=1):
            training, h, votes = fit_layer(layer, h, votes, graph, protocol)
            history.append(training)
            if after_layer is not None:
                after_layer(depth)
        return history

    @torch.no_grad()
    def forward(self, data: Data | AugmentedGraph, num_layers: int | None = None) -> Tensor:
        """Votes (N, C): class probabilities, summed over the first `num_layers` layers (all of them by default)."""
        graph = self.augment(data)
        h, votes = graph.h, self.virtual_x.new_zeros(graph.num_nodes, self.num_classes)
        for layer in self.layers[:num_layers]:
            h = layer(h, graph.operator)
            votes += class_logits(h, self.num_classes).softmax(dim=1)
        return votes

    def predict(self, data: Data | AugmentedGraph) -> Tensor:
        """(N,) the class of every node. Raises ValueError where the votes are not finite."""
        votes = self(data)
        require_finite(votes, "votes")
        return votes.argmax(dim=1)


@dataclass(frozen=True)
class AugmentedGraph:
    """A graph of N nodes with its C virtual nodes N .. N + C - 1.

    h: (N + C, F) features. operator: what the convolution reads of the augmented graph. y: (N,). train_nodes,
    val_nodes: indices of real nodes. num_nodes: N.
    """

    h: Block
    operator: Operator
    y: Tensor
    train_nodes: Tensor
    val_nodes: Tensor
    num_nodes: int

    def with_virtual(self, nodes: Tensor) -> Tensor:
        """Some real nodes, and after them all virtual ones: what a loss or a prediction reads."""
        return torch.cat([nodes, torch.arange(self.num_nodes, self.h.shape[0], device=nodes.device)])


def link_with_virtual_nodes(edge_index: Tensor, nodes: Tensor, classes: Tensor, num_nodes: int) -> Tensor:
    """Link each of some nodes (m,) with the virtual node N + c of a class c (m,), both ways: (2, A + 2 m) arcs."""
    virtual = num_nodes + classes
    links = torch.stack([torch.cat([nodes, virtual]), torch.cat([virtual, nodes])])
    return torch.cat([edge_index, links], dim=1)


def class_logits(z: Tensor, num_classes: int) -> Tensor:
    """<z_i, z_(n+c)> -> (m, C), from the embeddings (m + C, d) of m real nodes and, after them, the virtual ones."""
    return z[:-num_classes] @ z[-num_classes:].T


def fit_layer(
    layer: ForwardLayer, h: Block, votes: Tensor, graph: AugmentedGraph, protocol: Protocol
) -> tuple[Training, Tensor, Tensor]:
    """Train one layer on its fixed input; what this needs is freed when it returns.

    Args:
        h: (N + C, d) states below; votes: (v, C) what the layers below say of the validation nodes.

    Returns:
        how it went, the states above (N + C, d'), and the votes with this layer's.
    """
    num_classes = votes.shape[1]
    y_val = graph.y[graph.val_nodes]
    of_val = layer.fixed(h, graph.operator, graph.with_virtual(graph.val_nodes))

    def voted() -> Tensor:
        return votes + class_logits(of_val(), num_classes).softmax(dim=1)

    step = single_forward_step(layer, h, graph, num_classes, protocol.optimizer(layer))
    training = train(layer, step, lambda: accuracy(voted(), y_val), protocol)
    with torch.no_grad():
        return training, layer(h, graph.operator), voted()


def local_loss(layer: ForwardLayer, h: Block, graph: AugmentedGraph, num_classes: int) -> Callable[[], Tensor]:
    """The loss of one layer on its fixed input h (N + C, d), as a function of the layer's parameters alone."""
    of_train, y = layer.fixed(h, graph.operator, graph.with_virtual(graph.train_nodes)), graph.y[graph.train_nodes]
    return lambda: F.cross_entropy(class_logits(of_train(), num_classes), y)


def single_forward_step(
    layer: ForwardLayer, h: Block, graph: AugmentedGraph, num_classes: int, optimizer: torch.optim.Optimizer
) -> Callable[[], Tensor]:
    """One update of one layer: a function that takes a step and returns the loss."""
    loss = local_loss(layer, h, graph, num_classes)
    return lambda: update(optimizer, loss())


def main() -> None:
    """Train three layers one after the other on a generated graph, and print what each layer's vote adds."""
    torch.manual_seed(0)
    data = load_graph("csbm_clustered", train=0.3, val=0.2)
    model = ForwardGNN(data.num_features, 64, 3, num_classes=4)
    graph = model.augment(data)
    h = graph.h
    for depth, layer in enumerate(model.layers, start=1):
        loss_of = local_loss(layer, h, graph, model.num_classes)  # of this layer's parameters alone
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
        for _ in range(60):
            loss = loss_of()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            h = layer(h, graph.operator)  # the next layer's input: no gradient crosses
        right = (model(graph, depth).argmax(dim=1) == data.y).float()
        shares = f"validation {right[data.val_mask].mean():.1%}  test {right[data.test_mask].mean():.1%}"
        print(f"layers 1 to {depth}  loss of the last {loss:.3f}  {shares}")

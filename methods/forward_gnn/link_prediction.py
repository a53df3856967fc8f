"""ForwardGNN for link prediction (the paper's CE variant), and the same network trained by backpropagation.

A layer scores a pair of nodes by s(u, v) = <z_u, z_v> and learns from its own binary cross-entropy on the training
edges and as many pairs that are no training edges; then its detached output is the next layer's input. There are no
virtual nodes. The prediction is the mean over layers of sigmoid(s). Backpropagation trains the last layer's scores
only.

Edges as torch-geometric's `RandomLinkSplit` gives them: `edge_index` carries messages, `edge_label_index` (2, m) and
`edge_label` (m,) are to be learned or predicted.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data

from methods.forward_gnn.baselines import network_inputs
from methods.forward_gnn.layers import Block, Conv, ForwardLayer, Operator, features_of
from methods.forward_gnn.training import PAPER, Protocol, Training, train
from methods.shared.checks import check_sizes
from methods.shared.graph import checked_edge_index
from methods.shared.metrics import roc_auc
from methods.shared.training import update


class LinkForwardGNN(nn.Module):
    """Layer-wise link prediction. Arguments as for `ForwardGNN`."""

    def __init__(
        self, in_channels: int, hidden_channels: int = 128, num_layers: int = 2, *, conv: Conv = "gcn"
    ) -> None:
        super().__init__()
        check_sizes("LinkForwardGNN", in_channels=in_channels, hidden_channels=hidden_channels, num_layers=num_layers)
        widths = [in_channels, *[hidden_channels] * num_layers]
        self.layers = nn.ModuleList(ForwardLayer(a, b, conv) for a, b in pairwise(widths))

    def fit(self, data: Data, val_data: Data, protocol: Protocol = PAPER) -> list[Training]:
        """Train the layers one after the other; the best area under the ROC curve of `val_data` is kept.

        Raises:
            TypeError, ValueError, IndexError: features, arcs, pairs or labels are none of such a graph.
            FloatingPointError: training diverged.
        """
        (h, operator), (h_val, operator_val) = self._inputs(data), self._inputs(val_data)
        check_pairs(data)
        check_pairs(val_data)
        scores, history = data.x.new_zeros(val_data.edge_label.shape), []
        for layer in self.layers:
            z, z_val, optimizer = layer.fixed(h, operator), layer.fixed(h_val, operator_val), protocol.optimizer(layer)

            def scored(z_val=z_val, below: Tensor = scores) -> Tensor:  # type: ignore[no-untyped-def]
                return below + link_logits(z_val(), val_data.edge_label_index).sigmoid()

            history.append(
                train(
                    layer,
                    lambda z=z, optimizer=optimizer: update(optimizer, link_loss(z(), data)),
                    lambda scored=scored: roc_auc(val_data.edge_label, scored()),
                    protocol,
                )
            )
            with torch.no_grad():
                scores, h, h_val = scored(), z(), z_val()
        return history

    @torch.no_grad()
    def predict(self, data: Data) -> Tensor:
        """(m,) scores in [0, 1] of the pairs `data.edge_label_index`."""
        h, operator = self._inputs(data)
        scores = data.x.new_zeros(checked_edge_index(data.edge_label_index, data.num_nodes).shape[1])
        for layer in self.layers:
            h = layer(h, operator)
            scores += link_logits(h, data.edge_label_index).sigmoid()
        return scores / len(self.layers)

    def _inputs(self, data: Data) -> tuple[Block, Operator]:
        layer, n = self.layers[0], int(data.num_nodes)
        return features_of(data.x, n, layer.conv.in_channels, layer.dtype), layer.operator(data.edge_index, n)


def check_pairs(data: Data) -> None:
    """Raises TypeError, ValueError or IndexError if the pairs or their labels (0 or 1, real) are none of the graph."""
    pairs = checked_edge_index(data.edge_label_index, int(data.num_nodes))
    label = data.edge_label
    if label.shape != (pairs.shape[1],) or bool(((label != 0) & (label != 1)).any()):
        raise ValueError(f"edge_label: needs 0 or 1 for each of {pairs.shape[1]} pairs, got shape {tuple(label.shape)}")


def redraw_negatives(data: Data, generator: torch.Generator) -> Data:
    """Training pairs with new negatives, uniform among those that are no training edge (and no loop).

    `RandomLinkSplit` draws the training negatives among the pairs that are no edge of the whole graph, so they tell
    which pairs are not to be found in validation and test.

    Args:
        data: undirected; the training part of such a split, every edge once among the positive pairs.
        generator: on the CPU, whatever the device, so that all devices draw alike.
    """
    n, pairs = int(data.num_nodes), data.edge_label_index
    positive, wanted = pairs[:, data.edge_label == 1], int((data.edge_label == 0).sum())
    taken = torch.cat([positive, positive.flip(0), torch.arange(n, device=pairs.device).expand(2, -1)], dim=1)
    taken, negative = taken[0] * n + taken[1], pairs.new_empty(0)
    while len(negative) < wanted:
        drawn = torch.randint(n * n, (2 * wanted,), generator=generator).to(pairs.device)
        negative = torch.cat([negative, drawn[~torch.isin(drawn, taken)]])[:wanted]
    label = torch.cat([data.edge_label.new_ones(positive.shape[1]), data.edge_label.new_zeros(wanted)])
    both = torch.cat([positive, torch.stack([negative // n, negative % n])], dim=1)
    return Data(**{**data.to_dict(), "edge_label_index": both, "edge_label": label})


def fit_backprop_links(
    model: nn.Module, data: Data, val_data: Data, conv: Conv, protocol: Protocol = PAPER
) -> Training:
    """Train a network of `backprop_network`, whose last width is that of the embedding, on the same pairs."""
    inputs, inputs_val, optimizer = (
        network_inputs(data, conv),
        network_inputs(val_data, conv),
        protocol.optimizer(model),
    )
    return train(
        model,
        lambda: update(optimizer, link_loss(model(*inputs), data)),
        lambda: roc_auc(val_data.edge_label, link_logits(model(*inputs_val), val_data.edge_label_index)),
        protocol,
    )


def link_logits(z: Tensor, pairs: Tensor) -> Tensor:
    """s(u, v) (m,) of pairs (2, m)."""
    return (z.index_select(0, pairs[0]) * z.index_select(0, pairs[1])).sum(dim=1)


def link_loss(z: Tensor, data: Data) -> Tensor:
    """Binary cross-entropy of the pairs to be learned."""
    return F.binary_cross_entropy_with_logits(link_logits(z, data.edge_label_index), data.edge_label.to(z.dtype))

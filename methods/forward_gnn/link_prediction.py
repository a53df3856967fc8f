"""ForwardGNN for link prediction (the paper's CE variant), and the same network trained by backpropagation.

A layer scores a pair of nodes by s(u, v) = <z_u, z_v> and learns from its own binary cross-entropy on the training
edges and as many pairs that are no edges; then its detached output is the next layer's input. There are no virtual
nodes. The prediction is the mean over layers of sigmoid(s). Backpropagation trains the last layer's scores only.

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
from methods.forward_gnn.layers import Conv, ForwardLayer, sparse_or_dense
from methods.forward_gnn.training import PAPER, Protocol, Training, train, update


class LinkForwardGNN(nn.Module):
    """Layer-wise link prediction. Arguments as for `ForwardGNN`."""

    def __init__(
        self, in_channels: int, hidden_channels: int = 128, num_layers: int = 2, *, conv: Conv = "gcn"
    ) -> None:
        super().__init__()
        widths = [in_channels, *[hidden_channels] * num_layers]
        self.layers = nn.ModuleList(ForwardLayer(a, b, conv) for a, b in pairwise(widths))

    def fit(self, data: Data, val_data: Data, protocol: Protocol = PAPER) -> list[Training]:
        """Train the layers one after the other; the best area under the ROC curve of `val_data` is kept."""
        h, h_val = sparse_or_dense(data.x), sparse_or_dense(val_data.x)
        operator = self.layers[0].operator(data.edge_index, data.num_nodes)
        operator_val = self.layers[0].operator(val_data.edge_index, val_data.num_nodes)
        scores, history = torch.zeros_like(val_data.edge_label), []
        for layer in self.layers:
            z, z_val, optimizer = layer.fixed(h, operator), layer.fixed(h_val, operator_val), protocol.optimizer(layer)

            def scored(z_val=z_val, below: Tensor = scores) -> Tensor:  # type: ignore[no-untyped-def]
                return below + link_logits(z_val(), val_data.edge_label_index).sigmoid()

            history.append(
                train(
                    layer,
                    lambda z=z, optimizer=optimizer: update(optimizer, link_loss(z(), data)),
                    lambda scored=scored: roc_auc(scored(), val_data.edge_label),
                    protocol,
                )
            )
            with torch.no_grad():
                scores, h, h_val = scored(), z(), z_val()
        return history

    @torch.no_grad()
    def predict(self, data: Data) -> Tensor:
        """(m,) scores in [0, 1] of the pairs `data.edge_label_index`."""
        h, operator = sparse_or_dense(data.x), self.layers[0].operator(data.edge_index, data.num_nodes)
        scores = torch.zeros(data.edge_label_index.shape[1], device=data.x.device)
        for layer in self.layers:
            h = layer(h, operator)
            scores += link_logits(h, data.edge_label_index).sigmoid()
        return scores / len(self.layers)


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
        lambda: roc_auc(link_logits(model(*inputs_val), val_data.edge_label_index), val_data.edge_label),
        protocol,
    )


def link_logits(z: Tensor, pairs: Tensor) -> Tensor:
    """s(u, v) (m,) of pairs (2, m)."""
    return (z.index_select(0, pairs[0]) * z.index_select(0, pairs[1])).sum(dim=1)


def link_loss(z: Tensor, data: Data) -> Tensor:
    """Binary cross-entropy of the pairs to be learned."""
    return F.binary_cross_entropy_with_logits(link_logits(z, data.edge_label_index), data.edge_label)


def roc_auc(scores: Tensor, labels: Tensor) -> float:
    """Probability that an edge (label 1) scores above a pair that is none (label 0); ties count one half."""
    positive, negative = scores[labels == 1], scores[labels == 0].sort().values
    below = torch.searchsorted(negative, positive) + torch.searchsorted(negative, positive, right=True)
    return float(below.double().mean() / (2 * len(negative)))

"""DAGNN: deep adaptive graph neural network (Liu, Gao, Ji; KDD 2020, arXiv 2007.09296).

A layer of a graph convolutional network does two things: it transforms (a linear map and a ReLU) and it propagates
(every vertex takes the weighted mean of its neighbours). Stacking layers entangles the two, and accuracy collapses
after a few of them. That is commonly blamed on over-smoothing, on too much propagation; the paper finds the features
of such a collapsed network not yet smooth, and blames the entanglement. So DAGNN transforms once and propagates as
often as it likes:

    Z   = MLP(X)                                           to one number for each class
    H_0 = Z,  H_k = A H_(k-1),   k = 1 .. K                A = D^-1/2 (A + I) D^-1/2, nothing is learned here
    s_k = sigmoid(H_k w + b)                               how much each vertex takes of hop k
    Y   = sum_k s_k * H_k                                  logits

Every vertex thus has its own mix of near and far, at the price of C + 1 parameters: w (C,) and b are shared by all
hops and vertices. The gate is a sigmoid of each hop by itself, not a softmax over the hops: the weights of a vertex
sum to what they like. Propagation does over-smooth in the end, at infinite depth: see `smoothness.py`.

What rests on the released code rather than on the text: the gate's bias b, torch's default initialisation of all
three linear maps, and weight decay on the gate too.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.shared.checks import check_probabilities, check_sizes
from methods.shared.gcn import GCN
from methods.shared.graph import load_graph, propagation
from methods.shared.sparse import Linear, SparseMatrix, drop


class DAGNN(nn.Module):
    """Deep adaptive graph neural network, from `"Towards Deeper Graph Neural Networks" <https://arxiv.org/abs/2007.09296>`_.

    Args:
        in_channels: F, features of a vertex.
        hidden_channels: width of the MLP's hidden layers.
        out_channels: C, classes.
        K: hops of propagation; 0 leaves an MLP whose logits are gated.
        dropout: probability, before every linear map of the MLP. There is none between hops.
        num_layers: linear maps of the MLP.

    Raises:
        ValueError, TypeError: K below 0, another size below 1, or a dropout outside [0, 1].
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        K: int = 10,
        dropout: float = 0.5,
        num_layers: int = 2,
    ) -> None:
        super().__init__()
        check_sizes(
            "DAGNN", in_channels=in_channels, hidden_channels=hidden_channels, out_channels=out_channels,
            num_layers=num_layers,
        )  # fmt: skip
        check_sizes("DAGNN", least=0, K=K)
        check_probabilities("DAGNN", dropout=dropout)
        widths = [in_channels, *[hidden_channels] * (num_layers - 1), out_channels]
        self.mlp = nn.ModuleList(Linear(a, b) for a, b in pairwise(widths))
        self.gate = nn.Linear(out_channels, 1)
        self.K, self.dropout = K, dropout

    def reset_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()

    def forward(self, x: Tensor | SparseMatrix, edge_index: Tensor | SparseMatrix) -> Tensor:
        """Logits (N, C).

        Args:
            x: (N, F) features, dense or sparse.
            edge_index: (2, A) arcs, both directions of each edge; or the matrix that `propagation(edge_index, N)`
                makes of them, prepared once for all epochs.

        Raises:
            TypeError, ValueError, IndexError: invalid arcs, see `methods.shared.graph.checked_edge_index`.
        """
        z = self.transform(x)
        return self.mix(hops(z, propagation(edge_index, x.shape[0], z.dtype), self.K))

    def transform(self, x: Tensor | SparseMatrix) -> Tensor:
        """Z (N, C)."""
        for linear in self.mlp[:-1]:
            x = torch.relu(linear(drop(x, self.dropout, self.training)))
        return self.mlp[-1](drop(x, self.dropout, self.training))

    def mix(self, h: Tensor) -> Tensor:
        """Y (N, C) of the hops (K + 1, N, C)."""
        return (torch.sigmoid(self.gate(h)) * h).sum(dim=0)


def hops(z: Tensor, adjacency: SparseMatrix, K: int) -> Tensor:
    """H_0 .. H_K of z (N, C): (K + 1, N, C)."""
    h = [z]
    for _ in range(K):
        h.append(adjacency @ h[-1])
    return torch.stack(h)


def main() -> None:
    """Train DAGNN and a two-layer GCN on a generated graph of four communities, and print how they do."""
    torch.manual_seed(0)
    data = load_graph("csbm_clustered")
    adjacency = propagation(data.edge_index, data.num_nodes)
    for name, model in (
        ("DAGNN", DAGNN(data.num_features, 32, 4, K=10)),
        ("GCN", GCN(data.num_features, 32, 4, [1, 1])),
    ):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
        for epoch in range(1, 121):
            model.train()
            loss = F.cross_entropy(model(data.x, adjacency)[data.train_mask], data.y[data.train_mask])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if epoch % 40 == 0:
                with torch.no_grad():
                    right = (model.eval()(data.x, adjacency).argmax(dim=1) == data.y).float()
                val, test = right[data.val_mask].mean(), right[data.test_mask].mean()
                print(f"{name:5}  epoch {epoch:3}  loss {loss:.3f}  validation {val:6.1%}  test {test:6.1%}")

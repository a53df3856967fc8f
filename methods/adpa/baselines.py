"""What ADPA is compared with: one network per way to use, or not to use, the directions.

GCN on the symmetrised graph and the perceptron are `methods.shared.gcn.GCN`.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch_geometric.nn import DirGNNConv, SAGEConv

from methods.shared.graph import checked_edge_index, mean_adjacency, propagation
from methods.shared.sparse import SparseMatrix


class SIGN(nn.Module):
    """A perceptron on X || PX || ... || P^K X, with P = D^-1/2 (A + I) D^-1/2: SIGN and SGC's decoupling.

    Frasca et al., "SIGN: Scalable Inception Graph Neural Networks", 2020, with powers of one operator.

    Args:
        in_channels, hidden_channels, out_channels: F, width of each hop, C.
        K: hops.
        dropout: probability, after the relu.
    """

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int, K: int = 2,
                 dropout: float = 0.5) -> None:  # fmt: skip
        super().__init__()
        self.K, self.dropout = K, dropout
        self.hops = nn.ModuleList(nn.Linear(in_channels, hidden_channels) for _ in range(K + 1))
        self.classifier = nn.Linear((K + 1) * hidden_channels, out_channels)

    def propagate(self, x: Tensor, edge_index: Tensor | SparseMatrix) -> list[Tensor]:
        """X to P^K X, (N, F) each: made once, before training."""
        operator, found = propagation(edge_index, len(x), x.dtype), [x]
        for _ in range(self.K):
            found.append(operator @ found[-1])
        return found

    def forward(self, x: Tensor, edge_index: Tensor | SparseMatrix | list[Tensor]) -> Tensor:
        """x (N, F); arcs, the propagation, or what `propagate` made of both -> logits (N, C)."""
        hops = edge_index if isinstance(edge_index, list) else self.propagate(x, edge_index)
        h = torch.cat([linear(hop) for linear, hop in zip(self.hops, hops, strict=True)], dim=1)
        return self.classifier(torch.dropout(torch.relu(h), self.dropout, self.training))


class DirGNN(nn.Module):
    """Weights of their own for what comes in, for what goes out and for the vertex itself, in every layer:

        h' = relu((W_in mean_in(h) + b_in) / 2 + (W_out mean_out(h) + b_out) / 2 + W h + b)

    Rossi et al., "Edge Directionality Improves Learning on Heterophilic Graphs", LoG 2023. Equal in output to
    torch-geometric's `DirGNNConv(SAGEConv(...))`, but it multiplies by W before averaging, with stored matrices: on
    256 features that is several times faster (`peer_epoch` races both).

    Args:
        in_channels, hidden_channels, out_channels: F, width, C.
        num_layers: layers, after which a linear map classifies.
        dropout: probability, after every relu.
    """

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int, num_layers: int = 2,
                 dropout: float = 0.5) -> None:  # fmt: skip
        super().__init__()
        widths = [in_channels, *[hidden_channels] * num_layers]
        pairs = list(pairwise(widths))
        self.into, self.out_of, self.own = (nn.ModuleList(nn.Linear(a, b) for a, b in pairs) for _ in range(3))
        self.classifier, self.dropout = nn.Linear(hidden_channels, out_channels), dropout

    @staticmethod
    def propagations(
        edge_index: Tensor, num_nodes: int, dtype: torch.dtype = torch.float32
    ) -> tuple[SparseMatrix, SparseMatrix]:
        """Means over who points here, and over whom one points at: made once, before training."""
        arcs = checked_edge_index(edge_index, num_nodes)
        return (
            SparseMatrix(mean_adjacency(arcs, num_nodes, dtype)),
            SparseMatrix(mean_adjacency(arcs.flip(0), num_nodes, dtype)),
        )

    def forward(self, x: Tensor, edge_index: Tensor | tuple[SparseMatrix, SparseMatrix]) -> Tensor:
        """x (N, F); arcs (2, A), or what `propagations` made of them -> logits (N, C)."""
        means = edge_index if isinstance(edge_index, tuple) else self.propagations(edge_index, len(x), x.dtype)
        for into, out_of, own in zip(self.into, self.out_of, self.own, strict=True):
            received = means[0] @ (x @ into.weight.T) + into.bias
            sent = means[1] @ (x @ out_of.weight.T) + out_of.bias
            x = torch.dropout(torch.relu((received + sent) / 2 + own(x)), self.dropout, self.training)
        return self.classifier(x)


class PyGDirGNN(nn.Module):
    """The same network of torch-geometric's own layer; arguments as for `DirGNN`."""

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int, num_layers: int = 2,
                 dropout: float = 0.5) -> None:  # fmt: skip
        super().__init__()
        widths = [in_channels, *[hidden_channels] * num_layers]
        # the layer has a weight for the vertex itself already
        self.convs = nn.ModuleList(DirGNNConv(SAGEConv(a, b, root_weight=False)) for a, b in pairwise(widths))
        self.classifier, self.dropout = nn.Linear(hidden_channels, out_channels), dropout

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """x (N, F), edge_index (2, A) -> logits (N, C)."""
        for conv in self.convs:
            x = torch.dropout(torch.relu(conv(x, edge_index)), self.dropout, self.training)
        return self.classifier(x)


class PlainADPA(nn.Module):
    """ADPA of num_layers=1 composed of torch's own layers, as its formulas read: what ours is raced against.

    Equal to `ADPA` in output. It makes the concatenations [X^(0) || ... || X^(K) || X^(k)] of every vertex and hop.

    Args:
        in_channels, hidden_channels, out_channels, K, dropout: as for `ADPA`.
        patterns: their number.
    """

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int, K: int = 2, dropout: float = 0.5,
                 patterns: int = 6) -> None:  # fmt: skip
        super().__init__()
        self.scorers = nn.ModuleList(nn.Linear((K + 2) * in_channels, 1) for _ in range(patterns))
        self.linears = nn.ModuleList(nn.Linear(in_channels, hidden_channels) for _ in range(patterns + 1))
        self.theta = nn.Parameter(torch.randn(patterns + 1))
        self.classifier = nn.Linear((patterns + 1) * hidden_channels, out_channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, hops: Tensor) -> Tensor:
        """x (N, F), hops (patterns, K, N, F) of `methods.adpa.adpa.propagate` -> logits (N, C)."""
        channels = [x]
        for scorer, steps in zip(self.scorers, hops, strict=True):
            every = torch.stack([x, *steps], dim=1)  # (N, K+1, F)
            reference = every.flatten(1).unsqueeze(1).expand(-1, every.shape[1], -1)
            scores = torch.sigmoid(scorer(torch.cat([reference, every], dim=2)))  # (N, K+1, 1)
            channels.append((torch.softmax(scores, dim=1) * every).sum(dim=1))
        h = [self.dropout(torch.relu(linear(c))) for linear, c in zip(self.linears, channels, strict=True)]
        return self.classifier(torch.cat([theta * part for theta, part in zip(self.theta, h, strict=True)], dim=1))

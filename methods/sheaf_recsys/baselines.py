"""What the sheaf network is compared with: MF, LightGCN, NGCF, GAT, item-kNN and popularity.

LightGCN and GAT are torch-geometric's. In its models the propagation over a graph dominates the time, so each has a
twin layer here with the same parameters and output whose propagation is a stored sparse product; the tests show that
they are equal and the experiment `step_time` what they save.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GATConv
from torch_geometric.nn.models import LightGCN

from methods.shared.kernels.gather import gather
from methods.shared.sparse import SparseMatrix
from methods.sheaf_recsys.data import Interactions
from methods.sheaf_recsys.sheaf_recsys import INITIAL_STD


def symmetric_adjacency(edge_index: Tensor, num_nodes: int) -> SparseMatrix:
    """D^-1/2 A D^-1/2 without self loops, the propagation of LightGCN and NGCF; zero rows for isolated nodes."""
    row, column = edge_index
    degree = torch.bincount(row, minlength=num_nodes).float()
    order = (row * num_nodes + column).argsort()
    starts = torch.cat([row.new_zeros(1), torch.bincount(row, minlength=num_nodes).cumsum(0)])
    return SparseMatrix(_csr(starts, column[order], (degree[row] * degree[column]).rsqrt()[order]))


def _csr(starts: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """A square sparse CSR matrix. torch calls this layout a beta in every process that uses it."""
    size = (len(starts) - 1, len(starts) - 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(starts, columns, values, size=size, check_invariants=False)


class StoredPropagation(nn.Module):
    """torch-geometric's `LGConv` for a graph that is given as its matrix D^-1/2 A D^-1/2."""

    def forward(self, x: Tensor, adjacency: SparseMatrix, edge_weight: None = None) -> Tensor:
        return adjacency @ x


def lightgcn(num_nodes: int, embedding_dim: int, num_layers: int) -> LightGCN:
    """torch-geometric's LightGCN whose layers take a `symmetric_adjacency`. Without layers it is BPR-MF."""
    model = LightGCN(num_nodes, embedding_dim, num_layers)
    model.convs = nn.ModuleList(StoredPropagation() for _ in range(num_layers))
    return _released_start(model)


class NGCFConv(nn.Module):
    """leaky_relu(dropout((A_hat + I) X W1 + (A_hat X * X) W2)): Wang et al. 2019, equation 7.

    The bipartite messages W1 x_u + W2 (x_u * x_v) are linear in x_u, so they are summed before they are mapped.
    """

    def __init__(self, channels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.lin_1, self.lin_2 = (nn.Linear(channels, channels, bias=False) for _ in range(2))
        self.dropout = dropout
        nn.init.xavier_uniform_(self.lin_1.weight)
        nn.init.xavier_uniform_(self.lin_2.weight)

    def forward(self, x: Tensor, adjacency: SparseMatrix) -> Tensor:
        received = adjacency @ x
        message = self.lin_1(received + x) + self.lin_2(received * x)
        return F.leaky_relu(F.dropout(message, self.dropout, self.training), 0.2)


class NGCF(nn.Module):
    """Neural graph collaborative filtering; the output concatenates all layers, as its authors do."""

    def __init__(self, num_nodes: int, embedding_dim: int, num_layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_nodes, embedding_dim)
        self.convs = nn.ModuleList(NGCFConv(embedding_dim) for _ in range(num_layers))
        _released_start(self)

    def get_embedding(self, adjacency: SparseMatrix) -> Tensor:
        states = [self.embedding.weight]
        for conv in self.convs:
            states.append(conv(states[-1], adjacency))
        return torch.cat(states, dim=1)


class AttentionGraph:
    """Arcs of an undirected graph and its self loops by receiver, for products with one learned value per arc.

    Args:
        edge_index: (2, A) int64, both arcs of each edge once, no self loop.
        num_nodes: N.

    Attributes:
        receiver, sender: (A + N,) int64.
        starts: (N + 1,) int64, where the arcs of each receiver begin.
        reverse: (A + N,) int64, the place of the reversed arc.
    """

    def __init__(self, edge_index: Tensor, num_nodes: int) -> None:
        loops = torch.arange(num_nodes, device=edge_index.device)
        key = (edge_index[0] * num_nodes + edge_index[1]).sort().values
        key = torch.cat([key, loops * (num_nodes + 1)]).sort().values
        self.num_nodes, self.receiver, self.sender = num_nodes, key // num_nodes, key % num_nodes
        self.reverse = (self.sender * num_nodes + self.receiver).argsort()
        counts = torch.bincount(self.receiver, minlength=num_nodes)
        self.starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])

    def matrix(self, values: Tensor) -> Tensor:
        """(A + N,) values of arcs -> (N, N) sparse CSR, a row per receiver."""
        return _csr(self.starts, self.sender, values)


class StoredGATConv(GATConv):
    """torch-geometric's `GATConv` with one head and no dropout, over an `AttentionGraph`.

    Parameters and output are the parent's. Numerator and denominator of the softmax-weighted mean are one product.
    """

    def forward(self, x: Tensor, graph: AttentionGraph) -> Tensor:
        mapped = self.lin(x)
        source, target = (mapped @ weight.flatten() for weight in (self.att_src, self.att_dst))
        score = target.index_select(0, graph.receiver) + source.index_select(0, graph.sender)
        score = F.leaky_relu(score, self.negative_slope)
        highest = torch.segment_reduce(score.detach(), "max", offsets=graph.starts)
        weight = (score - highest.index_select(0, graph.receiver)).exp()
        total = gather(weight, torch.cat([mapped, torch.ones_like(mapped[:, :1])], dim=1), graph)
        return total[:, :-1] / total[:, -1:] + self.bias


class GAT(nn.Module):
    """Graph attention with one head; the output is the mean over the layers, as in the paper's code."""

    def __init__(self, num_nodes: int, embedding_dim: int, num_layers: int, stored: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_nodes, embedding_dim)
        kind = StoredGATConv if stored else GATConv
        self.convs = nn.ModuleList(kind(embedding_dim, embedding_dim) for _ in range(num_layers))
        _released_start(self)

    def get_embedding(self, graph: AttentionGraph | Tensor) -> Tensor:
        states = [self.embedding.weight]
        for conv in self.convs:
            states.append(conv(states[-1], graph))
        return torch.stack(states).mean(0)


class StandardConvs(nn.Module):
    """Learned embeddings and layers of torch-geometric's `GCNConv` or `SAGEConv`, ReLU between."""

    def __init__(self, num_nodes: int, embedding_dim: int, num_layers: int, kind: type[nn.Module]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_nodes, embedding_dim)
        self.convs = nn.ModuleList(kind(embedding_dim, embedding_dim) for _ in range(num_layers))
        nn.init.normal_(self.embedding.weight, std=INITIAL_STD)

    def get_embedding(self, edge_index: Tensor) -> Tensor:
        x = self.convs[0](self.embedding.weight, edge_index)
        for conv in self.convs[1:]:
            x = conv(F.relu(x), edge_index)
        return x


def popularity(data: Interactions) -> Tensor:
    """Scores (num_users, num_items): how many users met the item in training."""
    return torch.bincount(data.train[1], minlength=data.num_items).float().expand(data.num_users, -1)


def item_knn(data: Interactions, neighbors: int) -> Tensor:
    """Scores (num_users, num_items): the cosine similarities of an item with the items of the user, summed.

    Args:
        neighbors: of each item only so many most similar ones count, the item itself not among them.
    """
    met = data.matrix(data.train).float()
    unit = met / met.norm(dim=0).clamp(min=1e-12)
    similarity = (unit.T @ unit).fill_diagonal_(0)
    best = similarity.topk(min(neighbors, data.num_items), dim=1)
    kept = torch.zeros_like(similarity).scatter_(1, best.indices, best.values)
    return met @ kept.T


def _released_start(model: Any) -> Any:
    """All models start from the embeddings that the paper's code draws, N(0, 0.1^2)."""
    nn.init.normal_(model.embedding.weight, std=INITIAL_STD)
    return model

"""What DGMLP is compared with: other mixes of the hops, and DGMLP itself as torch-geometric's users would compose it.

GCN, the perceptrons, ResGCN, DenseGCN and APPNP are lists of hops for `methods.shared.gcn.GCN`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn
from torch_geometric.nn import APPNP
from torch_geometric.utils import degree, scatter, to_scipy_sparse_matrix


def last_hop(K: int) -> Tensor:
    """Weights (K + 1,) of SGC (Wu et al., ICML 2019): hop K alone."""
    return torch.eye(K + 1)[K]


def uniform(K: int) -> Tensor:
    """Weights (K + 1,) of the average over hops 0..K."""
    return torch.full((K + 1,), 1 / (K + 1))


def s2gc(K: int, alpha: float = 0.05) -> Tensor:
    """Weights (K + 1,) of S2GC (Zhu and Koniusz, ICLR 2021): alpha at hop 0, the rest evenly over hops 1..K."""
    return torch.tensor([alpha, *[(1 - alpha) / K] * K])


class PeerDGMLP(nn.Module):
    """DGMLP with one linear layer, composed of torch-geometric's parts: the racing peer.

    All hops are kept, and all vertices go through the linear layer in every step, as in its examples and in the
    official code. A hop is `APPNP` with one step and no restart, which multiplies by D~^-1/2 (Adj + I) D~^-1/2.
    """

    def __init__(self, in_channels: int, out_channels: int, K: int, dropout: float) -> None:
        super().__init__()
        self.propagate = APPNP(K=1, alpha=0.0)
        self.linear = nn.Linear(in_channels, out_channels)
        self.K, self.dropout = K, dropout

    def smooth(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """(N, F), the node-adaptive mix of hops 0..K."""
        hops = [x]
        for _ in range(self.K):
            hops.append(self.propagate(hops[-1], edge_index))
        stack = torch.stack(hops, dim=1)  # (N, K + 1, F)
        graph = to_scipy_sparse_matrix(edge_index, num_nodes=len(x))
        component = torch.from_numpy(connected_components(graph, directed=False)[1]).long().to(x.device)
        with_loop = degree(edge_index[0], len(x)) + 1
        limit = (scatter(with_loop[:, None] * x, component) / scatter(with_loop, component)[:, None])[component]
        to_start = F.cosine_similarity(stack, x.unsqueeze(1), dim=-1)
        to_limit = F.cosine_similarity(stack, limit.unsqueeze(1), dim=-1)
        weights = torch.softmax(to_start * (1 - to_limit), dim=1)
        return (weights.unsqueeze(-1) * stack).sum(dim=1)

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, F) of `smooth` -> logits (N, C)."""
        return self.linear(F.dropout(features, self.dropout, self.training))

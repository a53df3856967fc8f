"""Sheaf neural networks for recommendation (Purificato, Cassara, Lio, Silvestri; 2023, arXiv 2304.09097).

Graph recommenders such as LightGCN give every user and item a vector and average it over neighbours; each further
layer makes neighbours more alike. A cellular sheaf gives every node and every edge a vector space, its stalk, and each
end of an edge a linear *restriction map* from the node's stalk to the edge's. Two ends agree if their restrictions are
equal, and the sheaf Laplacian measures by how much they do not. The maps are learned, so that an edge can pull its
ends together or push them apart.

For the arc (v, u) of an edge e, with m_vu the map from v's stalk to that of e:

    maps        m_vu = tanh(V [x_v ; x_u])                                                              (1)
    Laplacian   L_vv = sum_u m_vu^T m_vu,    L_vu = -m_vu^T m_uv                                        (2)
                Delta = (D + I)^-1/2 L (D + I)^-1/2,    D = the diagonal blocks of L                    (3)
    layer       X <- X - Delta (I (x) W1) (X W2 + b)                                                    (4)
    output      [E ; X_1 ; ... ; X_L], and a user's score of an item is the dot product of their rows   (5)

E is a table of learned embeddings; every layer has maps and weights of its own, and no non-linearity. That is the
released model, in which d = 1: a map is one number m in (-1, 1), and the "vector space of a node" is the width f of X,
on which maps act as a scalar. The text describes stalks of any dimension d. `stalk_dim` > 1 is the released layer with
such stalks, a node's d f numbers being f vectors of its stalk, with general or diagonal maps; of the text's layer it
lacks the non-linearity after Delta and the orthogonal maps (Neural Sheaf Diffusion, in this project, has both).

Delta is applied by `methods/shared/sheaf.py`, the one sheaf Laplacian of this project: a sparse product whose backward
pass never holds two nodes' features per arc. `training.py` has the loss; reading (1) to (5) in `SheafConv` and
`SheafRecommender` is reading the paper.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.shared.checks import check_option, check_sizes
from methods.shared.graph import checked_edge_index, node_ids
from methods.shared.metrics import require_finite
from methods.shared.sheaf import MapLearner, SheafIndex, SheafLaplacian
from methods.sheaf_recsys.data import generated_interactions
from methods.sheaf_recsys.training import TripleSampler, evaluate, rank_items

INITIAL_STD = 0.1  # of the embeddings, as released


class SheafConv(nn.Module):
    """One layer, equations (1) to (4).

    Args:
        channels: c = d f, the width of a node.
        stalk_dim: d; it divides `channels`.
        maps: "general" (d, d) matrices, or "diagonal" ones. The same for d = 1.

    Raises:
        TypeError: a size that is no whole number.
        ValueError: a size below 1, `stalk_dim` does not divide `channels`, or maps of another name.
    """

    def __init__(self, channels: int, stalk_dim: int = 1, maps: Literal["general", "diagonal"] = "general") -> None:
        super().__init__()
        check_sizes("SheafConv", channels=channels, stalk_dim=stalk_dim)
        check_option("SheafConv", "maps", maps, ("general", "diagonal"))
        if channels % stalk_dim:
            raise ValueError(f"stalk_dim {stalk_dim} does not divide the {channels} channels")
        self.stalk_dim = stalk_dim
        self.full = maps == "general" and stalk_dim > 1
        self.learner = MapLearner(channels, stalk_dim**2 if self.full else stalk_dim)
        self.linear = nn.Linear(channels // stalk_dim, channels // stalk_dim)
        # with d = 1 a 1 x 1 matrix beside W2 would be redundant
        self.mix = nn.Parameter(torch.eye(stalk_dim)) if stalk_dim > 1 else None

    def laplacian(self, x: Tensor, index: SheafIndex) -> SheafLaplacian:
        """Delta of equations (1) to (3) for node features x (N, c)."""
        maps = self.learner(x, index)
        if self.full:
            maps = maps.unflatten(1, (self.stalk_dim, self.stalk_dim))
        return SheafLaplacian(index, maps.squeeze(1) if self.stalk_dim == 1 else maps)

    def forward(self, x: Tensor, index: SheafIndex) -> Tensor:
        """x (N, c) -> (N, c). Raises ValueError for another shape."""
        if x.shape != (index.num_nodes, self.stalk_dim * self.linear.in_features):
            wanted = (index.num_nodes, self.stalk_dim * self.linear.in_features)
            raise ValueError(f"x: needs shape {wanted}, got {tuple(x.shape)}")
        delta = self.laplacian(x, index)
        if self.mix is None:
            return x - delta @ self.linear(x)
        stalks = self.mix @ self.linear(x.unflatten(1, (self.stalk_dim, -1)))  # (N, d, f)
        return x - (delta @ stalks).flatten(1)


class SheafRecommender(nn.Module):
    """A sheaf network over the graph of who interacted with what; used as torch-geometric's `LightGCN` is.

    Args:
        num_nodes: N, users and items together.
        embedding_dim: c, the width of an embedding.
        num_layers: L.
        stalk_dim: d. 1 is the released model. The embedding stays c wide, as f = c / d vectors of the stalk, so
            models of different d have almost equally many parameters.
        maps: as for `SheafConv`.
    """

    def __init__(
        self, num_nodes: int, embedding_dim: int, num_layers: int, stalk_dim: int = 1,
        maps: Literal["general", "diagonal"] = "general",
    ) -> None:  # fmt: skip
        super().__init__()
        check_sizes("SheafRecommender", num_nodes=num_nodes, embedding_dim=embedding_dim, stalk_dim=stalk_dim)
        check_sizes("SheafRecommender", least=0, num_layers=num_layers)
        self.num_nodes, self.embedding_dim, self.num_layers = num_nodes, embedding_dim, num_layers
        self.embedding = nn.Embedding(num_nodes, embedding_dim)
        self.convs = nn.ModuleList(SheafConv(embedding_dim, stalk_dim, maps) for _ in range(num_layers))
        nn.init.normal_(self.embedding.weight, std=INITIAL_STD)

    def layers(self, edge_index: Tensor | SheafIndex) -> list[Tensor]:
        """E, X_1, ..., X_L, each (N, c)."""
        index = edge_index if isinstance(edge_index, SheafIndex) else SheafIndex(edge_index, self.num_nodes)
        if index.num_nodes != self.num_nodes:
            raise ValueError(f"edge_index: a SheafIndex of {index.num_nodes} nodes for a model of {self.num_nodes}")
        states = [self.embedding.weight]
        for conv in self.convs:
            states.append(conv(states[-1], index))
        return states

    def get_embedding(self, edge_index: Tensor | SheafIndex) -> Tensor:
        """The output (5), (N, c (L + 1)).

        Args:
            edge_index: (2, A) int64, an arc per interaction or both; or `SheafIndex(edge_index, num_nodes)`, which
                spares a training loop from sorting the arcs in every step.
        """
        return torch.cat(self.layers(edge_index), dim=1)

    def forward(self, edge_index: Tensor | SheafIndex, edge_label_index: Tensor | None = None) -> Tensor:
        """Scores (B,) of the pairs `edge_label_index` (2, B); by default of the graph's own arcs.

        Raises:
            TypeError, ValueError, IndexError: arcs or pairs are none of `num_nodes` nodes.
        """
        if edge_label_index is None:
            edge_label_index = edge_index.arcs if isinstance(edge_index, SheafIndex) else edge_index
        edge_label_index = checked_edge_index(edge_label_index, self.num_nodes)
        output = self.get_embedding(edge_index)
        return (output[edge_label_index[0]] * output[edge_label_index[1]]).sum(1)

    def recommend(self, edge_index: Tensor | SheafIndex, src_index: Tensor | None = None,
                  dst_index: Tensor | None = None, k: int = 1) -> Tensor:  # fmt: skip
        """The k nodes of `dst_index` with the highest scores for each node of `src_index`, best first: (S, k).

        Items that a user has met take part, as with `LightGCN.recommend`.

        Raises:
            TypeError, ValueError, IndexError: arcs or nodes are none of `num_nodes`, k is not one of 1 .. the number
                of items, or a score is not finite.
        """
        output, every = (
            self.get_embedding(edge_index),
            torch.arange(self.num_nodes, device=self.embedding.weight.device),
        )
        source = every if src_index is None else node_ids(src_index, self.num_nodes, "src_index")
        target = every if dst_index is None else node_ids(dst_index, self.num_nodes, "dst_index")
        check_sizes("recommend", k=k)
        if k > len(target):
            raise ValueError(f"recommend: k is {k}, but there are {len(target)} nodes to choose from")
        scores = output[source] @ output[target].T
        require_finite(scores)
        return target[scores.topk(k).indices]


def main() -> None:
    """Train the sheaf network on generated users with three tastes, and print its ranking beside popularity's."""
    torch.manual_seed(0)
    data = generated_interactions(120, 180)
    index, sampler = SheafIndex(data.edge_index, data.num_nodes), TripleSampler(data, seed=0)
    model = SheafRecommender(data.num_nodes, embedding_dim=16, num_layers=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(1, 121):
        output = model.get_embedding(index)
        user, liked, other = (output[nodes] for nodes in sampler.draw())
        loss = F.softplus((user * (other - liked)).sum(dim=1)).mean()  # BPR: a liked item scores above another one
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 40 == 0:
            f1 = evaluate(model, index, data, "test").at("f1", 10)
            print(f"sheaf       step {step:3}  loss {loss:.3f}  F1@10 on the test {f1:.1%}")
    popular = torch.bincount(data.train[1], minlength=data.num_items).float().expand(data.num_users, -1)
    print(f"popularity                         F1@10 on the test {rank_items(popular, data, 'test').at('f1', 10):.1%}")

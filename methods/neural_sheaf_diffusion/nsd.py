"""Neural Sheaf Diffusion (Bodnar, Di Giovanni, Chamberlain, Lio, Bronstein; NeurIPS 2022): learn the sheaf, diffuse.

Every node v holds X_v, a matrix of d stalk rows and f channels. One layer is

    X <- (1 + tanh eps) * X - elu(Delta (I_N x W1) X W2)

where Delta is the sheaf Laplacian of restriction maps that the layer itself computes from X: of arc (v, u) it is
phi(tanh(V [x_v || x_u])). The trivial sheaf (all maps the identity) makes neighbours equal, which smooths classes away
where neighbours differ; signed scalars, diagonals and rotations have other harmonic spaces, which can keep them apart.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.shared.checks import check_option, check_probabilities, check_sizes
from methods.shared.gcn import GCN
from methods.shared.graph import load_graph, propagation
from methods.shared.orthogonal import cayley, exponential, householder
from methods.shared.sheaf import MapLearner, SheafIndex, SheafLaplacian
from methods.shared.sparse import Linear, SparseMatrix, drop

Maps = Literal["diagonal", "orthogonal", "general", "identity"]
ORTHOGONAL = {"householder": householder, "cayley": cayley, "exponential": exponential}


class SheafLayer(nn.Module):
    """One step of diffusion along a sheaf that is learnt from the same features (section 4 of the paper).

    Args:
        channels: f.
        stalk_dim: d, rows that diffuse along the learnt sheaf.
        maps: what the restriction maps are. "identity" learns none: the ablation.
        fixed: signs of further stalk rows whose maps are constant: +1 diffuses along the graph Laplacian, -1 along the
            signless one, whose maps have opposite signs at the two ends of each edge.
        sparse_learner: V is d times smaller, as it sees sums of stalk rows. The paper's code cuts the 2 d rows of
            [x_v || x_u] into pairs and sums these, so V_1 sees the even rows of v and, for an odd d, the odd rows of u,
            and V_2 the others. For an even d the maps at both ends of an edge are equal.
        edge_weights: orthogonal maps times sigmoid(a [x_v || x_u]) sigmoid(a [x_u || x_v]).
        orthogonal: how parameters become orthogonal matrices, a key of `ORTHOGONAL`.
    """

    def __init__(
        self, channels: int, stalk_dim: int, maps: Maps, fixed: tuple[int, ...], sparse_learner: bool,
        edge_weights: bool, orthogonal: str,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stalk_dim, self.maps, self.fixed = stalk_dim, maps, fixed
        self.sparse_learner, self.orthogonal = sparse_learner, ORTHOGONAL[orthogonal]
        rows = stalk_dim + len(fixed)
        self.left = nn.Parameter(torch.eye(rows))
        self.right = nn.Parameter(torch.empty(channels, channels))
        self.epsilon = nn.Parameter(torch.zeros(rows, 1))
        nn.init.orthogonal_(self.right)
        params = {"diagonal": stalk_dim, "orthogonal": stalk_dim * (stalk_dim - 1) // 2, "general": stalk_dim**2}
        learner = channels if sparse_learner else rows * channels
        self.sheaf = None if maps == "identity" else MapLearner(learner, params[maps])
        self.weigher = MapLearner(rows * channels, 1) if edge_weights else None

    def forward(self, x: Tensor, index: SheafIndex, dropout: float = 0.0, sheaf_dropout: float = 0.0) -> Tensor:
        """x (N, rows, f) -> (N, rows, f). The residual x is taken as it is, without dropout."""
        right = F.linear(F.dropout(x, dropout, self.training), self.right)
        # as a matmul, `left` would be copied for every node
        mixed = torch.einsum("kl,nlf->nkf", self.left, right)
        diffused = self._diffuse(mixed, F.dropout(x, sheaf_dropout, self.training), index)
        return (1 + torch.tanh(self.epsilon)) * x - F.elu(diffused)

    def _diffuse(self, y: Tensor, x: Tensor, index: SheafIndex) -> Tensor:
        """Delta y, with the maps that x gives."""
        if self.sheaf is None and not self.fixed:
            return SheafLaplacian(index, y.new_ones(index.arcs.shape[1])) @ y
        fixed = [torch.cat([y.new_ones(index.num_edges), y.new_full((index.num_edges,), sign)]) for sign in self.fixed]
        if self.maps == "diagonal" or self.maps == "identity":
            learnt = self.restriction_maps(x, index)
            return SheafLaplacian(index, torch.cat([learnt, *[row.unsqueeze(1) for row in fixed]], dim=1)) @ y
        laplacian = SheafLaplacian(
            index, self.restriction_maps(x, index), orthogonal=self.maps == "orthogonal", weights=self.weights(x, index)
        )
        if not fixed:
            return laplacian @ y
        rest = SheafLaplacian(index, torch.stack(fixed, dim=1)) @ y[:, self.stalk_dim :]
        return torch.cat([laplacian @ y[:, : self.stalk_dim], rest], dim=1)

    def restriction_maps(self, x: Tensor, index: SheafIndex) -> Tensor:
        """x (N, rows, f) -> maps per arc: (2m, d) diagonals, else (2m, d, d); ones (2m, d) for the identity sheaf."""
        if self.sheaf is None:
            return x.new_ones(index.arcs.shape[1], self.stalk_dim)
        params = self._sparse_params(x, index) if self.sparse_learner else self.sheaf(x.flatten(1), index)
        if self.maps == "orthogonal":
            return self.orthogonal(params, self.stalk_dim)
        return params if self.maps == "diagonal" else params.unflatten(1, (self.stalk_dim, self.stalk_dim))

    def _sparse_params(self, x: Tensor, index: SheafIndex) -> Tensor:
        """tanh(V_1 a + V_2 b) per arc (v, u), a and b the sums of the even and the odd rows of [x_v || x_u]."""
        first, second = self.sheaf.weight.chunk(2)
        even, odd = x[:, ::2].sum(dim=1), x[:, 1::2].sum(dim=1)
        own = even @ first.T + odd @ second.T
        other = odd @ first.T + even @ second.T if x.shape[1] % 2 else own
        return index.pairs(own, other).tanh()

    def weights(self, x: Tensor, index: SheafIndex) -> Tensor | None:
        """(m,) in (0, 1), equal from both ends; None if edges have none."""
        if self.weigher is None:
            return None
        gates = torch.sigmoid(self.weigher.scores(x.flatten(1), index)).squeeze(1)
        return gates[: index.num_edges] * gates[index.num_edges :]


class NSD(nn.Module):
    """A linear encoder into stalks, `num_layers` sheaf diffusion layers, a linear decoder.

    Args:
        in_channels: features of a node.
        hidden_channels: f, channels of each stalk row; a node is stalk_dim * f numbers wide.
        out_channels: classes.
        num_layers: steps of diffusion, each with a sheaf of its own.
        stalk_dim: d.
        maps: "diagonal", "orthogonal" (the O(d) bundle) or "general"; "identity" for the trivial sheaf.
        dropout: on what enters the layers' maps and weights. input_dropout: on the features.
        sparse_learner, edge_weights, orthogonal: as for `SheafLayer`.
        add_lp, add_hp: one more stalk row with constant maps, that diffuses along the signless graph Laplacian or the
            graph Laplacian. The names are those of the released code.
        second_linear: one more linear layer in the encoder.

    Raises:
        TypeError: a size that is no whole number, or a dropout that is no number.
        ValueError: one out of range, maps or orthogonal of an unknown name, or edge weights without orthogonal maps.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, out_channels: int, num_layers: int = 2, *, stalk_dim: int = 3,
        maps: Maps = "diagonal", dropout: float = 0.5, input_dropout: float = 0.0, sparse_learner: bool = False,
        add_lp: bool = False, add_hp: bool = False, second_linear: bool = False, edge_weights: bool = False,
        orthogonal: str = "householder",
    ) -> None:  # fmt: skip
        super().__init__()
        sizes = dict(in_channels=in_channels, hidden_channels=hidden_channels, out_channels=out_channels)
        check_sizes("NSD", **sizes, stalk_dim=stalk_dim)
        check_sizes("NSD", least=0, num_layers=num_layers)
        check_probabilities("NSD", dropout=dropout, input_dropout=input_dropout)
        check_option("NSD", "maps", maps, get_args(Maps))
        check_option("NSD", "orthogonal", orthogonal, ORTHOGONAL)
        if edge_weights and maps != "orthogonal":
            raise ValueError(f"edge_weights: only orthogonal maps take them (others have lengths), not {maps}")
        fixed = (-1,) * add_lp + (1,) * add_hp
        self.rows, self.dropout, self.input_dropout = stalk_dim + len(fixed), dropout, input_dropout
        width = self.rows * hidden_channels
        self.encoder = Linear(in_channels, width)
        self.second = nn.Linear(width, width) if second_linear else None
        self.layers = nn.ModuleList(
            SheafLayer(hidden_channels, stalk_dim, maps, fixed, sparse_learner, edge_weights, orthogonal)
            for _ in range(num_layers)
        )
        self.decoder = nn.Linear(width, out_channels)

    def forward(self, x: Tensor | SparseMatrix, edge_index: Tensor | SheafIndex) -> Tensor:
        """Logits of all nodes.

        Args:
            x: (N, in_channels), dense or a SparseMatrix.
            edge_index: (2, A) arcs of an undirected graph, or the SheafIndex of them, made once for all epochs.

        Returns:
            (N, out_channels).

        Raises:
            TypeError, ValueError, IndexError: the arcs are none of this graph, see `SheafIndex`.
        """
        index = edge_index if isinstance(edge_index, SheafIndex) else SheafIndex(edge_index, x.shape[0])
        if index.num_nodes != x.shape[0]:
            raise ValueError(f"edge_index: a SheafIndex of {index.num_nodes} nodes for {x.shape[0]} rows of features")
        h = self.embed(x)
        for depth, layer in enumerate(self.layers):
            h = layer(h, index, self.dropout, self.dropout if depth else 0.0)
        return self.decoder(h.flatten(1))

    def embed(self, x: Tensor | SparseMatrix) -> Tensor:
        """x (N, in_channels) -> X(0) (N, rows, f)."""
        h = F.elu(self.encoder(drop(x, self.input_dropout, self.training)))
        h = F.dropout(h, self.dropout, self.training)
        if self.second is not None:
            h = self.second(h)
        return h.unflatten(1, (self.rows, -1))

    def parameter_groups(self, weight_decay: float, sheaf_decay: float | None = None) -> list[dict[str, Any]]:
        """For an optimiser: the learners of maps decay with `sheaf_decay` (default: the same), the rest otherwise."""
        is_sheaf = {id(p) for layer in self.layers if layer.sheaf is not None for p in layer.sheaf.parameters()}
        sheaf = [p for p in self.parameters() if id(p) in is_sheaf]
        rest = [p for p in self.parameters() if id(p) not in is_sheaf]
        decay = weight_decay if sheaf_decay is None else sheaf_decay
        return [{"params": sheaf, "weight_decay": decay}, {"params": rest, "weight_decay": weight_decay}]


def main() -> None:
    """Train NSD and a GCN on a graph whose neighbours are of other classes, and print how they do."""
    torch.manual_seed(0)
    data = load_graph("heterophilous_ring", num_splits=1)
    train, test, classes = data.train_mask[:, 0], data.test_mask[:, 0], int(data.y.max()) + 1
    index, adjacency = SheafIndex(data.edge_index, data.num_nodes), propagation(data.edge_index, data.num_nodes)
    for name, model, graph in (
        ("NSD", NSD(data.num_features, 16, classes, stalk_dim=2), index),
        ("GCN", GCN(data.num_features, 32, classes, [1, 1]), adjacency),
    ):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=5e-4)
        for epoch in range(1, 91):
            model.train()
            loss = F.cross_entropy(model(data.x, graph)[train], data.y[train])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if epoch % 30 == 0:
                with torch.no_grad():
                    right = (model.eval()(data.x, graph).argmax(dim=1) == data.y).float()
                print(f"{name}  epoch {epoch:2}  loss {loss:.3f}  test accuracy {right[test].mean():.1%}")

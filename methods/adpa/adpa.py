"""ADPA, Adaptive Directed Pattern Aggregation (Sun et al., ICDE 2024): a decoupled network for digraphs.

With A_uv = 1 for an arc u -> v, information can reach a vertex along six directed patterns M_g:

    A + I,  A^T + I,  AA,  AA^T,  A^TA,  A^TA^T

Before training, and without parameters, features walk K steps along each of them,

    X_g^(0) = X,    X_g^(k+1) = D_row^(r-1) M_g D_col^(-r) (gamma_k X_g^(k)),    gamma_k = 1 + 1e-6 - ln(k + 1)

Then all that is learned is learned from these features, so that an epoch costs the same for any number of arcs:

    s_k = sigmoid(a_g . [X^(0) || ... || X^(K) || X^(k)] + b_g)     node-wise hop attention, for each vertex
    h_g = dropout(relu((sum_k softmax_k(s)_k X_g^(k)) W_g + c_g))   transformation; a seventh channel takes X itself
    logits = Linear(theta_0 h_0 || ... || theta_6 h_6)              pattern attention, theta_g a learned scalar

The long concatenations are never made: a_g is cut into K + 2 blocks, and matrix-vector products are added up.

The released code departs from this in two places, kept here as `norm="official"` and `official_view=True`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.utils import coalesce, remove_self_loops, to_undirected

from methods.shared.checks import check_numbers, check_option, check_probabilities, check_sizes
from methods.shared.graph import checked_edge_index, load_graph

# a pattern is its factors, multiplied onto the features from the right
FACTORS = {
    "A": ("A",), "AT": ("AT",), "AA": ("A", "A"), "AAT": ("A", "AT"), "ATA": ("AT", "A"), "ATAT": ("AT", "AT"),
}  # fmt: skip
PATTERNS = tuple(FACTORS)
TRANSPOSED = {"A": "AT", "AT": "A", "AA": "ATAT", "AAT": "AAT", "ATA": "ATA", "ATAT": "AA"}
Norm = Literal["rows_columns", "official"]


class ADPA(nn.Module):
    """See the top of this file.

    Args:
        in_channels: F.
        hidden_channels: width of each channel.
        out_channels: C.
        K: steps along each pattern; with 0 the graph is not used.
        num_layers: linear maps of each channel.
        dropout: probability, after every relu.
        r: exponent of the normalisation: 0 averages over a row, 0.5 is symmetric.
        patterns: which of `PATTERNS`; the channel of X itself is always there.
        norm: "official" takes row sums for D_col too, as the released code does: it deletes each entry whose column
            has no row sum, such as the only entry of AA on the path 0 -> 1 -> 2.
        decay: gamma as above, which is negative from k = 2 on; False for gamma = 1.
        official_view: read the (K+1, N) scores as (N, K+1) without transposing, as the released code does: it mixes
            scores of different vertices.

    Raises:
        ValueError, TypeError: a size below 1, K below 0, dropout outside [0, 1], r that is not finite, or an unknown
            pattern or norm.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, out_channels: int, K: int = 2, num_layers: int = 1,
        dropout: float = 0.5, *, r: float = 0.5, patterns: Sequence[str] = PATTERNS, norm: Norm = "rows_columns",
        decay: bool = True, official_view: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        check_sizes(
            "ADPA", in_channels=in_channels, hidden_channels=hidden_channels, out_channels=out_channels,
            num_layers=num_layers,
        )  # fmt: skip
        check_probabilities("ADPA", dropout=dropout)
        _check_propagation(K, r, patterns, norm)
        self.K, self.r, self.patterns, self.norm, self.decay = K, r, tuple(patterns), norm, decay
        self.dropout, self.official_view = dropout, official_view
        channels = len(self.patterns) + 1  # channel 0 is X itself
        self.attention = nn.Parameter(torch.empty(len(self.patterns), K + 2, in_channels))
        self.attention_bias = nn.Parameter(torch.empty(len(self.patterns)))
        widths = [in_channels, *[hidden_channels] * num_layers]
        self.weights = nn.ParameterList(torch.empty(channels, hidden_channels, a) for a in widths[:-1])
        self.biases = nn.ParameterList(torch.empty(channels, hidden_channels) for _ in widths[:-1])
        self.theta = nn.Parameter(torch.empty(channels))
        self.classifier = nn.Linear(channels * hidden_channels, out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As torch's linear layers; theta from N(0, 1)."""
        attention_bound = (self.attention.shape[1] * self.attention.shape[2]) ** -0.5
        nn.init.uniform_(self.attention, -attention_bound, attention_bound)
        nn.init.uniform_(self.attention_bias, -attention_bound, attention_bound)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            bound = weight.shape[2] ** -0.5
            nn.init.uniform_(weight, -bound, bound)
            nn.init.uniform_(bias, -bound, bound)
        nn.init.normal_(self.theta)
        self.classifier.reset_parameters()

    def propagate(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """The features of all patterns and steps (patterns, K, N, F): made once, before training."""
        return propagate(x, edge_index, self.K, self.r, self.patterns, norm=self.norm, decay=self.decay)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Logits (N, C).

        Args:
            x: (N, F) features.
            edge_index: (2, A) int64 arcs, along which x is propagated in every call; or, for an epoch that costs the
                same for any number of arcs, what `propagate` made of x and them once.

        Raises:
            ValueError: propagated features of another shape.
            TypeError, ValueError, IndexError: arcs that `methods.shared.graph.checked_edge_index` refuses.
        """
        made = isinstance(edge_index, Tensor) and edge_index.layout == torch.strided and edge_index.dim() == 4
        hops = edge_index if made else self.propagate(x, edge_index)
        if hops.shape != (len(self.patterns), self.K, *x.shape):
            want = (len(self.patterns), self.K, *x.shape)
            raise ValueError(f"edge_index: features of shape {tuple(hops.shape)}, but this network takes {want}")
        every = [[x, *steps] for steps in hops]
        fused = [
            hop_attention(steps, blocks, bias, self.official_view)
            for steps, blocks, bias in zip(every, self.attention, self.attention_bias, strict=True)
        ]
        channels = [self._transform(u, channel) for channel, u in enumerate([x, *fused])]
        return self.classifier(torch.cat([theta * h for theta, h in zip(self.theta, channels, strict=True)], dim=1))

    def _transform(self, u: Tensor, channel: int) -> Tensor:
        """(N, F) -> (N, hidden): num_layers linear maps, each followed by relu and dropout."""
        for weight, bias in zip(self.weights, self.biases, strict=True):
            h = torch.relu(F.linear(u, weight[channel], bias[channel]))
            u = torch.dropout(h, self.dropout, self.training)
        return u


def hop_attention(hops: Sequence[Tensor], blocks: Tensor, bias: Tensor, official_view: bool = False) -> Tensor:
    """Fuse the hops of one pattern, with weights of their own for each vertex.

    Args:
        hops: X^(0) to X^(K), (N, F) each.
        blocks: (K + 2, F), a_g: a block for each hop of the reference, and the one of the hop that is scored.
        bias: scalar.
        official_view: see `ADPA`.

    Returns:
        (N, F), the weighted mean of the hops.
    """
    # both products that a hop takes part in, in one pass over it
    products = [F.linear(hop, torch.stack([block, blocks[-1]])) for hop, block in zip(hops, blocks[:-1], strict=True)]
    reference = sum(product[:, 0] for product in products)
    scores = torch.stack([reference + product[:, 1] + bias for product in products])  # (K + 1, N)
    if official_view:
        scores = scores.reshape(-1).view(-1, len(hops)).T
    weights = torch.softmax(torch.sigmoid(scores), dim=0).unsqueeze(2)
    fused = weights[0] * hops[0]
    for weight, hop in zip(weights[1:], hops[1:], strict=True):
        fused = torch.addcmul(fused, weight, hop)
    return fused


def propagate(
    x: Tensor, edge_index: Tensor, K: int, r: float = 0.5, patterns: Sequence[str] = PATTERNS, *,
    norm: Norm = "rows_columns", decay: bool = True,
) -> Tensor:  # fmt: skip
    """X_g^(1) to X_g^(K) of every pattern g: (patterns, K, N, F).

    Products such as AA are never formed: A (A x) costs two passes over the arcs, while AA of a graph with hubs has
    an entry for nearly every pair of vertices.

    Args:
        x: (N, F) features; gradients flow to it.
        edge_index: (2, A) int64 arcs; duplicates and self loops are ignored.
        K: steps.
        r, patterns, norm, decay: as for `ADPA`.

    Raises:
        ValueError, TypeError, IndexError: as for `ADPA`, and for arcs as `ADPA.forward`.
    """
    _check_propagation(K, r, patterns, norm)
    if x.dim() != 2 or not x.is_floating_point():
        raise TypeError(f"x: needs floats (N, F), got {x.dtype} of shape {tuple(x.shape)}")
    given, x = (
        x,
        x.to(torch.promote_types(x.dtype, torch.float32)),
    )  # torch multiplies no sparse matrix in half precision
    a = adjacency(edge_index, len(x), x.dtype)
    gammas = [decay_factor(k) if decay else 1.0 for k in range(K)]
    found = []
    for pattern in patterns:
        left, right = scales(pattern, a, r, norm)
        h = x
        for gamma in gammas:
            h = left * multiply(pattern, a, right * (gamma * h))
            found.append(h)
    hops = torch.stack(found) if found else x.new_empty(0)
    return hops.view(len(patterns), K, *x.shape).to(given.dtype)


def _check_propagation(K: int, r: float, patterns: Sequence[str], norm: Norm) -> None:
    check_sizes("ADPA", least=0, K=K)
    check_numbers("ADPA", r=r)
    check_option("ADPA", "norm", norm, ("rows_columns", "official"))
    for pattern in patterns:
        check_option("ADPA", "a pattern", pattern, PATTERNS)


def decay_factor(k: int) -> float:
    """gamma_k: 1.000001, 0.306854, -0.098611, ... The released code's; the paper's reason could not be read."""
    return 1 - math.log(k + 1) + 1e-6


def adjacency(edge_index: Tensor, num_nodes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A (N, N) sparse COO of zeros and ones: a row for each source, a column for each target, an empty diagonal."""
    arcs, _ = remove_self_loops(checked_edge_index(edge_index, num_nodes))
    arcs = coalesce(arcs, num_nodes=num_nodes)
    ones = torch.ones(arcs.shape[1], dtype=dtype, device=arcs.device)
    return torch.sparse_coo_tensor(arcs, ones, (num_nodes, num_nodes), check_invariants=True, is_coalesced=True)


def multiply(pattern: str, a: Tensor, x: Tensor) -> Tensor:
    """M_g x (N, d). Patterns of one factor have the identity added; products keep multiplicities and diagonal."""
    factors = FACTORS[pattern]
    product = x
    for factor in reversed(factors):
        product = (a if factor == "A" else a.t()) @ product
    return product + x if len(factors) == 1 else product


def scales(pattern: str, a: Tensor, r: float, norm: Norm = "rows_columns") -> tuple[Tensor, Tensor]:
    """The diagonals of D_row^(r-1) and D_col^(-r): (N, 1) each, 0 where a power is infinite."""
    ones = torch.ones(a.shape[0], 1, dtype=a.dtype, device=a.device)
    rows = multiply(pattern, a, ones)
    columns = rows if norm == "official" else multiply(TRANSPOSED[pattern], a, ones)
    powers = rows ** (r - 1), columns ** (-r)
    return tuple(torch.where(power.isinf(), 0.0, power) for power in powers)  # type: ignore[return-value]


def main() -> None:
    """Train ADPA on a digraph whose classes form a cycle, on its arcs as they are and without their directions."""
    data = load_graph("directed_cyclic", degree=20, signal=1.5)
    train, val, test = (data[f"{part}_mask"][:, 0] for part in ("train", "val", "test"))
    views = {"directed": data.edge_index, "symmetrised": to_undirected(data.edge_index)}
    for name, edge_index in views.items():
        torch.manual_seed(0)
        model = ADPA(data.num_features, 32, int(data.y.max()) + 1, K=2)
        hops = model.propagate(data.x, edge_index)  # once: no step of training reads an arc
        optimizer = torch.optim.Adam(model.parameters(), lr=0.03, weight_decay=5e-4)
        for epoch in range(1, 31):
            loss = F.cross_entropy(model.train()(data.x, hops)[train], data.y[train])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if epoch % 10 == 0:
                with torch.no_grad():
                    right = (model.eval()(data.x, hops).argmax(dim=1) == data.y).float()
                shares = f"validation {right[val].mean():6.1%}  test {right[test].mean():6.1%}"
                print(f"{name:11}  epoch {epoch:2}  loss {loss:.3f}  {shares}")

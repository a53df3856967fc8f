"""Maestro: low-rank structure found by training the decomposition (Horvath, Laskaridis, Rajput, Wang; ICML 2024).

    model = decompose(dense)  # the same function, every layer as two factors
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    for (layer, rank), (x, y) in zip(RankSampler(model), batches):
        optimizer.zero_grad(), lod_loss(model, x, y, layer, rank).backward(), optimizer.step()

Every linear map is written as W = U V^T at full rank (`layers.py`). Nothing orders the columns of such a pair: (U R,
V R) is the same map for every orthogonal R. Low-rank ordered decomposition (LoD) gives them an order: each step cuts
ONE layer i to its first b columns and trains what is left,

    min over U, V of  E_(x, y)  E_(i, b)  loss( net with U_i[:, :b] V_i[:, :b]^T in place of U_i V_i^T ),        (LoD)

(i, b) uniform over all pairs. A column is present in more steps the earlier it stands, so what matters most moves to
the front. For a linear map of inputs without preferred direction the optimum is the singular value decomposition; for a
linear autoencoder it is PCA; every prefix is the best map of its rank. So one training gives nets of all ranks
(`deployment.py`). To find the ranks by training as well, a hierarchical group lasso pushes out the last columns,

    lambda_gl * sum over layers i, ranks b of  ||U_i[:, b:]||_F + ||V_i[:, b:]||_F,          [b:] = columns b to r,

in which column j appears j times, and after each epoch what falls below a threshold is removed: progressive shrinking.
Importances are norms of suffixes, which never rise with b; so what stays is a prefix.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.maestro.layers import LowRank, low_rank_layers, ranks_of, truncated

SHRINK_BELOW = 1e-7  # importance under which ranks are removed


class RankSampler:
    """Pairs (layer, rank) without replacement: each of 1..rank of each layer once a cycle, in random order.

    A layer is drawn as often as it has ranks. `rebuild` starts a new cycle with the ranks that are left.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.rebuild()

    def rebuild(self) -> None:
        pairs = [(name, b) for name, rank in ranks_of(self._model).items() for b in range(1, rank + 1)]
        self._cycle = iter([pairs[k] for k in torch.randperm(len(pairs)).tolist()])

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return self

    def __next__(self) -> tuple[str, int]:
        """The next pair.

        Raises:
            ValueError: no layer has a rank left.
        """
        pair = next(self._cycle, None)
        if pair is None:
            self.rebuild()
            pair = next(self._cycle, None)
        if pair is None:
            raise ValueError(
                "RankSampler: no factorised layer has a rank left: decompose the model, or lower lambda_gl"
            )
        return pair


def lod_loss(
    model: nn.Module, x: Tensor, y: Tensor, layer: LowRank | str, rank: int, *, full_pass: bool = False
) -> Tensor:
    """Cross-entropy of the net with one layer cut to `rank` columns. x (B, ...), y (B,) int64.

    Args:
        layer: the layer, or its name as `RankSampler` gives it.
        full_pass: add a pass of the whole net, which learns from the labels; the cut net then learns from its outputs.

    Raises:
        ValueError: a name that is no factorised layer, or a rank that the layer does not have.
        TypeError: labels that are not whole numbers.
    """
    if isinstance(layer, str):
        layers = low_rank_layers(model)
        if layer not in layers:
            raise ValueError(f"lod_loss: {layer!r} is no factorised layer; the model has {', '.join(layers) or 'none'}")
        layer = layers[layer]
    if not isinstance(layer, LowRank):
        raise TypeError(f"lod_loss: layer is a factorised layer or the name of one; got {layer!r}")
    if y.is_floating_point():
        raise TypeError(f"lod_loss: labels y are whole numbers, one a sample; got {y.dtype}")
    if len(x) != len(y):
        raise ValueError(f"lod_loss: labels y are one a sample; got {len(y)} for {len(x)}")
    y = y.long()
    if not full_pass:
        with truncated(layer, rank):
            return F.cross_entropy(model(x), y)
    whole = model(x)
    with truncated(layer, rank):
        return F.cross_entropy(whole, y) + F.cross_entropy(model(x), whole.detach().softmax(dim=-1))


def group_lasso(model: nn.Module) -> Tensor:
    """Sum over layers and ranks b of ||U[:, b:]|| + ||V[:, b:]||; all stored columns, alive or not."""
    layers = low_rank_layers(model).values()
    if not layers:
        raise ValueError("group_lasso: the model has no factorised layer; decompose it first")
    return torch.stack([suffix_norms(factor).sum() for layer in layers for factor in (layer.U, layer.V)]).sum()


def suffix_norms(factor: Tensor) -> Tensor:
    """Norms (r,) of a factor (n, r) from column b to the last, for b = 1..r."""
    # the norm of a removed column has no gradient at zero
    return (_suffix_squares(factor) + 1e-12).sqrt()


def _suffix_squares(factor: Tensor) -> Tensor:
    return factor.square().sum(0).flip(0).cumsum(0).flip(0)


@torch.no_grad()
def importances(layer: LowRank) -> Tensor:
    """||U[:, b:]|| * ||V[:, b:]|| of the columns alive, (rank,): never rises with b."""
    u, v = (_suffix_squares(factor[:, : layer.rank]) for factor in (layer.U, layer.V))
    return (u * v).sqrt()


def shrink(model: nn.Module, threshold: float = SHRINK_BELOW) -> dict[str, int]:
    """Remove the ranks whose importance is below the threshold; returns the ranks that are left.

    Raises:
        ValueError: a threshold that is negative or NaN.
        FloatingPointError: an importance is not finite; the model has diverged, and is not a small one.
    """
    if not threshold >= 0:
        raise ValueError(f"shrink: threshold must be at least 0; got {threshold}")
    for name, layer in low_rank_layers(model).items():
        left = importances(layer)
        if not bool(left.isfinite().all()):
            raise FloatingPointError(f"shrink: factors of layer {name!r} are not finite; take a lower learning rate")
        layer.rank = int((left >= threshold).sum())
    return ranks_of(model)


def main() -> None:
    """Train a perceptron on digits once by LoD and cut it; beside it a dense net, cut by its SVD."""
    from datasets import load
    from methods.maestro.baselines import svd_after_training
    from methods.maestro.deployment import deploy, uniform_ranks
    from methods.maestro.layers import decompose
    from methods.shared.hosts import mlp

    found = load("digits")
    x, y, test_x, test_y = map(torch.as_tensor, (found.train_x, found.train_y, found.test_x, found.test_y))
    torch.manual_seed(0)
    dense = mlp()
    nets = {"LoD": decompose(dense), "dense": dense}
    for name, net in nets.items():
        optimizer, sampler = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9), RankSampler(nets["LoD"])
        for _ in range(20):
            for batch in torch.randperm(len(x)).split(32):
                if name == "LoD":
                    loss = lod_loss(net, x[batch], y[batch], *next(sampler))
                else:
                    loss = F.cross_entropy(net(x[batch]), y[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    nets["dense, cut by SVD"] = svd_after_training(nets.pop("dense"))
    for name, net in nets.items():
        for share in (1.0, 0.25, 0.1):
            with torch.no_grad():
                cut = deploy(net, uniform_ranks(net, share)).eval()
                right = (cut(test_x).argmax(dim=1) == test_y).float().mean()
            print(f"{name:18}  {share:4.0%} of the ranks of each layer  test accuracy {right:.1%}")

"""From one trained net to a net of chosen ranks: which ranks, and the cut itself."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from methods.maestro.layers import low_rank_layers, ranks_of, share_of
from methods.shared.checks import check_numbers


def uniform_ranks(model: nn.Module, share: float) -> dict[str, int]:
    """The same share of each layer's rank, rounded up. share: in [0, 1]."""
    check_numbers("uniform_ranks", least=0.0, most=1.0, share=share)
    return {name: share_of(share, rank) for name, rank in ranks_of(model).items()}


@contextmanager
def with_ranks(model: nn.Module, ranks: Mapping[str, int]) -> Iterator[None]:
    """Inside, the layers named have these ranks; nothing is copied.

    Raises:
        ValueError: a name that is not a factorised layer, or a rank that it does not have.
    """
    _check(model, ranks)
    before = ranks_of(model)
    _set_ranks(model, ranks)
    try:
        yield
    finally:
        _set_ranks(model, before)


def deploy(model: nn.Module, ranks: Mapping[str, int] | None = None) -> nn.Module:
    """A copy that holds no more than it uses: factors cut to their ranks, or one dense layer where that is no larger.

    Args:
        ranks: name -> rank, at most that of the layer; layers that are not named keep theirs. A layer of rank 0 outputs
            its bias.

    Raises:
        ValueError: as `with_ranks`.
    """
    ranks = ranks or {}
    _check(model, ranks)
    small = copy.deepcopy(model)
    _set_ranks(small, ranks)
    for name, layer in low_rank_layers(small).items():
        if layer.dense_is_cheaper:
            if not name:
                return layer.to_dense()
            small.set_submodule(name, layer.to_dense())
        else:
            layer.U, layer.V = (nn.Parameter(f[:, : layer.rank].detach().clone()) for f in (layer.U, layer.V))
    return small


def greedy_ranks(model: nn.Module, loss: Callable[[], float], positions: Mapping[str, int],
                 step: float = 0.1) -> Iterator[dict[str, int]]:  # fmt: skip
    """Ranks of ever smaller nets: cut again and again where the loss grows least for each MAC removed.

    MACs are those of two maps throughout, b (m + n), also where `deploy` would still merge a layer of b ranks: there a
    cut is credited with MACs that the deployed net saves only after further ones.

    Args:
        loss: of the model as it stands, on validation data.
        positions: name -> outputs that a layer computes for an example (1, or H' W'), as `accounting.counted` has them.
        step: share of a layer's ranks, at least one rank, that a cut drops.

    Yields:
        name -> rank, until all ranks are 1.

    Raises:
        ValueError: a step that is not in (0, 1].
        FloatingPointError: no cut leaves a finite loss. One that does not is never taken.
    """
    check_numbers("greedy_ranks", above=0.0, most=1.0, step=step)
    layers = low_rank_layers(model)
    ranks = ranks_of(model)
    current = loss()
    while any(rank > 1 for rank in ranks.values()):
        trials = []
        for name, rank in ranks.items():
            if rank > 1:
                cut = rank - max(1, int(step * rank))
                with with_ranks(model, {**ranks, name: cut}):
                    after = loss()
                macs = (rank - cut) * (len(layers[name].U) + len(layers[name].V)) * positions[name]
                trials.append(((after - current) / macs, after, name, cut))
        finite = [trial for trial in trials if math.isfinite(trial[0])]
        if not finite:
            raise FloatingPointError("greedy_ranks: no cut leaves a finite loss; the model has diverged")
        _, current, name, cut = min(finite)
        ranks = {**ranks, name: cut}
        yield ranks


def _check(model: nn.Module, ranks: Mapping[str, int]) -> None:
    has = ranks_of(model)
    for name, rank in ranks.items():
        if name not in has:
            raise ValueError(f"ranks: {name!r} is no factorised layer; the model has {', '.join(has) or 'none'}")
        if not 0 <= rank <= has[name]:
            raise ValueError(f"ranks: {name!r} has rank {has[name]}, so it cannot be cut to {rank}")


def _set_ranks(model: nn.Module, ranks: Mapping[str, int]) -> None:
    layers = low_rank_layers(model)
    for name, rank in ranks.items():
        layers[name].rank = rank

"""Maestro: Uncovering Low-Rank Structures via Trainable Decomposition (Horvath et al.; ICML 2024).

Every layer of your own net as two factors, trained so that their columns are in order of importance, and then cut:

    import torch
    from methods.maestro import RankSampler, decompose, deploy, lod_loss, uniform_ranks

    x, y = torch.rand(32, 6), torch.arange(32) % 3
    model = decompose(torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)))
    layer, rank = next(RankSampler(model))
    loss = lod_loss(model, x, y, layer, rank)
    small = deploy(model, uniform_ranks(model, 0.5))
    logits = small(x)  # (32, 3)
"""

from methods.maestro.deployment import deploy, greedy_ranks, uniform_ranks
from methods.maestro.layers import LowRankConv2d, LowRankLinear, decompose, low_rank_layers, ranks_of, truncated
from methods.maestro.maestro import RankSampler, group_lasso, importances, lod_loss, shrink
from methods.maestro.training import Recipe, fit, train_maestro

__all__ = [
    "LowRankConv2d",
    "LowRankLinear",
    "RankSampler",
    "Recipe",
    "decompose",
    "deploy",
    "fit",
    "greedy_ranks",
    "group_lasso",
    "importances",
    "lod_loss",
    "low_rank_layers",
    "ranks_of",
    "shrink",
    "train_maestro",
    "truncated",
    "uniform_ranks",
]

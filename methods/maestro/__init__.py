"""Maestro: Uncovering Low-Rank Structures via Trainable Decomposition (Horvath et al.; ICML 2024)."""

from methods.maestro.deployment import deploy, greedy_ranks, recalibrate_batch_norm, uniform_ranks
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
    "recalibrate_batch_norm",
    "shrink",
    "train_maestro",
    "truncated",
    "uniform_ranks",
]

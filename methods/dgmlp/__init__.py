"""Evaluating Deep Graph Neural Networks (Zhang et al.; arXiv 2021): DGMLP."""

from methods.dgmlp.dgmlp import (
    DGMLP,
    ResidualMLP,
    graph_smoothing_levels,
    hop_weights,
    node_smoothing_levels,
    smoothed_features,
    stationary_state,
    weighted_hops,
)

__all__ = [
    "DGMLP",
    "ResidualMLP",
    "graph_smoothing_levels",
    "hop_weights",
    "node_smoothing_levels",
    "smoothed_features",
    "stationary_state",
    "weighted_hops",
]

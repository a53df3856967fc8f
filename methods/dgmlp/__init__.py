"""Evaluating Deep Graph Neural Networks (Zhang et al.; arXiv 2021): DGMLP.

Logits for the vertices of your own graph; the features are smoothed once, before training:

    import torch
    from methods.dgmlp import DGMLP

    x, edge_index = torch.rand(5, 4), torch.tensor([[0, 1, 1, 2, 2, 3, 3, 4], [1, 0, 2, 1, 3, 2, 4, 3]])
    model = DGMLP(in_channels=4, hidden_channels=16, out_channels=3, K=10, num_layers=2)
    features = model.smooth(x, edge_index)  # (5, 4)
    logits = model(features)  # (5, 3)
"""

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

"""DAGNN: Towards Deeper Graph Neural Networks (Liu, Gao, Ji; KDD 2020).

Logits for the vertices of your own graph:

    import torch
    from methods.dagnn import DAGNN

    x, edge_index = torch.rand(5, 4), torch.tensor([[0, 1, 1, 2, 2, 3, 3, 4], [1, 0, 2, 1, 3, 2, 4, 3]])
    model = DAGNN(in_channels=4, hidden_channels=16, out_channels=3, K=10)
    logits = model(x, edge_index)  # (5, 3)
"""

from methods.dagnn.dagnn import DAGNN
from methods.dagnn.smoothness import infinite_depth, smv

__all__ = ["DAGNN", "infinite_depth", "smv"]

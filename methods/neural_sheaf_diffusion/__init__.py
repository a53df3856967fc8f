"""Neural Sheaf Diffusion: A Topological Perspective on Heterophily and Oversmoothing in GNNs (Bodnar et al. 2022).

Logits for the nodes of your own graph:

    import torch
    from methods.neural_sheaf_diffusion import NSD

    x, edge_index = torch.rand(5, 4), torch.tensor([[0, 1, 1, 2, 2, 3, 3, 4], [1, 0, 2, 1, 3, 2, 4, 3]])
    model = NSD(in_channels=4, hidden_channels=16, out_channels=3, num_layers=2, stalk_dim=2)
    logits = model(x, edge_index)  # (5, 3)
"""

from methods.neural_sheaf_diffusion.nsd import NSD

__all__ = ["NSD"]

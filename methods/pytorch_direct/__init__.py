"""PyTorch-Direct (Min et al., 2021): GPUs that gather feature rows from host memory by themselves.

Rows of your own table, on your own device (`torch.device("cuda")` where there is one):

    import torch
    from methods.pytorch_direct import UnifiedTensor

    features, index = torch.rand(100, 7), torch.tensor([3, 97, 3])
    table = UnifiedTensor(features, torch.device("cpu"))
    rows = table[index]  # (3, 7)
"""

from methods.pytorch_direct.pytorch_direct import UnifiedTensor

__all__ = ["UnifiedTensor"]

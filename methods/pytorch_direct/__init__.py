"""PyTorch-Direct (Min et al., 2021): GPUs that gather feature rows from host memory by themselves."""

from methods.pytorch_direct.pytorch_direct import UnifiedTensor

__all__ = ["UnifiedTensor"]

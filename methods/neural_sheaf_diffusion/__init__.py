"""Neural Sheaf Diffusion: A Topological Perspective on Heterophily and Oversmoothing in GNNs (Bodnar et al. 2022)."""

from methods.neural_sheaf_diffusion.nsd import NSD

__all__ = ["NSD"]

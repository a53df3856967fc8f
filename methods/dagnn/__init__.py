"""DAGNN: Towards Deeper Graph Neural Networks (Liu, Gao, Ji; KDD 2020)."""

from methods.dagnn.dagnn import DAGNN
from methods.dagnn.smoothness import infinite_depth, smv

__all__ = ["DAGNN", "infinite_depth", "smv"]

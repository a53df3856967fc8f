"""A Deep Conjugate Direction Method for Iteratively Solving Linear Systems (Kaneda et al., ICML 2023)."""

from methods.dcdm.dcdm import NetworkDirection, Solution, loss, solve, train
from methods.dcdm.lanczos import training_vectors
from methods.dcdm.network import DirectionNet
from methods.dcdm.poisson import Poisson

__all__ = ["DirectionNet", "NetworkDirection", "Poisson", "Solution", "loss", "solve", "train", "training_vectors"]

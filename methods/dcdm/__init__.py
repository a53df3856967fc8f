"""A Deep Conjugate Direction Method for Iteratively Solving Linear Systems (Kaneda et al., ICML 2023).

Solve a Poisson equation on your own cells (0 fluid, 1 air, 2 solid) with a network that proposes directions; whatever
it says, the line search converges:

    import torch
    from methods.dcdm import DirectionNet, NetworkDirection, Poisson, solve

    A = Poisson(torch.zeros(16, 16, dtype=torch.int64))
    network = DirectionNet(dim=2, layout=64, channels=4)
    b = torch.rand(16, 16, dtype=torch.float64)
    solution = solve(A, b, NetworkDirection(network, A), tol=1e-4, max_iterations=300)
    x, residuals = solution.x, solution.residuals
"""

from methods.dcdm.dcdm import NetworkDirection, Solution, loss, solve, train
from methods.dcdm.lanczos import training_vectors
from methods.dcdm.network import DirectionNet
from methods.dcdm.poisson import Poisson

__all__ = ["DirectionNet", "NetworkDirection", "Poisson", "Solution", "loss", "solve", "train", "training_vectors"]

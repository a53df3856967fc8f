"""What the theory is compared with: initialisations off criticality, PyTorch's defaults, and infinite width.

The null model of all fluctuations is the infinitely wide network, V = 0: one Gaussian process, the same metric and the
same NTK in every network, no mutual information between outputs, no change of the NTK by training.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from methods.dl_theory.activations import Activation
from methods.shared.networks import Networks

# C_W a fifth off the critical 2 and 1, to either side
OFF_CRITICAL = {"relu": (1.6, 2.4), "tanh": (0.8, 1.2)}
# far enough that 50 layers of ReLU multiply the kernel by 8e-12 and 6e8
FAR_OFF = {"small_weights": 1.2, "large_weights": 3.0}


def torch_default(
    sigma: Activation, widths: list[int], nets: int, generator: torch.Generator | None = None
) -> Networks:
    """`nn.Linear`'s own initialisation: W and b uniform within 1/sqrt(n_in), so C_W = 1/3 and Var(b) = 1/(3 n_in)."""
    networks = Networks.draw(sigma, widths, nets, 1.0, 1.0, generator)
    for W, b in zip(networks.weights, networks.biases, strict=True):
        bound = 1 / math.sqrt(W.shape[1])
        W.uniform_(-bound, bound, generator=generator)
        b.uniform_(-bound, bound, generator=generator)
    return networks


def plain_rates(widths: list[int]) -> tuple[Tensor, Tensor]:
    """lambda_b = 1 and lambda_W^(l) = n_in, (L,) each: every parameter steps by lr, as with `torch.optim.SGD`."""
    return torch.ones(len(widths) - 1), torch.tensor(widths[:-1], dtype=torch.float32)


def infinite_width_vertex(K: Tensor) -> Tensor:
    """The four-point vertex of the null model: 0 in every layer of K."""
    return torch.zeros_like(K)

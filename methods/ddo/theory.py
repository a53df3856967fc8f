"""What DDO does where everything can be written down. Derived for this benchmark; the paper has only the optimum.

Fisher information I and scores are those of the model at p = p_ref; alpha = a, beta = b.

* Start: the gradient of the loss at p = p_ref is b/2 times that of maximum likelihood, for every a, because
  E_ref grad log p_ref = 0. A model that maximum likelihood has fitted is a stationary point of DDO.
* Stability: the Hessian there is  (b/2)(1 - a) I + (b^2/4)(V + a I),  V the covariance of the score under the data
  (V = I where the model is right), for exponential families. With lam the least eigenvalue of I^-1 V it is positive
  iff  a < (2 + b lam) / (2 - b), for b < 2.
* Optimum without constraints: sigmoid(b r) = p_data / (p_data + a p_ref), so p* = p_ref^(1 - 1/b) (p_data / a)^(1/b).
  It sums to 1 only for  a = a*(b) = (E_ref (p_data / p_ref)^(1/b))^b.  For b < 1 it overshoots the data: sharpening.
* Value: at a = b = 1 the minimum is 2 log 2 - 2 JS(p_data, p_ref).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def alpha_threshold(beta: float, lam: float = 1.0) -> float:
    """The alpha above which p = p_ref is unstable; infinite for beta >= 2."""
    return (2 + beta * lam) / (2 - beta) if beta < 2 else math.inf


def stability_eigenvalue(alpha: float, beta: float, lam: float = 1.0) -> float:
    """The least eigenvalue of I^-1 Hessian at p = p_ref."""
    return beta / 2 * (1 - alpha) + beta**2 / 4 * (lam + alpha)


def normalizing_alpha(p_data: Tensor, p_ref: Tensor, beta: float) -> float:
    """a*(beta) of two distributions (S,) over the same states."""
    return float((p_ref * (p_data / p_ref) ** (1 / beta)).sum() ** beta)


def optimum(p_data: Tensor, p_ref: Tensor, alpha: float, beta: float) -> Tensor:
    """p* (S,). It sums to 1 only at alpha = `normalizing_alpha`."""
    return p_ref ** (1 - 1 / beta) * (p_data / alpha) ** (1 / beta)


def expected_loss(log_p: Tensor, log_ref: Tensor, p_data: Tensor, alpha: float, beta: float) -> Tensor:
    """DDO's loss with both expectations summed over all states (S,). No gradient through the reference.

    States may be points of a quadrature: `log_p`, `log_ref` and `log p_data` then are of a density times the weight.
    """
    log_ref = log_ref.detach()
    u = beta * (log_p - log_ref)
    return -(p_data * F.logsigmoid(u)).sum() - alpha * (log_ref.exp() * F.logsigmoid(-u)).sum()


def kl(p: Tensor, q: Tensor) -> float:
    """KL(p || q) of distributions of equal shape, in nats."""
    return float(torch.xlogy(p, p / q).sum())


def js(p: Tensor, q: Tensor) -> float:
    """The Jensen-Shannon divergence, in nats."""
    middle = (p + q) / 2
    return (kl(p, middle) + kl(q, middle)) / 2


def descend(start: Tensor, loss: Callable[[Tensor], Tensor], lr: float, steps: int) -> Tensor:
    """Plain gradient descent: an optimizer that rescales a gradient of zero would walk on its round-off."""
    x = start.clone().requires_grad_()
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(loss(x), x)
        x = (x - lr * gradient).detach().requires_grad_()
    return x.detach()


@dataclass(frozen=True)
class MisfitGaussian:
    """One Gaussian N(mu, sigma^2), theta = (mu, log sigma), on 0.7 N(0, 0.6^2) + 0.3 N(3.5, 0.6^2), by quadrature."""

    points: int = 20_001

    @property
    def x(self) -> Tensor:
        return torch.linspace(-15, 18, self.points, dtype=torch.float64)

    @property
    def data(self) -> Tensor:
        """Density of the data times the quadrature's weight, (S,)."""
        x, parts = self.x, ((0.7, 0.0), (0.3, 3.5))
        density = sum(w * torch.exp(-0.5 * ((x - m) / 0.6) ** 2) / (0.6 * math.sqrt(2 * math.pi)) for w, m in parts)
        return density * (x[1] - x[0])

    def log_p(self, theta: Tensor) -> Tensor:
        """log of the model's density times the quadrature's weight, (S,)."""
        x, (mu, log_sigma) = self.x, theta
        return -0.5 * ((x - mu) / log_sigma.exp()) ** 2 - log_sigma - 0.5 * math.log(2 * math.pi) + (x[1] - x[0]).log()

    def maximum_likelihood(self) -> Tensor:
        """theta of the data's mean and standard deviation."""
        mean = (self.data * self.x).sum()
        variance = (self.data * (self.x - mean) ** 2).sum()
        return torch.stack([mean, variance.log() / 2])

    def relative_score_covariance(self, theta: Tensor) -> Tensor:
        """Eigenvalues (2,) of I^-1 V, ascending, with the score (z / sigma, z^2 - 1) and I = diag(1 / sigma^2, 2)."""
        z = (self.x - theta[0]) / theta[1].exp()
        scores = torch.stack([z, (z**2 - 1) / math.sqrt(2)])  # I^-1/2 times the score
        return torch.linalg.eigvalsh((scores * self.data) @ scores.T)

    def loss(self, reference: Tensor, alpha: float, beta: float) -> Callable[[Tensor], Tensor]:
        """DDO's loss of theta against the Gaussian of `reference`."""
        data, log_ref = self.data, self.log_p(reference)
        return lambda theta: expected_loss(self.log_p(theta), log_ref, data, alpha, beta)

    def hessian(self, reference: Tensor, alpha: float, beta: float) -> Tensor:
        """(2, 2) Hessian of the loss at theta = reference, by differentiation."""
        return torch.autograd.functional.hessian(self.loss(reference, alpha, beta), reference)

"""The facts of `theory.py` held against automatic differentiation, in double precision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from methods.ddo.likelihood import MADE
from methods.ddo.theory import expected_loss


def random_distributions(states: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two distributions (states,) with every state possible."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, states, generator=generator, dtype=torch.float64)
    p_data, p_ref = logits.softmax(dim=1)
    return p_data, p_ref


def log_categorical(logits: Tensor) -> Tensor:
    """log p (S,) of S - 1 free logits; the last is 0, so that every direction changes the distribution."""
    return torch.cat([logits, logits.new_zeros(1)]).log_softmax(dim=0)


def free_logits(p: Tensor) -> Tensor:
    """The inverse of `log_categorical`."""
    return (p.log() - p.log()[-1])[:-1]


def gradient_gap(log_p: Tensor, parameters: Sequence[Tensor], p_data: Tensor, alpha: float, beta: float) -> float:
    """max |grad DDO - beta/2 grad MLE| at p = p_ref, of an enumerated model's log p (S,) of its parameters."""
    ddo = torch.autograd.grad(expected_loss(log_p, log_p, p_data, alpha, beta), parameters, retain_graph=True)
    mle = torch.autograd.grad(-(p_data * log_p).sum(), parameters, retain_graph=True)
    return max(float((a - beta / 2 * b).abs().max()) for a, b in zip(ddo, mle, strict=True))


def categorical_gradient_gap(alpha: float, beta: float) -> float:
    """The gap for six states."""
    p_data, p_ref = random_distributions(6, seed=0)
    logits = free_logits(p_ref).requires_grad_()
    return gradient_gap(log_categorical(logits), [logits], p_data, alpha, beta)


def made_gradient_gap(alpha: float, beta: float, bits: int = 10) -> float:
    """The gap for a MADE with all its states enumerated."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MADE(bits, hidden=16).double()
        p_data = torch.randn(2**bits, dtype=torch.float64).softmax(dim=0)
    states = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * bits)
    return gradient_gap(model.log_prob(states), list(model.parameters()), p_data, alpha, beta)


def least_eigenvalue(alpha: float, beta: float) -> float:
    """Of I^-1 Hessian at p = p_ref = p_data with six states: what `stability_eigenvalue` is to be."""
    p, _ = random_distributions(6, seed=0)
    at = free_logits(p)
    hessian = torch.autograd.functional.hessian(
        lambda logits: expected_loss(log_categorical(logits), p.log(), p, alpha, beta), at
    )
    fisher = torch.diag(p[:-1]) - torch.outer(p[:-1], p[:-1])
    root = torch.linalg.inv(torch.linalg.cholesky(fisher))
    return float(torch.linalg.eigvalsh(root @ hessian @ root.T)[0])


def minimise(p_data: Tensor, p_ref: Tensor, alpha: float, beta: float) -> tuple[Tensor, float]:
    """The distribution (S,) at DDO's minimum over all of them, by L-BFGS from p_ref, and the value there."""
    logits = free_logits(p_ref).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=1_000, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = expected_loss(log_categorical(logits), p_ref.log(), p_data, alpha, beta)
        loss.backward()
        return loss

    optimizer.step(closure)
    return log_categorical(logits.detach()).exp(), float(closure().detach())

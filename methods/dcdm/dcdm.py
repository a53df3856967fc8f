"""A Deep Conjugate Direction Method for Iteratively Solving Linear Systems (Kaneda et al., ICML 2023).

Conjugate gradients search along residuals, made A-conjugate. Here a network f proposes the direction, close to A^{-1} r
but for its scale; a line search and A-orthogonalisation against the last s = 2 directions do the rest:

    r_0 = b - A x_0;   for k = 1, 2, ...:
        d   = f(r_{k-1} / ||r_{k-1}||)
        d_k = d - sum_{i = k-s}^{k-1} (d' A d_i) / (d_i' A d_i) d_i
        x_k = x_{k-1} + alpha d_k,   alpha = (r_{k-1}' d_k) / (d_k' A d_k)
        r_k = b - A x_k;   stop when ||r_k|| <= tol ||b||

The line search is exact, so the error's A-norm never grows, whatever f says; and the scale of f does not matter. The
true A is in every step: a network that was trained on an empty box still converges on domains that it has never seen.
With f(r) = r the iteration is CG.

Ours: where d_k is of no use (orthogonal to the residual, spanned by past directions, or NaN) the residual itself, made
conjugate, takes its place; the released code has no such fallback, and may stagnate there. `Solution.fallbacks` counts
them.

Training minimises what is left of r after one step (`loss`), over right-hand sides alone: there are no solutions to
learn from.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from methods.dcdm.poisson import Poisson
from methods.shared import training
from methods.shared.checks import check_numbers, check_sizes

Direction = Callable[[Any], Any]
USELESS = 1e-6  # |r'd| / (||r|| ||d||) below which a direction is of no use


@dataclass
class Solution:
    """What a solver returns.

    x: the solution. residuals: ||r_k|| / ||b|| for k = 0, 1, ... (0 for b = 0). converged: whether the last is <= tol.
    fallbacks: iterations in which the direction was of no use, orthogonal to the residual or spanned by past ones, and
    the residual itself was taken.
    """

    x: Any
    residuals: list[float] = field(default_factory=list)
    converged: bool = False
    fallbacks: int = 0

    @property
    def iterations(self) -> int:
        return len(self.residuals) - 1


def solve(A: Any, b: Any, direction: Direction, *, tol: float = 1e-4, max_iterations: int = 1000,
          memory: int | None = 2, callback: Callable[[Any], None] | None = None) -> Solution:  # fmt: skip
    """Solve `A x = b` from x = 0, to ||b - A x|| <= tol ||b||.

    Args:
        A: symmetric, positive semi-definite; anything for which `A @ x` has the shape of x: a `Poisson` and tensors of
            its grid, a scipy matrix and numpy vectors, a matrix of torch. Take float64: float32 stalls near 1e-6.
        b: in the range of A, of any size. direction: f, from a residual of norm 1 to a direction of the same shape, of
            any scale.
        memory: s, the number of past directions that a new one is made conjugate to; None for all of them. With more
            than the paper's two this is done twice, for one pass loses their orthogonality to rounding.
        callback: called with x after every iteration.

    It stops, not converged, where d'Ad is not above 0: A is not positive there, or NaN, or only rounding is left.

    Raises:
        ValueError: b is empty or not finite, f's result has another shape, or an option is out of range.
    """
    check_numbers("solve", least=0.0, tol=tol)
    check_sizes("solve", least=0, max_iterations=max_iterations, **({} if memory is None else {"memory": memory}))
    b, power = scaled(b)
    found = Solution(b * 0.0)
    r, size = b, norm(b)
    passes = 1 if memory is not None and memory <= 2 else 2
    past: deque[tuple[Any, Any, float]] = deque(maxlen=memory)  # d_i, A d_i, d_i' A d_i
    found.residuals.append(1.0 if size > 0 else 0.0)
    while found.residuals[-1] > tol and found.iterations < max_iterations:
        proposed = direction(r / norm(r))
        if proposed.shape != r.shape:
            raise ValueError(
                f"solve: a direction has the residual's shape {tuple(r.shape)}, got {tuple(proposed.shape)}"
            )
        proposed = times_power_of_two(proposed, -exponent(proposed))
        d = conjugate(proposed, past, passes)
        # what is left of a proposal that past directions span is noise, of any angle: so its own norm counts too; and
        # written like this, NaN is useless as well
        if not abs(dot(r, d)) > USELESS * norm(r) * max(norm(d), norm(proposed)):
            d = conjugate(r / norm(r), past, passes)
            found.fallbacks += 1
        Ad = A @ d
        curvature = dot(d, Ad)
        if not 0 < curvature < math.inf:
            break
        found.x = found.x + (dot(r, d) / curvature) * d
        r = b - A @ found.x
        found.residuals.append(norm(r) / size)
        past.append((d, Ad, curvature))
        if callback:
            callback(times_power_of_two(found.x, power))
    found.x = times_power_of_two(found.x, power)
    found.converged = found.residuals[-1] <= tol
    return found


def conjugate(d: Any, past: Iterable[tuple[Any, Any, float]], passes: int = 1) -> Any:
    """d made A-orthogonal to past directions, which are so to one another; a pass's coefficients are all from one d."""
    for _ in range(passes):
        coefficients = [dot(d, Ad) / curvature for _, Ad, curvature in past]
        for c, (other, _, _) in zip(coefficients, past, strict=True):
            d = d - c * other
    return d


def scaled(b: Any) -> tuple[Any, int]:
    """b / 2^k and k, the largest entry between 1/2 and 1: squares neither vanish nor overflow, and no digit changes.

    Raises ValueError where b is empty or an entry is not finite.
    """
    if 0 in b.shape:
        raise ValueError(f"the right-hand side is empty, of shape {tuple(b.shape)}")
    if not math.isfinite(float(abs(b).max())):
        raise ValueError("the right-hand side has entries that are NaN or infinite; nothing solves it")
    k = exponent(b)
    return times_power_of_two(b, -k), k


def exponent(v: Any) -> int:
    """k with 2^(k-1) <= max |v| < 2^k; 0 where that is 0 or not finite."""
    largest = float(abs(v).max())
    return math.frexp(largest)[1] if math.isfinite(largest) else 0


def times_power_of_two(v: Any, k: int) -> Any:
    """v 2^k, in two steps, for 2^k alone may be out of range."""
    return v if k == 0 else v * 2.0 ** (k // 2) * 2.0 ** (k - k // 2)


def dot(x: Any, y: Any) -> float:
    return float(x.ravel() @ y.ravel())


def norm(x: Any) -> float:
    return math.sqrt(dot(x, x))


class NetworkDirection:
    """A network as the `direction` of `solve`: float32 inside, and nothing off the fluid or in the null space of A."""

    def __init__(self, network: nn.Module, A: Poisson) -> None:
        self.network, self.A = network.eval(), A

    @torch.inference_mode()
    def __call__(self, r: Tensor) -> Tensor:
        return self.A.project(self.network(r.float().unsqueeze(0)).squeeze(0).to(r.dtype))


def loss(A: Poisson, r: Tensor, f: Tensor, line_search: bool = True) -> Tensor:
    """Mean over the batch of ||r - alpha A f||^2, alpha = r'f / f'Af: 1 where f is of no use, 0 where f ~ A^{-1} r.

    r, f: (batch, *shape), ||r|| = 1. alpha is the step that is best in the A-norm, as in `solve`; the best one for the
    residual's norm would be r'Af / ||Af||^2. The gradient goes through alpha. Without `line_search` alpha is 1: the
    loss of a network that is to solve the system by itself. Raises ValueError where shapes differ.
    """
    if r.shape != f.shape or r.dim() < 2:
        raise ValueError(f"loss: r and f are (batch, *grid), alike; got {tuple(r.shape)} and {tuple(f.shape)}")
    Af = A @ f
    if line_search:
        alpha = (r * f).flatten(1).sum(1) / (f * Af).flatten(1).sum(1)
        Af = Af * alpha.view(-1, *[1] * (f.dim() - 1))
    return (r - Af).square().flatten(1).sum(1).mean()


def train(network: nn.Module, A: Poisson, vectors: Tensor, *, steps: int, batch_size: int, lr: float,
          generator: torch.Generator, line_search: bool = True) -> list[float]:  # fmt: skip
    """Adam on `loss`, float32, its rate falling to 0 along a cosine. Returns the loss of every step.

    vectors: (count, *shape), right-hand sides of norm 1 (`training_vectors`). The network keeps the weights of the
    pass over them with the lowest mean loss. Gradients are cut to norm 1: a step near f'Af = 0 would undo the rest.
    (The released code has Adam at a constant 1e-4, does not cut, and saves every pass.)

    Raises:
        ValueError: the vectors are none, not finite or not of A's grid, or an option is out of range.
        FloatingPointError: a gradient is not finite.
    """
    check_sizes("train", steps=steps, batch_size=batch_size)
    check_numbers("train", above=0.0, lr=lr)
    if not len(vectors) or vectors.shape[1:] != A.shape or not bool(vectors.isfinite().all()):
        bad = int((~vectors.isfinite()).sum())
        raise ValueError(
            f"train: vectors are (count, *{A.shape}), finite; got {tuple(vectors.shape)}, {bad} entries NaN or infinite"
        )
    A = A.to(dtype=torch.float32)
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses: list[float] = []
    means: list[float] = []

    def one_pass() -> float:
        batches = torch.randperm(len(vectors), generator=generator).split(batch_size)[: steps - len(losses)]
        for chosen in batches:
            r = vectors[chosen.to(vectors.device)]
            optimizer.zero_grad()
            value = loss(A, r, A.project(network(r)), line_search)
            value.backward()
            if not bool(nn.utils.clip_grad_norm_(network.parameters(), 1.0).isfinite()):
                raise FloatingPointError(
                    f"train: the gradient of step {len(losses)} is not finite; take a lower lr than {lr}"
                )
            optimizer.step()
            schedule.step()
            losses.append(float(value.detach()))
        means.append(sum(losses[-len(batches) :]) / len(batches))
        return means[-1]

    passes = math.ceil(steps / math.ceil(len(vectors) / batch_size))
    training.train(network, one_pass, lambda: -means[-1], epochs=passes)
    return losses


def main() -> None:
    """Train a network on an empty box of 16 x 16 cells, and solve around a disc that it has not seen, beside CG."""
    from methods.dcdm.baselines import cg
    from methods.dcdm.lanczos import training_vectors
    from methods.dcdm.network import DirectionNet
    from methods.dcdm.poisson import right_hand_side, system

    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    box, disc = system("box", 16), system("disc", 16)
    vectors, network = training_vectors(box, 200, 200, generator), DirectionNet(2, 64, 8)
    A, optimizer = box.to(dtype=torch.float32), torch.optim.Adam(network.parameters(), lr=4e-3)
    for step in range(1, 201):
        r = vectors[torch.randint(len(vectors), (16,), generator=generator)]
        left = loss(A, r, A.project(network(r)), line_search=True)  # of r, after one step along the direction
        optimizer.zero_grad()
        left.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step:3}  loss {left:.3f}")
    b = right_hand_side(disc, "modes", generator)
    ours, plain = solve(disc, b, NetworkDirection(network.eval(), disc), tol=1e-4), cg(disc, b, tol=1e-4)
    print(f"iterations to 1e-4 around a disc: DCDM {ours.iterations}, CG {plain.iterations}")

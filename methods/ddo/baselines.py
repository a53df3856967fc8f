"""What DDO is compared with: maximum likelihood, more of it, and a discriminator that guides the sampler."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.ddo.ddo import Recipe, finetune
from methods.ddo.networks import PointMLP
from methods.shared.diffusion import EDM, LOG_SIGMA_MEAN, LOG_SIGMA_STD, Denoiser, evaluations, training_sigmas


def negative_log_likelihood(model: nn.Module, x: Tensor) -> Tensor:
    """The mean of -log p over a batch (N, ...), in nats."""
    return -model.log_prob(x).mean()


def pretrain(
    model: nn.Module, loss: Callable[[nn.Module, Tensor], Tensor], real: Callable[[int], Tensor], steps: int,
    batch_size: int, lr: float,
) -> nn.Module:  # fmt: skip
    """Maximum likelihood from scratch, in place: Adam, its rate falling linearly to 0.

    Args:
        loss: `negative_log_likelihood` or `edm_loss`.
        real: draws a batch of real data of the given size.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model, real(batch_size)).backward()
        optimizer.step()
        schedule.step()
    return model


def continue_mle(
    model: nn.Module, loss: Callable[[nn.Module, Tensor], Tensor], real: Callable[[int], Tensor], recipe: Recipe,
    rounds: int,
) -> Iterator[nn.Module]:  # fmt: skip
    """More maximum likelihood under a round's recipe: as many steps, the same rate, the same average of weights."""
    for _ in range(rounds):
        model = finetune(model, lambda trained: loss(trained, real(recipe.batch_size)), recipe)
        yield model


def steps_of_equal_compute(recipe: Recipe, trials: int = 1, sampling_steps: int = 18) -> int:
    """Steps of each of `trials` runs of `continue_mle` that together cost what a round of DDO with as many pairs does.

    In forward passes of a sample; a backward pass counts as two. DDO's step passes real data and samples forward and
    backward through the model and forward through the reference, 8 passes for each of the batch; maximum likelihood
    has 3. All pairs of a round share one pool.
    """
    passes = 8 * trials * recipe.steps * recipe.batch_size + evaluations(sampling_steps) * recipe.pool_size
    return round(passes / (3 * trials * recipe.batch_size))


class DiscriminatorGuidance:
    """Discriminator Guidance (Kim et al., ICML 2023): a real-or-sample classifier at every noise level bends the score.

    The guided denoiser is D(x; sigma) + w sigma^2 grad_x logit(x; sigma). With a perfect classifier w = 1 is exact, for
    its logit is the log-ratio of the noisy densities. It guides up to two standard deviations above the mean of
    training's ln(sigma): beyond, the classifier has seen next to nothing, and sigma^2 would blow up what it makes up.

    Args:
        model: the pretrained denoiser of points (N, 2), frozen.
        width: of the classifier, a `PointMLP`.
    """

    def __init__(self, model: EDM, width: int) -> None:
        self.model, self.classifier = model, PointMLP(width, out=1)

    def logit(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Logit (N,) of x (N, 2) being noisy real data rather than a noisy sample."""
        c = self.model.coefficients(sigma, x.dim())
        return self.classifier(c.in_ * x, c.noise).squeeze(1)

    def fit(self, pool: Tensor, real: Callable[[int], Tensor], steps: int, batch_size: int, lr: float) -> None:
        """Train the classifier on real data against a pool of the model's samples (M, 2)."""

        def loss(_: nn.Module, batch: Tensor) -> Tensor:
            fake = pool[torch.randint(len(pool), (batch_size,))]
            both, sigma = torch.cat([batch, fake]), training_sigmas(2 * batch_size)
            is_real = torch.cat([torch.ones(batch_size), torch.zeros(batch_size)])
            x = both + sigma.unsqueeze(1) * torch.randn_like(both)
            return F.binary_cross_entropy_with_logits(self.logit(x, sigma), is_real)

        pretrain(self.classifier, loss, real, steps, batch_size, lr)

    def denoiser(self, weight: float) -> Denoiser:
        """The guided denoiser of points (N, 2), all at one noise level; `weight` scales the classifier's gradient."""
        highest = math.exp(LOG_SIGMA_MEAN + 2 * LOG_SIGMA_STD)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            if sigma[0] > highest:
                return self.model(x, sigma)
            with torch.enable_grad():
                at = x.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(self.logit(at, sigma).sum(), at)
            return self.model(x, sigma) + weight * sigma.square().unsqueeze(1) * gradient

        return denoise

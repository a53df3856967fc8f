"""DDO's losses and rounds: values and gradients at the start, what the reference may and may not feel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from methods.ddo import (
    Recipe,
    ddo_loss,
    ddo_round,
    diffusion_log_ratio,
    diffusion_loss,
    finetune,
    likelihood_loss,
    log_ratio,
    self_play,
)
from methods.ddo.likelihood import SoftmaxChain
from methods.ddo.networks import PointMLP
from methods.shared.diffusion import EDM, evaluations, frozen, heun, squared_errors, training_sigmas


def denoiser(seed: int = 0) -> EDM:
    torch.manual_seed(seed)
    return EDM(PointMLP(16)).double()


def batch(n: int = 64, seed: int = 1) -> Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradients(value: Tensor, model: nn.Module) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(model.parameters()))])


def state(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in model.parameters()])


def test_alpha_and_beta_of_one_give_the_loss_of_a_gans_discriminator() -> None:
    real, fake = torch.randn(50), torch.randn(30)
    d_real, d_fake = real.sigmoid(), fake.sigmoid()
    torch.testing.assert_close(ddo_loss(real, fake, 1.0, 1.0), -d_real.log().mean() - (1 - d_fake).log().mean())
    torch.testing.assert_close(
        ddo_loss(real, fake, 2.0, 0.5),
        -(0.5 * real).sigmoid().log().mean() - 2 * (1 - (0.5 * fake).sigmoid()).log().mean(),
    )


@pytest.mark.parametrize("size", [1e3, 1e4])
def test_log_ratios_of_any_size_leave_loss_and_gradient_finite(size: float) -> None:
    ratios = torch.tensor([size, -size], requires_grad=True)
    loss = ddo_loss(ratios, ratios, 3.0, 1.0)
    (gradient,) = torch.autograd.grad(loss, ratios)
    assert loss.item() == pytest.approx(size / 2 + 3 * size / 2)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("beta", [0.05, 1.0])
def test_the_diffusion_loss_starts_at_one_plus_alpha_log_2_for_any_batch(alpha: float, beta: float) -> None:
    model = denoiser()
    loss = diffusion_loss(model, frozen(model), batch(), 3 * batch(seed=2), alpha, beta)
    assert loss.item() == pytest.approx((1 + alpha) * math.log(2), rel=1e-14)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
def test_the_diffusion_losss_first_gradient_is_that_of_denoising_data_minus_alpha_times_that_of_samples(
    alpha: float,
) -> None:
    model, real, fake, beta = denoiser(), batch(), 3 * batch(48, seed=2), 0.3
    torch.manual_seed(5)
    found = gradients(diffusion_loss(model, frozen(model), real, fake, alpha, beta), model)
    torch.manual_seed(5)
    sigma, noise = training_sigmas(112), torch.randn(112, 2, dtype=torch.float64)
    of_data = gradients(squared_errors(model, real, sigma[:64], noise[:64]).mean(), model)
    of_samples = gradients(squared_errors(model, fake, sigma[64:], noise[64:]).mean(), model)
    torch.testing.assert_close(found, beta / 2 * (of_data - alpha * of_samples), rtol=1e-10, atol=1e-12)
    assert float((of_data - alpha * of_samples).norm()) > 1e-3  # it does not vanish, as it would for exact likelihoods


def test_one_draw_of_noise_bounds_the_loss_from_above() -> None:
    model, reference, y = denoiser(0), denoiser(3), batch(8)
    generator = torch.Generator().manual_seed(0)
    sigma = (torch.randn(64, generator=generator, dtype=torch.float64) * 1.2 - 1.2).exp()
    noise = torch.randn(64, 2, generator=generator, dtype=torch.float64)
    ratios = torch.stack([
        diffusion_log_ratio(model, reference, y, s.expand(8), n.expand(8, 2)) for s, n in zip(sigma, noise, strict=True)
    ])  # fmt: skip
    for alpha, beta in ((1.0, 1.0), (2.0, 0.1)):
        inside = ddo_loss(ratios.mean(dim=0), ratios.mean(dim=0), alpha, beta)
        outside = ddo_loss(ratios.flatten(), ratios.flatten(), alpha, beta)
        assert (outside - inside).item() > 0


def test_squared_errors_are_summed_over_the_entries_of_a_sample() -> None:
    model, y = denoiser(), batch(4)
    once = diffusion_log_ratio(model, denoiser(3), y, torch.ones(4).double(), batch(4, seed=2))
    x = y + batch(4, seed=2)
    sigma = torch.ones(4).double()
    wanted = [
        (m.raw(x, sigma) - m.target(y, x, sigma)).square().sum(dim=1) for m in (denoiser(3), model)
    ]  # fmt: skip
    torch.testing.assert_close(once, wanted[0] - wanted[1])


def test_the_reference_takes_no_gradient_and_no_change() -> None:
    torch.manual_seed(0)
    model = SoftmaxChain(8, 4)
    reference = frozen(SoftmaxChain(8, 4))
    x = torch.randint(8, (20, 2))
    assert not log_ratio(reference, model, x).requires_grad
    assert log_ratio(model, reference, x).requires_grad
    y, sigma, noise = batch(20), torch.ones(20).double(), batch(20, seed=2)
    assert not diffusion_log_ratio(frozen(denoiser()), denoiser(3), y, sigma, noise).requires_grad
    assert diffusion_log_ratio(denoiser(), denoiser(3), y, sigma, noise).requires_grad
    net = denoiser().float()
    before, pool = state(net), torch.randn(100, 2)
    recipe = Recipe(steps=3, batch_size=16, lr=1e-2, half_life=2, pool_size=100)
    trained = ddo_round(net, pool, lambda n: torch.randn(n, 2), diffusion_loss, 1.0, 1.0, recipe)
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert torch.equal(state(net), before)
    assert not torch.equal(state(trained), before)


def test_a_finetuned_model_samples_with_as_many_calls_as_before() -> None:
    net = denoiser().float()
    recipe = Recipe(steps=1, batch_size=8, lr=1e-3, half_life=1, pool_size=10)
    trained = ddo_round(net, torch.randn(10, 2), lambda n: torch.randn(n, 2), diffusion_loss, 1.0, 1.0, recipe)
    for model in (net, trained):
        calls = []
        with model.register_forward_hook(lambda *_, calls=calls: calls.append(1)):
            heun(model, torch.randn(4, 2))
        assert len(calls) == evaluations(18) == 35


class Softmax(nn.Module):
    """One logit for each of a few states, with the exact likelihood."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float64))

    def log_prob(self, x: Tensor) -> Tensor:
        return self.logits.log_softmax(dim=0)[x]


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (4.0, 0.3)])
def test_the_steps_of_a_round_are_adam_on_the_gradient_that_is_written_out(alpha: float, beta: float) -> None:
    """With d log p(x) / d logits = e_x - p, real data pull by sigma(-beta r) and samples push by sigma(beta r)."""
    start, real, pool = [0.3, -0.2, 0.5, 0.0], np.array([0, 0, 1, 3, 2, 2, 2, 2, 2]), np.array([2, 2, 1, 0, 3, 2])
    recipe = Recipe(steps=6, batch_size=4, lr=0.2, half_life=2.0, pool_size=6)
    torch.manual_seed(0)
    batches = [pool[torch.randint(6, (4,)).numpy()] for _ in range(6)]
    torch.manual_seed(0)
    kept = ddo_round(Softmax(start), torch.from_numpy(pool), lambda n: torch.from_numpy(real[:n]), likelihood_loss,
                     alpha, beta, recipe)  # fmt: skip

    def probabilities(logits: np.ndarray) -> np.ndarray:
        return np.exp(logits) / np.exp(logits).sum()

    def sigmoid(u: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-u))

    real, logits = real[: recipe.batch_size], np.array(start)
    average = logits
    mean, square, reference, one_hot = 0.0, 0.0, np.log(probabilities(logits)), np.eye(4)
    for step, fake in enumerate(batches, start=1):
        p = probabilities(logits)
        ratio = np.log(p) - reference
        pull = sigmoid(-beta * ratio[real])[:, None] * (one_hot[real] - p)
        push = sigmoid(beta * ratio[fake])[:, None] * (one_hot[fake] - p)
        gradient = beta * (alpha * push.mean(axis=0) - pull.mean(axis=0))
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        logits = logits - 0.2 * mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        average = average + (1 - 0.5 ** (1 / 2)) * (logits - average)
    assert abs(logits - np.array(start)).max() > 0.3
    np.testing.assert_allclose(state(kept), average, rtol=1e-7)


def test_what_is_kept_is_the_average_of_weights() -> None:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.zero_()
    seen = []

    def loss(m: nn.Module) -> Tensor:
        seen.append(m.weight.item())
        return m.weight.sum()

    kept = finetune(model, loss, Recipe(steps=2, batch_size=1, lr=0.1, half_life=1, pool_size=1))
    assert seen == pytest.approx([0.0, -0.1], abs=1e-6)
    assert kept.weight.item() == pytest.approx(-0.125, abs=1e-6)  # 0, then half of -0.1, then half of -0.2


def test_each_round_starts_from_the_best_of_the_one_before_and_from_its_own_samples() -> None:
    torch.manual_seed(0)
    pools, references, model = [], [], SoftmaxChain(4, 4)

    def sample(m: nn.Module, n: int) -> Tensor:
        pools.append(state(m))
        assert n == recipe.pool_size
        return m.sample(n)

    def loss(m: nn.Module, reference: nn.Module, real: Tensor, fake: Tensor, alpha: float, beta: float) -> Tensor:
        references.append(state(reference))
        return likelihood_loss(m, reference, real, fake, alpha, beta)

    recipe = Recipe(steps=2, batch_size=8, lr=1e-2, half_life=1, pool_size=32)
    scores = iter([3.0, 1.0, 2.0, 5.0])
    rounds = list(self_play(model, lambda n: torch.zeros(n, 2, dtype=torch.long), sample, loss,
                            [(1.0, 1.0), (2.0, 0.5)], lambda m: next(scores), recipe, rounds=2))  # fmt: skip
    assert [(kept.alpha, kept.beta, kept.score) for kept in rounds[0]] == [(2.0, 0.5, 1.0), (1.0, 1.0, 3.0)]
    assert rounds[1][0].score == 2.0
    assert torch.equal(pools[0], state(model))
    assert torch.equal(pools[1], state(rounds[0][0].model))
    assert all(torch.equal(r, pools[0]) for r in references[:4])
    assert all(torch.equal(r, pools[1]) for r in references[4:])


def test_rounds_move_a_wrong_model_towards_the_data() -> None:
    torch.manual_seed(0)
    table = torch.rand(6, 6).flatten().softmax(0)
    table = (table**8 / (table**8).sum()).view(6, 6)

    def real(n: int) -> Tensor:
        flat = torch.multinomial(table.flatten(), n, replacement=True)
        return torch.stack([flat // 6, flat % 6], dim=1)

    model = SoftmaxChain(6, 8)
    recipe = Recipe(steps=100, batch_size=256, lr=2e-2, half_life=10, pool_size=5_000)

    def forward_kl(m: SoftmaxChain) -> float:
        with torch.no_grad():
            return float((table * (table.log() - m.log_table())).sum())

    *_, last = self_play(model, real, lambda m, n: m.sample(n), likelihood_loss, [(1.0, 1.0)], lambda m: 0.0, recipe, 3)
    assert forward_kl(last[0].model) < 0.1 * forward_kl(model)

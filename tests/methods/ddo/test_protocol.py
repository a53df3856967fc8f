"""What diverges never wins, every choice is validation's, and contenders have the recipe that the rows say."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.experiment import Run
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
from methods.ddo import experiments as ex
from methods.ddo.baselines import DiscriminatorGuidance, continue_mle, pretrain
from methods.ddo.contenders import CONTENDERS, ON_POINTS
from methods.ddo.ddo import lowest
from methods.ddo.densities import GaussianMixture
from methods.ddo.images import ImageStudy
from methods.ddo.likelihood import SoftmaxChain
from methods.ddo.metrics import Region
from methods.ddo.networks import PointMLP
from methods.ddo.plane import PlaneStudy
from methods.shared.diffusion import EDM, EMA, edm_loss, frozen, heun, sampling_sigmas, squared_errors
from methods.shared.frechet import frechet_distance
from tests.methods.blindness import run_small
from tests.methods.unusual import assert_takes_or_refuses

RECIPE = Recipe(steps=2, batch_size=8, lr=1e-2, half_life=1.0, pool_size=16)


def cells(n: int) -> Tensor:
    return torch.randint(4, (n, 2))


def play(scores: list[float], rounds: int = 1) -> list[list[Any]]:
    torch.manual_seed(0)
    left = iter(scores)
    pairs = [(1.0, 1.0), (2.0, 0.5), (3.0, 1.0)]
    return list(self_play(SoftmaxChain(4, 4), cells, lambda m, n: m.sample(n), likelihood_loss, pairs,
                          lambda m: next(left), RECIPE, rounds))  # fmt: skip


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_candidate_whose_score_is_not_finite_is_the_last_and_never_the_reference(bad: float) -> None:
    for scores in ([bad, 2.0, 1.0], [2.0, bad, 1.0], [2.0, 1.0, bad]):
        (tried,) = play(scores)
        assert [t.score for t in tried][:2] == [1.0, 2.0]
        assert not math.isfinite(tried[2].score)
    with pytest.raises(FloatingPointError, match="3 candidates"):
        play([bad] * 3)


def test_the_lowest_is_the_first_of_equals_and_each_is_scored_once() -> None:
    scored: list[str] = []
    scores = dict(a=math.nan, b=2.0, c=1.0, d=1.0)
    assert lowest("abcd", lambda c: (scored.append(c), scores[c])[1]) == ("c", 1.0)
    assert scored == list("abcd")


def test_a_diverged_model_has_no_score_and_is_not_chosen() -> None:
    torch.manual_seed(0)
    density, good = GaussianMixture.ring(), EDM(PointMLP(8))
    broken = EDM(PointMLP(8))
    nn.init.constant_(broken.network.layers[-1].bias, torch.nan)
    study = PlaneStudy(density, Region.of(density, 2_000), good, torch.randn(50, 2), density.sample(50), 5)
    assert math.isnan(study.validate(broken))
    run = Run("plane", "quick", seed=0)
    with run.method("mle") as m:
        assert study.chosen(m, [broken, good]) is good
    with run.method("ddo") as m:
        study.quality(m, broken)
    of_broken = [row for row in run.rows if row.method == "ddo" and row.metric != "wall_s"]
    assert len(of_broken) == 5
    assert all(row.value is None and row.reason for row in of_broken)
    assert math.isnan(frechet_distance(torch.full((5, 2), torch.inf), torch.zeros(5, 2)))
    images = ImageStudy.draw_from(None, lambda x, sigma: torch.full_like(x, torch.inf), torch.zeros(1, 1, 2, 2))
    assert images.isnan().all()


def test_the_validation_score_in_the_rows_is_the_least_of_all_that_were_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores are handed out by the number of the call, so the rows show who was chosen and among how many."""
    calls: list[nn.Module] = []

    def validate(study: PlaneStudy, denoiser: Any) -> float:
        calls.append(denoiser)
        return [5.0, 3.0, 4.0, 7.0][len(calls) % 4] + 0.001 * len(calls)

    measured: list[Any] = []
    quality = PlaneStudy.quality
    monkeypatch.setattr(PlaneStudy, "validate", validate)
    monkeypatch.setattr(PlaneStudy, "quality", lambda s, m, d: (measured.append(d), quality(s, m, d))[1])
    run = run_small("ddo", "plane", steps=4, round_steps=2, rounds=2, points=40, pool=30, width=4, likelihood_points=4,
                    candidates=[(1.0, 1.0), (2.0, 1.0)], rates=[1e-3, 1e-4], more=False)  # fmt: skip
    validation = {row.method: row.value for row in run.rows if row.metric == "validation"}
    # calls: mle 1-2; the tuned 3-4 and 5-6, then 7-8 of the two that were kept; ddo 9-10 and 11-12
    assert validation == pytest.approx({"mle": 3.001, "mle_tuned": 5.008, "ddo": 3.009})
    assert measured[1] is calls[0]
    assert len(calls) == 16  # and one candidate in each of two rounds of the two fixed pairs


def test_maximum_likelihood_has_the_steps_rate_and_batch_of_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    recipes: dict[str, list[Recipe]] = {"mle": [], "ddo": []}

    def of_plan(plan: Recipe) -> Recipe:
        return Recipe(**{field.name: getattr(plan, field.name) for field in fields(Recipe)})

    def spy(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        return lambda model, loss, plan: (recipes[name].append(of_plan(plan)), plain(model, loss, plan))[1]

    monkeypatch.setattr("methods.ddo.baselines.finetune", spy("mle", finetune))
    monkeypatch.setattr("methods.ddo.ddo.finetune", spy("ddo", finetune))
    small = dict(steps=2, round_steps=3, rounds=2, points=20, pool=30, width=4, likelihood_points=2)
    run_small("ddo", "plane", **small, candidates=[(1.0, 1.0), (2.0, 1.0)], rates=[1e-3, 1e-4], more=False)
    recipe = Recipe(steps=3, batch_size=512, lr=3e-4, half_life=30, pool_size=30)
    assert recipes["ddo"] == [recipe] * (2 * 2 + 2 + 2)
    assert recipes["mle"][:2] == [recipe] * 2
    assert recipes["mle"][2:] == [replace(recipe, lr=rate) for rate in (1e-3, 1e-4, 1e-3, 1e-4)]
    recipes["mle"].clear(), recipes["ddo"].clear()
    run_small("ddo", "bits", hidden=4, steps=2, round_steps=2, rounds=1, candidates=[(1.0, 1.0)])
    assert [r.lr for r in recipes["mle"]] == pytest.approx([3e-4, 0.9e-4, 0.3e-4, 9e-4])
    assert {replace(r, lr=0.1) for r in recipes["mle"]} == {replace(r, lr=0.1) for r in recipes["ddo"]}
    monkeypatch.setattr(ex.datasets, "load", lambda name, split=0: images(split))
    recipes["mle"].clear(), recipes["ddo"].clear()
    run_small("ddo", "images", dataset="digits", size=8, channels=4, levels=1, steps=1, batch_size=4, lr=1e-3,
              round_steps=2, finetuning_lr=1e-4, rounds=2, samples=10, classifier_steps=1, candidates=[(1.0, 1.0)],
              rates=[0.5])  # fmt: skip
    assert [r.lr for r in recipes["mle"]] == [1e-4, 1e-4, 0.5e-4, 0.5e-4]
    assert [r.lr for r in recipes["ddo"]] == [1e-4] * 2
    assert {replace(r, lr=0.1) for r in recipes["mle"]} == {replace(r, lr=0.1) for r in recipes["ddo"]}


def images(split: int) -> Any:
    from datasets.images import Images

    torch.manual_seed(split)
    return Images(torch.rand(60, 1, 8, 8), torch.arange(60) % 10, torch.rand(20, 1, 8, 8), torch.arange(20) % 10)


def test_digits_are_split_anew_in_every_replicate(monkeypatch: pytest.MonkeyPatch) -> None:
    splits: list[int] = []
    monkeypatch.setattr(ex.datasets, "load", lambda name, split: (splits.append(split), images(split))[1])
    run_small("ddo", "images", seed=4, dataset="digits", size=8, channels=4, levels=1, steps=1, batch_size=4, lr=1e-3,
              round_steps=1, finetuning_lr=1e-4, rounds=1, samples=10, classifier_steps=1, candidates=[(1.0, 1.0)],
              rates=[1.0])  # fmt: skip
    assert splits == [4]


def test_pretraining_is_adam_whose_rate_falls_linearly_to_zero() -> None:
    model, rates = nn.Linear(1, 1, bias=False), []
    nn.init.zeros_(model.weight)
    pretrain(
        model, lambda m, _: (rates.append(m.weight.item()), m.weight.sum())[1], lambda n: torch.zeros(n), 4, 1, 0.4
    )
    assert [*rates, model.weight.item()] == pytest.approx([0, -0.4, -0.7, -0.9, -1.0], abs=1e-5)


def test_guidance_adds_the_classifiers_gradient_times_the_variance_of_the_noise() -> None:
    torch.manual_seed(0)
    model = EDM(PointMLP(8)).double()
    guidance, h = DiscriminatorGuidance(model, 8), 1e-5
    guidance.classifier.double()
    x, sigma = torch.randn(5, 2).double(), torch.full((5,), 0.7).double()
    with torch.no_grad():
        sides = [[guidance.logit(x + sign * h * axis, sigma) for sign in (1, -1)] for axis in torch.eye(2).double()]
    gradient = torch.stack([(up - down) / (2 * h) for up, down in sides], dim=1)
    assert gradient.abs().min() > 1e-4
    for weight in (0.5, 2.0):
        added = guidance.denoiser(weight)(x, sigma) - model(x, sigma)
        torch.testing.assert_close(added, weight * 0.49 * gradient, rtol=1e-4, atol=1e-8)


def test_the_classifier_tells_noisy_data_from_noisy_samples() -> None:
    torch.manual_seed(0)
    guidance, seen = DiscriminatorGuidance(EDM(PointMLP(4)), 4), []
    logit = guidance.logit
    guidance.logit = lambda x, sigma: (seen.append((x, sigma)), logit(x, sigma))[1]  # type: ignore[method-assign]
    guidance.fit(torch.full((10, 2), 50.0), lambda n: torch.zeros(n, 2), steps=200, batch_size=64, lr=1e-2)
    noise = torch.cat([(x - 50 * (torch.arange(128) >= 64)[:, None]) / sigma[:, None] for x, sigma in seen])
    assert float(noise.mean()) == pytest.approx(0, abs=0.03)
    assert float(noise.std()) == pytest.approx(1, abs=0.03)
    at = torch.ones(1)
    assert logit(torch.zeros(1, 2), at) > 1 > -1 > logit(torch.full((1, 2), 50.0), at)


def test_more_likelihood_goes_on_from_the_round_before() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    one, two = continue_mle(model, lambda m, _: m.weight.sum(), lambda n: torch.zeros(n), replace(RECIPE, lr=0.1), 2)
    assert one.weight.item() < 0
    assert two.weight.item() == pytest.approx(2 * one.weight.item(), abs=1e-4)
    assert model.weight.item() == 0


def test_a_search_of_rates_goes_on_from_the_best_of_the_round_before(monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[nn.Module] = []
    monkeypatch.setattr(
        "methods.ddo.contenders.continue_mle",
        lambda model, *rest: (starts.append(model), continue_mle(model, *rest))[1],
    )
    torch.manual_seed(0)
    density, model = GaussianMixture.ring(), frozen(EDM(PointMLP(4)))
    study = PlaneStudy(density, Region.of(density, 2_000), model, torch.randn(50, 2), density.sample(50), 5)
    plan = replace(ON_POINTS, steps=1, pool_size=1, rates=(3e-4, 1e-2), rounds=3)
    kept = CONTENDERS["mle_tuned"].build(study.start, plan)
    assert [id(start) for start in starts] == [id(at) for at in (model, model, kept[0], kept[0], kept[1], kept[1])]


def test_unusual_inputs_are_taken_or_refused() -> None:
    torch.manual_seed(0)
    model, reference = EDM(PointMLP(4)), frozen(EDM(PointMLP(4)))
    real, fake, sigma = torch.randn(6, 2), torch.randn(5, 2), torch.rand(6) + 0.1
    assert_takes_or_refuses(ddo_loss, real_log_ratio=real[:, 0], fake_log_ratio=fake[:, 0], alpha=1.0, beta=0.5)
    assert_takes_or_refuses(lambda real, fake, alpha, beta: diffusion_loss(model, reference, real, fake, alpha, beta),
                            real=real, fake=fake, alpha=1.0, beta=0.5)  # fmt: skip
    assert_takes_or_refuses(lambda y, sigma, noise: diffusion_log_ratio(model, reference, y, sigma, noise), y=real,
                            sigma=sigma, noise=torch.randn(6, 2))  # fmt: skip
    assert_takes_or_refuses(lambda y, sigma, noise: squared_errors(model, y, sigma, noise), y=real, sigma=sigma,
                            noise=torch.randn(6, 2))  # fmt: skip
    assert_takes_or_refuses(Recipe, steps=2, batch_size=2, lr=0.1, half_life=1.0, pool_size=3)
    assert_takes_or_refuses(lambda pool, alpha, beta: ddo_round(
        reference, pool, lambda n: torch.randn(n, 2), diffusion_loss, alpha, beta, RECIPE), pool=fake, alpha=1.0,
        beta=1.0)  # fmt: skip
    chain = SoftmaxChain(4, 4)
    assert_takes_or_refuses(lambda x: log_ratio(chain, frozen(chain), x), x=cells(5))
    assert_takes_or_refuses(lambda rounds: list(self_play(
        chain, cells, lambda m, n: m.sample(n), likelihood_loss, [(1.0, 1.0)], lambda m: 0.0, RECIPE, rounds)),
        rounds=1)  # fmt: skip
    with pytest.raises(ValueError, match="candidates must be at least 1"):
        list(self_play(chain, cells, lambda m, n: m.sample(n), likelihood_loss, [], lambda m: 0.0, RECIPE, 1))
    assert_takes_or_refuses(lambda sigma_data: EDM(PointMLP(4), sigma_data), sigma_data=0.5)
    assert_takes_or_refuses(lambda half_life: EMA(model, half_life), half_life=2.0)
    assert_takes_or_refuses(lambda steps: sampling_sigmas(steps), steps=4)
    assert_takes_or_refuses(lambda y: edm_loss(model, y), y=real)
    assert_takes_or_refuses(lambda noise, steps: heun(reference, noise, steps), noise=real, steps=3)
    with pytest.raises(ValueError, match="one a sample"):
        squared_errors(model, real, sigma[:1], real)  # would broadcast

"""Known densities, models with exact likelihoods, networks, metrics and baselines."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from methods.ddo import Recipe
from methods.ddo.baselines import (
    DiscriminatorGuidance,
    continue_mle,
    negative_log_likelihood,
    pretrain,
    steps_of_equal_compute,
)
from methods.ddo.densities import BernoulliMixture, GaussianMixture, TableDensity
from methods.ddo.likelihood import MADE, SoftmaxChain
from methods.ddo.metrics import Region, sliced_w2
from methods.ddo.networks import Classifier, PointMLP
from methods.shared.diffusion import EDM, edm_loss, heun, log_likelihood
from methods.shared.frechet import frechet_distance
from methods.shared.unet import UNet

BITS = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 8)


@pytest.fixture(scope="module")
def ring() -> GaussianMixture:
    return GaussianMixture.ring()


@pytest.fixture(scope="module")
def region(ring: GaussianMixture) -> Region:
    return Region.of(ring)


def optimal(ring: GaussianMixture, x: Tensor, sigma: Tensor) -> Tensor:
    """E[y | x] for the ring, at one noise level for all."""
    noisy = GaussianMixture(ring.means, math.sqrt(ring.std**2 + float(sigma[0]) ** 2), ring.weights)
    shares = noisy.joint(x).softmax(dim=1)
    shrink = ring.std**2 / noisy.std**2
    return shrink * x + (1 - shrink) * shares @ ring.means


def test_the_rings_density_integrates_to_one_and_has_edms_standard_deviation(ring: GaussianMixture) -> None:
    axis = torch.linspace(-1.2, 1.2, 601)
    mass = ring.log_prob(torch.cartesian_prod(axis, axis)).exp().sum() * (axis[1] - axis[0]) ** 2
    assert float(mass) == pytest.approx(1, abs=1e-3)
    torch.manual_seed(0)
    assert float(ring.sample(50_000).std(dim=0).mean()) == pytest.approx(0.5, abs=0.02)


def test_the_data_themselves_lie_inside_their_region_19_times_of_20(ring: GaussianMixture, region: Region) -> None:
    torch.manual_seed(1)
    x = ring.sample(50_000)
    assert region.share_inside(x) == pytest.approx(0.95, abs=0.005)
    assert region.cell_tv(x) < 0.02
    assert region.mode_tv(x) < 0.02
    torch.testing.assert_close(region.masses.sum(dim=1), ring.weights, rtol=0, atol=5e-3)
    # modes of one width: the region is a disc in each, the wider the heavier its mode
    share = (region.masses[:, 1] / ring.weights)[:3]
    assert share[0] < share[1] < share[2]


def test_a_model_of_one_mode_is_sharp_and_found_out(ring: GaussianMixture, region: Region) -> None:
    torch.manual_seed(1)
    x = ring.means[2] + 0.01 * torch.randn(10_000, 2)
    assert region.share_inside(x) > 0.99
    assert region.mode_tv(x) == pytest.approx(1 - float(ring.weights[2]), abs=5e-3)
    assert region.cell_tv(x) > 0.8


def test_points_between_the_modes_are_outside(ring: GaussianMixture, region: Region) -> None:
    between = (ring.means + ring.means.roll(1, dims=0)) / 2
    assert region.share_inside(between) == 0


def test_the_optimal_denoiser_samples_the_ring(ring: GaussianMixture, region: Region) -> None:
    torch.manual_seed(0)
    x = heun(partial(optimal, ring), torch.randn(8_000, 2), steps=40)
    assert region.share_inside(x) == pytest.approx(0.95, abs=0.01)
    assert region.mode_tv(x) < 0.03
    assert sliced_w2(x, ring.sample(8_000)) < 0.04


def test_the_probability_flow_of_the_optimal_denoiser_has_the_rings_likelihood(ring: GaussianMixture) -> None:
    torch.manual_seed(0)
    x = ring.sample(500)
    gap = log_likelihood(partial(optimal, ring), x) - ring.log_prob(x)
    assert abs(float(gap.mean())) < 0.05
    assert float(gap.abs().max()) < 0.3


def test_sliced_w2_of_a_shift_is_its_length_over_root_two() -> None:
    x = torch.randn(500, 2)
    assert sliced_w2(x, x + torch.tensor([3.0, 4.0])) == pytest.approx(5 / math.sqrt(2), rel=1e-5)


def test_the_frechet_distance_is_that_of_gaussians() -> None:
    torch.manual_seed(0)
    x, shift = torch.randn(1_000, 3, dtype=torch.float64), torch.tensor([1.0, 2.0, 0.0]).double()
    assert frechet_distance(x, x + shift) == pytest.approx(5, rel=1e-9)
    scaled = frechet_distance(x - x.mean(0), 3 * (x - x.mean(0)))  # commuting covariances: tr (3 C^1/2 - C^1/2)^2
    assert scaled == pytest.approx(4 * float(x.T.cov().trace()), rel=1e-9)
    y = torch.randn(800, 3, dtype=torch.float64) @ torch.randn(3, 3, dtype=torch.float64)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-9)


@pytest.mark.parametrize("hidden", [5, 64])
def test_a_made_is_a_distribution_whose_bits_see_only_earlier_bits(hidden: int) -> None:
    torch.manual_seed(0)
    model = MADE(8, hidden)
    assert float(model.log_prob(BITS).exp().sum().detach()) == pytest.approx(1, abs=1e-5)
    by_state = torch.stack([torch.autograd.functional.jacobian(model.logits, x[None]).view(8, 8) for x in BITS[::5]])
    seen = by_state.abs().amax(dim=0) > 0  # in any state, for a ReLU may be off
    assert not seen.triu().any()
    assert hidden < 8 or bool((seen == torch.ones(8, 8).tril(-1).bool()).all())


def test_mades_samples_have_its_probabilities() -> None:
    torch.manual_seed(0)
    model = MADE(4, 32)
    states, draws = BITS.view(16, 16, 8)[0][:, 4:], model.sample(100_000)
    code = (draws @ torch.tensor([8.0, 4.0, 2.0, 1.0])).long()
    found = torch.bincount(code, minlength=16) / 100_000
    torch.testing.assert_close(found, model.log_prob(states).exp().detach(), rtol=0, atol=6e-3)


def test_a_softmax_chain_is_a_distribution_and_samples_it() -> None:
    torch.manual_seed(0)
    model = SoftmaxChain(4, 8)
    nn.init.normal_(model.first)
    table = model.log_table().exp().detach()
    assert float(table.sum()) == pytest.approx(1, abs=1e-5)
    x = model.sample(100_000)
    torch.testing.assert_close(model.log_prob(x[:5]).exp(), table[x[:5, 0], x[:5, 1]])
    found = torch.bincount(4 * x[:, 0] + x[:, 1], minlength=16).view(4, 4) / 100_000
    torch.testing.assert_close(found, table, rtol=0, atol=6e-3)


def test_a_bernoulli_mixture_sums_to_one_and_is_fitted_to_what_it_drew() -> None:
    torch.manual_seed(0)
    truth = BernoulliMixture(torch.tensor([0.3, 0.7]), torch.tensor([[0.9] * 4 + [0.1] * 4, [0.1] * 4 + [0.8] * 4]))
    assert float(truth.log_prob(BITS).exp().sum()) == pytest.approx(1, abs=1e-5)
    x = truth.sample(5_000)
    fitted = BernoulliMixture.fit(x, components=2)
    order = fitted.weights.argsort()
    torch.testing.assert_close(fitted.weights[order], truth.weights, rtol=0, atol=0.03)
    torch.testing.assert_close(fitted.probs[order], truth.probs, rtol=0, atol=0.05)
    assert float(fitted.log_prob(x).mean()) >= float(truth.log_prob(x).mean()) - 0.01


def test_the_grids_ring_is_a_distribution_of_eight_unequal_modes() -> None:
    density = TableDensity.ring()
    assert float(density.table.sum()) == pytest.approx(1, abs=1e-6)
    assert float(density.table.min()) > 0
    angle = 2 * math.pi * torch.arange(8) / 8
    means = 15.5 + 0.65 * 15.5 * torch.stack([angle.cos(), angle.sin()], dim=1)
    cells = torch.cartesian_prod(torch.arange(32), torch.arange(32)).float()
    nearest = torch.cdist(cells, means).argmin(dim=1)
    masses = torch.zeros(8).index_add_(0, nearest, density.table.flatten())
    torch.testing.assert_close(masses, torch.arange(1, 9) / 36, rtol=0, atol=2e-3)
    torch.manual_seed(0)
    x = density.sample(200_000)
    found = torch.bincount(32 * x[:, 0] + x[:, 1], minlength=1024).view(32, 32) / 200_000
    assert float((found - density.table).abs().sum() / 2) < 0.03


@pytest.mark.parametrize(("channels", "levels", "size"), [(4, 1, 5), (8, 2, 8), (4, 3, 12)])
def test_a_u_net_keeps_the_shape_reaches_every_weight_and_sees_the_noise_level(
    channels: int, levels: int, size: int
) -> None:
    torch.manual_seed(0)
    model = UNet(channels, levels)
    for parameter in model.parameters():  # some start at zero, which would hide what lies behind them
        nn.init.normal_(parameter, std=0.1)
    x = torch.randn(3, 1, size, size)
    out = model(x, torch.tensor([0.1, 0.5, -1.0]))
    assert out.shape == x.shape
    out.square().sum().backward()
    assert all(bool((p.grad != 0).any()) for p in model.parameters())
    assert not torch.allclose(out, model(x, torch.zeros(3)))


def test_a_classifiers_features_are_what_its_head_reads() -> None:
    model = Classifier()
    x = torch.randn(3, 1, 8, 8)
    assert model.features(x).shape == (3, 32)
    torch.testing.assert_close(model(x), model.head(model.features(x)))


def test_pretraining_lowers_the_loss_and_ends_with_the_rate_at_zero() -> None:
    torch.manual_seed(0)
    density = TableDensity.ring(8, 4)
    model = SoftmaxChain(8, 16)
    before = float(negative_log_likelihood(model, density.sample(2_000)).detach())
    weights = []

    def loss(model: nn.Module, x: Tensor) -> Tensor:
        weights.append(model.first.detach().clone())
        return negative_log_likelihood(model, x)

    pretrain(model, loss, density.sample, steps=200, batch_size=256, lr=1e-2)
    assert float(negative_log_likelihood(model, density.sample(2_000)).detach()) < before - 0.5
    moved = [float((b - a).abs().max()) for a, b in pairwise([*weights, model.first.detach()])]
    assert moved[0] == pytest.approx(1e-2, rel=1e-3)  # Adam's first step is the rate, and no later one is much longer
    assert 0 < moved[-1] < 2e-2 / 200


def test_continued_likelihood_goes_on_from_round_to_round_and_leaves_the_pretrained_model_alone(
    ring: GaussianMixture,
) -> None:
    torch.manual_seed(0)
    model = EDM(PointMLP(16))
    start = model.network.layers[-1].weight.detach().clone()
    recipe = Recipe(steps=100, batch_size=256, lr=3e-3, half_life=10, pool_size=1)
    models = list(continue_mle(model, edm_loss, ring.sample, recipe, rounds=2))
    assert torch.equal(model.network.layers[-1].weight, start)
    y = ring.sample(4_000)
    losses = []
    for m in (model, *models):
        torch.manual_seed(1)
        losses.append(edm_loss(m, y).item())
    assert losses[0] > losses[1] > losses[2]


def test_equal_compute_counts_both_networks_and_the_pool() -> None:
    recipe = Recipe(steps=150, batch_size=512, lr=1.0, half_life=1, pool_size=20_000)
    assert steps_of_equal_compute(recipe) == round((150 * 512 * 8 + 20_000 * 35) / (512 * 3)) == 856


def test_a_search_of_equal_compute_shares_out_all_pairs_and_their_one_pool() -> None:
    recipe = Recipe(steps=150, batch_size=512, lr=1.0, half_life=1, pool_size=20_000)
    shared = 12 * steps_of_equal_compute(recipe, trials=12) * 512 * 3
    assert shared == pytest.approx(12 * 150 * 512 * 8 + 20_000 * 35, rel=1e-3)


def test_discriminator_guidance_pulls_a_wrong_sampler_towards_the_data() -> None:
    """Data N(0, 0.25 I); the model is the optimal denoiser of the same Gaussian moved by (0.5, 0)."""
    torch.manual_seed(0)
    moved = torch.tensor([0.5, 0.0])

    class Moved(EDM):
        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            shrink = (0.25 / (0.25 + sigma**2)).unsqueeze(1)
            return moved + shrink * (x - moved)

    model = Moved(PointMLP(4))
    pool = heun(model, torch.randn(5_000, 2))
    assert float(pool[:, 0].mean()) == pytest.approx(0.5, abs=0.03)
    guidance = DiscriminatorGuidance(model, width=32)
    guidance.fit(pool, lambda n: 0.5 * torch.randn(n, 2), steps=400, batch_size=256, lr=5e-3)
    guided = heun(guidance.denoiser(weight=1.0), torch.randn(5_000, 2))
    assert float(guided[:, 0].mean()) == pytest.approx(0, abs=0.12)

"""The studies and the rows that they record, at sizes that a test can afford."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
import torch

import datasets
from assay import ROOT
from assay.card import load_card
from assay.experiment import Run
from methods.ddo import hotpaths
from methods.ddo import plane as plane_study
from methods.ddo.baselines import pretrain
from methods.ddo.contenders import CLASSIFIER_RATES, CONTENDERS, ON_POINTS, WEIGHTS
from methods.ddo.experiments import (
    bits,
    capacity,
    grid_chain,
    images,
    keep,
    misfit,
    network_calls,
    optima,
    plane,
    stability,
    start,
)
from methods.ddo.images import ImageStudy, features_of
from methods.ddo.plane import PlaneStudy, draw
from methods.shared.diffusion import EDM, edm_loss, evaluations, frozen
from methods.shared.unet import UNet

TINY = dict(steps=300, round_steps=20, rounds=2, points=500, pool=1_000)
EVERY_ROUND = {0, 1, 2}


@pytest.fixture(scope="module")
def study() -> PlaneStudy:
    torch.manual_seed(0)
    return PlaneStudy.of(width=32, steps=1_200, points=4_000, likelihood_points=200)


def test_the_exact_experiments_record_what_the_card_claims() -> None:
    found = {}
    for experiment in (start, stability, misfit, optima):
        run = Run(experiment.name, "quick", seed=0)
        experiment.function(run, **experiment.parameters("quick"))
        assert all(row.evidence == "counted" for row in run.rows if row.metric != "wall_s")
        for row in run.rows:
            found.setdefault(row.metric, []).append((row.setting, row.value))
    assert max(value for _, value in found["gradient_gap"]) < 1e-12
    assert all((value > 0) == (s["side"] == "below") for s, value in found["eigenvalue_beside_threshold"])
    drift = {setting["pair"]: value for setting, value in found["drift"]}
    assert drift["1/1"] < 1e-9
    assert drift["2/1"] < 1e-9
    escape = {setting["pair"]: value for setting, value in found["escape"]}
    assert min(escape["4/1"], escape["2/0.3"]) > 0.1
    assert max(value for _, value in found["optimum_error"]) < 1e-6


@pytest.fixture(scope="module")
def sharpened(study: PlaneStudy) -> EDM:
    torch.manual_seed(0)
    plan = replace(CONTENDERS["ddo_a2"].recipe, pool_size=4_000, rounds=3)
    return CONTENDERS["ddo_a2"].build(study.start, plan)[-1][0].model


def test_three_rounds_of_ddo_sharpen_a_small_diffusion_model_and_more_likelihood_does_not(
    study: PlaneStudy, sharpened: EDM
) -> None:
    torch.manual_seed(0)
    more = CONTENDERS["mle"].build(study.start, replace(ON_POINTS, pool_size=4_000, rounds=3))[-1]
    inside = [study.region.share_inside(draw(model, 8_000)) for model in (study.pretrained, more, sharpened)]
    assert inside[2] > max(inside[:2]) + 0.02


def test_the_divergences_of_a_sharpened_model_have_converged_in_the_steps_of_the_flow(
    study: PlaneStudy, sharpened: EDM, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for steps in (plane_study.FLOW_STEPS, 4 * plane_study.FLOW_STEPS):
        monkeypatch.setattr(plane_study, "FLOW_STEPS", steps)
        run = Run("plane", "standard", seed=0)
        with run.method("ddo_a2") as m:
            study.divergences(m, sharpened)
        found[steps] = {row.metric: row.value for row in run.rows}
    coarse, fine = found.values()
    for metric in ("reverse_kl", "forward_kl"):
        assert fine[metric] > 0.1
        assert coarse[metric] == pytest.approx(fine[metric], rel=0.1)


def test_divergences_do_not_depend_on_what_was_drawn_before(study: PlaneStudy) -> None:
    run = Run("plane", "standard", seed=0)
    with run.method("pretrained") as m:
        study.divergences(m, study.pretrained)
        study.divergences(m, study.pretrained)
    values = [row.value for row in run.rows if row.metric in ("reverse_kl", "forward_kl")]
    assert values[:2] == values[2:]


def test_guidance_has_a_denoiser_for_each_rate_and_weight_and_calls_the_classifier_beside_the_network(
    study: PlaneStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("methods.ddo.contenders.WEIGHTS", [0.5, 1.0, 2.0])
    torch.manual_seed(0)
    plan = replace(ON_POINTS, steps=2, pool_size=100, rates=(1e-3, 1e-2))
    guided = CONTENDERS["discriminator_guidance"].build(study.start, plan)
    assert len(guided) == 6
    unguided = network_calls(study.pretrained)
    assert unguided == evaluations(18)
    assert unguided < network_calls(guided[0]) < 2 * unguided  # not at the highest noise levels


def test_tuned_likelihood_takes_the_better_rate_in_each_round(study: PlaneStudy) -> None:
    torch.manual_seed(0)
    hopeless = 1.0
    plan = replace(ON_POINTS, steps=20, pool_size=1, rates=(hopeless, 1e-6), rounds=2)
    kept = CONTENDERS["mle_tuned"].build(study.start, plan)
    assert all(study.validate(model) < study.validate(study.pretrained) + 0.05 for model in kept)


def test_a_study_validates_on_other_samples_than_it_reports(study: PlaneStudy) -> None:
    torch.manual_seed(0)
    assert study.validate(study.pretrained) != study.validate(study.pretrained)


def test_the_plane_records_every_contender_its_rounds_and_its_samples() -> None:
    run = Run("plane", "standard", seed=0)
    pairs = [(1.0, 1.0), (4.0, 0.3)]
    plane.function(run, **TINY, width=16, candidates=pairs, rates=[1e-4, 1e-3], likelihood_points=50, more=True)
    inside = [row for row in run.rows if row.metric == "inside"]
    chosen = {row.method for row in inside if not row.setting}
    assert chosen == {
        "pretrained", "data", "mle", "mle_tuned", "mle_compute", "mle_compute_fixed", "discriminator_guidance",
        "ddo", "ddo_a1", "ddo_a2",
    }  # fmt: skip
    for name in ("mle_rounds", "ddo_rounds", "ddo_a1_rounds", "ddo_a2_rounds"):
        assert {row.setting["round"] for row in inside if row.method == name} == EVERY_ROUND
    assert {(r.setting["alpha"], r.setting["beta"]) for r in inside if r.method == "ddo_grid"} == set(pairs)
    nfe = {row.method: row.value for row in run.rows if row.metric == "nfe"}
    assert nfe.pop("discriminator_guidance") > evaluations(18)
    assert set(nfe.values()) == {evaluations(18)}
    steps = {row.method: row.value for row in run.rows if row.metric == "steps"}
    assert steps["pretrained"] > steps["mle_compute"] > steps["mle_compute_fixed"] > steps["ddo"] == steps["mle"] == 20
    assert {artifact.method for artifact in run.artifacts} == chosen - {"discriminator_guidance"}
    assert all(0 <= row.value <= 100 for row in inside)


def test_capacity_records_every_width() -> None:
    run = Run("capacity", "standard", seed=0)
    capacity.function(run, **{**TINY, "steps": 50}, widths=[4, 8])
    found = {(row.method, row.setting["width"]) for row in run.rows if row.metric == "inside"}
    assert found == {(name, width) for name in ("pretrained", "mle", "ddo_a1", "ddo_a2") for width in (4, 8)}


def test_alpha_above_the_threshold_harms_an_exact_likelihood_model_that_alpha_one_does_not() -> None:
    run = Run("grid_chain", "quick", seed=0)
    grid_chain.function(run, steps=600, round_steps=250)
    js = {(row.method, row.setting.get("alpha")): row.value for row in run.rows if row.metric == "js"}
    assert js["ddo", 4.0] > 0.05
    assert js["ddo", 1.0] < 0.01
    assert js["mle", None] < 0.01


@pytest.fixture(scope="module")
def digits() -> ImageStudy:
    torch.manual_seed(0)
    return ImageStudy.of(datasets.load("digits"), size=8, classifier_steps=150, samples=150, device=torch.device("cpu"))


def test_validation_images_are_carved_out_of_training_and_test_images_are_not_trained_on(digits: ImageStudy) -> None:
    data = datasets.load("digits")
    assert len(digits.train) + len(digits.validation) == len(data.train_x)
    assert len(digits.validation) == len(data.train_x) // 5
    assert len(digits.test) == len(data.test_x)
    assert float(digits.train.min()) == -1
    assert float(digits.train.max()) == 1
    assert digits.accuracy > 0.85
    assert digits.few == 150
    assert digits.floor() < 0.1 * digits.distance(torch.randn(150, 1, 8, 8), digits.test)


def test_features_are_in_units_of_their_spread_on_the_training_images(digits: ImageStudy) -> None:
    spread = (features_of(digits.classifier, digits.train) / digits.scale).std(dim=0)
    stirs = spread > 0
    assert int(stirs.sum()) > 5
    torch.testing.assert_close(spread[stirs], torch.ones(int(stirs.sum())))
    assert bool((digits.scale[~stirs] == 1).all())


def test_samples_are_images_whatever_the_denoiser_returns(digits: ImageStudy) -> None:
    x = digits.draw(lambda x, sigma: 3 * x.sign(), 8)
    assert float(x.min()) == -1
    assert float(x.max()) == 1


def test_the_u_net_learns_digits(digits: ImageStudy) -> None:
    torch.manual_seed(0)
    model = EDM(UNet(8, 2), sigma_data=float(digits.train.std()))
    untrained = digits.distance(digits.draw(frozen(model), 150), digits.test)
    pretrain(model, edm_loss, digits.real, steps=100, batch_size=64, lr=3e-3)
    assert digits.distance(digits.draw(frozen(model), 150), digits.test) < 0.5 * untrained


def test_images_are_padded_to_the_size_of_the_u_net_and_every_contender_is_measured() -> None:
    run = Run("images", "standard", seed=0, dataset="digits")
    images.function(run, size=12, channels=4, levels=2, steps=5, batch_size=16, lr=1e-3, round_steps=2,
                    finetuning_lr=1e-4, rounds=2, samples=40, classifier_steps=5,
                    candidates=[(1.0, 0.1), (2.0, 0.1)], rates=[1.0, 0.1])  # fmt: skip
    rows = [row for row in run.rows if row.metric == "frechet"]
    assert {row.method for row in rows} == {"pretrained", "mle", "mle_tuned", "ddo"}
    few = {row.method for row in run.rows if row.metric == "frechet_few"}
    assert few == {"data", "pretrained", "mle", "mle_tuned", "ddo"}
    (by_round,) = run.curves
    assert (by_round.method, by_round.metric, by_round.x_name) == ("ddo", "frechet", "round")
    assert set(by_round.x) == EVERY_ROUND
    before = next(row.value for row in rows if row.method == "pretrained")
    assert by_round.y[0] == before
    assert {artifact.method for artifact in run.artifacts} == few
    for artifact in run.artifacts:
        drawn = np.load(io.BytesIO(base64.b64decode(artifact.npz_base64)))["images"]
        assert drawn.dtype == np.float32
        assert drawn.shape == (64 if artifact.method == "data" else 40, 12, 12)  # 40 samples in all
        assert -1 <= drawn.min() < drawn.max() <= 1


def test_a_figures_images_are_kept_of_the_first_replicate_alone() -> None:
    for seed, kept in ((0, 1), (1, 0)):
        run = Run("images", "standard", seed=seed, dataset="digits")
        keep(run, "data", torch.zeros(3, 1, 8, 8))
        assert len(run.artifacts) == kept


def test_bits_records_both_divergences_of_every_contender() -> None:
    run = Run("bits", "standard", seed=0)
    bits.function(run, hidden=16, steps=100, round_steps=80, rounds=1, candidates=[(1.0, 1.0)])
    found = {(row.method, row.metric): row.value for row in run.rows if row.metric.endswith("_kl")}
    assert {method for method, _ in found} == {"pretrained", "mle", "ddo", "ddo_paper"}
    for method in ("pretrained", "mle", "ddo", "ddo_paper"):
        forward, reverse, both = (found[method, f"{which}_kl"] for which in ("forward", "reverse", "both"))
        assert min(forward, reverse) > 1  # nats; so small a model is far from the data
        assert both == forward + reverse
    assert found["mle", "both_kl"] < found["pretrained", "both_kl"]


def test_every_search_of_the_experiments_gives_likelihood_as_many_trials_as_ddo() -> None:
    for experiment in (plane, images):
        for profile in experiment.profiles:
            parameters = experiment.parameters(profile)
            assert len(parameters["candidates"]) == len(parameters["rates"]), (experiment.name, profile)
    standard = plane.parameters("standard")
    assert len(CLASSIFIER_RATES) * len(WEIGHTS) == len(standard["candidates"]) * standard["rounds"]


def test_the_cards_claims_name_experiments_that_run_in_their_profiles() -> None:
    card = load_card(ROOT / "methods" / "ddo" / "paper.yaml")
    declared = {e.name: e for e in (start, stability, misfit, optima, grid_chain, bits, plane, capacity, images)}
    for claim in card.claims.values():
        for test in claim.tests() if claim.untested is None else ():
            if test.experiment in declared and claim.profiles != ("quick", "standard", "gpu"):
                assert all(profile in declared[test.experiment].profiles for profile in claim.profiles)


@pytest.mark.parametrize("name", ["mle_step", "ddo_step", "ddo_step_of_a_u_net", "ddo_step_of_a_made"])
def test_hot_paths_leave_a_gradient(name: str) -> None:
    call = getattr(hotpaths, name)()
    call()
    model = next(cell.cell_contents for cell in call.__closure__ if isinstance(cell.cell_contents, torch.nn.Module))
    assert any(p.grad is not None and bool((p.grad != 0).any()) for p in model.parameters())

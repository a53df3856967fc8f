"""The studies and the rows that they record, at sizes that a test can afford."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import datasets
from assay import ROOT
from assay.card import load_card
from assay.experiment import Run
from methods.ddo import hotpaths
from methods.ddo.baselines import pretrain
from methods.ddo.experiments import capacity, grid_chain, images, misfit, optima, plane, stability, start
from methods.ddo.images import ImageStudy
from methods.ddo.networks import UNet
from methods.ddo.plane import PlaneStudy, draw, finetuning
from methods.shared.diffusion import EDM, edm_loss, evaluations, frozen

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


def test_two_rounds_of_ddo_sharpen_a_small_diffusion_model_and_more_likelihood_does_not(study: PlaneStudy) -> None:
    recipe = finetuning(150, pool_size=4_000)
    torch.manual_seed(0)
    tuned = study.ddo([(2.0, 1.0)], recipe, rounds=3)[-1][0].model
    more = study.mle(recipe, rounds=3)[-1]
    inside = [study.region.share_inside(draw(model, 8_000)) for model in (study.pretrained, more, tuned)]
    assert inside[2] > max(inside[:2]) + 0.02


def test_tuned_likelihood_takes_the_better_rate_in_each_round(study: PlaneStudy) -> None:
    recipe = finetuning(20, pool_size=1)
    torch.manual_seed(0)
    hopeless = replace(recipe, lr=1.0)
    kept = study.tuned_mle([hopeless, replace(recipe, lr=1e-6)], rounds=2)
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
        "pretrained", "data", "mle", "mle_tuned", "mle_compute", "discriminator_guidance", "ddo", "ddo_a1", "ddo_a2"
    }  # fmt: skip
    for name in ("mle_rounds", "ddo_rounds", "ddo_a1_rounds", "ddo_a2_rounds"):
        assert {row.setting["round"] for row in inside if row.method == name} == EVERY_ROUND
    assert {(r.setting["alpha"], r.setting["beta"]) for r in inside if r.method == "ddo_grid"} == set(pairs)
    assert {row.value for row in run.rows if row.metric == "nfe"} == {evaluations(18)}
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
    same = digits.distance(digits.real(400), digits.test)
    noise = digits.distance(torch.randn(400, 1, 8, 8), digits.test)
    assert same < 0.1 * noise


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
    assert {row.method for row in rows} == {"pretrained", "data", "mle", "mle_tuned", "ddo", "ddo_rounds"}
    assert {row.setting["round"] for row in rows if row.method == "ddo_rounds"} == EVERY_ROUND


def test_every_search_of_the_experiments_gives_likelihood_as_many_trials_as_ddo() -> None:
    for experiment in (plane, images):
        for profile in experiment.profiles:
            parameters = experiment.parameters(profile)
            assert len(parameters["candidates"]) == len(parameters["rates"]), (experiment.name, profile)


def test_the_cards_claims_name_experiments_that_run_in_their_profiles() -> None:
    card = load_card(ROOT / "methods" / "ddo" / "paper.yaml")
    declared = {e.name: e for e in (start, stability, misfit, optima, grid_chain, plane, capacity, images)}
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

"""The exact facts: stationarity, stability, the misfitting Gaussian, optima."""

from __future__ import annotations

import math

import pytest
import torch

from methods.ddo import exact, theory


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_at_the_reference_the_gradient_is_half_beta_times_that_of_maximum_likelihood(alpha: float, beta: float) -> None:
    assert exact.categorical_gradient_gap(alpha, beta) < 1e-12
    assert exact.made_gradient_gap(alpha, beta) < 1e-12


def test_the_gradients_that_agree_are_not_zero() -> None:
    p_data, p_ref = exact.random_distributions(6, seed=0)
    logits = exact.free_logits(p_ref).requires_grad_()
    log_p = exact.log_categorical(logits)
    (gradient,) = torch.autograd.grad(theory.expected_loss(log_p, log_p, p_data, 2.0, 1.0), logits)
    assert float(gradient.norm()) > 0.01


@pytest.mark.parametrize(("beta", "threshold"), [(1.0, 3.0), (0.3, 1.352941), (0.05, 1.051282), (1.5, 7.0)])
def test_the_true_distribution_is_stable_below_the_threshold_and_not_above(beta: float, threshold: float) -> None:
    assert theory.alpha_threshold(beta) == pytest.approx(threshold, abs=1e-6)
    assert exact.least_eigenvalue(0.98 * threshold, beta) > 0 > exact.least_eigenvalue(1.02 * threshold, beta)
    for alpha in (0.5, threshold, 4.0):
        found = exact.least_eigenvalue(alpha, beta)
        assert found == pytest.approx(theory.stability_eigenvalue(alpha, beta), abs=1e-12)


def test_there_is_no_threshold_from_beta_two_on() -> None:
    assert theory.alpha_threshold(2.0) == math.inf
    assert theory.stability_eigenvalue(1e6, 2.0) > 0


@pytest.fixture(scope="module")
def problem() -> theory.MisfitGaussian:
    return theory.MisfitGaussian()


def test_the_misfitting_gaussian_has_the_stated_divergences(problem: theory.MisfitGaussian) -> None:
    model = problem.log_p(problem.maximum_likelihood()).exp()
    assert float(problem.data.sum()) == pytest.approx(1, abs=1e-12)
    assert float(model.sum()) == pytest.approx(1, abs=1e-12)
    assert theory.kl(problem.data, model) == pytest.approx(0.4425, abs=5e-5)
    assert theory.kl(model, problem.data.clamp(min=1e-300)) == pytest.approx(0.8716, abs=5e-5)


def test_its_scores_vary_under_the_data_as_stated(problem: theory.MisfitGaussian) -> None:
    lam = problem.relative_score_covariance(problem.maximum_likelihood())
    torch.testing.assert_close(lam, torch.tensor([0.2015, 1.3221], dtype=torch.float64), rtol=0, atol=5e-5)


@pytest.mark.parametrize(("alpha", "beta", "eigenvalues"), [(1.0, 1.0, [0.1525, 0.7798]), (2.0, 1.0, [0.0366, 0.3105])])
def test_its_hessian_is_positive_where_gradient_descent_stays(
    problem: theory.MisfitGaussian, alpha: float, beta: float, eigenvalues: list[float]
) -> None:
    at = problem.maximum_likelihood()
    found = torch.linalg.eigvalsh(problem.hessian(at, alpha, beta))
    torch.testing.assert_close(found, torch.tensor(eigenvalues, dtype=torch.float64), rtol=0, atol=5e-5)
    end = theory.descend(at, problem.loss(at, alpha, beta), lr=0.5, steps=100)
    assert float((end - at).norm()) < 1e-10


@pytest.mark.parametrize(("alpha", "beta"), [(4.0, 1.0), (2.0, 0.3)])
def test_it_is_unstable_above_its_own_threshold(problem: theory.MisfitGaussian, alpha: float, beta: float) -> None:
    at = problem.maximum_likelihood()
    values, vectors = torch.linalg.eigh(problem.hessian(at, alpha, beta))
    assert values[0] < 0
    end = theory.descend(at + 1e-6 * vectors[:, 0], problem.loss(at, alpha, beta), lr=0.5, steps=200)
    assert float((end - at).norm()) > 1e-3


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (2.0, 1.0), (4.0, 1.0), (2.0, 0.3), (0.5, 1.7)])
def test_a_misfitting_models_stability_follows_the_formula(
    problem: theory.MisfitGaussian, alpha: float, beta: float
) -> None:
    at = problem.maximum_likelihood()
    root = torch.diag(torch.stack([at[1].exp(), torch.tensor(0.5).double().sqrt()]))  # I^-1/2
    found = torch.linalg.eigvalsh(root @ problem.hessian(at, alpha, beta) @ root)
    lam = problem.relative_score_covariance(at).tolist()
    wanted = torch.tensor([theory.stability_eigenvalue(alpha, beta, value) for value in lam], dtype=torch.float64)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-8)
    assert (found[0] > 0) == (alpha < theory.alpha_threshold(beta, lam[0]))


@pytest.mark.parametrize("beta", [1.0, 0.5, 0.2])
def test_the_minimum_over_all_distributions_is_the_closed_form(beta: float) -> None:
    p_data, p_ref = exact.random_distributions(6, seed=3)
    alpha = theory.normalizing_alpha(p_data, p_ref, beta)
    formula = theory.optimum(p_data, p_ref, alpha, beta)
    assert float(formula.sum()) == pytest.approx(1, abs=1e-12)
    assert alpha >= 1 - 1e-12
    found, _ = exact.minimise(p_data, p_ref, alpha, beta)
    assert float((found - formula).abs().max()) < 1e-6
    torch.testing.assert_close((beta * (formula / p_ref).log()).sigmoid(), p_data / (p_data + alpha * p_ref))


def test_for_another_alpha_the_closed_form_is_no_distribution() -> None:
    p_data, p_ref = exact.random_distributions(6, seed=3)
    assert abs(float(theory.optimum(p_data, p_ref, 2.0, 0.5).sum()) - 1) > 0.05


def test_the_gans_optimum_is_the_data_and_its_value_that_of_goodfellow() -> None:
    p_data, p_ref = exact.random_distributions(6, seed=4)
    found, value = exact.minimise(p_data, p_ref, 1.0, 1.0)
    assert float((found - p_data).abs().max()) < 1e-6
    assert value == pytest.approx(2 * math.log(2) - 2 * theory.js(p_data, p_ref), abs=1e-12)


def test_a_small_beta_overshoots_the_data() -> None:
    p_data, p_ref = exact.random_distributions(6, seed=3)
    alpha = theory.normalizing_alpha(p_data, p_ref, 0.5)
    beyond = theory.optimum(p_data, p_ref, alpha, 0.5)
    ratio = (beyond / p_ref).log() - 2 * (p_data / p_ref).log()
    torch.testing.assert_close(ratio, ratio[:1].expand(6))  # p* ~ p_ref (p_data / p_ref)^2
    assert theory.kl(beyond, p_ref) > theory.kl(p_data, p_ref)

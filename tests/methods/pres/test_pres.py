"""PRES itself, as statements about its equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import datasets
from methods.pres import PRES
from methods.pres.experiments import drift_errors
from methods.pres.pres import NEGATIVE, POSITIVE, IncrementMixture, Update, incoherence


def update_of(before: Tensor, after: Tensor, gap: float = 2.0, pending: bool = True) -> Update:
    count = len(before)
    since = torch.full((count,), 5.0, dtype=torch.float64)
    flags = torch.full((count,), pending)
    return Update(torch.arange(count), before, after, after, since, since + gap, flags)


def test_running_moments_equal_numpys_mean_and_population_variance_per_node_and_component() -> None:
    generator = torch.Generator().manual_seed(0)
    mixture = IncrementMixture(5, 3).double()
    seen: dict[tuple[int, int], list[Tensor]] = {}
    for _ in range(60):
        nodes = torch.randperm(5, generator=generator)[:2]
        component = int(torch.randint(2, (1,), generator=generator))
        rate = torch.randn(2, 3, generator=generator).double()
        mixture.observe(nodes, rate, component)
        for node, row in zip(nodes.tolist(), rate, strict=True):
            seen.setdefault((node, component), []).append(row)
    mean, variance = mixture.moments()
    for (node, component), rows in seen.items():
        values = torch.stack(rows).numpy()
        np.testing.assert_allclose(mean[node, component], values.mean(0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(variance[node, component], values.var(0), rtol=1e-12, atol=1e-12)


def test_the_predicted_rate_is_the_mixtures_mean_weighted_by_the_components_shares() -> None:
    mixture = IncrementMixture(2, 3).double()
    for component, times in ((POSITIVE, 3), (NEGATIVE, 1)):
        for _ in range(times):
            mixture.observe(torch.tensor([0]), torch.randn(1, 3).double(), component)
    mean, _ = mixture.moments()
    torch.testing.assert_close(mixture.mean_rate(torch.tensor([0]))[0], 0.75 * mean[0, 0] + 0.25 * mean[0, 1])
    assert torch.equal(mixture.mean_rate(torch.tensor([1])), torch.zeros(1, 3).double())


def test_memory_is_linear_in_nodes_and_width_and_does_not_grow_with_the_stream() -> None:
    mixture = IncrementMixture(7, 4)

    def size() -> int:
        return sum(buffer.numel() for buffer in mixture.buffers())

    before = size()
    for _ in range(100):
        mixture.observe(torch.tensor([1, 2]), torch.ones(2, 4), POSITIVE)
    assert size() == before == 7 * 2 * (1 + 2 * 4)


def test_linear_drift_is_predicted_exactly_with_gamma_one_and_its_variance_is_zero() -> None:
    stream = datasets.load("linear_drift").head(400)
    tick = float(torch.diff(stream.t).min())
    exact = PRES(stream.num_nodes, 8, gamma=1.0, learn_gamma=False, time_unit=tick).double()
    errors = drift_errors(exact, stream)
    assert len(errors) > 300
    assert float(errors.max()) < 1e-6
    mean, variance = exact.increments.moments()
    known = exact.increments.count[:, POSITIVE] > 0
    torch.testing.assert_close(mean[known, POSITIVE], (stream.slope * tick)[known], rtol=0, atol=1e-12)
    assert float(variance.max()) < 1e-12


def test_with_gamma_below_one_the_first_increment_is_gamma_times_the_slope() -> None:
    slope, gamma = torch.tensor([[0.25, -0.5]]).double(), 0.7
    damped = PRES(1, 2, gamma=gamma, learn_gamma=False).double()
    update = damped.correct(update_of(torch.zeros(1, 2).double(), 2.0 * slope))
    damped.observe(update, torch.tensor([0]), None)
    torch.testing.assert_close(damped.increments.moments()[0][:, POSITIVE], gamma * slope)


def test_correction_fuses_prediction_and_measurement_where_something_is_pending() -> None:
    pres = PRES(3, 2, gamma=0.6, learn_gamma=False, time_unit=0.5)
    pres.increments.observe(torch.arange(3), torch.full((3, 2), 0.01), POSITIVE)
    before, after = torch.randn(3, 2), torch.randn(3, 2)
    update = update_of(before, after, gap=2.0)
    update = Update(update.nodes, before, after, after, update.since, update.time, torch.tensor([True, False, True]))
    predicted = before + 4 * 0.01  # a gap of 2.0 is 4 units
    got = pres.correct(update).after
    torch.testing.assert_close(got[[0, 2]], (0.4 * predicted + 0.6 * after)[[0, 2]])
    assert torch.equal(got[1], before[1])


def test_a_predicted_step_stays_in_the_memorys_range_and_a_gap_is_at_least_one_unit() -> None:
    pres = PRES(2, 2, gamma=0.5, learn_gamma=False)
    pres.increments.observe(torch.arange(2), torch.tensor([[9.0, -9.0], [0.1, 0.2]]), POSITIVE)
    zeros = torch.zeros(2, 2)
    torch.testing.assert_close(pres.predict(update_of(zeros, zeros, gap=0.0)), torch.tensor([[1.0, -1.0], [0.1, 0.2]]))


def test_coherence_is_zero_along_the_old_memory_and_two_against_it_and_skips_first_events() -> None:
    old = torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, -1.0]])
    all_count = torch.ones(3, dtype=torch.bool)
    torch.testing.assert_close(incoherence(old, 3 * old + torch.tensor([[0.0], [5.0], [0.0]]), all_count),
                               torch.tensor(0.0))  # fmt: skip
    torch.testing.assert_close(incoherence(old, -old, all_count), torch.tensor(2.0))
    torch.testing.assert_close(incoherence(old, torch.tensor([[1.0, 2.0], [7.0, 7.0], [-3.0, 1.0]]), all_count),
                               torch.tensor(1.0))  # fmt: skip
    nothing = incoherence(old, old.clone().requires_grad_(), torch.zeros(3, dtype=torch.bool))
    assert float(nothing.detach()) == 0.0


def test_coherence_of_only_first_events_has_a_finite_gradient() -> None:
    new = torch.randn(2, 3, requires_grad=True)
    incoherence(torch.zeros(2, 3), new, torch.ones(2, dtype=torch.bool)).backward()
    assert new.grad is not None
    assert torch.equal(new.grad, torch.zeros(2, 3))


def test_gamma_is_learned_through_a_sigmoid_from_its_initial_value() -> None:
    pres = PRES(2, 2, gamma=0.8)
    torch.testing.assert_close(torch.as_tensor(pres.gamma).detach(), torch.tensor(0.8))
    pres.correct(update_of(torch.zeros(2, 2), torch.ones(2, 2))).after.sum().backward()
    assert pres.gate is not None
    assert pres.gate.grad is not None
    assert float(pres.gate.grad) > 0


@pytest.mark.parametrize(
    "options", [{"gamma": 0.0}, {"gamma": 1.5}, {"gamma": 1.0}, {"beta": -1.0}, {"time_unit": 0.0}]
)
def test_values_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="PRES: "):
        PRES(2, 2, **options)

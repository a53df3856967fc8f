"""The experiments at tiny sizes: every contender in its rows, and what their helpers find."""

from __future__ import annotations

import importlib
import math
from functools import partial

import pytest
import torch

from assay.experiment import Run
from methods.tensor_attention import fast_tensor_attention
from methods.tensor_attention.baselines import top_attention
from methods.tensor_attention.experiments import (
    ROUNDING,
    _crossing,
    constructed,
    crossing,
    crossover,
    crossover_memory,
    deviation,
    distributions,
    error_grid,
    estimates,
    matrix_error,
    memory,
    order_tradeoff,
    precision,
    rank_needed,
    scaling,
    trained,
)
from methods.tensor_attention.fast_attention import (
    coefficients,
    degree_for,
    error_bound,
    largest_value,
    relative_error,
)
from methods.tensor_attention.inputs import balanced, gaussian, largest_bound, signs, uniform
from methods.tensor_attention.tensor_attention import logit_bound, tensor_attention


def run_of(experiment: object, **parameters: object) -> Run:
    run = Run(experiment.name, "quick", seed=0, timed=experiment.timed)
    experiment.function(run, **parameters)
    return run


def found(run: Run, metric: str, **setting: object) -> dict[str | None, float | None]:
    return {
        row.method: row.value for row in run.rows
        if row.metric == metric and all(row.setting.get(k) == v for k, v in setting.items())
    }  # fmt: skip


def test_entries_never_pass_their_bound_and_signs_reach_it() -> None:
    for x in (uniform(50, 3, 0.7, seed=1), gaussian(50, 3, 0.7, seed=1), signs(50, 3, 0.7, seed=1)):
        assert all(float(y.abs().max()) <= 0.7 + 1e-6 for y in (x.q, *x.keys))
    assert all(torch.equal(y.abs(), torch.full_like(y, 0.7)) for y in (x.q, *x.keys))
    assert not torch.equal(uniform(5, 3, 1.0, seed=1).q, uniform(5, 3, 1.0, seed=2).q)


def test_balanced_inputs_give_both_logits_half_of_the_weight() -> None:
    q, (k1, k2), _ = balanced(4, 1.2)
    weights = (torch.einsum("it,jt,lt->ijl", q, k1, k2) / 4).exp().flatten()
    rare = weights > 1
    assert float(weights[rare].sum() / weights.sum()) == pytest.approx(0.5, abs=0.01)


def test_bisection_finds_the_edge_and_refuses_where_there_is_none() -> None:
    assert largest_bound(lambda b: b**2 <= 2) == pytest.approx(math.sqrt(2), rel=2e-6)
    with pytest.raises(ValueError, match="no change"):
        largest_bound(lambda b: True)


def test_a_crossover_lies_on_the_line_between_sizes() -> None:
    assert _crossing([32, 64, 128], [0.25, 0.5, 2.0]) == pytest.approx(64 * math.sqrt(2))
    assert _crossing([32, 64, 128], [2.0, 0.5, 2.0]) == pytest.approx(64 * math.sqrt(2))
    assert _crossing([32, 64], [1.5, 3.0]) == 32
    assert math.isnan(_crossing([32, 64], [0.5, 0.9]))


def test_the_error_passes_a_thousandth_where_the_guarantee_says_and_not_before() -> None:
    bound = found(run_of(crossing, degrees=[2]), "entry_bound_reached")
    assert 1 <= bound["fast"] / bound["guarantee"] <= 1.25
    assert 1 <= bound["fast_taylor"] / bound["guarantee_taylor"] <= 1.25


def test_races_name_both_algorithms_at_every_size_and_record_the_crossover() -> None:
    run = run_of(crossover, pairs=2, sizes={2: [8, 64]})
    for n in (8, 64):
        assert set(found(run, "time_s", n=n)) == {"exact", "fast"}
        assert found(run, "error", n=n)["fast"] <= 1e-3
        assert found(run, "rank", n=n)[None] in [math.comb(2 + g, g) for g in (3, 4, 5)]
    assert None in found(run, "crossover_n", d=2)
    run = run_of(scaling, pairs=1, degree=2, fast=[16], exact=[8])
    assert set(found(run, "time_s")) == {"exact", "fast"}


def test_a_high_rank_and_not_n_decides_which_algorithm_needs_more_memory() -> None:
    run = run_of(crossover_memory, sizes={2: [64], 12: [64]})
    narrow, wide = (found(run, "peak_bytes", d=d) for d in (2, 12))
    assert narrow["fast"] < narrow["exact"]
    assert wide["fast"] > wide["exact"]


def test_memory_grows_as_each_way_should() -> None:
    run = run_of(memory, exact=[8, 16], naive=[8, 16], fast=[64])
    small, large = (found(run, "peak_bytes", n=n, step="forward") for n in (8, 16))
    assert 7 < large["naive"] / small["naive"] < 9
    assert 3.5 < large["sdpa"] / small["sdpa"] < 4.5
    assert 3.2 < large["loop"] / small["loop"] < 4.5
    assert found(run, "peak_bytes", n=16, step="training")["exact"] > large["exact"]


def test_no_error_uses_more_than_its_guarantee_and_errors_grow_with_entries() -> None:
    run = run_of(error_grid, n=24, bounds=[0.5, 1.0, 2.0], degrees=[4])
    errors = [found(run, "error", entry_bound=b)["fast"] for b in (0.5, 1.0, 2.0)]
    assert errors[0] < errors[1] / 100 < errors[2] / 1e4
    assert all(0 <= row.value <= 1 for row in run.rows if row.metric == "bound_used")


def test_a_guarantee_below_float64s_rounding_allows_for_eight_units_in_the_last_place() -> None:
    run = run_of(error_grid, n=24, bounds=[0.5], degrees=[10])
    for name, error in found(run, "error").items():
        guarantee = found(run, "guarantee")[name]
        assert guarantee < error  # rounding alone passes it
        assert found(run, "bound_used")[name] == pytest.approx(error / (guarantee + ROUNDING), rel=1e-12)
        assert found(run, "bound_used")[name] < 1
    assert ROUNDING == 8 * 2.0**-52
    coarser = found(run_of(error_grid, n=24, bounds=[0.5], degrees=[6]), "error")["fast"]
    assert coarser > 10 * ROUNDING  # so that a polynomial of a lower degree would not pass for degree 10


def test_the_matrix_errs_by_no_more_than_its_eps_and_the_result_by_far_less() -> None:
    run = run_of(error_grid, n=24, bounds=[1.0], degrees=[2, 4, 6])
    for degree in (2, 4, 6):
        error, matrix = (found(run, metric, degree=degree)["fast"] for metric in ("error", "matrix_error"))
        assert 0.1 * relative_error(degree, 1.0) < matrix <= relative_error(degree, 1.0)
        assert error < 0.5 * error_bound(matrix, 1.0)


def test_where_few_logits_come_near_their_bound_no_exponential_errs_as_much() -> None:
    run = run_of(distributions, n=24, degree=4, bounds=[1.0])
    signs_err, gaussian_errs = (found(run, "matrix_error", entries=name)["fast"] for name in ("signs", "gaussian"))
    assert 0 < gaussian_errs < signs_err
    assert set(found(run, "error", entries="gaussian")) == {"fast"}


def test_only_denominators_make_an_error_infinite_and_not_shapes_that_do_not_fit() -> None:
    q, k1, k2, v1, v2 = balanced(4, 2.0).flat()
    approximation = partial(fast_tensor_attention, degree=1)
    assert deviation(partial(approximation, q, k1, k2, v1, v2), q) == math.inf
    with pytest.raises(ValueError, match="width 3"):
        deviation(partial(approximation, q, k1[:, :3], k2, v1, v2), q)


def test_the_rank_grows_with_entries_and_the_guarantee_asks_for_more() -> None:
    run = run_of(rank_needed, n=24, bounds=[1.0, 2.0])
    small, large = (found(run, "rank", entry_bound=b) for b in (1.0, 2.0))
    for name, certain in (("fast", "guarantee"), ("fast_taylor", "guarantee_taylor")):
        assert small[name] < large[name] / 5
        assert small[name] <= small[certain]
        assert large[name] <= large[certain]


def test_errors_cross_where_theory_says_and_later_on_random_signs() -> None:
    reached = found(run_of(crossing, degrees=[4]), "entry_bound_reached")
    for name, certain in (("fast", "guarantee"), ("fast_taylor", "guarantee_taylor")):
        assert 1 <= reached[name] / reached[certain] <= 1.25
        assert reached[f"{name}_random"] > reached[name]


def test_the_higher_the_order_the_smaller_the_entries() -> None:
    run = run_of(order_tradeoff, degree=4, tuples=512, queries=32)
    reached = [found(run, "entry_bound_reached", order=k)["fast"] for k in (2, 3, 4)]
    assert reached[0] > reached[1] > reached[2]
    for order, bound in zip((2, 3, 4), reached, strict=True):
        assert found(run, "logit_reached", order=order)["fast"] == pytest.approx(bound**order)


def test_estimates_from_some_pairs_are_coarser() -> None:
    run = run_of(estimates, n=48, multiples=[1])
    errors = found(run, "error", terms=1)
    assert errors["fast"] < 0.1 * min(errors["sampled"], errors["top_pairs"])


def test_float32_has_fewer_digits() -> None:
    run = run_of(precision, n=24, degree=8, bounds=[1.0])
    errors = {name: found(run, "error", dtype=name)["fast"] for name in ("float32", "float64")}
    assert errors["float64"] < errors["float32"] < 1e-4


def test_the_units_built_by_hand_leave_no_token_wrong() -> None:
    run = run_of(constructed, sizes=[(16, 5)], draws=20)
    assert found(run, "wrong", task="match3", modulus=16, n=5) == {"exact": 0}
    assert found(run, "wrong", task="match2", modulus=16, n=5) == {"ordinary": 0}
    shares = [found(run, "positives", task=task)[None] for task in ("match3", "match2")]
    assert 0 < shares[1] < shares[0] < 1


def test_every_network_is_trained_on_both_tasks() -> None:
    run = run_of(trained, modulus=8, n=3, steps=3, batch=8, draws=200)
    for task in ("match3", "match2"):
        assert set(found(run, "balanced_accuracy", task=task)) == {"exact", "ordinary", "ordinary_wide"}
    assert len(run.curves) == 6


def test_a_matrix_error_is_relative_to_each_exponential() -> None:
    x = signs(10, 4, 1.4, seed=3)
    pairs = (x.keys[0].unsqueeze(1) * x.keys[1]).flatten(0, 1)
    logits = x.q[:8] @ pairs.mT / 4
    c = coefficients(3, logit_bound(x.q, x.keys, 1 / 4))
    polynomial = sum(c[m] * logits**m for m in range(4))
    wanted = float(((polynomial - logits.exp()) / logits.exp()).abs().max())
    assert matrix_error(x, 3, "chebyshev") == pytest.approx(wanted)
    assert wanted > 1e-3


def test_a_rank_is_that_of_the_degree_beside_it() -> None:
    run = run_of(rank_needed, n=12, bounds=[0.5, 1.5])
    for bound in (0.5, 1.5):
        degrees, ranks = (found(run, metric, entry_bound=bound) for metric in ("degree", "rank"))
        assert len(degrees) == 4
        assert ranks == {name: math.comb(4 + int(degree), 4) for name, degree in degrees.items()}


def test_networks_differ_in_their_attention_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[tuple[object, ...]] = []
    module = importlib.import_module("methods.tensor_attention.match")
    monkeypatch.setattr(
        module, "train", lambda model, *recipe: (fits.append((model.order, len(model.blank[0, 0]), *recipe)), [0.0])[1]
    )
    run_of(trained, modulus=8, n=3, steps=1, batch=8, draws=20)
    sizes = [(3, 24), (2, 24), (2, 32)]
    assert fits == [(*size, task, 8, 3, 1, 8, 3e-3) for task in ("match3", "match2") for size in sizes]


def test_estimates_are_recorded_under_their_own_names() -> None:
    run, x = run_of(estimates, n=12, multiples=[1]), uniform(12, 4, 1.0, 0, dtype=torch.float64)
    exact = tensor_attention(*x.flat())
    degree = degree_for(1e-3, logit_bound(x.q, x.keys, 1 / 4), largest_value(x.values))
    top = top_attention(*x.flat(), pairs=math.comb(4 + degree, 4))
    assert found(run, "error", terms=1)["top_pairs"] == pytest.approx(float((top - exact).abs().max()))


def test_a_median_ratio_says_how_many_times_as_fast_the_fast_one_is() -> None:
    run = Run("crossover", "quick", seed=0)
    for name, times in (("exact", [6.0, 8.0, 9.0]), ("fast", [3.0, 2.0, 1.0])):
        with run.method(name, d=4, n=8) as m:
            for repeat, seconds in enumerate(times):
                m.record("time_s", seconds, unit="s", repeat=repeat)
    module = importlib.import_module("methods.tensor_attention.experiments")
    assert module._median_ratio(run, 4, 8) == 4.0

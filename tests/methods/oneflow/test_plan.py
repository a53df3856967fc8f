"""Plans: the search is exact, and finds the parallelism that an expert would."""

from __future__ import annotations

import itertools
import math

import pytest

from methods.oneflow.baselines import EXPERT_PLANS, brute_force
from methods.oneflow.graph import Graph, matmul_chain, mlp_step
from methods.oneflow.ops import add, fetch, matmul, relu
from methods.oneflow.plan import Machine, eliminate, factors_of, greedy, optimise, search
from methods.oneflow.sbp import B, P, S

WIRE_ONLY = Machine(speed=math.inf, link=1.0)
CLUSTER = Machine(speed=5e12, link=1.25e9)
WIDE = 8192


@pytest.mark.parametrize("sizes", [(8, 64, 8), (64, 8, 64, 8), (8, 64, 8, 64, 64)])
def test_the_dynamic_programme_is_the_best_of_all_combinations_on_chains(sizes):
    graph = matmul_chain(list(sizes))
    inputs = [name for name, node in graph.nodes.items() if node.op is None]
    for sbps in itertools.product((S(0), S(1), B), repeat=len(inputs)):
        fixed = {name: (sbp,) for name, sbp in zip(inputs, sbps, strict=True)}
        choices, factors = factors_of(graph, (4,), Machine(1e6, 1e3), fixed)
        domains = {name: len(options) for name, options in choices.items()}
        assert eliminate(domains, factors)[1] == pytest.approx(brute_force(domains, factors), rel=1e-12)


def test_it_is_exact_where_branches_meet_and_on_two_dimensions():
    graph = Graph()
    x, w = graph.input("x", 8, 8), graph.input("w", 8, 8)
    left = graph.apply("left", relu(), graph.apply("y", matmul(), x, w))
    graph.apply("out", fetch(), graph.apply("sum", add(), left, x))
    for mesh in ((4,), (2, 2)):
        choices, factors = factors_of(graph, mesh, Machine(1e4, 1e3), {"x": (S(0),) * len(mesh)})
        domains = {name: min(len(options), 8) for name, options in choices.items()}
        few = [(names, table[tuple(slice(domains[n]) for n in names)]) for names, table in factors]
        best, cost = eliminate(domains, few)
        assert cost == pytest.approx(brute_force(domains, few))
        assert cost == pytest.approx(sum(table[tuple(best[n] for n in names)] for names, table in few))


def test_the_cost_that_was_minimised_is_the_plans_own():
    graph, machine = mlp_step(8, 6, 10, 7), Machine(1e6, 1e3, 1e-4)
    for mesh in ((3,), (2, 2)):
        choices, factors = factors_of(graph, mesh, machine, {})
        _, cost = eliminate({name: len(options) for name, options in choices.items()}, factors)
        assert optimise(graph, mesh, machine).cost(machine) == pytest.approx(cost)


def test_greedy_takes_the_cheapest_inputs_and_copies_where_all_is_copied():
    plan = greedy(matmul_chain([8, 8, 8]), (4,), {"x": (S(0),), "w1": (B,)})
    assert plan.sbp("y1") == (S(0),)
    assert plan.bytes == 3 * 8 * 8 * 4  # the output is gathered
    assert greedy(matmul_chain([8, 8, 8]), (4,), {"x": (B,), "w1": (B,)}).bytes == 0


def test_greedy_is_never_better_and_sometimes_worse():
    ratios = []
    for sizes, sbps in itertools.product(itertools.product((8, 64), repeat=4), itertools.product((S(0), B), repeat=3)):
        graph = matmul_chain(list(sizes))
        fixed = {name: (sbp,) for name, sbp in zip(("x", "w1", "w2"), sbps, strict=True)}
        best = optimise(graph, (4,), WIRE_ONLY, fixed).bytes
        assert greedy(graph, (4,), fixed).bytes >= best
        ratios.append(greedy(graph, (4,), fixed).bytes > best)
    assert any(ratios)
    assert not all(ratios)


@pytest.mark.parametrize(("batch", "parallelism"), [(1024, "model"), (262_144, "data")])
def test_small_batches_split_the_model_and_large_ones_the_data(batch, parallelism):
    plan = optimise(mlp_step(batch, WIDE, WIDE, WIDE), (4,), CLUSTER)
    assert plan.parallelism == parallelism


def test_in_between_a_mesh_of_two_dimensions_splits_both_and_is_cheaper():
    graph = mlp_step(16_384, WIDE, WIDE, WIDE)
    plan = search(graph, [(8,), (2, 4)], CLUSTER)
    assert (plan.parallelism, plan.mesh) == ("hybrid", (2, 4))
    assert plan.cost(CLUSTER) < optimise(graph, (8,), CLUSTER).cost(CLUSTER)


def test_no_experts_plan_is_cheaper_than_the_one_found():
    graph = mlp_step(4096, WIDE, WIDE, WIDE)
    for dimensions, mesh in ((1, (4,)), (2, (2, 2))):
        found = optimise(graph, mesh, CLUSTER).cost(CLUSTER)
        for name, (own, fixed) in EXPERT_PLANS.items():
            if own == dimensions:
                assert found <= optimise(graph, mesh, CLUSTER, fixed).cost(CLUSTER) * (1 + 1e-12), name


def test_where_memory_is_dear_weights_are_stored_in_parts_and_gathered_for_use():
    graph = mlp_step(4096, 256, 256, 256)
    plain, tight = (optimise(graph, (4,), Machine(2e9, 1e9, price)) for price in (0.0, 1e-9))
    assert plain.sbp("w2") == (B,)
    assert (tight.sbp("w1"), tight.sbp("w2")) == ((S(0),), (S(0),))
    assert tight.choice["logits"].inputs == ((S(0),), (B,))
    assert tight.held_bytes < plain.held_bytes


def test_data_parallelism_is_an_all_reduce_of_gradients_and_zero_a_reduce_scatter_with_a_gather():
    graph = mlp_step(64, 32, 48, 16)
    weights, loss = 4 * (32 * 48 + 48 * 16), 4
    data, zero = (optimise(graph, (4,), CLUSTER, EXPERT_PLANS[name][1]) for name in ("data", "zero"))
    assert data.bytes == 2 * 3 * (weights + loss)
    assert ("dw1", "new_w1", (P,), (S(0),)) in zero.boxings()
    gathered_twice = 4 * 48 * 16  # w2, which the backward pass needs too
    assert zero.bytes == 3 * (2 * weights + gathered_twice + 2 * loss)


def test_megatrons_mlp_sums_its_output_once():
    plan = optimise(mlp_step(64, 32, 48, 16), (4,), CLUSTER, EXPERT_PLANS["model"][1])
    assert plan.bytes == 2 * 3 * 4 * 64 * 16  # every device computes the loss of all rows


def test_split_classes_cost_two_numbers_a_row():
    graph = mlp_step(64, 32, 48, 16)
    plan = optimise(graph, (4,), Machine(1.0, 1e12), {"logits": (S(1),), "errors": (S(1),), "shifted": (S(1),)})
    sent = {(a, b): (str(s[0]), str(t[0])) for a, b, s, t in plan.boxings()}
    assert sent["largest", "shifted"] == ("P(max)", "B")
    assert {source for (a, _), (source, _) in sent.items() if a in ("total", "picked")} <= {"P"}


def test_a_signature_that_no_operator_has_cannot_be_fixed():
    with pytest.raises(ValueError, match="h: no signature gives"):
        optimise(mlp_step(8, 4, 4, 4), (2,), CLUSTER, {"h": (P,)})
    with pytest.raises(ValueError, match="input 'y' is not in the graph"):
        Graph().apply("z", relu(), "y")

"""Plans run: every plan is one process, and sends what the planner counted."""

from __future__ import annotations

import functools
import logging

import pytest
import torch

from assay.ranks import run_ranks
from methods.oneflow.baselines import EXPERT_PLANS, one_process
from methods.oneflow.graph import mlp_step
from methods.oneflow.plan import Machine, optimise
from methods.oneflow.ranks import Case, compare_plans, make_inputs
from methods.oneflow.runtime import Simulated, train
from tests.methods.oneflow.in_ranks import train_plans

LR, STEPS = 0.1, 4
UNEVEN, EVEN = (23, 9, 14, 7), (16, 8, 12, 4)  # batch, width, hidden, classes
SLOW = Machine(speed=1e6, link=1e6)


def plan_of(name, sizes, ranks, itemsize=4):
    graph = mlp_step(*sizes, lr=LR, itemsize=itemsize)
    dimensions, fixed = EXPERT_PLANS.get(name, (2, {}))
    return optimise(graph, (ranks,) if dimensions == 1 else (2, ranks // 2), SLOW, fixed)


NAMES = [*EXPERT_PLANS, "found"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_every_plan_is_one_process_in_simulation(name, dtype, tolerance):
    inputs = make_inputs(UNEVEN, 0, dtype)
    expected, weights = one_process(inputs, 20, LR)
    plan = plan_of(name, UNEVEN, 4, inputs["x"].element_size())
    losses, found = train(plan, Simulated(plan.mesh), inputs, 20)
    assert losses == pytest.approx(expected, rel=tolerance)
    assert losses[-1] < losses[0]
    for weight in weights:
        assert torch.allclose(found[weight], weights[weight], rtol=tolerance, atol=tolerance)


@functools.cache
def trained():
    cases = [Case.of(name, UNEVEN, plan_of(name, UNEVEN, 4, 8), LR) for name in NAMES]
    return run_ranks(train_plans, 4, args=(cases, [make_inputs(UNEVEN, 0)] * len(cases), STEPS), timeout=120)


@pytest.mark.parametrize("name", NAMES)
def test_every_plan_is_one_process_over_four_real_ones_and_sends_what_was_planned(name):
    expected, weights = one_process(make_inputs(UNEVEN, 0), STEPS, LR)
    for rank in trained():
        losses, found, _ = rank[name]
        assert losses == pytest.approx(expected, rel=1e-10)
        assert all(torch.allclose(found[w], weights[w], rtol=1e-10, atol=1e-12) for w in weights)
    assert sum(rank[name][2] for rank in trained()) == plan_of(name, UNEVEN, 4, 8).bytes


def test_dtensor_and_hand_written_programs_run_the_same_plans_and_send_no_less():
    names = ["data", "model", "zero"]
    cases = [Case.of(name, EVEN, plan_of(name, EVEN, 2, 8), LR) for name in names]
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
    rows = run_ranks(compare_plans, 2, args=(cases, [make_inputs(EVEN, 0)] * len(cases), 3, True), timeout=120)[0]
    found = {(row["setting"]["plan"], row["method"], row["metric"]): row["value"] for row in rows}
    loss = 2 * 8  # of one number in float64
    for name in names:
        assert max(v for (n, _, metric), v in found.items() if (n, metric) == (name, "loss_difference")) < 1e-10
        assert found[name, "oneflow", "bytes"] == plan_of(name, EVEN, 2, 8).bytes
        assert found[name, "dtensor", "bytes"] > found[name, "oneflow", "bytes"]  # gloo's reduce-scatter
    assert found["data", "by_hand", "bytes"] == found["data", "oneflow", "bytes"]
    assert found["model", "by_hand", "bytes"] == found["model", "oneflow", "bytes"] - loss

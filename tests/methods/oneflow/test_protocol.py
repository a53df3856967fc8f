"""What the experiments run and record, against direct computation; and inputs that are unusual."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import datasets
from methods.oneflow import P_MAX, ActorGraph, S, Sbp, experiments, mlp_step, ops, optimise, route, run, sbp, simulate
from methods.oneflow.baselines import EXPERT_PLANS, _SumForward
from methods.oneflow.graph import Graph, cross_entropy, matmul_chain
from methods.oneflow.plan import Machine, greedy, released, search
from methods.oneflow.ranks import make_inputs
from methods.oneflow.runtime import Simulated, run_step, train
from methods.oneflow.sbp import B, P, to_global, to_local
from methods.oneflow.simulation import pipeline
from tests.methods.blindness import run_small
from tests.methods.unusual import assert_takes_or_refuses

MACHINE = Machine(1e6, 1e6)


def rows_of(run, method):
    return {(row.metric, *row.setting.values()): row.value for row in run.rows if row.method == method}


def test_both_precisions_of_the_training_digits_are_given_to_every_plan(monkeypatch):
    seen = {}
    monkeypatch.setattr(experiments.Run, "ranks", lambda run, fn, size, args, timeout: seen.update({size: args}))
    digits = datasets.load("digits")
    monkeypatch.setattr(datasets, "load", lambda name: digits._replace(test_x=None, test_y=None))
    run_small("oneflow", "equivalence", seed=2, world_sizes=[4], batch=32, hidden=8, steps=3)
    cases, given, steps, peer = seen[4]
    assert (steps, peer) == (3, False)
    assert [case.name for case in cases] == [name for name in EXPERT_PLANS for _ in range(2)]
    assert [inputs["x"].dtype for inputs in given] == [torch.float32, torch.float64] * len(EXPERT_PLANS)
    for inputs in given:
        expected = make_inputs((32, 64, 8, 10), 2, inputs["x"].dtype)
        assert torch.equal(inputs["w1"], expected["w1"])
        assert torch.equal(inputs["x"].flatten(), torch.as_tensor(digits.train_x[:32]).flatten().to(inputs["x"].dtype))
        assert torch.equal(inputs["labels"], torch.as_tensor(digits.train_y[:32]))


def test_each_plan_is_of_its_name_machine_and_mesh(monkeypatch):
    seen = {}
    monkeypatch.setattr(experiments.Run, "ranks", lambda run, fn, size, args, timeout: seen.update({size: args}))
    run_small("oneflow", "plans", seed=1, world_sizes=[4], batches=[128], width=16, steps=3)
    cases, given, steps, peer = seen[4]
    graph = mlp_step(128, 16, 16, 8, lr=experiments.LR)
    expected = {}
    for name, (dimensions, fixed) in EXPERT_PLANS.items():
        expected[name] = optimise(graph, (4,) if dimensions == 1 else (2, 2), experiments.DESK, fixed)
    for name, machine in (("found", Machine(2e9, 1e9)), ("tight", Machine(2e9, 1e9, 1e-8))):
        expected[name] = search(graph, [(4,), (2, 2)], machine)
    assert (steps, peer) == (3, True)
    assert {case.name: (case.mesh, case.choice) for case in cases} == {
        name: (plan.mesh, plan.choice) for name, plan in expected.items()
    }
    assert all(torch.equal(inputs["x"], make_inputs((128, 16, 16, 8), 1)["x"]) for inputs in given)


def test_the_rows_of_the_search_are_those_of_its_plans():
    run = run_small("oneflow", "plan_search", devices=8, width=8192, batches=[1024, 16_384])
    machine = Machine(speed=5e12, link=1.25e9)
    for batch in (1024, 16_384):
        graph = mlp_step(batch, 8192, 8192, 8192, lr=0.1)
        both = [(2, 4), (4, 2)]
        meshes = {"data": [(8,)], "model": [(8,)], "hybrid": both, "oneflow": [(8,), *both]}
        for method, own in meshes.items():
            fixed = EXPERT_PLANS[method][1] if method != "oneflow" else {}
            best = min((optimise(graph, mesh, machine, fixed) for mesh in own), key=lambda plan: plan.cost(machine))
            found = rows_of(run, method)
            assert found["cost", batch] == pytest.approx(best.cost(machine), rel=1e-12)
            assert found["wire_bytes", batch] == best.bytes
            assert found["mesh_dimensions", batch] == len(best.mesh)


def test_chains_are_counted_against_the_least_cost_of_each_rule():
    run = run_small("oneflow", "signatures", devices=2, lengths=[1], sizes=[4, 8])
    rules = {
        "optimal": lambda g, f: optimise(g, (2,), Machine(math.inf, 1.0), f),
        "greedy": lambda g, f: greedy(g, (2,), f),
        "released": lambda g, f: released(g, (2,), f),
    }
    ratios = {name: [] for name in rules}
    for sides, sbps in itertools.product(
        itertools.product((4, 8), repeat=3), itertools.product((S(0), S(1), B), repeat=2)
    ):
        fixed = {name: (sbp,) for name, sbp in zip(("x", "w1"), sbps, strict=True)}
        graph = matmul_chain(list(sides))
        least = rules["optimal"](graph, fixed).bytes
        for name, rule in rules.items():
            cost = rule(graph, fixed).bytes
            ratios[name].append(1.0 if cost == least else cost / least if least else math.inf)
    for name, values in ratios.items():
        finite = [value for value in values if value < math.inf]
        missed = values.count(math.inf)
        expected = {"optimal_share": values.count(1.0) / 72, "worst": max(finite), "free_missed": missed, "chains": 72}
        assert {key[0]: value for key, value in rows_of(run, name).items() if key[0] in expected} == pytest.approx(
            expected
        )
    assert ratios["greedy"] != ratios["released"]


class Products(TorchDispatchMode):
    """Counts matrix products."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten.mm.default
        return function(*args, **(kwargs or {}))


def test_the_products_of_an_overlapped_batch_take_as_long_as_its_copy(monkeypatch):
    """A copy that takes ten times a product is overlapped with ten products, by every contender."""
    seconds, asked = iter([0.010, 0.001]), []
    products = experiments._products
    monkeypatch.setattr(experiments, "_seconds", lambda call, repeats=10: next(seconds))
    monkeypatch.setattr(
        experiments, "_products", lambda v, w, repeats: asked.append(repeats) or products(v, w, repeats)
    )
    run_small("oneflow", "overlap", elements=10_000, side=8, batches=3, pairs=1)
    assert set(asked) == {10}
    with Products() as mode:
        products(torch.ones(8, 8), torch.ones(8, 8), 10)
    assert mode.count == 10


def test_the_stages_of_the_pipeline_sleep_one_three_and_two_units(monkeypatch):
    slept = []
    sleeper = experiments._sleeper
    monkeypatch.setattr(experiments, "_sleeper", lambda seconds: slept.append(seconds) or sleeper(seconds))
    run = run_small("oneflow", "pipeline_time", batches=2, unit_s=1e-4, pairs=1)
    assert slept == pytest.approx([1e-4, 3e-4, 2e-4])
    assert {(row.method, row.setting.get("registers")) for row in run.rows if row.metric == "time_s"} == {
        ("sequential", None), ("queues", None), *(("actors", r) for r in (1, 2, 3, 4)),
    }  # fmt: skip


@pytest.mark.parametrize("lies", [(S(0),), (S(1),), (B,), (S(0), S(1)), (S(1), B)], ids=str)
def test_a_masked_class_has_no_probability_and_leaves_loss_and_gradient_finite(lies):
    logits = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 3, 4, 1, 0])
    logits[:, 2] = -torch.inf
    logits[0, 4] = -torch.inf
    graph = Graph(8)
    cross_entropy(graph, graph.input("logits", 6, 5), graph.input("labels", 6, itemsize=8))
    mesh = (3,) if len(lies) == 1 else (2, 2)
    plan = optimise(graph, mesh, MACHINE, {"logits": lies, "shifted": lies, "errors": lies})
    engine = Simulated(mesh)
    given = {"logits": logits, "labels": labels}
    values = run_step(plan, engine, {name: engine.place(given[name], plan.sbp(name)) for name in given})
    leaf = logits.clone().requires_grad_()
    loss = F.cross_entropy(leaf, labels)
    loss.backward()
    assert engine.whole(values["loss"], (), plan.sbp("loss")).item() == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(engine.whole(values["dlogits"], (6, 5), plan.sbp("dlogits")), leaf.grad)


@pytest.mark.parametrize("label", [-100, -1, 7])
@pytest.mark.parametrize("name", ["data", "column"])
def test_a_label_that_is_no_class_is_refused(label, name):
    """torch leaves rows of -100 out of the mean; here every row counts, so they may not be there."""
    plan = optimise(mlp_step(4, 3, 5, 7), (2,), MACHINE, EXPERT_PLANS[name][1])
    inputs = make_inputs((4, 3, 5, 7), 0)
    inputs["labels"][1] = label
    with pytest.raises(IndexError, match=rf"id \d is {label}; ids go from 0 to 6"):
        train(plan, Simulated((2,)), inputs, 1)
    with pytest.raises(IndexError, match=f"is {label}"):
        ops.softmax_cross_entropy()(torch.zeros(4, 7), inputs["labels"])


def test_an_id_that_names_no_row_is_refused_by_every_device():
    table, ids = torch.randn(5, 2), torch.tensor([0, 5])
    parts = to_local(table, (S(0),), (2,))
    for part, (start, stop) in zip(parts, [(0, 3), (3, 5)], strict=True):
        with pytest.raises(IndexError, match="embedding: id 1 is 5; ids go from 0 to 4"):
            ops.embedding(5).local([part, ids], [((start, stop), (0, 2)), ((0, 2),)])


def test_what_is_not_taken_may_be_infinite():
    table = torch.tensor([[torch.inf], [1.0]])
    parts = [ops.embedding(2).local([part, torch.tensor([1])], [((i, i + 1), (0, 1)), ((0, 1),)])
             for i, part in enumerate(to_local(table, (S(0),), (2,)))]  # fmt: skip
    assert to_global(parts, (P,), (2,)).tolist() == [[1.0]]
    assert ops.relu_grad()(torch.tensor([[torch.inf]]), torch.tensor([[-1.0]])).tolist() == [[0.0]]


def test_unusual_inputs_are_taken_or_refused():
    plan = optimise(mlp_step(4, 3, 5, 7), (2,), MACHINE)

    def losses(x, labels, w1, w2, steps):
        return train(plan, Simulated((2,)), {"x": x, "labels": labels, "w1": w1, "w2": w2}, steps)

    inputs = {name: t.float() if t.is_floating_point() else t for name, t in make_inputs((4, 3, 5, 7), 0).items()}
    # all weights and inputs of one type, as a user's are; one alone is torch's to refuse
    assert_takes_or_refuses(losses, **inputs, steps=2)
    assert_takes_or_refuses(mlp_step, batch=4, width_in=3, hidden=5, classes=7, lr=0.1, itemsize=4)
    assert_takes_or_refuses(Machine, speed=1.0, link=1.0, memory_price=0.5)
    assert_takes_or_refuses(S, axis=1)
    assert_takes_or_refuses(lambda size: to_local(torch.ones(4, 2), (S(0),), (size,)), size=2)
    assert_takes_or_refuses(lambda size: optimise(matmul_chain([4, 4, 4]), (size,), MACHINE), size=2)
    assert_takes_or_refuses(lambda batches: simulate(pipeline([1, 2], 1), batches).seconds, batches=3)
    assert_takes_or_refuses(lambda registers: pipeline([1, 2], registers), registers=2)
    assert_takes_or_refuses(lambda batches, patience: list(run(pipeline([0, 0], 2), batches, patience).acts), batches=3,
                            patience=5.0)  # fmt: skip
    assert_takes_or_refuses(Sbp, kind="S", axis=1, combine="sum")
    assert_takes_or_refuses(Graph, itemsize=4)
    assert_takes_or_refuses(lambda rows, size: route((rows, 4), (S(0),), (B,), (size,)), rows=4, size=2)
    for lies in (S(0), P):
        assert_takes_or_refuses(lambda one, two, lies=lies: to_global([one, two], (lies,), (2,)), one=torch.rand(2, 2),
                                two=torch.rand(2, 2))  # fmt: skip
    for rule in (greedy, released, lambda graph, mesh: search(graph, [mesh], MACHINE)):
        assert_takes_or_refuses(lambda size, rule=rule: rule(matmul_chain([4, 4, 4]), (size,)), size=2)

    def seconds(registers, seconds):
        graph = ActorGraph()
        graph.actor("source", lambda batch: batch, registers=registers, seconds=seconds)
        return simulate(graph, 2).seconds

    assert_takes_or_refuses(seconds, registers=2, seconds=1.0)


def test_the_sum_of_the_program_by_hand_is_derived_once():
    """Its backward pass is each rank's own, and to derive it again would take a sum over ranks."""
    with pytest.raises(RuntimeError, match="has a first derivative only"):
        _SumForward.backward(None, torch.ones(1))


def test_what_is_fixed_must_be_in_the_graph_and_lie_as_it_can():
    graph, plan = matmul_chain([4, 4, 4]), optimise(mlp_step(4, 3, 5, 7), (2,), MACHINE)
    for rule in (lambda fixed: optimise(graph, (2,), MACHINE, fixed), lambda fixed: greedy(graph, (2,), fixed)):
        with pytest.raises(ValueError, match="fixed: y9 not in the graph"):
            rule({"y9": (B,)})
        with pytest.raises(ValueError, match="which has no axis 2"):
            rule({"y1": (S(2),)})
    with pytest.raises(ValueError, match=r"input w1 has shape \(3, 4\), the plan has \(3, 5\)"):
        train(plan, Simulated((2,)), {**make_inputs((4, 3, 5, 7), 0), "w1": torch.zeros(3, 4)}, 1)
    with pytest.raises(ValueError, match="mixes sums and maxima"):
        sbp.check((4,), (P, P_MAX), (2, 2))

"""The rows of PRES's experiments are what they are called: protocol, units, and who is compared with whom."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods.pres import PRES, contenders, experiments, training
from methods.pres.baselines import Memoryless
from methods.pres.contenders import CONTENDERS, Asked, Recipe
from methods.pres.experiments import REACH, TEST_METRICS, epochs_to_reach
from methods.pres.released import ReleasedPRES
from methods.pres.training import Scores, Task, make_task
from tests.methods.blindness import run_small
from tests.methods.pres.small import EVENTS, EXTRA, RACE, SIZE, SWEEP


def values(run: Any, metric: str) -> dict[tuple[Any, ...], float]:
    """(method, knobs but for the data set) -> value, None where it is missing."""
    return {key_of(row): row.value for row in run.rows if row.metric == metric}


def key_of(row: Any) -> tuple[Any, ...]:
    return (row.method, *(value for name, value in row.setting.items() if name != "dataset"))


def test_the_goal_of_a_contender_is_that_of_the_plain_model_at_its_model_and_batch() -> None:
    run = run_small("pres", "batch_sweep", **SIZE | SWEEP)
    curves = {key_of(c): [y / 100 for y in c.y] for c in run.curves if c.metric == "val_ap"}
    reached = values(run, "epochs_to_reach")
    assert len(reached) == 2 * 4 + len(EXTRA)
    for (method, model, multiple, epochs), value in reached.items():
        goal = REACH * max(curves["plain", model, multiple, epochs])
        assert value == pytest.approx(epochs_to_reach(curves[method, model, multiple, epochs], goal, 2))
    assert {key[0] for key in values(run, "gamma")} == {"pres", "pres_s", "pres_v"}


def test_every_contender_is_trained_alike_from_the_weights_of_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits are compared before they are made: the method's own parts aside, weights, batch, epochs and seed agree."""
    seen: dict[tuple[str, int], list[Any]] = {}

    def spy(network: Any, task: Task, **recipe: Any) -> None:
        weights = {name: w.detach().clone() for name, w in network.named_parameters() if "correction" not in name}
        seen.setdefault((type(network).__name__.replace("Memoryless", "TGN"), recipe["batch_size"]), []).append(
            (weights, recipe, type(network.correction).__name__)
        )
        raise FloatingPointError("not trained here")

    monkeypatch.setattr(contenders, "fit", spy)
    run = run_small("pres", "batch_sweep", seed=5, **SIZE | SWEEP)
    number = {("TGN", 30): 2, ("TGN", 120): 6, ("JODIE", 30): 2, ("APAN", 120): 2}
    assert {key: len(fits) for key, fits in seen.items()} == number
    for fits in seen.values():
        for weights, recipe, _ in fits:
            assert {k: v for k, v in recipe.items() if k != "batch_size"} == dict(
                epochs=2, seed=5, lr=1e-3, patience=None
            )
            assert all(torch.equal(weight, fits[0][0][name]) for name, weight in weights.items())
    corrections = [name for _, _, name in seen["TGN", 120]]
    assert corrections == ["NoneType", "PRES", "PRES", "PRES", "ReleasedPRES", "NoneType"]
    missing = [row for row in run.rows if row.metric in (*TEST_METRICS, "epochs_to_reach")]
    assert all(row.value is None and row.reason for row in missing)
    assert len(missing) == 12 * 6


def test_each_method_is_what_its_name_says() -> None:
    task = make_task(experiments.datasets.load("movielens_100k").head(EVENTS))
    asked, recipe = Asked(task, "tgn"), Recipe(dim=4, neighbors=2)
    built = {name: CONTENDERS[name].build(asked, recipe) for name in ("plain", "pres", *EXTRA)}
    found = {name: (float(m.correction.gamma), m.correction.gate is not None, m.correction.beta)
             for name, m in built.items() if isinstance(m.correction, PRES)}  # fmt: skip
    assert found == dict(
        pres=(pytest.approx(0.9), True, 0.1), pres_s=(1.0, False, 0.1), pres_v=(pytest.approx(0.9), True, 0.0)
    )
    assert all(model.correction.time_unit == task.time_unit for name, model in built.items() if name in found)
    assert type(built["pres_released"].correction) is ReleasedPRES
    assert built["plain"].correction is built["memoryless"].correction is None
    assert {name for name, model in built.items() if type(model) is Memoryless} == {"memoryless"}


def test_each_score_is_recorded_under_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    three = training.TestScores(*(Scores(*(k / 100 for k in range(first, first + 3))) for first in (10, 20, 30)))
    monkeypatch.setattr(experiments, "test", lambda network, task: three)
    run = run_small("pres", "batch_sweep", **SIZE | SWEEP | dict(multiples=dict(tgn=[1]), extra={}))
    wanted = dict(ap=10, auc=11, pooled_ap=12, historical_ap=20, inductive_ap=30)
    for metric, value in wanted.items():
        assert values(run, metric) == pytest.approx(dict.fromkeys(values(run, "ap"), value))


def test_a_model_that_diverges_in_its_last_step_is_not_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    train = training.train_epoch

    def diverges(model: Any, *rest: Any) -> float:
        loss = train(model, *rest)
        with torch.no_grad():
            model.decoder.out.bias.fill_(torch.nan)
        return loss

    monkeypatch.setattr(training, "train_epoch", diverges)
    run = run_small("pres", "batch_sweep", **SIZE | SWEEP | dict(multiples=dict(tgn=[1]), extra={}))
    rows = [row for row in run.rows if row.metric in TEST_METRICS]
    assert len(rows) == 2 * len(TEST_METRICS)
    assert all(row.value is None and "scores of the evaluation are NaN" in row.reason for row in rows)


def test_the_memory_error_is_relative_to_the_sequential_memory_and_zero_for_batches_of_one() -> None:
    run = run_small("pres", "prediction_error", **SIZE | dict(base_batch=1, multiples=[1, 30]))
    errors = values(run, "memory_error")
    assert errors["plain", "tgn", 1] == 0
    assert errors["pres", "tgn", 1] > 0
    task = make_task(experiments.datasets.load("movielens_100k").head(EVENTS))
    trained = experiments._train_one_epoch(run, task, 4, 2, 1)
    alone, batched = (experiments._memory_after(trained, task, size) for size in (1, 30))
    assert errors["plain", "tgn", 30] == pytest.approx(float((batched - alone).norm() / alone.norm()))


def test_gradient_statistics_are_those_of_the_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each batch's mean loss: the spread between them, and the variance of the weighted mean over repeats."""
    parts: list[Tensor] = []
    grad = torch.autograd.grad

    def spy(*arguments: Any, **options: Any) -> Any:
        found = grad(*arguments, **options)
        parts.append(torch.cat([part.flatten() for part in found]).double())
        return found

    monkeypatch.setattr(experiments.torch.autograd, "grad", spy)
    run = run_small("pres", "gradient_variance", **SIZE | dict(multiples=[2], repeats=3))
    task = make_task(experiments.datasets.load("movielens_100k").head(EVENTS))
    sizes = torch.tensor([len(b) for b in experiments.batches(task.train, 60)]).double()
    each = torch.stack(parts).view(2, 3, len(sizes), -1)  # method, repeat, batch, weight
    assert not torch.equal(each[0], each[1])  # the filter is on in the second
    whole = (each * sizes.view(-1, 1)).sum(2) / len(task.train)
    between = each.var(2, correction=0).sum(-1).mean(1).sqrt()
    for k, name in enumerate(("plain", "pres_v")):
        got = values(run, "epoch_gradient_variance")[name, "tgn", 2], values(run, "batch_gradient_std")[name, "tgn", 2]
        assert got == pytest.approx((float(whole[k].var(0).sum()), float(between[k])), rel=1e-4)


def test_the_released_term_changes_no_weight_and_the_papers_does(monkeypatch: pytest.MonkeyPatch) -> None:
    terms, penalty = [], ReleasedPRES.penalty
    monkeypatch.setattr(ReleasedPRES, "penalty", lambda self, *a: (terms.append(float(penalty(self, *a))), 0.0)[1])
    run_small("pres", "released_gradient", **SIZE)
    half = len(terms) // 2
    assert min(terms[:half]) > 0 == max(terms[half:])  # once with the term, once without
    monkeypatch.undo()
    changed = values(run_small("pres", "released_gradient", **SIZE), "different_weights")
    assert changed["pres_released", "tgn", 1] == 0 < changed["pres", "tgn", 1]


@pytest.mark.parametrize("name", ["epoch_time", "epoch_time_all_nodes", "throughput_peer"])
def test_each_timed_call_learns_the_same_events_from_the_same_memory(name: str, monkeypatch: Any) -> None:
    raced: dict[str, Any] = {}
    monkeypatch.setattr(experiments.Run, "race", lambda run, contenders, **rest: raced.update(contenders))
    warmed, began, rewound = [], [], experiments.rewound

    def spy(model: Any, action: Any) -> Any:
        memory = model.memory if isinstance(model.memory, Tensor) else model.memory.memory
        warmed.append((model, memory, memory.clone()))
        return rewound(model, lambda: (began.append(memory.clone()), action()))

    monkeypatch.setattr(experiments, "rewound", spy)
    run_small("pres", name, **SIZE | RACE | (dict(batch_size=30) if name == "throughput_peer" else {}))
    wanted = {
        "epoch_time": {f"{method}[batch_multiple={k}]": k * 30 for method in ("plain", "pres") for k in (1, 4)},
        "epoch_time_all_nodes": {"plain_all_nodes[batch_multiple=1]": 30, "pres_all_nodes[batch_multiple=4]": 120},
        "throughput_peer": {"pyg_tgn": 30, "plain": 30},
    }[name]
    assert set(raced) == set(wanted)
    batch_sizes, train = [], experiments.train_batch
    monkeypatch.setattr(experiments, "train_batch", lambda *a: (batch_sizes.append(len(a[2])), train(*a))[1])
    for (contender, size), (network, memory, start) in zip(wanted.items(), warmed, strict=True):
        assert bool(start.any()) is (size == 30)  # a warm-up of one batch leaves messages waiting
        assert getattr(network, "all_nodes", False) == ("all_nodes" in contender)
        assert (getattr(network, "correction", None) is not None) == contender.startswith("pres")
        for _ in range(2):
            raced[contender]()
            assert torch.equal(began.pop(), start)
            assert not torch.equal(memory, start)
            assert batch_sizes == ([] if contender == "pyg_tgn" else [size] * (120 // size))
            batch_sizes.clear()


@pytest.mark.parametrize("name", ["linear_drift", "pending_events"])
def test_what_needs_no_model_records_what_its_claims_and_figures_ask_for(name: str) -> None:
    small = dict(gammas=[1.0, 0.9], events=200) if name == "linear_drift" else dict(sizes=[50, 200])
    run = run_small("pres", name, dataset={"linear_drift": "linear_drift"}.get(name, "movielens_100k"), **small)
    found = [(row.metric, *key_of(row)[1:]) for row in run.rows]
    assert found == (
        [("prediction_error", 1.0), ("prediction_error", 0.9)] if name == "linear_drift"
        else [(metric, size) for size in (50, 200) for metric in ("pending_share", "dropped_share")]
    )  # fmt: skip

"""What SEMBA's experiments promise: who is trained on what, what is drawn from where, and what each row says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.semba import contenders, experiments, training
from methods.semba.contenders import CONTENDERS, Asked, Recipe
from methods.semba.experiments import ABLATIONS, COMPARED
from methods.semba.tasks import OBJECTIVES, Answers, Task, load_signed, make_task
from tests.methods.blindness import run_small
from tests.methods.semba.small import RACE, SMALL


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task(load_signed("movielens_100k", 600))


def built(name: str, task: Task, kind: str) -> Any:
    return CONTENDERS[name].build(Asked(task, kind), Recipe(width=8, neighbors=3))


def test_pairs_without_an_event_are_of_nodes_of_no_later_period(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = [torch.cat([task.stream.src[:last], task.stream.dst[:last]]).unique().tolist()
            for last in (task.first_val, task.first_test, len(task.stream))]  # fmt: skip
    assert len(ends[0]) < len(ends[1]) < len(ends[2]) == task.stream.num_nodes
    pools: list[list[int]] = []
    drawn = training.random_pairs

    def spy(batch: Any, nodes: Tensor, generator: torch.Generator) -> Tensor:
        pools.append(nodes.tolist())
        return drawn(batch, nodes, generator)

    monkeypatch.setattr(training, "random_pairs", spy)
    model = built("tgn", task, "link_pred")
    training.train_epoch(model, torch.optim.SGD(model.parameters(), lr=0.1), task, "link_pred", 100, torch.Generator())
    trained = len(pools)
    training.validate(model, task, "link_pred", 100)
    validated = len(pools)
    training.test(model, task, "link_pred", 100)
    assert pools == [ends[0]] * trained + [ends[1]] * (validated - trained) + [ends[2]] * (len(pools) - validated)
    assert 0 < trained < validated < len(pools)


def test_every_contender_is_trained_alike_and_diverging_ones_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    recipes: dict[str, Any] = {}

    def spy(model: Any, task: Task, kind: str, **recipe: Any) -> None:
        recipes[len(recipes)] = (type(model).__name__, kind, recipe)
        raise FloatingPointError("not trained here")

    monkeypatch.setattr(contenders, "fit", spy)
    run = run_small("semba", "sign_class", seed=4, **SMALL["sign_class"])
    names = ["SEMBA", "TGN", "SGCN", "GCN", "SEMBA", "SEMBA", "TGN", "ReleasedSEMBA", "SGCN"]
    assert [name for name, _, _ in recipes.values()] == names
    for name, kind, recipe in recipes.values():
        assert kind == "sign_class"
        assert recipe == dict(epochs=2, batch_size=100, lr=0.01, seed=4, plateau=name == "ReleasedSEMBA")
    rows = [row for row in run.rows if row.metric == "auc"]
    assert [row.method for row in rows if row.value is not None] == ["degree_lr"]
    assert len(rows) == len(COMPARED) + len(ABLATIONS)
    assert all(row.reason == "not trained here" for row in rows if row.value is None)


def test_each_method_is_what_its_name_says(task: Task) -> None:
    models = {name: built(name, task, "sign_class") for name in [*COMPARED, *ABLATIONS]
             if name not in ("degree_lr", "semba_released")}  # fmt: skip
    assert {name for name, model in models.items() if getattr(model, "leak", False)} == {"semba_leak", "tgn_leak"}
    assert {name for name, model in models.items() if getattr(model, "zero_features", False)} == {"sgcn_zeros"}
    rules = {name: len(model.memory.rules) for name, model in models.items() if hasattr(model, "memory")}
    assert rules == dict(semba=4, semba_leak=4, semba_no_balance=2, tgn=1, tgn_leak=1)
    assert {model.num_neighbors for model in models.values() if hasattr(model, "memory")} == {3}


def answers_of(task: Task, logit: float) -> Answers:
    """Validation of a model that says `logit` of every event: the loss grows with it, where a negative weighs more."""
    weight = task.stream.edge_features[task.first_val : task.first_test, 0]
    noise = torch.linspace(0, 1e-3, len(weight))
    return Answers(weight, (noise + logit).unsqueeze(1), None, None, torch.zeros(len(weight), dtype=torch.int64))


@pytest.mark.parametrize(("falls", "halved"), [(True, True), (False, False)])
def test_the_released_rate_is_halved_while_the_validation_loss_falls(
    falls: bool, halved: bool, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = iter(sorted((1 + 0.1 * k for k in range(9)), reverse=falls))
    monkeypatch.setattr(training, "train_epoch", lambda *rest: 0.0)
    monkeypatch.setattr(training, "validate", lambda *rest: answers_of(task, next(logits)))
    model = torch.nn.Linear(1, 1)
    rate = training.fit(model, task, "sign_class", epochs=9, batch_size=60, lr=0.01, seed=0, plateau=True).rate
    assert rate == pytest.approx([0.01] * 7 + [0.005] * 2 if halved else [0.01] * 9)
    logits = iter(range(9))
    assert training.fit(model, task, "sign_class", epochs=9, batch_size=60, lr=0.01, seed=0).rate == [0.01] * 9


def test_the_released_threshold_moves_the_decision_and_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    scored = experiments.score_test

    def spy(*rest: Any) -> Answers:
        answers = scored(*rest)
        seen.append(answers.logits[:, 0])
        return answers

    monkeypatch.setattr(experiments, "score_test", spy)
    run = run_small("semba", "sign_class", **SMALL["sign_class"] | dict(methods=["semba_released"], extra={}))
    found = {row.metric: row.value for row in run.rows}
    (logits,) = seen
    true = load_signed("movielens_100k", 400).edge_features[-len(logits) :, 0] < 0
    said = logits < 0.5
    assert found["negative_f1"] == pytest.approx(100 * float(2 * (said & true).sum() / (said.sum() + true.sum())))


def test_a_validation_with_one_sign_is_refused(task: Task) -> None:
    weight = task.stream.edge_features.clone()
    weight[task.first_val : task.first_test] = 1.0
    one_sided = replace(task, stream=replace(task.stream, edge_features=weight))
    model = built("tgn", task, "sign_class")
    with pytest.raises(ValueError, match=r"cannot choose an epoch by auc, which is nan: 90 of its 90 weights"):
        training.fit(model, one_sided, "sign_class", epochs=1, batch_size=60, lr=0.01, seed=0)


@pytest.mark.parametrize("kind", sorted(OBJECTIVES))
def test_a_model_that_diverges_is_not_scored(kind: str, task: Task) -> None:
    model = built("tgn", task, kind)
    with torch.no_grad():
        model.head.bias.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="scores of the evaluation are NaN"):
        training.validate(model, task, kind, 60)


def test_the_peers_race_trains_both_on_the_same_events(monkeypatch: pytest.MonkeyPatch) -> None:
    raced: dict[str, Any] = {}
    monkeypatch.setattr(experiments.Run, "race", lambda run, contenders, **rest: raced.update(contenders))
    asked, segment = [], experiments.segment
    monkeypatch.setattr(experiments, "segment", lambda model, task, *a: (asked.append(a), segment(model, task, *a))[1])
    run_small("semba", "throughput_peer", **RACE)
    assert list(raced) == ["semba", "pyg_semba"]
    assert asked == [(50, 100, 100)] * 2


@pytest.mark.parametrize("kind", sorted(OBJECTIVES))
def test_the_kept_epoch_has_the_highest_score_or_the_lowest_error(kind: str, task: Task, monkeypatch: Any) -> None:
    model, found = torch.nn.Linear(1, 1), iter([2.0, 5.0, 1.0, 3.0])
    epochs = iter(range(4))
    objective = replace(OBJECTIVES[kind], metrics=lambda answers: {OBJECTIVES[kind].select: next(found)})
    monkeypatch.setattr(training, "OBJECTIVES", {kind: objective})
    monkeypatch.setattr(training, "train_epoch", lambda *rest: float(model.bias.data.fill_(next(epochs))))
    monkeypatch.setattr(training, "validate", lambda *rest: answers_of(task, 1.0))
    training.fit(model, task, kind, epochs=4, batch_size=60, lr=0.01, seed=0)
    assert float(model.bias.detach()) == (2 if kind == "signwt_pred" else 1)
    assert OBJECTIVES[kind].select == {"signlink_class": "macro_f1", "signwt_pred": "rmse"}.get(kind, "auc")


def test_the_degree_control_is_fitted_to_the_training_events(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted, fit = [], experiments.fit_degree_regression
    monkeypatch.setattr(
        experiments, "fit_degree_regression", lambda x, y: (fitted.append((len(x), len(y))), fit(x, y))[1]
    )
    experiments.degree_regression(task, 60)
    assert fitted == [(task.first_val, task.first_val)]

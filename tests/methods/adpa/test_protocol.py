"""What the experiments promise: which split, which seed, which network by which recipe, and under which name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.experiment import Run
from methods.adpa import contenders, experiments, training
from methods.adpa.adpa import PATTERNS
from methods.adpa.amud import pattern_r2
from methods.adpa.contenders import BASELINES, CONTENDERS, DIRECTED, SYMMETRISED, Viewed
from methods.adpa.experiments import FILTERED, SLIPS
from methods.adpa.training import RECIPES, Protocol, Recipe, Task, load_tasks
from methods.shared.node_classification import Fit
from tests.methods.adpa.small import PROTOCOL, SEARCH, SPLITS, TINY, made_small
from tests.methods.blindness import run_small


@dataclass
class Trained:
    """One training, what it was given and what came out."""

    method: str
    task: Task
    recipe: Recipe
    fitted: Fit
    right: Tensor


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Trained]]:
    """What the experiments train after their search, in order, as they really train it."""
    seen: list[Trained] = []

    def watched(method: str, task: Task, recipe: Recipe, epochs: int, patience: int) -> tuple[nn.Module, Fit, Tensor]:
        model, fitted, right = contenders.train(method, task, recipe, epochs, patience)
        assert fitted.epochs <= epochs
        seen.append(Trained(method, task, recipe, fitted, right))
        return model, fitted, right

    monkeypatch.setattr(experiments, "train", watched)
    with made_small():
        yield seen


def rows(run: Run, metric: str, **setting: object) -> list[float]:
    return [
        r.value for r in run.rows if r.metric == metric and setting.items() <= {"method": r.method, **r.setting}.items()
    ]


def test_every_contender_is_trained_on_every_split_as_its_own_search_found_best(trained: list[Trained]) -> None:
    run = run_small("adpa", "accuracy", **{**TINY["accuracy"], "protocol": SEARCH}, dataset=FILTERED[0])
    compared = [DIRECTED, SYMMETRISED, *BASELINES]
    assert [one.method for one in trained] == [viewed.method for viewed in compared] * SPLITS
    tasks = load_tasks(run, range(SPLITS), reduce=True)
    for number, one in enumerate(trained):
        split, contender = number // len(compared), compared[number % len(compared)]
        assert torch.equal(one.task.edge_index, tasks[split].viewed(contender.view).edge_index)
        assert all(map(torch.equal, one.task.masks, tasks[split].masks))
        recipe, trials = contenders.select(run, contender, Protocol(**SEARCH))
        assert one.recipe == recipe
        at = dict(method=contender.method, view=contender.view, split=split)
        assert rows(run, "trials", **at) == [trials]
        assert rows(run, "accuracy", **at) == [100 * one.fitted.test_accuracy]
        assert rows(run, "val_accuracy", **at) == [100 * one.fitted.val_accuracy]
        assert float(one.right.double().mean()) == pytest.approx(one.fitted.test_accuracy)
    assert not torch.equal(tasks[0].masks.test, tasks[1].masks.test)


def test_splits_are_numbered_and_the_seed_is_another_initialisation_alone(trained: list[Trained]) -> None:
    for seed in (0, 0, 1):
        run_small("adpa", "accuracy", **TINY["accuracy"], dataset="cora_ml", seed=seed)
    same, again, other = (trained[i : i + 2 * SPLITS] for i in range(0, 6 * SPLITS, 2 * SPLITS))
    for a, b, c in zip(same, again, other, strict=True):
        assert all(map(torch.equal, a.task.masks, b.task.masks))
        assert all(map(torch.equal, a.task.masks, c.task.masks))
        assert a.fitted == b.fitted
        assert a.fitted != c.fitted
    first, second = same[0].task, same[2].task  # two views of each split
    assert torch.bincount(first.y[first.masks.train]).tolist() == [5] * 4
    assert set(first.masks.test.tolist()) != set(second.masks.test.tolist())


def test_a_generated_digraph_is_another_for_another_seed(trained: list[Trained]) -> None:
    for seed in (0, 1):
        run_small("adpa", "known_answer", baselines=False, protocol=PROTOCOL, dataset="directed_cyclic", seed=seed)
    assert not torch.equal(trained[0].task.x, trained[2].task.x)


def test_the_gain_and_amuds_advice_are_of_the_same_split(trained: list[Trained]) -> None:
    run = run_small("adpa", "accuracy", **TINY["accuracy"], dataset="cora_ml")
    for split, (directed, symmetrised) in enumerate(zip(trained[::2], trained[1::2], strict=True)):
        gain = 100 * (directed.fitted.test_accuracy - symmetrised.fitted.test_accuracy)
        assert rows(run, "gain", split=split) == pytest.approx([gain])
        task = directed.task
        for labels, mask in (("all", None), ("train", task.masks.train)):
            found = rows(run, "r2", split=split, labels=labels)
            assert found == list(pattern_r2(task.edge_index, task.y, mask).values())


@pytest.mark.parametrize("contender", [DIRECTED, SYMMETRISED, *BASELINES], ids=str)
def test_every_network_has_its_recipes_dropout_width_and_depth(contender: Viewed) -> None:
    (task,) = training.load_tasks(Run("any", "quick", 0, dataset="directed_cyclic"), [0], reduce=True)
    recipe = replace(RECIPES["dropout"], depth=3, r=0.25)
    model, _ = CONTENDERS[contender.method].build(task.viewed(contender.view), recipe)
    assert model.dropout == RECIPES["dropout"].dropout == 0.8
    if contender.method.startswith("adpa"):
        assert (model.K, model.r, model.norm, model.official_view, model.decay) == (
            3,
            0.25,
            "rows_columns",
            False,
            True,
        )
        assert model.patterns == (("A", "AT") if contender.method == "adpa_one_hop" else PATTERNS)
        assert model.weights[0].shape[1] == 32
    else:
        layers = {"gcn": "linears", "mlp": "linears", "sign": "hops", "dir_gnn": "into"}[contender.method]
        assert len(getattr(model, layers)) == (4 if contender.method == "sign" else 3)  # SIGN's hops are 0 to K
        assert getattr(model, layers)[0].out_features == 64
    if contender.method in ("gcn", "mlp"):
        assert model.hops == [int(contender.method == "gcn")] * 3


def test_a_recipe_is_its_learning_rate_and_weight_decay() -> None:
    for recipe in RECIPES.values():
        (group,) = training.optimizer_of(nn.Linear(2, 2), recipe).param_groups
        assert (group["lr"], group["weight_decay"]) == (recipe.lr, recipe.weight_decay)


def test_training_keeps_the_first_epoch_of_best_validation_and_its_weights() -> None:
    (task,) = training.load_tasks(Run("any", "quick", 0, dataset="directed_cyclic"), [0], reduce=True)
    torch.manual_seed(0)
    _, fitted, right = contenders.train("adpa", task, RECIPES["common"], epochs=25, patience=25)
    seen = fitted.history.val_accuracy
    assert fitted.best_epoch == seen.index(max(seen)) < 24
    assert int(right.sum()) == round(fitted.test_accuracy * len(right))


def test_the_search_goes_by_validation_first_for_a_recipe_and_then_for_k_and_r(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, protocol = Run("any", "quick", 3, dataset=FILTERED[0]), Protocol(**SEARCH)
    tried: list[tuple[Recipe, Fit]] = []
    train = contenders.train

    def watched(method: str, task: Task, recipe: Recipe, *lengths: int) -> tuple[nn.Module, Fit, Tensor]:
        model, fitted, right = train(method, task, recipe, *lengths)
        tried.append((recipe, fitted))
        return model, fitted, right

    monkeypatch.setattr(contenders, "train", watched)
    with made_small():
        found = contenders.select(run, DIRECTED, protocol)
    scores = [fitted.val_accuracy for _, fitted in tried]
    assert found == (tried[scores.index(max(scores))][0], len(tried))
    first = scores[:2].index(max(scores[:2]))
    recipes = [RECIPES["common"], RECIPES["decay"]]
    assert [recipe for recipe, _ in tried] == [*recipes, replace(recipes[first], depth=1)]


def test_the_released_codes_slips_are_each_alone_at_its_shipped_hyper_parameters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen, both = [], experiments.both_selections

    def watched(model: nn.Module, task: Task, epochs: int, patience: int) -> tuple[float, float]:
        seen.append((model, both(model, task, epochs, patience)))
        return seen[-1][1]

    monkeypatch.setattr(experiments, "both_selections", watched)
    with made_small():
        run = run_small("adpa", "released_code", **TINY["released_code"], dataset="cornell")
    options = [(model.norm, model.official_view, model.decay) for model, _ in seen]
    right = ("rows_columns", False, True)
    wanted = [right, ("official", False, True), ("rows_columns", True, True), ("rows_columns", False, False)]
    assert options == wanted * SPLITS
    assert {(model.K, model.r, model.dropout) for model, _ in seen} == {(2, 0.42749, 0.64251)}
    for number, (_, (honest, leaky)) in enumerate(seen):
        at = dict(method=list(SLIPS)[number % 4], split=number // 4)
        assert (rows(run, "accuracy", **at), rows(run, "leaky_accuracy", **at)) == ([100 * honest], [100 * leaky])
        assert leaky >= honest
    assert RECIPES["shipped"] == Recipe(0.06036, 0.01273, 0.64251)


def test_an_epoch_is_timed_on_as_many_vertices_with_ten_times_the_arcs(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[tuple[str, Task]] = []
    for name in ("adpa", "gcn"):
        build = CONTENDERS[name].build

        def watched(task: Task, recipe: Recipe, name: str = name, build: Any = build) -> Any:
            timed.append((name, task))
            return build(task, recipe)

        monkeypatch.setitem(CONTENDERS, name, replace(CONTENDERS[name], build=watched))
    run = run_small("adpa", "epoch_cost", dataset="directed_cyclic", class_size=50, degree=2, pairs=1)
    assert [method for method, _ in timed] == ["adpa", "gcn"] * 2
    (few, also_few), (many, also_many) = ([task for _, task in timed[i : i + 2]] for i in (0, 2))
    assert few.x is also_few.x
    assert many.x is also_many.x
    assert len(few.x) == len(many.x) == 200
    assert many.edge_index.shape[1] / few.edge_index.shape[1] == pytest.approx(10, rel=0.2)
    found = {(r.method, r.setting["edges"]) for r in run.rows if r.metric == "time_s"}
    assert found == {(method, times) for method in ("adpa", "gcn") for times in (1, 10)}

"""What the experiments promise: who is trained on what, by which recipe, and what is written under which name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import nn

from methods.dagnn import experiments
from methods.dagnn.contenders import CONTENDERS, DEPTH, GENERATED, train
from methods.dagnn.experiments import logits_smv
from methods.dagnn.smoothness import smv
from methods.dagnn.training import Recipe, Task
from methods.shared.graph import normalized_adjacency
from methods.shared.node_classification import Fit
from tests.methods.blindness import run_small
from tests.methods.dagnn.small import DECAYS, SMALL, UNTRAINED, bag_of_words, made_small, network

Trained = list[tuple[nn.Module, Task, Recipe, Fit]]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trained]:
    """What the experiments train, in order, as they really train it."""
    seen: Trained = []

    def watched(name: str, task: Task, recipe: Recipe) -> tuple[nn.Module, Fit]:
        model, fitted = train(name, task, recipe)
        seen.append((model, task, recipe, fitted))
        return model, fitted

    monkeypatch.setattr(experiments, "train", watched)
    with made_small():
        yield seen


def values(run: object, metric: str, method: str | None = None) -> list[float]:
    return [row.value for row in run.rows if row.metric == metric and (method is None or row.method == method)]


def test_the_gate_takes_the_weight_decay_of_the_best_validation_whatever_the_test_says(trained: Trained) -> None:
    decays = DECAYS
    run = run_small("dagnn", "gate", **SMALL["gate"])
    for method, fits in (("dagnn", trained[:3]), ("ungated", trained[3:])):
        assert [recipe.weight_decay for _, _, recipe, _ in fits] == decays
        val, test = ([getattr(fitted, f"{part}_accuracy") for *_, fitted in fits] for part in ("val", "test"))
        best = val.index(max(val))
        assert values(run, "weight_decay", method) == [decays[best]]
        assert values(run, "accuracy", method) == [100 * test[best]]
        assert values(run, "val_accuracy", method) == [100 * val[best]]
        assert values(run, "train_accuracy", method) == [100 * fits[best][3].train_accuracy]
    # so that choosing by the test would show
    tests = [fitted.test_accuracy for *_, fitted in trained[:3]]
    assert tests.index(max(tests)) != decays.index(values(run, "weight_decay", "dagnn")[0])
    assert len(trained) == 2 * len(decays)


def test_each_method_is_trained_by_its_own_published_recipe_on_features_as_it_wants_them(trained: Trained) -> None:
    run = run_small("dagnn", "accuracy", **SMALL["accuracy"])
    for method, (model, task, recipe, fitted) in zip(experiments.METHODS, trained, strict=True):
        assert recipe == CONTENDERS[method].recipe_on("cora"), method
        assert type(model) is type(CONTENDERS[method].build(task, recipe)), method
        x = task.x if isinstance(task.x, torch.Tensor) else task.x.to_dense()
        assert torch.allclose(x.sum(dim=1), torch.ones(len(x))) == (method != "sgc"), method
        assert values(run, "accuracy", method) == [100 * fitted.test_accuracy]
        assert values(run, "epochs", method) == [fitted.epochs]


def test_recipes_are_those_of_the_method_and_the_graph() -> None:
    assert {DEPTH[method].recipe_on("cora") for method in ("gcn", "last_hop", "mlp")} == {
        Recipe(depth=16, hidden=16, dropout=0.5, weight_decay=5e-4, epochs=400)
    }
    assert DEPTH["dagnn"] == CONTENDERS["dagnn"]
    assert CONTENDERS["gcn"].recipe_on("cora") == Recipe(
        depth=2, dropout=0.5, weight_decay=5e-4, lr=0.01, hidden=16, epochs=200, window=10
    )
    sgc = {name: (r.depth, r.weight_decay, r.lr, r.dropout) for name, r in CONTENDERS["sgc"].recipe.items()}
    assert sgc == {
        "cora": (3, 5e-4, 0.1, 0), "citeseer": (2, 5e-3, 0.1, 0), "pubmed": (2, 5e-4, 0.1, 0),
        GENERATED: (2, 5e-4, 0.01, 0.5),
    }  # fmt: skip


def test_every_depth_is_trained_at_that_depth_and_its_logits_measured_without_dropout(trained: Trained) -> None:
    run = run_small("dagnn", "depth_sweep", **SMALL["depth_sweep"])
    depths = [depth for numbers in SMALL["depth_sweep"]["depths"].values() for depth in numbers]
    methods = [method for method, numbers in SMALL["depth_sweep"]["depths"].items() for _ in numbers]
    recipes = [
        replace(DEPTH[method].recipe_on("cora"), depth=depth) for method, depth in zip(methods, depths, strict=True)
    ]
    assert [recipe for _, _, recipe, _ in trained] == recipes
    assert [row.setting["depth"] for row in run.rows if row.metric == "smv"] == depths
    for (model, task, *_), found, depth in zip(trained, values(run, "smv"), depths, strict=True):
        assert (model.K if hasattr(model, "K") else len(model.hops)) == depth
        with torch.no_grad():
            assert found == smv(model.eval()(task.x, task.adjacency))
        assert found == logits_smv(model.train(), task)


def test_fewer_labels_are_fewer_and_both_methods_get_the_same_ones(trained: Trained) -> None:
    run = run_small("dagnn", "few_labels", **SMALL["few_labels"])
    masks = [task.masks.train.tolist() for _, task, *_ in trained]
    assert [len(mask) for mask in masks] == [4, 4, 4, 4, 80, 80]  # 1 label, 2 draws, 2 methods; then 20 labels
    assert masks[:2] == masks[2:4]
    assert masks[0] != masks[1]
    assert masks[4] == masks[5]
    assert set(masks[0]) <= set(masks[4])
    task = trained[0][1]
    sets = [set(masks[4]), set(task.masks.val.tolist()), set(task.masks.test.tolist())]
    assert (len(sets[1]), len(set.union(*sets))) == (500, sum(map(len, sets)))
    assert torch.bincount(task.y[torch.tensor(masks[4])]).tolist() == [20] * 4
    means = [100 * sum(fitted.test_accuracy for *_, fitted in two) / 2 for two in (trained[:2], trained[2:4])]
    assert values(run, "accuracy")[:2] == pytest.approx(means)


def test_another_seed_is_another_split_and_other_weights(trained: Trained) -> None:
    for seed in (0, 0, 1):
        run_small("dagnn", "few_labels", seed=seed, dataset="cora", methods=["dagnn"], labels=[20], draws=[1])
    same, again, other = (sorted(task.masks.val.tolist()) for _, task, *_ in trained)
    assert same == again != other
    assert trained[0][3] == trained[1][3]
    assert trained[0][3] != trained[2][3]


def test_the_smoothness_of_features_is_that_of_powers_of_the_propagation() -> None:
    with made_small():
        run = run_small("dagnn", "feature_smoothness", **UNTRAINED["feature_smoothness"])
    data = experiments.LargestConnectedComponents()(bag_of_words())
    a, x = normalized_adjacency(data.edge_index, data.num_nodes).to_dense(), data.x
    assert values(run, "smv") == pytest.approx([smv(a @ x), smv(a @ a @ a @ a @ x)], rel=1e-5)


def test_the_limit_is_approached_at_the_rate_of_the_second_eigenvalue_on_all_graphs() -> None:
    run = run_small("dagnn", "depth_limit", **UNTRAINED["depth_limit"])
    assert values(run, "rate_over_eigenvalue") == pytest.approx([1, 1, 1], abs=0.01)
    parts = zip(values(run, "rate"), values(run, "second_eigenvalue"), strict=True)
    assert values(run, "rate_over_eigenvalue") == [rate / second for rate, second in parts]
    assert {row.setting["graph"] for row in run.rows} == {"path", "karate", "csbm"}


def isolated(method: str, depth: int, dropout: float) -> Callable[[], torch.Tensor]:
    """A network of identity maps over vertices without edges: what comes out is what dropout leaves of ones."""
    model = network(method, 64, 64, 64, depth, dropout).train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.eye(64) if parameter.dim() == 2 else torch.zeros(64))
    return lambda: model(torch.ones(64, 64), torch.empty(2, 0, dtype=torch.int64))


@pytest.mark.parametrize(
    ("method", "depth", "maps"), [("gcn", 3, 3), ("mlp", 3, 3), ("sgc", 2, 1), ("appnp", 2, 2), ("last_hop", 2, 2)]
)
def test_every_baseline_drops_the_input_of_every_linear_map(method: str, depth: int, maps: int) -> None:
    torch.manual_seed(0)
    out = isolated(method, depth, dropout=0.25)()
    kept = out[out != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 0.75**-maps))
    assert len(kept) / out.numel() == pytest.approx(0.75**maps, abs=0.03)

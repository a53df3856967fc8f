"""What the experiments promise: who is trained on what, by which recipe, and what is written under which name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from assay.experiment import Run
from methods.dgmlp import ResidualMLP, experiments, smoothed_features, stationary_state, training, weighted_hops
from methods.dgmlp.baselines import last_hop
from methods.dgmlp.contenders import CONTENDERS, FAMILIES, PUBLISHED
from methods.dgmlp.training import Recipe, Task, fit_deep, fit_rows
from methods.shared.gcn import GCN
from methods.shared.node_classification import Fit
from tests.methods.blindness import run_small
from tests.methods.dgmlp.small import EPOCHS, SMALL, made_small


@dataclass
class Trained:
    """One training, and the network as it left it."""

    model: nn.Module
    task: Task
    fitted: Fit
    features: Tensor | None = None
    recipe: Recipe | None = None
    optimizer: torch.optim.Optimizer | None = None
    select: str = "accuracy"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Trained]]:
    """What the experiments train, in order, as they really train it."""
    seen: list[Trained] = []

    def rows(model: nn.Module, features: Tensor, task: Task, recipe: Recipe) -> Fit:
        fitted = fit_rows(model, features, task, recipe)
        seen.append(Trained(model, task, fitted, features, recipe))
        return fitted

    def deep(model: GCN, task: Task, optimizer: torch.optim.Optimizer, epochs: int, select: str) -> Fit:
        fitted = fit_deep(model, task, optimizer, epochs, select=select)
        assert fitted.epochs == epochs == EPOCHS
        seen.append(Trained(model, task, fitted, optimizer=optimizer, select=select))
        return fitted

    monkeypatch.setattr(experiments, "fit_rows", rows)
    monkeypatch.setattr(experiments, "fit_deep", deep)
    with made_small():
        yield seen


def values(run: Run, metric: str) -> list[float]:
    return [row.value for row in run.rows if row.metric == metric]


def accuracy_now(one: Trained) -> float:
    """Test accuracy (%) of the network as it is: after the last epoch."""
    with torch.no_grad():
        right = one.model.eval()(one.features).argmax(dim=1) == one.task.y
    return 100 * float(right[one.task.masks.test].float().mean())


def powers(task: Task, K: int) -> list[Tensor]:
    hops = [task.x]
    for _ in range(K):
        hops.append(task.adjacency.to_dense() @ hops[-1])
    return hops


def test_one_protocol_is_one_recipe_on_raw_features_that_differ_in_the_mix_alone(trained: list[Trained]) -> None:
    run = run_small("dgmlp", "same_protocol", **SMALL["same_protocol"])
    recipe = CONTENDERS["dgmlp"].recipe_on("cora")
    assert {replace(one.recipe, K=recipe.K) for one in trained} == {recipe}
    assert {one.model.dropout for one in trained} == {0.2}
    assert set(trained[0].task.x.unique().tolist()) == {0, 1}
    dgmlp, paper, uniform, two, ten = (one.features for one in trained)
    task = trained[0].task
    assert torch.equal(dgmlp, smoothed_features(task.x, task.adjacency, 20))
    assert torch.equal(paper, smoothed_features(task.x, task.adjacency, 20, stationary="paper"))
    assert not torch.equal(stationary_state(task.x, task.adjacency), stationary_state(task.x, task.adjacency, "paper"))
    torch.testing.assert_close(uniform, sum(powers(task, 20)) / 21, rtol=1e-4, atol=1e-5)
    for features, K in ((two, 2), (ten, 10)):
        torch.testing.assert_close(features, powers(task, K)[K], rtol=1e-4, atol=1e-5)
    assert values(run, "accuracy") == [100 * one.fitted.test_accuracy for one in trained]
    assert values(run, "val_accuracy") == [100 * one.fitted.val_accuracy for one in trained]
    assert values(run, "train_accuracy") == [100 * one.fitted.train_accuracy for one in trained]
    assert values(run, "last_accuracy") == pytest.approx([accuracy_now(one) for one in trained])


def test_baselines_under_their_own_protocol_have_normalised_features_and_the_last_epoch(
    trained: list[Trained],
) -> None:
    run = run_small("dgmlp", "published_protocol", **SMALL["published_protocol"])
    sgc, s2gc, gcn = trained
    assert (sgc.recipe, s2gc.recipe) == (PUBLISHED["sgc"].recipe_on("cora"), PUBLISHED["s2gc"].recipe_on("cora"))
    sums = gcn.task.x.sum(dim=1)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    hops = powers(gcn.task, 16)
    torch.testing.assert_close(sgc.features, hops[2], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(s2gc.features, 0.05 * hops[0] + 0.95 / 16 * sum(hops[1:]), rtol=1e-4, atol=1e-6)
    assert values(run, "accuracy") == pytest.approx(
        [accuracy_now(sgc), accuracy_now(s2gc), 100 * gcn.fitted.test_accuracy]
    )
    assert (gcn.select, gcn.model.hops, gcn.model.dropout) == ("loss", [1, 1], 0.5)
    assert gcn.model.linears[0].out_features == 16
    groups = [(len(g["params"]), g["weight_decay"], g["lr"]) for g in gcn.optimizer.param_groups]
    assert groups == [(2, 5e-4, 0.01), (2, 0, 0.01)]
    assert gcn.optimizer.param_groups[0]["params"][0] is gcn.model.linears[0].weight


def test_published_hyper_parameters_are_sgcs_and_s2gcs() -> None:
    assert PUBLISHED["sgc"].recipe_on("citeseer") == Recipe(2, 0.0, 0.2, 2.3545587233182368e-05, 150)
    assert PUBLISHED["sgc"].recipe_on("cora") == Recipe(2, 0.0, 0.2, 1.3026973714043257e-05, 100)
    assert PUBLISHED["s2gc"].recipe_on("citeseer") == Recipe(16, 0.0, 0.2, 1e-4, 150)


def test_all_families_of_the_analysis_share_width_dropout_optimiser_and_rule(trained: list[Trained]) -> None:
    run = run_small("dgmlp", "depth_sweep", **SMALL["depth_sweep"])
    rows = [row for row in run.rows if row.metric == "accuracy"]
    for row, one in zip(rows, trained, strict=True):
        hops, residual = FAMILIES[row.method]
        assert (one.model.hops, one.model.residual) == (hops(row.setting["depth"]), residual), row.method
        assert (one.model.dropout, one.select) == (0.2, "accuracy")
        assert one.model.linears[0].out_features == 8
        (group,) = one.optimizer.param_groups
        assert (group["lr"], group["weight_decay"], len(group["params"])) == (0.01, 5e-4, 2 * len(one.model.linears))
        assert row.value == 100 * one.fitted.test_accuracy
    sums = trained[0].task.x.sum(dim=1)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    trained.clear()
    run_small("dgmlp", "depth_sweep_raw", **SMALL["depth_sweep_raw"])
    assert set(trained[0].task.x.unique().tolist()) == {0, 1}


def test_hops_are_counted_from_the_features_and_edges_are_what_is_left_out(trained: list[Trained]) -> None:
    run_small("dgmlp", "hop_sweep", **SMALL["hop_sweep"])
    one, ten, dgmlp = trained
    torch.testing.assert_close(one.features, powers(one.task, 1)[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ten.features, powers(ten.task, 10)[10], rtol=1e-4, atol=1e-5)
    assert torch.equal(dgmlp.features, smoothed_features(dgmlp.task.x, dgmlp.task.adjacency, 5))
    assert {replace(t.recipe, K=20) for t in trained} == {CONTENDERS["dgmlp"].recipe_on("cora")}
    trained.clear()
    run_small("dgmlp", "sparsity", **SMALL["sparsity"])
    edges = [(len(t.task.adjacency.values) - len(t.task.x)) // 2 for t in trained[::2]]
    assert edges == [edges[0], round(edges[0] / 2), round(edges[0] / 4)]
    for few, many in zip(trained[::2], trained[1::2], strict=True):
        assert torch.equal(few.features, weighted_hops(few.task.x, few.task.adjacency, last_hop(2)))
        assert torch.equal(many.features, weighted_hops(few.task.x, few.task.adjacency, last_hop(10)))


def test_the_seed_draws_the_edges_that_are_kept_and_the_first_weights(trained: list[Trained]) -> None:
    for seed in (0, 0, 1):
        run_small("dgmlp", "sparsity", seed=seed, dataset="cora", kept=[0.5], hops=[2])
    same, again, other = (one.task.adjacency.csr.col_indices() for one in trained)
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


def test_the_epoch_that_is_kept_is_the_first_of_best_validation_accuracy(trained: list[Trained]) -> None:
    make_longer = replace(CONTENDERS["dgmlp"].recipe_on("cora"), epochs=30)
    task = training.load_task(Run("any", "quick", seed=0, dataset="cora"))
    torch.manual_seed(0)
    model = ResidualMLP(task.x.shape[1], 0, task.num_classes, dropout=0.2)
    fitted = fit_rows(model, smoothed_features(task.x, task.adjacency, 3), task, make_longer)
    seen = fitted.history.val_accuracy
    assert fitted.val_accuracy == max(seen)
    assert fitted.best_epoch == seen.index(max(seen)) < len(seen) - 1


def test_edges_grow_with_the_vertices_and_at_a_fixed_probability_with_their_square(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[tuple[int, float]] = []
    draw = experiments.Study.draw

    def watched(n: int, degree: float, *rest: object) -> object:
        drawn.append((n, degree))
        return draw(n, degree, *rest)

    monkeypatch.setattr(experiments.Study, "draw", watched)
    run_small("dgmlp", "scaling", sizes=[100, 200], num_features=4, degree=10, pairs=1)
    assert drawn == [(100, 10), (200, 10)]
    drawn.clear()
    run = run_small("dgmlp", "scaling_fixed_probability", sizes=[100, 400], num_features=4, probability=0.1, pairs=1)
    assert drawn == [(100, pytest.approx(9.9)), (400, pytest.approx(39.9))]
    few, many = values(run, "edges")
    assert few == pytest.approx(0.1 * 100 * 99 / 2, rel=0.2)
    assert many == pytest.approx(0.1 * 400 * 399 / 2, rel=0.2)

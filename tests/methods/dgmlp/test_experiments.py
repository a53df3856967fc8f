"""The analysis models, training on rows, the scalability study, and the memory of smoothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from assay.experiment import Run
from assay.measure.memory import live_tensor_peak
from methods.dgmlp import ResidualMLP, smoothed_features
from methods.dgmlp.baselines import PeerDGMLP
from methods.dgmlp.experiments import FAMILIES, depth_sweep, hop_sweep, smoothing_levels
from methods.dgmlp.scaling import METHODS, SHAPES, Study, smooth_and_step, stepper
from methods.dgmlp.training import Recipe, Task, fit_rows, last_accuracy, load_task, row_forward
from methods.shared.gcn import GCN
from methods.shared.graph import propagation

QUICK = Run("any", "quick", seed=0, dataset="csbm_clustered")


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(QUICK)


def network(name: str, depth: int, in_channels: int = 5) -> GCN:
    hops, residual = FAMILIES[name]
    torch.manual_seed(0)
    return GCN(in_channels, 8, 3, hops(depth), residual=residual).eval()


def logits(model: GCN, task: Task) -> Tensor:
    return model(task.x, task.adjacency)


@pytest.mark.parametrize("depth", [2, 3, 16])
def test_two_layers_share_out_all_hops_and_the_first_gets_the_odd_one(depth: int) -> None:
    hops, _ = FAMILIES["gcn_two_layers"]
    assert hops(depth) == [depth // 2 + depth % 2, depth // 2]


def test_two_layers_with_two_hops_are_the_gcn_of_two_layers(task: Task) -> None:
    width = task.x.shape[1]
    torch.testing.assert_close(
        logits(network("gcn_two_layers", 2, width), task), logits(network("gcn", 2, width), task), rtol=0, atol=0
    )  # fmt: skip


def test_without_hops_the_family_is_the_perceptron_bit_for_bit(task: Task) -> None:
    width = task.x.shape[1]
    model, layers = network("mlp", 3, width), []
    for linear in model.linears:
        layers += [torch.nn.Linear(*reversed(linear.weight.shape)), torch.nn.ReLU()]
        layers[-2].load_state_dict(linear.state_dict())
    wanted = task.x
    for linear in layers[:-1]:
        wanted = wanted @ linear.weight.T + linear.bias if isinstance(linear, torch.nn.Linear) else linear(wanted)
    assert torch.equal(logits(model, task), wanted)


def test_training_on_the_rows_in_a_mask_is_training_on_the_whole_graph(task: Task) -> None:
    recipe = Recipe(K=3, dropout=0.0, lr=0.05, weight_decay=5e-3, epochs=15)
    features = smoothed_features(task.x, task.adjacency, recipe.K)
    torch.manual_seed(1)
    by_rows = ResidualMLP(features.shape[1], 0, task.num_classes, dropout=0.0)
    whole = ResidualMLP(features.shape[1], 0, task.num_classes, dropout=0.0)
    whole.load_state_dict(by_rows.state_dict())
    result = fit_rows(by_rows, features, task, recipe)
    optimizer = torch.optim.Adam(whole.parameters(), lr=0.05, weight_decay=5e-3)
    for _ in range(recipe.epochs):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(whole(features)[task.masks.train], task.y[task.masks.train]).backward()
        optimizer.step()
    torch.testing.assert_close(by_rows.linears[0].weight, whole.linears[0].weight, rtol=1e-4, atol=1e-5)
    right = whole(features).argmax(dim=1) == task.y
    assert last_accuracy(by_rows, features, task) == pytest.approx(float(right[task.masks.test].float().mean()))
    assert result.test_accuracy > 0.5  # of four classes


def test_a_training_step_sees_training_rows_only(task: Task) -> None:
    seen, model = [], torch.nn.Linear(task.x.shape[1], 4)

    def call(x: Tensor) -> Tensor:
        seen.append(len(x))
        return model(x)

    forward, masks = row_forward(model, call, task.x[task.rows], task.masks)
    model.train()
    forward()
    model.eval()
    assert torch.equal(forward()[masks.test], model(task.x[task.masks.test]))
    assert seen == [len(task.masks.train), len(task.rows)]


def test_keeping_half_of_the_edges_keeps_both_arcs_of_each(task: Task) -> None:
    half = load_task(QUICK, kept=0.5)
    arcs = half.adjacency.to_dense() > 0
    assert torch.equal(arcs, arcs.T)
    off_diagonal = int(arcs.sum()) - len(half.x)
    assert off_diagonal == 2 * round(0.5 * (len(task.adjacency.values) - len(task.x)) / 2)


def test_deep_transformation_hurts_where_deep_propagation_does_not() -> None:
    run = Run("depth_sweep", "quick", seed=0, dataset="csbm_clustered")
    depths = {"csbm_clustered": dict(gcn=[16], gcn_two_layers=[16])}
    depth_sweep.function(run, hidden=32, epochs=40, normalize=False, depths=depths)
    found = {row.method: row.value for row in run.rows if row.metric == "accuracy"}
    assert found["gcn_two_layers"] > found["gcn"] + 20
    by_epoch = [curve for curve in run.curves if curve.metric == "first_layer_gradient"]
    assert [list(curve.x) for curve in by_epoch] == [[1, 6, 11, 16, 21, 26, 31, 36]] * 2
    mean = {row.method: row.value for row in run.rows if row.metric == "gradient"}
    for curve in by_epoch:  # the row is the mean over all epochs, the curve shows every fifth
        assert 0 < min(curve.y) < mean[curve.method] < max(curve.y)


def test_sgc_of_ten_hops_is_smoother_and_not_worse_than_of_one() -> None:
    run = Run("hop_sweep", "quick", seed=0, dataset="csbm_clustered")
    hop_sweep.function(run, hops={"csbm_clustered": dict(sgc=[1, 10])})
    one, ten = (row.value for row in run.rows if row.metric == "accuracy")
    assert ten > one
    smoothing_levels.function(run, K=10)
    level = {
        row.setting["hops"]: row.value for row in run.rows if row.setting.get("stationary") == "code"
    }  # fmt: skip
    assert level[10] < 0.4 * level[1]


def test_a_study_is_an_erdos_renyi_graph_with_finite_seeded_features() -> None:
    study, again = (Study.draw(2_000, 10, 8, seed=3) for _ in range(2))
    assert torch.equal(study.x, again.x)
    assert torch.equal(study.edge_index, again.edge_index)
    assert torch.isfinite(study.x).all()
    degree = torch.bincount(study.edge_index[0], minlength=2_000).float()
    assert float(degree.mean()) == pytest.approx(10, abs=0.5)
    assert float(degree.var()) == pytest.approx(10, abs=1.5)  # Poisson's
    assert set(study.y.tolist()) == set(range(10))


@pytest.mark.parametrize("name", METHODS)
def test_a_step_of_the_study_reaches_every_weight(name: str) -> None:
    step = stepper(name, SHAPES["equal"], Study.draw(200, 10, 8, seed=0))
    step()
    optimizer = next(cell.cell_contents for cell in step.__closure__ if hasattr(cell.cell_contents, "param_groups"))
    assert all(bool((weight.grad != 0).any()) for group in optimizer.param_groups for weight in group["params"])


def test_memory_of_a_run_doubles_with_the_graph() -> None:
    peaks = [
        live_tensor_peak(smooth_and_step, "dgmlp", SHAPES["equal"], Study.draw(n, 10, 16, seed=0)).bytes
        for n in (1_000, 2_000)
    ]
    assert peaks[1] / peaks[0] == pytest.approx(2, abs=0.1)


def test_smoothing_keeps_no_hop_and_torch_geometrics_parts_keep_all() -> None:
    study = Study.draw(500, 10, 100, seed=0)
    adjacency = propagation(study.edge_index, 500)

    def growth(smooth: object) -> float:
        """Bytes that 35 more hops need, in feature matrices."""
        few, many = (live_tensor_peak(smooth, K).bytes for K in (5, 40))
        return (many - few) / (study.x.numel() * 4)

    assert growth(lambda K: smoothed_features(study.x, adjacency, K)) < 3
    assert growth(lambda K: PeerDGMLP(100, 10, K, 0.0).smooth(study.x, study.edge_index)) > 35

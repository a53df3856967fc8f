"""Equal budgets, honest selection, and what is recorded of AMUD's advice."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import datasets
from assay.experiment import Run
from methods.adpa import contenders
from methods.adpa.adpa import ADPA
from methods.adpa.amud import pattern_r2
from methods.adpa.contenders import (
    BASELINES,
    CONTENDERS,
    DIRECTED,
    SYMMETRISED,
    Viewed,
    first_grid,
    second_grid,
    select,
)
from methods.adpa.experiments import (
    GRID,
    ONE_SETTING,
    accuracy,
    known_answer,
    luckiest,
    paired_difference,
    record_advice,
)
from methods.adpa.training import (
    RECIPES,
    Protocol,
    Recipe,
    Task,
    load_tasks,
    optimizer_of,
    principal_scores,
    random_split,
    rows_forward,
)
from methods.shared.node_classification import Masks, fit


def run_on(dataset: str, seed: int = 0, cache: Path | None = None) -> Run:
    return Run("accuracy", "quick", seed, dataset=dataset, cache=cache)


def values(run: Run, metric: str, method: str | None, **setting: object) -> list[float | None]:
    return [
        row.value
        for row in run.rows
        if row.metric == metric and row.method == method and setting.items() <= row.setting.items()
    ]


@pytest.mark.parametrize("contender", [DIRECTED, SYMMETRISED, *BASELINES], ids=str)
def test_every_contender_has_the_same_number_of_trainings(contender: Viewed) -> None:
    for profile in ("standard", "gpu"):
        protocol = Protocol(**accuracy.parameters(profile)["protocol"])
        trainings = first_grid(contender.method, protocol) + second_grid(
            contender.method, protocol, asdict(RECIPES["common"])
        )
        # the second grid repeats nothing of the first
        assert len(trainings) == len({tuple(chosen.items()) for chosen in trainings}) == 12


def test_hyper_parameters_are_chosen_by_validation_on_split_0_and_shared_by_all_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []

    class Fitted:
        def __init__(self, val_accuracy: float) -> None:
            self.val_accuracy = val_accuracy

    good = replace(RECIPES["decay"], depth=3, r=0.25)

    def pretend(name: str, task: Task, recipe: Recipe, *_: int) -> tuple[None, Fitted, None]:
        seen.append(tuple(task.masks.val.tolist()))
        return None, Fitted(sum(value == asdict(good)[knob] for knob, value in asdict(recipe).items())), None

    monkeypatch.setattr(contenders, "train", pretend)
    found = [select(run_on("directed_cyclic", seed, tmp_path), DIRECTED, GRID) for seed in (1, 0, 2)]
    assert found == [(good, 12)] * 3
    assert len(seen) == 12
    assert set(seen) == {tuple(load_tasks(run_on("directed_cyclic"), [0], reduce=True)[0].masks.val.tolist())}


def test_a_generated_digraph_is_drawn_anew_for_each_seed() -> None:
    first, again, other = (load_tasks(run_on("directed_cyclic", seed), [0], reduce=True)[0] for seed in (0, 0, 1))
    assert torch.equal(first.edge_index, again.edge_index)
    assert not torch.equal(first.x, other.x)


def test_a_random_split_has_20_of_each_class_500_for_validation_and_the_rest_for_testing() -> None:
    data = datasets.load("directed_cyclic", class_size=200)
    train, val, test = random_split(data, seed=3)
    assert data.y[train].bincount().tolist() == [20] * 4
    assert len(val) == 500
    assert torch.equal(torch.cat([train, val, test]).sort().values, torch.arange(800))
    assert torch.equal(train, random_split(data, seed=3).train)
    assert not torch.equal(train, random_split(data, seed=4).train)


def test_reduced_features_are_those_of_the_exact_truncated_svd() -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 20) @ torch.randn(20, 1_200) + 0.01 * torch.randn(400, 1_200)
    reduced, u_s = principal_scores(x), torch.linalg.svd(x, full_matrices=False)
    exact = (u_s.U * u_s.S)[:, :20]
    assert reduced.shape == (400, 256)
    # a direction's sign is arbitrary
    assert torch.allclose(reduced[:, :20].abs(), exact.abs(), rtol=1e-3, atol=1e-1)


def test_training_on_the_training_rows_alone_takes_the_same_steps() -> None:
    (task,) = load_tasks(run_on("directed_cyclic"), [0], reduce=True)
    ends = []
    for some in (True, False):
        torch.manual_seed(0)
        model = ADPA(32, 8, 4, dropout=0.0)
        hops = model.propagate(task.x, task.edge_index)
        forward = rows_forward(model, task.x, hops, task.masks.train) if some else lambda m=model, h=hops: m(task.x, h)
        fitted = fit(model, forward, task.y, task.masks, optimizer_of(model, RECIPES["common"]), 5)
        ends.append((fitted.history.train_loss, model.classifier.weight.detach()))
    assert ends[0][0] == pytest.approx(ends[1][0], abs=1e-5)
    assert torch.allclose(ends[0][1], ends[1][1], atol=1e-4)


@pytest.mark.parametrize("contender", [DIRECTED, SYMMETRISED, *BASELINES], ids=str)
def test_every_contender_is_built_on_its_view(contender: Viewed) -> None:
    (task,) = load_tasks(run_on("directed_cyclic"), [0], reduce=True)
    reversed_task = Task(task.x, task.edge_index.flip(0), task.y, task.masks)
    recipe = Recipe(**first_grid(contender.method, GRID)[0])
    outputs = []
    for one in (task, reversed_task):
        torch.manual_seed(0)
        model, forward = CONTENDERS[contender.method].build(one.viewed(contender.view), recipe)
        model.eval()
        outputs.append(forward())
    assert outputs[0].shape == (600, 4)
    # only a network on the directed view can tell a graph from its reverse
    assert torch.allclose(*outputs, atol=1e-5) == (contender.view != "directed")


def test_ties_in_validation_go_to_the_first_epoch_and_the_leak_is_the_luckiest() -> None:
    logits = iter(
        # training and evaluation in turn: validation is right in epochs 1 and 2, the test vertex only in epoch 2
        [None, [[0, 1], [1, 0], [1, 0]], None, [[0, 1], [0, 1], [1, 0]], None, [[0, 1], [0, 1], [0, 1]]]
    )
    weight = nn.Linear(1, 2)
    tested: list[float] = []

    def forward() -> Tensor:
        rows = next(logits)
        if rows is None:
            return weight(torch.ones(3, 1))
        tested.append(float(rows[2][1] > rows[2][0]))
        return torch.tensor(rows, dtype=torch.float32)

    y, masks = torch.tensor([1, 1, 1]), Masks(*torch.arange(3).view(3, 1))
    fitted = fit(weight, forward, y, masks, optimizer_of(weight, RECIPES["common"]), 3)
    assert (fitted.best_epoch, fitted.test_accuracy) == (1, 0.0)
    assert luckiest(fitted.history.val_accuracy, tested) == 1.0
    assert luckiest([0.5, 0.8, 0.8, 0.7], [0.9, 0.3, 0.4, 0.95]) == 0.4


def test_the_paired_difference_has_the_standard_error_of_its_discordant_pairs() -> None:
    a, b = torch.tensor([1, 1, 1, 0, 0, 0, 1, 1]).bool(), torch.tensor([1, 0, 0, 1, 0, 0, 1, 1]).bool()
    difference, error = paired_difference(a, b)
    assert difference == pytest.approx(1 / 8)
    assert error == pytest.approx(((3 / 8 - 1 / 64) / 8) ** 0.5)


@pytest.mark.parametrize(("name", "keeps"), [("directed_cyclic", 1), ("directed_homophilous", 0)])
def test_advice_is_wrong_only_if_the_recommended_view_loses_by_more_than_a_standard_error(
    name: str, keeps: int
) -> None:
    data = datasets.load(name)
    r2 = {
        "all": pattern_r2(data.edge_index, data.y),
        "train": pattern_r2(data.edge_index, data.y, data.train_mask[:, 0]),
    }
    right, wrong = torch.ones(100).bool(), torch.arange(100) >= 50
    for directed, symmetrised, guided in ((right, wrong, keeps), (wrong, right, 1 - keeps), (right, right, 1)):
        run = run_on("cora_ml")  # of a real data set the right answer is what was measured
        record_advice(run, 0, r2, directed, symmetrised)
        assert values(run, "keeps_direction", "amud", kind="pairs", labels="all") == [keeps]
        assert values(run, "guided", "amud", kind="pairs", labels="all") == [guided]
        assert values(run, "gain", "adpa") == [100 * (float(directed.double().mean() - symmetrised.double().mean()))]


def test_quick_records_every_contender_and_all_scores() -> None:
    run = run_on("directed_homophilous")
    protocol = dict(known_answer.parameters("quick")["protocol"], epochs=2)
    known_answer.function(run, baselines=True, protocol=protocol)
    for contender in (DIRECTED, SYMMETRISED, *BASELINES):
        assert len(values(run, "accuracy", contender.method, view=contender.view)) == 1
    assert len(values(run, "score", "amud")) == len(values(run, "right", "amud")) == 6
    assert values(run, "right", "amud", kind="pairs", labels="all") == [1]
    assert protocol["recipes"] == ONE_SETTING.recipes

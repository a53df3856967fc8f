"""What the experiments may see and what they record: test labels, splits, seeds, recipes, and rows for every claim."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch_geometric.data import Data

from assay.experiment import Run
from methods.neural_sheaf_diffusion import experiments
from methods.neural_sheaf_diffusion.contenders import CONTENDERS, PUBLISHED, Recipe, SheafRecipe, train
from methods.shared.node_classification import Fit, History
from tests.methods.blindness import run_small
from tests.methods.claims import assert_claims_are_judged
from tests.methods.neural_sheaf_diffusion.small import SMALL, UNTRAINED, made_small, shuffled, stand_in

SLUG = "neural_sheaf_diffusion"


@pytest.fixture(autouse=True)
def no_files() -> Iterator[None]:
    with made_small():
        yield


@pytest.mark.parametrize("name", SMALL)
def test_every_row_is_a_training_of_its_own_split_and_seed_by_the_recipe_of_its_method(name: str) -> None:
    """All of an experiment's accuracies, seed 2 and split 1, computed once more from the recipe alone."""
    run = run_small(SLUG, name, seed=2, **SMALL[name])
    data = stand_in(str(run.dataset), normalize_features=True)
    rows = {(row.method, row.setting.get("layers")): row for row in run.rows if row.metric == "accuracy"}
    assert all(row.setting["split"] == 1 and row.unit == "%" for row in rows.values())
    for (method, layers), row in rows.items():
        if method == "nsd" and name == "accuracy":
            continue
        if name == "published":
            recipe, variant = PUBLISHED["wisconsin"][1], "nsd_orthogonal" if method == "nsd" else method
            if method == "nsd_identity":
                recipe = replace(recipe, edge_weights=False)
        else:
            variant, kind = method, SheafRecipe if method.startswith("nsd") else Recipe
            recipe = kind(**run.tuned(method) | ({} if layers is None else {"num_layers": layers}))
        torch.manual_seed(10 * 2 + 1)
        epochs = 15 if name == "published" else 4
        _, found = train(variant, data, recipe, 1, epochs)
        assert row.value == 100 * found.test_accuracy, (method, layers)


def test_the_validation_prefers_a_model_whatever_the_test_says() -> None:
    good, bad = (Fit(0.5, val, 1 - val, 0, History()) for val in (0.7, 0.6))
    for diagonal, orthogonal in ((good, bad), (bad, good)):
        found = {"nsd_diagonal": diagonal, "nsd_orthogonal": orthogonal, "nsd_general": Fit(1, 1, 1, 0, History())}
        assert experiments.preferred(found) is good


def test_other_seeds_and_other_splits_give_other_numbers() -> None:
    def losses(seed: int, split: int) -> list[float]:
        run, data = Run("accuracy", "standard", seed, "texas"), stand_in("texas", normalize_features=True)
        with run.method("nsd_diagonal", split=split) as m:
            recipe = SheafRecipe(stalk_dim=2)
            return experiments.fit(run, m, "nsd_diagonal", data, split, recipe, 2, None).history.train_loss

    assert losses(0, 0) == losses(0, 0)
    assert losses(0, 0) != losses(1, 0)
    assert losses(0, 0) != losses(0, 1)
    assert losses(0, 1) != losses(1, 1)


def test_a_best_epoch_is_one_of_the_lowest_validation_loss_or_the_highest_accuracy_whatever_the_test_says() -> None:
    data = stand_in("texas", normalize_features=True)
    for select in ("loss", "accuracy"):
        torch.manual_seed(0)
        found = train("nsd_diagonal", data, SheafRecipe(stalk_dim=2, select=select), epochs=30)[1]
        curve = found.history.val_loss if select == "loss" else [-a for a in found.history.val_accuracy]
        assert found.best_epoch == min(range(30), key=curve.__getitem__)


def test_a_perceptron_sees_no_arcs_and_a_gcn_does() -> None:
    x, arcs = torch.randn(4, 3), torch.tensor([[0, 1, 2], [1, 2, 3]])
    data = Data(x=x, edge_index=arcs, y=torch.tensor([0, 1, 0, 1]))
    for name, blind in (("mlp", True), ("gcn", False)):
        model = CONTENDERS[name].build(data, Recipe(hidden_channels=4))[0].eval()
        assert torch.equal(model(x, arcs), model(x, arcs[:, :1])) is blind


def test_published_is_what_the_scripts_of_the_papers_code_run() -> None:
    """exp/scripts at commit 11e21b5, and exp/parser.py where they are silent: edge weights of bundles are on."""
    for name, (maps, recipe) in PUBLISHED.items():
        assert recipe.edge_weights == (maps == "orthogonal"), name
    assert {name: recipe.weight_decay for name, (_, recipe) in PUBLISHED.items()} == {
        "texas": 0.005, "wisconsin": 0.0006685729356079199, "cornell": 0.0006914841722570725,
        "chameleon": 0.0002969905682317406, "squirrel": 0.00011215791366362148,
    }  # fmt: skip
    sizes = {name: (r.stalk_dim, r.num_layers, r.hidden_channels) for name, (_, r) in PUBLISHED.items()}
    assert sizes == {
        "texas": (3, 4, 20), "wisconsin": (3, 2, 32), "cornell": (4, 2, 16), "chameleon": (4, 5, 32),
        "squirrel": (3, 5, 32),
    }  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_setting_makes_a_network(name: str) -> None:
    maps, recipe = PUBLISHED[name]
    data = Data(x=torch.randn(6, 11), edge_index=torch.tensor([[0, 1, 2], [1, 2, 3]]), y=torch.arange(6) % 5)
    model, index = CONTENDERS[f"nsd_{maps}"].build(data, recipe)
    assert model.eval()(data.x, index).shape == (6, 5)


def test_a_trial_of_tuning_is_a_validation_accuracy_and_knows_no_test_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for part in (None, "test", "val"):
        load = stand_in if part is None else lambda name, part=part, **o: shuffled(stand_in(name, **o), 0, part)
        monkeypatch.setattr(experiments, "load_graph", load)
        monkeypatch.setattr(experiments, "WEBKB", ["texas"])
        torch.manual_seed(0)
        found.append(experiments.validation_score("nsd_diagonal", dict(num_layers=1), 1000))
    assert found[0] == found[1] != found[2]


def test_limits_are_recorded_as_the_propositions_have_them() -> None:
    rows = run_small(SLUG, "bipartite_limit", sides=[4]).rows
    assert {r.method: r.value for r in rows if r.metric == "limit_accuracy"} == {"signed": 100, "symmetric": 50}
    rows = run_small(SLUG, "hierarchy", classes=[2, 3, 4], draws=1).rows
    shares, kernels = (
        {(row.method, row.setting["classes"]): row.value for row in rows if row.metric == metric}
        for metric in ("separated", "kernel_dimension")
    )
    for classes in (2, 3, 4):
        assert shares["diagonal_c", classes] == shares["rotations_2", classes] == 100
        assert shares["signed", classes] == pytest.approx(100 if classes == 2 else 100 / classes)
        assert [kernels[m, classes] for m in ("signed", "diagonal_c", "rotations_2")] == [1, classes, 2]


def test_transports_of_positive_maps_are_never_negative_and_all_scores_are_shares_of_the_nodes() -> None:
    rows = run_small(SLUG, "bipartite_learned", side=4, steps=1).rows
    found = {(row.method, row.metric): row.value for row in rows}
    assert found["symmetric", "negative_transports"] == 0
    assert found["signed", "negative_transports"] > 0
    assert all(found[method, "train_accuracy"] % 12.5 == 0 for method in ("symmetric", "signed"))


def test_a_bound_that_is_broken_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def counted() -> float:
        rows = run_small(SLUG, "energy", draws=5).rows
        return next(row.value for row in rows if row.metric == "violations")

    assert counted() == 0
    monkeypatch.setattr(experiments.theory, "energy_bound", lambda *_: torch.zeros(()))
    assert counted() == 5


TINY: dict[str, dict[str, Any]] = {
    "accuracy": dict(splits=[0, 1], epochs=1, patience=None),
    "published": dict(splits=[0, 1], epochs=dict.fromkeys(PUBLISHED, 1), patience=1, smaller={}),
    "depth": dict(splits=[0, 1], epochs=1, patience=None, depths=[2, 8], methods=["gcn", "nsd_diagonal"]),
} | {name: {k: v for k, v in small.items() if k != "dataset"} for name, small in UNTRAINED.items()}


@pytest.mark.parametrize(("profile", "splits"), [("standard", [0, 1]), ("quick", [0])])
def test_every_claim_is_judged_by_the_rows_of_its_experiment(profile: str, splits: list[int]) -> None:
    tiny = {name: {**small, **({"splits": splits} if "splits" in small else {})} for name, small in TINY.items()}
    assert_claims_are_judged(SLUG, profile, tiny)

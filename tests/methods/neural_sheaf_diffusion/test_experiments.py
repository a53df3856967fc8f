"""What the experiments rest on: published settings, one way of training, contenders that learn."""

from __future__ import annotations

import torch

from assay.experiment import Run
from methods.neural_sheaf_diffusion import experiments
from methods.neural_sheaf_diffusion.contenders import CONTENDERS, SheafRecipe, features, train
from methods.neural_sheaf_diffusion.hotpaths import diagonal_step, index_of_graph
from methods.neural_sheaf_diffusion.peer import epochs_of
from methods.shared.graph import load_graph
from methods.shared.sparse import SparseMatrix


def test_the_sheaf_beats_chance_on_the_generated_graph_and_the_seed_decides() -> None:
    data = load_graph("heterophilous_ring", seed=0, num_splits=1)
    recipe = SheafRecipe(stalk_dim=2, hidden_channels=8)
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        found.append(train("nsd_diagonal", data, recipe, epochs=50)[1])
    assert found[0] == found[1]
    assert found[0].test_accuracy > 0.45


def test_bags_of_words_become_sparse_and_other_features_stay_dense() -> None:
    data = load_graph("heterophilous_ring", seed=0, num_splits=1)
    assert features(data) is data.x
    data.x = torch.eye(data.num_nodes)
    assert isinstance(features(data), SparseMatrix)


def test_the_model_that_validation_prefers_is_the_one_reported() -> None:
    run = Run("accuracy", "quick", 0, "heterophilous_ring")
    experiments.accuracy.function(run, splits=[0], epochs=3, patience=None)
    rows = {(row.method, row.metric): row.value for row in run.rows}
    assert {method for method, _ in rows} == {*CONTENDERS, "nsd"}
    best = max(experiments.SHEAVES[:2], key=lambda name: rows[name, "val_accuracy"])
    assert rows["nsd", "accuracy"] == rows[best, "accuracy"]


def test_the_race_is_between_epochs_that_train() -> None:
    data = load_graph("heterophilous_ring", seed=0, num_splits=1)
    contenders = epochs_of(data, "orthogonal")
    assert set(contenders) == {"nsd", "pyg_nsd"}
    for epoch in contenders.values():
        epoch()


def test_hot_paths_return_the_call_to_time() -> None:
    diagonal_step()()
    index_of_graph()()


def test_every_method_of_the_search_has_the_same_number_of_choices() -> None:
    spaces = [contender.space for contender in CONTENDERS.values()]
    assert len({tuple(len(values) for values in space.values()) for space in spaces}) == 1

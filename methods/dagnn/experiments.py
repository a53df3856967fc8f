"""The experiments of DAGNN: accuracy, the gate, depth, few labels, the limit of propagation, and time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.datasets import KarateClub
from torch_geometric.transforms import LargestConnectedComponents, RandomNodeSplit
from torch_geometric.utils import to_undirected

from assay.contenders import spent
from assay.experiment import MethodRows, Run, experiment, seed_everything
from methods.dagnn.contenders import CONTENDERS, DEPTH, GENERATED, TWINS, train
from methods.dagnn.smoothness import (
    distance_to_limit,
    fitted_rate,
    limit_vector,
    second_eigenvalue,
    smv,
)
from methods.dagnn.training import Recipe, Task, make_task, optimizer_of
from methods.shared.graph import load_graph, normalized_adjacency, propagation
from methods.shared.node_classification import Fit, fit
from methods.shared.search import search_space
from methods.shared.sparse import SparseMatrix

SAMPLE, CITATION, ALL_CITATION = [GENERATED], ["cora", "citeseer"], ["cora", "citeseer", "pubmed"]
METHODS = ["dagnn", "gcn", "appnp", "sgc"]


def record(m: MethodRows, model: nn.Module, fitted: Fit, trials: int = 1) -> None:
    """What a training run has shown, and what it took."""
    m.record("accuracy", 100 * fitted.test_accuracy, unit="%")
    m.record("val_accuracy", 100 * fitted.val_accuracy, unit="%")
    m.record("train_accuracy", 100 * fitted.train_accuracy, unit="%")
    m.record("epochs", fitted.epochs, evidence="counted")
    spent(m, model, steps=fitted.epochs, trials=trials)


@experiment(
    quick=dict(replicates=3, datasets=SAMPLE, methods=["dagnn", "gcn"]),
    standard=dict(replicates=10, datasets=CITATION, methods=METHODS),
    gpu=dict(replicates=100, datasets=ALL_CITATION, methods=METHODS),
    timeout=3600,
)
def accuracy(run: Run, methods: list[str]) -> None:
    """Test accuracy on the given split, at the published hyper-parameters."""
    tasks = tasks_of(load_graph(str(run.dataset)), run.device)
    for method in methods:
        recipe = CONTENDERS[method].recipe_on(run.dataset)
        with run.method(method) as m:
            record(m, *train(method, tasks[recipe.normalize], recipe))


def tasks_of(data: Data, device: torch.device) -> dict[bool, Task]:
    """The graph with the rows of its features divided by their sums, and without."""
    return {normalize: make_task(data, device, normalize=normalize) for normalize in (True, False)}


@experiment(
    standard=dict(replicates=6, datasets=CITATION, epochs=400),
    gpu=dict(replicates=20, datasets=ALL_CITATION, epochs=1_000),
    timeout=3600,
)
def gate(run: Run, epochs: int) -> None:
    """DAGNN and the ungated sum, each with the weight decay that does best on its validation vertices."""
    task = make_task(load_graph(str(run.dataset)), run.device)
    for method in ("dagnn", "ungated"):
        contender = CONTENDERS[method]
        recipe = replace(contender.recipe_on(run.dataset), epochs=epochs)
        with run.method(method) as m:
            found = search_space(contender, partial(train, method, task), recipe, by=lambda fit: fit[1].val_accuracy)
            record(m, *found.best.result, trials=found.trials)
            m["weight_decay"] = found.best.settings["weight_decay"]


@experiment(
    quick=dict(replicates=3, datasets=SAMPLE, depths=dict(dagnn=[10, 50], last_hop=[16], gcn=[2, 16], mlp=[16])),
    standard=dict(
        replicates=6, datasets=["cora"],
        depths=dict(dagnn=[2, 10, 50], last_hop=[2, 16], gcn=[2, 4, 8, 16], mlp=[2, 16]),
    ),
    gpu=dict(
        replicates=20, datasets=ALL_CITATION,
        depths=dict(
            dagnn=[2, 5, 10, 16, 20, 50, 100, 200], last_hop=[2, 5, 10, 16, 20, 50, 100, 200],
            gcn=[2, 3, 4, 5, 6, 8, 10, 16, 32], mlp=[2, 4, 8, 16],
        ),
    ),
    timeout=7200,
)  # fmt: skip
def depth_sweep(run: Run, depths: dict[str, list[int]]) -> None:
    """Accuracy against the number of propagations, and how smooth the logits end up.

    DAGNN keeps its published recipe; the coupled GCN, the decoupled last hop and the MLP share one. The MLP shows what
    many transformations do without any propagation.
    """
    data = load_graph(str(run.dataset))
    for method, numbers in depths.items():
        recipe = DEPTH[method].recipe_on(run.dataset)
        task = make_task(data, run.device, normalize=recipe.normalize)
        for depth in numbers:
            with run.method(method, depth=depth) as m:
                model, fitted = train(method, task, replace(recipe, depth=depth))
                record(m, model, fitted)
                m["smv"] = logits_smv(model, task)


@torch.no_grad()
def logits_smv(model: nn.Module, task: Task) -> float:
    """SMV of what the model says without dropout."""
    return smv(model.eval()(task.x, task.adjacency))


@experiment(
    quick=dict(datasets=SAMPLE, depths=[1, 4, 16, 64, 256]),
    standard=dict(datasets=["cora"], depths=[1, 4, 16, 64, 256]),
    gpu=dict(datasets=ALL_CITATION, depths=[1, 2, 4, 8, 16, 32, 64, 128, 256, 512]),
)
def feature_smoothness(run: Run, depths: list[int]) -> None:
    """SMV of raw features that are propagated and nothing else, A^k X, on the largest component."""
    data = LargestConnectedComponents()(load_graph(str(run.dataset))).to(run.device)
    adjacency = propagation(data.edge_index, data.num_nodes)
    h, done = data.x, 0
    for depth in depths:
        for _ in range(depth - done):
            h = adjacency @ h
        done = depth
        run.value("smv", smv(h), evidence="measured", depth=depth)


@experiment(
    standard=dict(replicates=6, datasets=["cora"], methods=["dagnn", "gcn"], labels=[1, 5, 20], draws=[3, 1, 1]),
    gpu=dict(
        replicates=50, datasets=ALL_CITATION, methods=METHODS, labels=[1, 2, 3, 4, 5, 10, 20],
        draws=[3, 3, 3, 3, 1, 1, 1],
    ),
    timeout=7200,
)  # fmt: skip
def few_labels(run: Run, methods: list[str], labels: list[int], draws: list[int]) -> None:
    """Accuracy against the labels of a class, on random splits: 500 vertices for validation, 1,000 for testing.

    The split is the replicate; fewer labels are drawn from its 20 a class. With a single label a class it matters most
    which vertices those are, so the accuracy is the mean over some draws.
    """
    seed_everything(run.seed)
    split = RandomNodeSplit("random", num_train_per_class=20, num_val=500, num_test=1_000)(load_graph(str(run.dataset)))
    tasks = tasks_of(split, run.device)
    for count, repeats in zip(labels, draws, strict=True):
        trains = [thinned(tasks[True].masks.train, tasks[True].y, count) for _ in range(repeats)]
        for method in methods:
            recipe = CONTENDERS[method].recipe_on(run.dataset)
            task = tasks[recipe.normalize]
            with run.method(method, labels_per_class=count) as m:
                parts = [replace(task, masks=task.masks._replace(train=labelled)) for labelled in trains]
                scores = [train(method, part, recipe)[1].test_accuracy for part in parts]
                m.record("accuracy", 100 * sum(scores) / len(scores), unit="%")


def thinned(vertices: Tensor, y: Tensor, count: int) -> Tensor:
    """`count` of the vertices of each class, at random."""
    shuffled = vertices[torch.randperm(len(vertices)).to(vertices.device)]
    label = y[shuffled].unsqueeze(1)
    place = F.one_hot(label.squeeze(1)).cumsum(dim=0).gather(1, label).squeeze(1)  # in its class, from 1
    return shuffled[place <= count]


@experiment(
    quick=dict(datasets=[], powers=[1, 2, 4, 8, 16, 32]),
    standard=dict(datasets=[], powers=[1, 2, 4, 8, 16, 32, 64]),
)
def depth_limit(run: Run, powers: list[int]) -> None:
    """How fast A^k comes to its limit v v^T: by matrix powers, and by the second eigenvalue."""
    for name, data in connected_graphs().items():
        adjacency = normalized_adjacency(data.edge_index, data.num_nodes, torch.float64).to_dense()
        v, _ = limit_vector(data.edge_index, data.num_nodes)
        distances = distance_to_limit(adjacency, v, powers)
        for power, distance in zip(powers, distances, strict=True):
            run.value("distance", distance, graph=name, depth=power)
        rate, second = fitted_rate(powers, distances), second_eigenvalue(adjacency)
        run.value("rate", rate, graph=name)
        run.value("second_eigenvalue", second, graph=name)
        run.value("rate_over_eigenvalue", rate / second, graph=name)


def connected_graphs() -> dict[str, Data]:
    """A path, a social network, and the largest component of a generated graph (200 vertices drawn)."""
    small = load_graph("csbm_clustered", num_nodes=200)
    path = to_undirected(torch.tensor([[0, 1], [1, 2]]))
    return {
        "path": Data(edge_index=path, num_nodes=3),
        "karate": KarateClub()[0],
        "csbm": LargestConnectedComponents()(small),
    }


@experiment(
    standard=dict(replicates=5, datasets=["cora"], methods=METHODS, pairs=30),
    gpu=dict(replicates=5, datasets=ALL_CITATION, methods=METHODS, pairs=100),
    timed=True, timeout=1800,
)  # fmt: skip
def epoch_time(run: Run, methods: list[str], pairs: int) -> None:
    """An epoch (a step, and an evaluation of all vertices) of ours and of torch-geometric's parts."""
    data, contenders = load_graph(str(run.dataset)).to(run.device), {}
    for method in methods:
        recipe = CONTENDERS[method].recipe_on(run.dataset)
        task = make_task(data, run.device, normalize=recipe.normalize)
        dense = task.x.to_dense() if isinstance(task.x, SparseMatrix) else task.x
        seed_everything(run.seed)
        ours, twin = CONTENDERS[method].build(task, recipe), TWINS[method].build(task, recipe)
        contenders[method] = epoch_of(ours, task, recipe, (task.x, task.adjacency))
        contenders[f"pyg_{method}"] = epoch_of(twin, task, recipe, (dense, data.edge_index))
    run.race(contenders, pairs=pairs)


def epoch_of(model: nn.Module, task: Task, recipe: Recipe, inputs: tuple[object, object]) -> Callable[[], object]:
    """One epoch to be timed. `inputs` are what the model takes: features, and arcs or the propagation."""
    optimizer = optimizer_of(model, recipe)
    return lambda: fit(model, lambda: model(*inputs), task.y, task.masks, optimizer, 1, select="loss")

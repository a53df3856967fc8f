"""The experiments of Neural Sheaf Diffusion: separation, accuracy under heterophily, depth, energy, and speed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data

from assay.contenders import spent
from assay.experiment import MethodRows, Run, experiment, seed_everything
from methods.neural_sheaf_diffusion import theory
from methods.neural_sheaf_diffusion.contenders import CONTENDERS, PUBLISHED, Recipe, train, without_sheaf
from methods.shared.graph import load_graph
from methods.shared.node_classification import Fit
from methods.shared.sheaf import MapLearner, SheafIndex, SheafLaplacian

RING, WEBKB = ["heterophilous_ring"], ["texas", "wisconsin", "cornell"]
SHEAVES = ["nsd_diagonal", "nsd_orthogonal", "nsd_general"]
ONE, TEN = [0], list(range(10))  # splits of a graph
NINE = [*WEBKB, "chameleon", "squirrel", "actor", "cora_ten_splits", "citeseer_ten_splits"]


def load(run: Run) -> Data:
    """The data set with its features' rows summing to 1; a generated one is drawn anew by each seed."""
    if run.dataset in RING:
        return load_graph(run.dataset, seed=run.seed, num_splits=1).to(run.device)
    return load_graph(str(run.dataset), normalize_features=True).to(run.device)


def fit(
    run: Run, m: MethodRows, name: str, data: Data, split: int, recipe: Recipe, epochs: int, patience: int | None
) -> Fit:
    """Train, and record the test accuracy and what it took. Initial weights and dropout belong to seed and split."""
    seed_everything(len(TEN) * run.seed + split)
    model, result = train(name, data, recipe, split, epochs, patience)
    m.record("accuracy", 100 * result.test_accuracy, unit="%")
    spent(m, model, steps=result.epochs)
    return result


def recipe_of(run: Run, name: str) -> Recipe:
    """Tuned on the WebKB graphs with the same number of trials for each method; the usual one for generated data."""
    recipe = CONTENDERS[name].recipe_on(run.dataset)
    return recipe if run.dataset in RING else replace(recipe, **run.tuned(name))


def validation_score(method: str, hyperparameters: dict[str, Any], seed: int) -> float:
    """Mean validation accuracy on the first split of each WebKB graph: for `assay tune`.

    The same split for all trials, since splits differ more than hyperparameters do.
    """
    scores = []
    for name in WEBKB:
        data = load_graph(name, normalize_features=True)
        recipe = replace(CONTENDERS[method].recipe_on(name), **hyperparameters)
        scores.append(train(method, data, recipe, epochs=100, patience=40)[1].val_accuracy)
    return sum(scores) / len(scores)


@experiment(
    quick=dict(replicates=3, datasets=RING, splits=ONE, epochs=100, patience=None),
    standard=dict(replicates=3, datasets=WEBKB, splits=TEN, epochs=100, patience=50),
    gpu=dict(replicates=3, datasets=NINE, splits=TEN, epochs=500, patience=200),
    timeout=6 * 3600,
)
def accuracy(run: Run, splits: list[int], epochs: int, patience: int | None) -> None:
    """Test accuracy of every contender at the best epoch of the validation loss, on every split.

    `nsd` is, in each split, the diagonal or the orthogonal model, whichever the validation prefers.
    """
    data = load(run)
    for split in splits:
        found = {}
        for name in CONTENDERS:
            with run.method(name, split=split) as m:
                found[name] = result = fit(run, m, name, data, split, recipe_of(run, name), epochs, patience)
                m.record("val_accuracy", 100 * result.val_accuracy, unit="%")
                if split == splits[0]:
                    some = range(0, result.epochs, 5)
                    curve = [100 * result.history.val_accuracy[epoch] for epoch in some]
                    m.curve("val_accuracy_by_epoch", x=some, y=curve, x_name="epoch")
        with run.method("nsd", split=split) as m:
            m.record("accuracy", 100 * preferred(found).test_accuracy, unit="%")


def preferred(found: dict[str, Fit]) -> Fit:
    """The diagonal or the orthogonal model, whichever the validation prefers."""
    return max((found[name] for name in SHEAVES[:2]), key=lambda fit: fit.val_accuracy)


@experiment(
    standard=dict(replicates=3, datasets=[*WEBKB, "chameleon"], splits=TEN, epochs={"chameleon": 100}, patience=100,
                  smaller={"chameleon": dict(stalk_dim=2, num_layers=3)}),
    gpu=dict(replicates=3, datasets=[*WEBKB, "chameleon", "squirrel"], splits=TEN, patience=200, smaller={},
             epochs={"texas": 1500, "wisconsin": 500, "cornell": 500, "chameleon": 1000, "squirrel": 1000}),
    timeout=12 * 3600,
)  # fmt: skip
def published(
    run: Run, splits: list[int], epochs: dict[str, int], patience: int, smaller: dict[str, dict[str, int]]
) -> None:
    """The variant and the hyperparameters that the paper's repository publishes, and the same network without a sheaf.

    epochs: at most, where not 300. smaller: what is smaller here than published.
    """
    data, name = load(run), str(run.dataset)
    maps, recipe = PUBLISHED[name]
    recipe = replace(recipe, **smaller.get(name, {}))
    for split in splits:
        for method, variant, own in (
            ("nsd", f"nsd_{maps}", recipe),
            ("nsd_identity", "nsd_identity", without_sheaf(recipe)),
        ):
            with run.method(method, split=split) as m:
                m["epochs"] = fit(run, m, variant, data, split, own, epochs.get(name, 300), patience).epochs


@experiment(
    quick=dict(replicates=3, datasets=RING, splits=ONE, depths=[2, 8], methods=["gcn", "nsd_diagonal"], epochs=80,
               patience=None),
    standard=dict(replicates=3, datasets=["texas", "wisconsin"], splits=TEN, depths=[2, 4, 8],
                  methods=["gcn", "nsd_diagonal"], epochs=100, patience=50),
    gpu=dict(replicates=3, datasets=[*WEBKB, "chameleon"], splits=TEN, depths=[2, 4, 8, 16],
             methods=["gcn", "gcn2", "nsd_identity", "nsd_diagonal", "nsd_orthogonal"], epochs=500, patience=200),
    timeout=12 * 3600,
)  # fmt: skip
def depth(
    run: Run, splits: list[int], depths: list[int], methods: list[str], epochs: int, patience: int | None
) -> None:
    """Test accuracy against the number of layers, everything else as tuned."""
    data = load(run)
    for split in splits:
        for name in methods:
            for layers in depths:
                with run.method(name, layers=layers, split=split) as m:
                    recipe = replace(recipe_of(run, name), num_layers=layers)
                    fit(run, m, name, data, split, recipe, epochs, patience)


@experiment(quick=dict(datasets=[], sides=[4, 20]), standard=dict(datasets=[], sides=[4, 20, 50]))
def bipartite_limit(run: Run, sides: list[int]) -> None:
    """Limits of diffusion on K_{a,a}: what a threshold reads of the part a node is in (Propositions 9 and 10)."""
    for side in sides:
        index, part = theory.complete_bipartite(side)
        strength = 0.5 + torch.rand(index.num_edges, dtype=torch.float64)
        x = torch.randn(2 * side, 1, 1, dtype=torch.float64)
        even = torch.ones(index.num_edges, dtype=torch.float64)
        sheaves = {
            "symmetric": torch.cat([even, even]),
            "signed": theory.signed(index, part == 0, strength),
        }
        for name, maps in sheaves.items():
            with run.method(name, side=side) as m:
                end = theory.limit(SheafLaplacian(index, maps, augmented=False), x).flatten()
                m.record("limit_accuracy", 100 * theory.threshold_accuracy(end, part), unit="%", evidence="counted")


@experiment(
    quick=dict(replicates=3, datasets=[], side=20, steps=200, time=20.0),
    standard=dict(replicates=10, datasets=[], side=20, steps=200, time=20.0),
)
def bipartite_learned(run: Run, side: int, steps: int, time: float) -> None:
    """Scalar maps learnt on K_{a,a} from the features of two overlapping Gaussians, then exact diffusion for `time`.

    `symmetric`: positive, and equal at both ends of an edge. `signed`: as NSD learns them. A linear classifier reads
    the end of the flow; accuracy is on the nodes it is trained on, since the question is what can be expressed.
    """
    index, part = theory.complete_bipartite(side)
    x = torch.randn(2 * side, 2) + torch.where(part == 0, 0.5, -0.5).unsqueeze(1)
    for name in ("symmetric", "signed"):
        with run.method(name) as m:
            maps, logits = learn_scalar_sheaf(index, x, part, name == "symmetric", steps, time)
            m.record("train_accuracy", 100 * float((logits.argmax(1) == part).double().mean()), unit="%")
            transports = maps[: index.num_edges] * maps[index.num_edges :]
            m.record("negative_transports", 100 * float((transports < 0).double().mean()), unit="%")


def learn_scalar_sheaf(
    index: SheafIndex, x: Tensor, y: Tensor, symmetric: bool, steps: int, time: float
) -> tuple[Tensor, Tensor]:
    """Scalar maps (2m,) of features x (N, f), and logits (N, 2), after `steps` steps of Adam on all nodes."""
    learner, classifier = MapLearner(x.shape[1], 1), torch.nn.Linear(x.shape[1], 2)
    parameters = [*learner.parameters(), *classifier.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.05)

    def forward() -> tuple[Tensor, Tensor]:
        scores = learner.scores(x, index).squeeze(1)
        maps = torch.sigmoid(scores + index.reverse(scores)) if symmetric else torch.tanh(scores)
        laplacian = SheafLaplacian(index, maps, augmented=False)
        return maps, classifier(theory.flow(laplacian, x.unsqueeze(1), time).squeeze(1))

    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(forward()[1], y).backward()
        optimizer.step()
    with torch.no_grad():
        return forward()


@experiment(
    quick=dict(datasets=[], classes=[2, 3, 4], draws=3), standard=dict(datasets=[], classes=[2, 3, 4], draws=10)
)
def hierarchy(run: Run, classes: list[int], draws: int) -> None:
    """Share of classes that a hyperplane separates from the others in the limit (Propositions 10 to 13).

    A random connected graph of 24 nodes and 60 edges; the sheaves are those of the proofs.
    """
    generator = torch.Generator().manual_seed(run.seed)
    for num in classes:
        index = theory.connected_graph(24, 60, generator)
        y = torch.arange(24) % num
        strength = 0.5 + torch.rand(index.num_edges, generator=generator, dtype=torch.float64)
        sheaves: dict[str, tuple[Tensor, bool]] = {
            "signed": (theory.signed(index, y == 0, strength), False),
            "diagonal_c": (theory.diagonal(index, y, strength), False),
            "rotations_2": (theory.quarter_turns(index, y), True),
        }
        for name, (maps, orthogonal) in sheaves.items():
            laplacian = SheafLaplacian(index, maps, orthogonal=orthogonal, augmented=False)
            with run.method(name, classes=num) as m:
                shares = []
                for _ in range(draws):
                    x = torch.randn(24, laplacian.dim, 8, generator=generator, dtype=torch.float64)
                    end = theory.limit(laplacian, x).flatten(1)
                    shares += [theory.separable(end, y == c) for c in range(num)]
                share = 100 * sum(shares) / len(shares)
                m.record("separated", share, unit="%", evidence="counted")
                m.record("kernel_dimension", theory.kernel(laplacian).shape[1], evidence="counted")


@experiment(quick=dict(datasets=[], draws=1000), standard=dict(datasets=[], draws=1000))
def energy(run: Run, draws: int) -> None:
    """Theorem 16 over random graphs, positive sheaves and weights; and Proposition 17, which breaks it."""
    generator = torch.Generator().manual_seed(run.seed)
    violations = sum(energy_violated(generator) for _ in range(draws))
    with run.method("positive") as m:
        m.record("violations", violations, evidence="counted")
    with run.method("signed") as m:
        m.record("energy_ratio", raised_energy(0.01), evidence="counted")


def energy_violated(generator: torch.Generator) -> bool:
    """Whether one random positive scalar sheaf breaks the bound, beyond rounding."""
    index = theory.connected_graph(10, 18, generator)
    maps = 0.1 + torch.rand(2 * index.num_edges, generator=generator, dtype=torch.float64)
    laplacian = SheafLaplacian(index, maps)
    x = torch.randn(10, 1, 4, generator=generator, dtype=torch.float64)
    left, right = (torch.randn(k, k, generator=generator, dtype=torch.float64) for k in (1, 4))
    slope = float(torch.rand((), generator=generator))
    after = theory.energy(laplacian, theory.energy_step(laplacian, x, left, right, slope))
    bound = theory.energy_bound(laplacian, left, right) * theory.energy(laplacian, x)
    return bool(after > bound * (1 + 1e-9))


def raised_energy(weight: float) -> float:
    """E(layer(X)) / E(X) on one edge with opposite maps, |W1| = `weight`, X nearly harmonic (Proposition 17)."""
    laplacian = SheafLaplacian(SheafIndex(torch.tensor([[0], [1]])), torch.tensor([1.0, -1.0], dtype=torch.float64))
    x = torch.tensor([1.0, -1.001], dtype=torch.float64).reshape(2, 1, 1)
    one = torch.ones(1, 1, dtype=torch.float64)
    after = theory.energy_step(laplacian, x, weight * one, one)
    return float(theory.energy(laplacian, after) / theory.energy(laplacian, x))


@experiment(
    standard=dict(replicates=5, datasets=["texas", "chameleon"], pairs=30),
    gpu=dict(replicates=5, datasets=["chameleon", "squirrel"], pairs=30),
    timed=True, timeout=3600,
)  # fmt: skip
def epoch_time(run: Run, pairs: int) -> None:
    """A training step and an evaluation of two layers, d = 3, f = 16: ours, and torch-geometric's parts composed."""
    # torch-geometric's message passing takes long to import, and only the race needs it
    from methods.neural_sheaf_diffusion.peer import epochs_of

    data = load(run)
    for maps in ("diagonal", "orthogonal"):
        run.race(epochs_of(data, maps), pairs=pairs, maps=maps)

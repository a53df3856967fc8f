"""The experiments of DGMLP: what ruins deep graph networks, what DGMLP gains, and what it costs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import nn

from assay.contenders import spent
from assay.experiment import MethodRows, Run, experiment, seed_everything
from methods.dgmlp.baselines import PeerDGMLP
from methods.dgmlp.contenders import CONTENDERS, FAMILIES, PUBLISHED, optimizer_of
from methods.dgmlp.dgmlp import DGMLP, graph_smoothing_levels, smoothed_features
from methods.dgmlp.scaling import METHODS, SHAPES, Study, smooth_and_step, smoother, stepper
from methods.dgmlp.training import Recipe, Task, fit_deep, fit_rows, last_accuracy, load_task, row_forward
from methods.shared.graph import propagation
from methods.shared.node_classification import Fit, fit

QUICK, CITATION, PAPER = ["csbm_clustered"], ["cora", "citeseer"], ["pubmed"]


def record(m: MethodRows, model: nn.Module, result: Fit) -> None:
    """Accuracies in percent at the epoch of best validation accuracy, and what it took."""
    m.record("accuracy", 100 * result.test_accuracy, unit="%")
    m.record("train_accuracy", 100 * result.train_accuracy, unit="%")
    m.record("val_accuracy", 100 * result.val_accuracy, unit="%")
    spent(m, model, steps=result.epochs)


def classify(m: MethodRows, name: str, task: Task, recipe: Recipe) -> None:
    """Train one linear layer on a mix of the hops, and record its best epoch and its last."""
    model, features = CONTENDERS[name].build(task, recipe)
    record(m, model, fit_rows(model, features, task, recipe))
    m.record("last_accuracy", 100 * last_accuracy(model, features, task), unit="%")


@experiment(
    quick=dict(replicates=3, datasets=QUICK, sgc_hops=[2, 10]),
    standard=dict(replicates=10, datasets=CITATION, sgc_hops=[2, 10]),
    gpu=dict(replicates=10, datasets=PAPER, sgc_hops=[2, 10]),
)
def same_protocol(run: Run, sgc_hops: list[int]) -> None:
    """Mixes of the hops under one classifier, one recipe (DGMLP's own) and one rule for the epoch that is kept.

    `last_accuracy` is that of the last epoch: what is left without choosing an epoch by 500 validation labels.
    """
    task, recipe = load_task(run), CONTENDERS["dgmlp"].recipe_on(run.dataset)
    for name in ("dgmlp", "dgmlp_paper", "uniform"):
        with run.method(name) as m:
            classify(m, name, task, recipe)
    for K in sgc_hops:
        with run.method("sgc", hops=K) as m:
            classify(m, "sgc", task, replace(recipe, K=K))


@experiment(
    standard=dict(replicates=10, datasets=CITATION, epochs=200),
    gpu=dict(replicates=10, datasets=PAPER, epochs=200),
)
def published_protocol(run: Run, epochs: int) -> None:
    """Baselines at the hyper-parameters that their own authors published, all with row-normalised features.

    SGC and S2GC keep the last epoch. GCN has 16 hidden units, dropout 0.5, weight decay 5e-4 on its first layer only,
    Adam 0.01 and the epoch of lowest validation loss among `epochs`.
    """
    task = load_task(run, normalize=True)
    for name in ("sgc", "s2gc"):
        with run.method(name) as m:
            recipe = PUBLISHED[name].recipe_on(run.dataset)
            model, x = PUBLISHED[name].build(task, recipe)
            fit_rows(model, x, task, recipe)
            m.record("accuracy", 100 * last_accuracy(model, x, task), unit="%")
            spent(m, model, steps=recipe.epochs)
    with run.method("gcn") as m:
        gcn = PUBLISHED["gcn"].build(task, PUBLISHED["gcn"].recipe)
        first, second = (linear.parameters() for linear in gcn.linears)
        optimizer = torch.optim.Adam([{"params": first, "weight_decay": 5e-4}, {"params": second}], lr=0.01)
        record(m, gcn, fit_deep(gcn, task, optimizer, epochs, select="loss"))


DEPTHS = dict(
    gcn=[2, 4, 8, 16], gcn_two_hops=[2, 4, 8], gcn_two_layers=[2, 8, 16], resgcn=[8, 16], densegcn=[8],
    mlp=[2, 4, 8, 16], mlp_res=[8, 16], mlp_dense=[8],
)  # fmt: skip
FEW_DEPTHS = dict(gcn=[2, 8, 16], gcn_two_layers=[2, 8, 16], resgcn=[8], mlp=[2, 8], mlp_res=[8])
RAW_DEPTHS = dict(gcn=[2, 8, 16], gcn_two_layers=[8, 16])
FULL_DEPTHS = {name: [1, 2, 3, 4, 6, 8, 16] for name in FAMILIES} | dict(gcn_two_layers=[2, 4, 8, 12, 16, 32])


@experiment(
    quick=dict(
        replicates=3, datasets=QUICK, hidden=64, epochs=60, normalize=False,
        depths={"csbm_clustered": dict(gcn=[2, 16], gcn_two_layers=[2, 16], mlp=[2, 8], mlp_res=[8])},
    ),
    standard=dict(
        replicates=6, datasets=CITATION, hidden=32, epochs=100, normalize=True,
        depths={"cora": DEPTHS, "citeseer": FEW_DEPTHS},
    ),
    gpu=dict(
        replicates=10, datasets=PAPER, hidden=64, epochs=200, normalize=False, depths={"pubmed": FULL_DEPTHS},
    ),
    timeout=3600,
)  # fmt: skip
def depth_sweep(run: Run, hidden: int, epochs: int, normalize: bool, depths: dict[str, dict[str, list[int]]]) -> None:
    """Accuracy against depth for the GCN and the perceptron families; `depth` as `FAMILIES` says.

    Also `gradient`, the mean over epochs of the mean |d loss / d W| of the first layer: what is left of the error after
    it has come back through all others.
    """
    _sweep(run, load_task(run, normalize=normalize), hidden, epochs, depths[run.dataset])


@experiment(standard=dict(replicates=6, datasets=["cora"], hidden=32, epochs=100, depths=RAW_DEPTHS), timeout=3600)
def depth_sweep_raw(run: Run, hidden: int, epochs: int, depths: dict[str, list[int]]) -> None:
    """The same on raw 0/1 features, which are 18 times as large as normalised ones and so a different start."""
    _sweep(run, load_task(run), hidden, epochs, depths)


def _sweep(run: Run, task: Task, hidden: int, epochs: int, depths: dict[str, list[int]]) -> None:
    for name, sizes in depths.items():
        for depth in sizes:
            with run.method(name, depth=depth) as m:
                recipe = replace(CONTENDERS[name].recipe, depth=depth, hidden=hidden)
                model, gradients = CONTENDERS[name].build(task, recipe), []
                model.linears[0].weight.register_hook(lambda g, seen=gradients: seen.append(float(g.abs().mean())))
                record(m, model, fit_deep(model, task, optimizer_of(model, recipe), epochs, select=recipe.select))
                m["gradient"] = sum(gradients) / len(gradients)
                m.curve("first_layer_gradient", x=range(1, len(gradients) + 1, 5), y=gradients[::5], x_name="epoch")


@experiment(
    quick=dict(replicates=3, datasets=QUICK, hops={"csbm_clustered": dict(sgc=[1, 2, 10, 20], dgmlp=[10, 20])}),
    standard=dict(
        replicates=6, datasets=CITATION,
        hops={"cora": dict(sgc=[1, 2, 5, 10, 20, 40], dgmlp=[1, 5, 40]), "citeseer": dict(sgc=[1, 10])},
    ),
    gpu=dict(
        replicates=10, datasets=PAPER,
        hops={"pubmed": dict(sgc=[1, 2, 5, 10, 20, 40], dgmlp=[1, 2, 5, 10, 20, 40])},
    ),
)  # fmt: skip
def hop_sweep(run: Run, hops: dict[str, dict[str, list[int]]]) -> None:
    """Accuracy of SGC and DGMLP against the number of hops, under DGMLP's recipe."""
    task = load_task(run)
    for name, sizes in hops[run.dataset].items():
        for K in sizes:
            with run.method(name, hops=K) as m:
                classify(m, name, task, replace(CONTENDERS[name].recipe_on(run.dataset), K=K))


@experiment(quick=dict(datasets=QUICK, K=40), standard=dict(datasets=CITATION, K=40), gpu=dict(datasets=PAPER, K=40))
def smoothing_levels(run: Run, K: int) -> None:
    """The graph smoothing level at hops 0..K, with the stationary state of the code and with that of the text."""
    task = load_task(run)
    for stationary in ("code", "paper"):
        levels = graph_smoothing_levels(task.x, task.adjacency, K, stationary=stationary)
        for hops, level in enumerate(levels.tolist()):
            run.value("smoothing_level", level, evidence="measured", stationary=stationary, hops=hops)


@experiment(standard=dict(replicates=10, datasets=["cora"], kept=[1.0, 0.5, 0.25], hops=[2, 4, 10]))
def sparsity(run: Run, kept: list[float], hops: list[int]) -> None:
    """Accuracy of SGC against the number of hops where only a share of the edges, drawn by the seed, is kept."""
    for share in kept:
        task = load_task(run, kept=share)
        for K in hops:
            with run.method("sgc", hops=K, kept=share) as m:
                classify(m, "sgc", task, replace(CONTENDERS["sgc"].recipe_on(run.dataset), K=K))


@experiment(
    standard=dict(replicates=5, datasets=[], sizes=[1000, 2000, 4000, 8000, 16000], num_features=32, degree=10,
                  pairs=30),
    gpu=dict(replicates=5, datasets=[], sizes=[62_500, 125_000, 250_000, 500_000, 1_000_000], num_features=100,
             degree=10, pairs=30),
    timed=True, timeout=3600,
)  # fmt: skip
def scaling(run: Run, sizes: list[int], num_features: int, degree: float, pairs: int) -> None:
    """Time of DGMLP's pre-processing and of an epoch of each method against the number of vertices, at equal width."""
    for n in sizes:
        seed_everything(run.seed)
        study = Study.draw(n, degree, num_features, run.seed, run.device)
        contenders = {f"{name}[phase=epoch]": stepper(name, SHAPES["equal"], study) for name in METHODS}
        run.race({**contenders, "dgmlp[phase=smoothing]": smoother(study)}, pairs=pairs, n=n)


@experiment(
    standard=dict(replicates=5, datasets=[], sizes=[500, 1000, 2000, 4000, 8000], num_features=32, probability=0.0025,
                  pairs=30),
    gpu=dict(replicates=3, datasets=[], sizes=[62_500, 125_000, 250_000, 500_000, 1_000_000], num_features=100,
             probability=1e-4, pairs=5),
    timed=True, timeout=3600,
)  # fmt: skip
def scaling_fixed_probability(run: Run, sizes: list[int], num_features: int, probability: float, pairs: int) -> None:
    """The same where each pair is joined with a fixed probability, as in the paper: edges grow as the square of n."""
    for n in sizes:
        seed_everything(run.seed)
        study = Study.draw(n, probability * (n - 1), num_features, run.seed, run.device)
        contenders = {"dgmlp[phase=epoch]": stepper("dgmlp", SHAPES["equal"], study)}
        run.race({**contenders, "dgmlp[phase=smoothing]": smoother(study)}, pairs=pairs, n=n)
        run.value("edges", study.edge_index.shape[1] // 2, n=n)


@experiment(
    quick=dict(datasets=[], sizes=[125, 250, 500, 1000, 2000], num_features=16, degree=10),
    standard=dict(datasets=[], sizes=[1000, 2000, 4000, 8000, 16000], num_features=100, degree=10),
    gpu=dict(datasets=[], sizes=[62_500, 125_000, 250_000, 500_000, 1_000_000], num_features=100, degree=100),
)
def scaling_memory(run: Run, sizes: list[int], num_features: int, degree: float) -> None:
    """Peak memory of pre-processing and an epoch, beside features and graph, against the number of vertices."""
    for n in sizes:
        study = Study.draw(n, degree, num_features, run.seed, run.device)
        for form, shape in SHAPES.items():
            for name in METHODS:
                run.memory(name, partial(smooth_and_step, name, shape, study), shape=form, n=n)


@experiment(
    quick=dict(datasets=[], n=500, num_features=100, hops=[5, 10, 20, 40]),
    standard=dict(datasets=[], n=2000, num_features=100, hops=[5, 10, 20, 40, 80]),
    gpu=dict(datasets=[], n=100_000, num_features=100, hops=[5, 10, 20, 40, 80]),
)
def hop_memory(run: Run, n: int, num_features: int, hops: list[int]) -> None:
    """Peak memory of the smoothed features against the number of hops, beside features and graph."""
    study = Study.draw(n, 10, num_features, run.seed, run.device)
    adjacency = propagation(study.edge_index, n)
    for K in hops:
        run.memory("dgmlp", partial(smoothed_features, study.x, adjacency, K), hops=K)
        peer = PeerDGMLP(num_features, 10, K, dropout=0.0)
        run.memory("pyg_dgmlp", partial(peer.smooth, study.x, study.edge_index), hops=K)


@experiment(
    standard=dict(replicates=5, datasets=["cora"], pairs=30),
    gpu=dict(replicates=5, datasets=PAPER, pairs=30),
    timed=True,
)  # fmt: skip
def peer_time(run: Run, pairs: int) -> None:
    """An epoch, a step and an evaluation, of DGMLP on the rows that are needed, and of torch-geometric's parts."""
    task, recipe = load_task(run), CONTENDERS["dgmlp"].recipe_on(run.dataset)
    model = DGMLP(task.x.shape[1], 0, task.num_classes, K=recipe.K, dropout=recipe.dropout).to(run.device)
    peer = PeerDGMLP(task.x.shape[1], task.num_classes, recipe.K, recipe.dropout).to(run.device)
    features = model.smooth(task.x, task.adjacency)
    forward, masks = row_forward(model, model, features[task.rows], task.masks)
    y = task.y[task.rows]
    ours, theirs = (
        torch.optim.Adam(m.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay) for m in (model, peer)
    )
    run.race(
        {
            "dgmlp": lambda: fit(model, forward, y, masks, ours, epochs=1),
            "pyg_dgmlp": lambda: fit(peer, lambda: peer(features), task.y, task.masks, theirs, epochs=1),
        },
        pairs=pairs,
    )

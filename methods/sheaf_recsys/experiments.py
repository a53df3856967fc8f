"""The experiments of the sheaf recommender: ranking, the released protocol, over-smoothing, stalks, time, links."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from assay.contenders import spent
from assay.experiment import MethodRows, Run, experiment
from methods.shared.sheaf import SheafIndex
from methods.sheaf_recsys.baselines import symmetric_adjacency
from methods.sheaf_recsys.contenders import CONTENDERS, Recipe
from methods.sheaf_recsys.data import Interactions, load_interactions, most_active
from methods.sheaf_recsys.links import LinkSplit, train_links
from methods.sheaf_recsys.sheaf_recsys import SheafRecommender
from methods.sheaf_recsys.smoothing import last_layer, mean_cosine, two_step_energy
from methods.sheaf_recsys.training import (
    RELEASED_REG,
    TOP,
    Ranking,
    Recommender,
    TripleSampler,
    evaluate,
    fit,
    rank_items,
    train_step,
)

LEARNED = ("sheaf", "lightgcn", "mf", "ngcf", "gat")
FIXED = Recipe(lr=5e-3)  # where depths or stalks are compared
TUNING_EPOCHS = 5

SMALL = dict(users=300, items=500, dim=16)
WHOLE = dict(users=None, items=None, dim=64)
FILMS = ["movielens_100k"]


def load_films(run: Run, users: int | None, items: int | None) -> Interactions:
    """MovieLens-100K on the run's device, or its most active users and items."""
    data = load_interactions()
    if users is not None and items is not None:
        data = most_active(data, users, items)
    return data.to(run.device)


def recipe_of(run: Run, method: str, dim: int, tuned: bool) -> Recipe:
    """As `assay tune` found it, or the one setting for all."""
    return replace(CONTENDERS[method].recipe, dim=dim, **(run.tuned(method) if tuned else {}))


def validation_score(method: str, hyperparameters: dict[str, Any], seed: int) -> float:
    """F1@10 on the validation interactions, of the best of five epochs; for `assay tune`."""
    data, recipe = load_interactions(), replace(CONTENDERS[method].recipe, **hyperparameters)
    built = CONTENDERS[method].build(data, recipe)
    if method == "item_knn":
        return rank_items(built, data, "val").at("f1", 10)
    try:
        return fit(*built, data, lr=recipe.lr, reg=recipe.reg, epochs=TUNING_EPOCHS, seed=seed).best
    except FloatingPointError:
        return float("nan")


def _record(m: MethodRows, ranking: Ranking) -> None:
    for metric in ("f1", "precision", "recall", "ndcg"):
        m.record(f"{metric}_at_10", 100 * ranking.at(metric, 10), unit="%")
    m.curve("f1", x=list(TOP), y=[100 * f1 for f1 in ranking.f1], x_name="n", unit="%")


def _fit_and_test(m: MethodRows, method: str, data: Interactions, recipe: Recipe, *, epochs: int, steps: int, seed: int,
                  protocol: str = "fair") -> None:  # fmt: skip
    """Train a contender, judge it on the test interactions and record both."""
    model, graph = CONTENDERS[method].build(data, recipe)
    released = protocol == "released"
    history = fit(model, graph, data, lr=recipe.lr, reg=recipe.reg, epochs=epochs, steps=steps, seed=seed,
                  released_protocol=released)  # fmt: skip
    _record(m, evaluate(model, graph, data, "test", released_protocol=released))
    m["best_epoch"] = history.best_epoch
    m.curve("val_f1", x=history.validated, y=[100 * f1 for f1 in history.score], x_name="epoch", unit="%")
    spent(m, model, steps=epochs * steps)


@experiment(
    quick=dict(replicates=3, datasets=FILMS, **SMALL, epochs=3, steps=30, tuned=False),
    standard=dict(replicates=5, datasets=FILMS, **WHOLE, epochs=10, steps=64, tuned=True),
    gpu=dict(replicates=5, datasets=FILMS, **WHOLE, epochs=100, steps=64, tuned=True),
    timeout=3600,
)
def ranking(run: Run, users: int | None, items: int | None, dim: int, epochs: int, steps: int, tuned: bool) -> None:
    """F1@10 on the test interactions of every method at its tuned setting, all with the same number of steps.

    Without `tuned`, one setting for all: lr 0.01, reg 1e-4, two layers.
    """
    data = load_films(run, users, items)
    for method in LEARNED:
        with run.method(method) as m:
            recipe = recipe_of(run, method, dim, tuned)
            _fit_and_test(m, method, data, recipe, epochs=epochs, steps=steps, seed=run.seed)
    for method in ("item_knn", "popularity"):
        with run.method(method) as m:
            recipe = CONTENDERS[method].recipe
            if tuned and method == "item_knn":
                recipe = replace(recipe, **run.tuned(method))
            _record(m, rank_items(CONTENDERS[method].build(data, recipe), data, "test"))


PROTOCOLS = {"fair": FIXED.reg, "reg_1": RELEASED_REG, "released": RELEASED_REG}
MAIN, OTHERS = ["sheaf", "lightgcn", "mf"], ["ngcf", "gat"]


@experiment(
    quick=dict(replicates=1, datasets=FILMS, **SMALL, epochs=3, steps=20, methods=["sheaf", "lightgcn"], others=[],
               tuned=False),
    standard=dict(replicates=5, datasets=FILMS, **WHOLE, epochs=3, steps=64, methods=MAIN, others=OTHERS, tuned=True),
    gpu=dict(replicates=5, datasets=FILMS, **WHOLE, epochs=100, steps=64, methods=MAIN, others=OTHERS, tuned=True),
    timeout=3600,
)  # fmt: skip
def protocols(run: Run, users: int | None, items: int | None, dim: int, epochs: int, steps: int,
              methods: list[str], others: list[str], tuned: bool) -> None:  # fmt: skip
    """What the released code's slips do to F1@10, each method at the setting that the fair protocol has tuned.

    protocol "fair": reg 1e-4 for all. "reg_1": the L2 term enters with factor 1, nothing else is changed.
    "released": also, seen items leave the ranking by a score of 0 and validation items stay in it. `others` run under
    "released" only.
    """
    data = load_films(run, users, items)
    for method in (*methods, *others):
        for protocol in PROTOCOLS if method in methods else ["released"]:
            with run.method(method, protocol=protocol) as m:
                recipe = replace(recipe_of(run, method, dim, tuned), reg=PROTOCOLS[protocol])
                _fit_and_test(m, method, data, recipe, epochs=epochs, steps=steps, seed=run.seed, protocol=protocol)


@experiment(
    quick=dict(replicates=1, datasets=FILMS, **SMALL, epochs=1, steps=30, depths=[1, 4]),
    standard=dict(replicates=5, datasets=FILMS, **{**WHOLE, "dim": 32}, epochs=2, steps=64, depths=[1, 2, 4, 8]),
    gpu=dict(replicates=5, datasets=FILMS, **WHOLE, epochs=50, steps=64, depths=[1, 2, 3, 4, 5, 6, 7, 8]),
    timeout=3600,
)
def over_smoothing(run: Run, users: int | None, items: int | None, dim: int, epochs: int, steps: int,
                   depths: list[int]) -> None:  # fmt: skip
    """How alike the rows of the last layer X_L are, in networks that were trained with L layers.

    `cosine`: mean cosine similarity of two users and of two items. `energy`: share of the two-step Dirichlet energy,
    1 - |A_hat X|^2 / |X|^2; 0 where neighbours of neighbours are equal up to their degree.
    """
    data = load_films(run, users, items)
    adjacency = symmetric_adjacency(data.edge_index, data.num_nodes)
    for depth in depths:
        for method in ("sheaf", "lightgcn"):
            with run.method(method, layers=depth) as m:
                model, graph = CONTENDERS[method].build(data, replace(FIXED, dim=dim, layers=depth))
                fit(model, graph, data, lr=FIXED.lr, reg=FIXED.reg, epochs=epochs, steps=steps, seed=run.seed)
                spent(m, model, steps=epochs * steps)
                x = last_layer(model, graph)
                m["cosine"] = mean_cosine(x, data.num_users)
                m["energy"] = two_step_energy(x, adjacency)
                m.record("f1_at_10", 100 * evaluate(model, graph, data, "test").at("f1", 10), unit="%")


@experiment(
    quick=dict(replicates=1, datasets=FILMS, **SMALL, epochs=1, steps=10, layers=1),
    standard=dict(replicates=5, datasets=FILMS, **{**WHOLE, "dim": 32}, epochs=3, steps=64, layers=1),
    gpu=dict(replicates=5, datasets=FILMS, **WHOLE, epochs=100, steps=64, layers=3),
    timeout=3600,
)
def stalks(run: Run, users: int | None, items: int | None, dim: int, epochs: int, steps: int, layers: int) -> None:
    """F1@10 of the released layer with stalks of dimension 1 (as released), 2 and 4 at equal embedding width.

    The maps of d > 1 are general d x d matrices. `parameters` differ by less than 3 %: nearly all are embeddings.
    """
    data = load_films(run, users, items)
    graph = SheafIndex(data.edge_index, data.num_nodes)
    for stalk_dim in (1, 2, 4):
        with run.method("sheaf", stalk_dim=stalk_dim) as m:
            model = SheafRecommender(data.num_nodes, dim, layers, stalk_dim).to(run.device)
            fit(model, graph, data, lr=FIXED.lr, reg=FIXED.reg, epochs=epochs, steps=steps, seed=run.seed)
            m.record("f1_at_10", 100 * evaluate(model, graph, data, "test").at("f1", 10), unit="%")
            spent(m, model, steps=epochs * steps)


@experiment(
    quick=dict(replicates=1, datasets=FILMS, **SMALL, layers=1, pairs=5),
    standard=dict(replicates=5, datasets=FILMS, **WHOLE, layers=1, pairs=30),
    gpu=dict(replicates=5, datasets=FILMS, **WHOLE, layers=5, pairs=30),
    timed=True, timeout=1800,
)  # fmt: skip
def step_time(run: Run, users: int | None, items: int | None, dim: int, layers: int, pairs: int) -> None:
    """One training step (draw a batch, forward, backward, Adam) of each model at equal width, layers and batch.

    `_pyg`: the same model composed of torch-geometric's message passing, which is how the paper's code is written.
    """
    data, recipe = load_films(run, users, items), Recipe(dim=dim, layers=layers)
    raced = [*LEARNED, *(name for name in CONTENDERS if name.endswith("_pyg"))]
    steps = {name: _step(*CONTENDERS[name].build(data, recipe), data, run.seed) for name in raced}
    run.race(steps, pairs=pairs, layers=layers)


def _step(model: Recommender, graph: Any, data: Interactions, seed: int) -> Callable[[], object]:
    sampler = TripleSampler(data, seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    return lambda: train_step(model, graph, optimizer, sampler, FIXED.reg)


@experiment(
    quick=dict(replicates=1, datasets=["heterophilous_ring"], class_size=40, degree=16, dim=16, steps=40),
    standard=dict(replicates=6, datasets=["heterophilous_ring"], class_size=100, degree=60, dim=32, steps=200),
    timeout=1800,
)
def links(run: Run, class_size: int, degree: int, dim: int, steps: int) -> None:
    """Hits@20 of held-out edges of a dense generated graph, a stand-in for ogbl-ddi: all models score by dot products.

    Four classes around a ring, 90 % of the edges to the next class on either side. 10 % of the edges are held out for
    validation, which chooses the step, and 10 % for the test. One setting for all: two layers, lr 0.01, full batch.
    """
    split = LinkSplit.draw(run.dataset, class_size, degree, run.seed, run.device)
    for method in ("sheaf", "mf", "gcn", "sage", "lightgcn"):
        with run.method(method) as m:
            recipe = Recipe(dim=dim)
            model, graph = CONTENDERS[method].build(split, recipe)
            hits = train_links(model, graph, split, steps=steps, lr=recipe.lr, seed=run.seed)
            m.record("hits_at_20", 100 * hits, unit="%", evidence="simulated")
            spent(m, model, steps=steps)

"""What the experiments may see and what they record: test interactions, seeds, settings, and rows for every claim."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.experiment import Run, seed_everything
from methods.shared.sheaf import SheafIndex
from methods.sheaf_recsys import SheafConv, SheafRecommender, baselines, experiments
from methods.sheaf_recsys.contenders import CONTENDERS, Recipe
from methods.sheaf_recsys.links import LinkSplit, draw_negatives, hits_at, train_links
from methods.sheaf_recsys.smoothing import last_layer, mean_cosine, two_step_energy
from methods.sheaf_recsys.training import RELEASED_REG, evaluate, fit, rank_items
from tests.methods.blindness import run_small
from tests.methods.claims import assert_claims_are_judged
from tests.methods.sheaf_recsys.small import RING, SMALL, UNTRAINED, films, made_small
from tests.methods.unusual import assert_takes_or_refuses

SLUG = "sheaf_recsys"


@pytest.fixture(autouse=True)
def few_films() -> Iterator[None]:
    with made_small():
        yield


def scores_of(run: Run, metric: str = "f1_at_10") -> dict[tuple[str | None, Any], float]:
    knobs = ("protocol", "stalk_dim", "layers")
    found = {}
    for row in run.rows:
        if row.metric == metric:
            found[row.method, next((row.setting[k] for k in knobs if k in row.setting), None)] = row.value
    return found


def trained(method: str, layers: int, released: bool = False, **learning: Any) -> tuple[Any, Any, float]:
    seed_everything(3)
    model, graph = CONTENDERS[method].build(films(), Recipe(dim=8, layers=layers))
    fit(model, graph, films(), seed=3, released_protocol=released, **learning)
    return model, graph, 100 * evaluate(model, graph, films(), "test", released_protocol=released).at("f1", 10)


@pytest.mark.parametrize("tuned", [True, False])
def test_every_method_is_ranked_by_its_own_setting_and_the_steps_of_all(tuned: bool) -> None:
    run = run_small(SLUG, "ranking", seed=3, **{**SMALL["ranking"], "tuned": tuned})
    found, untuned = scores_of(run), dict(lr=1e-2, reg=1e-4, layers=2, neighbors=50)
    assert {method for method, _ in found} == {"sheaf", "lightgcn", "mf", "ngcf", "gat", "item_knn", "popularity"}
    for method in experiments.LEARNED:
        s = run.tuned(method) if tuned else untuned
        _, _, f1 = trained(method, s.get("layers", 0), lr=s["lr"], reg=s["reg"], epochs=2, steps=2)
        assert found[method, None] == f1, method
    neighbors = (run.tuned("item_knn") if tuned else untuned)["neighbors"]
    for method, scores in (("item_knn", baselines.item_knn(films(), neighbors)),
                           ("popularity", baselines.popularity(films()))):  # fmt: skip
        assert found[method, None] == 100 * rank_items(scores, films(), "test").at("f1", 10)


def test_protocols_differ_in_what_they_say_they_differ_in() -> None:
    run = run_small(SLUG, "protocols", seed=3, **SMALL["protocols"])
    found = scores_of(run)
    cases = {(method, protocol) for method in experiments.MAIN for protocol in experiments.PROTOCOLS}
    assert found.keys() == cases | {(method, "released") for method in experiments.OTHERS}
    for (method, protocol), value in found.items():
        s = run.tuned(str(method))
        reg, released = 1e-4 if protocol == "fair" else RELEASED_REG, protocol == "released"
        _, _, f1 = trained(str(method), s.get("layers", 0), released, lr=s["lr"], reg=reg, epochs=2, steps=2)
        assert value == f1, (method, protocol)


def test_depths_and_stalks_are_compared_at_one_setting() -> None:
    learning = dict(lr=5e-3, reg=1e-4, epochs=1, steps=2)
    run = run_small(SLUG, "over_smoothing", seed=3, **SMALL["over_smoothing"])
    adjacency = baselines.symmetric_adjacency(films().edge_index, films().num_nodes)
    for (method, depth), f1 in scores_of(run).items():
        model, graph, expected = trained(str(method), depth, **learning)
        x = last_layer(model, graph)
        assert f1 == expected
        assert scores_of(run, "cosine")[method, depth] == mean_cosine(x, 30)
        assert scores_of(run, "energy")[method, depth] == two_step_energy(x, adjacency)
    run = run_small(SLUG, "stalks", seed=3, **SMALL["stalks"])
    found = scores_of(run)
    assert [stalk_dim for _, stalk_dim in found] == [1, 2, 4]
    for (_, stalk_dim), f1 in found.items():
        seed_everything(3)
        model, graph = SheafRecommender(90, 8, 1, stalk_dim), SheafIndex(films().edge_index, 90)
        fit(model, graph, films(), seed=3, **learning)
        assert f1 == 100 * evaluate(model, graph, films(), "test").at("f1", 10)
        assert scores_of(run, "parameters")["sheaf", stalk_dim] == sum(p.numel() for p in model.parameters())


def test_links_are_judged_on_the_test_at_the_best_step_of_the_validation() -> None:
    run = run_small(SLUG, "links", seed=3, **SMALL["links"])
    split = LinkSplit.draw(RING, 15, 10, 3, torch.device("cpu"))
    found = scores_of(run, "hits_at_20")
    assert {method for method, _ in found} == {"sheaf", "mf", "gcn", "sage", "lightgcn"}
    for (method, _), value in found.items():
        seed_everything(3)
        model, graph = CONTENDERS[str(method)].build(split, Recipe(dim=4))
        assert value == 100 * train_links(model, graph, split, steps=20, lr=1e-2, seed=3)
        assert value == 100 * hits_at(20, model.get_embedding(graph), split.test)


def test_a_longer_training_of_links_never_keeps_a_step_that_is_worse_on_validation() -> None:
    split, found = LinkSplit.draw(RING, 15, 10, 3, torch.device("cpu")), []
    for steps in range(10, 130, 10):
        torch.manual_seed(0)
        model, graph = CONTENDERS["mf"].build(split, Recipe(dim=4))
        train_links(model, graph, split, steps=steps, lr=0.2, seed=0)
        found.append(hits_at(20, model.get_embedding(graph), split.val))
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_the_step_that_is_kept_and_the_negatives_know_nothing_of_held_out_links() -> None:
    split, kept = LinkSplit.draw(RING, 15, 10, 3, torch.device("cpu")), []
    for given in (split, replace(split, test=split.test[::-1])):
        torch.manual_seed(0)
        model, graph = CONTENDERS["mf"].build(given, Recipe(dim=4))
        train_links(model, graph, given, steps=60, lr=0.05, seed=0)
        kept.append(model.embedding.weight.detach().clone())
    assert torch.equal(*kept)
    a, b = draw_negatives(split, 200_000, torch.Generator().manual_seed(0))
    drawn = torch.zeros_like(split.joined)
    drawn[a, b] = True
    assert torch.equal(drawn, ~split.joined & ~torch.eye(len(drawn), dtype=torch.bool))


def test_a_trial_of_tuning_is_the_best_f1_of_its_validation() -> None:
    seed_everything(0)
    found = experiments.validation_score("mf", dict(lr=0.01, reg=1e-4), 1000)
    seed_everything(0)
    model, graph = CONTENDERS["mf"].build(films(), Recipe())
    fit(model, graph, films(), lr=0.01, reg=1e-4, epochs=5, seed=1000)
    assert found == evaluate(model, graph, films(), "val").at("f1", 10) > 0


def test_ties_count_what_a_random_order_gives_and_nan_is_refused() -> None:
    data = films()
    equal = torch.ones(30, 60)
    allowed = 60 - (data.matrix(data.train) | data.matrix(data.val)).sum(1)
    users = data.matrix(data.test).any(1)
    recall = (10 / allowed[users].double()).clamp(max=1).mean()
    assert rank_items(equal, data, "test").at("recall", 10) == pytest.approx(float(recall))
    pairs = torch.tensor([[0] * 40, list(range(1, 41))])
    assert hits_at(20, torch.ones(41, 1), (pairs[:, :10], pairs[:, 10:])) == pytest.approx(20 / 31)
    equal[3, 4] = torch.nan
    with pytest.raises(ValueError, match="scores: 1 of 1800 are NaN or infinite"):
        rank_items(equal, data, "val")
    with pytest.raises(ValueError, match="NaN or infinite"):
        hits_at(1, torch.full((41, 1), torch.nan), (pairs[:, :10], pairs[:, 10:]))
    with pytest.raises(ValueError, match="split must be one of 'val', 'test'; got 'train'"):
        rank_items(torch.ones(30, 60), data, "train")


def test_a_model_that_diverges_in_its_last_step_is_refused_and_never_kept() -> None:
    data = films()
    model, graph = CONTENDERS["mf"].build(data, Recipe(dim=8))
    with pytest.raises(FloatingPointError, match=r"LightGCN: (scores|the loss)"):
        fit(model, graph, data, epochs=1, lr=1e38, reg=0.0, seed=0, steps=1)


@pytest.mark.parametrize(("stalk_dim", "maps"), [(1, "general"), (2, "general"), (2, "diagonal")])
def test_unusual_inputs_are_taken_or_refused(stalk_dim: int, maps: str) -> None:
    data = films()
    index = SheafIndex(data.edge_index, data.num_nodes)

    def convolved(x: Tensor) -> Tensor:
        torch.manual_seed(0)
        return SheafConv(8, stalk_dim, maps).to(x.dtype if x.is_floating_point() else torch.float32)(x, index)

    def scored(edge_index: Tensor, pairs: Tensor, users: Tensor, k: int) -> list[Tensor]:
        torch.manual_seed(0)
        model = SheafRecommender(data.num_nodes, 8, 2, stalk_dim, maps)
        best = model.recommend(edge_index, src_index=users, dst_index=torch.arange(30, 90), k=k)
        return [model(edge_index, pairs), best.double()]

    assert_takes_or_refuses(convolved, x=torch.randn(90, 8))
    assert_takes_or_refuses(
        scored, edge_index=data.edge_index, pairs=data.edge_index[:, :7], users=torch.arange(5), k=3
    )
    assert_takes_or_refuses(SheafConv, channels=8, stalk_dim=stalk_dim, maps=maps)
    sizes = dict(num_nodes=9, embedding_dim=8, num_layers=2, stalk_dim=stalk_dim)
    assert_takes_or_refuses(SheafRecommender, **sizes, maps=maps)
    with pytest.raises(ValueError, match="maps must be one of 'general', 'diagonal'; got 'orthogonal'"):
        SheafConv(8, 2, "orthogonal")


def test_every_claim_is_judged_by_the_rows_of_its_experiment() -> None:
    tiny = {name: {k: v for k, v in small.items() if k != "dataset"} for name, small in SMALL.items()}
    tiny["over_smoothing"] |= dict(depths=[8])
    tiny["step_time"] = {k: v for k, v in UNTRAINED["step_time"].items() if k not in ("dataset", "layers")}
    assert_claims_are_judged(SLUG, "standard", tiny)

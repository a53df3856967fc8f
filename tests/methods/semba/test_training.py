"""The loop, and what follows for any model whose score is a sum over the two ends."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import datasets
from datasets.signed_factions import factions
from methods.semba import SEMBA, experiments, fit
from methods.semba.baselines import GCN, SGCN
from methods.semba.contenders import CONTENDERS, Asked, Recipe
from methods.semba.experiments import ABLATIONS, COMPARED, segment
from methods.semba.peer import PeerSEMBA
from methods.semba.released import two_sided
from methods.semba.tasks import OBJECTIVES, Task, load_signed, make_task
from methods.semba.training import evaluate, train_epoch, validate
from methods.semba.training import test as score_test  # a name that pytest must not collect
from methods.shared.metrics import roc_auc

SMALL: dict[str, Any] = dict(memory_dim=8, time_dim=4, heads=2)


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task(load_signed("movielens_100k", 1_000))


def fitted(task: Task, kind: str = "sign_class", epochs: int = 2) -> tuple[SEMBA, list[dict[str, float]]]:
    torch.manual_seed(5)
    model = SEMBA(task.stream.num_nodes, 8, OBJECTIVES[kind].num_scores, **SMALL)
    history = fit(model, task, kind, epochs=epochs, batch_size=100, lr=0.01, seed=0)
    return model, history.validation


@pytest.mark.parametrize("kind", sorted(OBJECTIVES))
def test_every_task_is_fitted_twice_alike_and_scored(kind: str, task: Task) -> None:
    tested = []
    for _ in range(2):
        model, validation = fitted(task, kind)
        assert len(validation) == 2
        tested.append(OBJECTIVES[kind].metrics(score_test(model, task, kind, 100)))
    assert tested[0] == pytest.approx(tested[1], nan_ok=True)
    assert all(value == value for value in tested[0].values() if kind != "sign_class")


def test_the_best_epoch_is_kept_and_stands_at_the_end_of_the_validation(task: Task) -> None:
    model, validation = fitted(task, epochs=4)
    aucs = [metrics["auc"] for metrics in validation]
    assert aucs.index(max(aucs)) < 3  # the last epoch would be kept anyway: another seed is needed then
    state, kept = model.state(), [weight.detach().clone() for weight in model.parameters()]
    again, _ = fitted(task, epochs=1 + aucs.index(max(aucs)))
    assert all(torch.equal(a, b) for a, b in zip(kept, again.parameters(), strict=True))
    assert all(torch.equal(value, again.state()[name]) for name, value in state.items())


def test_an_epoch_starts_from_an_empty_memory(task: Task) -> None:
    losses = []
    for runs in (1, 2):
        torch.manual_seed(0)
        model = SEMBA(task.stream.num_nodes, 8, **SMALL)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        for _ in range(runs):
            torch.manual_seed(1)
            losses.append(train_epoch(model, optimizer, task, "sign_class", 100, torch.Generator()))
    assert losses[1] == losses[0] == losses[2]


def test_a_loss_that_is_not_finite_stops_the_training(task: Task) -> None:
    model = SEMBA(task.stream.num_nodes, 8, **SMALL)
    torch.nn.init.constant_(model.head.weight, torch.inf)
    with pytest.raises(FloatingPointError, match="the loss is"):
        fit(model, task, "sign_class", epochs=1, batch_size=100, lr=0.01, seed=0)


def test_a_sum_over_the_ends_cannot_rank_pairs_of_the_same_ends(task: Task) -> None:
    """Pairs that reuse a batch's ends have the same total score as its events, whatever the model."""
    model, _ = fitted(task, "link_pred")
    answers = evaluate(
        model, task, "link_pred", 100, task.first_test, len(task.stream), task.val_nodes, torch.Generator()
    )
    assert answers.matched is not None
    for begin in range(0, len(answers.logits), 100):
        batch = slice(begin, begin + 100)
        torch.testing.assert_close(answers.logits[batch].sum(), answers.matched[batch].sum(), rtol=1e-4, atol=1e-4)


def test_a_sum_over_the_ends_cannot_tell_who_is_on_the_same_side() -> None:
    """Even a model that is handed the factions ranks their signs by chance with the published head."""
    stream, faction = datasets.load("signed_factions"), 2.0 * factions() - 1
    same = stream.edge_features[:, 0] > 0
    of_src, of_dst = faction[stream.src], faction[stream.dst]
    assert roc_auc(same, of_src * of_dst) == pytest.approx(0.9, abs=0.02)
    for a, b in ((1.0, 1.0), (1.0, -1.0), (0.3, 2.0)):
        additive = a * of_src + b * of_dst
        assert roc_auc(same, additive) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("kind", [GCN, SGCN])
def test_the_released_zero_features_leave_a_graph_network_with_little(kind: type[GCN] | type[SGCN], task: Task) -> None:
    torch.manual_seed(0)
    blind = kind(8, zero_features=True)
    fit(blind, task, "sign_class", epochs=2, batch_size=100, lr=0.01, seed=0)
    z, _ = blind.embed(torch.arange(task.stream.num_nodes), task.index, task.first_val, len(task.stream))
    # GCN starts from a bias of zero and never leaves it; SGCN knows if a node has friends, enemies, both, or neither,
    # and the same of its neighbours
    assert len(z.unique(dim=0)) == 1 if kind is GCN else len(z.round(decimals=4).unique(dim=0)) < len(z) / 4


def test_all_contenders_of_the_card_are_built_and_score_a_batch(task: Task) -> None:
    doubled = make_task(two_sided(task.stream))
    for method in [*COMPARED, *ABLATIONS]:
        if method == "degree_lr":
            continue
        of = doubled if method == "semba_released" else task
        model = CONTENDERS[method].build(Asked(of, "signlink_class"), Recipe(width=16, neighbors=3))
        answers = validate(model, of, "signlink_class", 100)
        assert answers.logits.shape == (of.first_test - of.first_val, 3)
        assert answers.none is not None
        assert answers.none.shape == answers.logits.shape


@pytest.mark.parametrize("who", ["ours", "peer"])
def test_what_is_timed_starts_from_the_same_state_each_time(
    who: str, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments.Recipe, "lr", 0.0)  # the weights stay, so only another start could differ
    model: Any = SEMBA(task.stream.num_nodes, 8, **SMALL) if who == "ours" else PeerSEMBA(task.stream, 8, **SMALL)
    timed, ends = segment(model, task, 100, 200, 200), []
    for _ in range(3):
        timed()
        ends.append(model.memory.memory.clone())
    assert bool(ends[0].any())
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])

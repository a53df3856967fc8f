"""The loop around the models: identity of runs, gradients of PRES, scores, memory rules, and the pending table."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import datasets
from datasets.temporal import EventStream, pending_statistics
from methods.pres import PRES, experiments, training
from methods.pres.baselines import MemoryModel
from methods.pres.contenders import CONTENDERS, Asked, Recipe
from methods.pres.experiments import epochs_to_reach
from methods.pres.training import (
    Task,
    draw,
    evaluate,
    fit,
    gap_statistics,
    link_loss,
    make_task,
    replay,
    train_batch,
    train_epoch,
    validate,
)
from methods.pres.training import test as score_test  # a name that pytest must not collect
from methods.shared.temporal import batches

WIDTH = 8


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task(datasets.load("movielens_100k").head(700))


def start(method: str, task: Task, model: str = "tgn") -> MemoryModel:
    torch.manual_seed(3)
    return CONTENDERS[method].build(Asked(task, model), Recipe(dim=WIDTH, neighbors=3))


def weights_after(network: MemoryModel, task: Task) -> dict[str, Tensor]:
    torch.manual_seed(3)  # of the dropout
    fit(network, task, epochs=1, batch_size=50, seed=3)
    return {name: weight.detach() for name, weight in network.named_parameters()}


@pytest.mark.parametrize("model", ["tgn", "jodie", "apan"])
def test_gamma_one_and_beta_zero_is_bit_identical_to_the_plain_model(model: str, task: Task) -> None:
    plain, filtered = start("plain", task, model), start("plain", task, model)
    filtered.correction = PRES(task.full.num_nodes, WIDTH, gamma=1.0, learn_gamma=False, beta=0.0)
    plain_weights, filtered_weights = weights_after(plain, task), weights_after(filtered, task)
    for name, weight in plain_weights.items():
        assert torch.equal(weight, filtered_weights[name]), name
    assert torch.equal(plain.memory, filtered.memory)
    assert score_test(plain, task) == score_test(filtered, task)


@pytest.mark.parametrize("method", ["pres", "pres_released"])
def test_the_same_seed_gives_bit_identical_runs_and_another_one_does_not(method: str, task: Task) -> None:
    first, again = weights_after(start(method, task), task), weights_after(start(method, task), task)
    assert all(torch.equal(first[name], again[name]) for name in first)
    torch.manual_seed(4)
    other = weights_after(CONTENDERS[method].build(Asked(task, "tgn"), Recipe(dim=WIDTH, neighbors=3)), task)
    assert not torch.equal(first["updater.weight_ih"], other["updater.weight_ih"])


def penalty_gradient(method: str, task: Task) -> Tensor | None:
    """Of the GRU's weights, from the second batch's coherence term alone."""
    network = start(method, task).train()
    first, second, third = list(batches(task.train, 50))[:3]
    for batch in (first, second):
        network.advance(batch, task.train_index)
    step = network.score(third, third.dst.flip(0).unsqueeze(0), task.train_index)
    penalty = network.penalty(step)
    assert isinstance(penalty, Tensor)
    assert float(penalty.detach()) > 0
    return torch.autograd.grad(penalty, network.updater.weight_ih)[0] if penalty.requires_grad else None


def test_coherence_reaches_the_gru_in_pres_and_nothing_in_the_released_code(task: Task) -> None:
    gradient = penalty_gradient("pres", task)
    assert gradient is not None
    assert float(gradient.abs().sum()) > 0
    assert penalty_gradient("pres_released", task) is None


def test_no_gradient_flows_through_the_statistics(task: Task) -> None:
    network = start("pres", task).train()
    train_epoch(network, torch.optim.Adam(network.parameters()), task, 50, torch.Generator())
    assert not any(buffer.requires_grad for buffer in network.buffers())


def test_negative_events_are_observed_in_training_and_never_in_evaluation(task: Task) -> None:
    network = start("pres", task)
    train_epoch(network, torch.optim.Adam(network.parameters()), task, 50, torch.Generator().manual_seed(0))
    count = network.correction.increments.count
    assert float(count[:, 1].sum()) > 0
    before = count.clone()
    validate(network, task)
    assert torch.equal(count[:, 1], before[:, 1])
    assert float(count[:, 0].sum()) > float(before[:, 0].sum())


def test_evaluation_is_in_batches_of_200_whatever_the_training_batch(task: Task) -> None:
    network, sizes = start("plain", task), []

    def negatives_of(batch: object) -> Tensor:
        sizes.append(len(batch.src))
        return batch.dst.unsqueeze(0)

    evaluate(network, task.full_index, task.full, 0, 500, negatives_of)
    assert sizes == [200, 200, 100]


def test_the_loss_is_binary_cross_entropy_of_both_kinds(task: Task) -> None:
    network = start("plain", task).eval()
    batch = next(batches(task.train, 50))
    step = network.score(batch, batch.dst.flip(0).unsqueeze(0), task.train_index)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    wanted = bce(step.logits[0], torch.ones(50)) + bce(step.logits[1], torch.zeros(50))
    torch.testing.assert_close(link_loss(step), wanted)


def test_a_loss_that_is_not_finite_is_an_error_that_says_where(task: Task) -> None:
    network = start("plain", task)
    with torch.no_grad():
        network.decoder.out.bias.fill_(torch.nan)
    optimizer = torch.optim.Adam(network.parameters())
    batch = next(batches(task.train, 50))
    with pytest.raises(FloatingPointError, match=r"TGN: the loss is nan in the batch that starts at t = 0\.0"):
        train_batch(network, optimizer, batch, batch.dst.unsqueeze(0), task.train_index)


@pytest.mark.parametrize("method", ["plain", "pres", "pres_s", "pres_v", "pres_released", "memoryless"])
def test_training_learns_and_stays_finite(method: str, task: Task) -> None:
    network = start(method, task)
    history = fit(network, task, epochs=3, batch_size=25, seed=0)
    assert history.loss[-1] < history.loss[0] < 2
    assert all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values())


def test_restoring_a_state_brings_back_memory_messages_and_statistics(task: Task) -> None:
    network = start("pres", task).eval()
    replay(network, task, 50)
    saved = network.state()
    first = validate(network, task)
    assert not torch.equal(network.memory, saved["memory"])
    network.restore(saved)
    assert validate(network, task) == first
    network.reset()
    assert all(not bool(buffer.any()) for buffer in network.buffers())


def test_early_stopping_reloads_the_best_weights_and_runs_the_memory_again(task: Task) -> None:
    best, seen = start("plain", task), start("plain", task)
    history = fit(best, task, epochs=8, batch_size=50, seed=0, patience=1, lr=0.05)
    epoch = max(range(len(history.val_ap)), key=history.val_ap.__getitem__)
    assert len(history.val_ap) <= epoch + 2
    torch.manual_seed(3)
    seen = CONTENDERS["plain"].build(Asked(task, "tgn"), Recipe(dim=WIDTH, neighbors=3))
    fit(seen, task, epochs=epoch + 1, batch_size=50, seed=0, lr=0.05)
    for name, weight in best.named_parameters():
        assert torch.equal(weight, seen.get_parameter(name)), name
    replay(seen, task, 50)
    assert torch.equal(best.memory, seen.memory)


def test_the_inductive_test_starts_from_the_memory_of_the_validation(task: Task) -> None:
    network = start("plain", task)
    fit(network, task, epochs=1, batch_size=50, seed=0)
    scores = score_test(network, task)
    seen_after_training = set(torch.cat([task.train.src, task.train.dst]).tolist())
    pairs = zip(task.inductive.src.tolist(), task.inductive.dst.tolist(), strict=True)
    assert all(src not in seen_after_training or dst not in seen_after_training for src, dst in pairs)
    assert scores.inductive is not None
    assert 0 < scores.inductive.ap <= 1


def test_the_inductive_scores_do_not_depend_on_the_rest_of_the_test(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, seen, score = start("plain", task), [], training.evaluate

    def spy(model: MemoryModel, *rest: Any) -> Any:
        seen.append(model.memory.clone())
        return score(model, *rest)

    monkeypatch.setattr(training, "evaluate", spy)
    replay(network, task, 50)
    score_test(network, task)
    validation, test_period, inductive = seen
    assert torch.equal(inductive, test_period)
    assert not torch.equal(inductive, validation)


def test_after_a_fit_the_memory_stands_at_the_end_of_the_training(task: Task) -> None:
    fitted, trained = start("plain", task), start("plain", task)
    torch.manual_seed(3)
    fit(fitted, task, epochs=1, batch_size=50, seed=0)
    torch.manual_seed(3)
    optimizer = torch.optim.Adam(trained.parameters(), lr=1e-3, fused=True)
    train_epoch(trained, optimizer, task, 50, torch.Generator().manual_seed(0))
    assert all(torch.equal(value, trained.state()[name]) for name, value in fitted.state().items())


def test_an_epoch_starts_from_an_empty_memory(task: Task) -> None:
    network = start("plain", task)
    still, losses = torch.optim.SGD(network.parameters(), lr=0.0), []
    for _ in range(2):
        torch.manual_seed(0)
        losses.append(train_epoch(network, still, task, 50, torch.Generator().manual_seed(0)))
    assert losses[0] == losses[1]


def test_held_out_nodes_have_no_training_event_and_time_starts_at_zero(task: Task) -> None:
    assert float(task.full.t[0]) == 0.0
    held_out = datasets.load("movielens_100k").head(700).split().held_out
    assert bool(held_out.any())
    assert not bool(held_out[task.train.src].any() | held_out[task.train.dst].any())
    assert task.first_val < task.first_test < len(task.full)
    val_time, test_time = torch.quantile(task.full.t, torch.tensor([0.70, 0.85], dtype=torch.float64))
    assert float(task.train.t[-1]) <= val_time < float(task.full.t[task.first_val])
    assert float(task.full.t[task.first_test - 1]) <= test_time < float(task.full.t[task.first_test])
    assert float(task.inductive.t[0]) > test_time


def test_training_reads_no_event_of_a_held_out_node_and_nothing_after_training(task: Task) -> None:
    held_out = datasets.load("movielens_100k").head(700).split().held_out.nonzero().squeeze(1)
    everyone = torch.arange(task.full.num_nodes)
    end = task.full.t[-1:] + 1
    near = task.train_index.recent(everyone, end.expand(len(everyone)), 1_000)
    assert not bool(torch.isin(near.owner, held_out).any() | torch.isin(near.node, held_out).any())
    assert len(near.owner) == 2 * len(task.train)
    assert float((end - near.age).max()) <= float(task.full.t[task.first_val - 1])
    assert len(task.full_index.recent(held_out, end.expand(len(held_out)), 1_000).owner) > 0
    assert task.gaps == gap_statistics(task.train)
    assert task.time_unit == float(task.train.t[-1] - task.train.t[0]) / (len(task.train) - 1)


def test_a_historical_negative_was_met_before_and_is_not_the_true_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a stream in which pairs meet again, unlike films and their raters."""
    k = torch.arange(600)
    stream = EventStream(k % 5, 5 + (k * k // 7) % 6, k.double(), torch.zeros(600, 1), 11)
    small = make_task(stream)
    asked: list[tuple[Any, Tensor]] = []
    score = MemoryModel.score
    monkeypatch.setattr(MemoryModel, "score", lambda self, b, n, i: (asked.append((b, n)), score(self, b, n, i))[1])
    score_test(start("plain", small), small)
    kinds = [(batch, drawn) for batch, drawn in asked if len(drawn) == 2]
    assert sum(len(batch) for batch, _ in kinds) == len(stream) - small.first_test
    historical = 0
    for batch, (random, met) in kinds:
        assert not bool(((met != random) & (met == batch.dst)).any())
        for src, t, node, other in zip(batch.src, batch.t, met, random, strict=True):
            before = (stream.t < t) & ((stream.src == src) | (stream.dst == src))
            known = {*stream.src[before].tolist(), *stream.dst[before].tolist()} - {int(src)}
            assert node == other or int(node) in known
            historical += int(node != other)
    assert historical > 30
    assert {tuple(drawn[0].tolist()) for _, drawn in kinds} != {tuple(drawn[1].tolist()) for _, drawn in kinds}


def test_gap_statistics_equal_a_loop() -> None:
    t = torch.tensor([1.0, 2.0, 5.0, 9.0]).double()
    stream = EventStream(torch.tensor([0, 1, 0, 0]), torch.tensor([3, 3, 2, 3]), t, torch.zeros(4, 1), 4)
    source, destination = torch.tensor([1.0, 2.0, 4.0, 4.0]), torch.tensor([1.0, 1.0, 5.0, 7.0])
    got = gap_statistics(stream)
    for (mean, std), gaps in zip(got, (source, destination), strict=True):
        assert mean == pytest.approx(float(gaps.mean()))
        assert std == pytest.approx(float(gaps.std(correction=0)))


def test_negatives_come_from_no_later_period_and_all_of_them_are_drawn(task: Task, monkeypatch: Any) -> None:
    before_test = set(task.full.dst[: task.first_test].tolist())
    pools = {"train": set(task.train.dst.tolist()), "val": before_test, "test": set(task.full.dst.tolist())}
    assert pools["train"] < pools["val"] < pools["test"]
    drawn: set[int] = set()

    def spy(destinations: Tensor, *rest: Any) -> Tensor:
        drawn.update(destinations.tolist())
        return draw(destinations, *rest)

    monkeypatch.setattr(training, "draw", spy)
    monkeypatch.setattr(experiments, "draw", spy)
    network = start("plain", task)
    optimizer, generator = torch.optim.Adam(network.parameters()), torch.Generator().manual_seed(0)
    drawings: list[tuple[str, Callable[[], object]]] = [
        ("train", lambda: train_epoch(network, optimizer, task, 50, generator)),
        ("train", lambda: experiments._with_negatives(task, 50, 0, 100, generator)),
        ("train", lambda: experiments._gradients(network, task, 50, generator)),
        ("val", lambda: validate(network, task)),
        ("test", lambda: score_test(network, task)),
    ]
    for period, act in drawings:
        drawn.clear()
        act()
        assert drawn == pools[period], period
    for pool in (task.destinations, task.test_destinations):
        assert set(draw(pool, (1, 20_000), generator).flatten().tolist()) == set(pool.tolist())


def test_epochs_to_reach_interpolates_and_is_censored_at_the_budget() -> None:
    assert epochs_to_reach([0.6, 0.8], 0.7, 2) == pytest.approx(1.5)
    assert epochs_to_reach([0.6, 0.8], 0.55, 2) == pytest.approx(0.5)
    assert epochs_to_reach([0.6, 0.8], 0.9, 2) == 2.0


PENDING = {
    "movielens_100k": [(50, 0.9468, 0.4811), (200, 0.9734, 0.5350), (800, 0.9875, 0.6780), (3200, 0.9955, 0.8464)],
    "bitcoin_otc": [(50, 0.6918, 0.5296), (200, 0.8389, 0.6614), (800, 0.9327, 0.7772), (3200, 0.9756, 0.8549)],
    "bitcoin_alpha": [(50, 0.6871, 0.5290), (200, 0.8459, 0.6719), (800, 0.9393, 0.7916), (3200, 0.9790, 0.8686)],
}


@pytest.mark.parametrize("name", list(PENDING))
def test_what_a_batch_loses_equals_the_published_table_to_four_decimals(name: str) -> None:
    if name.startswith("bitcoin") and "ASSAY_MIRROR" not in os.environ:
        pytest.skip(f"{name} is not in the package registry: set ASSAY_MIRROR to a folder that holds it")
    stream = datasets.load(name)
    for size, pending, dropped in PENDING[name]:
        got = pending_statistics(stream, size)
        assert [round(value, 4) for value in got] == [pending, dropped], f"batch {size}"

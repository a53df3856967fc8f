"""The departures of the released code from the paper, one test each."""

from __future__ import annotations

import pytest
import torch

import datasets
from methods.pres.experiments import build
from methods.pres.pres import Update
from methods.pres.released import ReleasedPRES, inner_product, min_max
from methods.pres.training import Task, draw, make_task, train_batch
from methods.shared.temporal import batches

NODES, WIDTH = 5, 3


def update_of(nodes: list[int], pending: bool = True) -> Update:
    torch.manual_seed(0)
    before, after = torch.randn(len(nodes), WIDTH), torch.randn(len(nodes), WIDTH)
    time = torch.ones(len(nodes), dtype=torch.float64)
    return Update(torch.tensor(nodes), before, after, after, time, 7 * time, torch.full((len(nodes),), pending))


def test_the_weight_of_nine_tenths_is_on_the_prediction_and_gaps_do_not_count() -> None:
    released, update = ReleasedPRES(NODES, WIDTH), update_of([1, 3])
    released.increments.copy_(torch.rand(NODES, WIDTH))
    wanted = 0.9 * (update.before + released.transition()[[1, 3]]) + 0.1 * update.after
    torch.testing.assert_close(released.correct(update).after, wanted)


def test_what_is_kept_is_the_uncorrected_measurement() -> None:
    update = update_of([0, 1])
    corrected = ReleasedPRES(NODES, WIDTH).correct(update)
    assert torch.equal(corrected.kept, update.after)
    assert not torch.equal(corrected.after, update.after)


def test_nodes_without_a_pending_message_are_corrected_too() -> None:
    released, update = ReleasedPRES(NODES, WIDTH), update_of([2], pending=False)
    released.increments.copy_(torch.rand(NODES, WIDTH))
    assert not torch.equal(released.correct(update).after, update.before)


def test_the_transition_is_scaled_to_one_over_the_whole_matrix_and_is_zero_at_first() -> None:
    released = ReleasedPRES(NODES, WIDTH)
    assert torch.equal(released.transition(), torch.zeros(NODES, WIDTH))
    released.increments.copy_(torch.randn(NODES, WIDTH))
    low, high = released.transition().aminmax()
    assert (float(low), float(high)) == (-1.0, 1.0)


def test_the_increment_gets_the_one_that_was_meant_for_the_counter() -> None:
    released = ReleasedPRES(NODES, 4)
    before, after = torch.zeros(1, 4), torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    time = torch.ones(1, dtype=torch.float64)
    released.observe(Update(torch.tensor([2]), before, after, after, time, time, time > 0), torch.tensor([0]), None)
    torch.testing.assert_close(released.increments[2], torch.tensor([1.1, 1.2, 1.3, 1.4]))
    assert not bool(released.increments[[0, 1, 3, 4]].any())
    assert not bool(released.counts.any())


def test_the_inner_product_is_of_columns_and_divided_by_the_number_of_nodes() -> None:
    new, old = torch.randn(NODES, WIDTH), torch.randn(NODES, WIDTH)
    columns = [torch.cosine_similarity(min_max(new)[:, k], min_max(old)[:, k], dim=0) for k in range(WIDTH)]
    torch.testing.assert_close(inner_product(new, old), torch.stack(columns).sum() / NODES)


def test_the_coherence_term_is_a_number_without_gradient() -> None:
    released, update = ReleasedPRES(NODES, WIDTH), update_of([0, 1, 2])
    update.kept.requires_grad_()
    penalty = released.penalty(update, torch.tensor([0]))
    torch.testing.assert_close(penalty, 0.1 * (1 - inner_product(update.kept, update.before)).detach())
    assert not penalty.requires_grad
    assert ReleasedPRES(NODES, WIDTH, coherence=False).penalty(update, torch.tensor([0])) == 0.0


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task(datasets.load("movielens_100k").head(400))


@pytest.mark.parametrize("rescale", [True, False])
def test_training_rescales_the_memory_in_place(rescale: bool, task: Task) -> None:
    torch.manual_seed(0)
    network = build("pres_released", "tgn", task, 8, 3).train()
    network.correction.rescale = rescale
    optimizer, generator = torch.optim.Adam(network.parameters()), torch.Generator().manual_seed(0)
    for batch in list(batches(task.train, 50))[:4]:
        train_batch(network, optimizer, batch, draw(task.destinations, (1, len(batch)), generator), task.train_index)
    low, high = network.memory.aminmax()
    assert ((float(low), float(high)) == (0.0, 1.0)) is rescale

"""The departures of the released code from the paper, one test each."""

from __future__ import annotations

import pytest
import torch

import datasets
from methods.pres.contenders import CONTENDERS, Asked, Recipe
from methods.pres.pres import Update
from methods.pres.released import ReleasedPRES, inner_product, scaled
from methods.pres.training import Task, draw, make_task, replay, train_batch, validate
from methods.shared.temporal import batches

NODES, WIDTH = 5, 3


def update_of(pending: bool = True) -> Update:
    torch.manual_seed(0)
    before, after = torch.randn(NODES, WIDTH), torch.randn(NODES, WIDTH)
    time = torch.ones(NODES, dtype=torch.float64)
    return Update(torch.arange(NODES), before, after, after, time, 7 * time, torch.full((NODES,), pending))


def released_with_increments() -> ReleasedPRES:
    released = ReleasedPRES(NODES, WIDTH)
    released.increments.copy_(torch.arange(NODES * WIDTH).view(NODES, WIDTH) % 7)
    return released


def test_the_weight_of_nine_tenths_is_on_the_prediction_and_gaps_do_not_count() -> None:
    released, update = released_with_increments(), update_of()
    transition = released.increments / 3 - 1  # 0 .. 6 on [-1, 1]
    torch.testing.assert_close(released.correct(update).after, 0.9 * (update.before + transition) + 0.1 * update.after)


def test_what_is_kept_is_the_uncorrected_measurement() -> None:
    update = update_of()
    corrected = ReleasedPRES(NODES, WIDTH).correct(update)
    assert torch.equal(corrected.kept, update.after)
    assert not torch.equal(corrected.after, update.after)


def test_nodes_without_a_pending_message_are_corrected_too() -> None:
    update = update_of(pending=False)
    assert bool((released_with_increments().correct(update).after != update.before).any(1).all())


def test_increments_are_what_the_fusion_changed_in_all_nodes_scaled_plus_the_one_of_the_counter() -> None:
    released, update = ReleasedPRES(NODES, WIDTH), update_of()
    corrected = released.correct(update)
    nobody = torch.zeros(0, dtype=torch.int64)
    released.observe(corrected, nobody, None)
    change = corrected.after - update.before
    wanted = 2 * (change - change.min()) / (change.max() - change.min()) - 1 + 1
    torch.testing.assert_close(released.increments.data, wanted)
    released.observe(corrected, nobody, None)
    torch.testing.assert_close(released.increments.data, 2 * wanted)


def test_a_matrix_is_scaled_over_all_entries_unless_its_largest_is_zero() -> None:
    assert scaled(torch.tensor([[-1.0, 0.0], [1.0, 3.0]])).tolist() == [[-1.0, -0.5], [0.0, 1.0]]
    assert torch.equal(scaled(-torch.eye(2)), -torch.eye(2))
    assert bool(torch.isfinite(scaled(torch.ones(2, 2))).all())


def test_the_inner_product_is_of_columns_and_divided_by_the_number_of_nodes() -> None:
    new, old = torch.randn(NODES, WIDTH), torch.randn(NODES, WIDTH)
    columns = [torch.cosine_similarity(scaled(new)[:, k], scaled(old)[:, k], dim=0) for k in range(WIDTH)]
    torch.testing.assert_close(inner_product(new, old), torch.stack(columns).sum() / NODES)


def test_the_coherence_term_is_a_number_without_gradient() -> None:
    released, update = ReleasedPRES(NODES, WIDTH), update_of()
    update.kept.requires_grad_()
    penalty = released.penalty(update, torch.tensor([0, 3]))
    kept = update.before.clone()
    kept[[0, 3]] = update.kept.detach()[[0, 3]]
    torch.testing.assert_close(penalty, 0.1 * (1 - inner_product(kept, update.before)))
    assert not penalty.requires_grad
    assert ReleasedPRES(NODES, WIDTH, coherence=False).penalty(update, torch.tensor([0])) == 0.0


def test_nothing_that_winds_the_stream_back_resets_the_filter(task: Task) -> None:
    network = CONTENDERS["pres_released"].build(Asked(task, "tgn"), Recipe(dim=8, neighbors=3))
    start = network.state()
    replay(network, task, 50)
    learned = network.correction.increments.clone()
    assert bool(learned.any())
    network.restore(start)
    network.reset()
    assert torch.equal(network.correction.increments, learned)
    validate(network, task)
    assert not torch.equal(network.correction.increments, learned)


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task(datasets.load("movielens_100k").head(400))


@pytest.mark.parametrize("rescale", [True, False])
def test_training_rescales_the_memory_in_place(rescale: bool, task: Task) -> None:
    torch.manual_seed(0)
    network = CONTENDERS["pres_released"].build(Asked(task, "tgn"), Recipe(dim=8, neighbors=3)).train()
    network.correction.rescale = rescale
    optimizer, generator = torch.optim.Adam(network.parameters()), torch.Generator().manual_seed(0)
    for batch in list(batches(task.train, 50))[:4]:
        train_batch(network, optimizer, batch, draw(task.destinations, (1, len(batch)), generator), task.train_index)
    low, high = network.memory.aminmax()
    assert ((float(low), float(high)) == (0.0, 1.0)) is rescale

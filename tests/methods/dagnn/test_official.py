"""The released code's own numbers: github.com/divelab/DeeperGNN at ad7fba8, `dagnn.py` and `train_eval.py`.

Run in float64, without dropout, on a ring of nine vertices with two chords. Features and weights are
sin(0.37 i + 0.11 + k) for entry i of tensor k (features: k = 0; weights are halved).
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from methods.dagnn.dagnn import DAGNN
from methods.dagnn.training import Recipe, Task, optimizer_of, train
from methods.shared.graph import propagation
from methods.shared.node_classification import Masks
from tests.methods.golden import formula

N, FEATURES, HIDDEN, CLASSES = 9, 4, 5, 3
RECIPE = Recipe(depth=3, dropout=0.0, weight_decay=0.005, lr=0.01, hidden=HIDDEN, epochs=60, window=5)


def model_and_task() -> tuple[DAGNN, Task]:
    ring = torch.arange(N)
    once = torch.cat([torch.stack([ring, (ring + 1) % N]), torch.tensor([[0, 2], [4, 7]])], dim=1)
    adjacency = propagation(torch.cat([once, once.flip(0)], dim=1), N, torch.float64)
    thirds = Masks(*(ring // 3 == part for part in range(3)))
    task = Task(formula(N, FEATURES), adjacency, ring % CLASSES, thirds, CLASSES)
    model = DAGNN(FEATURES, HIDDEN, CLASSES, K=RECIPE.depth, dropout=RECIPE.dropout).double()
    with torch.no_grad():
        for k, parameter in enumerate(model.parameters()):
            parameter.copy_(0.5 * formula(*parameter.shape, k=k))
    return model, task


LOG_PROBABILITIES = [
    [-0.149699732, -4.716975218, -2.039518341],
    [-0.168772944, -4.379465788, -1.946539442],
    [-0.457507410, -4.225060527, -1.042658102],
]
# sums of the gradient, of its magnitudes, and of the magnitudes of the weights after one step of Adam
STEP = {
    "lin1.weight": (2.185070943, 2.774207719, 5.981984017),
    "lin1.bias": (1.103130424, 1.103130424, 2.036732286),
    "lin2.weight": (-2.583286727, 6.326848669, 4.387621965),
    "lin2.bias": (-0.830679751, 2.160693194, 0.477098862),
    "prop.proj.weight": (-0.640491593, 1.432513414, 1.383824931),
    "prop.proj.bias": (0.629034061, 0.629034061, 0.470994339),
}


def test_forward_is_the_released_codes() -> None:
    model, task = model_and_task()
    found = F.log_softmax(model(task.x, task.adjacency), dim=1)[:3]
    torch.testing.assert_close(found, torch.tensor(LOG_PROBABILITIES, dtype=torch.float64), rtol=1e-6, atol=1e-8)


def test_one_training_step_is_the_released_codes() -> None:
    model, task = model_and_task()
    loss = F.cross_entropy(model(task.x, task.adjacency)[task.masks.train], task.y[task.masks.train])
    assert loss.item() == pytest.approx(1.85727454060323, rel=1e-9)
    loss.backward()
    optimizer_of(model, RECIPE).step()
    for (name, wanted), parameter in zip(STEP.items(), model.parameters(), strict=True):
        found = (parameter.grad.sum(), parameter.grad.abs().sum(), parameter.detach().abs().sum())
        assert [float(v) for v in found] == pytest.approx(wanted, rel=1e-6), name


def test_a_whole_training_stops_where_the_released_code_stops_and_keeps_the_same_epoch() -> None:
    """Its `run` with 60 epochs and early_stopping 5: stopped after 31, best validation loss in the 20th."""
    model, task = model_and_task()
    fitted = train(model, task, RECIPE)
    assert (fitted.epochs, fitted.best_epoch) == (31, 19)
    assert fitted.history.val_loss[19] == pytest.approx(1.5270681512653723, rel=1e-9)
    assert fitted.history.val_loss[-1] == pytest.approx(1.6230317432614714, rel=1e-9)
    assert (fitted.train_accuracy, fitted.val_accuracy, fitted.test_accuracy) == (2 / 3, 0, 1 / 3)

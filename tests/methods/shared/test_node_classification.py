"""Training keeps the right epoch and never looks at the test."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from methods.shared.node_classification import Masks, fit


class Scripted(nn.Module):
    """Logits that follow a script: after step t, vertex i is predicted to be in class `says[t][i]`."""

    def __init__(self, says: list[list[int]], sure: list[float]) -> None:
        super().__init__()
        self.says, self.sure, self.steps = says, sure, -1
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self) -> Tensor:
        self.steps += self.training
        step = min(self.steps, len(self.says) - 1)
        logits = torch.nn.functional.one_hot(torch.tensor(self.says[step]), 2) * self.sure[step]
        return logits + self.weight


Y = torch.tensor([0, 0, 0, 0])
MASKS = Masks(torch.tensor([0]), torch.tensor([1, 2]), torch.tensor([3]))


def run(says: list[list[int]], sure: list[float], **options: object) -> tuple[Scripted, object]:
    model = Scripted(says, sure)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, fit(model, model, Y, MASKS, optimizer, len(says), **options)


def test_the_first_of_equally_good_epochs_is_kept_even_where_a_later_one_tests_better() -> None:
    says = [[0, 1, 1, 0], [0, 0, 1, 1], [0, 0, 1, 0]]
    _, fitted = run(says, [1.0, 1.0, 1.0], select="accuracy")
    assert (fitted.best_epoch, fitted.val_accuracy, fitted.test_accuracy) == (1, 0.5, 0.0)


def test_loss_and_accuracy_may_choose_different_epochs() -> None:
    # both right but hardly sure; then one wrong, but less of a loss than the doubt
    says, sure = [[0, 0, 0, 0], [0, 0, 1, 1]], [0.01, 0.3]
    _, by_accuracy = run(says, sure, select="accuracy")
    assert by_accuracy.best_epoch == 0
    _, by_loss = run([says[1], says[0]], [sure[1], 5.0], select="loss")
    assert by_loss.best_epoch == 1


def test_patience_ends_the_training() -> None:
    says = [[0, 0, 1, 0]] + [[0, 1, 1, 0]] * 9
    _, fitted = run(says, [1.0] * 10, select="accuracy", patience=3)
    assert (fitted.epochs, fitted.best_epoch) == (4, 0)


def test_a_rule_of_ones_own_ends_the_training() -> None:
    _, fitted = run([[0, 0, 0, 0]] * 9, [1.0] * 9, stop=lambda history: len(history.val_loss) == 5)
    assert fitted.epochs == 5


def test_restoring_brings_back_the_weights_of_the_chosen_epoch() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(40, 5), torch.arange(40) % 2
    masks = Masks(torch.arange(10), torch.arange(10, 25), torch.arange(25, 40))
    model = nn.Linear(5, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.3)
    fitted = fit(model, lambda: model(x), y, masks, optimizer, 60, restore=True)
    right = model(x).argmax(dim=1) == y
    assert fitted.best_epoch < 59
    assert fitted.val_accuracy == int(right[masks.val].sum()) / 15
    assert fitted.test_accuracy == int(right[masks.test].sum()) / 15
    assert fitted.train_accuracy == int(right[masks.train].sum()) / 10


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(FloatingPointError, match="Scripted: the loss is nan in epoch 1"):
        run([[0, 0, 0, 0]], [float("nan")])


def test_an_epoch_of_logits_that_are_nan_is_never_the_best() -> None:
    """Its arg max is class 0, which is right here."""
    y = torch.zeros(4, dtype=torch.int64)
    says, masks = [[0, 1, 1, 0], [0, 0, 0, 0]], MASKS

    class DivergesAtTheEnd(Scripted):
        def forward(self) -> Tensor:
            logits = super().forward()
            return logits if self.training or self.steps == 0 else logits * float("nan")

    model = DivergesAtTheEnd(says, [1.0, 1.0])
    fitted = fit(model, model, y, masks, torch.optim.SGD(model.parameters(), lr=0.1), 2)
    assert (fitted.best_epoch, fitted.val_accuracy) == (0, 0.0)


def test_masks_of_bool_and_of_ids_train_alike() -> None:
    fits = []
    for as_mask in (False, True):
        torch.manual_seed(0)
        x, y = torch.randn(40, 5), torch.arange(40) % 2
        ids = Masks(torch.arange(10), torch.arange(10, 25), torch.arange(25, 40))
        masks = Masks(*(torch.zeros(40, dtype=torch.bool).index_fill(0, i, True) for i in ids)) if as_mask else ids
        model = nn.Linear(5, 2)
        forward = lambda model=model, x=x: model(x)  # noqa: E731
        fits.append(fit(model, forward, y, masks, torch.optim.Adam(model.parameters()), 5))
    assert fits[0] == fits[1]


@pytest.mark.parametrize(
    ("masks", "error", "message"),
    [
        (MASKS._replace(val=torch.tensor([4])), IndexError, r"val_mask\[0\]: vertex 4"),
        (MASKS._replace(train=torch.tensor([1, 0, 0, 1])), ValueError, "train_mask: vertex 0 is named 2 times"),
        (MASKS._replace(test=torch.tensor([], dtype=torch.int64)), ValueError, r"masks of \[1, 2, 0\]"),
    ],
)
def test_masks_that_are_none_are_refused(masks: Masks, error: type[Exception], message: str) -> None:
    model = Scripted([[0, 0, 0, 0]], [1.0])
    with pytest.raises(error, match=message):
        fit(model, model, Y, masks, torch.optim.SGD(model.parameters(), lr=0.1), 1)


def test_masks_of_one_split_among_many() -> None:
    many = torch.tensor([[True, False], [False, True], [False, False]])
    masks = Masks.of(
        Data(train_mask=many, val_mask=many.flip(1), test_mask=torch.tensor([False, False, True]), num_nodes=3), 1
    )
    assert [mask.tolist() for mask in masks] == [[1], [0], [2]]

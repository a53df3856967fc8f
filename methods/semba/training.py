"""The loop around a model of a signed stream. What it asks of a model, SEMBA and every baseline alike:

embed(nodes, index, first, last)    embeddings of distinct nodes for the batch of events first .. last - 1, and
                                    what commit needs of them
head([z_i ; z_j])                   scores of pairs
commit(batch, measured)             insert the batch: it belongs to the past from now on
reset()                             forget the stream
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from methods.semba.tasks import OBJECTIVES, Answers, Task, matched_pairs, random_pairs
from methods.shared.checks import check_numbers, check_option, check_sizes
from methods.shared.temporal import Batch, NeighborIndex, batches
from methods.shared.training import mean_loss, require_finite_loss, require_finite_scores, train, update

VALIDATION_SEED, TEST_SEED = 1, 2


class StreamModel(Protocol):
    """See the head of this file."""

    head: nn.Linear

    def embed(self, nodes: Tensor, index: NeighborIndex, first: int, last: int) -> tuple[Tensor, Any]: ...

    def commit(self, batch: Batch, measured: Any) -> None: ...

    def reset(self) -> None: ...


@dataclass
class Fit:
    """Mean training loss, learning rate, and the metrics of the validation, of every epoch; the best one, from 1."""

    loss: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    validation: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0


def score(model: Any, task: Task, first: int, batch: Batch, *pairs: Tensor) -> tuple[list[Tensor], Any]:
    """Scores (b, C) of the batch's events and then of each of `pairs` (2, b); changes no state."""
    asked = torch.cat([torch.stack([batch.src, batch.dst]), *pairs], dim=1)
    nodes, rows = torch.unique(asked, return_inverse=True)
    z, measured = model.embed(nodes, task.index, first, first + len(batch))
    ends = z.index_select(0, rows.T.flatten()).view(asked.shape[1], -1)
    return list(model.head(ends).split(len(batch))), measured


def train_batch(
    model: Any, optimizer: torch.optim.Optimizer, task: Task, kind: str, first: int, batch: Batch,
    generator: torch.Generator,
) -> Tensor:  # fmt: skip
    """One step of training: embed and score, then insert, then learn.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    objective = OBJECTIVES[kind]
    drawn = [random_pairs(batch, task.train_nodes, generator)] if objective.asks_non_edges else []
    (logits, *none), measured = score(model, task, first, batch, *drawn)
    loss = objective.loss(logits, none[0] if none else None, batch.edge_features[:, 0])
    require_finite_loss(type(model).__name__, loss, f" in the batch at event {first}")
    model.commit(batch, measured)
    return update(optimizer, loss)


def train_epoch(
    model: Any, optimizer: torch.optim.Optimizer, task: Task, kind: str, batch_size: int, generator: torch.Generator
) -> float:
    """One pass over the training events from an empty memory; the mean loss of its batches."""
    model.train()
    model.reset()
    return mean_loss(
        train_batch(model, optimizer, task, kind, first, batch, generator)
        for first, batch in numbered(task, batch_size, 0, task.first_val)
    )


@torch.no_grad()
def evaluate(
    model: Any, task: Task, kind: str, batch_size: int, first: int, last: int, nodes: Tensor,
    generator: torch.Generator,
) -> Answers:  # fmt: skip
    """Score the events first .. last - 1 in batches, each inserted once it is scored.

    Args:
        nodes: of which the random pairs are drawn.

    Raises:
        FloatingPointError: a score is not finite.
    """
    model.eval()
    asks, parts = OBJECTIVES[kind].asks_non_edges, []
    for begin, batch in numbered(task, batch_size, first, last):
        drawn = [random_pairs(batch, nodes, generator), matched_pairs(batch, generator)] if asks else []
        scores, measured = score(model, task, begin, batch, *drawn)
        model.commit(batch, measured)
        parts.append(scores)
    columns = [torch.cat(column) for column in zip(*parts, strict=True)]
    require_finite_scores(type(model).__name__, columns)
    logits, *others = columns
    none, matched = others or (None, None)
    return Answers(task.stream.edge_features[first:last, 0], logits, none, matched, task.familiar(first, last))


def validate(model: Any, task: Task, kind: str, batch_size: int) -> Answers:
    """Validation, by a model that has just seen the training events; it moves on to the test."""
    generator = torch.Generator().manual_seed(VALIDATION_SEED)
    return evaluate(model, task, kind, batch_size, task.first_val, task.first_test, task.val_nodes, generator)


def test(model: Any, task: Task, kind: str, batch_size: int) -> Answers:
    """The test, by a model that has just seen the validation events."""
    check_option("test", "kind", kind, OBJECTIVES)
    check_sizes("test", batch_size=batch_size)
    generator = torch.Generator().manual_seed(TEST_SEED)
    everyone = torch.arange(task.stream.num_nodes, device=task.stream.src.device)
    return evaluate(model, task, kind, batch_size, task.first_test, len(task.stream), everyone, generator)


def fit(
    model: Any, task: Task, kind: str, *, epochs: int, batch_size: int, lr: float, seed: int, plateau: bool = False
) -> Fit:
    """Train; keep the epoch with the best validation, at the end of which the model then stands, ready for the test.

    Args:
        kind: of the task, a key of `OBJECTIVES`. seed: of the pairs drawn in training.
        plateau: halve the learning rate when the validation loss has not *risen* for more than five epochs: the
            released code passes a loss to a scheduler that waits for a maximum.

    Raises:
        TypeError, ValueError: an argument out of range; a validation that cannot choose, as it has one sign only.
        FloatingPointError: a loss, or a score of the validation, is not finite.
    """
    check_option("fit", "kind", kind, OBJECTIVES)
    check_sizes("fit", epochs=epochs, batch_size=batch_size)
    check_numbers("fit", above=0, lr=lr)
    objective, history = OBJECTIVES[kind], Fit()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=5, factor=0.5, min_lr=1e-6)
    generator = torch.Generator().manual_seed(seed)

    def epoch() -> float:
        history.rate.append(optimizer.param_groups[0]["lr"])
        return train_epoch(model, optimizer, task, kind, batch_size, generator)

    def validation() -> float:
        answers = validate(model, task, kind, batch_size)
        history.validation.append(objective.metrics(answers))
        reached = objective.sign * history.validation[-1][objective.select]
        if not math.isfinite(reached):
            raise ValueError(
                f"fit: the validation cannot choose an epoch by {objective.select}, which is {reached}: "
                f"{int((answers.weight > 0).sum())} of its {len(answers.weight)} weights are positive"
            )
        if plateau:
            scheduler.step(float(objective.loss(answers.logits, answers.none, answers.weight)))
        return reached

    training = train(model, epoch, validation, epochs=epochs)
    history.loss, history.best_epoch = training.loss, training.best_epoch
    return history


def numbered(task: Task, size: int, first: int, last: int) -> Iterator[tuple[int, Batch]]:
    """The batches of the events first .. last - 1, each with the place of its first event."""
    return zip(range(first, last, size), batches(task.stream, size, first, last), strict=True)

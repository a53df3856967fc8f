"""Link prediction on a stream: the task, the training loop, and the evaluation that PRES's numbers come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.temporal import EventStream
from methods.pres.baselines import MemoryModel, Step
from methods.shared.checks import check_numbers, check_sizes
from methods.shared.metrics import average_precision, roc_auc
from methods.shared.tasks import cut_by_time
from methods.shared.temporal import Batch, NeighborIndex, batches, select
from methods.shared.training import mean_loss, require_finite_loss, require_finite_scores, train, update

EVALUATION_BATCH = 200  # whatever the training batch, so that accuracies can be compared
VALIDATION_SEED, TEST_SEED, INDUCTIVE_SEED = 0, 2, 3


@dataclass(frozen=True)
class Task:
    """A stream made ready. Time starts at 0, as in the data sets of the paper (a node's first gap counts from 0).

    full: all events, and train: those that may be learned from, each with its index of neighbours.
    first_val, first_test: places in `full` where validation and test begin.
    inductive: the events of the test that touch a node without any training event.
    destinations: distinct destinations of the training events, which negatives of the training are drawn from: one
    that comes only later would be learned to be wrong. val_destinations: of all events before the test, for the
    validation; test_destinations: of all events, for the test.
    gaps: JODIE's gap statistics. time_unit: mean gap between events. Both of the training events.
    """

    full: EventStream
    full_index: NeighborIndex
    train: EventStream
    train_index: NeighborIndex
    first_val: int
    first_test: int
    inductive: EventStream
    destinations: Tensor
    val_destinations: Tensor
    test_destinations: Tensor
    gaps: tuple[tuple[float, float], tuple[float, float]]
    time_unit: float


def make_task(stream: EventStream, device: torch.device | str = "cpu", split_seed: int = 0) -> Task:
    """Split by time at the quantiles 0.70 and 0.85; 10 % of the later nodes lose their training events.

    Raises:
        ValueError: a part has no event.
    """
    stream, split, first_val, first_test = cut_by_time(stream, device, new_share=0.10, seed=split_seed)
    train = select(stream, split.train.to(device))
    span = float(train.t[-1] - train.t[0])
    return Task(
        full=stream,
        full_index=NeighborIndex(stream),
        train=train,
        train_index=NeighborIndex(train),
        first_val=first_val,
        first_test=first_test,
        inductive=select(stream, split.inductive_test.to(device)),
        destinations=train.dst.unique(),
        val_destinations=stream.dst[:first_test].unique(),
        test_destinations=stream.dst.unique(),
        gaps=gap_statistics(train),
        time_unit=span / (len(train) - 1) if span > 0 else 1.0,
    )


def gap_statistics(stream: EventStream) -> tuple[tuple[float, float], tuple[float, float]]:
    """(mean, std) of the time since a node's previous event on the same side (0 before its first), for src and dst."""
    return _gaps(stream.src, stream.t), _gaps(stream.dst, stream.t)


def _gaps(nodes: Tensor, t: Tensor) -> tuple[float, float]:
    order = nodes.argsort(stable=True)
    node, time = nodes[order], t[order]
    previous = torch.cat([time.new_zeros(1), torch.where(node[1:] == node[:-1], time[:-1], 0.0)])
    gap = time - previous
    return float(gap.mean()), max(float(gap.std(correction=0)), 1e-12)


def draw(destinations: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Negatives, uniform over the distinct destinations. The generator lives on the CPU, so any device draws alike."""
    return destinations[torch.randint(len(destinations), shape, generator=generator).to(destinations.device)]


def link_loss(step: Step) -> Tensor:
    """BCE of the true destinations plus BCE of one negative each; both are means."""
    sign = torch.tensor([[-1.0], [1.0]], device=step.logits.device)
    return F.softplus(sign * step.logits).mean(dim=1).sum()


def train_batch(
    model: MemoryModel, optimizer: torch.optim.Optimizer, batch: Batch, negatives: Tensor, index: NeighborIndex
) -> Tensor:
    """One step of training. The messages are stored with the weights of before the step.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    step = model.score(batch, negatives, index)
    model.commit(batch, step, index)
    loss = link_loss(step) + model.penalty(step)
    require_finite_loss(type(model).__name__, loss, f" in the batch that starts at t = {float(batch.t[0])}")
    update(optimizer, loss)
    if model.correction is not None:
        model.correction.finish_batch(model)
    return loss.detach()


def train_epoch(
    model: MemoryModel, optimizer: torch.optim.Optimizer, task: Task, batch_size: int, generator: torch.Generator
) -> float:
    """One pass over the training events from an empty memory; the mean loss of its batches."""
    model.train()
    model.reset()
    return mean_loss(
        train_batch(model, optimizer, batch, draw(task.destinations, (1, len(batch)), generator), task.train_index)
        for batch in batches(task.train, batch_size)
    )


def replay(model: MemoryModel, task: Task, batch_size: int) -> None:
    """Rebuild the memory with the weights as they are: the training events, without learning."""
    model.eval()
    model.reset()
    for batch in batches(task.train, batch_size):
        model.advance(batch, task.train_index)


@dataclass
class Fit:
    """Mean training loss and validation AP (averaged over batches) of every epoch; in [0, 1]."""

    loss: list[float] = field(default_factory=list)
    val_ap: list[float] = field(default_factory=list)


def fit(
    model: MemoryModel, task: Task, *, epochs: int, batch_size: int, seed: int, lr: float = 1e-3,
    patience: int | None = None,
) -> Fit:  # fmt: skip
    """Train; afterwards the model's memory stands at the end of the training events, ready for `test`.

    Args:
        batch_size: temporal batch of training. seed: of the training negatives.
        patience: stop after so many epochs without a better validation AP, reload the best weights and run the
            training events again for their memory; None trains all epochs and keeps the last weights.

    Raises:
        TypeError, ValueError: a size or rate out of range.
        FloatingPointError: a loss, or a score of the validation, is not finite.
    """
    check_sizes("fit", epochs=epochs, batch_size=batch_size, patience=1 if patience is None else patience)
    check_numbers("fit", above=0, lr=lr)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    generator = torch.Generator().manual_seed(seed)

    def validation() -> float:
        trained = model.state()
        score = validate(model, task).ap
        model.restore(trained)
        return score

    def weights() -> dict[str, Tensor]:  # without the buffers, which are the memory
        return {name: p.detach().clone() for name, p in model.named_parameters()}

    def restored(best: dict[str, Tensor]) -> None:
        if patience is not None:
            model.load_state_dict(best, strict=False)
            replay(model, task, batch_size)

    training = train(
        model, lambda: train_epoch(model, optimizer, task, batch_size, generator), validation, epochs=epochs,
        patience=patience, snapshot=weights, restore=restored,
    )  # fmt: skip
    return Fit(training.loss, training.score)


@dataclass(frozen=True)
class Scores:
    """AP and area under the ROC curve, averaged over batches of 200, and AP of all events pooled. In [0, 1]."""

    ap: float
    auc: float
    pooled_ap: float


@torch.no_grad()
def evaluate(
    model: MemoryModel, index: NeighborIndex, stream: EventStream, first: int, last: int,
    negatives_of: Callable[[Batch], Tensor],
) -> list[Scores]:  # fmt: skip
    """Score the events first .. last - 1 of a stream and move the memory on; the state is not put back.

    Args:
        negatives_of: for a batch, (k, b) negatives of k kinds; the kinds are scored side by side.

    Returns:
        one `Scores` per kind.

    Raises:
        FloatingPointError: a score is not finite.
    """
    model.eval()
    logits: list[Tensor] = []
    for batch in batches(stream, EVALUATION_BATCH, first, last):
        step = model.score(batch, negatives_of(batch), index)
        model.commit(batch, step, index)
        logits.append(step.logits)
    if not logits:
        return []
    require_finite_scores(type(model).__name__, logits)
    return [_scores([x[0] for x in logits], [x[kind] for x in logits]) for kind in range(1, logits[0].shape[0])]


def validate(model: MemoryModel, task: Task) -> Scores:
    """Validation, from a memory that stands at the end of the training events; the memory moves on to the test."""
    generator = torch.Generator().manual_seed(VALIDATION_SEED)
    return evaluate(
        model, task.full_index, task.full, task.first_val, task.first_test,
        lambda batch: draw(task.val_destinations, (1, len(batch)), generator),
    )[0]  # fmt: skip


@dataclass(frozen=True)
class TestScores:
    """The test in three ways: random negatives, historical negatives, events of new nodes (None without any)."""

    random: Scores
    historical: Scores
    inductive: Scores | None


def test(model: MemoryModel, task: Task) -> TestScores:
    """The test, from a memory that stands at the end of the training events.

    The memory of the validation carries on into the test, and the inductive test starts again from there, seeing
    the events of new nodes only. A historical negative is a destination that the source met before, the true one
    excepted; where there is none it is a random one.
    """
    validate(model, task)
    validated = model.state()
    generator = torch.Generator().manual_seed(TEST_SEED)

    def random_and_historical(batch: Batch) -> Tensor:
        random = draw(task.test_destinations, (1, len(batch)), generator)[0]
        met, found = task.full_index.any_earlier(batch.src, batch.t, generator)
        return torch.stack([random, torch.where(found & (met != batch.dst), met, random)])

    random, historical = evaluate(
        model, task.full_index, task.full, task.first_test, len(task.full), random_and_historical
    )
    model.restore(validated)
    generator_of_new = torch.Generator().manual_seed(INDUCTIVE_SEED)
    inductive = evaluate(
        model, task.full_index, task.inductive, 0, len(task.inductive),
        lambda batch: draw(task.test_destinations, (1, len(batch)), generator_of_new),
    )  # fmt: skip
    return TestScores(random, historical, inductive[0] if inductive else None)


def _scores(positive: list[Tensor], negative: list[Tensor]) -> Scores:
    labelled = [
        (torch.arange(2 * len(p)) < len(p), torch.cat([p, n]).cpu()) for p, n in zip(positive, negative, strict=True)
    ]
    every = torch.cat([y for y, _ in labelled]), torch.cat([score for _, score in labelled])
    ap, auc = (sum(metric(*batch) for batch in labelled) / len(labelled) for metric in (average_precision, roc_auc))
    return Scores(ap, auc, average_precision(*every))

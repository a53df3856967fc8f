"""Signed streams, and the four tasks on them: what is asked of a batch, the loss, and the scores of a test."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import TemporalData

import datasets
from assay.errors import DataError
from datasets.temporal import EventStream
from methods.shared.metrics import f1, macro_f1, require_finite, roc_auc
from methods.shared.tasks import cut_by_time
from methods.shared.temporal import Batch, NeighborIndex


@dataclass(frozen=True)
class Task:
    """A signed stream made ready. Its one edge feature is the signed weight; its time starts at 0.

    index: of its neighbours. first_val, first_test: places where validation and test begin, at the time quantiles
    0.70 and 0.85. trained: (N,) bool, nodes with an event before `first_val`.
    train_nodes, val_nodes: (n,) int64, nodes with an event before the validation, and before the test: those of which
    pairs without an event are drawn there. Of a node that comes only later it would be learned that it meets nobody.
    """

    stream: EventStream
    index: NeighborIndex
    first_val: int
    first_test: int
    trained: Tensor
    train_nodes: Tensor
    val_nodes: Tensor

    def familiar(self, first: int, last: int) -> Tensor:
        """(last - first,) int64: how many ends of each event have an event in the training part."""
        return self.trained[self.stream.src[first:last]].long() + self.trained[self.stream.dst[first:last]].long()


def make_task(stream: EventStream | TemporalData, device: torch.device | str = "cpu") -> Task:
    """Split a signed stream by time. A torch-geometric `TemporalData` has the signed weights as its `msg` (E, 1).

    Raises:
        TypeError, ValueError: a weight of zero, not exactly one edge feature, a part of the split without events, or a
            `TemporalData` whose tensors are no stream.
    """
    if isinstance(stream, TemporalData):
        stream = _stream_of(stream)
    weight = stream.edge_features
    if weight.shape[1] != 1 or bool((weight == 0).any()):
        raise ValueError(
            f"make_task: needs one edge feature, the signed weight, nowhere zero; got {weight.shape[1]} features and "
            f"{int((weight == 0).sum())} zeros"
        )
    stream, _, first_val, first_test = cut_by_time(stream, device)
    trained = torch.zeros(stream.num_nodes, dtype=torch.bool, device=device)
    trained[stream.src[:first_val]] = trained[stream.dst[:first_val]] = True
    val_nodes = torch.cat([stream.src[:first_test], stream.dst[:first_test]]).unique()
    return Task(stream, NeighborIndex(stream), first_val, first_test, trained, trained.nonzero().squeeze(1), val_nodes)


def _stream_of(data: TemporalData) -> EventStream:
    ends = torch.stack([data.src, data.dst])
    if ends.is_floating_point() or ends.is_complex():
        raise TypeError(f"make_task: src and dst must be integers; got {ends.dtype}")
    src, dst = ends.long()
    try:
        nodes = int(ends.max()) + 1 if len(src) else 0
        return EventStream(src, dst, data.t.double(), data.msg.float(), nodes)
    except DataError as error:
        raise ValueError(f"make_task: {error}") from error


def load_signed(name: str, events: int | None = None) -> EventStream:
    """A data set or its first `events` as a signed stream. A film is liked (+1) from 3 stars on, else disliked (-1)."""
    stream = datasets.load(name)
    if name == "movielens_100k":
        stream = replace(stream, edge_features=torch.where(stream.edge_features >= 3, 1.0, -1.0))
    return stream if events is None else stream.head(events)


@dataclass(frozen=True)
class Answers:
    """What a model said about the events of an evaluation, and about pairs without one.

    weight: (E,) signed weights. logits: (E, C). none: (E, C) random pairs of nodes, matched: (E, C) pairs of the
    batch's sources and destinations; both None for a task that asks about events only.
    familiar: (E,), see `Task.familiar`.
    """

    weight: Tensor
    logits: Tensor
    none: Tensor | None
    matched: Tensor | None
    familiar: Tensor


@dataclass(frozen=True)
class Objective:
    """A task: `loss(logits (b, C), none (b, C) or None, weight (b,))`, `metrics(answers)`, and the metric that selects.

    The metric named by `select` chooses the epoch; `sign` is -1 where less of it is better.
    """

    num_scores: int
    asks_non_edges: bool
    loss: Callable[[Tensor, Tensor | None, Tensor], Tensor]
    metrics: Callable[[Answers], dict[str, float]]
    select: str = "auc"
    sign: int = 1


def sign_loss(logits: Tensor, none: Tensor | None, weight: Tensor) -> Tensor:
    """Mean BCE of the positive events plus mean BCE of the negative ones: the classes weigh the same."""
    losses = F.softplus(-logits[:, 0] * weight.sign())
    return _class_means(losses, [weight > 0, weight < 0]).sum()


def link_loss(logits: Tensor, none: Tensor | None, weight: Tensor) -> Tensor:
    """BCE of the events plus BCE of as many pairs without one."""
    assert none is not None
    return F.softplus(-logits).mean() + F.softplus(none).mean()


def signed_link_loss(logits: Tensor, none: Tensor | None, weight: Tensor) -> Tensor:
    """Negative log likelihood of the classes positive (0), negative (1), none (2): the mean of three class means."""
    assert none is not None
    target = _three_classes(weight)
    losses = F.cross_entropy(torch.cat([logits, none]), target, reduction="none")
    return _class_means(losses, [target == c for c in range(3)]).sum() / 3


def weight_loss(logits: Tensor, none: Tensor | None, weight: Tensor) -> Tensor:
    """Mean squared error of the signed weight."""
    return F.mse_loss(logits[:, 0], weight)


def sign_metrics(answers: Answers) -> dict[str, float]:
    """AUC of the sign, over all events and by how many ends were seen in training; F1 of the negative class.

    An AUC is NaN where one of the signs does not occur.
    """
    score, positive = answers.logits[:, 0], answers.weight > 0
    found = {"auc": _auc_of_sign(positive, score)}
    for name, familiar in (("auc_transductive", 2), ("auc_inductive", 0)):
        of = answers.familiar == familiar
        found[name] = _auc_of_sign(positive[of], score[of])
    return found | {"negative_f1": f1(~positive, -score)}


def link_metrics(answers: Answers) -> dict[str, float]:
    """AUC against random pairs, and against pairs whose ends have the degrees of the events' ends."""
    assert answers.none is not None
    assert answers.matched is not None
    event, found = answers.logits[:, 0], {}
    for name, none in (("auc", answers.none[:, 0]), ("auc_matched", answers.matched[:, 0])):
        met = torch.arange(len(event) + len(none), device=event.device) < len(event)
        found[name] = roc_auc(met, torch.cat([event, none]))
    return found


def signed_link_metrics(answers: Answers) -> dict[str, float]:
    """Macro F1 of the three classes."""
    assert answers.none is not None
    return {"macro_f1": macro_f1(_three_classes(answers.weight), torch.cat([answers.logits, answers.none]))}


def weight_metrics(answers: Answers) -> dict[str, float]:
    """Root mean squared error of the weight, in its own unit, and Pearson's correlation (NaN of a constant)."""
    said, true = answers.logits[:, 0], answers.weight
    require_finite(said)
    correlation = torch.corrcoef(torch.stack([said, true]))[0, 1]
    return {"rmse": float((said - true).square().mean().sqrt()), "pearson": float(correlation)}


OBJECTIVES = {
    "sign_class": Objective(1, False, sign_loss, sign_metrics),
    "link_pred": Objective(1, True, link_loss, link_metrics),
    "signlink_class": Objective(3, True, signed_link_loss, signed_link_metrics, "macro_f1"),
    "signwt_pred": Objective(1, False, weight_loss, weight_metrics, "rmse", -1),
}


def random_pairs(batch: Batch, nodes: Tensor, generator: torch.Generator) -> Tensor:
    """(2, b) uniform pairs of two of the distinct `nodes` (n,). Hardly one is an edge: 1 in 1,000 of OTC's pairs is."""
    src = torch.randint(len(nodes), (len(batch),), generator=generator)
    dst = (src + torch.randint(1, len(nodes), (len(batch),), generator=generator)) % len(nodes)
    return nodes[torch.stack([src, dst]).to(nodes.device)]


def matched_pairs(batch: Batch, generator: torch.Generator) -> Tensor:
    """(2, b) the batch's sources, each with another event's destination: degrees no longer tell these from events."""
    shift = int(torch.randint(1, max(len(batch), 2), (1,), generator=generator))
    return torch.stack([batch.src, batch.dst.roll(shift)])


def _three_classes(weight: Tensor) -> Tensor:
    return torch.cat([(weight < 0).long(), torch.full_like(weight, 2, dtype=torch.int64)])


def _class_means(losses: Tensor, classes: list[Tensor]) -> Tensor:
    """The mean loss of each class; 0 for a class without members."""
    return torch.stack([(losses * of).sum() / of.sum().clamp(min=1) for of in classes])


def _auc_of_sign(positive: Tensor, score: Tensor) -> float:
    return roc_auc(positive, score) if 0 < int(positive.sum()) < len(positive) else math.nan

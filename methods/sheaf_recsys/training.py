"""Training and evaluation, the same for every recommender: BPR on sampled triples, F1@K of held-out items.

A recommender is any module with an `embedding` (an `nn.Embedding` of all nodes, users before items) and
`get_embedding(graph)`, whose rows score a user and an item by their dot product; torch-geometric's LightGCN is one.

`released_protocol` reproduces what the authors' code does instead of what its text says:
* the L2 term enters the loss with factor 1, because the constant 1e-4 is defined and never used;
* training items leave the ranking by a score multiplied by 0, which beats every item with a negative score;
* validation items stay in the ranking of the test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.shared.checks import check_option
from methods.shared.metrics import relevance_by_rank, require_finite
from methods.shared.training import Training, train
from methods.sheaf_recsys.data import Interactions

BATCH = 1024  # triples
RELEASED_REG = 1.0
TOP = (1, 3, 5, 10, 20, 50, 100)


class Recommender(Protocol):
    embedding: nn.Embedding

    def get_embedding(self, graph: Any) -> Tensor: ...


class TripleSampler:
    """Draws (user, liked item, item the user has not met in training), as node ids.

    A batch has distinct users, or users with replacement where there are fewer than `size`; one liked item each,
    uniform; and one uniform item of the others.
    """

    def __init__(self, data: Interactions, seed: int) -> None:
        user, item = data.train
        order = user.argsort(stable=True)
        self.items = item[order]
        self.count = torch.bincount(user, minlength=data.num_users)
        if int(self.count.min()) == 0 or int(self.count.max()) >= data.num_items:
            raise ValueError("every user needs a training item, and an item that is none")
        self.start = self.count.cumsum(0) - self.count
        self.liked = data.matrix(data.train)
        # on the CPU whatever the device, so that all devices draw alike
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, size: int = BATCH) -> tuple[Tensor, Tensor, Tensor]:
        """Three (size,) int64 tensors of nodes."""
        num_users, num_items = self.liked.shape
        if num_users < size:
            user = self._below(num_users, size)
        else:
            user = torch.randperm(num_users, generator=self.generator)[:size].to(self.items.device)
        share = torch.rand(size, generator=self.generator, dtype=torch.float64).to(user.device)
        positive = self.items[self.start[user] + (share * self.count[user]).long()]
        negative = self._below(num_items, size)
        while (met := self.liked[user, negative].nonzero().squeeze(1)).numel():
            negative[met] = self._below(num_items, len(met))
        return user, positive + num_users, negative + num_users

    def _below(self, limit: int, size: int) -> Tensor:
        return torch.randint(limit, (size,), generator=self.generator).to(self.items.device)


def bpr_loss(output: Tensor, embedding: Tensor, triple: tuple[Tensor, Tensor, Tensor], reg: float) -> Tensor:
    """mean softplus(s_ui - s_up) + reg/2 (|e_u|^2 + |e_p|^2 + |e_i|^2) / batch, over triples (u, p, i).

    Args:
        output: (N, width), what scores are made of.
        embedding: (N, f), layer 0, which the L2 term is about.
        triple: user, positive, negative, (b,) each.
        reg: weight of the L2 term; the paper means 1e-4, its code has 1.
    """
    user, positive, negative = (output.index_select(0, nodes) for nodes in triple)
    rank = F.softplus((user * (negative - positive)).sum(1)).mean()
    squares = sum(embedding.index_select(0, nodes).square().sum() for nodes in triple)
    return rank + reg / 2 * squares / len(triple[0])


def train_step(model: Recommender, graph: Any, optimizer: torch.optim.Optimizer, sampler: TripleSampler,
               reg: float) -> Tensor:  # fmt: skip
    """One batch; returns its loss.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    loss = bpr_loss(model.get_embedding(graph), model.embedding.weight, sampler.draw(), reg)
    if not torch.isfinite(loss):
        raise FloatingPointError(f"{type(model).__name__}: the loss is {loss.item()}; lower the learning rate")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


@dataclass(frozen=True)
class Ranking:
    """Means over the users that have held-out items; each a list along `TOP`. F1 is that of the two means."""

    precision: list[float]
    recall: list[float]
    ndcg: list[float]

    @property
    def f1(self) -> list[float]:
        pairs = zip(self.precision, self.recall, strict=True)
        return [2 * p * r / (p + r) if p + r > 0 else 0.0 for p, r in pairs]

    def at(self, metric: str, k: int) -> float:
        """`metric` ("f1", "precision", ...) of the first k items."""
        return getattr(self, metric)[TOP.index(k)]


def rank_items(scores: Tensor, data: Interactions, split: str, *, released_protocol: bool = False) -> Ranking:
    """Judge scores (num_users, num_items) on "val" or "test"; equal scores count as in a random order, on average.

    Items of the training do not take part, nor, in the test, those of the validation: they cannot be answers.

    Raises:
        ValueError: no such split, or a score that is not finite.
    """
    check_option("rank_items", "split", split, ("val", "test"))
    require_finite(scores)
    seen, allowed = data.matrix(data.train), None
    if released_protocol:
        scores = scores * ~seen
    else:
        allowed = ~(seen | data.matrix(data.val) if split == "test" else seen)
    wanted = data.matrix(getattr(data, split))
    users = wanted.any(1)
    hit = relevance_by_rank(scores[users], wanted[users], max(TOP), None if allowed is None else allowed[users])
    total = wanted[users].sum(1).double()
    gain = 1 / torch.arange(2, max(TOP) + 2, device=hit.device, dtype=torch.float64).log2()
    hit = F.pad(hit, (0, max(TOP) - hit.shape[1]))
    hits, gained, ideal = hit.cumsum(1), (hit * gain).cumsum(1), gain.cumsum(0)
    k = torch.tensor(TOP, device=hit.device) - 1
    ideal_at = ideal[torch.minimum(total.long().unsqueeze(1) - 1, k)]
    return Ranking(
        (hits[:, k] / (k + 1)).mean(0).tolist(),
        (hits[:, k] / total.unsqueeze(1)).mean(0).tolist(),
        (gained[:, k] / ideal_at).mean(0).tolist(),
    )


@torch.no_grad()
def evaluate(model: Recommender, graph: Any, data: Interactions, split: str, *,
             released_protocol: bool = False) -> Ranking:  # fmt: skip
    """`rank_items` of a recommender's scores. The model is left in the mode it was in."""
    training = model.training
    model.eval()
    output = model.get_embedding(graph)
    model.train(training)
    scores = output[: data.num_users] @ output[data.num_users :].T
    return rank_items(scores, data, split, released_protocol=released_protocol)


def fit(model: Recommender, graph: Any, data: Interactions, *, epochs: int, lr: float, reg: float, seed: int,
        steps: int | None = None, released_protocol: bool = False) -> Training:  # fmt: skip
    """Train with Adam and keep the weights of the epoch with the best validation F1@10.

    Args:
        reg: weight of the L2 term; the released protocol ignores it.
        seed: of the sampled triples.
        steps: batches in an epoch; by default as many as make up the training set.

    Raises:
        FloatingPointError: the loss or a score of the validation is not finite.
    """
    sampler = TripleSampler(data, seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    steps = max(1, data.train.shape[1] // BATCH) if steps is None else steps
    reg = RELEASED_REG if released_protocol else reg
    model.train()

    def epoch() -> Tensor:
        return torch.stack([train_step(model, graph, optimizer, sampler, reg) for _ in range(steps)]).mean()

    def validation() -> float:
        try:
            return evaluate(model, graph, data, "val", released_protocol=released_protocol).at("f1", 10)
        except ValueError as error:
            raise FloatingPointError(f"{type(model).__name__}: {error}") from error

    return train(model, epoch, validation, epochs=epochs)

"""PRES: predict-to-smooth, so that temporal batches can be large (Su, Zou, Wu; ICLR 2024, arXiv 2402.04284).

A memory-based dynamic graph network (TGN, JODIE, APAN) keeps a vector s_i per node, which each event of the node
should update in turn. Training cuts the stream into temporal batches, and inside a batch there are no turns: all
messages see the memory from before the batch, and of a node's messages only the last one counts. What the other
ones would have said is lost ("temporal discontinuity"), the more the larger the batch; so batches stay small, and
parallel hardware stays idle.

PRES treats the memory that a batch computes as a noisy measurement, and filters it. Let node i have memory s(t1),
and let a batch measure s(t2) for it.

    predict    s_hat(t2) = s(t1) + (t2 - t1) delta_i                                                     (1)
    correct    s_bar(t2) = (1 - gamma) s_hat(t2) + gamma s(t2)                                           (2)

delta_i is the mean rate at which the memory of node i has changed so far. The rates are a mixture of omega = 2
Gaussians, one for positive events j = 0, one for negative events j = 1, whose statistics need O(1) memory:

    observe    d = (s_bar(t2) - s(t1)) / (t2 - t1);    n_j += 1,    xi_j += d,    psi_j += d^2            (3)
    mixture    mu_j = xi_j / n_j,    Sigma_j = psi_j / n_j - mu_j^2,    alpha_j = n_j / sum_l n_l
               delta_i = sum_j alpha_j mu_j                                                              (4)

Training also keeps the new memory coherent with the old one, averaged over the nodes that the batch updates:

    L = BCE + beta (1 - <s(t1), s_bar(t2)> / (|s(t1)| |s_bar(t2)|))                                      (5)

The gradient flows through s(t2) and gamma; none flows through the statistics. `PRES` is attached to a memory model
(`TGN(..., correction=PRES(...))`), which calls it at three places of a batch: `correct`, `observe`, `penalty`.

What is ours, where the paper's text says nothing or could not be read (the equations above are from memory of it):
* Time is counted in units of the stream's mean gap between events, a gap t2 - t1 is taken as at least one unit,
  and a predicted step is clipped to [-1, 1], the range of a GRU's memory: with seconds, or gaps near zero, rates
  have no scale and the prediction explodes.
* A negative event is a node drawn as negative destination. The batch measures its pending memory without keeping
  it; that rate counts for component 1. Only in training: the negatives of an evaluation must not change its state.
* gamma is learned through a sigmoid from 0.9 on, unless it is fixed.
* The corrected memory is the one that is kept; statistics start again with the memory, each epoch; the correction
  stays on in evaluation. Nodes whose old memory is zero (their first event) have no direction: (5) leaves them out.
* Because alpha_j is the share of component j, (4) is the mean over all observed rates, sum_j xi_j / sum_j n_j.
  The components are kept apart for Sigma and for whoever weights them in another way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.shared.checks import check_numbers, check_sizes

POSITIVE, NEGATIVE = 0, 1


@dataclass(frozen=True)
class Update:
    """The memory of the U distinct nodes that a batch involves, before and after their pending messages.

    Attributes:
        nodes: (U,) int64.
        before: (U, d) s(t1), as kept since the last batch that had an event of the node. No gradient.
        after: (U, d) s(t2), or s_bar(t2) once corrected; equal to `before` where nothing is pending. The
            embeddings are computed from it, with gradient.
        kept: (U, d) what becomes the memory of the nodes with an event in this batch. The same as `after`,
            except in the released code.
        since, time: (U,) float64, t1 and t2.
        pending: (U,) bool, True where a message was waiting.
    """

    nodes: Tensor
    before: Tensor
    after: Tensor
    kept: Tensor
    since: Tensor
    time: Tensor
    pending: Tensor


class IncrementMixture(nn.Module):
    """Running statistics (3) of the memory's rate of change: per node and component, O(N d) however long the stream.

    Args:
        num_nodes: N.
        dim: d, width of the memory.
    """

    def __init__(self, num_nodes: int, dim: int, components: int = 2) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(num_nodes, components))
        self.register_buffer("total", torch.zeros(num_nodes, components, dim))
        self.register_buffer("square", torch.zeros(num_nodes, components, dim))

    @torch.no_grad()
    def observe(self, nodes: Tensor, rate: Tensor, component: int) -> None:
        """Add one rate (k, d) for each of k distinct nodes (k,)."""
        self.count[nodes, component] += 1
        self.total[nodes, component] += rate
        self.square[nodes, component] += rate.square()

    def mean_rate(self, nodes: Tensor) -> Tensor:
        """delta_i of equation (4), (k, d); zero where nothing was observed."""
        return self.total[nodes].sum(1) / self.count[nodes].sum(1, keepdim=True).clamp(min=1)

    def moments(self) -> tuple[Tensor, Tensor]:
        """mu and Sigma (diagonal), both (N, components, d); zero where nothing was observed."""
        count = self.count.unsqueeze(-1).clamp(min=1)
        mean = self.total / count
        return mean, (self.square / count - mean.square()).clamp(min=0)


class PRES(nn.Module):
    """Prediction-correction (1)-(4) and memory coherence (5) for a memory model.

    Args:
        num_nodes: N.
        dim: d, width of the memory.
        gamma: weight of the measurement in (2), in (0, 1]; where it is learned, its initial value.
            gamma = 1 switches the correction off (the paper's ablation PRES-S).
        learn_gamma: learn gamma through a sigmoid. gamma = 1 can't be learned.
        beta: weight of the coherence term in (5). beta = 0 switches it off (the paper's ablation PRES-V).
            gamma = 1 and beta = 0 give the plain model, bit for bit.
        time_unit: the stream's mean gap between events, in the stream's unit of time.

    Raises:
        TypeError, ValueError: num_nodes, dim, gamma, beta or time_unit out of range.
    """

    all_nodes = False  # only what a batch involves is measured and corrected
    shortest_gap = 1.0  # in time units
    largest_step = 1.0  # a GRU's memory lies in [-1, 1]

    def __init__(
        self,
        num_nodes: int,
        dim: int,
        *,
        gamma: float = 0.9,
        learn_gamma: bool = True,
        beta: float = 0.1,
        time_unit: float = 1.0,
    ) -> None:
        super().__init__()
        check_sizes("PRES", num_nodes=num_nodes, dim=dim)
        check_numbers("PRES", above=0, most=1, gamma=gamma)
        check_numbers("PRES", least=0, beta=beta)
        check_numbers("PRES", above=0, time_unit=time_unit)
        if gamma == 1 and learn_gamma:
            raise ValueError("PRES: gamma=1 cannot be learned; give learn_gamma=False, or a gamma below 1")
        self.increments = IncrementMixture(num_nodes, dim)
        self.gate = nn.Parameter(torch.tensor(math.log(gamma / (1 - gamma)))) if learn_gamma else None
        self.fixed_gamma, self.beta, self.time_unit = gamma, beta, time_unit

    @property
    def gamma(self) -> Tensor | float:
        """Weight of the measurement, in (0, 1]."""
        return self.fixed_gamma if self.gate is None else torch.sigmoid(self.gate)

    def gap(self, update: Update) -> Tensor:
        """t2 - t1 in time units, at least `shortest_gap`: (U, 1)."""
        gap = (update.time - update.since) / self.time_unit
        return gap.clamp(min=self.shortest_gap).to(update.before.dtype).unsqueeze(1)

    def predict(self, update: Update) -> Tensor:
        """s_hat(t2) of equation (1): (U, d)."""
        step = self.gap(update) * self.increments.mean_rate(update.nodes)
        return update.before + step.clamp(-self.largest_step, self.largest_step)

    def correct(self, update: Update) -> Update:
        """s_bar(t2) of equation (2), for the nodes with a pending message; the others keep their memory."""
        gamma = self.gamma
        corrected = (1 - gamma) * self.predict(update) + gamma * update.after
        after = torch.where(update.pending.unsqueeze(1), corrected, update.before)
        return replace(update, after=after, kept=after)

    @torch.no_grad()
    def observe(self, update: Update, positive: Tensor, negative: Tensor | None) -> None:
        """Equation (3), after a batch.

        Args:
            update: the corrected update.
            positive: (k,) rows of `update` whose nodes have an event in the batch, without repetition.
            negative: (m,) rows drawn as negatives and not positive, without repetition; None in evaluation.
        """
        for rows, component in ((positive, POSITIVE), (negative, NEGATIVE)):
            if rows is None:
                continue
            rows = rows[update.pending[rows]]
            rate = (update.after[rows] - update.before[rows]) / self.gap(update)[rows]
            self.increments.observe(update.nodes[rows], rate, component)

    def penalty(self, update: Update, positive: Tensor) -> Tensor | float:
        """The coherence term of (5) for the rows that the batch updates; a scalar in [0, 2 beta]."""
        if self.beta == 0:
            return 0.0
        return self.beta * incoherence(update.before[positive], update.after[positive], update.pending[positive])

    def finish_batch(self, model: nn.Module) -> None:
        """Nothing is left to do after a training batch. (The released code has something to do here.)"""


def incoherence(old: Tensor, new: Tensor, counts: Tensor) -> Tensor:
    """1 - cosine(old, new), averaged over the rows (k, d) that count (k,) and whose old memory is not zero.

    0 where new is a positive multiple of old, 2 where it is opposite; 0 where no row is left.
    """
    weight = (counts & old.ne(0).any(dim=1)).to(new.dtype)
    return (weight * (1 - F.cosine_similarity(old, new, dim=1))).sum() / weight.sum().clamp(min=1)


def main() -> None:
    """Train a TGN on a generated stream, in small batches, in large ones, and in large ones with PRES."""
    from methods.pres.contenders import CONTENDERS, Recipe, example  # the memory models are built around this file
    from methods.pres.training import draw, link_loss, validate
    from methods.shared.temporal import batches

    asked = example()
    task, generator = asked.task, torch.Generator().manual_seed(0)
    for name, size in (("plain", 20), ("plain", 80), ("pres", 80)):
        torch.manual_seed(0)
        model = CONTENDERS[name].build(asked, Recipe(dim=32, neighbors=5))
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for epoch in range(1, 6):
            model.train()
            model.reset()  # an epoch begins with an empty memory
            for batch in batches(task.train, size):
                step = model.score(batch, draw(task.destinations, (1, len(batch)), generator), task.train_index)
                model.commit(batch, step, task.train_index)  # here PRES corrects what the memory keeps
                loss = link_loss(step) + model.penalty(step)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if epoch == 5:
                ap = validate(model, task).ap
                print(f"{name:5}  batches of {size}  epoch {epoch}  loss {loss:.3f}  validation AP {ap:.1%}")

"""What the released code of PRES does, which is not what the paper's equations say.

`ReleasedPRES` has the interface of `PRES` and these departures from it, each of which a test names:

1. The coherence term is detached: it changes the number that is printed as the loss, and no gradient.
2. Its inner product min-max normalises its arguments in place, which rescales the persistent memory to [0, 1] after
   every training batch. (`rescale=False` removes it; then 1. can be seen alone, see `released_gradient`.)
3. Its inner product is the cosine of each column over all nodes, summed over columns and divided by N.
4. The prediction has the weight 0.9 and the measurement 0.1, both fixed.
5. The prediction is s(t1) + transition: no gap t2 - t1, one component. The transition is the matrix of accumulated
   increments, min-max scaled to [-1, 1] over all its entries.
6. The statistics update adds 1 to the increments, where it should add 1 to a counter; the counter stays 0 and no
   mean or variance is ever computed.
7. The corrected memory is what embeddings are computed from; what is kept is the uncorrected measurement.
8. All nodes are corrected, also those for which nothing is pending.

Not said by what we know of that code, and ours: a matrix whose entries are all equal is scaled to zeros, where the
formula would divide zero by zero; increments are accumulated for the nodes with an event in the batch.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from methods.pres.pres import Update


class ReleasedPRES(nn.Module):
    """PRES as released: see the departures above. O(N d) per batch.

    Args:
        num_nodes: N. dim: d.
        coherence: add the (detached) coherence term to the loss.
        rescale: rescale the memory in place after each training batch.
    """

    measured_weight = 0.1
    beta = 0.1

    def __init__(self, num_nodes: int, dim: int, *, coherence: bool = True, rescale: bool = True) -> None:
        super().__init__()
        self.register_buffer("increments", torch.zeros(num_nodes, dim))
        self.register_buffer("counts", torch.zeros(num_nodes))
        self.coherence, self.rescale = coherence, rescale

    def transition(self) -> Tensor:
        """Accumulated increments scaled to [-1, 1] over the whole matrix: (N, d)."""
        return 2 * min_max(self.increments) - 1 if self.increments.any() else self.increments

    def correct(self, update: Update) -> Update:
        """The embeddings' memory is mostly the prediction; the kept memory is the measurement."""
        predicted = update.before + self.transition().index_select(0, update.nodes)
        after = (1 - self.measured_weight) * predicted + self.measured_weight * update.after
        return replace(update, after=after)

    @torch.no_grad()
    def observe(self, update: Update, positive: Tensor, negative: Tensor | None) -> None:
        """Accumulate the increments of the rows with an event, and the 1 that was meant for the counter."""
        nodes = update.nodes[positive]
        self.increments[nodes] += update.kept[positive] - update.before[positive] + 1

    def penalty(self, update: Update, positive: Tensor) -> Tensor | float:
        """0.1 (1 - inner product): a number without gradient.

        Taken over the nodes of the update: a node that the batch does not touch has equal memories, which leaves
        the gradient, zero, as it is.
        """
        if not self.coherence:
            return 0.0
        return self.beta * (1 - inner_product(update.kept, update.before)).detach()

    @torch.no_grad()
    def finish_batch(self, model: nn.Module) -> None:
        """What the in-place normalisation does to the memory: its entries now span [0, 1]."""
        if self.rescale:
            model.memory.copy_(min_max(model.memory))


def min_max(x: Tensor) -> Tensor:
    """Scale all entries to [0, 1]; zeros where all entries are equal."""
    low, high = x.aminmax()
    return (x - low) / (high - low) if high > low else torch.zeros_like(x)


def inner_product(new: Tensor, old: Tensor) -> Tensor:
    """Cosine of each column (over the rows) of the min-max normalised matrices (N, d), summed and divided by N."""
    return torch.cosine_similarity(min_max(new), min_max(old), dim=0).sum() / len(new)

"""What the released code of PRES does (jwsu825/MDGNN_BS), which is not what the paper's equations say.

`ReleasedPRES` has the interface of `PRES` and these departures from it, each of which a test names:

1. The coherence term is detached: it changes the number that is printed as the loss, and no gradient.
2. Its inner product is the cosine of each column over all nodes, summed over columns and divided by N, of matrices that
   are scaled to [-1, 1] first.
3. That scaling is half in place, up to [0, 1], which rescales the persistent memory after every training batch.
   (`rescale=False` removes it; then 1. can be seen alone, see `released_gradient`.)
4. The prediction has the weight 0.9 and the measurement 0.1, both fixed.
5. The prediction is s(t1) + transition: no gap t2 - t1, one component. The transition is the matrix of accumulated
   increments, scaled to [-1, 1] over all its entries.
6. An increment is not a rate of the memory but, for all N nodes and in every batch, the fused memory less the previous
   one, scaled to [-1, 1] over the whole matrix, plus the 1 that was meant for a counter. No mean or variance is ever
   computed.
7. The filter is a parameter and not part of the memory: neither a new epoch nor the way back to an earlier state of
   the stream resets it, and it learns in evaluation too. It comes back with the best weights of early stopping.
8. The corrected memory is what embeddings are computed from; what is kept is the uncorrected measurement.
9. All nodes are corrected, also those for which nothing is pending, and all are measured in every batch (`all_nodes`).

Scaling leaves a matrix alone whose largest entry is 0. One whose entries are all equal and not 0 becomes NaN in the
released code, and here its lowest value.
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

    all_nodes = True
    measured_weight = 0.1
    beta = 0.1

    def __init__(self, num_nodes: int, dim: int, *, coherence: bool = True, rescale: bool = True) -> None:
        super().__init__()
        self.increments = nn.Parameter(torch.zeros(num_nodes, dim), requires_grad=False)
        self.coherence, self.rescale = coherence, rescale

    def correct(self, update: Update) -> Update:
        """The embeddings' memory is mostly the prediction; the kept memory is the measurement."""
        predicted = update.before + scaled(self.increments)
        after = (1 - self.measured_weight) * predicted + self.measured_weight * update.after
        return replace(update, after=after)

    @torch.no_grad()
    def observe(self, update: Update, positive: Tensor, negative: Tensor | None) -> None:
        """Accumulate what the fusion changed, for all nodes."""
        change = update.after - update.before
        if change.max() != 0:
            self.increments += scaled(change) + 1

    def penalty(self, update: Update, positive: Tensor) -> Tensor | float:
        """0.1 (1 - inner product) of the memory as kept and as it was: a number without gradient."""
        if not self.coherence:
            return 0.0
        kept = update.before.index_copy(0, positive, update.kept.detach().index_select(0, positive))
        return self.beta * (1 - inner_product(kept, update.before))

    @torch.no_grad()
    def finish_batch(self, model: nn.Module) -> None:
        """What the in-place scaling does to the memory: its entries now span [0, 1]."""
        if self.rescale:
            model.memory.copy_(unit(model.memory))


def unit(x: Tensor) -> Tensor:
    """All entries scaled to [0, 1]; as they are where the largest is 0."""
    low, high = x.aminmax()
    return x if high == 0 else (x - low) / (high - low).clamp(min=torch.finfo(x.dtype).tiny)


def scaled(x: Tensor) -> Tensor:
    """All entries scaled to [-1, 1]; as they are where the largest is 0."""
    return x if x.max() == 0 else 2 * unit(x) - 1


def inner_product(new: Tensor, old: Tensor) -> Tensor:
    """Cosine of each column (over the rows) of the two scaled matrices (N, d), summed and divided by N."""
    return torch.cosine_similarity(scaled(new), scaled(old), dim=0).sum() / len(new)

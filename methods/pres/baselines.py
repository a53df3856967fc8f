"""The memory models that PRES is attached to, TGN, JODIE and APAN, and a control without memory.

A batch of b events (i, j, t, e) passes through five steps, the same for all models:

    (a) measure   the memory of the nodes involved, brought up to date with the messages of earlier batches
    (b) embed     z of the sources, the destinations and the negative destinations at time t
    (c) score     a logit for each pair (i, j) and each pair (i, negative)
    (d) keep      the updated memory becomes the memory of the nodes with an event; their messages are used up
    (e) store     the batch's own messages, for the batches to come

Only the nodes involved are touched, so a batch costs O(b) and not O(N); `all_nodes = True` gives the O(N) version of
the released code, with the same result. Time is in the stream's own unit. Every buffer of a model is its state at a
point of the stream (never a weight): `reset`, `state` and `restore` treat them alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.pres.layers import MergeLayer, OneQueryAttention, TimeEncoder
from methods.pres.pres import PRES, Update
from methods.shared.checks import check_numbers, check_sizes
from methods.shared.kernels.temporal import gru_update, rows_of
from methods.shared.temporal import Batch, NeighborIndex, Neighbors, StreamModel, last_occurrence


@dataclass(frozen=True)
class Roots:
    """Whose embeddings a batch asks for: R distinct questions among the ends of its events and the negatives.

    rows: (R,) rows of the update. t: (R,) time of the question. acts: (R,) bool, True for the source of an event.
    near, near_rows: the P neighbours that are read and their rows (P,) of the update; None where none are read.
    """

    rows: Tensor
    t: Tensor
    acts: Tensor
    near: Neighbors | None = None
    near_rows: Tensor | None = None


@dataclass(frozen=True)
class Step:
    """What one batch computed.

    logits: (1 + k, b), the true destination first, then k negative ones. update: the memory of the nodes involved.
    ends: (2b,) rows of `update` for `batch.ends`. positive: (p,) rows of the distinct nodes with an event, and
    place: (p,) where each occurs last in `batch.ends`. negative: (m,) distinct rows drawn as negatives only.
    z: (2b, d) embeddings of the ends.
    """

    logits: Tensor
    update: Update
    ends: Tensor
    positive: Tensor
    place: Tensor
    negative: Tensor
    z: Tensor


class MemoryModel(StreamModel, ABC):
    """The five steps above; a model fills in `measure`, `embed` and `store`.

    Args:
        num_nodes: N.
        edge_dim: F, number of edge features.
        dim: d, width of memory, embedding and time encoding.
        num_neighbors: n, most recent neighbours that an embedding (TGN) or a delivery (APAN) reaches.
        correction: PRES, or None for the plain model.

    Raises:
        TypeError, ValueError: a size that is no whole number or out of range, or a correction of other sizes.
    """

    all_nodes = False

    def __init__(
        self, num_nodes: int, edge_dim: int, dim: int, *, num_neighbors: int = 10, correction: PRES | None = None
    ) -> None:
        super().__init__()
        check_sizes(type(self).__name__, num_nodes=num_nodes, dim=dim, num_neighbors=num_neighbors)
        check_sizes(type(self).__name__, least=0, edge_dim=edge_dim)
        if isinstance(correction, PRES) and correction.increments.total.shape[::2] != (num_nodes, dim):
            nodes, _, width = correction.increments.total.shape
            raise ValueError(
                f"{type(self).__name__}: correction is made for {nodes} nodes of width {width}; "
                f"this model has {num_nodes} of width {dim}"
            )
        self.num_neighbors, self.edge_dim = num_neighbors, edge_dim
        self.decoder = MergeLayer(dim, dim, dim, 1)
        self.correction = correction
        self.register_buffer("memory", torch.zeros(num_nodes, dim))
        self.register_buffer("last_update", torch.zeros(num_nodes, dtype=torch.float64))

    @abstractmethod
    def measure(self, nodes: Tensor) -> Update:
        """(a) for distinct nodes (U,)."""

    def neighbors(self, nodes: Tensor, t: Tensor, index: NeighborIndex) -> Neighbors | None:
        """The neighbours that `embed` reads, for nodes (R,) at times (R,); None where it reads none."""
        return None

    @abstractmethod
    def embed(self, update: Update, roots: Roots) -> Tensor:
        """(b) z: (R, d)."""

    @abstractmethod
    def store(self, batch: Batch, step: Step, index: NeighborIndex) -> None:
        """(e), once the memory is kept."""

    def score(self, batch: Batch, negatives: Tensor, index: NeighborIndex) -> Step:
        """(a) to (c). Changes no state. negatives: (k, b) destinations that did not happen.

        Raises:
            TypeError, ValueError, IndexError: nodes of another dtype, out of range, or not as many as the batch has;
                a time or feature that is not finite.
        """
        self._check(batch, negatives)
        size, drawn = len(batch), negatives.shape[0]
        asked = torch.cat([batch.ends, negatives.flatten()])
        event = torch.arange(size, device=asked.device)
        event = torch.cat([event.repeat_interleave(2), event.repeat(drawn)])
        t = batch.t[event]
        acts = torch.zeros_like(asked, dtype=torch.bool)
        acts[: 2 * size : 2] = True
        once, question = _distinct(asked, event, acts, batch)
        near = self.neighbors(asked[once], t[once], index)
        nodes, rows = self._involved(asked if near is None else torch.cat([asked, near.node]))
        update = self.measure(nodes)
        if self.correction is not None:
            update = self.correction.correct(update)
        of_asked, of_near = rows[: len(asked)], rows[len(asked) :]
        z = self.embed(update, Roots(of_asked[once], t[once], acts[once], near, of_near))
        z = z if once is question else z.index_select(0, question)

        ends, others = z[: 2 * size].view(size, 2, -1), z[2 * size :].view(drawn, size, -1)
        of_src, of_dst = self.decoder.halves()
        candidates = torch.matmul(torch.cat([ends[:, 1].unsqueeze(0), others]), of_dst.T)  # (1 + k, b, d)
        hidden = torch.relu(torch.addmm(self.decoder.hidden.bias, ends[:, 0], of_src.T) + candidates)
        logits = self.decoder.out(hidden).squeeze(-1)
        positive, place = last_occurrence(of_asked[: 2 * size], len(nodes))
        negative = _without(of_asked[2 * size :], positive, len(nodes))
        return Step(logits, update, of_asked[: 2 * size], positive, place, negative, z[: 2 * size])

    def _check(self, batch: Batch, negatives: Tensor) -> None:
        name, size, num_nodes = type(self).__name__, len(batch), self.memory.shape[0]
        shapes = {"batch.edge_features": (batch.edge_features, (size, self.edge_dim)), "batch.t": (batch.t, (size,))}
        nodes = {"negatives": (negatives, (len(negatives), size))}
        nodes |= {f"batch.{end}": (getattr(batch, end), (size,)) for end in ("src", "dst")}
        for what, (tensor, shape) in (shapes | nodes).items():
            if tensor.shape != shape:
                raise ValueError(f"{name}: {what} must be {shape}, as the batch is; got {tuple(tensor.shape)}")
            if what in shapes and not bool(torch.isfinite(tensor).all()):
                raise ValueError(f"{name}: {what} holds NaN or infinite values")
            if what in nodes and tensor.dtype != torch.int64:
                raise TypeError(f"{name}: {what} must be int64; got {tensor.dtype}")
            if what in nodes and tensor.numel() and not 0 <= (wrong := _farthest(tensor)) < num_nodes:
                raise IndexError(f"{name}: {what} has node {wrong}, outside 0 .. {num_nodes - 1}")

    def _involved(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Distinct nodes (U,), and the row of each given node among them."""
        if self.all_nodes or (self.correction is not None and self.correction.all_nodes):
            return torch.arange(self.memory.shape[0], device=nodes.device), nodes
        return torch.unique(nodes, return_inverse=True)

    @torch.no_grad()
    def commit(self, batch: Batch, step: Step, index: NeighborIndex) -> None:
        """(d) and (e): the only place where the state changes."""
        update, rows = step.update, step.positive
        if self.correction is not None:
            self.correction.observe(update, rows, step.negative if self.training else None)
        nodes = update.nodes[rows]
        self.memory[nodes] = update.kept.index_select(0, rows)
        self.last_update[nodes] = update.time.index_select(0, rows)
        self.store(batch, step, index)

    @torch.no_grad()
    def advance(self, batch: Batch, index: NeighborIndex) -> None:
        """(a), (d) and (e) only: the memory moves on, nothing is scored."""
        nodes, rows = self._involved(batch.ends)
        update = self.measure(nodes)
        if self.correction is not None:
            update = self.correction.correct(update)
        positive, place = last_occurrence(rows, len(nodes))
        nothing = update.after.new_empty(0)
        self.commit(batch, Step(nothing, update, rows, positive, place, rows[:0], update.after[rows]), index)

    def penalty(self, step: Step) -> Tensor | float:
        """What the correction adds to the loss."""
        return 0.0 if self.correction is None else self.correction.penalty(step.update, step.positive)


class MessageModel(MemoryModel):
    """Steps (a) and (e) of TGN and JODIE: one waiting message per node, and a recurrent cell.

    The message to i of an event (i, j, t, e) is [s_i ; s_j ; e ; phi(t - last_update_i)], to j symmetrically: built
    when it is stored, from the memory just kept, and without gradient. The last message in the order of events wins.
    Storage O(N (3d + F)).
    """

    def __init__(
        self, num_nodes: int, edge_dim: int, dim: int, *, cell: type[nn.GRUCell] | type[nn.RNNCell],
        num_neighbors: int = 10, correction: PRES | None = None,
    ) -> None:  # fmt: skip
        super().__init__(num_nodes, edge_dim, dim, num_neighbors=num_neighbors, correction=correction)
        self.time_encoder = TimeEncoder(dim)
        self.updater = cell(3 * dim + edge_dim, dim)
        self.register_buffer("message", torch.zeros(num_nodes, 3 * dim + edge_dim))
        self.register_buffer("message_time", torch.zeros(num_nodes, dtype=torch.float64))
        self.register_buffer("waiting", torch.zeros(num_nodes, dtype=torch.bool))

    def measure(self, nodes: Tensor) -> Update:
        before, pending = self.memory.index_select(0, nodes), self.waiting[nodes]
        rows, after = pending.nonzero().squeeze(1), before
        if len(rows):  # where nothing waits the cell has no gradient, not one of zeros, which would be a step of Adam
            updated = self._cell(self.message.index_select(0, nodes[rows]), before.index_select(0, rows))
            after = before.index_copy(0, rows, updated)
        since, time = self.last_update.index_select(0, nodes), self.message_time.index_select(0, nodes)
        return Update(nodes, before, after, after, since, time, pending)

    def _cell(self, message: Tensor, memory: Tensor) -> Tensor:
        cell = self.updater
        if isinstance(cell, nn.GRUCell):
            return gru_update(message, memory, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
        return cell(message, memory)

    def store(self, batch: Batch, step: Step, index: NeighborIndex) -> None:
        ends = batch.ends
        node, other, event = ends[step.place], ends[step.place ^ 1], step.place // 2
        time = batch.t[event]
        encoded = self.time_encoder((time - self.last_update[node]).to(self.memory.dtype))
        mine, theirs = self.memory.index_select(0, node), self.memory.index_select(0, other)
        self.message[node] = torch.cat([mine, theirs, batch.edge_features[event], encoded], dim=1)
        self.message_time[node] = time
        self.waiting[node] = True


class TGN(MessageModel):
    """Temporal Graph Network (Rossi et al. 2020, arXiv 2006.10637), as PRES uses it: GRU memory, one attention layer.

    z_i = Merge(Attention([s_i ; phi(0)], {[s_k ; e_ik ; phi(t - t_ik)]}), s_i) over the n most recent neighbours k
    strictly before t; the attention part is zero for a node without neighbours. Node features, zeros in all data sets
    of the paper, are left out.
    """

    def __init__(
        self, num_nodes: int, edge_dim: int, dim: int, *, num_neighbors: int = 10, heads: int = 2,
        dropout: float = 0.1, correction: PRES | None = None,
    ) -> None:  # fmt: skip
        super().__init__(num_nodes, edge_dim, dim, cell=nn.GRUCell, num_neighbors=num_neighbors, correction=correction)
        self.attention = OneQueryAttention(2 * dim, 2 * dim + edge_dim, heads, dropout)
        self.merge = MergeLayer(2 * dim, dim, dim, dim)

    def neighbors(self, nodes: Tensor, t: Tensor, index: NeighborIndex) -> Neighbors:
        return index.recent(nodes, t, self.num_neighbors)

    def embed(self, update: Update, roots: Roots) -> Tensor:
        assert roots.near is not None
        near, memory = roots.near, update.after.index_select(0, roots.rows)
        theirs = rows_of(update.after, roots.near_rows)
        one = memory.new_ones(len(theirs), 1)
        keys = torch.cat([theirs, near.edge_features, self.time_encoder(near.age), one], dim=1)
        now = torch.cos(self.time_encoder.bias)  # phi(0)
        of_attended, of_memory = self.merge.halves()
        own = torch.addmm(self.merge.hidden.bias, memory, of_memory.T)
        hidden = self.attention(memory, keys, near.owner, shared=now, then=of_attended, onto=own)
        return self.merge.out(torch.relu(hidden))


class Memoryless(TGN):
    """The control: TGN's attention and decoder, with a memory that stays zero."""

    def measure(self, nodes: Tensor) -> Update:
        before, time = self.memory[nodes], self.last_update[nodes]
        return Update(nodes, before, before, before, time, time, torch.zeros_like(nodes, dtype=torch.bool))

    def store(self, batch: Batch, step: Step, index: NeighborIndex) -> None:
        """Nothing waits for a memory that is never updated."""


class JODIE(MessageModel):
    """JODIE (Kumar et al., KDD 2019) in the form of the TGN code: RNN memory, projected to the time of the event.

    z_i = s_i (1 + Linear(dt)), dt = (t - last_update_i - mean) / std, with mean and std of sources and destinations
    apart, taken over the training events (`gap_statistics`). Linear: 1 -> d, weight and bias from N(0, 1).

    Args:
        gaps: ((mean, std) of sources, (mean, std) of destinations), in the stream's unit of time.

    Raises:
        TypeError, ValueError: as `MemoryModel`; a mean or deviation that is not finite, or a deviation that is 0.
    """

    def __init__(
        self, num_nodes: int, edge_dim: int, dim: int, *, gaps: tuple[tuple[float, float], tuple[float, float]],
        num_neighbors: int = 10, correction: PRES | None = None,
    ) -> None:  # fmt: skip
        super().__init__(num_nodes, edge_dim, dim, cell=nn.RNNCell, num_neighbors=num_neighbors, correction=correction)
        for side, (mean, std) in zip(("sources", "destinations"), gaps, strict=True):
            check_numbers("JODIE", **{f"mean gap of {side}": mean})
            check_numbers("JODIE", above=0, **{f"deviation of the gap of {side}": std})
        self.gaps = gaps
        self.projection = nn.Linear(1, dim)
        nn.init.normal_(self.projection.weight)
        nn.init.normal_(self.projection.bias)

    def embed(self, update: Update, roots: Roots) -> Tensor:
        (src_mean, src_std), (dst_mean, dst_std) = self.gaps
        gap = (roots.t - update.time[roots.rows]).to(update.after.dtype)
        gap = torch.where(roots.acts, (gap - src_mean) / src_std, (gap - dst_mean) / dst_std)
        return update.after.index_select(0, roots.rows) * (1 + self.projection(gap.unsqueeze(1)))


class APAN(MemoryModel):
    """Asynchronous propagation attention (Wang et al., SIGMOD 2021): no neighbour is read when a score is asked for.

    Each node has a mailbox of its 10 latest mails. An event sends the mail [z_i ; z_j ; e] to i and to i's most recent
    neighbours, [z_j ; z_i ; e] to j and to j's; of several mails to a node in one batch it gets the mean, dated with
    the latest. The memory is the last embedding,

        z_i = MLP(LayerNorm(s_i + Attention(s_i, {[mail ; phi(age of the mail)]})))

    age being counted from the newest mail. Not in PRES's released code: this follows the APAN paper and TGL's
    formulation, from memory. Sure: mailboxes of 10, delivery to neighbours, attention with the memory as query. Ours:
    mails are concatenations, the 10 neighbours are the latest before the event, and z_i is computed when the batch
    starts, so that (as in TGN) PRES can treat it as the measured memory.
    """

    slots = 10

    def __init__(
        self, num_nodes: int, edge_dim: int, dim: int, *, num_neighbors: int = 10, heads: int = 2,
        dropout: float = 0.1, correction: PRES | None = None,
    ) -> None:  # fmt: skip
        super().__init__(num_nodes, edge_dim, dim, num_neighbors=num_neighbors, correction=correction)
        self.time_encoder = TimeEncoder(dim)
        self.attention = OneQueryAttention(dim, 3 * dim + edge_dim, heads, dropout)
        self.norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim))
        self.register_buffer("mail", torch.zeros(num_nodes, self.slots, 2 * dim + edge_dim))
        self.register_buffer("mail_time", torch.zeros(num_nodes, self.slots, dtype=torch.float64))
        self.register_buffer("received", torch.zeros(num_nodes, dtype=torch.int64))

    def measure(self, nodes: Tensor) -> Update:
        before, since, received = self.memory[nodes], self.last_update[nodes], self.received[nodes]
        pending = received > 0
        mail_time = self.mail_time[nodes]
        newest = mail_time.amax(dim=1)
        age = (newest.unsqueeze(1) - mail_time).to(before.dtype)
        owner, slot = (torch.arange(self.slots, device=nodes.device) < received.unsqueeze(1)).nonzero().unbind(1)
        one = before.new_ones(len(owner), 1)
        keys = torch.cat([self.mail[nodes[owner], slot], self.time_encoder(age[owner, slot]), one], dim=1)
        z = self.mlp(self.norm(before + self.attention(before, keys, owner)))
        after = torch.where(pending.unsqueeze(1), z, before)
        return Update(nodes, before, after, after, since, torch.where(pending, newest, since), pending)

    def embed(self, update: Update, roots: Roots) -> Tensor:
        return update.after.index_select(0, roots.rows)

    def store(self, batch: Batch, step: Step, index: NeighborIndex) -> None:
        ends, t = batch.ends, batch.t.repeat_interleave(2)
        own = step.z.view(len(batch), 2, -1)
        mails = torch.cat([own, own.flip(1), batch.edge_features.unsqueeze(1).expand(-1, 2, -1)], dim=-1).flatten(0, 1)
        near = index.recent(ends, t, self.num_neighbors)
        sender = torch.cat([torch.arange(len(ends), device=ends.device), near.owner])
        self._deliver(torch.cat([ends, near.node]), mails[sender], t[sender])

    def _deliver(self, receivers: Tensor, mails: Tensor, t: Tensor) -> None:
        """The mean of the mails (M, m) to each receiver (M,), dated with the latest of t (M,), into its box."""
        nodes, row, count = torch.unique(receivers, return_inverse=True, return_counts=True)
        total = mails.new_zeros(len(nodes), mails.shape[1]).index_add_(0, row, mails)
        latest = t.new_zeros(len(nodes)).scatter_reduce_(0, row, t, "amax")
        slot = self.received[nodes] % self.slots
        self.mail[nodes, slot] = total / count.unsqueeze(1)
        self.mail_time[nodes, slot] = latest
        self.received[nodes] += 1


def _distinct(node: Tensor, event: Tensor, acts: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Questions (R,) asked more than once are answered once: a user rates many films in the same second.

    Returns:
        once: (D,) one place of each distinct (node, time, acts). question: (R,) which of them each place asks.
    """
    places = torch.arange(len(node), device=node.device)
    instant = torch.searchsorted(batch.t, batch.t)  # the first event of the batch at the same time
    if torch.equal(instant, places[: len(batch)]):
        return places, places
    distinct, question = torch.unique((node * len(batch) + instant[event]) * 2 + acts, return_inverse=True)
    once = torch.empty_like(distinct)
    once[question] = places  # whichever place is written last asks the same
    return once, question


def _farthest(nodes: Tensor) -> int:
    """The lowest node if it is negative, else the highest."""
    low, high = nodes.aminmax()
    return int(low) if low < 0 else int(high)


def _without(rows: Tensor, taken: Tensor, size: int) -> Tensor:
    """The distinct values of rows (m,), all in 0 .. size - 1, that are not in `taken`, ascending."""
    chosen = torch.zeros(size, dtype=torch.bool, device=rows.device)
    chosen[rows] = True
    chosen[taken] = False
    return chosen.nonzero().squeeze(1)

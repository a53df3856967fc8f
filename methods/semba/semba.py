"""SEMBA: signed links of a temporal graph, from two memories per node (Sharma et al., CIKM 2023, arXiv 2207.03408).

People rate each other over time, for better or worse. Signed graph networks know no time; temporal graph networks know
no sign. SEMBA keeps two memories per node v, s+_v (as seen by its friends) and s-_v (by its enemies), and lets an event
(i, j, t, sign, w) update both by balance theory: the friend of a friend and the enemy of an enemy speak to s+, the
enemy of a friend and the friend of an enemy to s-.

    messages to i     positive event:  s+_i gets [s+_i ; s+_j ; w ; phi],  s-_i gets [s-_i ; s-_j ; w ; phi]       (1)
                      negative event:  s+_i gets [s+_i ; s-_j ; w ; phi],  s-_i gets [s-_i ; s+_j ; w ; phi]       (2)
                      and to j with i and j exchanged; phi = phi(t - last update of the receiving memory)
    update            s+ = GRU+(mean of its messages in the batch, s+),  s- = GRU-(mean ..., s-)                   (3)
    embed             z_i = Attention([s+_i ; s-_i], {[s+_k ; s-_k], [phi(t_k - t_ik) ; w_ik]}),                   (4)
                      over the latest neighbours k; t_k is the last update of k, t_ik the time of the event
    score             Linear([z_i ; z_j])                                                                          (5)
    time              phi(dt) = cos(Linear(dt))                                                                    (6)

Another way to see (1) and (2): draw every node twice, once on a sheet + and once on a sheet -. A positive event joins
equal sheets, a negative one joins opposite sheets. SEMBA is a TGN on that graph (the double cover of the signed graph)
which has a GRU of its own for each sheet; with equal GRUs nothing would tell the sheets apart.

A batch passes through embed (4), score (5), keep (3) and store (1, 2), in this order: no score sees an event of its own
batch (the strict protocol; `leak` is the order of the released code). The messages of a batch are built and stored when
it ends, without gradient, and applied when their node is next asked for; so the gradient of a step reaches the GRUs and
the time encoding, and nothing older.

What is ours: neighbours are the ends of all events of a node, not only of those in which it is rated; at most
`num_neighbors` of them, the latest; the paper's node features, zeros by default, are left out. Of the paper only title,
abstract and introduction could be read: (1) to (6) are from the released code and balance theory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from datasets.temporal import EventStream
from methods.semba.layers import NeighborAttention, TimeEncoder
from methods.shared.checks import check_probabilities, check_sizes
from methods.shared.kernels.temporal import gru_update
from methods.shared.temporal import Batch, NeighborIndex, StreamModel

FRIENDS, ENEMIES = 0, 1


@dataclass(frozen=True)
class Rule:
    """Events of `sign` (+1, -1; 0 for both) send, into memory `into`, the `partner` memory of the other end."""

    into: int
    sign: int
    partner: int


BALANCE = (
    Rule(FRIENDS, +1, FRIENDS), Rule(FRIENDS, -1, ENEMIES), Rule(ENEMIES, +1, ENEMIES), Rule(ENEMIES, -1, FRIENDS),
)  # fmt: skip
NO_BALANCE = (Rule(FRIENDS, +1, FRIENDS), Rule(ENEMIES, -1, ENEMIES))
SIGN_BLIND = (Rule(FRIENDS, 0, FRIENDS),)


@dataclass(frozen=True)
class Measured:
    """The memories of U distinct nodes with their waiting messages applied.

    nodes: (U,) int64, ascending. memory: (M, U, d), with gradient. time: (M, U) float64, of the last update.
    """

    nodes: Tensor
    memory: Tensor
    time: Tensor


class SignedMemory(nn.Module):
    """M memories per node and the rules by which events update them: equations (1) to (3).

    Every buffer is the state at a point of a stream, none is a weight. O(M N (3 d + h)) numbers.

    Args:
        num_nodes: N. rules: who speaks to whom. memory_dim: d. time_encoder: phi, of width h.
    """

    def __init__(self, num_nodes: int, rules: tuple[Rule, ...], memory_dim: int, time_encoder: TimeEncoder) -> None:
        super().__init__()
        count, width = 1 + max(rule.into for rule in rules), 2 * memory_dim + 1 + time_encoder.out_channels
        self.rules, self.time_encoder = rules, time_encoder
        self.cells = nn.ModuleList(nn.GRUCell(width, memory_dim) for _ in range(count))
        self.register_buffer("memory", torch.zeros(count, num_nodes, memory_dim))
        self.register_buffer("last_update", torch.zeros(count, num_nodes, dtype=torch.float64))
        self.register_buffer("message", torch.zeros(count, num_nodes, width))
        self.register_buffer("message_time", torch.zeros(count, num_nodes, dtype=torch.float64))
        self.register_buffer("waiting", torch.zeros(count, num_nodes, dtype=torch.bool))

    def measure(self, nodes: Tensor) -> Measured:
        """Equation (3) for distinct nodes (U,), ascending; changes no state."""
        memories = []
        for m, cell in enumerate(self.cells):
            before, rows = self.memory[m].index_select(0, nodes), self.waiting[m][nodes].nonzero().squeeze(1)
            message, memory = self.message[m].index_select(0, nodes[rows]), before.index_select(0, rows)
            after = gru_update(message, memory, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
            memories.append(before.index_copy(0, rows, after))
        time = torch.where(self.waiting[:, nodes], self.message_time[:, nodes], self.last_update[:, nodes])
        return Measured(nodes, torch.stack(memories), time)

    @torch.no_grad()
    def commit(self, batch: Batch, measured: Measured) -> None:
        """Keep the memories of the nodes with an event, and store the messages of the batch for later."""
        nodes = batch.ends.unique()
        rows = torch.searchsorted(measured.nodes, nodes)
        self.memory[:, nodes] = measured.memory[:, rows]
        self.last_update[:, nodes] = measured.time[:, rows]
        self.waiting[:, nodes] = False
        for m in range(len(self.cells)):
            self._store(m, *self.messages(m, batch))

    @torch.no_grad()
    def messages(self, memory: int, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Equations (1) and (2), one row for each message to `memory`: receiver (k,), message (k, W), time (k,)."""
        receiver, partner, event = [], [], []
        weight = batch.edge_features[:, 0]
        for rule in self.rules:
            if rule.into != memory:
                continue
            obeys = weight * rule.sign > 0 if rule.sign else torch.ones_like(weight, dtype=torch.bool)
            of_rule = obeys.nonzero().squeeze(1)
            src, dst = batch.src[of_rule], batch.dst[of_rule]
            receiver += [src, dst]
            partner += [self.memory[rule.partner].index_select(0, nodes) for nodes in (dst, src)]
            event += [of_rule, of_rule]
        receiver, event = torch.cat(receiver), torch.cat(event)
        t = batch.t[event]
        encoded = self.time_encoder((t - self.last_update[memory][receiver]).to(self.memory.dtype))
        own, size = self.memory[memory].index_select(0, receiver), weight[event].abs().unsqueeze(1)
        return receiver, torch.cat([own, torch.cat(partner), size, encoded], dim=1), t

    def _store(self, m: int, receiver: Tensor, message: Tensor, t: Tensor) -> None:
        """The mean message of each receiver waits, dated with its latest one."""
        nodes, row, count = torch.unique(receiver, return_inverse=True, return_counts=True)
        total = message.new_zeros(len(nodes), message.shape[1]).index_add_(0, row, message)
        self.message[m, nodes] = total / count.unsqueeze(1)
        self.message_time[m, nodes] = t.new_zeros(len(nodes)).scatter_reduce_(0, row, t, "amax")
        self.waiting[m, nodes] = True


class TemporalModel(StreamModel):
    """Memory, attention and head: SEMBA with `BALANCE`, TGN with one memory.

    Args:
        num_nodes: N.
        out_channels: width of an embedding z, a multiple of `heads`.
        num_scores: scores for each pair of nodes.
        rules: of the memory. memory_dim: d. time_dim: width of phi.
        heads, dropout: of the attention.
        num_neighbors: latest neighbours that an embedding reads; None for all.
        leak: an embedding reads the events of its own batch too, as in the released code: they give away what is to
            be predicted. Off in the strict protocol.
    """

    def __init__(
        self, num_nodes: int, out_channels: int = 64, num_scores: int = 1, *, rules: tuple[Rule, ...],
        memory_dim: int = 64, time_dim: int = 32, heads: int = 8, dropout: float = 0.5,
        num_neighbors: int | None = 10, leak: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        name, at_least_one = type(self).__name__, 1 if num_neighbors is None else num_neighbors
        check_sizes(name, num_nodes=num_nodes, out_channels=out_channels, num_scores=num_scores, memory_dim=memory_dim)
        check_sizes(name, time_dim=time_dim, heads=heads, num_neighbors=at_least_one)
        check_probabilities(name, dropout=dropout)
        self.num_nodes, self.num_neighbors, self.leak = num_nodes, num_neighbors, leak
        self.time_encoder = TimeEncoder(time_dim)
        self.memory = SignedMemory(num_nodes, rules, memory_dim, self.time_encoder)
        width = len(self.memory.cells) * memory_dim
        self.attention = NeighborAttention(width, out_channels, heads, dropout=dropout, edge_dim=time_dim + 1)
        self.head = nn.Linear(2 * out_channels, num_scores)

    def embed(self, nodes: Tensor, index: NeighborIndex, first: int, last: int) -> tuple[Tensor, Measured]:
        """Equation (4) for a batch that holds the events first .. last - 1 of the index's stream.

        Args:
            nodes: (Q,) distinct, ascending.

        Returns:
            z: (Q, out_channels). The memories that were measured for it, to be handed to `commit`.

        Raises:
            TypeError, ValueError, IndexError: nodes that are no int64, not ascending or out of range; events out of
                range.
        """
        self._check(nodes, len(index.stream), first, last)
        owner, other, event = self.neighbors(nodes, index, last if self.leak else first)
        involved, rows = torch.unique(torch.cat([nodes, other]), return_inverse=True)
        measured = self.memory.measure(involved)
        x, time = measured.memory.transpose(0, 1).flatten(1), measured.time.amax(0)
        near = rows[len(nodes) :]
        age = (time[near] - index.stream.t[event]).to(x.dtype)
        size = index.stream.edge_features[event].abs()
        edge_attr = torch.cat([self.time_encoder(age), size], dim=1)
        return self.attention(x, rows[: len(nodes)], near, owner, edge_attr), measured

    def _check(self, nodes: Tensor, num_events: int, first: int, last: int) -> None:
        name = type(self).__name__
        if nodes.dtype != torch.int64 or nodes.dim() != 1:
            raise TypeError(f"{name}: nodes must be a vector of int64; got {nodes.dtype} {tuple(nodes.shape)}")
        if bool((nodes.diff() <= 0).any()):
            raise ValueError(f"{name}: nodes must be distinct and ascending; see torch.unique")
        if len(nodes) and not 0 <= int(nodes[0]) <= int(nodes[-1]) < self.num_nodes:
            wrong = int(nodes[0]) if nodes[0] < 0 else int(nodes[-1])
            raise IndexError(f"{name}: node {wrong} is outside 0 .. {self.num_nodes - 1}")
        check_sizes(name, least=0, first=first, last=last)
        if not first <= last <= num_events:
            raise IndexError(f"{name}: events {first} .. {last} are not a part of 0 .. {num_events}")

    def neighbors(self, nodes: Tensor, index: NeighborIndex, seen: int) -> tuple[Tensor, Tensor, Tensor]:
        """What `NeighborIndex.latest` returns for nodes (Q,), among the first `seen` events."""
        return index.latest(nodes, seen, self.num_neighbors)

    def commit(self, batch: Batch, measured: Measured) -> None:
        """Insert the batch. `measured` must hold the ends of all of its events."""
        self.memory.commit(batch, measured)


class SEMBA(TemporalModel):
    """Signed link's Evolution using Memory modules and Balanced Aggregation.

    Args:
        num_nodes: N. out_channels: width of an embedding. num_scores: scores for each pair of nodes.
        balance: False for the ablation in which s+ sees positive events only and s- negative ones only.
        options: `memory_dim, time_dim, heads, dropout, num_neighbors, leak`, see `TemporalModel`.

    Shapes: `embed(nodes (Q,), index, first, last)` -> z (Q, out_channels); `head([z_i ; z_j])` -> scores.
    """

    def __init__(
        self, num_nodes: int, out_channels: int = 64, num_scores: int = 1, *, balance: bool = True, **options: object
    ) -> None:
        rules = BALANCE if balance else NO_BALANCE
        super().__init__(num_nodes, out_channels, num_scores, rules=rules, **options)  # type: ignore[arg-type]


def main() -> None:
    """Train SEMBA, and a TGN whose memory is blind to signs, on ratings of users with good and with bad names."""
    from methods.semba.baselines import TGN  # it is made of the parts above
    from methods.semba.tasks import make_task, sign_loss, sign_metrics
    from methods.semba.training import numbered, score, validate

    generator = torch.Generator().manual_seed(0)
    ends = torch.randint(60, (2, 3_000), generator=generator)
    liked = torch.where(ends[1] % 2 == 0, 0.9, 0.3)  # every other user has a good name
    sign = 2.0 * (torch.rand(3_000, generator=generator) < liked).unsqueeze(1) - 1
    task = make_task(EventStream(ends[0], ends[1], torch.arange(3_000.0).double(), sign, 60))
    for name, kind in (("SEMBA", SEMBA), ("TGN", TGN)):
        torch.manual_seed(0)
        model = kind(task.stream.num_nodes, 32, memory_dim=32, time_dim=16)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for epoch in range(1, 4):
            model.train()
            model.reset()  # an epoch begins with an empty memory
            for first, batch in numbered(task, 300, 0, task.first_val):
                (logits,), measured = score(model, task, first, batch)
                loss = sign_loss(logits, None, batch.edge_features[:, 0])
                model.commit(batch, measured)  # only now does the batch belong to the past
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            auc = sign_metrics(validate(model, task, "sign_class", 300))["auc"]
            print(f"{name:5}  epoch {epoch}  loss {loss:.3f}  AUC of the validation's signs {auc:.3f}")

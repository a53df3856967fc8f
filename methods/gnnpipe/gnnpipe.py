"""GNNPipe: train a deep graph network on a whole graph, its layers spread over the workers as a pipeline.

    task = make_task(data, "gcnii")                       # data: of torch-geometric, with masks
    partition = make_partition(task.adjacency, ways=1, chunks=16, how="metis")
    engine, blocks = pipeline(task, Model("gcnii", num_layers=8, hidden_channels=32), 4, partition)
    history = fit(engine, blocks, task, epochs=100, every=5)

Graph parallelism gives every worker a part of the vertices, and must fetch its neighbours' rows before every layer and
their gradients after it: what it sends grows with the number of layers. GNNPipe gives every worker (a stage) a run of
layers and the whole graph, so that rows cross the network only where a stage ends: what it sends does not depend on
the depth. To keep all stages busy the vertices are cut into K chunks that stream through the stages. But chunks depend
on one another: an edge may lead to a chunk whose turn has not come yet. Four techniques make this work:

    history     a neighbour whose chunk has not been processed in this epoch is read as it was in an earlier one
    period      that memory, the snapshot, is renewed only every T epochs
    shuffle     every epoch draws a new order pi of the chunks, the same on all stages, from a shared seed
    scale       what a chunk contributes to the gradient of another chunk is doubled

Per aggregation, z_v = sum_u A[v, u] D[u], a stage keeps D (the rows that are aggregated), its snapshot and G (the
gradients of z), each for all vertices. A may be of a directed graph: A[v, u] is the arc from u to v, along which rows
go forward and gradients back. Everything else exists for one chunk at a time and is computed again backward.

    forward, chunks c in the order pi:     D[c] <- h_c;  z_c = A[c, :] D;  h_c <- block(h_c, z_c)
    backward, chunks c in reverse order:   G[c] <- dL/dz_c;  dL/dD[c] = A[:, c]^T G;  then G[c] <- 2 G[c]

G is zero where backward has not come yet, which is where a chunk's forward had read history. So the reverse order makes
the backward pass the exact gradient of the forward pass, history being constant. A neighbour in another chunk comes
later in a random order with probability 1/2: its contribution is seen half of the time, hence the factor 2.

Weights are updated once per epoch, so no stage ever computes with old ones. Within a stage, W workers (ways) may share
the vertices by graph parallelism. The grid S x W x K covers every method here: S x 1 x K is GNNPipe, S x W x K its
hybrid, 1 x P x 1 plain graph parallelism, S x 1 x 1 a pipeline without overlap, and 1 x 1 x 1 one process.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.gnnpipe.layers import Block
from methods.gnnpipe.links import Links
from methods.gnnpipe.partition import Halo, Shard
from methods.shared.checks import check_probabilities, check_sizes, refuse_to_derive_again


@dataclass(frozen=True)
class Techniques:
    """The techniques that let chunks be processed one after the other. The defaults are the paper's.

    period: T, epochs between two snapshots. shuffle: a new order of the chunks in every epoch. scale: double the
    gradients that come from other chunks.
    """

    period: int = 20
    shuffle: bool = True
    scale: bool = True

    def __post_init__(self) -> None:
        check_sizes("Techniques", period=self.period)


@dataclass(frozen=True)
class Vertices:
    """What a worker knows of its vertices, in the order of its shard.

    x: (n + m, F) features, mirrors included. y: (n,) classes. train: (n,) bool. num_train: training vertices of the
    whole graph, by which the loss is divided.
    """

    x: Tensor
    y: Tensor
    train: Tensor
    num_train: int


class Memory:
    """What one aggregation z = A h of a stage remembers of all chunks: D, its snapshot and G.

    Rows are the way's own vertices, then the mirrors that it reads: of D forward, of G backward. Both begin as zeros.
    """

    def __init__(self, shard: Shard, links: Links, techniques: Techniques, like: Tensor, width: int) -> None:
        self.shard, self.links = shard, links
        self.rows, self.gradients = (
            like.new_zeros(len(halo.columns), width) for halo in (shard.forward, shard.backward)
        )
        # a single chunk reads no history, and nothing comes from other chunks
        self.snapshot = torch.zeros_like(self.rows) if shard.chunks > 1 else None
        self.scale = techniques.scale and shard.chunks > 1

    def write(self, chunk: int, h: Tensor) -> None:
        """D[c] <- h, here and where it is mirrored."""
        self.rows[self.shard.own[chunk]] = h.detach()
        self._exchange(self.rows, self.shard.forward, chunk)

    def multiply(self, chunk: int) -> Tensor:
        """z_c = A[c, :] D."""
        return self.shard.forward.matrices[chunk] @ self.rows

    def pull_back(self, chunk: int, of_z: Tensor) -> Tensor:
        """G[c] <- dL/dz_c, here and where it is mirrored; returns dL/dD[c] = A[:, c]^T G."""
        self.gradients[self.shard.own[chunk]] = of_z
        self._exchange(self.gradients, self.shard.backward, chunk)
        of_rows = self.shard.backward.matrices[chunk] @ self.gradients
        if self.scale:
            for part in self._parts(self.shard.backward, chunk):
                self.gradients[part].mul_(2)
        return of_rows

    def restore(self, chunk: int, renew: bool) -> None:
        """Put the history back, as it was before this chunk went forward: the chunks before it had read it.

        Where the snapshot is to be renewed the two change places, so that the new rows are there at the end.
        """
        if self.snapshot is None:
            return
        for part in self._parts(self.shard.forward, chunk):
            new = self.rows[part].clone() if renew else None
            self.rows[part] = self.snapshot[part]
            if new is not None:
                self.snapshot[part] = new

    def end(self, renew: bool) -> None:
        """End an epoch: D is the snapshot again, and no chunk has a gradient yet."""
        if self.snapshot is not None:
            self.gradients.zero_()
            if renew:
                self.rows.copy_(self.snapshot)

    def _parts(self, halo: Halo, chunk: int) -> list[slice]:
        """Where a chunk's rows are: its own, and its mirrors if it has any."""
        parts = (self.shard.own[chunk], halo.mirrors[chunk])
        return [part for part in parts if part.stop > part.start]

    def _exchange(self, buffer: Tensor, halo: Halo, chunk: int) -> None:
        """Bring the rows of the chunk's mirrors up to date from their owners."""
        received = self.links.exchange(buffer, halo.send[chunk], halo.send_splits[chunk], halo.receive_splits[chunk])
        if received is not None:
            buffer[halo.mirrors[chunk]] = received


class Aggregate(torch.autograd.Function):
    """z_c of h_c, which D has already, and back through G."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, h: Tensor, memory: Memory, chunk: int) -> Tensor:
        ctx.memory, ctx.chunk = memory, chunk  # type: ignore[attr-defined]
        return memory.multiply(chunk)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, of_z: Tensor) -> tuple[Tensor, None, None]:
        refuse_to_derive_again("GNNPipe")
        return ctx.memory.pull_back(ctx.chunk, of_z), None, None  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Run:
    """A chunk's way through a stage: what came in (h, and h0 in GCNII), and h and h0 at its end."""

    inputs: list[Tensor]
    h: Tensor
    h0: Tensor | None

    @property
    def outputs(self) -> list[Tensor]:
        """What leaves the stage."""
        return [self.h] if self.h0 is None else [self.h, self.h0]


class Stage:
    """A run of blocks for the vertices of one way, chunk by chunk.

    Args:
        blocks: the run; all blocks of the model are `blocks` of some stage.
        first: number of its first block in the model.
        last: whether it ends the model, and so has the loss.
        shard: the way's part of the graph.
        vertices: the way's data.
        links: how rows reach other workers.
        width: H, of what crosses the stage's borders.
        has_h0: whether the model has an h0 that must travel along (GCNII).
        dropout: probability after every block but the last.
        seed: of the dropout masks.
    """

    def __init__(
        self, blocks: Sequence[Block], *, first: int, last: bool, shard: Shard, vertices: Vertices, links: Links,
        techniques: Techniques, width: int, has_h0: bool, dropout: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        check_sizes("Stage", blocks=len(blocks), width=width)
        check_sizes("Stage", least=0, first=first)
        check_probabilities("Stage", dropout=dropout)
        self.blocks, self.first, self.last = list(blocks), first, last
        self.shard, self.vertices, self.techniques = shard, vertices, techniques
        self.width, self.has_h0, self.dropout, self.seed, self.epoch = width, has_h0, dropout, seed, 0
        self.memories = {
            i: Memory(shard, links, techniques, vertices.x, block.in_channels)
            for i, block in enumerate(self.blocks)
            if block.aggregates and first + i > 0  # features are known to all and never change
        }
        self.received: dict[int, Tensor] = {}
        self.run: Run | None = None
        self.loss, self.outputs = vertices.x.new_zeros(()), vertices.x.new_zeros(0)

    def begin(self, epoch: int) -> None:
        self.epoch, self.loss = epoch, torch.zeros_like(self.loss)

    def forward(self, chunk: int, received: Tensor | None) -> Tensor:
        """Run a chunk. received: (rows, H), or (rows, 2 H) with h0; None in the first stage. Returns the like, or the
        logits in the last stage.

        A single chunk's run is kept for backward: to compute it again would save no memory.
        """
        if received is not None:
            self.received[chunk] = received
        keep = self.shard.chunks == 1
        with torch.set_grad_enabled(keep):
            run = self._run(chunk, fresh=True)
        self.run = run if keep else None
        if self.last:
            self._keep_output(chunk, run.h.detach())
            return run.h.detach()
        return _side_by_side([part.detach() for part in run.outputs])

    def backward(self, chunk: int, received: Tensor | None) -> Tensor | None:
        """Compute the chunk again and go back through it; the gradients of the weights are added to `.grad`.

        received: gradients of what `forward` returned, None in the last stage. Returns those of what it was given,
        None in the first stage.
        """
        run = self.run or self._run(chunk, fresh=False)
        self.run = None
        if self.last:
            loss = self._loss(run.h, chunk)
            self.loss += loss.detach()
            loss.backward()
        else:
            assert received is not None
            torch.autograd.backward(run.outputs, list(received.split(self.width, dim=1)))
        for memory in self.memories.values():
            memory.restore(chunk, self._renews)
        self.received.pop(chunk, None)
        if self.first == 0:
            return None
        gradients = [torch.zeros_like(part) if part.grad is None else part.grad for part in run.inputs]
        return _side_by_side(gradients)

    def end(self) -> None:
        """Finish an epoch: every T-th one, its rows become the history of the next T."""
        for memory in self.memories.values():
            memory.end(self._renews)

    @property
    def _renews(self) -> bool:
        return (self.epoch + 1) % self.techniques.period == 0

    def _run(self, chunk: int, *, fresh: bool) -> Run:
        """The blocks, one after the other. fresh: every D is given the chunk's rows; else it has them already."""
        if self.first == 0:
            inputs = [self.vertices.x[self.shard.own[chunk]]]
        else:
            inputs = [part.detach().requires_grad_() for part in self.received[chunk].split(self.width, dim=1)]
        h, h0 = inputs[0], inputs[1] if len(inputs) > 1 else None
        for i, block in enumerate(self.blocks):
            z = self._aggregate(i, chunk, h, fresh=fresh) if block.aggregates else None
            h = block(h, z, h0)
            h0 = h if block.makes_h0 else h0
            h = self._dropped(h, i, chunk)
        return Run(inputs, h, h0)

    def _aggregate(self, i: int, chunk: int, h: Tensor, *, fresh: bool) -> Tensor:
        """z_c of block i."""
        memory = self.memories.get(i)
        if memory is None:
            return self.shard.forward.matrices[chunk] @ self.vertices.x
        if fresh:
            memory.write(chunk, h)
        return Aggregate.apply(h, memory, chunk)

    def _dropped(self, out: Tensor, i: int, chunk: int) -> Tensor:
        """Dropout whose mask depends on epoch, block and chunk alone, so that backward draws the same one again."""
        if not (self.dropout and self.blocks[i].drops):
            return out
        place = hash((self.seed, self.epoch, self.first + i, chunk, self.shard.way))
        generator = torch.Generator(out.device).manual_seed(place)
        keep = torch.empty_like(out).bernoulli_(1 - self.dropout, generator=generator)
        return out * (keep.div_(1 - self.dropout) if self.dropout < 1 else keep)

    def _loss(self, logits: Tensor, chunk: int) -> Tensor:
        """This chunk's part of the mean cross-entropy over the training vertices of the graph."""
        rows = self.shard.own[chunk]
        train = self.vertices.train[rows]
        parts = F.cross_entropy(logits[train], self.vertices.y[rows][train], reduction="sum")
        return parts / self.vertices.num_train

    def _keep_output(self, chunk: int, out: Tensor) -> None:
        if not len(self.outputs):
            self.outputs = out.new_zeros(self.shard.size, out.shape[1])
        self.outputs[self.shard.own[chunk]] = out

    def shape(self, chunk: int) -> tuple[int, int]:
        """Of a message about a chunk that enters or leaves the stage."""
        return self.shard.rows(chunk), 2 * self.width if self.has_h0 else self.width


def _side_by_side(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class GNNPipe:
    """The stages that live in this process (all of them, or one of a worker's) and the schedule of an epoch.

    Args:
        stages: in order; their numbers in the pipeline are `numbers`.
        numbers: which stages these are.
        num_stages: S.
        links: to the other stages and ways.
        seed: shared by all workers, so that all draw the same order of chunks without a word.

    Raises:
        ValueError: stages and numbers that do not fit; workers that do not agree on seed, techniques, chunks, graph and
            partition, or the ways of a stage on its weights.
    """

    def __init__(
        self, stages: list[Stage], numbers: Sequence[int], num_stages: int, links: Links, *, seed: int = 0
    ) -> None:
        if not stages or len(stages) != len(numbers) or not set(numbers) <= set(range(num_stages)):
            raise ValueError(f"GNNPipe: {len(stages)} stages with the numbers {list(numbers)} of {num_stages}")
        self.stages, self.numbers, self.num_stages = stages, list(numbers), num_stages
        self.links, self.seed = links, seed
        self._agree()

    def _agree(self) -> None:
        """Orders are drawn without a word, so what they are drawn from is compared once, before the first epoch."""
        (stage, *_), weights = self.stages, 0
        for weight in self.parameters():
            weights = zlib.crc32(weight.detach().cpu().view(-1).view(torch.uint8).numpy().data, weights)
        techniques, shard = stage.techniques, stage.shard
        self.links.agree(
            {
                "seed": self.seed, "stages": self.num_stages, "chunks": shard.chunks, "period": techniques.period,
                "shuffle": int(techniques.shuffle), "scale": int(techniques.scale), "width": stage.width,
                "graph and partition": shard.digest,
            },
            {"weights": weights},
        )  # fmt: skip

    def parameters(self) -> Iterable[torch.nn.Parameter]:
        """The weights of the stages that live here."""
        return (weight for stage in self.stages for block in stage.blocks for weight in block.parameters())

    def order(self, epoch: int) -> list[int]:
        """pi_e: in which order the chunks of an epoch are processed."""
        chunks = self.stages[0].shard.chunks
        if not self.stages[0].techniques.shuffle:
            return list(range(chunks))
        generator = torch.Generator().manual_seed(hash((self.seed, epoch)))
        return torch.randperm(chunks, generator=generator).tolist()

    def epoch(self, epoch: int) -> float:
        """One epoch: the gradients of the stages' weights are in `.grad` when it returns; nothing is updated.

        Returns this process's part of the loss: the parts of all ways' last stages sum to it.
        """
        order = self.order(epoch)
        for weight in self.parameters():
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad.zero_()
        for stage in self.stages:
            stage.begin(epoch)
        self._stream(order, "forward", +1)
        self._stream(order[::-1], "backward", -1)
        for stage in self.stages:
            stage.end()
        self.links.sum_gradients(list(self.parameters()))
        return sum(float(stage.loss) for stage in self.stages)

    def _stream(self, order: list[int], run: str, step: int) -> None:
        """Let the chunks pass through the stages that live here, upwards (step 1) or downwards (-1)."""
        local = list(zip(self.numbers, self.stages, strict=True))[::step]
        for number, stage in local:
            if 0 <= number - step < self.num_stages:
                self.links.expect(number - step, number, [stage.shape(chunk) for chunk in order])
        for chunk in order:
            for number, stage in local:
                has_source = 0 <= number - step < self.num_stages
                received = self.links.receive(number - step, number) if has_source else None
                message = getattr(stage, run)(chunk, received)
                if 0 <= number + step < self.num_stages:
                    self.links.send(number, number + step, message)
        self.links.finish()


def main() -> None:
    """Train GCNII on a generated graph in chunks, four stages in this process, and on the whole graph beside it."""
    from methods.gnnpipe.contenders import CONTENDERS, Recipe, example
    from methods.gnnpipe.training import Model, evaluate

    task, recipe = example(), Recipe(Model("gcnii", 8, 32), stages=4, chunks=8)
    for name in ("full", "pipeline"):
        engine, blocks = CONTENDERS[name].build(task, recipe)
        optimizer = torch.optim.Adam(blocks.parameters(), lr=0.01, weight_decay=5e-4)
        for epoch in range(40):
            loss = engine.epoch(epoch)  # leaves gradients: exact, or with history where a chunk lags behind
            optimizer.step()
            if epoch % 10 == 9:
                val, test = evaluate(blocks, task)
                print(f"{name:8}  epoch {epoch + 1}  loss {loss:.3f}  validation {val:.1f} %  test {test:.1f} %")

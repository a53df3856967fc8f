"""From a graph to a training run: the task, engines on any grid of workers, and a training loop for all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from methods.gnnpipe.gnnpipe import GNNPipe, Stage, Techniques, Vertices
from methods.gnnpipe.layers import MODELS, build_blocks, run_blocks
from methods.gnnpipe.links import Alone, Links, Mailbox, Wire
from methods.gnnpipe.partition import Grid, Partition, Shard, make_shards, to_scipy, to_torch, transposed
from methods.shared.checks import check_numbers, check_option, check_probabilities, check_sizes

if TYPE_CHECKING:
    from torch_geometric.data import Data


@dataclass(frozen=True)
class Task:
    """A graph to classify the vertices of, N of them.

    x: (N, F). y: (N,) classes. train, val, test: (N,) bool. adjacency, transpose: (N, N) sparse CSR, what the model
    multiplies by and its transpose.
    """

    x: Tensor
    y: Tensor
    train: Tensor
    val: Tensor
    test: Tensor
    adjacency: Tensor
    transpose: Tensor

    def to(self, device: torch.device | str) -> Task:
        return Task(**{name: tensor.to(device) for name, tensor in vars(self).items()})

    def __getstate__(self) -> dict[str, object]:
        """On its way to another process, where torch would warn about the layout of an unpickled CSR tensor."""
        matrices = {name: to_scipy(getattr(self, name)) for name in ("adjacency", "transpose")}
        return {**vars(self), **matrices}

    def __setstate__(self, state: dict[str, Any]) -> None:
        matrices = {name: to_torch(state[name]) for name in ("adjacency", "transpose")}
        self.__dict__.update({**state, **matrices})


@dataclass(frozen=True)
class Model:
    """What to train: a name of `layers.MODELS`, L aggregations of width H, dropout, and the seed of its weights.

    Raises TypeError or ValueError for an unknown name and for invalid sizes and probabilities.
    """

    name: str
    num_layers: int
    hidden_channels: int
    dropout: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_option("Model", "name", self.name, MODELS)
        check_sizes("Model", num_layers=self.num_layers, hidden_channels=self.hidden_channels)
        check_probabilities("Model", dropout=self.dropout)

    def build(self, task: Task) -> nn.ModuleList:
        """The blocks, with the same weights in every process."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            classes = int(task.y.max()) + 1
            blocks = build_blocks(self.name, task.x.shape[1], self.hidden_channels, classes, self.num_layers)
        return blocks.to(task.x.device, task.x.dtype)

    @property
    def border_tensors(self) -> int:
        """Tensors of width H that cross a stage border with every vertex."""
        return 2 if self.name == "gcnii" else 1


def make_task(data: Data, model: str, *, num_features: int = 32, dtype: torch.dtype = torch.float32) -> Task:
    """A task for a kind of model, which decides between the mean and the symmetric adjacency.

    A graph without features, classes or masks (MovieLens-100K) gets features of width `num_features` from N(0, 1),
    8 random classes, and all vertices for training: it is there to be counted and timed, not to be learned.

    Args:
        data: edge_index (2, A) int64, directed or not; x (N, F) floating; y (N,) int64; train_mask, val_mask and
            test_mask (N,) bool, or the ids of their vertices.
        model: a name of `layers.MODELS`.
        dtype: of features and adjacency.

    Raises:
        ValueError, TypeError, IndexError: data that are not as said above, or a model that there is not.
    """
    check_option("make_task", "model", model, MODELS)
    check_sizes("make_task", num_features=num_features)
    # torch-geometric takes seconds to import, and the processes of a distributed run are given tasks, not graphs
    from methods.shared.graph import mean_adjacency, node_ids, normalized_adjacency

    nodes = int(data.num_nodes)
    generator = torch.Generator().manual_seed(0)
    drawn_x = torch.randn(nodes, num_features, generator=generator)
    drawn_y = torch.randint(8, (nodes,), generator=generator)
    x, y = (drawn_x, drawn_y) if data.x is None else (data.x, data.y)
    everything = torch.ones(nodes, dtype=torch.bool)
    _check_data(nodes, x, y)
    masks = []
    for name in ("train_mask", "val_mask", "test_mask"):
        ids = node_ids(data.get(name, everything), nodes, name)
        if not len(ids):
            raise ValueError(f"make_task: {name} has no vertex; give it one at least")
        masks.append(torch.zeros(nodes, dtype=torch.bool).index_fill_(0, ids, True))
    adjacency = (mean_adjacency if model == "graphsage" else normalized_adjacency)(data.edge_index, nodes, dtype)
    return Task(x.to(dtype), y.long(), *masks, adjacency, transposed(adjacency))


def _check_data(nodes: int, x: Tensor, y: Tensor) -> None:
    if x.dim() != 2 or len(x) != nodes or not x.is_floating_point():
        raise ValueError(f"make_task: x must be floating and ({nodes}, F); got {x.dtype} {tuple(x.shape)}")
    if y.shape != (nodes,) or y.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"make_task: y must be ({nodes},) whole numbers; got {y.dtype} {tuple(y.shape)}")
    if nodes and int(y.min()) < 0:
        raise ValueError(f"make_task: y holds the class {int(y.min())}; classes count from 0")


def stage_sizes(num_blocks: int, stages: int) -> list[int]:
    """Blocks of each stage: as equal as can be, the longer ones first.

    Raises:
        ValueError: no stages, or more than blocks.
    """
    check_sizes("stage_sizes", stages=stages)
    if stages > num_blocks:
        raise ValueError(f"{stages} stages for {num_blocks} blocks; give each stage a block at least")
    return [num_blocks // stages + (s < num_blocks % stages) for s in range(stages)]


def vertices_of(task: Task, shard: Shard) -> Vertices:
    columns, own = shard.forward.columns, shard.vertices
    return Vertices(task.x[columns], task.y[own], task.train[own], int(task.train.sum()))


def make_stage(
    task: Task, model: Model, blocks: nn.ModuleList, grid: Grid, number: int, shard: Shard, links: Links,
    techniques: Techniques,
) -> Stage:  # fmt: skip
    """Stage `number` of a grid, for the way of the shard."""
    sizes = stage_sizes(len(blocks), grid.stages)
    first = sum(sizes[:number])
    return Stage(
        blocks[first : first + sizes[number]], first=first, last=number == grid.stages - 1, shard=shard,
        vertices=vertices_of(task, shard), links=links, techniques=techniques, width=model.hidden_channels,
        has_h0=model.border_tensors > 1, dropout=model.dropout, seed=model.seed,
    )  # fmt: skip


def pipeline(
    task: Task, model: Model, stages: int, partition: Partition, techniques: Techniques | None = None
) -> tuple[GNNPipe, nn.ModuleList]:
    """GNNPipe with all stages in this process, and the whole model.

    Raises:
        ValueError: a partition of several ways, or more stages than blocks.
    """
    if partition.ways != 1:
        raise ValueError(f"pipeline: the partition has {partition.ways} ways; in one process there is one")
    techniques = techniques or Techniques()
    grid, blocks, links = Grid(stages, 1, partition.chunks), model.build(task), Mailbox()
    (shard,) = make_shards(task.adjacency, partition)
    made = [make_stage(task, model, blocks, grid, s, shard, links, techniques) for s in range(stages)]
    return GNNPipe(made, range(stages), stages, links, seed=model.seed), blocks


def worker(
    task: Task, model: Model, grid: Grid, shard: Shard, rank: int, techniques: Techniques | None = None,
    *, alone: bool = False,
) -> GNNPipe:  # fmt: skip
    """The engine of worker `rank` of a grid. alone: without the others, for timing; else one per process.

    shard: that of way `rank % grid.ways`.
    """
    links: Links = Alone() if alone else Wire(grid, task.x)
    number = rank // grid.ways
    stage = make_stage(task, model, model.build(task), grid, number, shard, links, techniques or Techniques())
    return GNNPipe([stage], [number], grid.stages, links, seed=model.seed)


class Trained(Protocol):
    """What `fit` trains: `GNNPipe` or `baselines.FullGraph`."""

    def epoch(self, epoch: int) -> float: ...


@dataclass(frozen=True)
class History:
    """A training run. losses: by epoch. epochs, val: validation accuracy (%) and when it was taken, in epochs done.

    test: test accuracy (%) of the weights with the best validation accuracy. All accuracies by exact inference.
    """

    losses: list[float]
    epochs: list[int]
    val: list[float]
    test: float

    def epochs_to(self, goal: float) -> int | None:
        """Epochs until the validation accuracy is `goal` (%) or more; None if it never is."""
        return next((epoch for epoch, val in zip(self.epochs, self.val, strict=True) if val >= goal), None)


def fit(
    engine: Trained, blocks: nn.ModuleList, task: Task, *, epochs: int, every: int, lr: float = 0.01,
    weight_decay: float = 5e-4,
) -> History:  # fmt: skip
    """Train with Adam, one update per epoch; evaluate every `every` epochs on the whole graph, without history.

    Raises:
        FloatingPointError: a loss or logits that are not finite.
        ValueError, TypeError: invalid sizes or rates.
    """
    check_sizes("fit", epochs=epochs, every=every)
    check_numbers("fit", least=0, lr=lr, weight_decay=weight_decay)
    optimizer = torch.optim.Adam(blocks.parameters(), lr=lr, weight_decay=weight_decay, fused=True)
    history = History([], [], [], 0.0)
    for epoch in range(epochs):
        loss = engine.epoch(epoch)
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss of epoch {epoch} is {loss}")
        optimizer.step()
        history.losses.append(loss)
        if (epoch + 1) % every == 0:
            val, test = evaluate(blocks, task)
            if val > max(history.val, default=-1.0):
                history = replace(history, test=test)
            history.val.append(val)
            history.epochs.append(epoch + 1)
    return history


@torch.no_grad()
def evaluate(blocks: nn.ModuleList, task: Task) -> tuple[float, float]:
    """Validation and test accuracy (%) of an exact forward pass. FloatingPointError where it is not finite."""
    logits = run_blocks(blocks, task.x, task.adjacency, task.transpose)
    if not logits.isfinite().all():
        raise FloatingPointError("evaluate: the logits are not finite, so they say nothing of classes")
    right = logits.argmax(dim=1) == task.y
    return tuple(100 * float(right[mask].float().mean()) for mask in (task.val, task.test))  # type: ignore[return-value]

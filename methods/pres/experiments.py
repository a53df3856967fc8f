"""The experiments of PRES: accuracy and time against the temporal batch, and the mechanism behind both."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import datasets
from assay.contenders import spent
from assay.experiment import MethodRows, Run, experiment, seed_everything
from datasets.temporal import LinearDrift, pending_statistics
from methods.pres.baselines import MemoryModel
from methods.pres.contenders import CONTENDERS, Asked, Recipe, train
from methods.pres.pres import PRES, Update
from methods.pres.released import ReleasedPRES
from methods.pres.training import Task, draw, link_loss, make_task, test, train_batch, train_epoch
from methods.shared.temporal import Batch, batches, rewound

TEST_METRICS = ("ap", "auc", "pooled_ap", "historical_ap", "inductive_ap")
REACH = 0.99  # of the plain model's best validation AP

SMALL = dict(events={"movielens_100k": 6_000}, dim=32, neighbors=5, base_batch=50)
MEDIUM = dict(events={"bitcoin_otc": 15_000, "movielens_100k": 8_000}, dim=64, neighbors=10, base_batch=50)
FULL = dict(events={}, dim=172, neighbors=10, base_batch=200)  # all events
OFFLINE, SAMPLE = ["bitcoin_otc", "movielens_100k"], ["movielens_100k"]
PAPER = ["wiki", "reddit", "mooc", "lastfm"]


def load_task(run: Run, events: dict[str, int]) -> Task:
    """The data set's first events, split; all of them where `events` does not name it."""
    stream = datasets.load(run.dataset)
    limit = events.get(run.dataset or "")
    return make_task(stream if limit is None else stream.head(limit), run.device)


SWEEP = dict(tgn=[1, 2, 4, 8], jodie=[1, 4], apan=[1, 4])


@experiment(
    quick=dict(
        replicates=3, datasets=SAMPLE, **SMALL, epochs=1, multiples=dict(tgn=[1, 4], jodie=[1, 4]), extra={}
    ),
    standard=dict(
        replicates=6, datasets=OFFLINE, **MEDIUM, epochs=3, multiples=SWEEP,
        extra=dict(pres_s=[1, 4], pres_v=[1, 4], pres_released=[1, 4], memoryless=[1, 4]),
    ),
    gpu=dict(
        replicates=5, datasets=PAPER, **FULL, epochs=10, patience=5, multiples=SWEEP,
        extra=dict(pres_s=[1, 4], pres_v=[1, 4], pres_released=[1, 4], memoryless=[1, 4]),
    ),
    timeout=12 * 3600,
)  # fmt: skip
def batch_sweep(
    run: Run, events: dict[str, int], dim: int, neighbors: int, base_batch: int, epochs: int,
    multiples: dict[str, list[int]], extra: dict[str, list[int]], patience: int | None = None,
) -> None:  # fmt: skip
    """Accuracy against the temporal batch, for each model with and without PRES; ablations (`extra`) on TGN.

    Evaluation batches are 200 events whatever the training batch. `epochs_to_reach` counts epochs until the
    validation AP is 99 % of the plain model's best one at the same batch, interpolated between the ends of epochs
    (an untrained model has AP 50 %), and is `epochs` where that is never reached: censored there.
    """
    task = load_task(run, events)
    for model, sizes in multiples.items():
        for multiple in sizes:
            names = ["plain", "pres"]
            if model == "tgn":
                names += [name for name, at in extra.items() if multiple in at]
            goal = None
            for name in names:
                with run.method(name, model=model, batch_multiple=multiple, epochs=epochs) as m:
                    recipe = Recipe(dim, neighbors, base_batch * multiple, epochs, patience=patience)
                    curve = _fit_and_test(m, name, Asked(task, model), recipe, run.seed)
                    if name == "plain" and curve:
                        goal = max(curve) * REACH
                    if curve and goal is not None:
                        m["epochs_to_reach"] = epochs_to_reach(curve, goal, epochs)
                    else:
                        m.record("epochs_to_reach", None, reason="this model or the plain one has diverged")


def _fit_and_test(m: MethodRows, name: str, asked: Asked, recipe: Recipe, seed: int) -> list[float]:
    """Record one contender; returns its validation AP by epoch, empty if its loss or a score was not finite."""
    try:
        network, history = train(name, asked, recipe, seed)
        scores = test(network, asked.task)
    except FloatingPointError as error:
        for metric in TEST_METRICS:
            m.record(metric, None, unit="%", reason=str(error))
        return []
    for metric in ("ap", "auc", "pooled_ap"):
        m.record(metric, 100 * getattr(scores.random, metric), unit="%")
    m.record("historical_ap", 100 * scores.historical.ap, unit="%")
    if scores.inductive is None:
        m.record("inductive_ap", None, unit="%", reason="no test event touches a new node")
    else:
        m.record("inductive_ap", 100 * scores.inductive.ap, unit="%")
    done = range(1, len(history.val_ap) + 1)
    spent(m, network, steps=len(done) * -(-len(asked.task.train) // recipe.batch_size))
    m.curve("val_ap", x=list(done), y=[100 * ap for ap in history.val_ap], x_name="epoch", unit="%")
    m.curve("loss", x=list(done), y=history.loss, x_name="epoch")
    if isinstance(network.correction, PRES):
        m["gamma"] = float(torch.as_tensor(network.correction.gamma).detach())
    return history.val_ap


def epochs_to_reach(val_ap: list[float], goal: float, budget: int) -> float:
    """The (fractional) epoch at which the validation AP crosses `goal`; the budget if it never does."""
    before = 0.5
    for epoch, ap in enumerate(val_ap):
        if ap >= goal:
            return epoch + max(0.0, goal - before) / (ap - before) if ap > before else float(epoch)
        before = ap
    return float(budget)


def segment(run: Run, network: MemoryModel, task: Task, batch_size: int, warm: int, length: int) -> Callable[[], None]:
    """What is timed: training on `length` events, from the state that `warm` events before it have left."""
    generator = torch.Generator().manual_seed(run.seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    network.train()

    def learn(parts: list[tuple[Batch, Tensor]]) -> None:
        for batch, negatives in parts:
            train_batch(network, optimizer, batch, negatives, task.train_index)

    learn(_with_negatives(task, batch_size, 0, warm, generator))
    parts = _with_negatives(task, batch_size, warm, warm + length, generator)
    return rewound(network, lambda: learn(parts))


def _with_negatives(
    task: Task, batch_size: int, first: int, last: int, generator: torch.Generator
) -> list[tuple[Batch, Tensor]]:
    return [
        (batch, draw(task.destinations, (1, len(batch)), generator))
        for batch in batches(task.train, batch_size, first, last)
    ]


@experiment(
    quick=dict(replicates=1, datasets=SAMPLE, **SMALL, warm=800, length=400, pairs=10),
    standard=dict(replicates=5, datasets=OFFLINE, **MEDIUM, warm=2_000, length=800, pairs=30),
    gpu=dict(replicates=5, datasets=PAPER, **FULL, warm=20_000, length=8_000, pairs=30),
    timed=True, timeout=3600,
)  # fmt: skip
def epoch_time(
    run: Run, events: dict[str, int], dim: int, neighbors: int, base_batch: int, warm: int, length: int, pairs: int
) -> None:
    """Time to train TGN on the same events, with and without PRES, at 1 and 4 times the base batch."""
    task, recipe = load_task(run, events), Recipe(dim, neighbors)
    asked = Asked(task, "tgn")
    run.race(
        {
            f"{name}[batch_multiple={multiple}]": segment(
                run, CONTENDERS[name].build(asked, recipe), task, base_batch * multiple, warm, length
            )
            for name in ("plain", "pres")
            for multiple in (1, 4)
        },
        pairs=pairs, model="tgn",
    )  # fmt: skip


@experiment(
    standard=dict(replicates=3, datasets=OFFLINE, **MEDIUM, warm=2_000, length=200, pairs=10),
    gpu=dict(replicates=5, datasets=PAPER, **FULL, warm=20_000, length=2_000, pairs=10),
    timed=True, timeout=3600,
)  # fmt: skip
def epoch_time_all_nodes(
    run: Run, events: dict[str, int], dim: int, neighbors: int, base_batch: int, warm: int, length: int, pairs: int
) -> None:
    """The same, where each batch updates all N nodes as the released code does: it favours large batches."""
    task, contenders = load_task(run, events), {}
    for name, multiple in (("plain", 1), ("pres", 4)):
        network = CONTENDERS[name].build(Asked(task, "tgn"), Recipe(dim, neighbors))
        network.all_nodes = True
        timed = segment(run, network, task, base_batch * multiple, warm, length)
        contenders[f"{name}_all_nodes[batch_multiple={multiple}]"] = timed
    run.race(contenders, pairs=pairs, model="tgn")


@experiment(
    standard=dict(replicates=5, datasets=OFFLINE, **MEDIUM, batch_size=200, warm=2_000, length=2_000, pairs=30),
    gpu=dict(replicates=5, datasets=PAPER, **FULL, batch_size=200, warm=20_000, length=4_000, pairs=30),
    timed=True, timeout=3600,
)  # fmt: skip
def throughput_peer(
    run: Run, events: dict[str, int], dim: int, neighbors: int, base_batch: int, batch_size: int, warm: int,
    length: int, pairs: int,
) -> None:  # fmt: skip
    """Our TGN against one from torch-geometric's parts: the same width, batch, negatives and optimiser."""
    task, recipe = load_task(run, events), Recipe(dim, neighbors)
    asked, generator = Asked(task, "tgn"), torch.Generator().manual_seed(run.seed)
    peer = CONTENDERS["pyg_tgn"].build(asked, recipe)
    optimizer = torch.optim.Adam(peer.parameters(), lr=1e-3, fused=True)
    peer.train_batches(optimizer, _with_negatives(task, batch_size, 0, warm, generator))
    parts = _with_negatives(task, batch_size, warm, warm + length, generator)
    theirs = rewound(peer, lambda: peer.train_batches(optimizer, parts))
    ours = segment(run, CONTENDERS["plain"].build(asked, recipe), task, batch_size, warm, length)
    run.race({"plain": ours, "pyg_tgn": theirs}, pairs=pairs, model="tgn", batch_size=batch_size)


@experiment(
    quick=dict(datasets=SAMPLE, sizes=[50, 200, 800, 3200]),
    standard=dict(datasets=[*OFFLINE, "bitcoin_alpha"], sizes=[50, 200, 800, 3200]),
    gpu=dict(datasets=PAPER, sizes=[50, 200, 800, 3200]),
)
def pending_events(run: Run, sizes: list[int]) -> None:
    """What a batch loses, counted over the whole stream, all of its events."""
    stream = datasets.load(run.dataset)
    for size in sizes:
        for metric, share in zip(("pending_share", "dropped_share"), pending_statistics(stream, size), strict=True):
            run.value(metric, share, batch=size)


@experiment(
    quick=dict(replicates=3, datasets=SAMPLE, **{**SMALL, "events": {"movielens_100k": 3_000}}, multiples=[1, 4]),
    standard=dict(replicates=6, datasets=OFFLINE, **MEDIUM, multiples=[1, 4, 16]),
    gpu=dict(replicates=5, datasets=PAPER, **{**FULL, "events": dict.fromkeys(PAPER, 100_000)}, multiples=[1, 4, 16]),
    timeout=3600,
)
def prediction_error(
    run: Run, events: dict[str, int], dim: int, neighbors: int, base_batch: int, multiples: list[int]
) -> None:
    """How far the memory after a batched pass is from the memory after one event at a time, with the same weights.

    ||S_batch - S_seq||_F / ||S_seq||_F with the weights of a plain TGN after one epoch. Both passes run from an empty
    memory to the end of the validation, so that PRES gathers its statistics as it goes.
    """
    task = load_task(run, events)
    trained = _train_one_epoch(run, task, dim, neighbors, base_batch)
    sequential = _memory_after(trained, task, 1)
    for multiple in multiples:
        for name in ("plain", "pres"):
            with run.method(name, model="tgn", batch_multiple=multiple) as m:
                network = CONTENDERS[name].build(Asked(task, "tgn"), Recipe(dim, neighbors))
                network.load_state_dict(dict(trained.named_parameters()), strict=False)
                memory = _memory_after(network, task, base_batch * multiple)
                m["memory_error"] = float((memory - sequential).norm() / sequential.norm())


def _train_one_epoch(run: Run, task: Task, dim: int, neighbors: int, batch_size: int) -> MemoryModel:
    seed_everything(run.seed)
    network = CONTENDERS["plain"].build(Asked(task, "tgn"), Recipe(dim, neighbors))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    train_epoch(network, optimizer, task, batch_size, torch.Generator().manual_seed(run.seed))
    return network


def _memory_after(network: MemoryModel, task: Task, batch_size: int) -> Tensor:
    network.eval()
    network.reset()
    for batch in batches(task.full, batch_size, 0, task.first_test):
        network.advance(batch, task.full_index)
    return network.memory.clone()


@experiment(
    quick=dict(datasets=["linear_drift"], gammas=[1.0, 0.9], events=500),
    standard=dict(datasets=["linear_drift"], gammas=[1.0, 0.9], events=2_000),
)
def linear_drift(run: Run, gammas: list[float], events: int) -> None:
    """The predictor where the answer is known: states that drift linearly and are observed exactly.

    With gamma = 1 the prediction is exact from a node's third event on. With gamma < 1 it is not, because the
    increments are taken from the corrected memory. Largest error over nodes and events, in units of the state.
    """
    stream = datasets.load("linear_drift").head(events)
    tick = float(torch.diff(stream.t).min())
    for gamma in gammas:
        filter_ = PRES(stream.num_nodes, stream.slope.shape[1], gamma=gamma, learn_gamma=False, time_unit=tick)
        errors = drift_errors(filter_.double(), stream)
        run.value("prediction_error", float(errors.max()), evidence="measured", gamma=gamma)


@torch.no_grad()
def drift_errors(filter_: PRES, stream: LinearDrift) -> Tensor:
    """|s_hat - s|, maximum over coordinates, at every end of an event that is its node's third one or later: (m,).

    A node's first event sets its memory, its second one gives the first increment.
    """
    memory, last = stream.start.clone(), torch.zeros(stream.num_nodes, dtype=torch.float64)
    seen, errors = torch.zeros(stream.num_nodes, dtype=torch.int64), []
    for batch in batches(stream, 1):
        nodes, t, both = batch.ends, batch.t.expand(2), torch.tensor([0, 1])
        truth, again = stream.state(nodes, t), seen[nodes] > 0
        update = Update(
            nodes, torch.where(again.unsqueeze(1), memory[nodes], truth), truth, truth, last[nodes], t, again
        )
        errors.append((filter_.predict(update) - truth).abs().amax(1)[seen[nodes] > 1])
        corrected = filter_.correct(update)
        filter_.observe(corrected, both, None)
        memory[nodes], last[nodes] = corrected.kept, t
        seen[nodes] += 1
    return torch.cat(errors)


@experiment(
    standard=dict(replicates=6, datasets=OFFLINE, **MEDIUM, multiples=[1, 4, 8], repeats=4),
    gpu=dict(replicates=5, datasets=PAPER, **{**FULL, "events": dict.fromkeys(PAPER, 100_000)},
             multiples=[1, 4, 8], repeats=4),
    timeout=3600,
)  # fmt: skip
def gradient_variance(
    run: Run, events: dict[str, int], dim: int, neighbors: int, base_batch: int, multiples: list[int], repeats: int
) -> None:
    """Noise of the gradient at fixed weights (a plain TGN after one epoch), summed over the parameters.

    Without the frequencies of the time encoder: their gradient is in units of time, and in seconds drowns all others.

    `epoch_gradient_variance`: of the gradient of the whole epoch's summed loss per event, over repeats that differ in
    negatives and dropout. `batch_gradient_std`: of the gradients of the batches of an epoch (means over events).
    """
    task = load_task(run, events)
    trained = _train_one_epoch(run, task, dim, neighbors, base_batch)
    for multiple in multiples:
        for name in ("plain", "pres_v"):
            with run.method(name, model="tgn", batch_multiple=multiple) as m:
                network = CONTENDERS[name].build(Asked(task, "tgn"), Recipe(dim, neighbors))
                network.load_state_dict(dict(trained.named_parameters()), strict=False)
                generator = torch.Generator().manual_seed(run.seed)
                passes = [_gradients(network, task, base_batch * multiple, generator) for _ in range(repeats)]
                m["epoch_gradient_variance"] = torch.stack([whole for whole, _ in passes]).var(dim=0).sum()
                m["batch_gradient_std"] = torch.stack([between for _, between in passes]).mean().sqrt()


def _gradients(network: MemoryModel, task: Task, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The gradient of one pass's mean loss per event (p,), and the variance between its batches summed over p."""
    left_out = ("correction", "time_encoder.weight")
    weights = [weight for name, weight in network.named_parameters() if not name.startswith(left_out)]
    network.train().reset()
    total, mean, square, count = 0.0, 0.0, 0.0, 0
    for batch in batches(task.train, batch_size):
        step = network.score(batch, draw(task.destinations, (1, len(batch)), generator), task.train_index)
        network.commit(batch, step, task.train_index)
        parts = torch.autograd.grad(link_loss(step), weights, allow_unused=True, materialize_grads=True)
        gradient = torch.cat([part.flatten() for part in parts])
        total, count = total + gradient * len(batch), count + 1
        mean, square = mean + gradient, square + gradient.square().sum()
    mean = mean / count
    return total / len(task.train), square / count - mean.square().sum()


@experiment(
    quick=dict(datasets=SAMPLE, **{**SMALL, "events": {"movielens_100k": 1_500}}),
    standard=dict(datasets=OFFLINE, **{**MEDIUM, "events": dict.fromkeys(OFFLINE, 3_000)}),
)
def released_gradient(run: Run, events: dict[str, int], dim: int, neighbors: int, base_batch: int) -> None:
    """One epoch with and without the coherence term, everything else equal: how many weights end up different.

    In the released code (its in-place rescaling removed) the term is detached; in `pres` it is not: the control.
    """
    task = load_task(run, events)
    for name in ("pres_released", "pres"):
        with run.method(name, model="tgn", batch_multiple=1) as m:
            ends = []
            for with_term in (True, False):
                seed_everything(run.seed)
                network = CONTENDERS[name].build(Asked(task, "tgn"), Recipe(dim, neighbors))
                if isinstance(network.correction, ReleasedPRES):
                    network.correction.rescale, network.correction.coherence = False, with_term
                elif isinstance(network.correction, PRES) and not with_term:
                    network.correction.beta = 0.0
                optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
                train_epoch(network, optimizer, task, base_batch, torch.Generator().manual_seed(run.seed))
                ends.append(torch.cat([weight.detach().flatten() for weight in network.parameters()]))
            m.record("different_weights", int((ends[0] != ends[1]).sum()), evidence="counted")

"""How long a training epoch takes on a cluster: a discrete-event simulation of GNNPipe and of graph parallelism.

A cluster has one GPU per (stage, way). A GPU has one compute unit and one full-duplex NIC. A message of n bytes
holds the sender's send side and the receiver's receive side for latency + 8 n / bandwidth; each side serves first
come, first served. The computing times and the bytes are the caller's, measured and counted; only the order of
things, the waiting and the wire are simulated.

    pipeline         S stages x 1 way,   K chunks    messages between stages only
    graph parallel   1 stage  x P ways,  1 chunk     messages between ways before every layer
    hybrid           S stages x W ways,  K chunks    both

An epoch is the paper's: chunks stream forward through the stages, the loss follows the last stage's last chunk,
chunks stream back in reverse order, and the ways of a stage all-reduce the gradients of its weights in a ring.
Within a stage the ways exchange mirrors before each layer, and a way computes the layer when all messages to it have
arrived. It sends its own one after another, to the next way whose NIC is free. What leaves a GPU, within a stage or
to another, leaves while the GPU computes on.

Where the time goes is told by two questions, at each moment for each GPU: does it compute, and is a message to or
from it under way? The four parts of `EpochTime` are means over the GPUs and sum to the epoch.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import simpy
from numpy.typing import NDArray

from assay.network import Network

FORWARD, BACKWARD = 1, -1
Array = NDArray[Any]
Events = Generator[simpy.Event, Any, None]


@dataclass(frozen=True)
class EpochTime:
    """The seconds of an epoch, and where they went, as means over the GPUs.

    Attributes:
        seconds: from the start until the last GPU is done.
        compute_s: computing.
        communication_s: not computing while a message to or from the GPU is under way: communication that nothing
            hides, in the pipeline, in the exchanges and in the all-reduce.
        bubble_s: neither; the filling and draining that a pipeline of equal ticks has too, (S-1)/K of computing.
        imbalance_s: neither; the rest: waiting for a slower stage or way.

    Raises:
        ArithmeticError: if the parts miss the epoch by more than 5 %, the tolerance of the paper's own engine.
    """

    seconds: float
    compute_s: float
    bubble_s: float
    communication_s: float
    imbalance_s: float

    def __post_init__(self) -> None:
        parts = self.compute_s + self.bubble_s + self.communication_s + self.imbalance_s
        if not abs(parts - self.seconds) <= 0.05 * self.seconds:
            raise ArithmeticError(f"the parts of an epoch of {self.seconds:g} s sum to {parts:g} s: {self}")


def pipeline_epoch(forward: Array, backward: Array, border_bytes: Array, network: Network) -> EpochTime:
    """GNNPipe with one GPU per stage.

    forward, backward: (S, K) s of each stage for each chunk. border_bytes: (S-1, K) from stage s to s+1, and as much
    back. Raises ValueError where shapes do not fit.
    """
    stages, chunks = forward.shape
    nothing = np.zeros((2, stages, chunks, 1, 1))
    return hybrid_epoch(forward[:, None], backward[:, None], border_bytes[:, None], nothing, np.ones(stages, int),
                        np.zeros(stages), network)  # fmt: skip


def graph_parallel_epoch(
    forward: Array, backward: Array, exchange: Array, weight_bytes: float, network: Network
) -> EpochTime:
    """Graph parallelism: every GPU owns a part of the vertices and computes all layers for them.

    forward, backward: (P, L) s. exchange: (2, L, P, P) bytes from p to q before layer l, forward and backward.
    weight_bytes: of all weights together. Raises ValueError where shapes do not fit.
    """
    ways, layers = forward.shape
    _check(backward=(backward, (ways, layers)), exchange=(exchange, (2, layers, ways, ways)))
    there = [_Step(forward[:, layer].tolist(), exchange[0, layer]) for layer in range(layers)]
    back = [_Step(backward[:, layer].tolist(), exchange[1, layer]) for layer in reversed(range(layers))]
    steps = {FORWARD: [[there]], BACKWARD: [[back]]}
    return _Epoch(steps, np.zeros((0, ways, 1)), [float(weight_bytes)], network).simulate()


def hybrid_epoch(
    forward: Array,
    backward: Array,
    border_bytes: Array,
    exchange: Array,
    layers: Array,
    weight_bytes: Array,
    network: Network,
) -> EpochTime:
    """GNNPipe with W GPUs per stage, which share the stage's layers by graph parallelism.

    forward, backward: (S, W, K) s of each GPU for each chunk. border_bytes: (S-1, W, K) from (s, w) to (s+1, w), and
    as much back. exchange: (2, S, K, W, W) bytes from way to way, forward and backward, in all layers of the stage
    together; layers: (S,) the messages that they are spread over, one per layer, as is the computing. weight_bytes:
    (S,) of each stage's weights. Raises ValueError where shapes do not fit.
    """
    stages, ways, chunks = forward.shape
    _check(backward=(backward, forward.shape), border_bytes=(border_bytes, (stages - 1, ways, chunks)),
           exchange=(exchange, (2, stages, chunks, ways, ways)), layers=(layers, (stages,)),
           weight_bytes=(weight_bytes, (stages,)))  # fmt: skip

    def steps(seconds: Array, sent: Array) -> list[list[list[_Step]]]:
        return [
            [[_Step((seconds[s, :, k] / n).tolist(), sent[s, k] / n)] * n for k in range(chunks)]
            for s, n in enumerate(np.maximum(layers, 1).tolist())
        ]

    both = {FORWARD: steps(forward, exchange[0]), BACKWARD: steps(backward, exchange[1])}
    return _Epoch(both, border_bytes, weight_bytes.tolist(), network).simulate()


def crossover(
    bandwidths: Sequence[float], graph_times: Sequence[float], pipeline_times: Sequence[float]
) -> float | None:
    """The lowest bandwidth (bits/s) at which both take equally long, or None where one is faster throughout.

    Args: `bandwidths` ascending; times in s at each. Between two bandwidths the logarithm of the ratio of times is
    taken as linear in the logarithm of the bandwidth.
    """
    gaps = [math.log(graph / pipeline) for graph, pipeline in zip(graph_times, pipeline_times, strict=True)]
    if len(gaps) != len(bandwidths) or list(bandwidths) != sorted(bandwidths):
        raise ValueError("crossover: give one time for each bandwidth, bandwidths in ascending order")
    for i, gap in enumerate(gaps):
        if gap == 0.0:
            return float(bandwidths[i])
        if i and gap * gaps[i - 1] < 0.0:
            share = gaps[i - 1] / (gaps[i - 1] - gap)
            return float(bandwidths[i - 1] * (bandwidths[i] / bandwidths[i - 1]) ** share)
    return None


def _check(**arrays: tuple[Array, tuple[int, ...]]) -> None:
    for name, (array, shape) in arrays.items():
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}; with this `forward` it must have {shape}")


class _Step(NamedTuple):
    """A layer, or layers between which nothing is exchanged: seconds by way, after bytes[p][q] from p to q."""

    seconds: list[float]
    sent: Array


class _Gpu:
    """A compute unit and the two sides of a NIC, with what each has done so far."""

    def __init__(self) -> None:
        self.send_free = self.receive_free = 0.0  # s, when the last message accepted will be through
        self.computing = self.hidden = 0.0  # s computed; s of them in which a message was under way
        self._under_way = self._until = 0.0

    def message(self, now: float, end: float) -> None:
        if end > self._until:
            self._under_way += end - max(now, self._until)
            self._until = end

    def under_way(self, now: float) -> float:
        """Seconds until now in which a message to or from this GPU was under way."""
        return self._under_way - max(0.0, self._until - now)


class _Exchange:
    """The messages between the ways of a stage before one layer."""

    def __init__(self, environment: simpy.Environment, sent: Array) -> None:
        self.sent = sent.tolist()
        self.missing = np.count_nonzero(sent * (1 - np.eye(len(sent))), axis=0).tolist()
        self.complete = [environment.event() for _ in self.missing]

    def arrived(self, way: int) -> None:
        self.missing[way] -= 1
        if not self.missing[way]:
            self.complete[way].succeed()


class _Epoch:
    """One epoch under way. `steps[direction][stage][chunk]` lists layers in the order in which they are computed."""

    def __init__(self, steps: dict[int, list[list[list[_Step]]]], border_bytes: Array, weight_bytes: list[float],
                 network: Network) -> None:  # fmt: skip
        self._steps, self._border, self._weights = steps, border_bytes.tolist(), weight_bytes
        self._latency, self._seconds_per_byte = network.latency_s, 8 / network.bandwidth_bps
        self._time = simpy.Environment()
        self._stages, self._chunks = len(steps[FORWARD]), len(steps[FORWARD][0])
        self._ways = len(steps[FORWARD][0][0][0].seconds)
        self._gpus = {(s, w): _Gpu() for s in range(self._stages) for w in range(self._ways)}
        self._borders = {gpu: simpy.Store(self._time) for gpu in self._gpus}
        self._mirrors = {gpu: simpy.Store(self._time) for gpu in self._gpus}
        self._events: dict[tuple[int, ...], simpy.Event] = {}
        self._exchanges: dict[tuple[int, ...], _Exchange] = {}

    def simulate(self) -> EpochTime:
        for gpu in self._gpus:
            self._time.process(self._send_borders(*gpu))
            self._time.process(self._send_mirrors(*gpu))
        self._time.run(until=self._time.all_of([self._time.process(self._train(*gpu)) for gpu in self._gpus]))
        return self._summary()

    def _train(self, stage: int, way: int) -> Events:
        for chunk in range(self._chunks):
            yield from self._pass(FORWARD, stage, way, chunk)
        for chunk in reversed(range(self._chunks)):
            yield from self._pass(BACKWARD, stage, way, chunk)
        yield from self._all_reduce(stage, way)

    def _pass(self, direction: int, stage: int, way: int, chunk: int) -> Events:
        if 0 <= stage - direction < self._stages:
            yield self._event(direction, stage, way, chunk)
        for i, step in enumerate(self._steps[direction][stage][chunk]):
            if self._ways > 1:
                yield from self._exchange((direction, stage, chunk, i), way, step.sent)
            yield from self._compute(self._gpus[stage, way], step.seconds[way])
        if 0 <= stage + direction < self._stages:
            self._borders[stage, way].put((direction, chunk))

    def _compute(self, gpu: _Gpu, seconds: float) -> Events:
        before = gpu.under_way(self._time.now)
        yield self._time.timeout(seconds)
        gpu.computing += seconds
        gpu.hidden += gpu.under_way(self._time.now) - before

    def _exchange(self, key: tuple[int, ...], way: int, sent: Array) -> Events:
        if key not in self._exchanges:
            self._exchanges[key] = _Exchange(self._time, sent)
        exchange = self._exchanges[key]
        self._mirrors[key[1], way].put(exchange)
        if exchange.missing[way]:
            yield exchange.complete[way]

    def _send_mirrors(self, stage: int, way: int) -> Events:
        while True:
            exchange = yield self._mirrors[stage, way].get()
            sizes = exchange.sent[way]
            waiting = [peer for peer in (*range(way + 1, self._ways), *range(way)) if sizes[peer]]
            while waiting:
                peer = self._first_free(stage, waiting)
                waiting.remove(peer)
                yield self._message((stage, way), (stage, peer), sizes[peer])
                exchange.arrived(peer)

    def _first_free(self, stage: int, ways: list[int]) -> int:
        def when(way: int) -> float:
            return self._gpus[stage, way].receive_free

        now = self._time.now
        for way in ways:
            if when(way) <= now:
                return way
        return min(ways, key=when)

    def _send_borders(self, stage: int, way: int) -> Events:
        while True:
            direction, chunk = yield self._borders[stage, way].get()
            to = stage + direction
            if size := self._border[min(stage, to)][way][chunk]:
                yield self._message((stage, way), (to, way), size)
            self._event(direction, to, way, chunk).succeed()

    def _all_reduce(self, stage: int, way: int) -> Events:
        if not self._weights[stage]:
            return
        following = (way + 1) % self._ways
        for step in range(2 * (self._ways - 1)):
            yield self._message((stage, way), (stage, following), self._weights[stage] / self._ways)
            self._event(0, stage, following, step).succeed()
            yield self._event(0, stage, way, step)

    def _message(self, sender: tuple[int, int], receiver: tuple[int, int], size: float) -> simpy.Event:
        """Take the next free time of both sides; what is returned happens when the message is through.

        In a queue that is first come, first served, the waiting time is known at once: it takes no event of its own.
        """
        source, target, now = self._gpus[sender], self._gpus[receiver], self._time.now
        start = max(now, source.send_free, target.receive_free)
        wait = start - now + self._latency + size * self._seconds_per_byte
        source.send_free = target.receive_free = end = now + wait  # as the clock will add it up, to the last bit
        source.message(now, end)
        target.message(now, end)
        return self._time.timeout(wait)

    def _event(self, *key: int) -> simpy.Event:
        return self._events.setdefault(key, self._time.event())

    def _summary(self) -> EpochTime:
        seconds, gpus = self._time.now, self._gpus.values()
        bubble_of_equal_ticks = (self._stages - 1) / self._chunks
        computing = bubble = communication = imbalance = 0.0
        for gpu in gpus:
            unhidden = gpu.under_way(seconds) - gpu.hidden
            idle = seconds - gpu.computing - unhidden
            filling = min(idle, bubble_of_equal_ticks * gpu.computing)
            computing += gpu.computing / len(gpus)
            communication += unhidden / len(gpus)
            bubble += filling / len(gpus)
            imbalance += (idle - filling) / len(gpus)
        return EpochTime(seconds, computing, bubble, communication, imbalance)

"""The actor runtime: registers, credits, and no scheduler.

Every operator is an *actor* with a fixed number of output *registers*, made before the first batch. It acts when each
of its inputs has something to read and one of its registers is free:

    on a register from a producer:      queue it under that input
    on a register that a reader returns: one reader fewer; at none it is free again
    while every input has a register and an own register is free:
        act; send the new register to every consumer; return each consumed register to its producer
    at the end of data: pass `end` downstream; stop when all own registers are back

Free registers are credits: a fast producer runs out of them and waits, so memory is bounded by what was allotted,
whatever the number of batches. Two registers let a producer write one while its consumer reads the other. For a
pipeline whose stages take t_i the time between batches is max(t_i) with 2 registers and max(t_i + t_{i+1}) with 1,
where a stage cannot start on the next batch before its consumer is done with the last.

A graph without cycles never deadlocks, for any number of registers: the furthest actor that has work can always act.
A cycle needs a token on it before the start; without one nothing on it could ever act, which is refused at once.

`run` has a thread for each device queue; `simulation.simulate` runs the same protocol on a clock of its own.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE_S = 30.0


class DeadlockError(RuntimeError):
    """Nothing can act any more, and not all is done."""


@dataclass
class Register:
    """An output buffer of an actor. readers: consumers that have not returned it yet."""

    producer: str
    value: Any = None
    readers: int = 0


@dataclass(frozen=True, eq=False)
class Edge:
    """tokens: values that are on the edge before the start; they take up registers of the producer.

    An edge is equal to itself only: an actor that reads a producer twice has two, each with registers to read.
    """

    producer: str
    consumer: str
    tokens: tuple[Any, ...] = ()


@dataclass(frozen=True)
class ActorSpec:
    """act: (*inputs) -> output; a source, which has no inputs, is given the number of the batch.

    memory: makes a register's buffer, which `act` then gets as the argument `out`; without it a register takes what
    `act` returns. queue: the device queue that runs it. seconds: how long a simulated act takes.
    """

    name: str
    act: Callable[..., Any]
    registers: int
    queue: str
    memory: Callable[[], Any] | None
    seconds: float


@dataclass
class Outcome:
    """results: what each actor without consumers returned, in order, but for those with `memory`, which they reuse.

    acts: how often each actor acted. seconds: from start to end; simulated ones in the simulation.
    """

    results: dict[str, list[Any]]
    acts: dict[str, int]
    seconds: float


class ActorGraph:
    """Actors and the edges between them."""

    def __init__(self) -> None:
        self.actors: dict[str, ActorSpec] = {}
        self.edges: list[Edge] = []

    def actor(
        self, name: str, act: Callable[..., Any], inputs: Sequence[str] = (), *, registers: int = 2,
        queue: str | None = None, memory: Callable[[], Any] | None = None, seconds: float = 0.0,
    ) -> str:  # fmt: skip
        """Add an actor whose inputs are there already. By default it has a device queue of its own."""
        if registers < 1:
            raise ValueError(f"actor {name}: {registers} registers; an actor needs at least 1 to put its output in")
        if name in self.actors:
            raise ValueError(f"there is an actor {name!r} already")
        self.actors[name] = ActorSpec(name, act, registers, queue or name, memory, seconds)
        for producer in inputs:
            self._connect(Edge(producer, name))
        return name

    def feedback(self, producer: str, consumer: str, tokens: Iterable[Any] = ()) -> None:
        """Add an edge backwards: the consumer's last input. tokens: what it reads before the producer has acted.

        Raises ValueError for more tokens than the producer has registers, and for tokens of one with `memory`.
        """
        edge = Edge(producer, consumer, tuple(tokens))
        self._connect(edge)
        if edge.tokens and self.actors[producer].memory is not None:
            raise ValueError(f"tokens from {producer}, which has `memory`: it would write its outputs into them; "
                             "let it return its outputs instead, or put the tokens on another edge")  # fmt: skip
        if len(edge.tokens) > self.actors[producer].registers:
            raise ValueError(f"{len(edge.tokens)} tokens from {producer}, which has {self.actors[producer].registers} "
                             "registers; give it one for each token")  # fmt: skip

    def _connect(self, edge: Edge) -> None:
        for name in (edge.producer, edge.consumer):
            if name not in self.actors:
                raise ValueError(f"edge {edge.producer} -> {edge.consumer}: there is no actor {name!r}")
        self.edges.append(edge)

    def inputs(self, name: str) -> list[Edge]:
        return [edge for edge in self.edges if edge.consumer == name]

    def outputs(self, name: str) -> list[Edge]:
        return [edge for edge in self.edges if edge.producer == name]

    def check(self) -> None:
        """Raise DeadlockError where a cycle has no token: each of its actors would wait for the one before it.

        Raises ValueError for an actor that no source leads to: it would never learn that there are no more batches.
        """
        waiting = {name: {e.producer for e in self.inputs(name) if not e.tokens} for name in self.actors}
        while free := [name for name, on in waiting.items() if not on & waiting.keys()]:
            for name in free:
                del waiting[name]
        if waiting:
            name, path = next(iter(waiting)), []
            while name not in path:
                path.append(name)
                name = next(iter(sorted(waiting[name] & waiting.keys())))
            cycle = [*path[path.index(name) :], name][::-1]
            raise DeadlockError(f"the cycle {' -> '.join(cycle)} has no initial token, so none of its actors could "
                                "ever act; give `feedback` a token on one of its edges")  # fmt: skip
        reached = {name for name in self.actors if not self.inputs(name)}
        while new := {edge.consumer for edge in self.edges if edge.producer in reached} - reached:
            reached |= new
        if endless := [name for name in self.actors if name not in reached]:
            raise ValueError(f"no source leads to {', '.join(endless)}, which would never end; add one, with no inputs")


@dataclass(frozen=True)
class Message:
    """kind: "data" (a register for the consumer at `edge`), "return" (to its producer) or "end" (no more at `edge`)."""

    to: str
    kind: str
    edge: Edge
    register: Register | None = None


@dataclass
class ActorState:
    """One actor in a run: what it may do now, and what it says when it has acted. It knows no threads and no clock."""

    spec: ActorSpec
    inputs: list[Edge]
    outputs: list[Edge]
    batches: int
    results: list[Any] = field(default_factory=list)
    acts: int = 0
    acting: bool = False
    stopped: bool = False

    def __post_init__(self) -> None:
        make = self.spec.memory or (lambda: None)
        self.free = deque(Register(self.spec.name, make()) for _ in range(self.spec.registers))
        self.waiting: dict[Edge, deque[Register]] = {edge: deque() for edge in self.inputs}
        self.ended: set[Edge] = set()

    def start(self) -> list[Message]:
        """What is said before the first act: the initial tokens, and `end` where there is no batch."""
        sent = []
        for edge in self.outputs:
            for value in edge.tokens:
                register = self.free.popleft()
                register.value, register.readers = value, 1
                sent.append(Message(edge.consumer, "data", edge, register))
        return sent + (self._end() if self.exhausted else [])

    def receive(self, message: Message) -> list[Message]:
        """Take a message in. Returns the answers to give at once."""
        if message.kind == "return":
            message.register.readers -= 1
            if message.register.readers == 0:
                self.free.append(message.register)
        elif message.kind == "end":
            self.ended.add(message.edge)
        elif self.stopped:
            return [_returned(message.edge, message.register)]
        else:
            self.waiting[message.edge].append(message.register)
        return self._end() if not self.stopped and self.exhausted else []

    @property
    def keeps_results(self) -> bool:
        return not self.outputs and self.spec.memory is None

    @property
    def ready(self) -> bool:
        return bool(not self.stopped and not self.acting and self.free and all(self.waiting.values()))

    @property
    def exhausted(self) -> bool:
        """No further act is possible: a source is through, or an input has ended and is read."""
        if self.acting:
            return False
        if not self.inputs:
            return self.acts == self.batches
        return any(not self.waiting[edge] for edge in self.ended)

    @property
    def finished(self) -> bool:
        """Stopped, all own registers are back, and none of others' can arrive any more."""
        return self.stopped and len(self.free) == self.spec.registers and len(self.ended) == len(self.inputs)

    def begin(self) -> tuple[list[Register], Register]:
        """The registers to read and the one to write. They stay taken until `finish`."""
        self.acting, out = True, self.free.popleft()
        return [self.waiting[edge].popleft() for edge in self.inputs], out

    def act(self, read: list[Register], out: Register) -> Any:
        arguments = [register.value for register in read] if self.inputs else [self.acts]
        if self.spec.memory is not None:
            self.spec.act(*arguments, out=out.value)
            return out.value
        return self.spec.act(*arguments)

    def finish(self, read: list[Register], out: Register, value: Any) -> list[Message]:
        """Hand the output on and the inputs back. Returns the messages of both, and `end` after the last act."""
        self.acting, self.acts = False, self.acts + 1
        out.value, out.readers = value, len(self.outputs)
        if not self.outputs:
            self.free.append(out)
            if self.keeps_results:
                self.results.append(value)
        sent = [Message(edge.consumer, "data", edge, out) for edge in self.outputs]
        sent += [_returned(edge, register) for edge, register in zip(self.inputs, read, strict=True)]
        return sent + (self._end() if self.exhausted else [])

    def _end(self) -> list[Message]:
        self.stopped = True
        left = [_returned(edge, register) for edge, registers in self.waiting.items() for register in registers]
        for registers in self.waiting.values():
            registers.clear()
        return left + [Message(edge.consumer, "end", edge) for edge in self.outputs]


def _returned(edge: Edge, register: Register) -> Message:
    return Message(edge.producer, "return", edge, register)


def states_of(graph: ActorGraph, batches: int) -> dict[str, ActorState]:
    """A fresh state for each actor. Raises DeadlockError for a cycle without a token."""
    graph.check()
    return {
        name: ActorState(spec, graph.inputs(name), graph.outputs(name), batches) for name, spec in graph.actors.items()
    }


def outcome_of(states: dict[str, ActorState], seconds: float) -> Outcome:
    return Outcome(
        results={name: state.results for name, state in states.items() if state.keeps_results},
        acts={name: state.acts for name, state in states.items()},
        seconds=seconds,
    )


class _DeviceQueue(threading.Thread):
    """The thread of one device queue: its actors' messages and acts, one after another."""

    def __init__(self, states: dict[str, ActorState], post: Callable[[Message], None]) -> None:
        super().__init__(daemon=True)
        self.states, self.post, self.threads = states, post, torch.get_num_threads()
        self.inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self.local: deque[Message] = deque()  # within a queue no lock is needed
        self.failure: BaseException | None = None

    def run(self) -> None:
        torch.set_num_threads(self.threads)  # a new thread's first kernel would take all cores, whatever was set
        try:
            for state in self.states.values():
                self._send(state.start())
            for state in self.states.values():
                self._work(state)
            while not all(state.finished for state in self.states.values()):
                message = self.local.popleft() if self.local else self.inbox.get()
                if message is None:
                    return
                state = self.states[message.to]
                self._send(state.receive(message))
                self._work(state)
        except BaseException as error:
            self.failure = error

    def _work(self, state: ActorState) -> None:
        while state.ready:
            read, out = state.begin()
            self._send(state.finish(read, out, state.act(read, out)))

    def _send(self, messages: list[Message]) -> None:
        for message in messages:
            if message.to in self.states:
                self.local.append(message)
            else:
                self.post(message)


def run(graph: ActorGraph, batches: int, patience: float = PATIENCE_S) -> Outcome:
    """Run a graph on threads, one for each device queue; each source acts `batches` times.

    Threads overlap where kernels release Python's lock, as torch's do.

    Raises DeadlockError at once for a cycle without a token, and after `patience` seconds without a single act; what an
    actor raises comes through.
    """
    states = states_of(graph, batches)
    queues: dict[str, _DeviceQueue] = {}
    home = {name: spec.queue for name, spec in graph.actors.items()}

    def post(message: Message) -> None:
        queues[home[message.to]].inbox.put(message)

    for place in dict.fromkeys(home.values()):
        queues[place] = _DeviceQueue({name: s for name, s in states.items() if home[name] == place}, post)
    start = time.perf_counter()
    for thread in queues.values():
        thread.start()
    try:
        _join(list(queues.values()), states, patience)
    finally:
        for thread in queues.values():
            thread.inbox.put(None)
    return outcome_of(states, time.perf_counter() - start)


def _join(threads: list[_DeviceQueue], states: dict[str, ActorState], patience: float) -> None:
    acts, since = -1, time.monotonic()
    while alive := [thread for thread in threads if thread.is_alive()]:
        alive[0].join(0.05)
        for thread in threads:
            if thread.failure is not None:
                raise thread.failure
        now = sum(state.acts for state in states.values())
        if now != acts:
            acts, since = now, time.monotonic()
        elif time.monotonic() - since > patience:
            raise DeadlockError(f"no actor acted for {patience:g} s; waiting: {', '.join(stuck(states))}")
    for thread in threads:
        if thread.failure is not None:
            raise thread.failure


def stuck(states: dict[str, ActorState]) -> list[str]:
    """Of each unfinished actor, what it waits for."""
    return [
        f"{name} ({len(state.free)} of {state.spec.registers} registers free, inputs "
        f"{[len(registers) for registers in state.waiting.values()]})"
        for name, state in states.items()
        if not state.finished
    ]


def sender(rank: int) -> Callable[[Tensor], None]:
    """An act that sends a tensor to another process, whose `receiver` returns it from an actor of its own.

    gloo sends when the other side has asked, and that asks when it has a free register: credits cross processes too.
    """

    def act(value: Tensor) -> None:
        dist.send(value, rank)

    return act


def receiver(rank: int) -> Callable[..., None]:
    """The act of a source that receives into its register: give its actor a `memory` of the tensor's shape."""

    def act(_: int, out: Tensor) -> None:
        dist.recv(out, rank)

    return act

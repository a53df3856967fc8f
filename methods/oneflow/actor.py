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

`threads.run` has a thread for each device queue; `simulation.simulate` runs the same protocol on a clock of its own.

Of OneFlow's actors two kinds are missing here. None works in place: a buffer that an actor passes on is copied, since
its producer will write into it again. And there are no control edges, registers without data that only order acts.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from methods.shared.checks import check_numbers, check_sizes


class DeadlockError(RuntimeError):
    """Nothing can act any more, and not all is done."""


@dataclass
class Register:
    """An output buffer of an actor. readers: consumers that have not returned it yet.

    rewritten: whether its producer has `memory`, and so will write into the same value again.
    """

    producer: str
    value: Any = None
    readers: int = 0
    rewritten: bool = False


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
        """Add an actor whose inputs are there already. By default it has a device queue of its own.

        Raises TypeError or ValueError, and leaves the graph as it was, for a name that is taken, an input that is not
        there, no registers, or invalid seconds.
        """
        check_sizes(f"actor {name}", registers=registers)
        check_numbers(f"actor {name}", least=0, seconds=seconds)
        if name in self.actors:
            raise ValueError(f"there is an actor {name!r} already")
        edges = [Edge(producer, name) for producer in inputs]
        for edge in edges:
            self._check_ends(edge, name)
        self.actors[name] = ActorSpec(name, act, registers, queue or name, memory, seconds)
        self.edges += edges
        return name

    def feedback(self, producer: str, consumer: str, tokens: Iterable[Any] = ()) -> None:
        """Add an edge backwards: the consumer's last input. tokens: what it reads before the producer has acted.

        Raises ValueError, and leaves the graph as it was, for an actor that is not there, for more tokens than the
        producer has registers, and for tokens of one with `memory`.
        """
        edge = Edge(producer, consumer, tuple(tokens))
        self._check_ends(edge)
        if edge.tokens and self.actors[producer].memory is not None:
            raise ValueError(f"tokens from {producer}, which has `memory`: it would write its outputs into them; "
                             "let it return its outputs instead, or put the tokens on another edge")  # fmt: skip
        if len(edge.tokens) > self.actors[producer].registers:
            raise ValueError(f"{len(edge.tokens)} tokens from {producer}, which has {self.actors[producer].registers} "
                             "registers; give it one for each token")  # fmt: skip
        self.edges.append(edge)

    def _check_ends(self, edge: Edge, new: str | None = None) -> None:
        for name in (edge.producer, edge.consumer):
            if name != new and name not in self.actors:
                raise ValueError(f"edge {edge.producer} -> {edge.consumer}: there is no actor {name!r}")
        if edge.producer == new:
            raise ValueError(f"actor {new}: it cannot be its own input; give `feedback` a token for it")

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
        rewritten = self.spec.memory is not None
        self.free = deque(Register(self.spec.name, make(), 0, rewritten) for _ in range(self.spec.registers))
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
        return own_copy(self.spec.act(*arguments), [register.value for register in read if register.rewritten])

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


def own_copy(value: Any, buffers: Sequence[Any]) -> Any:
    """The value, with copies of all in it that shares memory with a buffer; a view of a tensor does."""
    if not buffers:
        return value
    if isinstance(value, tuple | list):
        parts = [own_copy(part, buffers) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        return {key: own_copy(part, buffers) for key, part in value.items()}
    held = [leaf for buffer in buffers for leaf in _leaves(buffer)]
    if isinstance(value, Tensor):
        memory = value.untyped_storage().data_ptr()
        shared = any(isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() == memory for leaf in held)
        return value.clone() if shared else value
    if isinstance(value, np.ndarray):
        shared = any(isinstance(leaf, np.ndarray) and np.may_share_memory(leaf, value) for leaf in held)
        return value.copy() if shared else value
    return copy.deepcopy(value) if any(leaf is value for leaf in held) else value


def _leaves(value: Any) -> list[Any]:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else None
    return [value] if parts is None else [leaf for part in parts for leaf in _leaves(part)]


def _returned(edge: Edge, register: Register) -> Message:
    return Message(edge.producer, "return", edge, register)


def states_of(graph: ActorGraph, batches: int) -> dict[str, ActorState]:
    """A fresh state for each actor.

    Raises DeadlockError for a cycle without a token, TypeError or ValueError for a number of batches that is none.
    """
    check_sizes("run", least=0, batches=batches)
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


def stuck(states: dict[str, ActorState]) -> list[str]:
    """Of each unfinished actor, what it waits for."""
    return [
        f"{name} ({len(state.free)} of {state.spec.registers} registers free, inputs "
        f"{[len(registers) for registers in state.waiting.values()]})"
        for name, state in states.items()
        if not state.finished
    ]

"""The actor protocol on a clock of its own: exact, deterministic, and with a closed form beside it."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from methods.oneflow.actor import (
    ActorGraph,
    ActorState,
    DeadlockError,
    Message,
    Outcome,
    Register,
    outcome_of,
    states_of,
    stuck,
)


def simulate(graph: ActorGraph, batches: int) -> Outcome:
    """Run a graph as `threads.run` does, where an act takes its actor's `seconds` and messages take none.

    Actors of one device queue take turns; of those that could begin, the first of the graph does. An actor holds the
    registers that it reads until its act ends.

    Raises DeadlockError where nothing can begin any more and not all is done.
    """
    states = states_of(graph, batches)
    messages: deque[Message] = deque(message for state in states.values() for message in state.start())
    busy: set[str] = set()
    events: list[tuple[float, int, str, list[Register], Register, Any]] = []
    counter, now = itertools.count(), 0.0
    while True:
        while messages:
            message = messages.popleft()
            messages += states[message.to].receive(message)
        for name, state in states.items():
            if state.ready and state.spec.queue not in busy:
                busy.add(state.spec.queue)
                read, out = state.begin()
                heapq.heappush(events, (now + state.spec.seconds, next(counter), name, read, out, state.act(read, out)))
        if not events:
            break
        now = events[0][0]
        while events and events[0][0] == now:
            _, _, name, read, out, value = heapq.heappop(events)
            busy.discard(states[name].spec.queue)
            messages += states[name].finish(read, out, value)
    _refuse_unfinished(states)
    return outcome_of(states, now)


def _refuse_unfinished(states: dict[str, ActorState]) -> None:
    if waiting := stuck(states):
        raise DeadlockError(f"nothing can act any more; waiting: {', '.join(waiting)}")


def pipeline(seconds: Sequence[float], registers: int) -> ActorGraph:
    """A chain of stages that hand batch numbers on and take so long each."""
    graph, last = ActorGraph(), []
    for i, duration in enumerate(seconds):
        last = [graph.actor(f"stage{i}", lambda x: x, last, registers=registers, seconds=duration)]
    return graph


def period(seconds: Sequence[float], registers: int) -> float:
    """Time between two batches of a long run of a pipeline.

    With one register a stage cannot begin before its consumer has returned it, so that neighbours take turns.
    """
    if registers > 1:
        return max(seconds)
    return max(map(sum, itertools.pairwise(seconds)), default=seconds[0])


def skip_graph(registers: int) -> ActorGraph:
    """a -> b -> c -> d with a -> d besides, 2 units each: d returns a's register late."""
    graph = ActorGraph()
    graph.actor("a", lambda i: i, registers=registers, seconds=2)
    graph.actor("b", lambda x: x, ["a"], registers=registers, seconds=2)
    graph.actor("c", lambda x: x, ["b"], registers=registers, seconds=2)
    graph.actor("d", lambda x, y: (x, y), ["c", "a"], registers=registers, seconds=2)
    return graph


def random_graph(seed: int) -> ActorGraph:
    """2 to 10 actors, up to 3 inputs and any number of readers each, 1 to 3 registers. Values are sums."""
    rng, graph = random.Random(seed), ActorGraph()
    for i in range(rng.randint(2, 10)):
        inputs = [str(j) for j in rng.sample(range(i), min(i, rng.randint(0, 3)))]
        graph.actor(str(i), lambda *values: sum(values), inputs, registers=rng.randint(1, 3),
                    seconds=rng.randint(1, 5))  # fmt: skip
    return graph


def cycle_graph(*tokens: int, registers: int = 1) -> ActorGraph:
    """Running sums: `sum` reads what it made before, by way of `delay`. tokens: on the edge back."""
    graph = ActorGraph()
    graph.actor("source", lambda i: i, registers=registers)
    graph.actor("sum", lambda x, total: x + total, ["source"], registers=registers)
    graph.actor("delay", lambda total: total, ["sum"], registers=registers)
    graph.actor("out", lambda total: total, ["sum"])
    graph.feedback("delay", "sum", tokens)
    return graph


def stage_chain(stages: Sequence[Callable[..., Any]], registers: int, **memory: Any) -> ActorGraph:
    """Actors in a row; the first is a source. memory: `stage<i>` -> what makes its buffers."""
    graph, last = ActorGraph(), []
    for i, stage in enumerate(stages):
        last = [graph.actor(f"stage{i}", stage, last, registers=registers, memory=memory.get(f"stage{i}"))]
    return graph

"""Actors on threads, one for each device queue, and acts that reach other processes."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from methods.oneflow.actor import ActorGraph, ActorState, DeadlockError, Message, Outcome, outcome_of, states_of, stuck
from methods.shared.checks import check_numbers

PATIENCE_S = 30.0


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
    check_numbers("run", above=0, patience=patience)
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

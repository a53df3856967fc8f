"""Timing by races: contenders run interleaved, in a balanced order, so that drift touches all of them alike.

A machine slows down and speeds up while a block runs (clock frequency, caches, neighbours). Timing all of A
and then all of B turns that drift into a difference between A and B. A race runs every contender once a round
and turns the order round from one round to the next: A B, B A, B A, A B, ... What a claim uses is the ratio
within each round, and the replicate is the process that ran the race, not the round.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any, Protocol

from assay.errors import JobError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h

Contender = Callable[[], object]


class Meter(Protocol):
    """What `race` needs of an energy meter: `assay.measure.energy.EnergyMeter` is one."""

    def start(self) -> None: ...

    def stop(self) -> Any:
        """Return an object with `joules: float | None` and `reason: str | None`."""


@dataclass(frozen=True)
class Sample:
    """One timed call.

    name: the contender. repeat: the round, 0-based; samples of one round form a pair. order: the call's place
    in its round, 0-based. seconds: its duration, s. joules: energy over the same window, J; None if no meter
    was given or nothing could be read, and then `joules_reason` says why.
    """

    name: str
    repeat: int
    order: int
    seconds: float
    joules: float | None = None
    joules_reason: str | None = None


def race(
    contenders: dict[str, Contender],
    *,
    pairs: int = 30,
    warmup: int = 3,
    device: object = None,
    energy: Meter | None = None,
) -> list[Sample]:
    """Time the contenders against one another.

    contenders: name -> a call without arguments; its return value is dropped outside the timed window. pairs:
    rounds; each runs every contender once. warmup: untimed calls of each contender before the first round.
    device: None or "cpu" for the wall clock; a CUDA device (str or `torch.device`) for CUDA events on its
    current stream, with one synchronisation at the end of each call. energy: read around each timed call.

    Returns `pairs * len(contenders)` samples in the order in which they ran. Meanwhile the heap is kept from
    shrinking, and Python's garbage collector is off; it is back as it was afterwards, also when a contender raises,
    whose exception then comes through with a note that names the contender.

    Raises JobError if there is no contender or no round.
    """
    if not contenders or pairs < 1 or warmup < 0:
        raise JobError(
            f"race: nothing to time with {len(contenders)} contenders, pairs={pairs}, warmup={warmup}; "
            "give at least one contender, pairs >= 1 and warmup >= 0"
        )
    _keep_the_heap()
    timed = _cuda_timer(device) if str(device).startswith("cuda") else _wall_timer
    samples = []
    with _collector_off():
        for name, contender in contenders.items():
            for _ in range(warmup):
                _named(name, timed, contender)
        for repeat in range(pairs):
            for order, name in enumerate(order_of_round(list(contenders), repeat)):
                if energy is not None:
                    energy.start()
                seconds = _named(name, timed, contenders[name])
                read = energy.stop() if energy is not None else None
                joules, reason = (read.joules, read.reason) if read is not None else (None, None)
                samples.append(Sample(name, repeat, order, seconds, joules, reason))
    return samples


def _keep_the_heap() -> None:
    """Ask glibc not to give freed memory back to the kernel.

    By default a heap that shrinks after one call is faulted in again, page by page, in the next: then a time says as
    much about the sizes that happened to be freed last as about the call.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
        if mallopt is not None:
            mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
            mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)  # the most that glibc allows


def order_of_round(names: list[str], repeat: int) -> list[str]:
    """Order of one round: a cyclic shift every second round, reversed in odd rounds.

    Over any two rounds 2i, 2i+1 the mean place of every contender is the same; over 2k rounds each of the k
    contenders takes each place exactly twice. Two contenders run A B, B A, B A, A B, and so on: ABBA, then
    BAAB.
    """
    shift = (repeat // 2) % len(names)
    order = names[shift:] + names[:shift]
    return order[::-1] if repeat % 2 else order


def _wall_timer(contender: Contender) -> float:
    start = perf_counter_ns()
    result = contender()
    stop = perf_counter_ns()
    del result  # freeing what was returned is not part of the call
    return (stop - start) * 1e-9


def _cuda_timer(device: object) -> Callable[[Contender], float]:
    import torch  # a race on the CPU needs no torch

    def timed(contender: Contender) -> float:
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.cuda.device(device):
            start.record()
            result = contender()
            stop.record()
            stop.synchronize()
        del result
        return start.elapsed_time(stop) * 1e-3

    with torch.cuda.device(device):
        torch.cuda.synchronize()
    return timed


def _named(name: str, timed: Callable[[Contender], float], contender: Contender) -> float:
    try:
        return timed(contender)
    except Exception as error:
        error.add_note(f"raised in a race by the contender {name!r}")
        raise


@contextmanager
def _collector_off() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()

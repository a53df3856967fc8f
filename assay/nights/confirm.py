"""Confirm a suspect: the old and the new commit side by side, in turn, in fresh processes.

One couple of processes, one for each commit, is one replicate. Its two processes live at the same time and compute in
turn, old new, new old, new old, ...: what the machine does meanwhile happens to both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from assay.errors import JobError
from assay.locks import machine
from assay.measure.time import order_of_round
from assay.nights import screen
from assay.nights.process import HotPathError, WorkerDied, checkout_of, worker
from assay.nights.record import Effort

SIDES = ["old", "new"]


def confirm(root: Path, old: str, new: str, suspects: list[str], effort: Effort,
            advance: Callable[[], None] = lambda: None) -> dict[str, screen.Tested]:  # fmt: skip
    """Whether each suspect is slower in commit `new` than in `old`. advance is called after each couple.

    Raises JobError where a suspect can no longer be run.
    """
    times = np.empty((2, len(suspects), effort.replicates, effort.pairs))
    with checkout_of(root, old) as old_tree, checkout_of(root, new) as new_tree:
        for replicate in range(effort.replicates):
            # each commit is the first to start, and to run, in every second couple
            trees = dict(zip(SIDES, (old_tree, new_tree), strict=True))
            what = f"confirm {old[:10]} to {new[:10]}, couple {replicate + 1} of {effort.replicates}"
            couple = {side: trees[side] for side in order_of_round(SIDES, replicate)}
            with machine(alone=True, what=what):
                times[:, :, replicate] = _couple(couple, suspects, effort)
            advance()
    for name, seconds in zip(suspects, times.swapaxes(0, 1), strict=True):
        if not (np.isfinite(seconds) & (seconds > 0)).all():
            raise JobError(f"{name}: could be timed before, and now a call took no time by the clock")
    old_times, new_times = np.log(times)
    tested = screen.confirm(screen.paired(old_times, new_times))
    return dict(zip(suspects, tested, strict=True))


def _couple(trees: dict[str, Path], suspects: list[str], effort: Effort) -> screen.Array:
    """Seconds, (2 sides, suspects, pairs)."""
    times = np.empty((2, len(suspects), effort.pairs))
    with ExitStack() as stack:
        workers = {side: stack.enter_context(worker(tree)) for side, tree in trees.items()}
        for index, name in enumerate(suspects):
            try:
                about = max(process.ask("open", name) for process in workers.values())
                calls = max(1, math.ceil(effort.slice_s / effort.pairs / about))
                for pair in range(effort.pairs):
                    for side in order_of_round(list(workers), pair):
                        times[SIDES.index(side), index, pair] = workers[side].ask("time", name, calls)
                for process in workers.values():
                    process.ask("close", name)
            except (HotPathError, WorkerDied) as error:
                raise JobError(f"{name}: could be timed before and cannot be confirmed now: {error}") from error
    return times

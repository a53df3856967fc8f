"""Real processes for distributed experiments: one per rank, with a process group between them.

Processes come from a fork server that has torch loaded already: a rank starts in a fraction of a second,
where a fresh interpreter takes ten. Ranks meet through a file, so that two runs at once never fight for a
port.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from multiprocessing import connection, current_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from assay.errors import JobError
from assay.network import INTERFACE, Network, enter, wired
from assay.processes import die_with_parent, fork_server, how_it_ended, set_threads

EXIT_GRACE_S = 5.0  # for a rank that has reported to close its process group
CAUSE_GRACE_S = 0.5  # for a rank's death to show, once another rank has lost its connection to it

# When it was made (ns; 0 for a death), the traceback of a failure or None, the pickled result.
Report = tuple[int, str | None, bytes]


def run_ranks(
    fn: Callable[..., Any],
    world_size: int,
    *,
    args: tuple[Any, ...] = (),
    timeout: float = 60.0,
    backend: str = "gloo",
    threads: int = 1,
    network: Network | None = None,
) -> list[Any]:
    """Run `fn(rank, world_size, *args)` in `world_size` processes and return its results, by rank.

    fn: a top-level function; `args` and results are pickled (tensors by value). In each rank the default
    process group of `backend` is ready, torch and BLAS have `threads` threads, and the environment is the caller's. On
    "nccl" rank r has GPU r. timeout: s, from the call to the last result. network: the speed of the wire
    between ranks, which is otherwise the machine's memory ("gloo" only).

    Raises JobError if `fn` or `args` cannot be pickled, a rank raises (with that rank's traceback), dies, or
    is not done in time (with the stack of each late rank), or the network cannot be made here. Whatever happens,
    no process and no file is left; ranks die with the process that called.
    """
    if world_size < 1:
        raise JobError(f"run_ranks: world_size is {world_size}; give at least 1")
    if current_process().daemon:
        raise JobError("run_ranks: a daemonic process may have no children; start the worker with daemon=False")
    if network is not None and backend != "gloo":
        raise JobError(f"run_ranks: {backend} does not keep to a network; leave it out, or use backend 'gloo'")
    with tempfile.TemporaryDirectory(prefix="assay-ranks-") as folder, wired(world_size, network) as doors:
        job = _payload(fn, args, doors, folder, world_size, backend, timeout, threads)
        ranks = _Ranks(folder, timeout, f"{fn.__module__}.{getattr(fn, '__qualname__', fn)}")
        try:
            ranks.start(job, world_size)
            return ranks.results()
        finally:
            ranks.end()


def _payload(fn: Callable[..., Any], args: tuple[Any, ...], *settings: Any) -> bytes:
    try:
        # pickled here, not by multiprocessing, which would move the caller's tensors into shared memory
        work = pickle.dumps((fn, args))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise JobError(
            f"run_ranks: {getattr(fn, '__qualname__', fn)} or its arguments cannot be sent to another process "
            f"({error}); use a function defined at the top level of a module"
        ) from error
    return pickle.dumps((work, dict(os.environ), *settings))


class _Ranks:
    """The parent's side: processes, the pipes that they report through, and what is still missing."""

    def __init__(self, folder: str, timeout: float, what: str) -> None:
        self._folder, self._what, self._timeout = Path(folder), what, timeout
        self._deadline = time.monotonic() + timeout
        self._processes: list[Any] = []
        self._pipes: list[Connection] = []

    def start(self, job: bytes, world_size: int) -> None:
        context = fork_server(["torch", "torch.distributed"])
        for rank in range(world_size):
            receiver, sender = context.Pipe(duplex=False)
            self._pipes.append(receiver)
            process = context.Process(target=_rank_main, args=(rank, job, sender), daemon=False)
            process.start()
            self._processes.append(process)
            sender.close()  # so that a rank that dies is seen as the end of its pipe

    def results(self) -> list[Any]:
        found: dict[int, Report] = {}
        while late := [rank for rank in range(len(self._pipes)) if rank not in found]:
            reports = self._next(late, self._deadline - time.monotonic())
            if not reports:
                self._raise_late(late)
            found.update(reports)
            if any(why is not None for _, why, _ in reports.values()):
                self._raise_failure(found)
        for process in self._processes:
            process.join(EXIT_GRACE_S)
        return [pickle.loads(found[rank][2]) for rank in range(len(self._pipes))]

    def _next(self, late: list[int], seconds: float) -> dict[int, Report]:
        ready = connection.wait([self._pipes[rank] for rank in late], max(0.0, seconds))
        return {rank: self._report(rank) for rank in late if self._pipes[rank] in ready}

    def _report(self, rank: int) -> Report:
        try:
            return pickle.loads(self._pipes[rank].recv_bytes())
        except EOFError:
            self._processes[rank].join(EXIT_GRACE_S)
            code = self._processes[rank].exitcode
            how = "it has closed its pipe and goes on" if code is None else f"ended {how_it_ended(code)}"
            return 0, f"the process died without a word ({how})", b""

    def _raise_failure(self, found: dict[int, Report]) -> None:
        """Name the cause: the earliest failure, and a death before any, for either breaks the others' connections.

        The kernel may close a dying rank's sockets before its pipe, so the others' complaint can be first to arrive.
        """
        give_up = time.monotonic() + CAUSE_GRACE_S
        while late := [rank for rank in range(len(self._pipes)) if rank not in found]:
            reports = self._next(late, give_up - time.monotonic())
            if not reports:
                break
            found.update(reports)
        _, rank, why = min((when, rank, why) for rank, (when, why, _) in found.items() if why is not None)
        raise JobError(f"rank {rank} of {len(self._pipes)} failed in {self._what}:\n{why.rstrip()}")

    def _raise_late(self, late: list[int]) -> None:
        stacks = "".join(f"\nrank {rank}: {self._stack(rank)}" for rank in late)
        raise JobError(
            f"{len(late)} of {len(self._pipes)} ranks were not done in {self._timeout:g} s in {self._what}; "
            f"they were stopped (a rank that waits for another, or too little time){stacks}"
        )

    def _stack(self, rank: int) -> str:
        path = self._folder / f"stack-{rank}"
        try:
            if not path.exists():
                return "had not started yet"
            os.kill(self._processes[rank].pid, signal.SIGUSR1)
        except (ProcessLookupError, IndexError):
            return "has gone"
        give_up = time.monotonic() + 1.0
        while not path.stat().st_size and time.monotonic() < give_up:
            time.sleep(0.01)
        time.sleep(0.01)  # the file is written line by line
        return path.read_text().strip() or "gave no stack"

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # a rank leads a session: what it started is in it
        for process in self._processes:
            process.join()
            process.close()
        for pipe in self._pipes:
            pipe.close()


def _rank_main(rank: int, job: bytes, sender: Connection) -> None:
    failure, value = None, b""
    try:
        work, environment, doors, *settings = pickle.loads(job)
        enter(doors[rank])  # before the first thread
        die_with_parent()
        os.environ.clear()  # the fork server's environment is that of its own start
        os.environ.update(environment)
        if doors[rank]:
            os.environ["GLOO_SOCKET_IFNAME"] = INTERFACE
        value = pickle.dumps(_run(rank, work, *settings))
    except BaseException:
        failure = traceback.format_exc()
    sender.send_bytes(pickle.dumps((time.monotonic_ns(), failure, value)))
    sender.close()
    import torch.distributed as dist

    if failure is None and dist.is_initialized():
        dist.destroy_process_group()


def _run(rank: int, work: bytes, folder: str, world_size: int, backend: str, timeout: float, threads: int) -> Any:
    import torch
    import torch.distributed as dist

    stack = (Path(folder) / f"stack-{rank}").open("w")
    faulthandler.register(signal.SIGUSR1, file=stack)
    set_threads(threads)
    if backend == "nccl":
        torch.cuda.set_device(rank)
    elif sys.platform == "linux":
        # gloo would look the host's name up, which not every machine can
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = dist.FileStore(str(Path(folder) / "store"), world_size)  # type: ignore[attr-defined]
    limit = timedelta(seconds=timeout)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=limit)
    fn, args = pickle.loads(work)
    return fn(rank, world_size, *args)

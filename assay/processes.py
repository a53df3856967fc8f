"""What a process of ours promises: it ends with the one that asked for it, leaves nothing, keeps its threads."""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.connection
import multiprocessing.util
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psutil

LONGEST_FOLDER = 75  # bytes of a path that leave room, of the 107 that a unix socket has, for multiprocessing's names
END_S = 10.0  # for what is killed to be gone: only a process that the kernel itself holds on to takes longer
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(how: Callable[[], None] = lambda: os.killpg(0, signal.SIGKILL)) -> None:
    """End this process and all that it started when its parent dies, so that `kill -9` leaves nothing computing.

    The kernel's parent-death signal would not do: the parent of a forked worker is the fork server, which itself
    waits for its workers. So a thread waits for the process that asked, and ends this one's session, or does what
    `how` says.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    os.setsid()

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        how()

    threading.Thread(target=watch, daemon=True, name="parent watch").start()


@contextmanager
def supervising() -> Iterator[None]:
    """Make this process one that runs no code of others: it watches over those that do (`supervise`).

    It ends, and leaves the block on the way, when it is asked to (SIGTERM) or its parent dies.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    die_with_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
    if sys.platform == "linux":
        # what its descendants leave behind becomes its child, and not one of init, where nobody would find it
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield


def supervise(function: Callable[..., None], *args: Any, limit_s: float) -> int | None:
    """Run `function(*args)` in a child of this process, for `limit_s` s at most, and then end all that it started.

    The limit is this process's: it holds for a child that is stopped, blocks signals, or does not come to its end.
    Returns the exit code, negative for a signal, or None where time was up.
    """
    arguments = (multiprocessing.get_start_method(), function, args)
    child = multiprocessing.get_context("fork").Process(target=_supervised, args=arguments)
    try:
        child.start()
        return psutil.Process(child.pid).wait(limit_s)
    except psutil.TimeoutExpired:
        return None
    finally:
        end_descendants()


def _supervised(start_method: str, function: Callable[..., None], args: tuple[Any, ...]) -> None:
    """What is left at the end, threads, children and exit handlers among it, is not waited for."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    multiprocessing.set_start_method(start_method, force=True)  # as if the fork were not there
    die_with_parent()
    code = 1
    try:
        function(*args)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code & 0xFF)


def end_descendants() -> None:
    """Kill whatever this process started and still lives, and all that these started, in sessions of their own too."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    give_up = time.monotonic() + END_S
    while time.monotonic() < give_up:
        with suppress(psutil.Error):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    process.kill()
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:  # none is left; an orphan would be one
            return
        time.sleep(0.005)


def how_it_ended(code: int) -> str:
    """An exit code in words: 'by SIGKILL', 'with exit code 3'."""
    if code >= 0:
        return f"with exit code {code}"
    known = {int(known): known.name for known in signal.Signals}
    return f"by {known.get(-code, f'signal {-code}')}"  # real-time signals have no name


def fork_server(preload: Sequence[str]) -> Any:
    """The context of a fork server that has imported `preload`.

    Its sockets lie in the folder for temporary files, or in /tmp where the path of that is too long for a socket.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) > LONGEST_FOLDER:
        tempfile.tempdir = "/tmp"
        try:
            multiprocessing.util.get_temp_dir()  # remembered by this process, and by those that it starts
        finally:
            tempfile.tempdir = folder
    return context


def set_threads(threads: int) -> None:
    """Give torch, and the BLAS of numpy and of scipy, this many threads in this process.

    torch's own switch leaves the other two with a thread for each core, which they use from vectors of 10,000 numbers
    on; beside another job they wait for each other more than they compute.
    """
    import threadpoolctl
    import torch

    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(threads)  # for libraries that are loaded later
    torch.set_num_threads(threads)
    threadpoolctl.threadpool_limits(threads, user_api="blas")

"""What a process of ours promises: it ends with the one that asked for it, and it keeps to its threads."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading


def die_with_parent() -> None:
    """End this process and all that it started when its parent dies, so that `kill -9` leaves nothing computing.

    The kernel's parent-death signal would not do: the parent of a forked worker is the fork server, which itself
    waits for its workers. So a thread waits for the process that asked, and ends this one's session.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    os.setsid()

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="parent watch").start()


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

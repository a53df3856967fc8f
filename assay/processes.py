"""A process that ends with the one that asked for it, however that one ends."""

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

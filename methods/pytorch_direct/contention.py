"""Other work on the CPU: processes that copy memory without pause while something is timed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Semaphore

from assay.processes import die_with_parent

_BYTES = 64 * 2**20  # two of them fill no cache: a hog takes memory bandwidth as well as a core
_START_S = 120.0


@contextmanager
def hogs(count: int) -> Iterator[None]:
    """Run the block beside `count` busy processes. They end with it, and with this process however it ends.

    Raises:
        RuntimeError: a process did not start.
    """
    context = multiprocessing.get_context("spawn")
    busy = context.Semaphore(0)
    processes = [context.Process(target=_copy_forever, args=(busy,), daemon=True) for _ in range(count)]
    try:
        for process in processes:
            process.start()
        for _ in processes:
            if not busy.acquire(timeout=_START_S):
                raise RuntimeError(f"hogs: one of {count} processes did not start within {_START_S:g} s")
        yield
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()


def _copy_forever(busy: Semaphore) -> None:
    import numpy as np

    die_with_parent()
    source, target = np.ones(_BYTES, dtype=np.uint8), np.empty(_BYTES, dtype=np.uint8)
    busy.release()
    while True:
        np.copyto(target, source)

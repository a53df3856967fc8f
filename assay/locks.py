"""Advisory locks between processes: one for each job, and one for the machine while something is timed."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock on `path` (the kernel drops it when the process dies, however it dies)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDONLY | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def machine(*, alone: bool) -> Iterator[None]:
    """A timed job has the machine alone; other jobs of any Assay run on it share it and wait meanwhile."""
    path = Path(tempfile.gettempdir()) / "assay-machine.lock"
    with locked(path, shared=not alone):
        yield

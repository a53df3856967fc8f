"""Advisory locks between processes: one for each job, and one for the machine while something is timed."""

from __future__ import annotations

import fcntl
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from assay.errors import JobError

FOLDER = Path("/tmp")  # not TMPDIR, which each user and each shell may have of its own: the machine is one
FOLDER_VARIABLE = "ASSAY_LOCKS"
SAY_AFTER_S = 1.0
_held: set[int] = set()


@contextmanager
def locked(path: Path, *, shared: bool = False, what: str = "") -> Iterator[None]:
    """Hold a lock on `path` (the kernel drops it when the process dies, however it dies; no child inherits it).

    what: who waits, for those who wait and who look at the file. A wait of more than a second says what it is for.
    """
    handle = _take(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, what or " ".join(sys.argv))
    _held.add(handle)
    try:
        yield
    finally:
        if handle in _held:  # else this is a fork, which has dropped it
            _held.discard(handle)
            fcntl.flock(handle, fcntl.LOCK_UN)  # for a fork of this instant too
            os.close(handle)


@contextmanager
def machine(*, alone: bool, what: str = "") -> Iterator[None]:
    """A timed job has the machine alone; other jobs of any Assay run on it, whoever's, share it and wait meanwhile.

    ASSAY_LOCKS names a folder for the lock other than /tmp: runs that use different ones know nothing of each other.
    """
    path = Path(os.environ.get(FOLDER_VARIABLE) or FOLDER) / "assay-machine.lock"
    with locked(path, shared=not alone, what=what):
        yield


def _take(path: Path, kind: int, what: str) -> int:
    while True:
        handle = _open(path)
        try:
            _wait(handle, kind, path, what)
            if not _is_at(path, handle):  # deleted meanwhile: somebody else holds a lock on a new file of that name
                os.close(handle)
                continue
            with suppress(OSError):  # of a file that may only be read, and of a full disk
                os.truncate(handle, 0)
                os.pwrite(handle, f"process {os.getpid()} ({what[:300]}) at {_now()}".encode(), 0)
        except BaseException:
            with suppress(OSError):
                os.close(handle)
            raise
        return handle


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            # Never O_CREAT on a file that is there: in /tmp the kernel refuses that to all but the file's owner.
            with suppress(FileNotFoundError):
                try:
                    return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
                except PermissionError:
                    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            with suppress(FileExistsError):
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
                os.fchmod(handle, 0o666)  # whatever the umask: the next user waits for the same file
                return handle
    except OSError as error:
        raise JobError(
            f"{path}: cannot be opened as a lock ({error.strerror}); make it a file that every user may read, or set "
            f"{FOLDER_VARIABLE} to a folder where all users of this machine may write"
        ) from error


def _wait(handle: int, kind: int, path: Path, what: str) -> None:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
        return
    except BlockingIOError:
        pass
    since = _now()

    def say() -> None:
        holder = ""
        with suppress(OSError):
            holder = os.pread(handle, 400, 0).decode(errors="replace")
        by = holder or "a process that could not give its name"
        print(f"assay: {what} waits since {since} for {path}, last taken by {by}", file=sys.stderr, flush=True)

    timer = threading.Timer(SAY_AFTER_S, say)
    timer.daemon = True
    timer.start()
    try:
        fcntl.flock(handle, kind)
    finally:
        timer.cancel()


def _is_at(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _now() -> str:
    return time.strftime("%H:%M:%S")


def _drop() -> None:
    while _held:
        os.close(_held.pop())


# A lock belongs to the open file, which a fork shares: its children would hold it for as long as they live.
os.register_at_fork(after_in_child=_drop)

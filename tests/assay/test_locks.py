"""Locks are of the machine, for every user of it, and a wait says what it is for."""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from assay import locks
from assay.errors import JobError
from assay.locks import locked, machine

NOBODY = 65534


def free(path: Path, kind: int = fcntl.LOCK_EX) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def in_a_fork(function: Callable[[], object]) -> int:
    """The exit code of a forked process that calls it: 0, or 1 where it raises."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            function()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One that every user may write to, as /tmp is, in place of /tmp."""
    monkeypatch.delenv("ASSAY_LOCKS", raising=False)
    shared = Path(tempfile.mkdtemp(prefix="assay-locks-", dir="/tmp"))
    shared.chmod(0o1777)
    monkeypatch.setattr(locks, "FOLDER", shared)
    yield shared
    for path in shared.iterdir():
        path.unlink()
    shared.rmdir()


def test_the_lock_of_the_machine_lies_where_all_its_users_look() -> None:
    assert Path("/tmp") == locks.FOLDER


def test_who_has_the_machine_alone_shares_it_with_nobody_and_others_share_it(folder: Path) -> None:
    path = folder / "assay-machine.lock"
    with machine(alone=True):
        assert not free(path, fcntl.LOCK_SH)
    assert free(path)
    with machine(alone=False), machine(alone=False):
        assert free(path, fcntl.LOCK_SH)
        assert not free(path)
    assert free(path)


def test_another_folder_for_temporary_files_is_the_same_machine(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with machine(alone=True):
        assert not free(folder / "assay-machine.lock")


def test_a_folder_of_ones_own_is_another_machine(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with machine(alone=True):
        monkeypatch.setenv("ASSAY_LOCKS", str(tmp_path / "own"))
        with machine(alone=True):
            assert not free(tmp_path / "own" / "assay-machine.lock")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_second_user_waits_for_the_same_lock_and_gets_it(folder: Path, umask: int) -> None:
    path, was = folder / "assay-machine.lock", os.umask(umask)
    try:
        with machine(alone=True):
            pass
    finally:
        os.umask(was)

    def as_another_user() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        with machine(alone=True, what="the other user's job"):
            assert not free(path)

    assert in_a_fork(as_another_user) == 0
    assert "the other user's job" in path.read_text()
    with machine(alone=True, what="ours again"):
        assert "ours again" in path.read_text()
    path.chmod(0o444)  # of an older version: it can be locked, and not be written to
    assert in_a_fork(as_another_user) == 0


def test_a_wait_says_what_for_and_since_when(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(locks, "SAY_AFTER_S", 0.0)
    path, said = tmp_path / "lock", ""
    with locked(path, what="the long job"):
        second = threading.Thread(target=wait_for_it, args=(path,))
        second.start()
        while "\n" not in said:
            said += capfd.readouterr().err
    second.join()
    assert said.startswith("assay: the short job waits since ")
    assert f"for {path}, last taken by process {os.getpid()} (the long job) at " in said
    with locked(path):  # nobody has it: nothing to say
        pass
    assert capfd.readouterr().err == ""


def wait_for_it(path: Path) -> None:
    with locked(path, what="the short job"):
        pass


@pytest.mark.parametrize("killed", [False, True])
def test_a_child_does_not_keep_the_lock(tmp_path: Path, killed: bool) -> None:
    path = tmp_path / "lock"
    reading, writing = os.pipe()

    def holds_and_has_a_child() -> None:
        with locked(path):
            if os.fork() == 0:
                os.write(writing, str(os.getpid()).encode())
                signal.pause()
            while not free(tmp_path / "go"):
                pass
            if killed:
                os.kill(os.getpid(), signal.SIGKILL)

    with locked(tmp_path / "go"):
        holder = threading.Thread(target=in_a_fork, args=(holds_and_has_a_child,))
        holder.start()
        child = int(os.read(reading, 20))
        assert not free(path)
    holder.join()
    try:
        assert free(path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(reading)
        os.close(writing)


def test_a_child_that_leaves_the_block_drops_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    @contextmanager
    def held():
        with locked(path):
            yield

    with held() as _:
        block = held()  # of another lock, which a fork leaves
        path, other = tmp_path / "other", path
        block.__enter__()
        assert in_a_fork(lambda: block.__exit__(None, None, None)) == 0
        assert not free(path)
        assert not free(other)
        block.__exit__(None, None, None)
        assert free(path)


def test_a_lock_file_that_is_deleted_meanwhile_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    taken = threading.Event()

    def second() -> None:
        with locked(path):
            taken.set()
            assert not free(path)

    with locked(path):
        waiting = threading.Thread(target=second)
        waiting.start()
        while len([name for name in os.listdir("/proc/self/fd") if links_to(name, path)]) < 2:
            pass
        path.unlink()
    waiting.join()
    assert taken.is_set()
    assert free(path)


def links_to(name: str, path: Path) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{name}") == str(path)
    except OSError:
        return False


def test_what_cannot_be_a_lock_is_named_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "assay-machine.lock").symlink_to(tmp_path / "file")
    for folder in (tmp_path, tmp_path / "file"):
        monkeypatch.setenv("ASSAY_LOCKS", str(folder))
        with pytest.raises(JobError, match=r"assay-machine\.lock: cannot be opened .* set ASSAY_LOCKS"), \
                machine(alone=True):  # fmt: skip
            pass
    assert (tmp_path / "file").read_text() == "kept"

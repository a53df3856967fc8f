from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import torch
import torch.distributed as dist

from assay.errors import JobError
from assay.ranks import run_ranks

CHECKOUT = Path(__file__).resolve().parents[2]


def sum_of_ranks(rank, world_size, offset):
    total = torch.tensor(float(rank + offset))
    dist.all_reduce(total)
    return rank, total, torch.get_num_threads()


def pid_of_rank(rank, world_size):
    return os.getpid()


def raise_in_rank_2(rank, world_size):
    if rank == 2:
        raise ValueError("planted in rank 2")
    dist.barrier()  # the others wait for it


def kill_rank_1(rank, world_size):
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()


def hang_in_rank_1(rank, world_size, folder):
    (Path(folder) / str(rank)).write_text(str(os.getpid()))
    if rank == 1:
        time.sleep(600)


def large_result(rank, world_size):
    return torch.full((1 << 20,), float(rank))


def variable(rank, world_size):
    return os.environ.get("ASSAY_TEST_VARIABLE")


def not_picklable(rank, world_size):
    return lambda: None


def gone(pid: int, seconds: float = 120.0) -> bool:
    give_up = time.monotonic() + seconds
    while psutil.pid_exists(pid) and time.monotonic() < give_up:
        time.sleep(0.02)
    return not psutil.pid_exists(pid)


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The system's temporary folder, of this test alone: what `run_ranks` leaves in it shows."""
    run_ranks(pid_of_rank, 1)  # the fork server's own socket goes elsewhere, and stays
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_all_reduce_over_four_ranks(scratch):
    results = run_ranks(sum_of_ranks, 4, args=(10,))
    assert results == [(rank, torch.tensor(46.0), 1) for rank in range(4)]
    assert not list(scratch.iterdir())


def threads_of_rank(rank, world_size):
    return torch.get_num_threads()


def test_ranks_have_the_threads_that_were_asked_for():
    """One, as everywhere in these tests, would say nothing."""
    assert run_ranks(threads_of_rank, 2, threads=2) == [2, 2]


def its_server(rank, world_size):
    return os.getpid(), os.getppid()


def test_ranks_are_forked_from_one_server_that_has_torch_loaded():
    """So that a start takes no import: what it takes on an idle machine is a benchmark's matter."""
    (before,) = run_ranks(its_server, 1)
    after = run_ranks(its_server, 4)
    pids, servers = zip(*after, strict=True)
    assert set(servers) == {before[1]}
    assert any("libtorch" in mapped.path for mapped in psutil.Process(before[1]).memory_maps())
    assert len(set(pids)) == 4
    assert all(gone(pid) for pid in pids)


def test_a_rank_that_raises_is_named_with_its_traceback(scratch):
    with pytest.raises(JobError) as caught:
        run_ranks(raise_in_rank_2, 4)
    message = str(caught.value)
    assert message.startswith("rank 2 of 4 failed in ")
    assert "ValueError: planted in rank 2" in message
    assert "in raise_in_rank_2" in message
    assert not list(scratch.iterdir())
    assert not multiprocessing.active_children()


def test_a_rank_that_dies_is_named_with_its_signal():
    with pytest.raises(JobError, match=r"rank 1 of 3 failed .*\n.*ended by SIGKILL"):
        run_ranks(kill_rank_1, 3)


def test_a_rank_that_hangs_is_stopped_and_shows_where(scratch):
    notes = scratch / "notes"
    notes.mkdir()
    for timeout in (3, 15, 60):  # on a busy machine the other rank may need more time to be done
        with pytest.raises(JobError, match=rf"of 2 ranks were not done in {timeout} s") as caught:
            run_ranks(hang_in_rank_1, 2, args=(str(notes),), timeout=timeout)
        assert all(gone(int(note.read_text())) for note in notes.iterdir())
        if str(caught.value).startswith("1 of 2"):
            break
    assert "1 of 2 ranks" in str(caught.value)
    assert "rank 1: " in str(caught.value)
    assert "in hang_in_rank_1" in str(caught.value)
    assert list(scratch.iterdir()) == [notes]


HANGING = """
import os, pathlib, sys, time
from assay.ranks import run_ranks

def hang(rank, world_size, notes):
    pathlib.Path(notes, str(rank)).write_text(str(os.getpid()))
    time.sleep(600)
"""


def test_ranks_die_with_a_killed_parent(tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    (tmp_path / "hanging.py").write_text(HANGING)
    environment = dict(os.environ, TMPDIR=str(tmp_path), PYTHONPATH=f"{CHECKOUT}{os.pathsep}{tmp_path}")
    code = f"import hanging; hanging.run_ranks(hanging.hang, 2, args=({str(notes)!r},))"
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment)
    try:
        note = notes / "1"
        give_up = time.monotonic() + 120
        while not (note.exists() and note.read_text()) and time.monotonic() < give_up:
            time.sleep(0.05)
        family = psutil.Process(parent.pid).children(recursive=True)  # the fork server, its tracker and the ranks
        assert int(note.read_text()) in {process.pid for process in family}
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(family, timeout=120)
    assert not alive


def report_from_a_worker(sender):
    try:
        sender.send([total.item() for _, total, _ in run_ranks(sum_of_ranks, 2, args=(0,))])
    except JobError as error:
        sender.send(str(error))


def result_in_a_worker(*, daemon: bool):
    context = multiprocessing.get_context("forkserver")
    receiver, sender = context.Pipe(duplex=False)
    worker = context.Process(target=report_from_a_worker, args=(sender,), daemon=daemon)
    worker.start()
    sender.close()
    assert receiver.poll(240)
    result = receiver.recv()
    worker.join(120)
    assert worker.exitcode == 0
    return result


def test_ranks_start_from_inside_a_worker_process():
    assert result_in_a_worker(daemon=False) == [1.0, 1.0]


def test_a_daemonic_worker_is_told_why_it_cannot():
    assert "daemon=False" in result_in_a_worker(daemon=True)


def test_results_and_environment_pass_by_value(monkeypatch):
    monkeypatch.setenv("ASSAY_TEST_VARIABLE", "set after the fork server started")
    assert run_ranks(variable, 2) == ["set after the fork server started"] * 2
    results = run_ranks(large_result, 2)
    assert [r[-1].item() for r in results] == [0.0, 1.0]


def test_arguments_keep_their_storage():
    offset = torch.tensor(3.0)
    run_ranks(sum_of_ranks, 2, args=(offset,))
    assert not offset.is_shared()


def leave_children(rank, world_size, notes):
    for command in ("sleep 600", "nohup sleep 600 >/dev/null 2>&1 & wait"):
        subprocess.Popen(command, shell=True)
    (Path(notes) / f"{rank}").write_text(" ".join(str(c.pid) for c in psutil.Process().children()))


def test_what_a_rank_started_ends_with_it(tmp_path):
    run_ranks(leave_children, 2, args=(str(tmp_path),))
    pids = [int(pid) for note in tmp_path.iterdir() for pid in note.read_text().split()]
    try:
        assert len(pids) == 4
        assert all(gone(pid) for pid in pids)
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


IN_A_LONG_FOLDER = """
import os, tempfile
from assay.ranks import run_ranks

def total(rank, world_size):
    import torch, torch.distributed as dist
    value = torch.tensor(float(rank + 1))
    dist.all_reduce(value)
    return value.item(), tempfile.gettempdir()

if __name__ == "__main__":
    print(run_ranks(total, 2) == [(3.0, os.environ["TMPDIR"])] * 2)
"""


@pytest.mark.parametrize("length", [75, 76, 200])
def test_a_folder_for_temporary_files_may_have_a_long_path(length):
    """A unix socket's path is short: multiprocessing's sockets then lie in /tmp, all else where it should."""
    top = Path(tempfile.mkdtemp(dir="/tmp"))
    folder = top / ("x" * (length - len(str(top)) - 1))
    folder.mkdir()
    assert len(str(folder)) == length
    try:
        (top / "ranked.py").write_text(IN_A_LONG_FOLDER)
        done = subprocess.run([sys.executable, str(top / "ranked.py")], text=True, capture_output=True,
                              env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(CHECKOUT)})  # fmt: skip
        assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr
    finally:
        shutil.rmtree(top)


def test_what_cannot_be_sent_is_refused():
    with pytest.raises(JobError, match="top level of a module"):
        run_ranks(lambda rank, world_size: None, 2)
    with pytest.raises(JobError, match=r"rank . of 2 failed"):
        run_ranks(not_picklable, 2)
    with pytest.raises(JobError, match="world_size is 0"):
        run_ranks(pid_of_rank, 0)

"""A supervised process ends when its time is up, and with it all that it started. Every process here is real."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import psutil
import pytest

from assay import ROOT
from assay.processes import how_it_ended

# What a job may do, in the process that it is given. MARK is in the environment of all that descends from it.
PROGRAM = """
import atexit, multiprocessing, os, signal, subprocess, sys, threading, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
import psutil
from assay.locks import locked
from assay.processes import supervise, supervising

MARK, NOTE, LOCK = os.environ["MARK"], Path("note"), Path("lock")

def marked():
    found = []
    for process in psutil.process_iter():
        try:
            found += [process.pid] if process.environ().get("MARK") == MARK else []
        except psutil.Error:
            continue
    return found

def double_fork():
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
        os._exit(0)

def start_all_kinds():
    subprocess.Popen(["sleep", "600"])
    double_fork()
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    multiprocessing.Process(target=time.sleep, args=(600,)).start()
    pool = ProcessPoolExecutor(1)
    pool.submit(time.sleep, 600)
    subprocess.Popen("sleep 600 | cat", shell=True)
    subprocess.run("nohup sleep 600 >/dev/null 2>&1 &", shell=True)
    before = 2  # the supervisor, and this process
    while len(marked()) < before + 7:
        time.sleep(0.02)
    NOTE.write_text("all there")

def returns(): start_all_kinds()
def exits(): start_all_kinds(); sys.exit(3)
def raises(): start_all_kinds(); raise ValueError("no")
def leaves_a_thread(): threading.Thread(target=time.sleep, args=(600,)).start(); start_all_kinds()
def leaves_an_exit_handler(): atexit.register(time.sleep, 600); start_all_kinds()
def kills_itself(): start_all_kinds(); os.kill(os.getpid(), signal.SIGKILL)
def comes_too_late(): start_all_kinds(); time.sleep(600)

def cancels_alarms():
    signal.setitimer(signal.ITIMER_REAL, 0)
    time.sleep(600)
def is_stopped(): os.kill(os.getpid(), signal.SIGSTOP)
def stops_its_group(): os.kill(0, signal.SIGSTOP)
def blocks_all_signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(600)

if __name__ == "__main__":
    with supervising(), locked(LOCK):
        print(supervise(globals()[sys.argv[1]], limit_s=float(sys.argv[2])))
"""


def run(folder: Path, what: str, limit_s: float) -> tuple[str, list[int]]:
    """What `supervise` returned, and the processes that are left."""
    (folder / "program.py").write_text(PROGRAM)
    mark = str(uuid.uuid4())
    done = subprocess.run([sys.executable, "program.py", what, str(limit_s)], cwd=folder, text=True, timeout=200,
                          capture_output=True, env={**os.environ, "MARK": mark, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), with_mark(mark)


def with_mark(mark: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def is_free(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.mark.parametrize("what", ["cancels_alarms", "is_stopped", "stops_its_group", "blocks_all_signals"])
def test_the_limit_holds_whatever_the_process_does(tmp_path: Path, what: str) -> None:
    assert run(tmp_path, what, limit_s=0.7) == ("None", [])
    assert is_free(tmp_path / "lock")


@pytest.mark.parametrize(
    ("what", "code"),
    [("returns", "0"), ("exits", "3"), ("raises", "1"), ("kills_itself", "-9"), ("leaves_a_thread", "0"),
     ("leaves_an_exit_handler", "0")],
)  # fmt: skip
def test_all_that_a_process_started_ends_with_it(tmp_path: Path, what: str, code: str) -> None:
    """A subprocess, a double fork, a daemon, a child, a pool, a pipeline and nohup; the lock is free then."""
    assert run(tmp_path, what, limit_s=150) == (code, [])
    assert (tmp_path / "note").read_text() == "all there"
    assert is_free(tmp_path / "lock")


def test_all_that_a_process_started_ends_when_its_time_is_up(tmp_path: Path) -> None:
    for limit_s in (3, 10, 30, 90):  # on a busy machine all of it needs time to be there
        returned, left = run(tmp_path, "comes_too_late", limit_s)
        assert (returned, left) == ("None", [])
        if (tmp_path / "note").exists():
            break
    assert (tmp_path / "note").read_text() == "all there"


def test_all_of_it_ends_when_the_supervisor_is_asked_to_end(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    mark = str(uuid.uuid4())
    command = [sys.executable, "program.py", "comes_too_late", "200"]
    environment = {**os.environ, "MARK": mark, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as supervisor:
        while not (tmp_path / "note").exists():
            assert supervisor.poll() is None
        assert len(with_mark(mark)) >= 9
        assert not is_free(tmp_path / "lock")
        supervisor.send_signal(signal.SIGTERM)
    assert supervisor.returncode == 128 + signal.SIGTERM
    assert with_mark(mark) == []
    assert is_free(tmp_path / "lock")


def test_every_ending_has_words() -> None:
    assert [how_it_ended(code) for code in (3, -9, -40)] == ["with exit code 3", "by SIGKILL", "by signal 40"]

"""The parent's side of a worker: a fresh process that times the hot paths of one checkout."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE
from typing import IO, Any

from assay.errors import JobError
from assay.processes import how_it_ended

SCRIPT = Path(__file__).with_name("worker.py")
TIMEOUT_S = 600  # of one answer


class HotPathError(JobError):
    """A hot path raised; its process goes on."""


class WorkerDied(JobError):
    """The process of a worker ended, or gave no answer in time and was ended."""


@contextmanager
def worker(tree: Path) -> Iterator[Worker]:
    """A fresh process in the checkout `tree`, which ends with the context, or with this process."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    # -P: beside the script lie modules of this commit
    command = [sys.executable, "-P", str(SCRIPT)]
    with (
        tempfile.TemporaryFile() as stderr,
        subprocess.Popen(command, cwd=tree, env=environment, bufsize=0, stdin=PIPE, stdout=PIPE, stderr=stderr,
                         start_new_session=True) as it,
    ):  # fmt: skip
        try:
            yield Worker(it, stderr)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(it.pid, signal.SIGKILL)  # what its hot paths have started too


class Worker:
    """The way to talk to a worker's process."""

    def __init__(self, process: subprocess.Popen[bytes], stderr: IO[bytes]) -> None:
        self._process, self._stderr = process, stderr
        self.pid = process.pid

    def ask(self, command: str, *arguments: object) -> Any:
        """The value of one of the `assay.nights.worker.Commands`. Raises HotPathError or WorkerDied."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = b""
        try:
            self._process.stdin.write(json.dumps([command, *arguments]).encode() + b"\n")
            ready, _, _ = select.select([self._process.stdout], [], [], TIMEOUT_S)
            if not ready:
                self._process.kill()
                raise WorkerDied(f"gave no answer in {TIMEOUT_S} s and was ended")
            line = self._process.stdout.readline()
        except BrokenPipeError:
            pass
        if not line:
            raise WorkerDied(self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise HotPathError(answer["error"])
        return answer["value"]

    def _last_words(self) -> str:
        code = self._process.wait()
        how = f"ended {how_it_ended(code)}"
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip().splitlines()
        return f"its process was {how}" + (f": {said[-1]}" if said else "")


@contextmanager
def checkout_of(root: Path, commit: str) -> Iterator[Path]:
    """A folder with the files of a commit, and the data that `root` has fetched; gone afterwards.

    Not a git worktree: that would be known to the repository, and stay known if this process were killed.
    """
    done = subprocess.run(["git", "-C", str(root), "archive", "--format=tar", commit], capture_output=True)
    if done.returncode != 0:
        raise JobError(f"{commit}: its files cannot be read from the repository {root}: {done.stderr.decode().strip()}")
    with tempfile.TemporaryDirectory(prefix="assay-night-") as folder:
        tree = Path(folder).resolve()
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(tree, filter="data")
        if (root / "data").is_dir() and not (tree / "data").exists():
            (tree / "data").symlink_to((root / "data").resolve())
        yield tree

"""One job, run in a process of its own: what it is, what it leaves behind, and the process itself."""

from __future__ import annotations

import datetime
import hashlib
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import psutil

from assay.closure import found_in, hash_code
from assay.errors import DataError, JobError, RecordError
from assay.experiment import Experiment, Run, experiments_of, seed_everything
from assay.locks import locked, machine
from assay.network import network_reason
from assay.plain import printable
from assay.processes import how_it_ended, set_threads, supervise, supervising
from assay.project import data_sets
from assay.provenance import version_of
from assay.record import Artifact, Curve, JobRecord, Row, Status, seeds_text, write_atomically

STATE = ".assay"
RECORD_NOT_WRITTEN = 74  # EX_IOERR: tells the parent that there is no record, and why
_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


@dataclass(frozen=True)
class Code:
    """The files that a job runs.

    Attributes:
        places: where each lies in the project, or in what Assay is installed in.
        digest: of what they do.
        ground: digest of all that can change a number: what they do, what they import, and the machine.
    """

    places: tuple[Path, ...]
    digest: str
    ground: str


@dataclass(frozen=True)
class Job:
    """One experiment of a paper in one profile, on one data set, for one replicate or a batch of them."""

    root: Path
    paper: str
    experiment: str
    profile: str
    dataset: str | None
    seeds: tuple[int, ...]
    timed: bool
    timeout: float
    threads: int
    device: str
    gpus: int
    code: Code
    fingerprint: str
    claims: dict[str, str]
    origin: dict[str, Any]

    @property
    def seed(self) -> int:
        """The first replicate."""
        return self.seeds[0]

    @property
    def path(self) -> Path:
        return self.root / STATE / "jobs" / f"{self.fingerprint}.json"

    def at(self, root: Path) -> Job:
        """The same job in another copy of the project."""
        return replace(self, root=root)

    def __str__(self) -> str:
        return " ".join(filter(None, (self.paper, self.experiment, self.dataset, seeds_text(self.seeds))))


@dataclass(frozen=True)
class Outcome:
    """What a job left: its fate, its rows, and the hashes of the claims as they stood when it ran.

    The record is of the whole job, with the first seed of a batch; `records` has that of each replicate.
    """

    record: JobRecord
    rows: list[Row]
    curves: list[Curve]
    artifacts: list[Artifact]
    claims: dict[str, str]

    @property
    def finished(self) -> bool:
        return self.record.status == "done"

    def records(self, seeds: Sequence[int]) -> list[JobRecord]:
        """The record of each replicate; those of a batch share its time. What a batch left out alone is `missing`."""
        left = {row.seed for row in self.rows} if self.record.status == "missing" else set()
        share = replace(self.record, duration_s=round(self.record.duration_s / len(seeds), 3))
        whole = replace(share, status="done", reason=None)
        return [replace(whole if seed in left else share, seed=seed) for seed in seeds]


def load_outcome(job: Job) -> Outcome | None:
    """What the job's file says, or None. A damaged file counts as not run, and so does another job's under this name.

    The first line is the checksum of the rest, so that not one bit of it can have changed.
    """
    try:
        checksum, _, content = job.path.read_bytes().partition(b"\n")
        if checksum != _checksum(content):
            return None
        data = json.loads(content)
        found = Outcome(
            JobRecord(**data["record"]),
            [Row(**row) for row in data["rows"]],
            [Curve(**curve) for curve in data["curves"]],
            [Artifact(**artifact) for artifact in data["artifacts"]],
            data["claims"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.record.fingerprint == job.fingerprint else None


def save_outcome(job: Job, found: Outcome) -> None:
    content = json.dumps(asdict(found), allow_nan=False).encode() + b"\n"
    write_atomically(job.path, _checksum(content) + b"\n" + content)


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def work(job: Job) -> None:
    """Run one job, in a child of this process, and leave its file, whatever the experiment does to that child."""
    try:
        with supervising(), locked(job.path.with_suffix(".lock"), what=str(job)):
            found = load_outcome(job)
            if found is not None and found.finished:
                return
            try:
                with machine(alone=job.timed, what=str(job)):
                    start = time.monotonic()
                    code = supervise(_run_and_save, job, limit_s=job.timeout)
            except JobError as error:
                save_ending(job, found, "failed", str(error), 0.0)
                return
            if code == RECORD_NOT_WRITTEN:
                os._exit(code)
            if code != 0:
                status, reason = fate(job, code)
                save_ending(job, found, status, reason, time.monotonic() - start)
    except RecordError as error:
        _not_written(error)


def fate(job: Job, code: int | None) -> tuple[Status, str]:
    """What became of a job whose process ended without a word. code: its exit code, or None where time was up."""
    if code is None:
        return "timeout", f"ended after its time limit of {job.timeout:g} s"
    return "killed", f"its process ended {how_it_ended(code)}"


def save_ending(job: Job, before: Outcome | None, status: Status, reason: str, duration_s: float) -> JobRecord:
    """Record how a job ended that could not do so itself. What it has recorded since `before` stays as it is."""
    found = load_outcome(job)
    if found is not None and (found.finished or found != before):
        return found.record
    record = ended(job, status, duration_s, printable(reason))
    save_outcome(job, Outcome(record, [], [], [], job.claims))
    return record


def _run_and_save(job: Job) -> None:
    """The job's own process."""
    try:
        save_outcome(job, _run(job))
    except RecordError as error:
        _not_written(error)


def _not_written(error: RecordError) -> NoReturn:
    print(f"assay: {error}", file=sys.stderr, flush=True)
    os._exit(RECORD_NOT_WRITTEN)


def _run(job: Job) -> Outcome:
    start = time.perf_counter()
    cache, folder = job.root / STATE / "cache", job.root / "methods" / job.paper
    run = Run(job.experiment, job.profile, job.seed, job.dataset, job.device, job.timed, job.threads, cache,
              job.code.ground, folder, seeds=job.seeds)  # fmt: skip
    status: Status = "done"
    reason = trace = None
    try:
        experiment = _experiment(job)
        run.batched = experiment.batch > 1
        set_threads(job.threads)
        seed_everything(job.seed)
        reason = unmet(experiment)
        if reason is None:
            experiment.function(run, **experiment.parameters(job.profile))
            reason = _only_untested(run.rows)
        status = "untested" if reason else "done"
        if run.batched and not reason and (absent := sorted(set(job.seeds) - {row.seed for row in run.rows})):
            status, reason = "missing", f"its batch left no row of {seeds_text(absent)}"
    except DataError as error:
        status, reason = "untested", printable(f"data missing: {error}")
    except Exception as error:  # whatever an experiment raises is its finding, and stops no other job
        status, reason = "failed", printable(f"{type(error).__name__}: {error}")
        trace = printable(traceback.format_exc())
    record = ended(job, status, time.perf_counter() - start, reason, trace)
    return Outcome(record, run.rows, run.curves, run.artifacts, job.claims)


def ended(job: Job, status: Status, duration_s: float, reason: str | None, trace: str | None = None) -> JobRecord:
    """The record of a job that ends now, with what made it."""
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return JobRecord(job.experiment, job.dataset, job.seed, status, job.fingerprint, round(duration_s, 3), reason,
                     trace, date, job.origin)  # fmt: skip


def _experiment(job: Job) -> Experiment:
    """Import the experiment. Raises JobError where the code is no longer the code that was planned."""
    module = importlib.import_module(f"methods.{job.paper}.experiments")
    if hash_code(job.root, [found_in(job.root, place) for place in job.code.places]) != job.code.digest:
        raise JobError("the code was edited while the run was under way; run the same command again")
    planned = {name: version for name, version in job.origin["versions"].items() if name != "python"}
    if (found := {name: version_of(name) for name in planned}) != planned:
        changed = next(name for name in planned if found[name] != planned[name])
        raise JobError(f"{changed} is {found[changed]} here and was {planned[changed]} when the run was planned; "
                       "install the same version and run the same command again")  # fmt: skip
    return experiments_of(module)[job.experiment]


def _only_untested(rows: list[Row]) -> str | None:
    if rows and all(row.metric == "untested" for row in rows):
        return rows[0].reason
    return None


def unmet(experiment: Experiment) -> str | None:
    """The first requirement that this machine does not meet, in words, or None."""
    for need in experiment.requires:
        kind, _, amount = need.partition(":")
        check = {"gpu": _no_gpu, "ranks": _no_ranks, "network": _no_network, "data": _no_data,
                 "memory": _no_memory}.get(kind)  # fmt: skip
        if check is None:
            raise ValueError(f"experiment {experiment.name}: cannot require {need!r}")
        if reason := check(amount):
            return reason
    return None


def _no_gpu(amount: str) -> str | None:
    import torch

    if not torch.cuda.is_available():
        return "needs a CUDA GPU; this machine has none"
    wanted, there = int(amount or 1), torch.cuda.device_count()
    return None if wanted <= there else f"needs {wanted} CUDA GPUs; this machine has {there}"


def _no_ranks(amount: str) -> str | None:
    import torch.distributed

    if not torch.distributed.is_available():
        return f"needs {amount} ranks; this torch is built without torch.distributed"
    cores = psutil.cpu_count() or 1
    return None if int(amount) <= 8 * cores else f"needs {amount} ranks; this machine has {cores} cores"


def _no_network(_: str) -> str | None:
    return network_reason()


def _no_data(name: str) -> str | None:
    try:
        data_sets().fetch(name)
    except DataError as error:
        return f"data missing: {error}"
    return None


def _no_memory(amount: str) -> str | None:
    wanted = float(amount[:-3]) * _UNITS[amount[-3:]]
    total = psutil.virtual_memory().total
    return None if wanted <= total else f"needs {amount} of memory; this machine has {total / 2**30:.0f} GiB"

"""Jobs: planned, fingerprinted, run in processes of their own, resumed, collected.

A job is one experiment of a paper in one profile, on one data set, for one replicate or a batch of them; a result
has a record for each replicate. A finished job lives in
`.assay/jobs/<fingerprint>.json`, written atomically; running again runs only what is missing, so a killed run goes
on where it was, and two runs at once do no job twice.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from assay.card import Card, Profile
from assay.closure import code_of_paper, hash_code, keep, packages_of, place_of
from assay.errors import JobError, RecordError
from assay.experiment import Experiment, experiments_of
from assay.processes import END_S, fork_server
from assay.project import data_sets
from assay.provenance import Machine, origin, provenance_of
from assay.record import JobRecord, Result, missing_job, refuse_later_schema, result_path, save_result
from assay.worker import RECORD_NOT_WRITTEN, Code, Job, Outcome, fate, load_outcome, save_ending, work

# what takes longer to import than many a quick job takes to run; the first optimizer step imports torch._dynamo
PRELOAD = ["torch", "torch._dynamo", "torch_geometric", "numpy", "assay.experiment"]
LOOK_S = 1.0  # between two looks at the workers that run
Report = Callable[[Job, JobRecord], None]


@dataclass(frozen=True)
class Plan:
    """Every job of one paper in one profile."""

    card: Card
    profile: Profile
    experiments: dict[str, Experiment]
    jobs: list[Job]


def plan(
    root: Path, card: Card, profile: Profile, machine: Machine, changes: Mapping[str, dict[str, Any]] | None = None
) -> Plan:
    """Read the paper's experiments and lay out its jobs, some with other replicates or data sets (`changes`).

    Raises JobError where the machine cannot run the profile, RecordError where a newer Assay has measured it, and what
    the paper's code raises where it cannot be imported.
    """
    if profile == "gpu" and machine.gpu is None:
        raise JobError("profile gpu needs a CUDA GPU and this machine has none; use --profile standard or quick")
    refuse_later_schema(result_path(root, profile, card.slug))
    names = card.datasets.of(profile)
    files = code_of_paper(root, card.slug, [data_sets().module_of(name) for name in names])
    made_by = origin(root, machine, packages_of(root, files))
    digest = hash_code(root, files)
    keep(root)
    code = Code(tuple(place_of(root, file) for file in files), digest, _ground(digest, made_by))
    experiments = experiments_of(_imported(f"methods.{card.slug}.experiments"))
    chosen = {name: e for name, e in experiments.items() if profile in e.profiles}
    for name, values in (changes or {}).items():
        e = chosen[name]
        chosen[name] = replace(e, profiles={**e.profiles, profile: e.profiles[profile] | values})
    if not chosen:
        raise JobError(f"{card.slug} has no experiment for profile {profile}")
    jobs = [
        _job(root, card, e, profile, dataset, seeds, code, made_by)
        for e in chosen.values()
        for dataset in e.datasets(profile, names)
        for seeds in e.batches(profile)
    ]
    return Plan(card, profile, chosen, jobs)


def _imported(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except SystemExit as error:  # a script that ends where it is imported must not end the run of all papers
        raise ImportError(f"{module} ends Python when it is imported: SystemExit({error.code!r})") from error


def _ground(code: str, made_by: dict[str, Any]) -> str:
    """Digest of all that can change a number beside an experiment's own parameters.

    Not the commit: most of them change no number, and the digest of the code sees those that do.
    """
    versions = made_by["versions"] | {"python": ".".join(made_by["versions"]["python"].split(".")[:2])}
    return _digest([code, made_by["cpu"], made_by["gpu"], versions])


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _job(root: Path, card: Card, experiment: Experiment, profile: Profile, dataset: str | None,
         seeds: tuple[int, ...], code: Code, made_by: dict[str, Any]) -> Job:  # fmt: skip
    identity = {
        "ground": code.ground,
        "job": [card.slug, experiment.name, profile, dataset, *seeds],
        "parameters": experiment.parameters(profile),
        "threads": experiment.threads,
    }
    claims = {
        claim_id: claim.hash()
        for claim_id, claim in card.claims.items()
        if experiment.name in {test.experiment for test in claim.tests()}
    }
    return Job(root, card.slug, experiment.name, profile, dataset, seeds, experiment.timed, experiment.timeout,
               experiment.threads, "cuda" if made_by["gpu"] else "cpu", _gpus(experiment, made_by["gpu"]), code,
               _digest(identity), claims, made_by)  # fmt: skip


def _gpus(experiment: Experiment, gpu: str | None) -> int:
    """GPUs that a job has to itself on a cluster: those that its experiment requires, in profile gpu at least one."""
    required = [int(need.partition(":")[2] or 1) for need in experiment.requires if need.partition(":")[0] == "gpu"]
    return max([*required, 1 if gpu else 0])


def missing(plan: Plan) -> list[Job]:
    """Jobs without a finished outcome. A job that failed before is tried again."""
    return [job for job in plan.jobs if not ((found := load_outcome(job)) and found.finished)]


def run_jobs(jobs: list[Job], workers: int, report: Report = lambda job, record: None) -> None:
    """Run jobs in processes of their own, `workers` at a time; timed ones one by one, after the others.

    A job that fails, hangs or is killed is recorded as such and stops no other. Only when its record cannot be
    written (a full disk) does the run stop, with RecordError; finished jobs are kept.
    """
    waiting = deque(sorted(jobs, key=lambda job: job.timed))
    running: dict[int, tuple[Any, Job, float]] = {}
    with _ended_with_us(running):
        while waiting or running:
            while waiting and _may_start(waiting[0], running, workers):
                job = waiting.popleft()
                process = _context(job).Process(target=work, args=(job,), name=str(job))
                process.start()
                running[process.sentinel] = (process, job, time.monotonic())
            for sentinel in multiprocessing.connection.wait(list(running), timeout=LOOK_S):
                process, job, start = running.pop(int(sentinel))  # type: ignore[arg-type]
                process.join()
                report(job, _settle(job, process.exitcode, time.monotonic() - start))
            _wake([process for process, _, _ in running.values()])


def _wake(processes: Sequence[Any]) -> None:
    """A job that stops the process that watches over it would never end: its time limit would stand still too."""
    for process in processes:
        with suppress(psutil.Error, ProcessLookupError):
            if psutil.Process(process.pid).status() == psutil.STATUS_STOPPED:
                os.kill(process.pid, signal.SIGCONT)


def _may_start(job: Job, running: dict[int, tuple[Any, Job, float]], workers: int) -> bool:
    return not running if job.timed else len(running) < workers


def _context(job: Job) -> Any:
    """Timed: a fresh interpreter, for the process is the replicate. Else a fork of a server that has torch loaded."""
    server = fork_server(PRELOAD)
    return multiprocessing.get_context("spawn") if job.timed or job.device == "cuda" else server


@contextmanager
def _ended_with_us(running: dict[int, tuple[Any, Job, float]]) -> Iterator[None]:
    """Leave no worker behind, whatever ends this process short of SIGKILL (which workers notice themselves)."""
    try:
        yield
    finally:
        for process, _, _ in running.values():
            process.terminate()  # it ends what its job has started
        for process, _, _ in running.values():
            process.join(2 * END_S)
            process.kill()
            process.join()


def _settle(job: Job, exitcode: int, duration_s: float) -> JobRecord:
    """The job's record; written here where the worker could not."""
    found = load_outcome(job)
    if exitcode == 0 and found is not None:
        return found.record
    if exitcode == RECORD_NOT_WRITTEN:
        raise RecordError(
            f"{job}: its result could not be written to {job.path.parent} (see the message above); finished jobs are "
            "kept: make room and run the same command again"
        )
    return save_ending(job, found, *fate(job, exitcode), duration_s)


def collect(plan: Plan) -> Result:
    """Gather the outcomes of a plan into `results/<profile>/<slug>.json`. Jobs not run yet are there as `missing`."""
    root, names = plan.jobs[0].root, plan.card.datasets.of(plan.profile)
    outcomes = [load_outcome(job) for job in plan.jobs]
    found = [got for got in outcomes if got]
    result = Result(
        paper=plan.card.slug,
        profile=plan.profile,
        provenance=provenance_of([got.record for got in found], max(e.threads for e in plan.experiments.values())),
        parameters={
            name: e.profiles[plan.profile] | {"datasets": [d for d in e.datasets(plan.profile, names) if d]}
            for name, e in plan.experiments.items()
        },
        replicates={name: e.replicates(plan.profile) for name, e in plan.experiments.items()},
        claims=_claims_at_run(found),
        jobs=[record for job, got in zip(plan.jobs, outcomes, strict=True) for record in _records(job, got)],
        rows=[row for got in found for row in got.rows],
        curves=[curve for got in found for curve in got.curves],
        artifacts=[artifact for got in found for artifact in got.artifacts],
    )
    save_result(result, result_path(root, plan.profile, plan.card.slug))
    return result


def _records(job: Job, got: Outcome | None) -> list[JobRecord]:
    """A record for each replicate of a job."""
    if got is None:
        return [missing_job(job.experiment, job.dataset, seed, job.fingerprint) for seed in job.seeds]
    return got.records(job.seeds)


def _claims_at_run(found: list[Outcome]) -> dict[str, str]:
    """Hash of each claim when its jobs ran. Jobs that ran under different wordings give a hash that matches none."""
    hashes: dict[str, str] = {}
    for got in found:
        for claim_id, digest in got.claims.items():
            hashes[claim_id] = digest if hashes.get(claim_id, digest) == digest else "changed between jobs"
    return hashes

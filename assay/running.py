"""One paper is run: planned, what is missing of it executed here or on a cluster, and collected."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import typer

from assay import ROOT, problems
from assay.card import Card, Profile
from assay.closure import declared_experiments
from assay.errors import AssayError, CodeError, JobError
from assay.jobs import Report, collect, missing, plan, run_jobs
from assay.params import changes
from assay.provenance import Machine, gpu_model, provenance, this_machine
from assay.record import JobRecord, Result, result_path, save_result
from assay.terminal import err, out, progress, say
from assay.worker import Job

Execute = Callable[[list[Job], Report], None]


def run_paper(
    card: Card, profile: Profile, experiments: list[str], machine: Machine, execute: Execute, params: Path | None = None
) -> None:
    """Run what is missing of one paper, with what `params` changes. Raises AssayError where it cannot be planned."""
    slug = card.slug
    try:
        changed = {} if params is None else changes(ROOT, params, card, profile)
        planned = plan(ROOT, card, profile, machine, changed)
    except Exception as error:  # the paper's own code cannot be read or imported
        if isinstance(error, AssayError) and not isinstance(error, CodeError):
            raise
        store_failure(slug, profile, card.experiments(), error, machine)
        return
    for name, values in changed.items():
        said = ", ".join(f"{key} {value}" for key, value in values.items())
        say(err, f"{slug} {name}: {said}, by {params}; another than in experiments.py")
    problems.known(experiments, planned.experiments, f"experiment of {slug} in profile {profile}")
    todo = [job for job in missing(planned) if not experiments or job.experiment in experiments]
    with progress(f"{slug} {profile}", len(todo)) as report:
        try:
            execute(todo, report)
        except KeyboardInterrupt:
            err.print("assay: interrupted; finished jobs are kept, run the same command again to go on")
            raise typer.Exit(130) from None
        finally:
            result = collect(planned)
    failed = len({job.fingerprint for job in result.failures()})
    if failed:
        problems.failed(slug)
    say(out, f"{slug} {profile}: ran {len(todo)} of {len(planned.jobs)} jobs, {failed} failed")


def store_failure(
    slug: str, profile: Profile, experiments: list[str], error: Exception, machine: Machine | None = None
) -> None:
    """A result that says why nothing of a paper could run, so that a pipeline goes on and `assay check` shows it.

    Raises the error where this would replace a result that is committed; one of `quick` is made again from its jobs.
    """
    path = result_path(ROOT, profile, slug)
    if path.exists() and profile != "quick":
        raise error
    machine = machine or this_machine(None)
    reason, trace = problems.explain(error), "".join(traceback.format_exception(error))
    result = Result(
        paper=slug, profile=profile, parameters={}, replicates=dict.fromkeys(experiments, 1), claims={}, rows=[],
        provenance=provenance(ROOT, threads=1, gpu=machine.gpu, duration_s=0.0) | vars(machine),
        jobs=[JobRecord(name, None, 0, "failed", "", 0.0, reason, trace) for name in experiments],
    )  # fmt: skip
    save_result(result, path)
    problems.failed(slug)
    say(err, f"{slug} {profile}: {reason}")


def store_unread(card: Path, profile: Profile, error: Exception) -> None:
    """The same for a paper whose card cannot be read, where nothing that is committed would be replaced."""
    slug, file = card.parent.name, card.parent / "experiments.py"
    if profile != "quick" and result_path(ROOT, profile, slug).exists():
        return
    names: list[str] = []
    with suppress(OSError, JobError):
        names = list(declared_experiments(ROOT, file))
    store_failure(slug, profile, names or ["experiments"], error)


@contextmanager
def machine_and_executor(cluster: str | None, profile: Profile, limit: int | None) -> Iterator[tuple[Machine, Execute]]:
    """What the jobs of a run are planned for, and what runs them there: here, or on the nodes of a Ray cluster."""
    if cluster is None:
        workers = limit or (1 if profile == "gpu" else os.cpu_count() or 1)
        yield (
            this_machine(gpu_model() if profile == "gpu" else None),
            lambda jobs, report: run_jobs(jobs, workers, report),
        )
        return
    from assay.cluster import connected

    with connected(cluster, with_gpu=profile == "gpu") as nodes:
        for reason in nodes.left_out:
            say(err, f"assay: not used: node {reason}")
        yield nodes.machine, lambda jobs, report: nodes.run(jobs, limit, report)

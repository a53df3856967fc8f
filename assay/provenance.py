"""Where a result came from: commit, machine and versions, of each of its jobs."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from assay.record import JobRecord

# What can change a number. Results, pages and texts may differ from the commit without making it dirty.
JUDGED = ("assay", "methods", "datasets", "pyproject.toml")
VERSIONS = ("torch", "numpy", "scipy", "torch-geometric", "triton")


@dataclass(frozen=True)
class Machine:
    """What a run is measured on."""

    cpu: str
    cores: int | None
    memory_bytes: int
    gpu: str | None
    os: str
    versions: dict[str, str]


def this_machine(gpu: str | None) -> Machine:
    """The machine that this process is on, with the GPU that is measured on, if any."""
    return Machine(
        cpu_model(),
        psutil.cpu_count(),
        psutil.virtual_memory().total,
        gpu,
        f"{platform.system()} {platform.release()}",
        {"python": platform.python_version(), **_versions()},
    )


def provenance(root: Path, *, threads: int, gpu: str | None, duration_s: float) -> dict[str, Any]:
    """Everything a reader needs to judge or to repeat a run on this machine."""
    machine = this_machine(gpu)
    commit = git(root, "rev-parse", "HEAD")
    return {
        "commit": commit,
        "no_commit": None if commit else why_no_commit(root),
        "dirty": bool(git(root, "status", "--porcelain", "--", *JUDGED)) if commit else None,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "duration_s": round(duration_s, 1),
        "cpu": machine.cpu,
        "cores": machine.cores,
        "memory_bytes": machine.memory_bytes,
        "gpu": machine.gpu,
        "threads": threads,
        "os": machine.os,
        "versions": machine.versions,
    }


def origin(root: Path, machine: Machine, packages: Iterable[str]) -> dict[str, Any]:
    """What makes the rows of a job: commit, machine, and the versions of what its code imports. Kept with the job."""
    commit = git(root, "rev-parse", "HEAD")
    distributions = sorted({name for package in packages if (name := _distribution(package))})
    return {
        "commit": commit,
        "no_commit": None if commit else why_no_commit(root),
        "dirty": bool(git(root, "status", "--porcelain", "--", *JUDGED)) if commit else None,
        **vars(machine),
        "versions": {"python": machine.versions["python"], **{name: version_of(name) for name in distributions}},
    }


def version_of(distribution: str) -> str | None:
    """The version that is installed here, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _distribution(package: str) -> str | None:
    """The distribution that an import comes from: mostly of the same name, else the one that lists its files."""
    try:
        return str(importlib.metadata.distribution(package).metadata["Name"])
    except importlib.metadata.PackageNotFoundError:
        files = (f"\n{package}/__init__.", f"\n{package}.py,")
        return next((d.name for d in importlib.metadata.distributions()
                     if any(file in "\n" + (d.read_text("RECORD") or "") for file in files)), None)  # fmt: skip


def provenance_of(jobs: Sequence[JobRecord], threads: int) -> dict[str, Any]:
    """Where a result came from, as its jobs have recorded it. Where they differ, most of them, and `differs` says how.

    `differs` has, by name, each value and the number of jobs that have it.
    """
    recorded = [job for job in jobs if job.origin is not None]
    versions = [(job.origin or {}).get("versions", {}) for job in recorded]
    by_name: dict[str, list[Any]] = {
        name: [(job.origin or {}).get(name) for job in recorded]
        for name in ("commit", "no_commit", "dirty", "cpu", "cores", "memory_bytes", "gpu", "os")
    }
    by_version = {
        name: [found.get(name) for found in versions] for name in dict.fromkeys(n for v in versions for n in v)
    }
    every = by_name | by_version
    return {
        **{name: _most(values) for name, values in by_name.items()},
        "date": max((job.date for job in jobs if job.date), default=None),
        "duration_s": round(sum(job.duration_s for job in jobs), 1),
        "threads": threads,
        "versions": {name: _most(values) for name, values in by_version.items()},
        **({"differs": differs} if (differs := {n: _counted(v) for n, v in every.items() if len(set(v)) > 1}) else {}),
    }  # fmt: skip


def _most(values: Sequence[Any]) -> Any:
    return Counter(values).most_common(1)[0][0] if values else None


def _counted(values: Sequence[Any]) -> Mapping[str, int]:
    return dict(Counter("none" if value is None else str(value) for value in values).most_common())


def git(root: Path, *arguments: str) -> str | None:
    """Output of a git command, or None where it fails, as it does outside a repository."""
    done = _git(root, *arguments)
    return done.stdout.strip() if done is not None and done.returncode == 0 else None


def why_no_commit(root: Path) -> str:
    """Why git names no commit of these files, in words."""
    done = _git(root, "rev-parse", "--verify", "HEAD")
    if done is None:
        return "unknown: git is not installed"
    if "dubious ownership" in done.stderr:
        return ("unknown: git refuses this checkout, which belongs to another user; if you trust it: "
                f"git config --global --add safe.directory {root.resolve()}")  # fmt: skip
    if "not a git repository" in done.stderr:
        return "unknown: not a git checkout"
    return "unknown: no commit yet" if "single revision" in done.stderr else f"unknown: {done.stderr.strip()}"


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str] | None:
    environment = {**os.environ, "LC_ALL": "C"}  # its complaints are read
    command = ["git", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", env=environment)
    except OSError:
        return None


def cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def gpu_model() -> str | None:
    """Name of the first CUDA device, or None. Imports torch."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def _versions() -> dict[str, str]:
    return {name: version for name in VERSIONS if (version := version_of(name))}

"""Where a result came from: commit, machine and versions."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

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
    found = {}
    for name in VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found

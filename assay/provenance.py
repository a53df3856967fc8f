"""Where a result came from: commit, machine and versions."""

from __future__ import annotations

import datetime
import importlib.metadata
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
    return {
        "commit": git(root, "rev-parse", "HEAD"),
        "dirty": bool(git(root, "status", "--porcelain", "--", *JUDGED)) if git(root, "rev-parse", "HEAD") else None,
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
    """Output of a git command, or None outside a repository."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


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

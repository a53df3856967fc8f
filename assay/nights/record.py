"""A night: the hot paths of one commit, timed in fresh processes on one machine, in one file.

In each process every hot path runs once, in random order: it is set up, warmed up, counted, and called until a slice of
time is over; the process's number is the median of these calls. Canaries run among them. The exact counts must be the
same in every process, so they are of a call that has the same number of calls before it, whatever those took.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from assay.errors import AssayError, JobError, RecordError
from assay.hotpaths import names
from assay.locks import machine
from assay.nights.canaries import CANARIES
from assay.nights.process import HotPathError, Worker, WorkerDied, checkout_of, worker
from assay.problems import known
from assay.provenance import JUDGED, git, gpu_model, provenance, this_machine, why_no_commit
from assay.record import write_atomically
from assay.worker import STATE

SCHEMA = 1
FEWEST_CALLS, MOST_CALLS = 5, 10_000


@dataclass(frozen=True)
class Effort:
    """How much is measured. The error rates of the alarm were simulated for these values; tests use less.

    processes: of a night. slice_s: time given to one hot path in one process, s. replicates: couples of processes
    that confirm a suspect. pairs: of blocks, in each couple. only: hot paths or papers; all where there are none.
    """

    processes: int = 10
    slice_s: float = 0.25
    replicates: int = 20
    pairs: int = 30
    only: tuple[str, ...] = ()


FULL = Effort()
QUICK = Effort(processes=3, slice_s=0.1, replicates=6, pairs=10)
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Night:
    """times: seconds of each hot path, one per process; canaries: likewise. counts: exact numbers of each hot path.

    missing: hot paths without times or counts, with the reason.
    """

    provenance: dict[str, Any]
    times: dict[str, list[float]]
    canaries: dict[str, list[float]]
    counts: dict[str, dict[str, int]]
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def commit(self) -> str:
        return self.provenance["commit"]

    @property
    def full(self) -> bool:
        """Whether it has every hot path of its commit, measured as long as the alarm promises."""
        return "effort" not in self.provenance

    @property
    def processes(self) -> int:
        """Of the night: as many as most hot paths have times."""
        lengths = [len(times) for times in (self.times | self.canaries).values()]
        return statistics.mode(lengths) if lengths else 0

    @property
    def machine(self) -> tuple[str, str | None]:
        """Models of CPU and GPU. Times of different ones say nothing about code."""
        return self.provenance["cpu"], self.provenance["gpu"]


def save_night(night: Night, path: Path) -> None:
    """Write atomically, a hot path a line."""
    parts = [f' "schema": {SCHEMA}']
    for name, value in asdict(night).items():
        items = ",\n".join(f"  {json.dumps(key)}: {json.dumps(item, allow_nan=False)}" for key, item in value.items())
        parts.append(f' "{name}": {{\n{items}\n }}' if items else f' "{name}": {{}}')
    write_atomically(path, "{\n" + ",\n".join(parts) + "\n}\n")


def load_night(path: Path) -> Night:
    """Read a night's file. Raises RecordError where it is damaged or of another schema; odd times are `compare`'s."""
    again = "record it again with `assay night`"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or "provenance" not in data:
            raise RecordError(f"{path}: is not a night; {again}")
        if data.pop("schema", None) != SCHEMA:
            raise RecordError(f"{path}: is not a night of schema {SCHEMA}; {again}")
        night = TypeAdapter(Night).validate_json(json.dumps(data), strict=True)
        _Origin.model_validate(night.provenance)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise RecordError(f"{path}: cannot be read as a night: {place}: {first['msg']}; {again}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path}: cannot be read as a night: {error}; {again}") from error
    return night


class _Origin(BaseModel):
    """What a comparison needs of a night's provenance, which has more."""

    model_config = ConfigDict(strict=True)

    commit: str
    cpu: str
    gpu: str | None
    versions: dict[str, str]


def find_night(root: Path, text: str, effort: Effort = FULL, advance: Callable[[], None] = lambda: None,
               tell: Tell = lambda text: None) -> Night:  # fmt: skip
    """The night that a person means: a file, or a revision, which is measured unless this machine has a night of it.

    tell: is told what is done, where that takes time.
    """
    with suppress(OSError):  # a name that is too long for a file
        if Path(text).is_file():
            return load_night(Path(text))
    commit = git(root, "rev-parse", "--verify", "--quiet", f"{text}^{{commit}}")
    if not commit:
        if git(root, "rev-parse", "HEAD") is None:
            raise AssayError(f"{text}: no night's file, and the commit of {root} is {why_no_commit(root)}")
        raise AssayError(f"{text}: neither a night's file nor a revision of the repository {root}; "
                         "record one with `assay night --out FILE`, or name a commit, a branch or a tag")  # fmt: skip
    whole, path = night_path(root, commit), night_path(root, commit, effort)
    if whole.exists():
        return load_night(whole)
    if not path.exists():
        tell(f"{text}: no night of {commit[:10]} on this machine yet; {in_words(effort)}")
        save_night(record_night(root, commit, effort, advance), path)
    return load_night(path)


def chosen(found: Iterable[str], only: Iterable[str]) -> list[str]:
    """Those of the hot paths that are asked for, by name or by the paper's slug; all where nothing is.

    Raises AssayError for a name that means none of them.
    """
    names, wanted = list(found), list(only)
    slugs = sorted({name.partition(".")[0] for name in names})
    known(wanted, [*slugs, *names], "hot path")
    return [name for name in names if not wanted or name in wanted or name.partition(".")[0] in wanted]


def in_words(effort: Effort) -> str:
    """`timing its hot paths, each for 0.25 s in each of 10 processes`."""
    what = ", ".join(effort.only) or "its hot paths"
    return f"timing {what}, each for {effort.slice_s:g} s in each of {effort.processes} processes"


def head(root: Path) -> str:
    """The commit that is checked out. Raises JobError where the files differ from it: a night is of a commit."""
    commit = git(root, "rev-parse", "HEAD")
    if commit is None:
        raise JobError(f"{root}: a night is of a commit, and that is {why_no_commit(root)}")
    if changed := git(root, "status", "--porcelain", "--", *JUDGED):
        raise JobError(f"a night is of a commit, and these files differ from {commit[:10]}; commit them:\n{changed}")
    return commit


def night_path(root: Path, commit: str, effort: Effort = FULL) -> Path:
    """Where the night of a commit on this machine is kept: another CPU, GPU, version or effort is another night."""
    here = this_machine(gpu_model())
    less = [] if effort == FULL else [asdict(effort)]
    identity = json.dumps([here.cpu, here.gpu, here.versions, *less], sort_keys=True)
    return root / STATE / "nights" / f"{commit}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.json"


def record_night(root: Path, commit: str, effort: Effort = FULL, advance: Callable[[], None] = lambda: None) -> Night:
    """Measure the night of a commit. advance is called after each process.

    Raises AssayError where the commit has not the hot paths that are asked for, JobError where none can be timed.
    """
    start = time.perf_counter()
    found: list[_Process] = []
    broken: dict[str, str] = {}
    with checkout_of(root, commit) as tree:
        wanted = chosen(names(tree), effort.only)
        for index in range(effort.processes):
            with machine(alone=True, what=f"night {commit[:10]}, process {index + 1} of {effort.processes}"):
                found.append(_one_process(tree, wanted, index, effort, broken))
            advance()
    timed = sorted(name for name in found[0].times if name not in broken and name not in CANARIES)
    if not timed:
        reasons = "".join(f"\n{name}: {reason}" for name, reason in broken.items()) or "; it has none"
        raise JobError(f"{commit}: no hot path could be timed{reasons}")
    counts, uncounted = _counts(found, timed)
    less = {} if effort == FULL else {"effort": asdict(effort) | {"only": list(effort.only)}}
    where = provenance(root, threads=1, gpu=gpu_model(), duration_s=time.perf_counter() - start)
    return Night(
        provenance=where | {"commit": commit, "dirty": False} | less,
        times={name: [process.times[name] for process in found] for name in timed},
        canaries={name: [process.times[name] for process in found] for name in CANARIES},
        counts=counts,
        missing=broken | uncounted,
    )


@dataclass
class _Process:
    times: dict[str, float] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    uncounted: dict[str, str] = field(default_factory=dict)


def _one_process(tree: Path, wanted: list[str], index: int, effort: Effort, broken: dict[str, str]) -> _Process:
    """Everything once, in an order of the process's own; after a hot path that ends it, the rest runs in another.

    What fails is noted in `broken`, and is not tried again.
    """
    found = _Process()
    todo = [name for name in (*wanted, *CANARIES) if name not in broken]
    random.Random(index).shuffle(todo)
    while todo:
        with worker(tree) as process:
            alive = True
            while todo and alive:
                alive = _measure(process, todo.pop(), effort, found, broken)
    return found


def _measure(process: Worker, name: str, effort: Effort, found: _Process, broken: dict[str, str]) -> bool:
    """Whether the worker lives on."""
    try:
        about = process.ask("open", name)
        if name not in CANARIES:
            _count(process, name, found)
        calls = min(max(round(effort.slice_s / about), FEWEST_CALLS), MOST_CALLS)
        seconds = process.ask("time", name, calls)
        if not (math.isfinite(seconds) and seconds > 0):
            raise HotPathError(f"a call took {seconds:g} s by the clock, which says nothing")
        found.times[name] = seconds
        process.ask("close", name)
    except (HotPathError, WorkerDied) as error:
        if name in CANARIES:
            raise JobError(f"{name}: {error}; it runs no code of ours, so look at torch and the machine") from error
        broken[name] = str(error)
        return isinstance(error, HotPathError)
    return True


def _count(process: Worker, name: str, found: _Process) -> None:
    try:
        found.counts[name] = process.ask("counts", name)
    except HotPathError as error:
        found.uncounted[name] = f"not counted: {error}"


def _counts(found: list[_Process], timed: list[str]) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """The counts that every process found alike; of the others, why there are none."""
    counts: dict[str, dict[str, int]] = {}
    missing: dict[str, str] = {}
    for name in timed:
        reasons = [process.uncounted[name] for process in found if name in process.uncounted]
        seen = [process.counts[name] for process in found if name in process.counts]
        if reasons:
            missing[name] = reasons[0]
        elif any(count != seen[0] for count in seen):
            peaks = [count["peak_bytes"] for count in seen]
            missing[name] = f"counts differ between processes ({min(peaks):,} to {max(peaks):,} bytes); seed the set-up"
        else:
            counts[name] = seen[0]
    return counts, missing

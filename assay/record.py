"""The tidy table of measurements, and where it came from.

One file per paper and profile, `results/<profile>/<slug>.json`: rows, curves, small artifacts, the fate of every job,
and the provenance that a reader needs to trust or to repeat them. Files are written whole or not at all.
"""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from assay.errors import RecordError

SCHEMA = 2
READABLE = (1, 2)  # a job of schema 1 does not say what made it
EVIDENCE = ("measured", "counted", "simulated")
Scalar = bool | int | float | str
Status = Literal["done", "failed", "timeout", "killed", "untested", "missing"]


@dataclass(frozen=True)
class Row:
    """One measurement. `seed` is the index of the replicate; a missing value always has its reason."""

    experiment: str
    metric: str
    value: float | int | None
    method: str | None = None
    setting: dict[str, Scalar] = field(default_factory=dict)
    seed: int = 0
    rank: int | None = None
    repeat: int | None = None
    unit: str = ""
    evidence: str = "measured"
    reason: str | None = None


def finite_row(**fields: Any) -> Row:
    """A row whose value is finite or None: JSON never holds NaN."""
    value = fields["value"]
    if value is not None and not math.isfinite(value):
        fields |= {"value": None, "reason": f"not finite: {value}"}
    return Row(**fields)


@dataclass(frozen=True)
class Curve:
    """A metric along something that a run passes through, such as epochs. `x` and `y` have equal lengths."""

    experiment: str
    metric: str
    x_name: str
    x: list[float]
    y: list[float | None]
    method: str | None = None
    setting: dict[str, Scalar] = field(default_factory=dict)
    seed: int = 0
    unit: str = ""


@dataclass(frozen=True)
class Artifact:
    """Small arrays for a figure: a compressed `.npz`, base64."""

    experiment: str
    name: str
    npz_base64: str
    method: str | None = None
    setting: dict[str, Scalar] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class JobRecord:
    """What became of one job.

    Attributes:
        date: when it ended, UTC.
        origin: what made its rows: commit, dirty or not, machine, and the versions of what its code imports.
    """

    experiment: str
    dataset: str | None
    seed: int
    status: Status
    fingerprint: str
    duration_s: float
    reason: str | None = None
    traceback: str | None = None
    date: str | None = None
    origin: dict[str, Any] | None = None


def missing_job(experiment: str, dataset: str | None, seed: int, fingerprint: str = "") -> JobRecord:
    """A job that was planned and left no record."""
    return JobRecord(experiment, dataset, seed, "missing", fingerprint, 0.0, "not run yet, or not to its end")


def seeds_text(seeds: Sequence[int]) -> str:
    """`#3`, of several in a row `#0-19`, of others `#0,2,5`."""
    if len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"#{seeds[0]}-{seeds[-1]}"
    return "#" + ",".join(map(str, seeds))


def ended_alike(jobs: Iterable[JobRecord]) -> list[tuple[JobRecord, str]]:
    """One record of those in a row that ended alike, as a batch does, and the replicates: `#0-19`."""
    found = itertools.groupby(
        jobs, key=lambda job: (job.experiment, job.dataset, job.status, job.reason, job.traceback)
    )
    alike = [list(group) for _, group in found]
    return [(group[0], seeds_text([job.seed for job in group])) for group in alike]


@dataclass(frozen=True)
class Result:
    """All that one profile of one paper measured.

    Attributes:
        parameters, replicates: of each experiment, as planned; a planned job is a data set and a replicate of it.
        jobs: every planned job. One that left no record, as after an interrupted run, has the status `missing`.
    """

    paper: str
    profile: str
    provenance: dict[str, Any]
    parameters: dict[str, dict[str, Any]]
    replicates: dict[str, int]
    claims: dict[str, str]
    jobs: list[JobRecord]
    rows: list[Row]
    curves: list[Curve] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)

    def __post_init__(self) -> None:
        known = {(job.experiment, job.dataset, job.seed) for job in self.jobs}
        absent = [
            missing_job(experiment, dataset, seed)
            for experiment, replicates in self.replicates.items()
            for dataset in self._datasets(experiment)
            for seed in range(replicates)
            if (experiment, dataset, seed) not in known
        ]
        object.__setattr__(self, "jobs", [*self.jobs, *absent])

    def _datasets(self, experiment: str) -> list[str | None]:
        """Data sets that an experiment was planned on; a file of schema 1 names them only where they were chosen."""
        planned = self.parameters.get(experiment, {}).get("datasets")
        seen = dict.fromkeys(job.dataset for job in self.jobs if job.experiment == experiment)
        return planned or list(seen) or [None]

    def failures(self) -> list[JobRecord]:
        return [job for job in self.jobs if job.status in ("failed", "timeout", "killed")]


LISTS: dict[str, Any] = {"jobs": JobRecord, "rows": Row, "curves": Curve, "artifacts": Artifact}


def result_path(root: Path, profile: str, slug: str) -> Path:
    return root / "results" / profile / f"{slug}.json"


def save_result(result: Result, path: Path) -> None:
    """Write atomically, one row a line so that two results can be compared with `diff`.

    The repeats of a race stand in one line: `values[i]` is what `repeat` i measured. What made the jobs stands once, in
    `origins`; a job gives its place there. Raises RecordError rather than replace a result of a later schema.
    """
    refuse_later_schema(path)
    origins: list[dict[str, Any]] = []
    parts = [f' "schema": {SCHEMA}']
    for name, value in vars(result).items():
        if name in LISTS:
            found = [_without_defaults(item) for item in value]
            if name == "jobs":
                found = [_with_place(job, origins) for job in found]
                parts.append(_lines("origins", origins))
            parts.append(_lines(name, _folded(found) if name == "rows" else found))
        else:
            parts.append(f' "{name}": {_dumps(value)}')
    write_atomically(path, "{\n" + ",\n".join(parts) + "\n}\n")


def _lines(name: str, items: list[dict[str, Any]]) -> str:
    lines = ",\n".join("  " + _dumps(item) for item in items)
    return f' "{name}": [\n{lines}\n ]' if items else f' "{name}": []'


def _with_place(job: dict[str, Any], origins: list[dict[str, Any]]) -> dict[str, Any]:
    if "origin" not in job:
        return job
    if job["origin"] not in origins:
        origins.append(job["origin"])
    return job | {"origin": origins.index(job["origin"])}


def refuse_later_schema(path: Path) -> None:
    """Raise RecordError where a newer Assay wrote the file: an older one must not replace what it cannot read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("schema")
    except (OSError, ValueError, AttributeError, RecursionError):
        return  # no result at all: it may be replaced
    if isinstance(found, int) and found > SCHEMA:
        raise RecordError(_later(path, found))


def _later(path: Path, found: int) -> str:
    return (
        f"{path}: is of schema {found}, written by a newer Assay; this one knows schema {SCHEMA} and leaves it alone. "
        "Update this checkout, or move the file away"
    )


def load_result(path: Path) -> Result:
    """Read a result file. Raises RecordError, which names the field, where it is damaged or of another schema."""
    from assay.reading import result_of

    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text, parse_constant=_no_number)
        if "\\ud" in text or "\\uD" in text:  # half of a character can be written so, and not be printed
            _dumps(data).encode()
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path}: cannot be read as a result: {error}; delete it and run the paper again") from error
    schema = data.pop("schema", None) if isinstance(data, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise RecordError(_later(path, schema))
    if schema not in READABLE:
        raise RecordError(f"{path}: is not a result of schema {SCHEMA}; run the paper again")
    try:
        return result_of(data)
    except ValueError as error:
        raise RecordError(f"{path}: {error}; run the paper again") from error


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


def _folded(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that differ in nothing but `repeat` 0, 1, 2, ... and their value become one, at the place of the first."""
    lines: list[dict[str, Any]] = []
    races: dict[str, dict[str, Any]] = {}
    for row in rows:
        rest = {name: value for name, value in row.items() if name not in ("repeat", "value")}
        race = races.get(_dumps(rest), {"values": []})
        if row.get("repeat") != len(race["values"]) or row["value"] is None:
            lines.append(row)
            continue
        race["values"].append(row["value"])
        if len(race["values"]) == 1:
            races[_dumps(rest)] = rest | race
            lines.append(races[_dumps(rest)])
    return lines


def _without_defaults(item: Any) -> dict[str, Any]:
    optional: dict[str, Any] = {"method": None, "setting": {}, "seed": None, "rank": None, "repeat": None, "unit": "",
                "evidence": "measured", "reason": None, "traceback": None, "date": None, "origin": None}  # fmt: skip
    return {k: v for k, v in asdict(item).items() if k not in optional or v != optional[k]}


def _dumps(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False, sort_keys=False)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Temporary file in the same folder, fsync, rename: a reader sees the old file or the new one, never half."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o644)  # mkstemp keeps its files to their owner; results are for everyone
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise _cannot_write(path, error) from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _cannot_write(path: Path, error: OSError) -> RecordError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    why = "the disk is full" if full else str(error)
    return RecordError(
        f"{path}: cannot be written: {why}. What was there before is unchanged and finished jobs are kept; "
        "make room and run the same command again"
    )

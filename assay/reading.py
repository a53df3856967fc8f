"""The fields of a result's file, checked one by one while they are read, so that what is wrong is named."""

from __future__ import annotations

import math
import reprlib
from dataclasses import MISSING, fields
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from assay.record import EVIDENCE, LISTS, Artifact, Curve, JobRecord, Result, Row, Status


def result_of(data: dict[str, Any]) -> Result:
    """A result of what its file says. Raises ValueError, which names the field that it cannot be."""
    for name, kinds in _FORMS[Result][0].items():
        if not isinstance(data.get(name, [] if name in LISTS else None), kinds):
            raise ValueError(f"{name} is {reprlib.repr(data.get(name))}, not {kinds[0].__name__}")
    for experiment, n in data["replicates"].items():
        if type(n) is not int or not 1 <= n <= MOST_REPLICATES:
            raise ValueError(f"replicates.{experiment} is {reprlib.repr(n)}, no number of replicates")
    for experiment, parameters in data["parameters"].items():
        names = parameters.get("datasets", []) if isinstance(parameters, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"parameters.{experiment} is {reprlib.repr(parameters)}, no parameters of an experiment")
    for name, wanted in _OF_PROVENANCE.items():
        if type(found := data["provenance"].get(name)) not in wanted:
            raise ValueError(f"provenance.{name} is {reprlib.repr(found)}, not {wanted[0].__name__}")
        if type(found) in (int, float) and not _is_finite(found):
            raise ValueError(f"provenance.{name} is {reprlib.repr(found)}, which is not finite")
    origins = data.pop("origins", [])
    lists: dict[str, list[Any]] = {}
    for name, kind in LISTS.items():
        items = data.get(name, [])
        if name == "jobs":
            items = [_with_origin(job, origins, f"jobs[{index}]") for index, job in enumerate(items)]
        if name == "rows":
            items = [row for index, line in enumerate(items) for row in _unfolded(line, f"rows[{index}]")]
        lists[name] = items if name == "rows" else [_made(kind, item, f"{name}[{i}]") for i, item in enumerate(items)]
    for index, curve in enumerate(lists["curves"]):
        _check_curve(curve, f"curves[{index}]")
    for index, artifact in enumerate(lists["artifacts"]):
        _check_setting(artifact.setting, f"artifacts[{index}]")
    for index, job in enumerate(lists["jobs"]):
        if abs(job.seed) > MOST_REPLICATES or not _is_finite(job.duration_s):
            raise ValueError(f"jobs[{index}] has seed {job.seed!r:.40} and duration_s {job.duration_s!r:.40}")
    if unknown := data.keys() - _FORMS[Result][0].keys():
        raise ValueError(f"has an unknown field {min(unknown)!r}")
    return Result(**data | lists)


def _made(kind: Any, item: Any, where: str) -> Any:
    """One object of a file, its fields checked; what has the names and types of one before is not checked again."""
    known, defaults, required = _FORMS[kind]
    if not isinstance(item, dict):
        raise ValueError(f"{where} is {reprlib.repr(item)}, no object")
    form = (kind, *item, *map(type, item.values()))
    if form not in _SEEN:
        for name, value in item.items():
            if type(value) not in known.get(name, ()):
                wanted = " or ".join(one.__name__ for one in known[name]) if name in known else "a known field"
                raise ValueError(f"{where}.{name} is {reprlib.repr(value)}, not {wanted}".replace("NoneType", "null"))
        if absent := required - item.keys():
            raise ValueError(f"{where} has no {min(absent)}")
        _SEEN.add(form)
    made = object.__new__(kind)
    content = made.__dict__
    content.update(defaults)
    content.update(item)
    if "setting" in known:
        setting = content.setdefault("setting", {})
        if not _SCALARS.issuperset(map(type, setting.values())):
            raise ValueError(
                f"{where}.setting is {reprlib.repr(setting)}: its values are numbers, texts and truth values"
            )
    return made


def _unfolded(line: Any, where: str) -> list[Row]:
    """The rows of one line of a file."""
    values = line.get("values") if isinstance(line, dict) else None
    if values is None:
        rows = [_made(Row, line, where)]
    elif not isinstance(values, list) or not {int, float}.issuperset(map(type, values)):
        raise ValueError(f"{where}.values is {reprlib.repr(values)}, no list of numbers")
    else:
        rest = {name: value for name, value in line.items() if name != "values"}
        first = _made(Row, rest | {"value": None, "repeat": 0}, where)
        rows = [_with(first, value, repeat) for repeat, value in enumerate(values)]
    for row in rows:
        if row.value is not None and not _is_finite(row.value):
            raise ValueError(f"{where}.value is {reprlib.repr(row.value)}, which is not finite")
    if rows:
        _check_setting(rows[0].setting, where)
        if abs(rows[0].seed) > MOST_REPLICATES:
            raise ValueError(f"{where}.seed is {reprlib.repr(rows[0].seed)}, no replicate")
    if rows and rows[0].evidence not in EVIDENCE:
        raise ValueError(f"{where}.evidence is {reprlib.repr(rows[0].evidence)}, not {', '.join(EVIDENCE)}")
    return rows


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def _check_setting(setting: dict[str, Any], where: str) -> None:
    for knob, value in setting.items():
        if type(value) in (int, float) and not _is_finite(value):
            raise ValueError(f"{where}.setting.{knob} is {reprlib.repr(value)}, which is not finite")


def _check_curve(curve: Curve, where: str) -> None:
    """Numbers along x, and as many along y, some of which may be missing."""
    for name, values in (("x", curve.x), ("y", [y for y in curve.y if y is not None])):
        for value in values:
            if type(value) not in (int, float) or not _is_finite(value):
                raise ValueError(f"{where}.{name} holds {reprlib.repr(value)}, no finite number")
    if len(curve.x) != len(curve.y):
        raise ValueError(f"{where} has {len(curve.x)} x and {len(curve.y)} y")
    _check_setting(curve.setting, where)


def _with(row: Row, value: float, repeat: int) -> Row:
    """`dataclasses.replace`, but fast."""
    made = object.__new__(Row)
    made.__dict__.update(row.__dict__)
    made.__dict__.update(value=value, repeat=repeat)
    return made


def _with_origin(job: Any, origins: list[Any], where: str) -> Any:
    if not isinstance(job, dict):
        return job
    if job.get("status") not in get_args(Status):
        raise ValueError(f"{where}.status is {reprlib.repr(job.get('status'))}, not {', '.join(get_args(Status))}")
    if "origin" not in job:
        return job
    try:
        return job | {"origin": origins[job["origin"]]}
    except (TypeError, IndexError, KeyError):
        raise ValueError(f"{where}.origin is {reprlib.repr(job['origin'])}, no place in origins") from None


def _form(kind: Any) -> tuple[dict[str, tuple[type, ...]], dict[str, Any], set[str]]:
    """Of a dataclass: the types of its fields, the defaults of those that may be left out, the names of the others."""
    known = {name: _types(hint) for name, hint in get_type_hints(kind).items()}
    defaults = {f.name: f.default for f in fields(kind) if f.default is not MISSING}
    required = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    return known, defaults, required


def _types(hint: Any) -> tuple[type, ...]:
    if isinstance(hint, UnionType):
        return tuple(dict.fromkeys(kind for one in get_args(hint) for kind in _types(one)))
    kind = str if get_origin(hint) is Literal else get_origin(hint) or hint
    return (float, int) if kind is float else (kind,)


MOST_REPLICATES = 1_000_000
_SCALARS = frozenset({bool, int, float, str})
_SEEN: set[tuple[Any, ...]] = set()
_FORMS = {kind: _form(kind) for kind in (Row, Curve, Artifact, JobRecord, Result)}
_OF_PROVENANCE: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("commit", "date", "cpu", "gpu", "os"), (str, type(None))),
    **dict.fromkeys(("duration_s", "cores", "memory_bytes"), (int, float, type(None))),
    **dict.fromkeys(("versions", "differs"), (dict, type(None))),
    "dirty": (bool, type(None)),
}

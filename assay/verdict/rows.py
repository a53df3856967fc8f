"""From the tidy table to arrays: which rows a claim is about, and whether all of them are there."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.card import Test
from assay.expression import Atom
from assay.record import JobRecord, Result, Row, Scalar
from assay.verdict.regions import INCONCLUSIVE, UNTESTED
from assay.verdict.stats import VerdictError
from assay.verdict.units import common_unit

Cell = dict[str, Scalar]
Key = tuple[tuple[str, Scalar], ...]
FAILED = ("failed", "timeout", "killed")
# a job that ran and found no number; any other reason says that there was nothing to read
NOT_FINITE = "not finite"


class Undecided(Exception):
    """The verdict is known before any statistics: what is missing, and why."""

    def __init__(self, word: str, reason: str) -> None:
        self.word, self.reason = word, reason
        super().__init__(reason)


@dataclass
class Measured:
    """The measurements of one test as arrays `(replicate, cell, pair)`, one array per atom.

    `high` differs from `low` where a value is censored: it lies between the two. A failed run is NaN, and
    `failures` says why. A cell is one combination of the free knobs.
    """

    low: dict[str, np.ndarray]
    high: dict[str, np.ndarray]
    cells: list[Cell]
    failures: dict[int, str]
    unit: str
    evidence: str
    pairs: int


def measured(test: Test, result: Result) -> Measured:
    """Collect the rows of a test. Raises VerdictError where they are incomplete, Undecided where they cannot be."""
    return _Table(test, result).arrays()


def incomplete(test: Test, result: Result) -> str | None:
    """Which planned jobs that the test rests on left no record, and how to run them; None where there is none."""
    jobs = _jobs(test, result)
    absent = [job for job in jobs if job.status == "missing"]
    if not absent:
        return None
    lost, planned = (Counter(job.dataset for job in some) for some in (absent, jobs))
    counts = ", ".join(f"{n} of {planned[dataset]} on {dataset}" for dataset, n in lost.items() if dataset)
    where = f" ({counts})" if counts else ""
    return (
        f"incomplete: {len(absent)} of {len(jobs)} jobs of {test.experiment} left no record{where}; "
        f"`assay run {result.paper} --profile {result.profile}` runs what is missing"
    )


def _jobs(test: Test, result: Result) -> list[JobRecord]:
    """The experiment's planned jobs, on the data sets that the test is about."""
    jobs = [job for job in result.jobs if job.experiment == test.experiment]
    wanted = [{**test.where, **atom.knobs}.get("dataset") for atom in test.expression().atoms()]
    return jobs if None in wanted else [job for job in jobs if job.dataset is None or job.dataset in wanted]


def setting_of(row: Row) -> Cell:
    """The row's knobs; the rank of a process is one of them."""
    return row.setting if row.rank is None else {"rank": row.rank, **row.setting}


def same(a: Scalar, b: Scalar) -> bool:
    return _hashed(a) == _hashed(b)


def _hashed(value: Scalar) -> tuple[bool, Scalar]:
    """A key under which values are the same: `True` is not 1."""
    return isinstance(value, bool), value


def shown(cell: Mapping[str, Scalar] | Key) -> str:
    return ", ".join(f"{knob}={value}" for knob, value in dict(cell).items())


class _Table:
    def __init__(self, test: Test, result: Result) -> None:
        self.test, self.result = test, result
        self.experiment = str(test.experiment)
        self.atoms = test.expression().atoms()
        if not self.atoms:
            raise VerdictError(f"`{test.value or test.slope}` names no method")
        self.replicates = result.replicates.get(self.experiment)
        if self.replicates is None:
            raise Undecided(UNTESTED, f"experiment {self.experiment} does not run in profile {result.profile}")
        self.jobs = self._jobs()
        self.failed: dict[int, list[JobRecord]] = {}
        for job in self.jobs:
            if job.status in FAILED:
                self.failed.setdefault(job.seed, []).append(job)
        self.all_rows = [row for row in result.rows if row.experiment == self.experiment]
        self._check_that_it_ran()
        self.rows = {str(atom): self._rows_of(atom) for atom in self.atoms}

    def fixed(self, atom: Atom) -> Cell:
        return {**self.test.where, **atom.knobs}

    def _jobs(self) -> list[JobRecord]:
        chosen = _jobs(self.test, self.result)
        if not chosen and any(job.experiment == self.experiment for job in self.result.jobs):
            names = ", ".join(sorted({str(self.fixed(atom).get("dataset")) for atom in self.atoms}))
            raise Undecided(UNTESTED, f"profile {self.result.profile} does not run data set {names}")
        return chosen

    def _check_that_it_ran(self) -> None:
        for job in self.jobs:
            if job.status == "untested":
                raise Undecided(UNTESTED, job.reason or "the job could not run here")
        for row in self.all_rows:
            if row.metric == "untested" and any(self._compatible(row, atom) for atom in self.atoms):
                raise Undecided(UNTESTED, row.reason or "the setting could not run here")
        by_dataset: dict[str | None, list[JobRecord]] = {}
        for job in self.jobs:
            by_dataset.setdefault(job.dataset, []).append(job)
        for dataset, jobs in by_dataset.items():
            if all(job.status in FAILED for job in jobs):
                here = f" on {dataset}" if dataset else ""
                raise Undecided(
                    INCONCLUSIVE, f"{len(jobs)} of {self.replicates} replicates failed{here}: {_why(jobs[0])}"
                )
        recorded = {(dataset, row.seed) for row in self.all_rows for dataset in (row.setting.get("dataset"), None)}
        for job in self.jobs:
            if job.status == "done" and (job.dataset, job.seed) not in recorded:
                on = f" on {job.dataset}" if job.dataset else ""
                raise VerdictError(
                    f"experiment {self.experiment}: replicate {job.seed}{on} has no row, though its job is done: "
                    "a block must be complete"
                )
        late = sorted({row.seed for row in self.all_rows if not 0 <= row.seed < (self.replicates or 0)})
        if late:
            raise VerdictError(
                f"experiment {self.experiment} has rows of replicate {late[0]}, but profile {self.result.profile} "
                f"runs 0 to {(self.replicates or 0) - 1}: replicates are never added afterwards; run it again"
            )

    def _compatible(self, row: Row, atom: Atom) -> bool:
        fixed = self.fixed(atom)
        return all(same(fixed[knob], value) for knob, value in setting_of(row).items() if knob in fixed)

    def _rows_of(self, atom: Atom) -> list[Row]:
        """The rows that an atom means. A method without a knob of `where` stands for all of the knob's values."""
        metric = atom.metric or self.test.metric
        method = None if atom.name == "value" else atom.name
        of_metric = [row for row in self.all_rows if row.metric == metric]
        rows = [row for row in of_metric if row.method == method]
        if self.all_rows and not of_metric:
            known = ", ".join(sorted({row.metric for row in self.all_rows}))
            raise VerdictError(f"experiment {self.experiment} measures no `{metric}`; it measures {known}")
        if not rows:
            what = "no value" if method is None else f"`{method}`"
            raise Undecided(UNTESTED, f"profile {self.result.profile} does not measure {metric} of {what}")
        for knob, value in self.fixed(atom).items():
            rows = self._at(rows, knob, value, must_have=knob in atom.knobs)
        reasons = {row.reason for row in rows if row.value is None}
        if all(row.value is None for row in rows) and not any(str(r).startswith(NOT_FINITE) for r in reasons):
            raise Undecided(UNTESTED, f"no {metric} of {atom.name}: {rows[0].reason}")
        return rows

    def _at(self, rows: list[Row], knob: str, value: Scalar, *, must_have: bool) -> list[Row]:
        chosen = []
        for row in rows:
            setting = setting_of(row)
            if same(setting[knob], value) if knob in setting else not must_have:
                chosen.append(row)
        known = _values(knob, self.all_rows)
        if not known:
            knobs = ", ".join(sorted({k for row in self.all_rows for k in setting_of(row)})) or "none"
            raise VerdictError(f"experiment {self.experiment} has no knob `{knob}`; its knobs are {knobs}")
        if not chosen and not _values(knob, rows):
            raise VerdictError(f"{rows[0].method} has no knob `{knob}`: write it without `{knob}={value}`")
        if not chosen:
            runs = ", ".join(map(str, _values(knob, rows)))
            raise Undecided(
                UNTESTED, f"profile {self.result.profile} does not run {knob}={value} (it runs {knob}={runs})"
            )
        return chosen

    def free_knobs(self) -> list[str]:
        """Knobs that neither `where` nor an index fixes. Raises VerdictError where one has no rule."""
        slope_knob = self.test.slope_parts()[2] if self.test.slope else None
        ruled = {*self.test.over, slope_knob} - {None}
        values: dict[str, dict[tuple[bool, Scalar], Scalar]] = {}
        for atom in self.atoms:
            fixed = self.fixed(atom)
            for row in self.rows[str(atom)]:
                for knob, value in setting_of(row).items():
                    if knob not in fixed:
                        values.setdefault(knob, {}).setdefault(_hashed(value), value)
        for knob, seen in values.items():
            if len(seen) > 1 and knob not in ruled:
                listed = ", ".join(map(str, seen.values()))
                raise VerdictError(
                    f"knob `{knob}` is free (it takes {listed}): fix it under `where`, or give it a rule under `over`"
                )
        for knob in sorted(filter(None, ruled)):
            if knob not in values and knob not in self.test.where:
                raise VerdictError(
                    f"experiment {self.experiment}: no row of {', '.join(map(str, self.atoms))} has the knob `{knob}`"
                )
        return [knob for knob in values if knob in ruled]

    def arrays(self) -> Measured:
        free = self.free_knobs()
        tables = {str(atom): self._table(atom, free) for atom in self.atoms}
        cells = _joined([(t.knobs, t.cells) for t in tables.values()])
        self._check_cells(cells)
        raced = [t for t in tables.values() if t.repeats != [None]]
        repeats = raced[0].repeats if raced else [None]
        for table in raced:
            if table.repeats != repeats:
                raise VerdictError(
                    f"{raced[0].name} has {len(repeats)} pairs and {table.name} has {len(table.repeats)}: "
                    "times are compared pair by pair, so race both in one call"
                )
        failures: dict[int, str] = {}
        arrays = {name: self._array(table, cells, failures) for name, table in tables.items()}
        rows = [row for atom in self.atoms for row in self.rows[str(atom)]]
        return Measured(
            low={name: pair[0] for name, pair in arrays.items()},
            high={name: pair[1] for name, pair in arrays.items()},
            cells=cells,
            failures=failures,
            unit=common_unit(self.test.expression(), self.rows),
            evidence=_evidence(self.experiment, {row.evidence for row in rows} | {self.test.evidence} - {"measured"}),
            pairs=len(repeats),
        )

    def _check_cells(self, cells: list[Cell]) -> None:
        """A setting that is measured on one data set is measured on all of them: `all` and `mean` are about them."""
        settings: dict[Scalar | None, set[Key]] = {}
        for cell in cells:
            rest = tuple((knob, value) for knob, value in cell.items() if knob != "dataset")
            settings.setdefault(cell.get("dataset"), set()).add(rest)
        everywhere = set().union(*settings.values())
        for dataset, found in settings.items():
            if absent := everywhere - found:
                what = f"{self.test.metric} at {shown(sorted(absent, key=str)[0])}"
                raise VerdictError(f"{dataset} has no {what}, which other data sets have: a block must be complete")

    def _table(self, atom: Atom, free: list[str]) -> _AtomTable:
        rows = self.rows[str(atom)]
        fixed = self.fixed(atom)
        knobs = [k for k in free if k not in fixed and any(k in setting_of(row) for row in rows)]
        values: dict[tuple[int, Key], dict[int | None, Row]] = {}
        for row in rows:
            setting = setting_of(row)
            lacking = [knob for knob in knobs if knob not in setting]
            if lacking:
                raise VerdictError(f"some rows of {atom} have the knob `{lacking[0]}` and some have not")
            at = values.setdefault((row.seed, tuple((k, setting[k]) for k in knobs)), {})
            if row.repeat in at:
                where = shown(tuple((k, setting[k]) for k in knobs)) or "this setting"
                raise VerdictError(
                    f"two measurements of {row.metric} of {atom} at {where}, replicate {row.seed}: "
                    "record the knob in which they differ"
                )
            at[row.repeat] = row
        seen = {repeat for at in values.values() for repeat in at if repeat is not None}
        cells = list(dict.fromkeys(key for _, key in values))
        return _AtomTable(str(atom), knobs, cells, sorted(seen) if seen else [None], values)

    def _array(self, table: _AtomTable, cells: list[Cell], failures: dict[int, str]) -> tuple[np.ndarray, np.ndarray]:
        exact = self.test.replicate is not None and self.test.replicate.unit == "exact"
        shape = (int(self.replicates or 0), len(cells), len(table.repeats))
        low = np.full(shape, math.nan, dtype=object if exact else float)
        high = low.copy()
        for seed in range(shape[0]):
            for column, cell in enumerate(cells):
                found = table.values.get((seed, tuple((k, cell[k]) for k in table.knobs)), {})
                missing = next((row for row in found.values() if row.value is None), None)
                absent = [repeat for repeat in table.repeats if repeat not in found]
                if missing is not None or absent:
                    why = self._failure(table, seed, cell) if missing is None else str(missing.reason)
                    failures.setdefault(seed, why)
                    continue
                for index, repeat in enumerate(table.repeats):
                    low[seed, column, index], high[seed, column, index] = self._bounds(found[repeat])
        return low, high

    def _bounds(self, row: Row) -> tuple[Any, Any]:
        limit = self.test.censored_at
        if limit is None or row.metric != self.test.metric:
            return row.value, row.value
        if isinstance(limit, str):
            if limit not in row.setting:
                raise VerdictError(f"censored_at: no knob `{limit}` in the rows of {row.method}")
            limit = float(row.setting[limit])
        assert row.value is not None
        return (limit, math.inf) if row.value >= limit else (row.value, row.value)

    def _failure(self, table: _AtomTable, seed: int, cell: Cell) -> str:
        """Why a replicate has no measurement here: its job failed. Anything else is no verdict at all."""
        dataset = cell.get("dataset")
        for job in self.failed.get(seed, ()):
            if dataset is None or job.dataset in (None, dataset):
                return _why(job)
        where = shown({k: cell[k] for k in table.knobs}) or "any setting"
        raise VerdictError(
            f"experiment {self.experiment}: replicate {seed} has no {self.test.metric} of {table.name} at {where}, "
            "though its job is done: a block must be complete"
        )


@dataclass
class _AtomTable:
    """The rows of one atom by replicate and cell, and by pair."""

    name: str
    knobs: list[str]
    cells: list[Key]
    repeats: list[Any]
    values: dict[tuple[int, Key], dict[int | None, Row]]


def _why(job: JobRecord) -> str:
    return job.reason or job.status


def _values(knob: str, rows: Iterable[Row]) -> list[Scalar]:
    return list(dict.fromkeys(setting_of(row)[knob] for row in rows if knob in setting_of(row)))


def _evidence(experiment: str, kinds: set[str]) -> str:
    """The weakest of what the rows say."""
    known = ("simulated", "measured", "counted")
    if unknown := sorted(kinds - set(known)):
        raise VerdictError(
            f"experiment {experiment} has rows of evidence '{unknown[0]}'; it is one of {', '.join(known)}"
        )
    return next((kind for kind in known if kind in kinds), "measured")


def _joined(tables: list[tuple[list[str], list[Key]]]) -> list[Cell]:
    """All cells of a claim: the union where atoms have the same knobs, combined where they have different ones."""
    by_knobs: dict[tuple[str, ...], dict[Key, None]] = {}
    for knobs, cells in tables:
        by_knobs.setdefault(tuple(knobs), {}).update(dict.fromkeys(cells))
    joined: list[Cell] = [{}]
    for names, keys in by_knobs.items():
        shared = [knob for knob in names if joined and knob in joined[0]]  # every cell so far has the same knobs
        matching: dict[tuple[tuple[bool, Scalar], ...], list[Cell]] = {}
        for key in keys:
            other = dict(key)
            matching.setdefault(tuple(_hashed(other[knob]) for knob in shared), []).append(other)
        joined = [
            {**cell, **other}
            for cell in joined
            for other in matching.get(tuple(_hashed(cell[knob]) for knob in shared), ())
        ]
    for names, keys in by_knobs.items():
        covered = {tuple((knob, cell[knob]) for knob in names) for cell in joined}
        for key in keys:
            if key not in covered:
                raise VerdictError(f"only one side of the claim is measured at {shown(key)}: a block must be complete")
    return joined

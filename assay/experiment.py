"""What an experiment is, and what it is given: the recorder and its verbs.

An experiment is a plain function of the recorder `run` and the profile's parameters. The harness seeds, loops over
data sets and replicates, times out, resumes and stores; the experiment runs methods side by side and records.

    @experiment(quick=dict(replicates=3, depths=[2, 32]), standard=dict(replicates=10, depths=[2, 8, 32, 64]))
    def depth_sweep(run, depths):
        data = load(run.dataset)
        for depth in depths:
            for name, build in CONTENDERS.items():
                with run.method(name, depth=depth) as m:
                    m["accuracy"] = fit(build(depth), data)

Many small networks train as one tensor; a job then holds several replicates.

    @experiment(batch=20, quick=dict(replicates=3, widths=[8]), standard=dict(replicates=20, widths=[8, 64, 512]))
    def width_sweep(run, widths):
        for width in widths:
            with run.method("mlp", width=width) as m:
                networks = stack([MLP(width) for _ in run.each_seed()])   # drawn as they would be alone
                m["accuracy"] = fit(networks, data)                       # a value for each of run.seeds
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import io
import json
import random
import reprlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from assay.errors import JobError, RecordError
from assay.network import Network
from assay.plain import index, number, printable, scalar, text
from assay.record import EVIDENCE, Artifact, Curve, Row, Scalar, finite_row, write_atomically

ARTIFACT_LIMIT = 256 * 1024
RESERVED = ("replicates", "datasets")


@dataclass(frozen=True)
class Experiment:
    """A function with its parameters by profile and what it needs of a machine."""

    name: str
    function: Callable[..., None]
    profiles: dict[str, dict[str, Any]]
    requires: tuple[str, ...] = ()
    timed: bool = False
    timeout: float = 600.0
    threads: int = 1
    batch: int = 1

    def batches(self, profile: str) -> list[tuple[int, ...]]:
        """The replicates of each job: `batch` of them, and fewer in the last."""
        seeds = range(self.replicates(profile))
        return [tuple(seeds[first : first + self.batch]) for first in range(0, len(seeds), self.batch)]

    def replicates(self, profile: str) -> int:
        return int(self.profiles[profile].get("replicates", 1))

    def datasets(self, profile: str, of_card: Sequence[str]) -> list[str | None]:
        """Data sets that this experiment runs on; `[None]` where it needs none."""
        names: list[str | None] = list(self.profiles[profile].get("datasets", of_card))
        unknown = [name for name in names if name not in of_card]
        if unknown:
            raise JobError(
                f"experiment {self.name}, profile {profile}: data set {unknown[0]!r} is not on the card; "
                f"the card's are {', '.join(of_card) or 'none'}"
            )
        return names or [None]

    def parameters(self, profile: str) -> dict[str, Any]:
        return {name: value for name, value in self.profiles[profile].items() if name not in RESERVED}


def experiment(
    *,
    quick: dict[str, Any] | None = None,
    standard: dict[str, Any] | None = None,
    gpu: dict[str, Any] | None = None,
    requires: str | Sequence[str] = (),
    timed: bool = False,
    timeout: float = 600.0,
    threads: int = 1,
    batch: int = 1,
) -> Callable[[Callable[..., None]], Experiment]:
    """Declare an experiment. It runs in the profiles that are named.

    Args:
        quick, standard, gpu: the function's parameters in this profile, and two keys for the harness:
            `replicates` (default 1) and `datasets` (default: the card's for the profile; `[]` for none).
        requires: `"gpu"`, `"gpu:2"`, `"ranks:4"`, `"network"`, `"data:wiki"`, `"memory:64GiB"`, or several of
            them. Where one is not met the job reads `untested`, with the reason.
        timed: a fresh interpreter for each replicate, alone on the machine; only such an experiment may race.
        timeout: seconds after which a job is ended.
        threads: threads of one job.
        batch: replicates that one job holds, for networks that are trained together as one tensor. Their seeds are
            `run.seeds`; what is recorded is one number for each of them, or one for all. The row of a seed must not
            depend on the batch it is in, so each draws from a generator of its own. Not with `timed`.
    """
    if type(batch) is not int or batch < 1 or (timed and batch > 1):
        raise ValueError(f"batch is {batch!r}; it is a whole number of at least 1, and 1 where timed=True")
    profiles = {k: v for k, v in (("quick", quick), ("standard", standard), ("gpu", gpu)) if v is not None}

    def declare(function: Callable[..., None]) -> Experiment:
        accepted = set(inspect.signature(function).parameters)
        for profile, parameters in profiles.items():
            unknown = set(parameters) - accepted - set(RESERVED)
            if unknown:
                raise TypeError(f"{function.__name__}, profile {profile}: no parameter {sorted(unknown)[0]!r}")
            _check_parameters(f"{function.__name__}, profile {profile}", parameters)
        needs = (requires,) if isinstance(requires, str) else tuple(requires)
        return Experiment(function.__name__, function, profiles, needs, timed, timeout, threads, batch)

    return declare


def _check_parameters(what: str, parameters: dict[str, Any]) -> None:
    """They are part of a job's fingerprint and of the result, so a file must be able to hold them."""
    replicates, datasets = parameters.get("replicates", 1), parameters.get("datasets", [])
    if type(replicates) is not int or replicates < 1:
        raise ValueError(f"{what}: replicates is {replicates!r}; it is a whole number of at least 1")
    if not isinstance(datasets, list | tuple) or not all(isinstance(name, str) for name in datasets):
        raise TypeError(f"{what}: datasets is {datasets!r}; it is a list of names")
    for name, value in parameters.items():
        try:
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError) as error:
            raise TypeError(f"{what}: parameter {name!r} cannot be stored: {error}") from None


def experiments_of(module: ModuleType) -> dict[str, Experiment]:
    """The experiments that a module defines, in the order of the file."""
    return {value.name: value for value in vars(module).values() if isinstance(value, Experiment)}


def seed_everything(seed: int) -> None:
    """Seed `random`, numpy and torch, on every device."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class MethodRows:
    """Where the rows of one method in one setting go: `m["ap"] = 0.93`."""

    def __init__(self, run: Run, method: str | None, setting: Mapping[str, Scalar]) -> None:
        self._run = run
        self.method = None if method is None else text(method, f"{run.experiment}: name of a method")
        at = [f"{knob}={reprlib.repr(value)}" for knob, value in setting.items()]
        self._place = printable(", ".join(filter(None, (run.experiment, self.method, *at))))
        self.setting = {
            text(knob, f"{self._place}: name of a knob"): scalar(value, f"{self._place}: knob {knob!r}")
            for knob, value in setting.items()
        }

    def __setitem__(self, metric: str, value: float | Sequence[float]) -> None:
        self.record(metric, value)

    def record(self, metric: str, value: float | Sequence[float | None] | None, *, unit: str = "",
               evidence: str = "measured", reason: str | None = None, repeat: int | None = None,
               rank: int | None = None) -> None:  # fmt: skip
        """One row. A value that is not finite is stored as missing, with the reason; None needs a reason.

        In a job that holds a batch of replicates: a row for each, of as many values (a list, an array or a tensor), or
        of one value that is that of all.

        Raises RecordError for what a file cannot hold, with the place: a list as value, half of a character in a text.
        """
        metric = text(metric, f"{self._place}: name of a metric")
        what = f"{self._place}: metric {metric!r}"
        values = self._each(value, what)
        if reason is None and any(one is None for one in values):
            raise RecordError(f"{what} is None without a reason")
        if evidence not in EVIDENCE:
            raise RecordError(f"{what}, evidence is {evidence!r}; it is one of {', '.join(EVIDENCE)}")
        self._run.rows += [
            finite_row(experiment=self._run.experiment, metric=metric, method=self.method, setting=self.setting,
                       value=None if one is None else number(one, what), seed=seed,
                       rank=index(rank, f"{what}, rank"), repeat=index(repeat, f"{what}, repeat"),
                       unit=text(unit, f"{what}, unit"), evidence=evidence,
                       reason=None if reason is None else text(reason, f"{what}, reason"))
            for seed, one in zip(self._run.seeds, values, strict=True)
        ]  # fmt: skip

    def _each(self, value: Any, what: str) -> Sequence[Any]:
        """What each replicate of the job has of this value."""
        count = len(self._run.seeds)
        of_each = hasattr(value, "__len__") and getattr(value, "ndim", 1) > 0 and not isinstance(value, str)
        if not self._run.batched or not of_each:
            return [value] * count
        if len(value) != count:
            raise RecordError(f"{what} has {len(value)} values for the {count} replicates of this job")
        return list(value)

    def curve(self, metric: str, *, x: Sequence[float], y: Sequence[Any], x_name: str, unit: str = "") -> None:
        """A metric along the run, such as validation accuracy by epoch. `x` and `y` have equal lengths.

        A y that is not finite is stored as missing; x is finite. In a job that holds a batch of replicates each y is
        a number for each of them.
        """
        what = f"{self._place}: curve {metric!r}"
        if len(x) != len(y):
            raise RecordError(f"{what} has {len(x)} x and {len(y)} y")
        of_each = [self._each(value, f"{what}, y") for value in y]
        along = [float(scalar(number(value, f"{what}, x"), f"{what}, x")) for value in x]
        metric, x_name, unit = text(metric, what), text(x_name, f"{what}, x_name"), text(unit, f"{what}, unit")
        for place, seed in enumerate(self._run.seeds):
            mine = [float(number(values[place], f"{what}, y")) for values in of_each]
            points = [finite_row(experiment="", metric="", value=value).value for value in mine]
            self._run.curves.append(
                Curve(self._run.experiment, metric, x_name, along, points, self.method, self.setting, seed, unit)
            )


def _digest(content: bytes, identity: str) -> bytes:
    return hashlib.sha256(identity.encode() + b"\0" + content).digest()


def _intact(path: Path, identity: str) -> bytes | None:
    """What `cached` stored under this identity, or None where it is not there, or damaged in as little as a bit."""
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        return None
    digest, content = stored[:32], stored[32:]
    return content if digest == _digest(content, identity) else None


@dataclass
class Run:
    """The recorder that an experiment is given. One job: one experiment, data set, and replicate or batch of them.

    Attributes:
        seed: of the job's replicate; of the first one of a batch.
        seeds: of all of them, in the order of the values that are recorded.
        batched: whether the experiment is declared so; its last batch may hold one replicate only.
    """

    experiment: str
    profile: str
    seed: int
    dataset: str | None = None
    device_name: str = "cpu"
    timed: bool = False
    threads: int = 1
    cache: Path | None = None
    code: str = ""
    folder: Path | None = None
    rows: list[Row] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)
    seeds: tuple[int, ...] = ()
    batched: bool = False

    def __post_init__(self) -> None:
        self.batched = self.batched or len(self.seeds) > 1
        if len(self.seeds) < 2:  # also where `dataclasses.replace` has given another seed
            self.seeds = (self.seed,)

    def each_seed(self) -> Iterator[int]:
        """Every seed in turn, with everything seeded by it: what is drawn in the loop is drawn as it would be alone."""
        for seed in self.seeds:
            seed_everything(seed)
            yield seed

    @property
    def device(self) -> Any:
        """The `torch.device` that this profile measures on."""
        import torch

        return torch.device(self.device_name)

    @contextmanager
    def method(self, name: str, **setting: Scalar) -> Iterator[MethodRows]:
        """Rows for one method in one setting. Reseeds, so that the order of methods changes no result.

        The wall time is kept as the diagnostic `wall_s`, never as a claim's time: use `race` for that. Each of a batch
        of replicates has an equal share of it.
        """
        seed_everything(self.seed)
        rows = self._rows_of(name, setting)
        start = time.perf_counter()
        yield rows
        rows.record("wall_s", (time.perf_counter() - start) / len(self.seeds), unit="s")

    def value(self, metric: str, value: float | Sequence[float], unit: str = "", evidence: str = "counted",
              **setting: Scalar) -> None:  # fmt: skip
        """A number that belongs to no method: theory, counts, exponents. Of a batch one for each, or one for all."""
        self._rows_of(None, setting).record(metric, value, unit=unit, evidence=evidence)

    def untested(self, reason: str, **setting: Scalar) -> None:
        """Say why a setting cannot be tested here. Missing is missing, never estimated."""
        self._rows_of(None, setting).record("untested", None, reason=reason)

    def race(self, contenders: Mapping[str, Callable[[], object]], *, pairs: int = 30, warmup: int = 3,
             **setting: Scalar) -> None:  # fmt: skip
        """Time contenders against each other, interleaved; rows `time_s` and `energy_j`, `repeat` = pair.

        Args:
            contenders: name -> what to time. Names are written as on a card: `pres[batch_multiple=4]`.
            pairs: rounds; in each, every contender runs once, in an order that favours nobody.
            warmup: untimed calls of each contender before.

        Raises:
            JobError: in an experiment that is not declared `timed=True`.
        """
        from assay.expression import parse_atom
        from assay.measure.energy import EnergyMeter
        from assay.measure.time import race

        if not self.timed:
            raise JobError(f"experiment {self.experiment}: only @experiment(timed=True) may race")
        atoms = {name: parse_atom(name) for name in contenders}
        places = {name: self._rows_of(a.name, {**setting, **dict(a.index)}) for name, a in atoms.items()}
        device = self.device if self.device.type == "cuda" else None
        without_energy: dict[str, str] = {}
        for sample in race(dict(contenders), pairs=pairs, warmup=warmup, device=device, energy=EnergyMeter(device)):
            rows = places[sample.name]
            rows.record("time_s", sample.seconds, unit="s", repeat=sample.repeat)
            if sample.joules is not None:
                rows.record("energy_j", sample.joules, unit="J", repeat=sample.repeat)
            elif sample.joules_reason and sample.name not in without_energy:
                without_energy[sample.name] = sample.joules_reason
                rows.record("energy_j", None, unit="J", reason=sample.joules_reason)

    def memory(self, name: str, build_and_step: Callable[[], object], **setting: Scalar) -> None:
        """Peak bytes of a pass of its own: `build_and_step` builds the model and runs a step. Row `peak_bytes`.

        On a CPU the storages of live tensors, to the byte; on a GPU the allocator's peak.
        """
        from assay.measure.memory import live_tensor_peak

        self._refuse_a_batch("memory")
        seed_everything(self.seed)
        peak = live_tensor_peak(build_and_step, device=self.device)
        self._rows_of(name, setting).record("peak_bytes", peak.bytes, unit="B")

    def ranks(self, fn: Callable[..., list[dict[str, Any]]], world_size: int, *, timeout: float = 60.0,
              args: tuple[Any, ...] = (), network: Network | None = None, backend: str = "gloo") -> None:  # fmt: skip
        """Run `fn(rank, world_size, *args)` in real processes and merge the rows that every rank returns.

        Each returned row is a dict with `metric`, `value`, and optionally `method`, `unit`, `evidence`, `repeat` and
        knobs under `setting`; the rank is added here. network: the speed of the wire between ranks; an experiment
        that sets it requires "network". backend "nccl": a GPU per rank; such an experiment requires "gpu:N".
        """
        from assay.ranks import run_ranks

        self._refuse_a_batch("ranks")
        found = run_ranks(fn, world_size, args=args, timeout=timeout, threads=self.threads, network=network,
                          backend=backend)  # fmt: skip
        for rank, rows in enumerate(found):
            for row in rows:
                target = self._rows_of(row.get("method"), {"world_size": world_size, **row.get("setting", {})})
                target.record(row["metric"], row["value"], unit=row.get("unit", ""), rank=rank,
                              repeat=row.get("repeat"), evidence=row.get("evidence", "measured"),
                              reason=row.get("reason"))  # fmt: skip

    def tuned(self, method: str) -> dict[str, Any]:
        """Hyperparameters that `assay tune` found for a method of this paper."""
        from assay.tune import load_tuned

        if self.folder is None:
            raise JobError(f"experiment {self.experiment}: no folder of a paper to read tuned.json from")
        return load_tuned(self.folder, method)

    def cached(self, key: str, build: Callable[[], Any]) -> Any:
        """What `build` returns (tensors in dicts and lists), made once for this code, profile, data set and seed.

        For a teacher, parent or score network that experiments share. Never call it inside a timed block.
        """
        import torch

        from assay.locks import locked

        if self.cache is None:
            return build()
        identity = "|".join((self.code, self.profile, str(self.dataset), ",".join(map(str, self.seeds)), key))
        path = self.cache / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.pt"
        with locked(path.with_suffix(".lock")):
            content = _intact(path, identity)
            if content is None:
                seed_everything(self.seed)
                buffer = io.BytesIO()
                torch.save(build(), buffer)
                content = buffer.getvalue()
                write_atomically(path, _digest(content, identity) + content)
            # read back even when just built, so that a resumed run sees the very same object
            return torch.load(io.BytesIO(content), weights_only=True, map_location=self.device)

    def artifact(self, name: str, arrays: Mapping[str, Any], *, method: str | None = None, **setting: Scalar) -> None:
        """Keep small arrays for a figure, of a batch those of its first seed. Raises RecordError above 256 KiB."""
        import numpy as np

        place = self._rows_of(method, setting)
        found = {text(k, f"{self.experiment}: array of artifact {name!r}"): np.asarray(v) for k, v in arrays.items()}
        if objects := [k for k, v in found.items() if v.dtype.hasobject]:
            raise RecordError(f"{self.experiment}: artifact {name!r}: {objects[0]} is no array of numbers")
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **found)  # type: ignore[arg-type]
        size = buffer.tell()
        if size > ARTIFACT_LIMIT:
            raise RecordError(f"{self.experiment}: artifact {name!r} has {size:,} bytes; at most {ARTIFACT_LIMIT:,}")
        encoded = base64.b64encode(buffer.getvalue()).decode()
        name = text(name, f"{self.experiment}: name of an artifact")
        self.artifacts.append(Artifact(self.experiment, name, encoded, place.method, place.setting, self.seed))

    def _refuse_a_batch(self, verb: str) -> None:
        if self.batched:
            raise JobError(f"experiment {self.experiment}: run.{verb} measures one replicate, not a batch of them")

    def _rows_of(self, method: str | None, setting: Mapping[str, Scalar]) -> MethodRows:
        return MethodRows(self, method, setting if self.dataset is None else {"dataset": self.dataset, **setting})

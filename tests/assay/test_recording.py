"""What an experiment hands over is stored exactly or refused on the spot, with the place; what is stored is checked."""

from __future__ import annotations

import enum
import json
import math
import random
from collections.abc import Callable
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.errors import RecordError
from assay.experiment import Run, experiment
from assay.record import JobRecord, Row
from assay.worker import Code, Job, Outcome, load_outcome, save_outcome

HALF = "half \ud800"


class Mode(enum.IntEnum):
    FAST = 3


def recorder(**fields: Any) -> Run:
    return Run("sweep", "quick", 0, **fields)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (np.int64(2**60), 2**60),
        (np.float32(0.1), 0.10000000149011612),
        (np.float64(0.1), 0.1),
        (np.bool_(True), True),
        (np.str_("relu"), "relu"),
        (torch.tensor(3), 3),
        (torch.tensor(0.5, dtype=torch.bfloat16, requires_grad=True), 0.5),
        (Mode.FAST, 3),
        (True, True),
        ("ü", "ü"),
    ],
)
def test_a_scalar_becomes_the_plain_one_that_equals_it(given: Any, stored: Any) -> None:
    run = recorder()
    with run.method("good", depth=given):
        pass
    (row,) = run.rows
    assert (row.setting["depth"], type(row.setting["depth"])) == (stored, type(stored))
    assert json.loads(json.dumps(row.setting)) == {"depth": stored}


@pytest.mark.parametrize(
    "knob",
    [
        (1, 2),
        [1],
        None,
        math.inf,
        math.nan,
        np.nan,
        torch.ones(2),
        np.ones(3),
        HALF,
        1j,
        Fraction(1, 3),
        {1: 2},
        2**2000,
    ],
    ids=lambda value: ascii(value)[:12],
)
def test_a_knob_that_no_file_can_hold_is_refused_where_it_is_set(knob: Any) -> None:
    run = recorder(dataset="cora")
    with (
        pytest.raises(RecordError, match=r"sweep, good, dataset='cora', depth=2, width=.*: knob 'width' is "),
        run.method("good", depth=2, width=knob),
    ):
        raise AssertionError("its body ran")
    assert run.rows == []
    for verb in (
        lambda: run.value("m", 1.0, width=knob),
        lambda: run.untested("why", width=knob),
        lambda: run.artifact("a", {"x": [1]}, width=knob),
        lambda: run.memory("good", list, width=knob),
    ):
        with pytest.raises(RecordError, match="knob 'width' is "):
            verb()


REFUSED: dict[str, Callable[[Run, Any], None]] = {
    "a list as value": lambda run, m: m.record("loss", [1.0]),
    "a text as value": lambda run, m: m.record("loss", "1.0"),
    "a vector as value": lambda run, m: m.record("loss", torch.ones(2)),
    "a complex value": lambda run, m: m.record("loss", np.complex64(1j)),
    "a value beyond float": lambda run, m: m.record("loss", 10**400),
    "half a character in a unit": lambda run, m: m.record("loss", 1.0, unit=HALF),
    "a unit that is no text": lambda run, m: m.record("loss", 1.0, unit=3),
    "half a character in a reason": lambda run, m: m.record("loss", None, reason=HALF),
    "half a character in a metric": lambda run, m: m.record(HALF, 1.0),
    "a metric that is no text": lambda run, m: m.record(3, 1.0),
    "another word for evidence": lambda run, m: m.record("loss", 1.0, evidence="guessed"),
    "half a rank": lambda run, m: m.record("loss", 1.0, rank=0.5),
    "a repeat that is a truth value": lambda run, m: m.record("loss", 1.0, repeat=True),
    "None along a curve": lambda run, m: m.curve("loss", x=[1, None], y=[1, 2], x_name="epoch"),
    "an infinite x": lambda run, m: m.curve("loss", x=[1, math.inf], y=[1, 2], x_name="epoch"),
    "a text on a curve": lambda run, m: m.curve("loss", x=[1, 2], y=[1, "2"], x_name="epoch"),
    "half a character in x_name": lambda run, m: m.curve("loss", x=[1], y=[1], x_name=HALF),
    "half a character in an artifact's name": lambda run, m: run.artifact(HALF, {"x": [1]}),
    "half a character in an array's name": lambda run, m: run.artifact("a", {HALF: [1]}),
    "objects in an artifact": lambda run, m: run.artifact("a", {"x": [object()]}),
    "half a character in a method": lambda run, m: run.memory(HALF, list),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_file_can_hold_is_refused_with_its_place_and_leaves_nothing(name: str) -> None:
    run = recorder()
    with pytest.raises(RecordError, match="sweep") as refused, run.method("good", depth=2) as m:
        REFUSED[name](run, m)
    str(refused.value).encode()
    if "artifact" not in name and "array" not in name and "in a method" not in name:
        assert str(refused.value).startswith("sweep, good, depth=2: ")
    assert (run.rows, run.curves, run.artifacts) == ([], [], [])


def test_values_and_points_become_plain() -> None:
    run = recorder()
    with run.method("good") as m:
        m["count"] = np.int64(7)
        m["right"] = np.bool_(True)
        m["loss"] = torch.tensor(math.nan)
        m.record("rank", np.float32(1), rank=np.int64(2), repeat=torch.tensor(1))
        m.curve("loss", x=np.arange(2), y=torch.tensor([0.5, math.inf]), x_name="epoch")
    count, right, loss, ranked, _ = run.rows
    assert (count.value, type(count.value), right.value, type(right.value)) == (7, int, 1, int)
    assert (loss.value, loss.reason) == (None, "not finite: nan")
    assert (ranked.rank, ranked.repeat, type(ranked.rank)) == (2, 1, int)
    assert (run.curves[0].x, run.curves[0].y) == ([0.0, 1.0], [0.5, None])


@pytest.mark.parametrize("replicates", [0, -1, 1.0, 2.5, True, "3", None, math.nan])
def test_replicates_are_a_whole_number_of_at_least_1(replicates: Any) -> None:
    with pytest.raises(ValueError, match="toy, profile quick: replicates is "):

        @experiment(quick=dict(replicates=replicates))
        def toy(run: object) -> None: ...


@pytest.mark.parametrize("depths", [np.arange(3), {1, 2}, [math.inf], HALF])
def test_parameters_that_no_file_can_hold_are_refused_at_their_declaration(depths: Any) -> None:
    with pytest.raises(TypeError, match="toy, profile standard: parameter 'depths' cannot be stored"):

        @experiment(standard=dict(depths=depths))
        def toy(run: object, depths: object) -> None: ...


def test_data_sets_are_a_list_of_names() -> None:
    with pytest.raises(TypeError, match="datasets is 'cora'; it is a list of names"):

        @experiment(quick=dict(datasets="cora"))
        def toy(run: object) -> None: ...


def planned(root: Path, fingerprint: str = "f0", seed: int = 0) -> Job:
    return Job(root, "toy", "sweep", "quick", "cora", (seed,), timed=False, timeout=1.0, threads=1, device="cpu",
               gpus=0, code=Code((), "", ""), fingerprint=fingerprint, claims={"c": "h"}, origin={})  # fmt: skip


def outcome(job: Job) -> Outcome:
    record = JobRecord("sweep", "cora", job.seed, "done", job.fingerprint, 1.5)
    return Outcome(record, [Row("sweep", "score", 0.1 + i, "good", {"depth": i}) for i in range(5)], [], [], {"c": "h"})


def test_a_job_file_with_a_single_bit_flipped_counts_as_not_run(tmp_path: Path) -> None:
    job = planned(tmp_path)
    save_outcome(job, outcome(job))
    assert load_outcome(job) == outcome(job)
    content = job.path.read_bytes()
    draw = random.Random(0)
    accepted = []
    for bit in draw.sample(range(8 * len(content)), 300):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        job.path.write_bytes(damaged)
        if load_outcome(job) is not None:
            accepted.append(bit)
    assert accepted == []
    job.path.write_bytes(content)
    assert load_outcome(job) == outcome(job)


@pytest.mark.parametrize("keep", [0, 1, 64, 65, 200])
def test_a_job_file_that_ends_early_or_goes_on_counts_as_not_run(tmp_path: Path, keep: int) -> None:
    job = planned(tmp_path)
    save_outcome(job, outcome(job))
    content = job.path.read_bytes()
    for damaged in (content[:keep], content + b"\n", content.partition(b"\n")[2]):
        job.path.write_bytes(damaged)
        assert load_outcome(job) is None


def test_another_jobs_file_under_this_name_counts_as_not_run(tmp_path: Path) -> None:
    job, other = planned(tmp_path), planned(tmp_path, "f1", seed=1)
    save_outcome(other, outcome(other))
    other.path.rename(job.path)
    assert load_outcome(job) is None
    job.path.unlink()
    job.path.mkdir()
    assert load_outcome(job) is None


def test_what_is_cached_is_whole_or_built_again(tmp_path: Path) -> None:
    builds = []

    def build() -> dict[str, torch.Tensor]:
        builds.append(1)
        return {"w": torch.rand(50)}

    def run(**fields: Any) -> Run:
        return replace(recorder(cache=tmp_path, code="c"), **fields)

    first = run().cached("teacher", build)["w"]
    assert torch.equal(run().cached("teacher", build)["w"], first)
    assert len(builds) == 1
    (file,) = tmp_path.glob("*.pt")
    content = file.read_bytes()
    flipped = bytearray(content)
    flipped[content.find(first.numpy().tobytes()) + 3] ^= 1  # in the weights, where torch sees nothing
    for count, damaged in enumerate((b"", content[:40], content[:-1], bytes(flipped), content + b"x"), 2):
        file.write_bytes(damaged)
        assert torch.equal(run().cached("teacher", build)["w"], first)
        assert len(builds) == count
    assert file.read_bytes() == content
    other = run(code="d")
    other.cached("teacher", build)
    (second,) = set(tmp_path.glob("*.pt")) - {file}
    file.rename(second)  # another code's model, whole, under this name
    before = len(builds)
    other.cached("teacher", build)
    assert len(builds) == before + 1


def test_an_outcome_survives_its_file(tmp_path: Path) -> None:
    job = planned(tmp_path)
    record = replace(outcome(job).record, date="2026-01-01T00:00:00+00:00", origin={"cpu": "x", "versions": {"a": "1"}})
    save_outcome(job, replace(outcome(job), record=record))
    found = load_outcome(job)
    assert found is not None
    assert asdict(found.record) == asdict(record)

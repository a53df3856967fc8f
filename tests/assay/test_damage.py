"""A result that was damaged or edited by hand gives one error, which names its file, or is judged as what it says."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assay.errors import RecordError
from assay.record import Artifact, Curve, Result, load_result, save_result
from assay.verdict import VerdictError, judge
from tests.assay.claims import card_of, result_of, rows

Place = tuple[str | int, ...]
WRONG: list[Any] = [
    None, True, -1, 0, 1.5, 10**400, -(10**30), "x", "", "\ud800", "\x1b[31m", [], {}, [1], {"a": 1}, [None], [[]],
]  # fmt: skip
CARD = card_of(value="a - b", bar=">= 1", over={"s": "mean"})


@pytest.fixture(scope="module")
def whole() -> Result:
    """A small result with something in every field."""
    found = [row for s in (1, 2) for row in rows("a", [2.0, 2.1, 2.3], s=s) + rows("b", [0.5, 0.4, 0.6], s=s)]
    found += [
        row for repeat in range(2) for row in rows("a", [1.0, 1.1, 1.2], metric="time_s", repeat=repeat, unit="s")
    ]
    plain = result_of(found)
    return Result(
        **{
            **vars(plain), "parameters": {"e": {"sizes": [1, 2]}}, "claims": {"c": CARD.claims["c"].hash()},
            "provenance": {"commit": "c", "dirty": False, "gpu": None, "versions": {"torch": "2"}, "duration_s": 1.0},
            "curves": [Curve("e", "loss", "step", [1.0, 2.0], [0.5, None], "a", {"s": 1}, 0, "nats")],
            "artifacts": [Artifact("e", "points", "UEsFBgAA", "a", {"s": 1}, 0)],
        }
    )  # fmt: skip


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    if at:
        yield at
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*at, key))
    elif isinstance(value, list):
        for index in range(min(len(value), 2)):
            yield from places(value[index], (*at, index))


def with_change(data: Any, at: Place, change: Any) -> Any:
    """`data` with the value at a place replaced; taken away where the change is `...`."""
    data = copy.deepcopy(data)
    inner = data
    for key in at[:-1]:
        inner = inner[key]
    if change is ...:
        del inner[at[-1]]
    else:
        inner[at[-1]] = change
    return data


def survives(path: Path) -> bool:
    """Whether a file is read at all. Anything but a RecordError that names it, or a VerdictError, fails the test."""
    try:
        found = load_result(path)
    except RecordError as error:
        said = str(error)
        if said.startswith(f"{path}: ") and ("run the paper again" in said or "newer Assay" in said):
            return False
        raise
    if (found.paper, found.profile) == ("toy", "standard"):
        try:
            json.dumps(judge(CARD, "c", found, "standard").json(), allow_nan=False)
        except VerdictError as error:
            if not str(error).startswith("toy"):
                raise
    return True


def test_every_field_may_be_gone_or_another_thing(whole: Result, tmp_path: Path) -> None:
    path = tmp_path / "toy.json"
    save_result(whole, path)
    assert survives(path)
    data = json.loads(path.read_text())
    every = list(places(data))
    assert len(every) > 70
    refused, chance = 0, random.Random(0)
    for at in every:
        for change in (..., *chance.sample(WRONG, 5)):
            path.write_text(json.dumps(with_change(data, at, change)))
            refused += not survives(path)
    assert refused > 2 * len(every)


def test_a_flipped_or_a_lost_byte_is_no_traceback(whole: Result, tmp_path: Path) -> None:
    path, chance = tmp_path / "toy.json", random.Random(0)
    save_result(whole, path)
    content = path.read_bytes()
    for _ in range(300):
        flipped = bytearray(content)
        flipped[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        survives(path)
    for _ in range(60):
        path.write_bytes(content[: chance.randrange(len(content) - 2)])
        assert not survives(path)


@pytest.mark.parametrize(
    ("at", "change", "field"),
    [
        (("rows", 0, "value"), "x", "rows[0].value"),
        (("rows", 0, "value"), 10**400, "rows[0].value"),
        (("rows", 0, "setting"), {"s": [1]}, "rows[0].setting"),
        (("rows", 0, "setting"), {"s": 10**400}, "rows[0].setting.s"),
        (("rows", 0, "evidence"), "guessed", "rows[0].evidence"),
        (("rows", 0, "experiment"), ..., "rows[0] has no experiment"),
        (("replicates", "e"), 10**30, "replicates.e"),
        (("jobs", 0, "status"), "perhaps", "jobs[0].status"),
        (("jobs", 0, "seed"), 10**30, "jobs[0]"),
        (("curves", 0, "x"), [1, []], "curves[0].x"),
        (("curves", 0, "y"), [1.0], "curves[0] has 2 x and 1 y"),
        (("provenance", "dirty"), "perhaps", "provenance.dirty"),
        (("provenance", "duration_s"), 10**400, "provenance.duration_s"),
    ],
)
def test_what_is_wrong_is_named_by_its_field(whole: Result, tmp_path: Path, at: Place, change: Any, field: str) -> None:
    path = tmp_path / "toy.json"
    save_result(whole, path)
    path.write_text(json.dumps(with_change(json.loads(path.read_text()), at, change)))
    with pytest.raises(RecordError) as caught:
        load_result(path)
    assert str(caught.value).startswith(f"{path}: {field}")

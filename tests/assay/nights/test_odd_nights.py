"""Nights that are odd: each gets one clear sentence, and what is odd about one hot path silences no other."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.errors import AssayError, RecordError
from assay.nights.compare import Comparison, compare
from assay.nights.record import Effort, Night, load_night, save_night
from tests.checkout import Checkout

PROCESSES = 10
CANARIES = ("canary.matmul", "canary.memcpy", "canary.launch")


def night(seed: int, slower: dict[str, float] | None = None, commit: str = "a") -> Night:
    """Twelve hot paths of a calm night. slower: ratios by which some take longer."""
    rng = np.random.default_rng(seed)

    def times(name: str) -> list[float]:
        return list(map(float, (slower or {}).get(name, 1.0) * np.exp(rng.normal(-7, 0.01, PROCESSES))))

    return Night(
        provenance={"commit": commit, "cpu": "one", "gpu": None, "versions": {"torch": "2"}},
        times={name: times(name) for name in (f"toy.{letter}" for letter in "abcdefghijkl")},
        canaries={name: times(name) for name in CANARIES},
        counts={},
    )


OLD = night(0)
NEW = night(1, {"toy.b": 1.3})


def with_times(of: Night, name: str, change: Callable[[list[float]], list[float]]) -> Night:
    if name in CANARIES:
        return replace(of, canaries=of.canaries | {name: change(of.canaries[name])})
    return replace(of, times=of.times | {name: change(of.times[name])})


def compared(old: Night, new: Night) -> Comparison:
    return compare(Path("nowhere"), old, new)


@pytest.mark.parametrize("value", [math.nan, 0.0, math.inf, -math.inf, -1e-3])
@pytest.mark.parametrize("which", ["old", "new"])
def test_a_time_that_is_none_is_named_and_the_other_hot_paths_are_judged_as_ever(value: float, which: str) -> None:
    def bad(times: list[float]) -> list[float]:
        return [*times[:4], value, *times[5:]]

    old, new = (with_times(n, "toy.c", bad) if which == name else n for n, name in ((OLD, "old"), (NEW, "new")))
    found = compared(old, new)
    assert found.unusable == {"toy.c": f"{which} night: 1 of 10 times are no times, such as {value:g} s"}
    assert [line.name for line in found.flagged] == ["toy.b"]
    without = [replace(n, times={k: v for k, v in n.times.items() if k != "toy.c"}) for n in (OLD, NEW)]
    assert found.lines == compared(*without).lines
    assert found.everything == compared(*without).everything
    json.dumps(found.json(), allow_nan=False)


def test_a_hot_path_with_other_processes_than_the_night_is_named() -> None:
    found = compared(OLD, with_times(NEW, "toy.c", lambda times: times[:-1]))
    assert found.unusable == {"toy.c": "new night: 9 times, and 10 processes"}
    assert [line.name for line in found.flagged] == ["toy.b"]


def test_a_canary_without_a_time_is_left_out_and_without_any_the_rest_is_judged() -> None:
    def nothing(times: list[float]) -> list[float]:
        return [math.nan] * len(times)

    one = compared(OLD, with_times(NEW, "canary.launch", nothing))
    assert list(one.unusable) == ["canary.launch"]
    assert one.everything is not None
    assert [line.name for line in one.flagged] == ["toy.b"]
    new = NEW
    for name in CANARIES:
        new = with_times(new, name, nothing)
    none = compared(OLD, new)
    assert none.everything is None
    assert [line.name for line in none.flagged] == ["toy.b"]
    assert [line.name for line in compared(replace(OLD, canaries={}), NEW).flagged] == ["toy.b"]


@pytest.mark.parametrize(("odd", "sentence"), [
    (replace(NEW, times={}, canaries={}), "the new night has 0 process(es)"),
    (replace(NEW, times={}), "0 usable hot paths in common"),
    (replace(NEW, times={k: NEW.times[k] for k in ("toy.a", "toy.b")}), "2 usable hot paths in common"),
    (replace(NEW, times={k: v[:1] for k, v in NEW.times.items()}, canaries={}), "the new night has 1 process(es)"),
    (replace(NEW, provenance=NEW.provenance | {"cpu": "another"}), "different machines (one; another)"),
    (replace(NEW, provenance=NEW.provenance | {"gpu": "H200"}), "different machines (one; one and H200)"),
    (replace(NEW, times={f"other.{name}": v for name, v in NEW.times.items()}), "0 usable hot paths in common"),
])  # fmt: skip
def test_nights_whose_times_say_nothing_say_why(odd: Night, sentence: str) -> None:
    found = compared(OLD, odd)
    assert sentence in (found.untimed or "")
    assert (found.lines, found.everything) == ([], None)


def test_only_what_is_asked_for_is_judged_as_among_all() -> None:
    new = with_times(NEW, "toy.c", lambda times: [math.nan, *times[1:]])
    old, new = (replace(n, counts={"toy.a": {"peak_bytes": b}}) for n, b in ((OLD, 8), (new, 9)))
    whole, found = compared(old, new), compare(Path("nowhere"), old, new, Effort(only=("toy.b", "toy.d")))
    assert [line.name for line in found.lines] == ["toy.b", "toy.d"]
    assert [line for line in whole.lines if line.name in ("toy.b", "toy.d")] == found.lines
    assert (found.counts, found.unusable, found.everything) == ([], {}, None)
    assert (len(whole.counts), list(whole.unusable)) == (1, ["toy.c"])
    assert len(compare(Path("nowhere"), old, new, Effort(only=("toy",))).lines) == 11
    with pytest.raises(AssayError, match=r"no hot path 'toy\.z'; did you mean toy\."):
        compare(Path("nowhere"), old, new, Effort(only=("toy.z",)))


def test_a_few_hot_paths_that_are_asked_for_are_screened_beside_the_canaries() -> None:
    few = [replace(n, times={name: n.times[name] for name in ("toy.a", "toy.b")}) for n in (OLD, NEW)]
    found = compare(Path("nowhere"), *few, Effort(only=("toy.a", "toy.b")))
    assert found.untimed is None
    assert [line.name for line in found.lines] == ["toy.b", "toy.a"]
    assert [line.name for line in found.flagged] == ["toy.b"]
    assert "2 usable hot paths in common" in (compared(*few).untimed or "")


def test_what_only_one_night_has_is_named_and_the_slowest_is_first() -> None:
    fewer = [replace(n, times={k: v for k, v in n.times.items() if k != gone}) for n, gone in
             ((OLD, "toy.d"), (NEW, "toy.e"))]  # fmt: skip
    found = compared(*fewer)
    assert found.missing == {"toy.d": "only in the new night", "toy.e": "only in the old night"}
    assert found.lines[0].name == "toy.b"
    assert [line.change for line in found.lines] == sorted((line.change for line in found.lines), reverse=True)


def test_a_count_that_shrank_is_named_and_none_that_grew() -> None:
    old, new = (replace(n, counts={"toy.a": {"peak_bytes": count}}) for n, count in ((OLD, 8), (NEW, 4)))
    found = compared(old, new)
    assert (found.counts, found.grown) == ([("toy.a", "peak_bytes", 8, 4)], [])
    assert compared(new, old).grown == [("toy.a", "peak_bytes", 4, 8)]


def test_a_count_of_a_hot_path_without_times_is_compared() -> None:
    old, new = (replace(n, times={}, counts={"toy.a": {"peak_bytes": b}}) for n, b in ((OLD, 8), (NEW, 9)))
    assert compared(old, new).regression is False  # of one commit
    assert compared(old, replace(new, provenance=new.provenance | {"commit": "b"})).regression


def test_nights_of_different_lengths_are_compared() -> None:
    shorter = replace(NEW, times={k: v[:6] for k, v in NEW.times.items()},
                      canaries={k: v[:6] for k, v in NEW.canaries.items()})  # fmt: skip
    found = compared(OLD, shorter)
    assert found.unusable == {}
    assert [line.name for line in found.flagged] == ["toy.b"]


def damaged(change: Callable[[dict[str, Any]], object]) -> str:
    data = {"schema": 1, **asdict(OLD)}
    change(data)
    return json.dumps(data)


DAMAGE = {
    "empty": "",
    "cut": damaged(lambda data: None)[:300],
    "a number": "1",
    "a list": "[]",
    "not json": "times: 3",
    "deep": "[" * 100_000,
    "another schema": damaged(lambda data: data.update(schema=2)),
    "no schema": damaged(lambda data: data.pop("schema")),
    "no times": damaged(lambda data: data.pop("times")),
    "no commit": damaged(lambda data: data["provenance"].pop("commit")),
    "a commit that is none": damaged(lambda data: data["provenance"].update(commit=None)),
    "versions that are none": damaged(lambda data: data["provenance"].update(versions=["torch"])),
    "times as text": damaged(lambda data: data["times"].update({"toy.a": ["0.1"] * 10})),
    "one time": damaged(lambda data: data["times"].update({"toy.a": 0.1})),
    "counts as text": damaged(lambda data: data["counts"].update({"toy.a": {"peak_bytes": "many"}})),
}


@pytest.mark.parametrize("text", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_is_named_in_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "night.json"
    path.write_text(text)
    with pytest.raises(RecordError) as caught:
        load_night(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "record it again with `assay night`" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_says_which_hot_path_has_no_time_and_fails(checkout: Checkout) -> None:
    old, new = (checkout.root / name for name in ("old.json", "new.json"))
    save_night(OLD, old)
    save_night(NEW, new)
    text = new.read_text()
    new.write_text(text.replace(json.dumps(NEW.times["toy.c"]), "[" + ", ".join(["NaN"] * PROCESSES) + "]"))
    done = checkout.assay("compare", str(old), str(new))
    assert done.returncode == 2, done.stderr
    assert "NO TIME  toy.c  new night: 10 of 10 times are no times, such as nan s; not judged" in done.stdout
    assert "toy.b" in done.stdout
    told = json.loads(checkout.assay("compare", str(old), str(new), "--json").stdout)
    assert list(told["unusable"]) == ["toy.c"]

    new.write_text(text[:500])
    cut = checkout.assay("compare", str(old), str(new))
    assert cut.returncode == 2
    assert cut.stderr.startswith(f"assay: {new}: cannot be read as a night: ")
    assert "Traceback" not in cut.stderr

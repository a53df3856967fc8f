"""The history of hot paths: changes of level are found at their night, and what all hot paths share is no change."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from assay.cli import app
from assay.errors import AssayError, JobError
from assay.nights.history import FEWEST_NIGHTS, History, changes_of, histories, read_nights
from assay.nights.record import Night, save_night
from assay.nights.show import print_histories, time_text

pytest.importorskip("ruptures", reason="ruptures is in the extra `nights`")
PROCESSES, HOT_PATHS = 10, 20
SHARED, OWN = 0.10, 0.03  # log seconds: of a night and of a process, which all hot paths share; of one hot path's time


def recorded(count: int, slower: dict[int, float] | None = None, at: int = 0, seed: int = 0) -> list[Night]:
    """Nights of a real machine's noise. slower: hot path -> log ratio from night `at` on."""
    rng = np.random.default_rng(seed)
    found = []
    for night in range(count):
        shared = rng.normal(0, SHARED) + rng.normal(0, SHARED, (PROCESSES, 1))
        logs = -7 + np.arange(HOT_PATHS) / 10 + shared + OWN * rng.standard_t(5, (PROCESSES, HOT_PATHS))
        for name, ratio in (slower or {}).items():
            logs[:, name] += ratio * (night >= at)
        date = f"2026-{1 + night // 28:02}-{1 + night % 28:02}T02:00:00+00:00"
        provenance = {"commit": f"{night:040}", "cpu": "one", "gpu": None, "versions": {}, "date": date}
        times = {f"toy.h{name:02}": np.exp(logs[:, name]).tolist() for name in range(HOT_PATHS)}
        found.append(Night(provenance, times, {}, {}))
    return found


def changed(found: list[History]) -> dict[str, list[tuple[str, int]]]:
    """Hot path -> (date, change in percent) of each change."""
    return {h.name: [(c.date, round(100 * math.expm1(c.change))) for c in h.changes] for h in found if h.changes}


def test_a_change_is_found_at_its_night_and_named_with_its_commit() -> None:
    found = histories(recorded(30, {3: math.log(1.1), 7: -math.log(1.2)}, at=18))
    (slower, faster) = (next(h for h in found if h.name == name) for name in ("toy.h03", "toy.h07"))
    assert changed(found).keys() == {"toy.h03", "toy.h07"}
    assert [(c.date, c.commit, c.before) for c in slower.changes] == [("2026-01-19", f"{18:040}", f"{17:040}")]
    assert slower.changes[0].change == pytest.approx(math.log(1.1), abs=0.03)
    assert faster.changes[0].change == pytest.approx(-math.log(1.2), abs=0.03)
    assert [p.commit for p in slower.points] == [f"{night:040}" for night in range(30)]


@pytest.mark.parametrize(("count", "runs"), [(FEWEST_NIGHTS, 20), (10, 20), (30, 10), (60, 3)])
def test_what_does_not_change_is_seldom_said_to(count: int, runs: int) -> None:
    """Of 20 hot paths over some nights; a change is no alarm, so one or two in a hundred are borne."""
    found = [changed(histories(recorded(count, seed=seed))) for seed in range(runs)]
    assert sum(map(len, found)) <= 0.02 * runs * HOT_PATHS


def test_centred_times_show_what_raw_ones_hide() -> None:
    raw = centred = 0
    for seed in range(10):
        nights = recorded(30, {0: math.log(1.1)}, at=15, seed=seed)
        (own,) = (h for h in histories(nights) if h.name == "toy.h00")
        centred += any(abs(int(c.commit) - 15) <= 1 for c in own.changes)
        levels = np.array([np.log(night.times["toy.h00"]).mean() for night in nights])
        spread = float(np.median(np.abs(np.diff(levels))) / 0.6745 / math.sqrt(2))
        raw += any(abs(first - 15) <= 1 for first, _ in changes_of(levels, spread))
    assert centred >= 9
    assert raw <= centred / 3


def test_less_than_three_percent_and_one_odd_night_are_no_changes() -> None:
    rng = np.random.default_rng(0)
    levels = rng.normal(0, 0.002, 30)
    assert changes_of(levels + 0.02 * (np.arange(30) >= 15), 0.002) == []
    odd = levels.copy()
    odd[12] += 0.2
    assert changes_of(odd, 0.002) == []
    ((first, change),) = changes_of(levels + 0.05 * (np.arange(30) >= 15), 0.002)
    assert (first, round(change, 2)) == (15, 0.05)


def test_too_few_nights_have_points_and_no_changes() -> None:
    found = histories(recorded(FEWEST_NIGHTS - 1, {0: 1.0}, at=2))
    assert changed(found) == {}
    assert {len(h.points) for h in found} == {FEWEST_NIGHTS - 1}


def test_a_hot_path_that_came_later_has_a_history_of_its_own() -> None:
    nights = recorded(20, {4: math.log(1.3)}, at=14)
    nights[:8] = [replace(n, times={k: v for k, v in n.times.items() if k != "toy.h04"}) for n in nights[:8]]
    bad = nights[10].times | {"toy.h05": [math.nan] * PROCESSES}
    nights[10] = replace(nights[10], times=bad)
    found = {h.name: h for h in histories(nights)}
    assert [len(found[name].points) for name in ("toy.h03", "toy.h04", "toy.h05")] == [20, 12, 19]
    assert [c.commit for c in found["toy.h04"].changes] == [f"{14:040}"]


def test_nights_of_two_machines_are_two_histories() -> None:
    here, there = recorded(8), recorded(10, seed=1)
    there = [replace(n, provenance=n.provenance | {"gpu": "H200"}) for n in there]
    found = histories([*here, *there])
    assert {(h.machine, len(h.points)) for h in found} == {(("one", None), 8), (("one", "H200"), 10)}


def test_nights_with_too_little_in_common_say_so() -> None:
    nights = recorded(6)
    nights[2] = replace(nights[2], times={name: nights[2].times[name] for name in ("toy.h00", "toy.h01")})
    with pytest.raises(JobError, match="6 nights on one have 2 usable hot paths in common; among fewer than 3"):
        histories(nights)


def test_a_folder_is_read_in_order_whole_nights_only_each_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nights = recorded(3)
    for name, night in zip(("b", "a", "c", "again"), (nights[0], nights[1], nights[2], nights[2]), strict=True):
        save_night(night, tmp_path / f"{name}.json")
    save_night(replace(nights[0], provenance=nights[0].provenance | {"effort": {}, "commit": "f"}), tmp_path / "q.json")
    (tmp_path / "damaged.json").write_text("{")
    assert read_nights(tmp_path) == nights
    said = capsys.readouterr().err
    assert "q.json: left out: it is of some hot paths only, or of less effort" in said
    assert "damaged.json: cannot be read as a night" in said
    with pytest.raises(AssayError, match="no file of a night; record one with `assay night --out FILE`"):
        read_nights(tmp_path / "nothing")


def test_the_command_shows_what_changed_and_how_many_did_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nights = recorded(12, {3: math.log(1.25)}, at=6)
    print_histories(histories(nights))
    first, head, row, last = capsys.readouterr().out.splitlines()
    assert first == "one: 20 hot paths, 12 nights, 2026-01-01 to 2026-01-12"
    assert head.split() == ["hot", "path", "nights", "now", "from", "commit", "change"]
    name, count, _, unit, date, commit, change = row.split()
    assert (name, count, unit, date, commit) == ("toy.h03", "12", "ms", "2026-01-07", "0000000000")
    assert 18 < float(change.strip("+%")) < 32
    assert last == "19 without a change"

    for night in nights:
        save_night(night, tmp_path / f"{night.commit}.json")
    done = CliRunner().invoke(app, ["nights", str(tmp_path), "--json"])
    assert done.exit_code == 0
    told = {history["name"]: history for history in json.loads(done.stdout)}
    assert [change["date"] for change in told["toy.h03"]["changes"]] == ["2026-01-07"]
    assert len(told["toy.h00"]["points"]) == 12


def test_times_in_words() -> None:
    assert [time_text(s) for s in (2.5, 0.00124, 3.4e-5, 8e-9)] == ["2.5 s", "1.24 ms", "34 us", "8 ns"]

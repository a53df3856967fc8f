"""Results are whole or absent, and never hold NaN."""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assay.errors import RecordError
from assay.record import JobRecord, Result, Row, finite_row, load_result, save_result, write_atomically


def result() -> Result:
    rows = [Row("toy", "score", 0.5, method="good", setting={"depth": 2, "deep": True}, seed=1, unit="%"),
            Row("toy", "energy_j", None, reason="no counter")]  # fmt: skip
    job = JobRecord("toy", "cora", 0, "failed", "abc", 1.5, "ValueError: no", "Traceback …")
    return Result("toy", "quick", {"commit": None}, {"toy": {"depths": [2]}}, {"toy": 3}, {"c": "h"}, [job], rows)


def test_a_result_survives_the_file(tmp_path: Path) -> None:
    save_result(result(), tmp_path / "r.json")
    assert load_result(tmp_path / "r.json") == result()


def test_the_repeats_of_a_race_stand_in_one_line_and_survive_it(tmp_path: Path) -> None:
    race = [Row("toy", "time_s", 0.1 * repeat + seed, name, {"n": 1}, seed, repeat=repeat)
            for seed in range(2) for repeat in range(3) for name in ("good", "bad")]  # fmt: skip
    # a missing repeat, and one that follows it, keep lines of their own
    race += [Row("toy", "energy_j", None, "good", repeat=0, reason="no counter"), Row("toy", "energy_j", 1.0, repeat=1)]
    save_result(replace(result(), rows=race), tmp_path / "r.json")
    assert (tmp_path / "r.json").read_text().count('"metric"') == 4 + 2
    assert sorted(map(repr, load_result(tmp_path / "r.json").rows)) == sorted(map(repr, race))


def test_rows_stand_one_a_line(tmp_path: Path) -> None:
    save_result(result(), tmp_path / "r.json")
    assert sum('"metric"' in line for line in (tmp_path / "r.json").read_text().splitlines()) == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_missing_with_its_reason(value: float) -> None:
    row = finite_row(experiment="toy", metric="loss", value=value)
    assert row.value is None
    assert row.reason == f"not finite: {value}"


def test_nan_never_reaches_the_file(tmp_path: Path) -> None:
    broken = Result("toy", "quick", {"x": math.nan}, {}, {}, {}, [], [])
    with pytest.raises(ValueError, match="JSON compliant"):
        save_result(broken, tmp_path / "r.json")
    assert list(tmp_path.iterdir()) == []


def test_what_made_the_jobs_stands_once_in_the_file(tmp_path: Path) -> None:
    ours, theirs = {"cpu": "x", "versions": {"numpy": "2"}}, {"cpu": "y", "versions": {"numpy": "2"}}
    jobs = [
        replace(result().jobs[0], seed=seed, origin=dict(origin)) for seed, origin in enumerate((ours, theirs, ours))
    ]
    save_result(replace(result(), jobs=jobs), tmp_path / "r.json")
    assert load_result(tmp_path / "r.json").jobs == jobs
    assert (tmp_path / "r.json").read_text().count('"numpy"') == 2


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("jobs", "none", "jobs is 'none'"),
        ("jobs", [3], r"jobs\[0\] is 3"),
        ("jobs.0.seed", "x", r"jobs\[0\].seed is 'x', not int"),
        ("jobs.0.status", "won", r"jobs\[0\].status is 'won', not done"),
        ("jobs.0.duration_s", None, r"jobs\[0\].duration_s is None, not float"),
        ("jobs.0.origin", 7, r"jobs\[0\].origin is 7, no place in origins"),
        ("jobs.0.colour", "red", r"jobs\[0\].colour is 'red', not a known field"),
        ("rows", {}, "rows is {}"),
        ("rows.0", None, r"rows\[0\] is None, no object"),
        ("rows.0", {"experiment": "toy", "metric": "m"}, r"rows\[0\] has no value"),
        ("rows.0.value", "0.5", r"rows\[0\].value is '0.5', not float or int or null"),
        ("rows.0.value", True, r"rows\[0\].value is True"),
        ("rows.0.setting", [1], r"rows\[0\].setting is \[1\], not dict"),
        ("rows.0.setting.depth", [2], r"rows\[0\].setting is .*its values are numbers, texts and truth values"),
        ("rows.1.evidence", "guessed", r"rows\[1\].evidence is 'guessed', not measured, counted, simulated"),
        ("rows.0.repeat", 0.5, r"rows\[0\].repeat is 0.5"),
        ("rows.0.values", "abc", r"rows\[0\].values is 'abc', no list of numbers"),
        ("rows.0.values", [1.0, None], r"rows\[0\].values is .*no list of numbers"),
        ("rows.0.metric", "\ud800", "cannot be read as a result"),
        ("curves", [{"experiment": "toy"}], r"curves\[0\] has no metric"),
        ("curves", [{"x": 1}], r"curves\[0\].x is 1, not list"),
        ("artifacts", [{"name": 1}], r"artifacts\[0\].name is 1, not str"),
        ("replicates", [], r"replicates is \[\], not dict"),
        ("replicates.toy", "3", "replicates.toy is '3'"),
        ("replicates.toy", 0, "replicates.toy is 0"),
        ("parameters.toy", [], r"parameters.toy is \[\]"),
        ("parameters.toy", {"datasets": "cora"}, "parameters.toy is"),
        ("provenance", None, "provenance is None"),
        ("claims", None, "claims is None"),
        ("paper", 3, "paper is 3, not str"),
        ("unknown", 1, "unknown field 'unknown'"),
    ],
)
def test_a_result_edited_by_hand_is_refused_with_the_field(tmp_path: Path, field: str, value: Any, named: str) -> None:
    save_result(result(), tmp_path / "r.json")
    node = data = json.loads((tmp_path / "r.json").read_text())
    *parents, last = field.split(".")
    for name in parents:
        node = node[int(name)] if isinstance(node, list) else node[name]
    node[int(last) if isinstance(node, list) else last] = value
    (tmp_path / "r.json").write_text(json.dumps(data))
    with pytest.raises(RecordError, match=rf"r\.json: .*{named}.*run the paper again"):
        load_result(tmp_path / "r.json")


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e999"])
def test_a_number_that_is_none_is_refused_in_a_file_too(tmp_path: Path, value: str) -> None:
    save_result(result(), tmp_path / "r.json")
    whole = (tmp_path / "r.json").read_text()
    (tmp_path / "r.json").write_text(whole.replace('"value": 0.5', f'"value": {value}'))
    with pytest.raises(RecordError, match=r"(no JSON|value is inf, which is not finite).*run the paper again"):
        load_result(tmp_path / "r.json")


def test_a_result_of_schema_1_is_read(tmp_path: Path) -> None:
    save_result(result(), tmp_path / "r.json")
    now = (tmp_path / "r.json").read_text()
    assert '"schema": 2' in now
    (tmp_path / "r.json").write_text(now.replace('"schema": 2', '"schema": 1'))
    assert load_result(tmp_path / "r.json") == result()


def test_a_result_of_a_later_schema_is_neither_read_nor_replaced(tmp_path: Path) -> None:
    later = '{"schema": 3, "measured": "otherwise"}'
    (tmp_path / "r.json").write_text(later)
    for attempt in (load_result, lambda path: save_result(result(), path)):
        with pytest.raises(RecordError, match=r"schema 3, written by a newer Assay; this one knows schema 2.*Update"):
            attempt(tmp_path / "r.json")
    assert (tmp_path / "r.json").read_text() == later
    for damage in ("", "[3]", '{"schema": "x"}'):
        (tmp_path / "r.json").write_text(damage)
        save_result(result(), tmp_path / "r.json")
        assert load_result(tmp_path / "r.json") == result()


@pytest.mark.parametrize("damage", ["", "{", '{"schema": 0}', "[]", '{"schema": 1, "unknown": 1}', "[" * 100_000])
def test_a_damaged_result_is_refused_with_what_to_do(tmp_path: Path, damage: str) -> None:
    (tmp_path / "r.json").write_text(damage)
    with pytest.raises(RecordError, match=r"r\.json.*run the paper again"):
        load_result(tmp_path / "r.json")


FILL = """
import sys; from pathlib import Path
from assay.errors import RecordError
from assay.record import write_atomically
try:
    write_atomically(Path(sys.argv[1]), "x" * 10_000_000)
except RecordError as error:
    print(error); raise SystemExit(3)
"""


def test_a_full_disk_leaves_the_old_result_and_says_so(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)], capture_output=True)
    try:
        target = disk / "r.json"
        target.write_text("old")
        # without the right to mount, a limit on file sizes stands in for the small disk
        limit = None if mounted.returncode == 0 else _limit_file_size
        done = subprocess.run([sys.executable, "-c", FILL, str(target)], text=True, capture_output=True,
                              preexec_fn=limit)  # fmt: skip
        assert done.returncode == 3, done.stderr
        assert "the disk is full" in done.stdout
        assert target.read_text() == "old"
        assert [path.name for path in disk.iterdir()] == ["r.json"]
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", str(disk)], check=True)


def _limit_file_size() -> None:
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, 256 * 1024))


def test_files_can_be_read_by_others(tmp_path: Path) -> None:
    write_atomically(tmp_path / "r.json", "{}")
    assert (tmp_path / "r.json").stat().st_mode & 0o044
    assert json.loads((tmp_path / "r.json").read_text()) == {}


def test_whoever_reads_while_a_file_is_replaced_reads_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_atomically(path, "old")
    with path.open() as reader:
        write_atomically(path, b"new and longer")
        assert reader.read() == "old"
    assert path.read_text() == "new and longer"
    assert list(tmp_path.iterdir()) == [path]

"""Results are whole or absent, and never hold NaN."""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

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


@pytest.mark.parametrize("damage", ["", "{", '{"schema": 2}', "[]", '{"schema": 1, "unknown": 1}'])
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

"""The doctor says what is missing, and fails where the machine cannot run or the verdicts do not keep their promise."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from assay import calibrate, doctor, noise
from assay.calibrate import Cell
from assay.nights import calibrate as alarm


def line_of(lines: list[str], name: str) -> str:
    (line,) = [line for line in lines if line.split()[0] == name]
    return line.removeprefix(name).strip()


def test_what_is_missing_is_named_with_what_it_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "OPTIONAL", {"no_such_module": "a purpose", "json": "another"})
    monkeypatch.setenv("ASSAY_MIRROR", "a/mirror")
    lines, _ = doctor.examine(tmp_path)
    assert "no_such_module not installed: no a purpose" in lines
    assert line_of(lines, "json") == "found"
    assert line_of(lines, "mirror") == "a/mirror"
    monkeypatch.delenv("ASSAY_MIRROR")
    assert line_of(doctor.examine(tmp_path)[0], "mirror").startswith("none (set ASSAY_MIRROR")


def test_a_full_disk_is_not_healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, healthy in ((2**29, False), (2**31, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        lines, found = doctor.examine(tmp_path)
        assert found is healthy
        assert line_of(lines, "disk") == f"{free / 2**30:.1f} GiB free"


IN, OUT = Cell("in", 1, 0.05, 0.0, 0.06), Cell("out", 1, 0.07, 0.0, 0.06)


@pytest.mark.parametrize(("of_verdicts", "of_alarm", "decided", "healthy"), [
    (IN, IN, noise.TOLERATED, True),
    (OUT, IN, 0, False),
    (IN, OUT, 0, False),
    (IN, IN, noise.TOLERATED + 1, False),
])  # fmt: skip
def test_every_rate_and_the_real_noise_must_be_in_bounds(
    of_verdicts: Cell, of_alarm: Cell, decided: int, healthy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The simulations and races themselves, which take minutes, have tests of their own."""
    monkeypatch.setattr(calibrate, "calibrate", lambda: [of_verdicts])
    monkeypatch.setattr(alarm, "calibrate_alarm", lambda: [of_alarm])
    monkeypatch.setattr(noise, "decisive_claims", lambda advance: decided)
    lines, found = doctor.calibration()
    assert found is healthy
    assert lines[:2] == [str(of_verdicts), str(of_alarm)]
    assert lines[2].startswith(f"{decided} of {noise.CLAIMS} real timing claims")
    assert lines[2].endswith("OUT" if decided > noise.TOLERATED else "ok")

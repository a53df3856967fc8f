from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import pytest

from assay.errors import JobError
from assay.measure import energy
from assay.measure.energy import POWERCAP, Energy, EnergyMeter

RANGE = 262_143_328_850  # uJ, of a real package


class Powercap:
    """A directory tree as the kernel lays it out, whose counters a thread moves forward until the test
    freezes them.
    """

    def __init__(self, folder: Path):
        self.folder, self.zones = folder, {}
        self._frozen = threading.Event()
        self._thread = threading.Thread(target=self._move, daemon=True)

    def zone(self, path: str, name: str, uj: int = 1000, wrap: int = RANGE) -> Path:
        zone = self.folder / path
        zone.mkdir(parents=True)
        (zone / "name").write_text(name + "\n")
        (zone / "max_energy_range_uj").write_text(f"{wrap}\n")
        self.zones[path] = uj
        self.put(path, uj)
        return zone

    def put(self, path: str, uj: int) -> None:
        zone = self.folder / path
        new = zone.with_name(f"new {zone.name}")  # renamed, so that a reader never meets a half-written file
        new.write_text(f"{uj}\n")
        new.rename(zone / "energy_uj")

    def _move(self):
        while not self._frozen.wait(0.001):
            for path in self.zones:
                self.zones[path] += 7
                self.put(path, self.zones[path])

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._frozen.set()
        self._thread.join()


@pytest.fixture
def tree(tmp_path):
    return Powercap(tmp_path)


def measured(tree: Powercap, before: dict[str, int], after: dict[str, int], seconds: float = 0.1) -> Energy:
    """Let the meter learn the counters' tick while they move; then freeze them, and set them by hand."""
    with tree:
        meter = EnergyMeter(powercap=tree.folder)
    for path, uj in before.items():
        tree.put(path, uj)
    meter.start()
    time.sleep(max(seconds, 1.2 * meter.shortest_s) if seconds else 0)
    for path, uj in after.items():
        tree.put(path, uj)
    return meter.stop()


def test_packages_and_memory_are_summed_and_parts_are_not_counted_twice(tree):
    names = {"0": "package-0", "0:0": "core", "0:1": "dram", "1": "package-1", "2": "psys"}
    zones = [f"intel-rapl:{z}" for z in names]
    for zone, name in zip(zones, names.values(), strict=True):
        tree.zone(zone, name)
    tree.zone("intel-rapl-mmio:0", "package-0")
    after = dict(zip(zones, [3_000_000, 2_000_000, 500_000, 4_000_000, 9_000_000], strict=True))
    found = measured(tree, dict.fromkeys(zones, 0), after)
    assert found == Energy(pytest.approx(3.0 + 0.5 + 4.0, rel=1e-12), "RAPL", None)


def test_subzones_below_their_package_are_found(tree):
    tree.zone("intel-rapl:0", "package-0")
    tree.zone("intel-rapl:0/intel-rapl:0:2", "dram")
    zones = list(tree.zones)
    found = measured(tree, dict.fromkeys(zones, 0), dict.fromkeys(zones, 1_500_000))
    assert found.joules == pytest.approx(3.0)


def test_a_counter_that_wraps_around_goes_on(tree):
    tree.zone("intel-rapl:0", "package-0")
    found = measured(tree, {"intel-rapl:0": RANGE - 2_000_000}, {"intel-rapl:0": 3_000_000})
    assert found.joules == pytest.approx(5.0, rel=1e-12)


def test_a_window_of_a_few_ticks_reads_missing(tree, monkeypatch):
    monkeypatch.setattr(energy, "TICKS_PER_WINDOW", 10**7)  # so that no wait of this process is long enough
    tree.zone("intel-rapl:0", "package-0")
    found = measured(tree, {"intel-rapl:0": 0}, {"intel-rapl:0": 9}, seconds=0)
    assert found.joules is None
    assert "shorter than" in found.reason
    assert "ten ticks of RAPL" in found.reason


def test_a_window_in_which_the_counter_may_wrap_twice_reads_missing(tree):
    tree.zone("intel-rapl:0", "package-0", wrap=50_000_000)  # 50 J: 0.05 s at the highest power
    found = measured(tree, {"intel-rapl:0": 0}, {"intel-rapl:0": 9}, seconds=0.2)
    assert found.joules is None
    assert "wrap around twice" in found.reason


def test_a_counter_that_stands_still_reads_missing(tree):
    tree.zone("intel-rapl:0", "package-0")
    meter = EnergyMeter(powercap=tree.folder)
    meter.start()
    assert "does not move" in meter.stop().reason


def test_a_machine_without_rapl_reads_missing(tmp_path):
    meter = EnergyMeter(powercap=tmp_path / "absent")
    meter.start()
    found = meter.stop()
    assert found.joules is None
    assert found.source is None
    assert found.reason.startswith("no counter can be read: ")
    assert "absent" in found.reason


def test_a_counter_without_permission_reads_missing():
    folder = Path(tempfile.mkdtemp())
    was = os.geteuid()
    try:
        folder.chmod(0o755)
        counter = Powercap(folder).zone("intel-rapl:0", "package-0") / "energy_uj"
        counter.chmod(0o000)
        if was == 0:
            os.seteuid(65534)  # root may read everything
        with EnergyMeter(powercap=folder) as meter:
            pass
    finally:
        os.seteuid(was)
        shutil.rmtree(folder)
    assert meter.energy.joules is None
    assert "Permission denied" in meter.energy.reason
    assert "intel-rapl:0/energy_uj" in meter.energy.reason


def test_stop_needs_a_start():
    with pytest.raises(JobError, match="call start"):
        EnergyMeter(powercap=Path("absent")).stop()


def test_this_machines_cpu_is_read_or_the_reason_is_given():
    with EnergyMeter() as meter:
        time.sleep(0.3)
    found = meter.energy
    if not any(POWERCAP.glob("intel-rapl:*")):
        assert found.joules is None
        assert found.reason.startswith("no counter can be read: ")
    elif found.joules is None:
        assert "can be read" in found.reason or "window" in found.reason
    else:
        assert found.source == "RAPL"
        assert 0.3 * 0.1 < found.joules < 0.3 * 4000


class NvmlError(Exception):
    pass


class Nvml:
    """Stands in for the NVML library: one GPU, with or without an energy counter, or no driver."""

    NVMLError = NvmlError

    def __init__(self, watts=200.0, counter=True, present=True):
        self.counter, self.present = counter, present
        self.millijoules, self.moving = 0, True  # of the counter, which moves with each look at it, or stands
        self.watts, self.readings, self.clock = watts, [], 0.0  # each reading of the power takes 20 ms of this clock

    def nvmlInit(self):
        if not self.present:
            raise NvmlError("Driver Not Loaded")

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    nvmlDeviceGetHandleByUUID = nvmlDeviceGetHandleByIndex

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        if not self.counter:
            raise NvmlError("Not Supported")
        self.millijoules += self.moving
        return self.millijoules

    def nvmlDeviceGetPowerUsage(self, handle):
        self.clock += 0.02
        self.readings.append(self.watts)
        return int(self.watts * 1000)


def test_a_gpus_energy_counter_is_read_in_joules():
    nvml = Nvml()
    meter = EnergyMeter("cuda:0", nvml=nvml)
    nvml.moving, nvml.millijoules = False, 1_000
    meter.start()
    time.sleep(1.2 * meter.shortest_s)
    nvml.millijoules = 61_000
    assert meter.stop() == Energy(60.0, "NVML energy counter", None)


def test_power_is_sampled_where_there_is_no_counter(monkeypatch):
    """By the stand-in's clock, which moves with the readings: so it is known what the integral must be."""
    monkeypatch.setattr(energy._SampledPower, "shortest_s", 0.0)
    threads, nvml = threading.active_count(), Nvml(watts=100.0, counter=False)
    monkeypatch.setattr(energy, "monotonic", lambda: nvml.clock)
    meter = EnergyMeter("cuda", nvml=nvml)
    nvml.readings.clear()
    meter.start()
    for watts in (100.0, 300.0, 200.0):
        nvml.watts, enough = watts, len(nvml.readings) + 3
        while len(nvml.readings) < enough:
            time.sleep(0.001)
    found = meter.stop()
    assert found.source == "NVML power, sampled"
    assert found.joules == pytest.approx(sum(0.02 * (a + b) / 2 for a, b in itertools.pairwise(nvml.readings)))
    assert {100.0, 300.0, 200.0} == set(nvml.readings)
    assert threading.active_count() == threads


def test_a_machine_without_a_driver_reads_missing():
    with EnergyMeter("cuda:0", nvml=Nvml(present=False)) as meter:
        pass
    assert meter.energy == Energy(None, None, "no counter can be read: NVML: Driver Not Loaded")


def test_this_machines_gpu_is_read_or_the_reason_is_given():
    pynvml = pytest.importorskip("pynvml")
    with EnergyMeter("cuda:0") as meter:
        time.sleep(0.1)
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        assert meter.energy.joules is None
        assert meter.energy.reason.startswith("no counter can be read: NVML: ")
    else:
        assert (meter.energy.joules is None) == (meter.energy.reason is not None)

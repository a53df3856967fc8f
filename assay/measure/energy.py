"""Energy of a window, read from a counter in the hardware. Without a counter the value is missing, with the
reason.

GPU: NVML's total energy counter (mJ since the driver was loaded; Volta and newer), else its power reading,
sampled by a thread and integrated. CPU: RAPL, which Linux shows under /sys/class/powercap (uJ, wraps around):
packages, plus the memory where it has a counter of its own. Both count the whole device, whoever uses it: an
energy claim needs the machine to itself. An estimate (time x nominal power) is never returned.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import monotonic, sleep
from typing import Any, Protocol

from assay.errors import JobError

POWERCAP = Path("/sys/class/powercap")
TICKS_PER_WINDOW = 10  # a counter that moves in steps is off by up to one step: at most 10% of a window
SLOWEST_TICK_S = 1.0
SAMPLING_S = 0.02
POWER_READING_S = 0.1  # NVML renews its power reading about ten times a second
HIGHEST_POWER_W = 1000.0  # of one CPU package: bounds how soon its counter can wrap around twice


@dataclass(frozen=True)
class Energy:
    """joules: J, or None. source: the counter that was read, or None. reason: why joules is None, else None."""

    joules: float | None
    source: str | None
    reason: str | None


class Counter(Protocol):
    """Something that can be read twice. `shortest_s` and `longest_s` bound the windows that it can measure."""

    source: str
    shortest_s: float
    longest_s: float

    def start(self) -> None: ...

    def stop(self) -> float:
        """Return J since `start`."""


class CannotRead(Exception):
    """No counter here, or none that this user may read; the message says which and why."""


class EnergyMeter:
    """`meter.start(); ...; energy = meter.stop()`, or `with EnergyMeter() as meter: ...` and then
    `meter.energy`.

    device: None or "cpu" for the CPU, a CUDA device for that GPU. Work on a GPU must be synchronised before
    both `start` and `stop`. powercap and nvml: where RAPL is looked for, and the NVML library (None:
    `pynvml`).

    Creating a meter measures how often its counter moves (a few ms for RAPL, up to 4 s for NVML): a window
    shorter than ten of these ticks reads missing, because the counter's step would be a large part of it.
    """

    def __init__(self, device: object = None, *, powercap: Path = POWERCAP, nvml: Any = None) -> None:
        self.energy: Energy | None = None
        self._counter: Counter | None = None
        self._started: float | None = None
        self._reason = ""
        try:
            on_gpu = str(device).startswith("cuda")
            self._counter = _gpu_counter(device, nvml) if on_gpu else _Rapl(powercap)
        except CannotRead as error:
            self._reason = f"no counter can be read: {error}"

    @property
    def shortest_s(self) -> float | None:
        """Shortest window that the counter can measure, s; None where there is no counter."""
        return None if self._counter is None else self._counter.shortest_s

    def start(self) -> None:
        if self._counter is not None:
            try:
                self._counter.start()
            except CannotRead as error:
                self._reason, self._counter = f"no counter can be read: {error}", None
        self._started = monotonic()

    def stop(self) -> Energy:
        """Return the energy since `start`. Raises JobError if there was no `start`."""
        if self._started is None:
            raise JobError("EnergyMeter.stop: the meter was not started; call start() first")
        seconds, self._started = monotonic() - self._started, None
        self.energy = self._read(seconds)
        return self.energy

    def _read(self, seconds: float) -> Energy:
        counter = self._counter
        if counter is None:
            return Energy(None, None, self._reason)
        try:
            joules = counter.stop()
        except CannotRead as error:
            return Energy(None, None, f"no counter can be read: {error}")
        if seconds < counter.shortest_s:
            why = f"the window of {seconds:.3g} s is shorter than {counter.shortest_s:.3g} s, ten ticks of"
            return Energy(None, counter.source, f"{why} {counter.source}")
        if seconds > counter.longest_s:
            why = f"in a window of {seconds:.3g} s {counter.source} can wrap around twice"
            return Energy(None, counter.source, f"{why} (limit {counter.longest_s:.3g} s)")
        return Energy(joules, counter.source, None)

    def __enter__(self) -> EnergyMeter:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


class _Rapl:
    source = "RAPL"

    def __init__(self, powercap: Path) -> None:
        self._zones = _rapl_zones(powercap)
        self._ranges = [_number(zone / "max_energy_range_uj") for zone in self._zones]
        tick = max(_tick(partial(_number, zone / "energy_uj"), zone) for zone in self._zones)
        self.shortest_s = TICKS_PER_WINDOW * tick
        self.longest_s = min(self._ranges) * 1e-6 / HIGHEST_POWER_W

    def start(self) -> None:
        self._before = self._counts()

    def stop(self) -> float:
        used = zip(self._before, self._counts(), self._ranges, strict=True)
        return sum(now - before if now >= before else now - before + wrap for before, now, wrap in used) * 1e-6

    def _counts(self) -> list[int]:
        return [_number(zone / "energy_uj") for zone in self._zones]


def _rapl_zones(powercap: Path) -> list[Path]:
    """Packages and memories. A package holds its cores, and `psys` holds everything: neither is added.

    `intel-rapl-mmio:*` shows the same packages again and does not match; AMD's zones carry Intel's name.
    """
    # /sys/class/powercap is flat: subzones stand beside their packages, and may also be nested below them
    zones = {z.name: z for z in [*powercap.glob("intel-rapl:*/intel-rapl:*"), *powercap.glob("intel-rapl:*")]}
    if not zones:
        raise CannotRead(f"{powercap} has no intel-rapl zones (a virtual machine, or a kernel without RAPL)")
    names = {name: _text(zone / "name") for name, zone in sorted(zones.items())}
    if not any(text.startswith("package") for text in names.values()):
        raise CannotRead(f"{powercap} has no package zone among {', '.join(names.values())}")
    return [zones[name] for name, text in names.items() if text.startswith("package") or text == "dram"]


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise CannotRead(f"{path}: {error.strerror} (it may need read permission from the administrator)") from error


def _number(path: Path) -> int:
    text = _text(path)
    try:
        return int(text)
    except ValueError as error:
        raise CannotRead(f"{path} holds {text!r}, not a number") from error


def _tick(read: Callable[[], float], where: object) -> float:
    """Median gap between changes of a counter, s. A good one always moves: an idle device uses power too."""
    changes: list[float] = []
    last, start = read(), monotonic()
    while len(changes) < 4:
        if monotonic() - (changes[-1] if changes else start) > SLOWEST_TICK_S:
            raise CannotRead(f"{where} does not move: {last} for {SLOWEST_TICK_S:g} s")
        now = read()
        if now != last:
            changes.append(monotonic())
            last = now
        sleep(0.0001)
    return median(later - earlier for earlier, later in pairwise(changes))


def _gpu_counter(device: object, nvml: Any) -> Counter:
    nvml = nvml or _pynvml()
    try:
        nvml.nvmlInit()
        handle = _gpu_handle(device, nvml)
    except nvml.NVMLError as error:
        raise CannotRead(f"NVML: {error}") from error
    try:
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError:
        return _SampledPower(nvml, handle)
    return _EnergyCounter(nvml, handle)


def _pynvml() -> Any:
    try:
        import pynvml
    except ImportError as error:
        raise CannotRead("pynvml is not installed (pip install nvidia-ml-py)") from error
    return pynvml


def _gpu_handle(device: object, nvml: Any) -> Any:
    """NVML numbers all GPUs, CUDA those that CUDA_VISIBLE_DEVICES leaves: only the UUID joins them."""
    index = int(str(device).partition(":")[2] or 0)
    try:
        import torch

        uuid = str(torch.cuda.get_device_properties(index).uuid)
    except (ImportError, AssertionError, RuntimeError):
        return nvml.nvmlDeviceGetHandleByIndex(index)
    return nvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")


class _EnergyCounter:
    source = "NVML energy counter"
    longest_s = float("inf")

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle
        self.shortest_s = TICKS_PER_WINDOW * _tick(self._millijoules, "NVML's energy counter")

    def _millijoules(self) -> int:
        return _ask(self._nvml, self._nvml.nvmlDeviceGetTotalEnergyConsumption, self._handle)

    def start(self) -> None:
        self._before = self._millijoules()

    def stop(self) -> float:
        return (self._millijoules() - self._before) * 1e-3


class _SampledPower:
    source = "NVML power, sampled"
    shortest_s = TICKS_PER_WINDOW * POWER_READING_S
    longest_s = float("inf")

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle
        self._watts()  # refuses here, not in the thread, where power cannot be read at all

    def _watts(self) -> float:
        return _ask(self._nvml, self._nvml.nvmlDeviceGetPowerUsage, self._handle) * 1e-3

    def start(self) -> None:
        self._samples = [(monotonic(), self._watts())]
        self._error: CannotRead | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        try:
            while not self._stopped.wait(SAMPLING_S):
                self._samples.append((monotonic(), self._watts()))
        except CannotRead as error:
            self._error = error

    def stop(self) -> float:
        self._stopped.set()
        self._thread.join()
        if self._error is not None:
            raise self._error
        self._samples.append((monotonic(), self._watts()))
        return sum((t1 - t0) * (w0 + w1) / 2 for (t0, w0), (t1, w1) in pairwise(self._samples))


def _ask(nvml: Any, function: Callable[[Any], int], handle: Any) -> int:
    try:
        return function(handle)
    except nvml.NVMLError as error:
        raise CannotRead(f"NVML: {error}") from error

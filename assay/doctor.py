"""What this machine can run and measure, and whether the verdicts keep their promised error rates."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import psutil

from assay.measure.energy import EnergyMeter
from assay.network import network_reason
from assay.provenance import cpu_model, gpu_model
from assay.terminal import steps

OPTIONAL = {
    "pooch": "downloads of data sets from their upstream",
    "dvc": "the pipeline (make reproduce)",
    "pynvml": "energy of a GPU",
    "asv": "hot paths over commits (make asv)",
    "ruptures": "history of hot paths (assay nights)",
    "ray": "runs on a cluster (assay run --cluster)",
}


def examine(root: Path) -> tuple[list[str], bool]:
    """Lines for a person, and whether profiles quick and standard can run."""
    gpu = gpu_model()
    meter = EnergyMeter("cuda" if gpu else None)
    meter.start()
    energy = meter.stop()
    free = shutil.disk_usage(root).free / 2**30
    lines = [
        f"cpu      {cpu_model()}, {psutil.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB",
        f"gpu      {gpu or 'none: profile gpu cannot run here'}",
        f"energy   {energy.source if energy.joules is not None else f'missing: {energy.reason}'}",
        f"network  {network_reason() or 'the wire between ranks can be limited'}",
        f"disk     {free:.1f} GiB free",
        f"mirror   {os.environ.get('ASSAY_MIRROR') or 'none (set ASSAY_MIRROR to a folder of data sets)'}",
    ]
    for module, purpose in OPTIONAL.items():
        state = "found" if importlib.util.find_spec(module) else f"not installed: no {purpose}"
        lines.append(f"{module:<8} {state}")
    return lines, free > 1


def calibration() -> tuple[list[str], bool]:
    """The simulated error rates of the verdicts and of the alarm, and real noise of this machine."""
    from assay.calibrate import calibrate
    from assay.nights.calibrate import calibrate_alarm
    from assay.noise import CLAIMS, PROCESSES, TOLERATED, decisive_claims

    with steps("calibrate", 2 + PROCESSES) as advance:
        cells = calibrate()
        advance()
        cells += calibrate_alarm()
        advance()
        decided = decisive_claims(advance)
    lines = [str(cell) for cell in cells]
    healthy = decided <= TOLERATED
    verdict = "ok" if healthy else "OUT"
    lines.append(
        f"{decided} of {CLAIMS} real timing claims about a thing and itself decided  [0, {TOLERATED}]  {verdict}"
    )
    return lines, healthy and all(cell.ok for cell in cells)

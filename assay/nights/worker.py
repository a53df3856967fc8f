"""The process that times the hot paths of one checkout, on the word of its parent (`assay.nights.process`).

Run as a script in that checkout, which may be of another commit than this file. The measuring code is therefore
loaded from beside this file, so that two commits are timed by the same code, and everything else from the checkout.
A command is a line of JSON, [name, argument...]; the answer is a line with a `value` or an `error`.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
WARMUP, TRIAL = 3, 3


def _beside(path: str) -> ModuleType:
    """A module of this file's commit, under a name that hides no module of the checkout."""
    name = "timed_with_" + Path(path).stem
    spec = importlib.util.spec_from_file_location(name, HERE / path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Commands:
    """What the parent can ask for. Seconds are medians over calls; a call on a GPU ends when its work is done."""

    def __init__(self) -> None:
        self._set_up, self._canaries = _beside("../hotpaths.py").set_up, _beside("canaries.py").CANARIES
        self._race = _beside("../measure/time.py").race
        self._live_tensor_peak = _beside("../measure/memory.py").live_tensor_peak
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._open: dict[str, Callable[[], object]] = {}

    def open(self, name: str) -> float:
        """Set up and warm up. Returns about how long a call takes, s."""
        canary = self._canaries.get(name)
        self._open[name] = canary() if canary else self._set_up(name)
        # a race collects garbage before it starts: what lives now need not be looked at each time
        gc.collect()
        gc.freeze()
        return self._seconds(name, TRIAL, WARMUP)

    def time(self, name: str, calls: int) -> float:
        return self._seconds(name, calls, 0)

    def counts(self, name: str) -> dict[str, int]:
        """Exact counts of one call. On a CPU every tensor's storage; on a GPU the allocator's peak."""
        call = self._open[name]
        counts = {"peak_bytes": self._live_tensor_peak(call).bytes}
        if self._device == "cuda":
            counts["gpu_peak_bytes"] = self._live_tensor_peak(call, device="cuda").bytes
        return counts

    def close(self, name: str) -> None:
        self._open.pop(name, None)
        gc.unfreeze()

    def _seconds(self, name: str, calls: int, warmup: int) -> float:
        samples = self._race({name: self._open[name]}, pairs=calls, warmup=warmup, device=self._device)
        return statistics.median(sample.seconds for sample in samples)


def main() -> None:
    tree = Path.cwd().resolve()
    # what a hot path prints must not end up in an answer
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    commands = Commands()
    import assay

    # a repository of one's own has no Assay in it, and is timed with the one that is installed
    if (tree / "assay").is_dir() and not Path(assay.__file__).resolve().is_relative_to(tree):
        raise SystemExit(f"assay comes from {assay.__file__} and not from the checkout {tree}")
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer: dict[str, Any] = {"value": getattr(commands, name)(*arguments)}
        except Exception as error:  # whatever a hot path raises is told, and stops no other
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()

"""Kernels beside their torch twins. A paper adds `test_<slug>.py`: what is computed, and how fast.

`pytest tests/kernels` checks what is computed; on a CPU the kernels run in Triton's interpreter.
`pytest tests/kernels --benchmark-only` times: kernels on a GPU only, twins everywhere. Beside each time stands the
ceiling, what one large copy reaches in the same process, and the fraction of it; `--benchmark-json FILE` keeps both.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

CUDA = torch.cuda.is_available()
COPY_BYTES = 2**30 if CUDA else 2**27  # larger than any cache
_LINES = pytest.StashKey[list[str]]()


def finish() -> None:
    if CUDA:
        torch.cuda.synchronize()


@functools.cache
def bandwidth(over: str) -> float:
    """Bytes/s of one large copy: over the `link`, from page-locked host memory; or inside the device's `memory`.

    A copy inside memory reads and writes: both count. The median of ten. What fits a cache can be faster.
    """
    if over == "link":
        source = torch.ones(COPY_BYTES, dtype=torch.uint8).pin_memory()
        moved = COPY_BYTES
    else:
        source = torch.ones(COPY_BYTES, dtype=torch.uint8, device="cuda" if CUDA else "cpu")
        moved = 2 * COPY_BYTES
    target = torch.ones(COPY_BYTES, dtype=torch.uint8, device="cuda" if CUDA else "cpu")
    seconds = []
    for _ in range(12):
        finish()
        start = time.perf_counter()
        target.copy_(source, non_blocking=True)
        finish()
        seconds.append(time.perf_counter() - start)
    return moved / statistics.median(seconds[2:])


@pytest.fixture
def measure(benchmark: Any, request: pytest.FixtureRequest) -> Callable[..., None]:
    """`measure(call, moved_bytes=..., over="link" or "memory")`: time a call, and hold it against the ceiling.

    moved_bytes: the fewest that the call can move there, reads and writes. The device's queue is waited for.
    """

    def measured(call: Callable[[], object], *, moved_bytes: int, over: str) -> None:
        def finished() -> None:
            call()
            finish()

        finished()  # compiles, allocates
        benchmark(finished)
        if benchmark.stats is None:  # --benchmark-disable
            return
        ceiling, reached = bandwidth(over), moved_bytes / benchmark.stats.stats.median
        benchmark.extra_info.update(
            device=torch.cuda.get_device_name() if CUDA else "cpu", over=over, moved_bytes=moved_bytes,
            ceiling_gb_s=ceiling / 1e9, reached_gb_s=reached / 1e9, fraction=reached / ceiling,
        )  # fmt: skip
        line = f"{reached / 1e9:9.2f} GB/s of {ceiling / 1e9:9.2f} over the {over:6} = {reached / ceiling:6.1%}  "
        request.config.stash.setdefault(_LINES, []).append(line + request.node.name)

    return measured


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash.get(_LINES, [])
    if lines:
        terminalreporter.section("reached, of the ceiling of one large copy")
        for line in lines:
            terminalreporter.write_line(line)

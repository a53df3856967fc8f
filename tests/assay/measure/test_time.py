from __future__ import annotations

import gc
import math
import platform
import statistics
import subprocess
import sys
import weakref
from collections import Counter
from time import perf_counter_ns

import pytest

from assay.errors import JobError
from assay.measure.time import order_of_round, race


def busy(steps: int) -> int:
    total = 0
    for step in range(steps):
        total += step
    return total


def steps_for(seconds: float) -> int:
    start = perf_counter_ns()
    busy(200_000)
    return max(1, int(200_000 * seconds / ((perf_counter_ns() - start) * 1e-9)))


def test_harness_adds_less_than_one_percent_to_a_timed_block():
    steps, inside = steps_for(0.02), []

    def contender():
        start = perf_counter_ns()
        busy(steps)
        inside.append((perf_counter_ns() - start) * 1e-9)

    samples = race({"busy": contender}, pairs=15, warmup=1)
    shares = [(s.seconds - own) / s.seconds for s, own in zip(samples, inside[1:], strict=True)]
    assert 0 <= statistics.median(shares) < 0.01


def test_an_empty_call_costs_a_fraction_of_a_short_one():
    samples = race({"empty": lambda: None, "short": lambda: busy(1000)}, pairs=1000)
    empty, short = (statistics.median(s.seconds for s in samples if s.name == name) for name in ("empty", "short"))
    assert empty < short / 4


def test_planted_ratio_is_recovered():
    """Calls of a fraction of a ms, many pairs: a busy machine interrupts some of them, and the median not."""
    samples = race({"slow": lambda: busy(6500), "fast": lambda: busy(5000)}, pairs=400)
    seconds = {(s.name, s.repeat): s.seconds for s in samples}
    ratio = statistics.median(math.log(seconds["slow", r] / seconds["fast", r]) for r in range(400))
    assert abs(ratio - math.log(1.3)) < 0.1


def test_two_contenders_run_abba():
    samples = race({"a": lambda: None, "b": lambda: None}, pairs=4)
    assert "".join(s.name for s in samples) == "abba" + "baab"
    assert [s.repeat for s in samples] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [s.order for s in samples] == [0, 1] * 4


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_every_contender_takes_every_place_equally_often(k):
    names = [str(i) for i in range(k)]
    rounds = [order_of_round(names, r) for r in range(2 * k)]
    assert Counter((name, place) for order in rounds for place, name in enumerate(order)) == {
        (name, place): 2 for name in names for place in range(k)
    }
    for even, odd in zip(rounds[::2], rounds[1::2], strict=True):
        assert {even.index(name) + odd.index(name) for name in names} == {k - 1}


def test_linear_drift_cancels_between_contenders():
    """A machine that slows down steadily must not favour the contender that is named first."""
    order = [name for r in range(30) for name in order_of_round(["a", "b", "c"], r)]
    mean_time = {n: statistics.mean(t for t, name in enumerate(order) if name == n) for n in "abc"}
    assert len(set(mean_time.values())) == 1


def test_warmup_is_run_and_not_reported():
    calls = Counter()
    samples = race({n: lambda n=n: calls.update(n) for n in "ab"}, pairs=5, warmup=2)
    assert calls == {"a": 7, "b": 7}
    assert len(samples) == 10


def test_collector_is_off_in_the_block_and_on_after_a_raise():
    seen = []

    def raises():
        seen.append(gc.isenabled())
        raise ZeroDivisionError("planted")

    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError) as caught:
        race({"bad": raises})
    assert seen == [False]
    assert gc.isenabled()
    assert "contender 'bad'" in caught.value.__notes__[0]


def test_garbage_of_before_is_collected_before_the_first_call():
    class Node:
        pass

    gc.disable()  # so that nothing else collects it
    try:
        node, seen = Node(), []
        node.itself, left = node, weakref.ref(node)
        del node
        race({"a": lambda: seen.append(left())}, pairs=1, warmup=0)
    finally:
        gc.enable()
    assert seen == [None]


def test_what_a_call_returns_is_freed_after_its_window(monkeypatch):
    events = []
    monkeypatch.setattr("assay.measure.time.perf_counter_ns", lambda: events.append("clock") or len(events))

    class Result:
        def __del__(self):
            events.append("freed")

    race({"a": Result}, pairs=2, warmup=0)
    assert events == ["clock", "clock", "freed"] * 2


FAULTS = """
import resource
from assay.measure.time import race
faults = []
def contender():
    parts = [bytearray(8 << 20) for _ in range(8)]
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
race({"a": contender}, pairs=5, warmup=2)
print((8 * 8 << 20) // resource.getpagesize(), faults[-1] - faults[1])
"""


@pytest.mark.skipif("glibc" not in platform.libc_ver(), reason="only glibc can be asked to keep its heap")
def test_memory_that_one_call_frees_is_not_faulted_in_again_by_the_next():
    out = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, timeout=240).stdout
    of_one_call, of_five = map(int, out.split())
    assert of_five < of_one_call / 2


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        race({"a": lambda: None}, pairs=1)
        assert not gc.isenabled()
    finally:
        gc.enable()


class StepMeter:
    """A meter whose windows must enclose exactly one call each."""

    joules, reason = 2.5, "a reason"

    def __init__(self):
        self.calls, self.windows = 0, []

    def start(self):
        self.calls = 0

    def stop(self):
        self.windows.append(self.calls)
        return self


def test_energy_window_holds_one_call():
    meter = StepMeter()

    def contender():
        meter.calls += 1

    samples = race({"a": contender}, pairs=4, warmup=2, energy=meter)
    assert meter.windows == [1, 1, 1, 1]
    assert [(s.joules, s.joules_reason) for s in samples] == [(2.5, "a reason")] * 4


@pytest.mark.parametrize("wrong", [{"pairs": 0}, {"warmup": -1}])
def test_empty_races_are_refused(wrong):
    with pytest.raises(JobError, match="nothing to time"):
        race({"a": lambda: None}, **wrong)
    with pytest.raises(JobError, match="0 contenders"):
        race({})


def test_a_cpu_race_imports_no_torch():
    code = "import sys; from assay.measure.time import race; race({'a': int}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=240).returncode == 0


def test_cuda_race_times_the_kernels():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    x = torch.ones(2048, 2048, device="cuda")
    samples = race({"one": lambda: x @ x, "four": lambda: x @ x @ x @ x @ x}, device="cuda")
    seconds = {(s.name, s.repeat): s.seconds for s in samples}
    assert 3 < statistics.median(seconds["four", r] / seconds["one", r] for r in range(30)) < 5

from __future__ import annotations

import gc
import math
import statistics
import subprocess
import sys
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


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        race({"a": lambda: None}, pairs=1)
        assert not gc.isenabled()
    finally:
        gc.enable()


class StepMeter:
    """A meter whose windows must enclose exactly one call each."""

    joules, reason = 2.5, None

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
    assert [s.joules for s in samples] == [2.5] * 4


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

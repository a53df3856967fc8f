"""Real noise: timing claims about a thing and itself, on the machine at hand.

The simulated error rates of `assay.calibrate` assume that fresh processes are independent. Whether they are is a
property of the machine, so `assay doctor --calibrate` asks it: 40 claims, each that one matrix product is faster than
the very same product. All of them are false; at the promised rate two of the 40 are decided all the same.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

from assay.card import Bound, Replicate, Test
from assay.locks import machine
from assay.measure.time import race
from assay.record import Result, Row
from assay.verdict import CONTRADICTED, REPRODUCED
from assay.verdict.decide import decide
from assay.verdict.stats import ALPHA

CLAIMS, PROCESSES, PAIRS = 40, 5, 30
TOLERATED = 7  # decisive verdicts; with a rate of 5 % more than 7 of 40 come by chance in 0.1 % of cases


def decisive_claims(advance: Callable[[], None] = lambda: None) -> int:
    """How many of the false claims were decided. Takes the machine alone for about half a minute."""
    rows: list[Row] = []
    context = multiprocessing.get_context("spawn")
    with machine(alone=True):
        for seed in range(PROCESSES):
            # a fresh process each: the process is the replicate
            with context.Pool(1) as pool:
                rows += pool.apply(_race_with_itself, (seed,))
            advance()
    return decided(rows)


def decided(rows: list[Row]) -> int:
    """How many of the claims these rows of all processes decide, either way."""
    result = Result("noise", "quick", {"gpu": None}, {}, {"noise": PROCESSES}, {}, [], rows)
    words = [decide(_claim(number), result, ALPHA).word for number in range(CLAIMS)]
    return sum(word in (REPRODUCED, CONTRADICTED) for word in words)


def _race_with_itself(seed: int) -> list[Row]:
    import torch

    torch.set_num_threads(1)
    rows = []
    for number in range(CLAIMS):
        x = torch.randn(64 + number, 64 + number)

        def product(x: torch.Tensor = x) -> torch.Tensor:
            return x @ x

        rows += [
            Row("noise", "time_s", s.seconds, s.name, {"number": number}, seed, repeat=s.repeat, unit="s")
            for s in race({"a": product, "b": product}, pairs=PAIRS, warmup=3)
        ]
    return rows


def _claim(number: int) -> Test:
    return Test(
        kind="effect", experiment="noise", metric="time_s", value="a / b", where={"number": number},
        replicate=Replicate(unit="process", n=PROCESSES, pairs=PAIRS), bar=Bound(op=">", threshold=1.0),
    )  # fmt: skip

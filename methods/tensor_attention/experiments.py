"""The experiments of tensor attention: what it costs, what bounded entries buy, and what triples are for."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.polynomial.polynomial import polyval
from torch import Tensor

from assay.contenders import spent
from assay.experiment import Run, experiment
from methods.tensor_attention.baselines import naive_attention
from methods.tensor_attention.contenders import CONTENDERS, EXACT, NETWORKS, Puzzle, train
from methods.tensor_attention.fast_attention import (
    DenominatorError,
    Polynomial,
    coefficients,
    degree_for,
    error_bound,
    fast_attention,
    fast_tensor_attention,
    largest_value,
    rank,
    relative_error,
)
from methods.tensor_attention.inputs import Inputs, balanced, gaussian, largest_bound, signs, uniform
from methods.tensor_attention.match import balanced_accuracy, match2_unit, match3_unit, match_labels
from methods.tensor_attention.tensor_attention import logit_bound, tensor_attention

POLYNOMIALS: dict[str, Polynomial] = {"fast": "chebyshev", "fast_taylor": "taylor"}
WIDTH = 4  # d, where it is not what varies
ERROR = 1e-3  # what an approximation may be off by
# what float64 may add, for values up to 1, to an error that is guaranteed in exact arithmetic: two units in the last
# place for each of the four sums whose two quotients are compared
ROUNDING = 8 * torch.finfo(torch.float64).eps


def deviation(approximation: Callable[[], Tensor], exact: Tensor) -> float:
    """The largest error of an element; infinite where the approximation has no positive denominators."""
    try:
        return float((approximation().double() - exact.double()).abs().max())
    except DenominatorError:
        return math.inf


def matrix_error(x: Inputs, degree: int, polynomial: Polynomial) -> float:
    """The largest relative error of an element of A = exp(logits), |P(x) / e^x - 1|, in the rows of 8 queries."""
    logits = (torch.einsum("id,jd,ld->ijl", x.q[:8], *x.keys) / WIDTH).numpy()
    c = coefficients(degree, logit_bound(x.q, x.keys, 1 / WIDTH), polynomial)
    return float(abs(polyval(logits, c) / np.exp(logits) - 1).max())


@experiment(
    standard=dict(replicates=5, pairs=30, degree=6, fast=[1024, 2048, 4096, 8192, 16384, 32768, 65536],
                  exact=[48, 96, 192, 384, 768]),
    gpu=dict(replicates=5, pairs=30, degree=6, fast=[16384, 65536, 262144, 1048576, 4194304],
             exact=[256, 512, 1024, 2048, 4096]),
    timed=True, timeout=1800,
)  # fmt: skip
def scaling(run: Run, pairs: int, degree: int, fast: list[int], exact: list[int]) -> None:
    """Time against n of the fast algorithm at a fixed degree, and of the exact one; B = 1."""
    run.value("rank", rank(WIDTH, degree))
    for n in fast:
        x = uniform(n, WIDTH, 1.0, run.seed, device=run.device)
        run.race({"fast": CONTENDERS["fast"].build(x, degree=degree)}, pairs=pairs, n=n)
    for n in exact:
        x = uniform(n, WIDTH, 1.0, run.seed, device=run.device)
        run.race({"exact": CONTENDERS["exact"].build(x)}, pairs=pairs, n=n)


CROSSOVER = dict(sizes={4: [16, 32, 64, 128, 256], 8: [16, 32, 64, 128, 256], 16: [32, 64, 128, 256, 512]})


@experiment(
    quick=dict(pairs=30, sizes={4: [16, 32, 64, 128]}),
    standard=dict(replicates=5, pairs=30, **CROSSOVER),
    gpu=dict(replicates=5, pairs=30, sizes={d: [64, 128, 256, 512, 1024, 2048] for d in (4, 8, 16)}),
    timed=True, timeout=1800,
)  # fmt: skip
def crossover(run: Run, pairs: int, sizes: dict[int, list[int]]) -> None:
    """Exact and fast in turn, in float32, the fast one with the degree that guarantees an error of 1e-3; B = 1."""
    for d, lengths in sizes.items():
        ratios = []
        for n in lengths:
            x = uniform(n, d, 1.0, run.seed, device=run.device)
            fast = CONTENDERS["fast"].build(x, error=ERROR)
            run.race({"exact": CONTENDERS["exact"].build(x), "fast": fast}, pairs=pairs, d=d, n=n)
            ratios.append(_median_ratio(run, d, n))
            exact = tensor_attention(*(y.double() for y in x.flat()))
            with run.method("fast", d=d, n=n) as m:
                m["error"] = deviation(fast, exact)
            degree = degree_for(ERROR, logit_bound(x.q, x.keys, 1 / d), largest_value(x.values))
            run.value("rank", rank(d, degree), d=d, n=n)
        run.value("crossover_n", _crossing(lengths, ratios), evidence="measured", d=d)


def _median_ratio(run: Run, d: int, n: int) -> float:
    """exact / fast of the race that was just run."""
    times: dict[str | None, list[float]] = {"exact": [], "fast": []}
    for row in run.rows:
        if row.metric == "time_s" and (row.setting["d"], row.setting["n"]) == (d, n) and row.value is not None:
            times[row.method].append(row.value)
    return statistics.median(a / b for a, b in zip(times["exact"], times["fast"], strict=True))


def _crossing(sizes: list[int], ratios: list[float]) -> float:
    """The n from which on the ratio stays above 1, between sizes by the line in log-log; the first size if always.

    NaN, which is stored as missing, where even the last ratio is not above 1.
    """
    if ratios[-1] <= 1:
        return math.nan
    below = [i for i, ratio in enumerate(ratios) if ratio <= 1]
    if not below:
        return sizes[0]
    i = below[-1]
    share = -math.log(ratios[i]) / math.log(ratios[i + 1] / ratios[i])
    return sizes[i] * (sizes[i + 1] / sizes[i]) ** share


@experiment(standard=CROSSOVER)
def crossover_memory(run: Run, sizes: dict[int, list[int]]) -> None:
    """Peak bytes beside inputs of the contenders of `crossover`."""
    for d, lengths in sizes.items():
        for n in lengths:
            x = uniform(n, d, 1.0, run.seed)
            run.memory("exact", CONTENDERS["exact"].build(x), d=d, n=n)
            run.memory("fast", CONTENDERS["fast"].build(x, error=ERROR), d=d, n=n)


@experiment(
    quick=dict(exact=[24, 48, 96, 192, 384], naive=[8, 16, 32, 64, 128], fast=[256, 512, 1024, 2048, 4096]),
    standard=dict(exact=[64, 128, 256, 512, 1024], naive=[16, 32, 64, 128, 256],
                  fast=[1024, 2048, 4096, 8192, 16384]),
)  # fmt: skip
def memory(run: Run, exact: list[int], naive: list[int], fast: list[int]) -> None:
    """Peak bytes beside inputs, of the forward pass and of forward and backward together (`step`)."""
    for name, sizes in {"exact": exact, "loop": exact, "naive": naive, "sdpa": naive}.items():
        for n in sizes:
            run.memory(name, CONTENDERS[name].build(uniform(n, WIDTH, 1.0, run.seed)), n=n, step="forward")
    for n in exact:
        run.memory("exact", partial(_step, uniform(n, WIDTH, 1.0, run.seed)), n=n, step="training")
    for n in fast:
        x = uniform(n, WIDTH, 1.0, run.seed)
        run.memory("fast", CONTENDERS["fast"].build(x, error=ERROR), n=n, step="forward")


def _step(x: Inputs) -> None:
    given = [y.requires_grad_() for y in x.flat()]
    tensor_attention(*given).sum().backward()


GRID = dict(n=96, bounds=[0.5, 1.0, 1.5, 2.0])


@experiment(
    quick=dict(replicates=3, **GRID, degrees=[2, 4, 6]),
    standard=dict(replicates=6, **GRID, degrees=[2, 4, 6, 8, 10]),
)
def error_grid(run: Run, n: int, bounds: list[float], degrees: list[int]) -> None:
    """Error against entry bound and degree, entries +-B and values +-1; `bound_used` is its share of guarantee (7).

    Beside it `matrix_error`, of the exponentials before they are summed: no average over pairs makes it look small.
    An error without positive denominators is stored as missing; it used nothing, as there is no guarantee.
    """
    for entry_bound in bounds:
        x = signs(n, WIDTH, entry_bound, run.seed)
        exact = tensor_attention(*x.flat())
        logits = logit_bound(x.q, x.keys, 1 / WIDTH)
        for degree in degrees:
            for name, polynomial in POLYNOMIALS.items():
                guarantee = error_bound(relative_error(degree, logits, polynomial), largest_value(x.values))
                error = deviation(CONTENDERS[name].build(x, degree=degree), exact)
                with run.method(name, entry_bound=entry_bound, degree=degree) as m:
                    m["error"] = error
                    m["matrix_error"] = matrix_error(x, degree, polynomial)
                    m["bound_used"] = error / (guarantee + ROUNDING) if guarantee < math.inf else 0.0
                    if guarantee < math.inf:
                        m["guarantee"] = guarantee


@experiment(
    quick=dict(replicates=3, n=64, bounds=[0.5, 1.0, 1.5, 2.0]),
    standard=dict(replicates=6, n=96, bounds=[0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]),
)
def rank_needed(run: Run, n: int, bounds: list[float]) -> None:
    """The smallest degree, and its rank, with an error below 1e-3 on entries +-B; and the degree that guarantees it."""
    for entry_bound in bounds:
        x = signs(n, WIDTH, entry_bound, run.seed)
        exact = tensor_attention(*x.flat())
        logits = logit_bound(x.q, x.keys, 1 / WIDTH)
        for name, polynomial in POLYNOMIALS.items():
            build = CONTENDERS[name].build
            enough = (g for g in range(40) if deviation(build(x, degree=g), exact) <= ERROR)
            with run.method(name, entry_bound=entry_bound) as m:
                m["degree"] = degree = next(enough)
                m["rank"] = rank(WIDTH, degree)
            certain = degree_for(ERROR, logits, largest_value(x.values), polynomial)
            with run.method("guarantee" if name == "fast" else "guarantee_taylor", entry_bound=entry_bound) as m:
                m.record("degree", certain, evidence="counted")
                m.record("rank", rank(WIDTH, certain), evidence="counted")


DEGREES = dict(degrees=[2, 4, 6, 8])


@experiment(quick=DEGREES, standard=DEGREES, gpu=DEGREES)
def crossing(run: Run, degrees: list[int]) -> None:
    """The entry bound at which the error passes 1e-3: predicted by guarantee (7), found on inputs that nearly attain
    it, and found on random signs."""
    random = signs(64, WIDTH, 1.0, run.seed)
    for degree in degrees:
        for name, polynomial in POLYNOMIALS.items():

            def error(x: Inputs, degree: int = degree, name: str = name) -> float:
                return deviation(CONTENDERS[name].build(x, degree=degree), tensor_attention(*x.flat()))

            def guarantee(b: float, degree: int = degree, polynomial: Polynomial = polynomial) -> float:
                return error_bound(relative_error(degree, b**3, polynomial), 1.0)

            found = {
                name: largest_bound(lambda b, error=error: error(balanced(WIDTH, b)) <= ERROR),
                f"{name}_random": largest_bound(lambda b, error=error: error(_scaled(random, b)) <= ERROR),
                "guarantee" if name == "fast" else "guarantee_taylor":
                    largest_bound(lambda b, guarantee=guarantee: guarantee(b) <= ERROR),
            }  # fmt: skip
            for method, entry_bound in found.items():
                with run.method(method, degree=degree) as m:
                    m["entry_bound_reached"] = entry_bound


def _scaled(x: Inputs, bound: float) -> Inputs:
    return Inputs(bound * x.q, tuple(bound * k for k in x.keys), x.values)


@experiment(
    quick=dict(replicates=3, degree=6, tuples=4096, queries=64),
    standard=dict(replicates=6, degree=6, tuples=4096, queries=64),
)
def order_tradeoff(run: Run, degree: int, tuples: int, queries: int) -> None:
    """The largest entry bound with an error of at most 1e-3, by order k, over (nearly) as many tuples of keys each.

    The values are the keys' signs: of values that know nothing of the logits the errors average out, the more the
    higher the order.
    """
    for order in (2, 3, 4):
        keys = round(tuples ** (1 / (order - 1)))
        q, some, _ = signs(queries, WIDTH, 1.0, run.seed, order=order, keys=keys)
        x = Inputs(q, some, some)

        def holds(bound: float, x: Inputs = x) -> bool:
            y = _scaled(x, bound)
            return deviation(partial(fast_attention, *y, degree=degree), naive_attention(*y)) <= ERROR

        with run.method("fast", order=order) as m:
            m["entry_bound_reached"] = reached = largest_bound(holds)
            m["logit_reached"] = reached**order


SIZES = dict(sizes=[(16, 5), (31, 16), (101, 6), (499, 10)], draws=200)


@experiment(quick=SIZES, standard=SIZES, gpu=SIZES)
def constructed(run: Run, sizes: list[tuple[int, int]], draws: int) -> None:
    """Tokens that the units built by hand get wrong, of all tokens of uniformly drawn sequences."""
    for modulus, n in sizes:
        tokens = torch.randint(modulus, (draws, n), generator=torch.Generator().manual_seed(run.seed)).to(run.device)
        for name, task, unit in (("exact", "match3", match3_unit), ("ordinary", "match2", match2_unit)):
            labels = match_labels(tokens, modulus, task)
            with run.method(name, task=task, modulus=modulus, n=n) as m:
                m.record("wrong", int(((unit(tokens, modulus) > 0.5) != labels).sum()), unit="tokens")
            run.value("positives", float(labels.float().mean()), evidence="measured", task=task, modulus=modulus, n=n)


@experiment(
    standard=dict(replicates=5, modulus=16, n=5, steps=600, batch=128, draws=4000),
    gpu=dict(replicates=5, modulus=64, n=8, steps=3000, batch=512, draws=20_000),
    timeout=3600,
)
def trained(run: Run, modulus: int, n: int, steps: int, batch: int, draws: int) -> None:
    """Balanced accuracy of one-layer networks with tensor and with ordinary attention, trained alike."""
    for task in ("match3", "match2"):
        for name, contender in NETWORKS.items():
            with run.method(name, task=task) as m:
                recipe = replace(contender.recipe, steps=steps, batch=batch)
                model, losses = train(name, Puzzle(task, modulus, n), recipe, run.device)
                accuracy = balanced_accuracy(model, task, modulus, n, draws)
                m.record("balanced_accuracy", 100 * accuracy, unit="%")
                spent(m, model, steps=steps)
                every = max(1, steps // 30)
                m.curve("loss", x=range(1, steps + 1, every), y=losses[::every], x_name="step", unit="nats")


@experiment(
    quick=dict(replicates=3, n=96, multiples=[1, 4, 16]),
    standard=dict(replicates=6, n=256, multiples=[1, 4, 16, 64]),
)
def estimates(run: Run, n: int, multiples: list[int]) -> None:
    """Error of softmaxes over some of the pairs, `terms` times as many as the fast algorithm has monomials; B = 1."""
    x = uniform(n, WIDTH, 1.0, run.seed, dtype=torch.float64)
    exact = tensor_attention(*x.flat())
    with run.method("fast", terms=1) as m:
        m["error"] = deviation(partial(fast_tensor_attention, *x.flat(), error=ERROR), exact)
    degree = degree_for(ERROR, logit_bound(x.q, x.keys, 1 / WIDTH), largest_value(x.values))
    for multiple in multiples:
        pairs = multiple * rank(WIDTH, degree)
        for name in ("sampled", "top_pairs"):
            with run.method(name, terms=multiple) as m:
                m["error"] = deviation(CONTENDERS[name].build(x, pairs=pairs), exact)


@experiment(standard=dict(replicates=6, n=96, degree=6, bounds=[0.5, 1.0, 1.5, 2.0]))
def distributions(run: Run, n: int, degree: int, bounds: list[float]) -> None:
    """Error against entry bound by what the entries are, all +-B or a Gaussian's clipped at B, for values +-1."""
    for entry_bound in bounds:
        for name, draw in (("signs", signs), ("gaussian", gaussian)):
            x = draw(n, WIDTH, entry_bound, run.seed)
            exact = tensor_attention(*x.flat())
            with run.method("fast", entry_bound=entry_bound, entries=name) as m:
                m["error"] = deviation(partial(fast_tensor_attention, *x.flat(), degree=degree), exact)
                m["matrix_error"] = matrix_error(x, degree, "chebyshev")


@experiment(standard=dict(replicates=6, n=96, degree=8, bounds=[0.5, 1.0, 1.5, 2.0, 2.5]))
def precision(run: Run, n: int, degree: int, bounds: list[float]) -> None:
    """Error of the fast algorithm in two number formats; missing where a denominator is not positive."""
    for entry_bound in bounds:
        x = signs(n, WIDTH, entry_bound, run.seed)
        exact = tensor_attention(*x.flat())
        for name, dtype in (("float32", torch.float32), ("float64", torch.float64)):
            given = [y.to(dtype) for y in x.flat()]
            with run.method("fast", entry_bound=entry_bound, dtype=name) as m:
                m["error"] = deviation(partial(fast_tensor_attention, *given, degree=degree), exact)


@experiment(
    gpu=dict(replicates=5, pairs=30, width=64, sizes={"exact": [256, 512, 1024, 2048, 4096],
                                                      "loop": [256, 512, 1024, 2048],
                                                      "sdpa": [256, 512, 1024, 2048], "naive": [256, 512, 1024]}),
    requires="gpu", timed=True, timeout=3600,
)  # fmt: skip
def kernel_time(run: Run, pairs: int, width: int, sizes: dict[str, list[int]]) -> None:
    """The Triton kernel beside other exact ways, forward, in bfloat16.

    The naive way stops at n = 1,024: its logits, and their softmax beside them, take 2 GiB each, and 16 GiB at 2,048.
    """
    for n in sizes["exact"]:
        x = uniform(n, width, 1.0, run.seed, dtype=torch.bfloat16, device=run.device)
        run.race({name: CONTENDERS[name].build(x) for name, own in sizes.items() if n in own}, pairs=pairs, n=n)


@experiment(gpu=dict(width=64, sizes=[256, 512, 1024]), requires="gpu")
def kernel_memory(run: Run, width: int, sizes: list[int]) -> None:
    """The allocator's peak of the same, and the kernel's error against float64, relative to the largest element."""
    for n in sizes:
        x = uniform(n, width, 1.0, run.seed, dtype=torch.bfloat16, device=run.device)
        for name in EXACT:
            run.memory(name, CONTENDERS[name].build(x), n=n)
        exact = tensor_attention(*(y.double() for y in x.flat()))
        with run.method("exact", n=n) as m:
            m["relative_error"] = deviation(CONTENDERS["exact"].build(x), exact) / float(exact.abs().max())

"""The experiments of DCDM: iterations, seconds, and how both grow with the grid.

Sizes are given as `scale`, the multiple of the training grid's side, where a network meets grids that it has not seen;
`digits` is the number of orders by which the residual has to fall. Networks see the empty box alone, never a test's
right-hand side. Where a metric is a mean over the three right-hand sides it is the geometric one.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse.linalg import spsolve

from assay.contenders import spent
from assay.experiment import MethodRows, Run, experiment
from methods.dcdm.baselines import incomplete_cholesky, multigrid
from methods.dcdm.contenders import CONTENDERS, System
from methods.dcdm.dcdm import Solution, dot
from methods.dcdm.network import DirectionNet
from methods.dcdm.workloads import CLASSICAL, DEFLATED, PATIENCE, Grid, Solve, Training, iterations_to, trained

SYSTEMS = ["box", "disc", "boxes", "ellipse", "bunny", "sealed"]
TIMED = ("cg", "jacobi_pcg", "deflated_pcg", "deflated_long", "ic_pcg", "amg_pcg")
DIGITS = (4, 6)
QUICK = dict(size=16, steps=200)
STANDARD = dict(size=32, steps=800)
SMALL_3D = dict(size=16, dim=3, steps=400, batch_size=8)
PAPER = dict(size=64, dim=3, channels=16, steps=5000, vectors=20_000, ritz=2000, lr=1e-3)
HAS_PYAMG = importlib.util.find_spec("pyamg") is not None


CPU_BOUND, MOST_CELLS = ("ic_pcg", "amg_pcg"), 4_000_000


def testable(run: Run, names: tuple[str, ...], cells: int) -> tuple[str, ...]:
    """The names without those that cannot be run on so many cells, or without pyamg; the rows say why."""
    left_out = set()
    if "amg_pcg" in names and not HAS_PYAMG:
        left_out.add("amg_pcg")
        run.untested("amg_pcg needs pyamg, which is not installed", cells=cells)
    if cells > MOST_CELLS:
        left_out.update(CPU_BOUND)
        run.untested(f"{' and '.join(CPU_BOUND)} run on the CPU, for minutes a solve on so many cells", cells=cells)
    return tuple(name for name in names if name not in left_out)


@experiment(
    quick=dict(replicates=3, training=QUICK),
    standard=dict(replicates=6, training=STANDARD),
    gpu=dict(replicates=3, training=PAPER),
    timeout=7200,
)
def training(run: Run, training: dict[str, Any]) -> None:
    """The loss on the way, and seconds that a network takes before it solves anything: vectors and training."""
    for name, line_search in (("dcdm", True), ("one_shot", False)):
        with run.method(name) as m:
            network, record = trained(run, Training(**training, line_search=line_search))
            spent(m, network, steps=len(record["losses"]))
            losses = np.array(record["losses"])
            m["loss"] = last_loss(record)
            for part in ("vectors_s", "train_s"):
                m.record(part, record[part], unit="s")
            parts = np.array_split(losses, 40)
            ends = np.cumsum([len(part) for part in parts])
            m.curve("loss", x=ends.tolist(), y=[float(part.mean()) for part in parts], x_name="step")


@experiment(
    quick=dict(replicates=3, training=QUICK, scales=[1], systems=["box", "disc", "bunny", "sealed"]),
    standard=dict(replicates=6, training=STANDARD, scales=[1, 2, 4], systems=SYSTEMS),
    gpu=dict(replicates=3, training=PAPER, scales=[1, 2, 4], systems=["box", "disc", "bunny"]),
    timeout=7200,
)
def iterations(run: Run, training: dict[str, Any], scales: list[int], systems: list[str]) -> None:
    """Iterations of every method on every system, and the share of solves in which a network misses the tolerance.

    Weights are those of the smallest grid throughout. Every solve is given 1,000 iterations, and a missed one counts as
    those.
    """
    network, _ = trained(run, Training(**training))
    fluid_net, _ = trained(run, Training(**training, line_search=False))
    dim = training.get("dim", 2)
    for scale in scales:
        names = testable(run, CLASSICAL, (scale * training["size"]) ** dim)
        missed: dict[str, list[Solution]] = {"dcdm": [], "one_shot": []}
        for name in systems:
            grid = Grid(name, scale * training["size"], dim, run.device)
            sides = grid.right_hand_sides(run.seed)
            nets = {"dcdm": network, "one_shot": fluid_net}
            for method in (*nets, *names):
                with run.method(method, scale=scale, system=name) as m:
                    found = [solved(method, System(grid, b, nets.get(method)), 1e-6) for b in sides.values()]
                    if method in missed:
                        missed[method] += found
                    if method != "one_shot":
                        counted(m, found)
                    if scale == scales[0] and name in ("box", "bunny") and run.seed == 0:
                        residual_curve(m, found[1])
        for method, found in missed.items():
            with run.method(method, scale=scale) as m:
                for digits in DIGITS:
                    share = np.mean([iterations_to(solution, digits) is None for solution in found])
                    m.record(f"missed_{digits}", float(share), unit="share")
                m["fallbacks"] = sum(solution.fallbacks for solution in found)


def solved(method: str, system: System, tol: float) -> Solution:
    return CONTENDERS[method].build(system, CONTENDERS[method].recipe)(b=system.grid.vector(system.b), tol=tol)


def counted(m: MethodRows, found: list[Solution], all_digits: tuple[int, ...] = DIGITS) -> None:
    """Rows `iterations_4` and `iterations_6`: geometric means over right-hand sides of iterations to 1e-4 and 1e-6."""
    for digits in all_digits:
        counts = [iterations_to(solution, digits) for solution in found]
        logs = [math.log(PATIENCE if k is None else max(1, k)) for k in counts]
        m.record(f"iterations_{digits}", math.exp(np.mean(logs)), unit="iterations")


def last_loss(record: dict[str, Any]) -> float:
    """The mean loss of the last twentieth of a training."""
    losses = record["losses"]
    return float(np.mean(losses[-max(1, len(losses) // 20) :]))


def residual_curve(m: MethodRows, solution: Solution) -> None:
    """Relative residual against iteration, at most 40 points."""
    chosen = np.unique(np.linspace(0, solution.iterations, 40).astype(int))
    m.curve("residual", x=chosen.tolist(), y=[solution.residuals[k] for k in chosen], x_name="iteration")


@experiment(
    quick=dict(replicates=3, training=QUICK, scales=[1], systems=["box", "disc", "bunny"]),
    standard=dict(replicates=6, training=STANDARD, scales=[1], systems=SYSTEMS),
    gpu=dict(replicates=3, training=PAPER, scales=[1], systems=["box", "disc", "bunny"]),
    timeout=7200,
)
def conjugation(run: Run, training: dict[str, Any], scales: list[int], systems: list[str]) -> None:
    """Iterations by the number of past directions that a new one is made conjugate to: none, two, all."""
    network, _ = trained(run, Training(**training))
    for scale in scales:
        for name in systems:
            grid = Grid(name, scale * training["size"], training.get("dim", 2), run.device)
            sides = grid.right_hand_sides(run.seed)
            for method in ("dcdm_s0", "dcdm", "dcdm_all"):
                with run.method(method, scale=scale, system=name) as m:
                    counted(m, [solved(method, System(grid, b, network), 1e-4) for b in sides.values()], (4,))


@experiment(
    quick=dict(replicates=3, training=QUICK, systems=["box", "bunny"]),
    standard=dict(replicates=6, training=STANDARD, systems=SYSTEMS),
)
def energy(run: Run, training: dict[str, Any], systems: list[str]) -> None:
    """`energy_ratio`: the largest e_k' A e_k / e_{k-1}' A e_{k-1} of an iteration, to a relative residual of 1e-6."""
    network, _ = trained(run, Training(**training))
    for name in systems:
        grid = Grid(name, training["size"], training.get("dim", 2))
        with run.method("dcdm", system=name) as m:
            m["energy_ratio"] = max(
                energy_ratio(grid, grid.dcdm(network), grid.vector(b)) for b in grid.right_hand_sides(run.seed).values()
            )


def energy_ratio(grid: Grid, method: Solve, b: np.ndarray) -> float:
    first = len(grid.poisson.sealed)  # where constants cost no energy, the pressure of the first cell may be 0
    exact = np.zeros_like(b)
    exact[first:] = spsolve(grid.matrix[first:, first:].tocsc(), b[first:])
    energies = [dot(exact, b)]

    def observe(x: np.ndarray) -> None:
        e = exact - x
        energies.append(dot(e, grid.matrix @ e))

    method(b=b, tol=1e-6, callback=observe)
    return float(np.max(np.divide(energies[1:], energies[:-1])))


@experiment(
    standard=dict(replicates=5, training=STANDARD, steps={16: 800, 32: 800, 64: 2500},
                  systems=["box", "disc", "bunny"]),
    gpu=dict(replicates=3, training=PAPER, steps={16: 5000, 32: 5000, 64: 5000}, systems=["box", "disc", "bunny"]),
    timeout=7200,
)  # fmt: skip
def retrained(run: Run, training: dict[str, Any], steps: dict[int, int], systems: list[str]) -> None:
    """Iterations on the grid that a network was trained on, a network for each size. steps: of training, by size."""
    dim = training.get("dim", 2)
    for size, enough in steps.items():
        network, record = trained(run, Training(**{**training, "size": size, "steps": enough}))
        for name in systems:
            grid = Grid(name, size, dim, run.device)
            sides = grid.right_hand_sides(run.seed)
            with run.method("dcdm", size=size, system=name) as m:
                counted(m, [solved("dcdm", System(grid, b, network), 1e-6) for b in sides.values()])
                m["loss"] = last_loss(record)
            with run.method("cg", size=size, system=name) as m:
                counted(m, [solved("cg", System(grid, b), 1e-6) for b in sides.values()])


@experiment(
    standard=dict(replicates=5, training=SMALL_3D, scales=[1, 2], systems=["box", "bunny"]),
    timeout=1800,
)
def three_dimensions(run: Run, training: dict[str, Any], scales: list[int], systems: list[str]) -> None:
    """As `iterations`, on small cubes: 8 of the paper's 16 channels, and a fraction of its training."""
    network, record = trained(run, Training(**training))
    for scale in scales:
        names = testable(run, CLASSICAL, (scale * training["size"]) ** 3)
        for name in systems:
            grid = Grid(name, scale * training["size"], 3)
            sides = grid.right_hand_sides(run.seed)
            with run.method("dcdm", scale=scale, system=name) as m:
                counted(m, [solved("dcdm", System(grid, b, network), 1e-6) for b in sides.values()])
                m["loss"] = last_loss(record)
                m.record("train_s", record["train_s"], unit="s")
            for method in names:
                with run.method(method, scale=scale, system=name) as m:
                    counted(m, [solved(method, System(grid, b), 1e-6) for b in sides.values()])


@experiment(
    standard=dict(replicates=5, training=STANDARD, pairs=30,
                  cases=[("box", 32, 4), ("box", 32, 6), ("box", 64, 4), ("box", 64, 6), ("bunny", 64, 4),
                         ("bunny", 64, 6), ("box", 128, 4)]),
    timed=True, timeout=1800,
)  # fmt: skip
def seconds(run: Run, training: dict[str, Any], cases: list[tuple[str, int, int]], pairs: int) -> None:
    """Seconds of one solve, set-up apart. The right-hand side is the three waves; weights are those of one grid."""
    network, _ = trained(run, Training(**training))
    for name, size, digits in cases:
        grid = Grid(name, size, training.get("dim", 2))
        race_solvers(run, network, grid, digits, pairs, size=size, system=name)


@experiment(
    standard=dict(replicates=5, training=SMALL_3D, cases=[("box", 16, 4), ("box", 32, 4), ("bunny", 32, 4)], pairs=10),
    timed=True, timeout=1800,
)  # fmt: skip
def seconds_three_dimensions(run: Run, training: dict[str, Any], cases: list[tuple[str, int, int]], pairs: int) -> None:
    """As `seconds`, on cubes."""
    seconds.function(run, training, cases, pairs)


@experiment(
    gpu=dict(replicates=5, training=PAPER, cases=[("box", 64, 4), ("bunny", 128, 4), ("bunny", 256, 4)], pairs=30),
    requires="gpu", timed=True, timeout=7200,
)  # fmt: skip
def seconds_gpu(run: Run, training: dict[str, Any], cases: list[tuple[str, int, int]], pairs: int) -> None:
    """As `seconds`, in three dimensions on a GPU, and the memory of a solve. IC(0) and multigrid are the CPU's."""
    network, _ = trained(run, Training(**training))
    for name, size, digits in cases:
        grid = Grid(name, size, 3, run.device)
        race_solvers(run, network, grid, digits, pairs, size=size, system=name)
        b = grid.right_hand_sides(run.seed)["modes"]
        for method, solver in (("dcdm", grid.dcdm(network)), ("cg", grid.classical("cg", b))):
            solve = partial(solver, b=grid.vector(b), tol=10.0**-digits)
            run.memory(method, solve, size=size, system=name, digits=digits)


def race_solvers(run: Run, network: DirectionNet, grid: Grid, digits: int, pairs: int, **setting: Any) -> None:
    b = grid.right_hand_sides(run.seed)["modes"]
    v, tol = grid.vector(b), 10.0**-digits
    names = ["dcdm", *testable(run, TIMED, b.numel())]
    if grid.on_cpu:
        names += ["scipy_cg", "sine_transform"] if setting["system"] == "box" else ["scipy_cg"]
    built = {name: CONTENDERS[name].build(System(grid, b, network), CONTENDERS[name].recipe) for name in names}
    contenders: dict[str, Callable[[], object]] = {
        name: partial(solver, b=v, tol=tol) for name, solver in built.items()
    }
    for name, solver in list(contenders.items()):
        found = solver()
        if isinstance(found, Solution):
            with run.method(name, digits=digits, **setting) as m:
                m.record("iterations", found.iterations, unit="iterations")
            if not found.converged:  # its time would be that of giving up
                run.untested(f"{name} misses 1e-{digits} in {found.iterations} iterations", **setting)
                del contenders[name]
    run.race(contenders, pairs=pairs, digits=digits, **setting)


@experiment(
    standard=dict(replicates=5, training=STANDARD, sizes=[32, 64, 128], pairs=30),
    timed=True, timeout=1800,
)  # fmt: skip
def parts(run: Run, training: dict[str, Any], sizes: list[int], pairs: int) -> None:
    """Seconds of what solvers are made of, on the box: one direction or product, and what each prepares for a new A."""
    network, _ = trained(run, Training(**training))
    for size in sizes:
        grid = Grid("box", size)
        b = grid.right_hand_sides(run.seed)["modes"]
        v, direction = grid.vector(b), grid.direction(network)
        applied: dict[str, Callable[[], object]] = {
            "dcdm": lambda direction=direction, v=v: direction(v),
            "cg": lambda A=grid.A, v=v: A @ v,
        }
        applied["ic_pcg"] = partial(incomplete_cholesky(grid.matrix, grid.poisson.wavefront()), v)
        prepared: dict[str, Callable[[], object]] = {
            "ic_pcg": partial(incomplete_cholesky, grid.matrix, grid.poisson.wavefront()),
            **{name: partial(grid.deflation, b, steps) for name, steps in DEFLATED.items()},
        }
        if testable(run, ("amg_pcg",), b.numel()):
            applied["amg_pcg"] = partial(multigrid(grid.matrix), v)
            prepared["amg_pcg"] = partial(multigrid, grid.matrix)
        run.race(applied, pairs=pairs, size=size, part="application")
        run.race(prepared, pairs=max(1, pairs // 3), size=size, part="setup")

"""What the rows say is what a direct computation gives: who is trained how, on what, and solves what with how much."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from assay.experiment import Run
from methods.dcdm import DirectionNet, NetworkDirection, loss, solve, train, training_vectors
from methods.dcdm.baselines import Deflation, cg, incomplete_cholesky, jacobi, one_shot, pcg, smooth_ritz_vectors
from methods.dcdm.dcdm import Solution
from methods.dcdm.poisson import RIGHT_HAND_SIDES, Poisson, right_hand_side, system
from methods.dcdm.workloads import Grid, Training, trained
from tests.methods.blindness import run_small

SEED = 3
TINY: dict[str, Any] = dict(size=8, steps=120, channels=8, vectors=100, ritz=60)


@pytest.fixture(scope="module")
def nets() -> dict[bool, DirectionNet]:
    """By whether the loss has a line search; trained by hand, as `test_training_is_adam_...` holds `train` to be."""
    found = {}
    for line_search in (True, False):
        torch.manual_seed(0)  # `run.cached` would seed; without a cache the caller does
        found[line_search] = trained(
            Run("iterations", "quick", SEED), replace(Training(**TINY), line_search=line_search)
        )[0]
    return found


def mean_iterations(found: list[Solution], digits: int) -> float:
    counts = [next((k for k, r in enumerate(s.residuals) if r <= 10.0**-digits), 1000) for s in found]
    return math.exp(np.mean([math.log(max(1, k)) for k in counts]))


def test_rows_are_the_geometric_means_of_solves_on_the_replicate_s_own_right_hand_sides(
    nets: dict[bool, DirectionNet], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("methods.dcdm.experiments.trained", lambda run, training: (nets[training.line_search], {}))
    A = system("bunny", 8)
    generator = torch.Generator().manual_seed(10_000 + SEED)
    sides = [right_hand_side(A, name, generator) for name in RIGHT_HAND_SIDES]
    matrix, vectors = A.csr(), [A.vector(b) for b in sides]

    def deflated(steps: int) -> list[Solution]:
        found = []
        for b, v in zip(sides, vectors, strict=True):
            Z = np.stack([A.vector(z) for z in smooth_ritz_vectors(A, b, steps)])
            found.append(Deflation(matrix, Z, jacobi(matrix)).solve(v, tol=1e-6))
        return found

    ic = incomplete_cholesky(matrix, A.wavefront())
    direction, alone = NetworkDirection(nets[True], A), NetworkDirection(nets[False], A)
    direct = {
        "dcdm": [solve(A, b, direction, tol=1e-6) for b in sides],
        "cg": [cg(matrix, v, tol=1e-6) for v in vectors],
        "jacobi_pcg": [pcg(matrix, v, jacobi(matrix), tol=1e-6) for v in vectors],
        "ic_pcg": [pcg(matrix, v, ic, tol=1e-6) for v in vectors],
        "deflated_pcg": deflated(16),
        "deflated_long": deflated(64),
    }
    run = run_small("dcdm", "iterations", seed=SEED, training=TINY, scales=[1], systems=["bunny"])
    rows = {(row.method, row.metric): row.value for row in run.rows}
    for digits in (4, 6):
        for name, found in direct.items():
            assert rows[name, f"iterations_{digits}"] == pytest.approx(mean_iterations(found, digits), rel=0.1), (
                name,
                digits,
            )
        assert rows["dcdm", f"missed_{digits}"] == 0
        missed = [one_shot(A, b, alone, tol=1e-6).residuals for b in sides]
        assert rows["one_shot", f"missed_{digits}"] == np.mean([min(r) > 10.0**-digits for r in missed])
    run = run_small("dcdm", "conjugation", seed=SEED, training=TINY, scales=[1], systems=["bunny"])
    rows = {row.method: row.value for row in run.rows if row.metric == "iterations_4"}
    for name, memory in (("dcdm_s0", 0), ("dcdm", 2), ("dcdm_all", None)):
        found = [solve(A, b, direction, tol=1e-4, memory=memory) for b in sides]
        assert rows[name] == pytest.approx(mean_iterations(found, 4), rel=0.1), name


def test_every_experiment_trains_and_tests_with_the_seed_and_the_size_of_its_replicate(
    nets: dict[bool, DirectionNet], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, Training]] = []
    sides: list[int] = []
    plain = Grid.right_hand_sides

    def recorded(run: Run, training: Training) -> tuple[DirectionNet, dict[str, Any]]:
        asked.append((run.seed, training))
        return nets[True], dict(losses=[4.0] * 95 + [1.0] * 5, train_s=1.0, vectors_s=1.0)

    monkeypatch.setattr("methods.dcdm.experiments.trained", recorded)
    monkeypatch.setattr(Grid, "right_hand_sides", lambda grid, seed: sides.append(seed) or plain(grid, seed))
    for name, parameters in {
        "iterations": dict(scales=[1], systems=["box"]), "conjugation": dict(scales=[1], systems=["box"]),
        "energy": dict(systems=["box"]), "retrained": dict(steps={8: 7, 12: 9}, systems=["box"]),
        "seconds": dict(cases=[("box", 8, 1)], pairs=1), "parts": dict(sizes=[8], pairs=1),
    }.items():  # fmt: skip
        asked.clear(), sides.clear()
        run = run_small("dcdm", name, seed=SEED, training=TINY, **parameters)
        assert {seed for seed, _ in asked} == {SEED} == set(sides), name
        wanted = {8: 7, 12: 9} if name == "retrained" else {8: 120}
        assert {training.size: training.steps for _, training in asked} == wanted, name
        assert [t.line_search for _, t in asked] == ([True, False] if name == "iterations" else [True] * len(wanted))
        losses = {row.value for row in run.rows if row.metric == "loss"}
        assert losses == ({1.0} if name == "retrained" else set())  # of the end of training, not of all of it


def test_the_vectors_of_a_training_are_drawn_with_the_seed_of_its_replicate(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    def drawn(A: Poisson, count: int, steps: int, generator: torch.Generator) -> torch.Tensor:
        seeds.append(generator.initial_seed())
        return training_vectors(A, count, steps, generator)

    monkeypatch.setattr("methods.dcdm.workloads.training_vectors", drawn)
    trained(Run("training", "quick", SEED), Training(size=4, steps=1, channels=2, vectors=4, ritz=4))
    assert seeds == [SEED]


def test_training_is_adam_along_a_cosine_with_cut_gradients_over_every_vector_in_turn() -> None:
    A, generator = system("box", 8).to(dtype=torch.float32), torch.Generator().manual_seed(0)
    vectors = training_vectors(system("box", 8), 10, 40, generator)
    torch.manual_seed(0)
    network, by_hand = DirectionNet(2, channels=2), DirectionNet(2, channels=2)
    with torch.no_grad():
        network.last.weight.mul_(1e-3)  # gradients of about 100, so that they are cut
    by_hand.load_state_dict(network.state_dict())
    losses = train(network, A, vectors, steps=6, batch_size=4, lr=0.1, generator=torch.Generator().manual_seed(5))
    optimizer, drawn, wanted = torch.optim.Adam(by_hand.parameters()), torch.Generator().manual_seed(5), []
    best, kept = math.inf, None
    for start in (0, 3):
        for i, batch in enumerate(torch.randperm(10, generator=drawn).split(4)):
            optimizer.param_groups[0]["lr"] = 0.1 * (1 + math.cos(math.pi * (start + i) / 6)) / 2
            optimizer.zero_grad()
            value = loss(A, vectors[batch], by_hand(vectors[batch]))
            value.backward()
            size = torch.cat([p.grad.flatten() for p in by_hand.parameters()]).norm()
            for p in by_hand.parameters():
                p.grad /= max(1.0, float(size) + 1e-6)
            optimizer.step()
            wanted.append(float(value.detach()))
        if np.mean(wanted[start:]) < best:
            best, kept = np.mean(wanted[start:]), [p.detach().clone() for p in by_hand.parameters()]
    assert losses == pytest.approx(wanted, rel=1e-4)
    for p, q in zip(network.parameters(), kept, strict=True):
        assert torch.allclose(p, q, rtol=1e-3, atol=1e-5)

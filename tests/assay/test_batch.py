"""A job may hold a batch of replicates: networks trained together give the rows that each gives alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from assay.errors import RecordError
from assay.experiment import Run, experiment
from tests.checkout import Checkout

NETWORKS = """
def trained(seeds, steps=30):
    \"\"\"A line of two weights for each seed, on data of its own, in one tensor: loss by step and seed.\"\"\"
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    x = torch.stack([torch.randn(16, 2, generator=g) for g in generators])
    y = torch.stack([torch.randn(16, generator=g) for g in generators])
    w = torch.stack([torch.randn(2, generator=g) for g in generators]).requires_grad_()
    optimizer, losses = torch.optim.Adam([w], lr=0.05), []
    for _ in range(steps):
        loss = (torch.einsum("bni,bi->bn", x, w) - y).square().mean(dim=1)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses

def measured(run):
    with LOG.open("a") as file:
        file.write(f"{run.experiment} {run.seeds}\\n")
    with run.method("good") as m:
        losses = trained(run.seeds)
        m["score"] = losses[-1]
        m.record("parameters", 2, evidence="counted")
        m.curve("loss", x=range(30), y=losses, x_name="step")

LOG = Path(__file__).with_name("log")

@experiment(quick=dict(replicates=5), batch=3)
def toy(run):
    measured(run)

@experiment(quick=dict(replicates=5))
def alone(run):
    measured(run)
"""


def test_the_row_of_a_seed_from_a_batch_is_the_row_of_that_seed_alone(checkout: Checkout) -> None:
    checkout.paper("toy", NETWORKS)
    done = checkout.assay("run")
    assert done.returncode == 0, done.stderr
    log = (checkout.root / "methods/toy/log").read_text().splitlines()
    assert sorted(line for line in log if line.startswith("toy")) == ["toy (0, 1, 2)", "toy (3, 4)"]
    assert sum(line.startswith("alone") for line in log) == 5
    result = json.loads((checkout.root / "results/quick/toy.json").read_text())
    for metric in ("score", "parameters", "wall_s"):
        seeds = [row["seed"] for row in result["rows"] if (row["experiment"], row["metric"]) == ("toy", metric)]
        assert seeds == [0, 1, 2, 3, 4], metric
    score = {
        name: [row["value"] for row in result["rows"] if (row["experiment"], row["metric"]) == (name, "score")]
        for name in ("toy", "alone")
    }
    assert score["toy"] == pytest.approx(score["alone"], abs=1e-6)
    assert len(set(score["toy"])) == 5
    curves = {(curve["experiment"], curve.get("seed", 0)): curve["y"] for curve in result["curves"]}
    for seed in range(5):
        assert curves["toy", seed] == pytest.approx(curves["alone", seed], abs=1e-6)
    jobs = [job for job in result["jobs"] if job["experiment"] == "toy"]
    assert [job["seed"] for job in jobs] == [0, 1, 2, 3, 4]
    assert len({job["fingerprint"] for job in jobs}) == 2
    assert checkout.assay("run").stdout.count("ran 0 of 7 jobs") == 1


def test_every_replicate_of_a_batch_that_failed_or_did_not_run_is_missing(checkout: Checkout) -> None:
    breaks = "    assert run.seed == 0, 'the second batch'\n    measured(run)"
    checkout.paper("toy", NETWORKS.replace("    measured(run)", breaks, 1))
    assert "toy #3-4: failed: AssertionError: the second batch" in checkout.assay("run").stderr
    result = json.loads((checkout.root / "results/quick/toy.json").read_text())
    status = {job["seed"]: job["status"] for job in result["jobs"] if job["experiment"] == "toy"}
    assert status == {0: "done", 1: "done", 2: "done", 3: "failed", 4: "failed"}
    for path in (checkout.root / ".assay/jobs").glob("*.json"):
        path.unlink()
    assert checkout.assay("run", "--experiment", "alone").returncode == 0
    result = json.loads((checkout.root / "results/quick/toy.json").read_text())
    status = {job["seed"]: job["status"] for job in result["jobs"] if job["experiment"] == "toy"}
    assert status == dict.fromkeys(range(5), "missing")


def test_values_that_are_not_one_for_each_replicate_are_refused() -> None:
    run = Run("toy", "quick", 4, seeds=(4, 5))
    with run.method("good") as m, pytest.raises(RecordError, match="has 3 values for the 2 replicates of this job"):
        m["score"] = [1.0, 2.0, 3.0]
    with run.method("good") as m, pytest.raises(RecordError, match="has 1 values for the 2 replicates"):
        m.curve("loss", x=[0], y=[[1.0]], x_name="step")


def test_a_run_of_another_seed_has_that_seed_alone() -> None:
    assert replace(Run("toy", "quick", 4), seed=0).seeds == (0,)


@pytest.mark.parametrize("options", [dict(batch=0), dict(batch=2.0), dict(batch=2, timed=True)])
def test_a_batch_is_a_whole_number_and_a_timed_replicate_is_a_process_of_its_own(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="batch is"):
        experiment(quick=dict(), **options)

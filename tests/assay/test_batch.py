"""A job may hold a batch of replicates: networks trained together give the rows that each gives alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from assay.card import load_card
from assay.errors import JobError, RecordError
from assay.experiment import Run, experiment
from assay.record import JobRecord, Row, ended_alike, load_result
from assay.verdict import REPRODUCED, judge
from assay.worker import Outcome
from tests.assay.claims import job
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


@experiment(batch=3, quick=dict(replicates=5, widths=[4, 8], steps=20))
def width_sweep(run: Run, widths: list[int], steps: int) -> None:
    """Networks of one hidden layer, all seeds in tensors `(seed, in, out)`, each on data of its own."""
    data = [(x := torch.randn(32, 6), (x[:, :1] * x[:, 1:2]).tanh()) for _ in run.each_seed()]
    x, y = torch.stack([x for x, _ in data]), torch.stack([y for _, y in data])
    for width in widths:
        with run.method("mlp", width=width) as m:
            drawn = [(torch.randn(6, width) / 6**0.5, torch.randn(width, 1) / width**0.5) for _ in run.each_seed()]
            first, last = (torch.stack(layer).requires_grad_() for layer in zip(*drawn, strict=True))
            losses = []
            for _ in range(steps):
                each = ((x @ first).relu() @ last - y).square().mean((1, 2))
                losses.append(each.detach())
                for layer, slope in zip((first, last), torch.autograd.grad(each.sum(), (first, last)), strict=True):
                    layer.data -= 0.1 * slope
            m["loss"] = losses[-1]
            m.curve("train_loss", x=range(steps), y=losses, x_name="step")
    run.value("mean_target", y.mean((1, 2)))


def rows_of(run: Run, seed: int) -> dict[str, Any]:
    rows = {f"{row.metric} {row.method} {row.setting}": row.value for row in run.rows
            if row.seed == seed and row.metric != "wall_s"}  # fmt: skip
    curves = {f"{curve.metric} {curve.setting}": curve.y for curve in run.curves if curve.seed == seed}
    return rows | curves


def run_of(*seeds: int) -> Run:
    run = Run("width_sweep", "quick", seeds[0], seeds=seeds, batched=True)
    width_sweep.function(run, **width_sweep.parameters("quick"))
    return run


def test_networks_that_are_drawn_seed_by_seed_train_together_as_alone() -> None:
    together = run_of(0, 1, 2, 3, 4)
    assert len({row.value for row in together.rows if row.metric == "loss"}) == 10
    for seed in range(5):
        alone, shared = rows_of(run_of(seed), seed), rows_of(together, seed)
        assert alone.keys() == shared.keys()
        assert len(alone) == 5
        for what, value in alone.items():
            assert shared[what] == pytest.approx(value, abs=1e-6), what


def test_every_seed_is_drawn_as_it_would_be_alone() -> None:
    def drawn(run: Run) -> list[float]:
        return [float(torch.rand(())) for _ in run.each_seed()]

    alone = [drawn(Run("e", "quick", seed)) for seed in (3, 5)]
    assert drawn(Run("e", "quick", 3, seeds=(3, 5))) == [value for (value,) in alone]
    assert alone[0] != alone[1]


def test_what_is_not_finite_is_missing_for_its_seed_alone() -> None:
    run = Run("e", "quick", 0, seeds=(0, 1, 2))
    with run.method("a") as m:
        m["loss"] = torch.tensor([1.0, math.nan, 3.0])
        m.record("epochs", [4, None, 6], reason="did not get there")
    loss, epochs = ([r for r in run.rows if r.metric == metric] for metric in ("loss", "epochs"))
    assert [(r.seed, r.value) for r in loss] == [(0, 1.0), (1, None), (2, 3.0)]
    assert (loss[1].reason, [r.value for r in epochs]) == ("not finite: nan", [4, None, 6])


REFUSED: dict[str, tuple[type[Exception], str, Callable[[Run, Any], None]]] = {
    "None without a reason": (RecordError, "None without a reason", lambda r, m: m.record("loss", [1, None, 2])),
    "a list for a seed": (RecordError, ": no number", lambda r, m: m.record("loss", [1, 2, [3]])),
    "memory": (JobError, "run.memory measures one replicate", lambda r, m: r.memory("a", list)),
    "ranks": (JobError, "run.ranks measures one replicate", lambda r, m: r.ranks(list, 2)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_batch_can_hold_is_refused_and_leaves_nothing(what: str) -> None:
    error, message, use = REFUSED[what]
    run = Run("e", "quick", 0, seeds=(0, 1, 2))
    with pytest.raises(error, match=message), run.method("a") as m:
        use(run, m)
    assert run.rows == []


def test_the_record_of_a_batch_is_one_of_each_seed() -> None:
    whole = Outcome(JobRecord("e", None, 0, "done", "f", 6.0), [], [], [], {})
    assert [(r.seed, r.status, r.duration_s) for r in whole.records((0, 1, 2))] == [(s, "done", 2.0) for s in (0, 1, 2)]
    ended = replace(whole.record, status="killed", reason="by SIGKILL")
    assert [r.status for r in replace(whole, record=ended).records((0, 1))] == ["killed", "killed"]
    some = replace(whole.record, status="missing", reason="no row of seed 1")
    found = replace(whole, record=some, rows=[Row("e", "m", 1.0, seed=0)]).records((0, 1))
    assert [(r.status, r.reason) for r in found] == [("done", None), ("missing", "no row of seed 1")]


def test_jobs_that_ended_alike_are_one_line() -> None:
    jobs = [*(job(seed, "failed", "why") for seed in (1, 2, 3)), job(4, "failed", "else"),
            *(job(seed, "missing", "not yet") for seed in (6, 8))]  # fmt: skip
    assert [(j.reason, seeds) for j, seeds in ended_alike(jobs)] == [
        ("why", "#1-3"),
        ("else", "#4"),
        ("not yet", "#6,8"),
    ]


def test_the_last_batch_may_hold_one_and_one_that_a_batch_leaves_out_is_incomplete(checkout: Checkout) -> None:
    checkout.paper("toy", """
@experiment(quick=dict(replicates=4), batch=3)
def toy(run):
    if len(run.seeds) == 3 and Path(__file__).with_name("half").exists():
        run.seeds = run.seeds[:2]
    for name, better in (("good", 1.0), ("bad", 0.1)):
        with run.method(name) as m:
            m["score"] = [better * (1 + 0.1 * float(torch.rand(()))) for _ in run.each_seed()]
""")  # fmt: skip
    half, path = checkout.root / "methods/toy/half", checkout.root / "results/quick/toy.json"
    card = load_card(checkout.root / "methods/toy/paper.yaml")
    half.touch()
    said = checkout.assay("run", "toy")
    assert said.stderr == "toy toy #0-2: missing: its batch left no row of #2\n"
    assert judge(card, "good-is-better", load_result(path), "quick").reason.startswith("incomplete: 1 of 4 jobs of toy")
    assert checkout.assay("check", "toy").stderr == "toy: toy #2: missing: its batch left no row of #2\n"
    half.unlink()
    assert "ran 1 of 2 jobs, 0 failed" in checkout.assay("run", "toy").stdout
    whole = load_result(path)
    assert [(j.seed, j.status) for j in whole.jobs] == [(seed, "done") for seed in range(4)]
    verdict = judge(card, "good-is-better", whole, "quick")
    assert (verdict.verdict, verdict.n) == (REPRODUCED, 4)

"""A claim that rests on a job or a setting without a record is not judged by what there happens to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assay import ROOT
from assay.card import load_card
from assay.record import Result, load_result, save_result
from assay.verdict import CONTRADICTED, REPRODUCED, UNTESTED, VerdictError, judge
from tests.assay.claims import job, judged, result_of, rows, versus

DIFFERENCE: dict[str, Any] = {"value": "a - b", "bar": ">= 1"}
FIVE = [2.0, 2.4, 1.7, 2.2, 1.9]
LOSSES = [-x for x in FIVE]


def run_on(*names: str, measured: tuple[str, ...] = ("x", "y")) -> Result:
    """Planned on x and y, five replicates each; `a` is better on x, and worse on y. Only `names` have run."""
    found = {"x": FIVE, "y": LOSSES}
    measurements = [row for name in measured for row in versus(found[name], dataset=name, s=1)]
    jobs = [job(seed, dataset=name) for name in names for seed in range(5)]
    return replace(result_of(measurements, jobs=jobs), parameters={"e": {"datasets": ["x", "y"]}})


@pytest.mark.parametrize("rule", ["all", "any", "mean", "1 of", "2 of", "80%"])
@pytest.mark.parametrize("names", [("x",), ("y",)])
def test_no_rule_over_data_sets_is_judged_on_some_of_them(rule: str, names: tuple[str, ...]) -> None:
    verdict = judged(run_on(*names, measured=names), **DIFFERENCE, over={"dataset": rule})
    other = "y" if names == ("x",) else "x"
    assert verdict.verdict == UNTESTED
    assert verdict.reason == (
        f"incomplete: 5 of 10 jobs of e left no record (5 of 5 on {other}); "
        "`assay run toy --profile standard` runs what is missing"
    )
    assert (verdict.estimate, verdict.interval) == (None, None)


def test_the_whole_run_is_judged() -> None:
    assert judged(run_on("x", "y"), **DIFFERENCE, over={"dataset": "all"}).verdict == CONTRADICTED
    assert judged(run_on("x", "y"), **DIFFERENCE, over={"dataset": "any"}).verdict == REPRODUCED


def test_a_data_set_without_a_rule_is_no_way_around() -> None:
    assert judged(run_on("x", measured=("x",)), **DIFFERENCE).reason.startswith("incomplete: 5 of 10")


def test_a_claim_about_one_data_set_rests_on_its_jobs_alone() -> None:
    some = run_on("x", measured=("x",))
    assert judged(some, **DIFFERENCE, where={"dataset": "x"}).verdict == REPRODUCED
    assert judged(some, value="a[dataset=x] - b[dataset=x]", bar=">= 1").verdict == REPRODUCED
    assert "(5 of 5 on y)" in judged(some, **DIFFERENCE, where={"dataset": "y"}).reason
    whole = run_on("x", "y")
    late = replace(whole, jobs=[j for j in whole.jobs if (j.dataset, j.seed) != ("x", 3)])
    assert "(1 of 5 on x)" in judged(late, **DIFFERENCE, where={"dataset": "x"}).reason
    assert judged(late, **DIFFERENCE, where={"dataset": "y"}).verdict == CONTRADICTED


@pytest.mark.parametrize("core", [True, False])
def test_a_part_that_rests_on_a_missing_job_leaves_the_whole_conjunction_untested(core: bool) -> None:
    on_x = {"value": "a - b", "bar": ">= 1", "where": {"dataset": "x"}, "core": True}
    lost = {"value": "b - a", "bar": ">= 1", "where": {"dataset": "x"}, "core": True}
    on_y = {"value": "b - a", "bar": ">= 1", "where": {"dataset": "y"}, "core": core}
    some = run_on("x", measured=("x",))
    for parts in ([on_x, on_y], [lost, on_y]):
        verdict = judged(some, all=parts)
        assert (verdict.verdict, verdict.parts) == (UNTESTED, [])
        assert verdict.reason.startswith("incomplete: 5 of 5 jobs")
    assert judged(run_on("x", "y"), all=[on_x, on_y]).verdict == REPRODUCED


def test_exact_claims_and_slopes_are_incomplete_as_well() -> None:
    counts = rows("a", [4], dataset="x", s=1) + rows("a", [8], dataset="x", s=2)
    jobs = [job(0, dataset="x")]
    some = replace(result_of(counts, n=1, jobs=jobs), parameters={"e": {"datasets": ["x", "y"]}})
    for claim in ({"value": "a", "bar": "> 0", "over": {"s": "all", "dataset": "all"}},
                  {"kind": "trend", "slope": "log a ~ log s", "bar": ">= 0", "over": {"dataset": "all"}}):  # fmt: skip
        assert judged(some, replicate="exact", **claim).reason.startswith("incomplete: 1 of 2 jobs")


def test_a_setting_that_one_data_set_lacks_is_no_whole_block() -> None:
    whole = run_on("x", "y")
    deeper = replace(whole, rows=[*whole.rows, *versus(FIVE, dataset="x", s=2)])
    with pytest.raises(VerdictError, match="y has no m at s=2, which other data sets have: a block must be complete"):
        judged(deeper, **DIFFERENCE, over={"dataset": "any", "s": "any"})
    assert judged(deeper, **DIFFERENCE, over={"dataset": "any"}, where={"s": 1}).verdict == REPRODUCED


def test_a_job_that_is_done_and_left_no_row_is_no_measurement() -> None:
    empty = run_on("x", "y", measured=("x",))
    with pytest.raises(VerdictError, match="replicate 0 on y has no row, though its job is done"):
        judged(empty, **DIFFERENCE, over={"dataset": "all"})


def test_a_result_lists_every_planned_job_before_and_after_the_file(tmp_path: Path) -> None:
    some = run_on("x", measured=("x",))
    assert [(j.dataset, j.seed) for j in some.jobs if j.status == "missing"] == [("y", seed) for seed in range(5)]
    save_result(some, tmp_path / "r.json")
    assert load_result(tmp_path / "r.json") == some
    nothing = result_of([], n=2, jobs=[])
    assert [(j.dataset, j.seed, j.status) for j in nothing.jobs] == [(None, 0, "missing"), (None, 1, "missing")]


COMMITTED = sorted((ROOT / "results").glob("*/*.json"))


@pytest.mark.parametrize("path", [path for path in COMMITTED if path.parent.name != "quick"], ids=lambda p: p.stem)
def test_every_committed_result_is_complete(path: Path) -> None:
    """Also those of schema 1, whose plan is read from the data sets and replicates that they name."""
    result = load_result(path)
    card = load_card(ROOT / "methods" / path.stem / "paper.yaml")
    for experiment, replicates in result.replicates.items():
        names = result.parameters[experiment].get("datasets", card.datasets.of(path.parent.name)) or [None]
        planned = {(name, seed) for name in names for seed in range(replicates)}
        assert planned == {(j.dataset, j.seed) for j in result.jobs if j.experiment == experiment}
    assert all(job.status == "done" for job in result.jobs)


@pytest.mark.parametrize("kept", range(1, 5))
def test_gnnpipes_volume_on_some_of_its_graphs_is_untested(kept: int, whole_gnnpipe: Result) -> None:
    """The claim is about every graph. Read on the first of them alone it would be reproduced."""
    names = whole_gnnpipe.parameters["traffic"]["datasets"]
    lost = names[kept:]

    def stays(experiment: str, dataset: Any) -> bool:
        return experiment != "traffic" or dataset not in lost

    cut = replace(
        whole_gnnpipe,
        jobs=[j for j in whole_gnnpipe.jobs if stays(j.experiment, j.dataset)],
        rows=[row for row in whole_gnnpipe.rows if stays(row.experiment, row.setting.get("dataset"))],
    )
    card = load_card(ROOT / "methods/gnnpipe/paper.yaml")
    verdict = judge(card, "comm-volume-everywhere", cut, "standard")
    assert verdict.verdict == UNTESTED
    assert verdict.reason.startswith(f"incomplete: {len(lost)} of {len(names)} jobs of traffic left no record")
    assert judge(card, "comm-volume-everywhere", whole_gnnpipe, "standard").verdict != UNTESTED


@pytest.fixture(scope="module")
def whole_gnnpipe() -> Result:
    return load_result(ROOT / "results/standard/gnnpipe.json")

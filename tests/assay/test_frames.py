"""Results as DataFrames, from the committed ones of this checkout."""

from __future__ import annotations

import pytest

import assay
from assay.errors import AssayError
from assay.record import load_result, result_path

pandas = pytest.importorskip("pandas")


def test_a_paper_is_a_table_with_a_column_for_each_knob() -> None:
    table = assay.load("dagnn", "standard")
    result = load_result(result_path(assay.ROOT, "standard", "dagnn"))
    assert len(table) == len(result.rows)
    assert {"dataset", "depth", "labels_per_class"} <= set(table.columns)
    mean = table[(table.experiment == "depth_sweep") & (table.metric == "accuracy")].groupby(["method", "depth"]).value
    here = [row.value for row in result.rows if row.experiment == "depth_sweep" and row.metric == "accuracy"
            and row.method == "gcn" and row.setting["depth"] == 16]  # fmt: skip
    assert mean.mean()["gcn", 16] == pytest.approx(sum(here) / len(here))


def test_verdicts_are_a_table_with_the_ends_of_the_intervals() -> None:
    table = assay.verdicts("standard", papers=["dagnn"]).set_index("claim")
    first = table.loc["dagnn-beats-gcn-cora"]
    assert first.verdict in ("reproduced", "direction only", "inconclusive", "contradicted")
    assert first.low < first.estimate < first.high
    assert set(table.of) == {"paper", "ours"}
    assert set(assay.verdicts(papers=["dagnn"]).profile) >= {"standard"}


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(AssayError, match="dagnn"):
        assay.load("dagn")
    with pytest.raises(AssayError, match="nothing was run in profile gpu"):
        assay.load("dagnn", "gpu")
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        assay.lod  # noqa: B018

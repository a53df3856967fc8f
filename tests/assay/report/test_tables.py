from __future__ import annotations

import statistics

import pytest
from scipy.stats import t as student

from assay.record import Row
from assay.report.tables import measurement_tables, setting_text, summarise


def rows(values: list[float], **fields: object) -> list[Row]:
    return [Row("e", "m", value, "a", seed=seed, **fields) for seed, value in enumerate(values)]


def test_a_cell_is_the_mean_and_the_sample_spread_over_replicates() -> None:
    summary = summarise(rows([1.0, 2.0, 4.0]))
    assert (summary.mean, summary.sd, summary.n) == (
        pytest.approx(7 / 3),
        pytest.approx(statistics.stdev([1, 2, 4])),
        3,
    )
    expected = student.ppf(0.975, 2) * statistics.stdev([1, 2, 4]) / 3**0.5
    assert summary.half_width == pytest.approx(expected)


def test_repeats_count_by_their_median_and_are_no_replicates() -> None:
    pairs = [Row("e", "m", value, "a", seed=0, repeat=i) for i, value in enumerate([1.0, 1.1, 50.0])]
    summary = summarise(pairs)
    assert (summary.mean, summary.n, summary.sd, summary.half_width) == (1.1, 1, None, None)


def test_settings_are_averaged_inside_a_replicate() -> None:
    found = [
        Row("e", "m", value, "a", {"data": data}, seed)
        for seed, data, value in [(0, "x", 1.0), (0, "y", 3.0), (1, "x", 5.0), (1, "y", 7.0)]
    ]
    assert (summarise(found).mean, summarise(found).n) == (4.0, 2)


def test_a_missing_value_is_counted_and_its_reason_kept() -> None:
    summary = summarise([*rows([1.0, 2.0]), Row("e", "m", None, "a", seed=2, reason="not finite: nan")])
    assert (summary.note, summary.reasons) == ("n 2, 1 missing", ("not finite: nan",))


def test_a_cell_of_missing_values_alone_has_no_mean() -> None:
    summary = summarise([Row("e", "m", None, "a", reason="no counter can be read")])
    assert (summary.mean, summary.n, summary.missing) == (None, 0, 1)


def test_methods_stand_in_the_order_of_the_card_and_settings_by_size() -> None:
    found = [
        Row("e", "m", 1.0, method, {"depth": depth, "dataset": "cora"})
        for depth in (32, 2, 8)
        for method in ("gcn", "dagnn")
    ]
    (table,) = measurement_tables(found, ["dagnn", "gcn"])
    assert table.columns == ["dagnn", "gcn"]
    assert [name for name, _ in table.lines] == ["depth 2", "depth 8", "depth 32"]
    assert table.fixed == "dataset cora"


def test_a_method_that_was_not_run_in_a_setting_leaves_its_cell_empty() -> None:
    found = [Row("e", "m", 1.0, "a", {"b": 1}), Row("e", "m", 2.0, "c", {"b": 4})]
    (table,) = measurement_tables(found, ["a", "c"])
    assert [[cell and cell.mean for cell in cells] for _, cells in table.lines] == [[1.0, None], [None, 2.0]]


def test_metrics_have_tables_of_their_own_and_diagnostics_none() -> None:
    found = [Row("e", "m", 1.0), Row("e", "bytes", 2, evidence="counted"), Row("e", "wall_s", 3.0)]
    assert [table.metric for table in measurement_tables(found, [])] == ["m", "bytes"]


def test_a_setting_reads_as_words() -> None:
    assert setting_text({"batch": 200, "bias": True, "model": "tgn"}) == "batch 200, bias yes, model tgn"


def test_a_replicate_that_gave_a_value_elsewhere_is_not_missing() -> None:
    found = [*rows([1.0, 2.0]), Row("e", "m", None, "a", {"depth": 2}, seed=1, reason="diverged")]
    assert (summarise(found).n, summarise(found).missing) == (2, 0)


def test_ranks_of_a_replicate_are_averaged_and_no_repeats_of_one_another() -> None:
    found = [Row("e", "m", value, "a", seed=0, rank=rank) for rank, value in enumerate([1.0, 1.0, 7.0])]
    assert summarise(found).mean == 3.0  # as repeats they would count by their median, 1


def test_a_knob_that_some_rows_do_not_have_is_not_said_of_all() -> None:
    found = [Row("e", "m", 1.0, "a", {"dataset": "cora", "width": 8}), Row("e", "m", 2.0, "b", {"dataset": "cora"})]
    (table,) = measurement_tables(found, ["a", "b"])
    assert (table.fixed, [name for name, _ in table.lines]) == ("dataset cora", ["", "width 8"])


def test_measured_and_simulated_values_never_share_a_table() -> None:
    found = [Row("e", "m", 1.0, "a", evidence=evidence) for evidence in ("measured", "simulated")]
    assert [table.evidence for table in measurement_tables(found, [])] == ["measured", "simulated"]

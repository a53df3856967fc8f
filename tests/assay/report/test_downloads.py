"""What a page offers to take along says what the page says."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from assay.record import Row
from assay.report.budgets import budgets
from assay.report.site import coded, write_site
from tests.assay.report.example import Example, result_of


@pytest.fixture(scope="module")
def site(example: Example, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("downloads")
    write_site(example.cards, example.results, example.verdicts, out)
    return out


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_every_page_links_files_that_lie_beside_it(site: Path) -> None:
    for page in site.rglob("*.html"):
        links = re.findall(r'href="([^"]+)" download', page.read_text(encoding="utf-8"))
        assert {Path(link).suffix for link in links} >= {".csv", ".json"}, page
        for link in links:
            assert "/" not in link
            assert (page.parent / link).is_file(), f"{page}: {link}"


def test_verdicts_as_csv_and_json_are_those_that_were_judged(site: Path, example: Example) -> None:
    ran = [v for v in example.verdicts if v.device is not None]
    whole = json.loads((site / "verdicts.json").read_text())
    assert [(v["paper"], v["claim"], v["profile"]) for v in whole] == [(v.paper, v.claim, v.profile) for v in ran]
    (line,) = [v for v in table(site / "papers" / "pres.csv")
               if (v["claim"], v["profile"]) == ("speedup-3p4", "standard")]  # fmt: skip
    (judged,) = [v for v in ran if (v.claim, v.profile) == ("speedup-3p4", "standard")]
    assert judged.interval is not None
    assert [float(line[name]) for name in ("estimate", "low", "high")] == [judged.estimate, *judged.interval]
    assert (line["reported_high"], line["reported_unit"], line["verdict"]) == ("3.4", "x", judged.verdict)
    assert {v["paper"] for v in table(site / "topics" / "dynamic-graphs.csv")} == {"pres"}
    on_data = table(site / "data" / "csbm.csv")
    assert {(v["paper"], v["profile"]) for v in on_data} == {("dagnn", "quick")}


def test_measurements_of_each_profile_are_a_table(site: Path, example: Example) -> None:
    result = example.results["dagnn", "quick"]
    lines = table(site / "papers" / "dagnn.quick.csv")
    assert len(lines) == len(result.rows)
    assert [line["value"] for line in lines] == ["" if r.value is None else str(r.value) for r in result.rows]
    assert (lines[-1]["depth"], lines[-1]["reason"]) == ("32", "not finite: nan")
    assert {path.name for path in (site / "papers").glob("pres.*.csv")} == {"pres.quick.csv", "pres.standard.csv"}


def test_a_figure_stands_alone_as_an_svg(site: Path) -> None:
    files = sorted((site / "papers").glob("pres.*.svg"))
    assert [file.name for file in files] == ["pres.fig0.svg", "pres.fig1.svg", "pres.fig2.svg"]
    for file in files:
        text = file.read_text(encoding="utf-8")
        root = ElementTree.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        style = (root.find("{*}style").text or "").replace(" ", "")  # type: ignore[union-attr]
        assert "var(" not in style
        used = {name for e in root.iter() for name in e.attrib.get("class", "").split()} - {"plot"}
        assert used
        assert all(f".{name}{{" in style for name in used)


def test_files_of_what_is_gone_go_too(example: Example, tmp_path: Path) -> None:
    write_site(example.cards, example.results, example.verdicts, tmp_path)
    only = [v for v in example.verdicts if v.paper == "dagnn"]
    write_site(
        {"dagnn": example.cards["dagnn"]}, {("dagnn", "quick"): example.results["dagnn", "quick"]}, only, tmp_path
    )
    assert not [path for path in tmp_path.rglob("*") if "pres" in path.name or "otc" in path.name]


def counted(method: str, seed: int = 0, depth: int = 2, **values: float) -> list[Row]:
    return [Row("e", metric, value, method, {"depth": depth}, seed) for metric, value in values.items()]


def test_a_budget_is_the_median_over_replicates_and_the_range_over_settings() -> None:
    rows = [
        *(row for seed, steps in enumerate((10, 30, 20)) for row in counted("a", seed, trials=2, steps=steps)),
        *counted("a", depth=8, trials=2, steps=50, parameters=1000, wall_s=1.25), *counted("b", steps=7),
        *[Row("other", "steps", 3, "a", {})],
    ]  # fmt: skip
    (budget,) = budgets(rows, ["b", "a"])
    assert budget.experiment == "e"
    assert budget.lines == [("b", ["—", "7", "—", "—"]), ("a", ["2", "20 to 50", "1000", "1.25"])]


def test_a_page_shows_what_each_contender_was_given(example: Example, tmp_path: Path) -> None:
    card = example.cards["dagnn"]
    rows = [*example.results["dagnn", "quick"].rows, *counted("dagnn", trials=3, steps=40, parameters=77)]
    write_site({"dagnn": card}, {("dagnn", "quick"): result_of(card, "quick", rows)}, [], tmp_path)
    page = (tmp_path / "papers" / "dagnn.html").read_text()
    assert 'id="given"' in page
    assert '<td role="cell" data-label="parameters">77</td>' in page


def test_code_in_a_text_is_code_and_the_rest_is_inert() -> None:
    assert coded("see `a<b` & c") == "see <code>a&lt;b</code> &amp; c"
    assert coded("a lone ` stays") == "a lone ` stays"

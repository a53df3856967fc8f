from __future__ import annotations

import base64
import dataclasses
import io
import itertools
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from assay import ROOT
from assay.card import Card, Claim, Figure, Reported, find_cards, load_card
from assay.errors import RecordError
from assay.experiment import Run
from assay.record import Artifact, Curve, Result, Row, load_result, result_path
from assay.report import looks
from assay.report.figures import MOST_POINTS, axis_label, draw, draw_all, draw_found, find, series_of
from assay.report.picture import mark_text
from assay.report.samples import MOST_POINTS as MOST_SCATTERED
from assay.report.samples import SIDE
from assay.report.svg import inline_svg, printable, short_label
from tests.assay.claims import with_tests

METHODS = ["plain", "pres", "pres_s"]


def result(rows: list[Row], curves: list[Curve] | None = None) -> Result:
    return Result("pres", "standard", {}, {}, {}, {}, [], rows, curves or [])


def sweep(metric: str = "ap", methods: list[str] = METHODS, batches: tuple[object, ...] = (50, 200, 800)) -> Result:
    return result([
        Row("sweep", metric, 75 - 2.0 * i - 0.1 * seed * (1 + j), method, {"batch": batch, "dataset": "otc"}, seed,
            unit="%")
        for i, batch in enumerate(batches)
        for j, method in enumerate(methods)
        for seed in range(3)
    ])  # fmt: skip


def figure(**fields: object) -> Figure:
    given = {"title": "AP by batch", "experiment": "sweep", "x": "batch", "y": "ap", **fields}
    return Figure(**{name: value for name, value in given.items() if value is not None})


def elements(svg: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter())


def bars_of(svg: str) -> list[ElementTree.Element]:
    """Bars of a colour, and those with a hatch, which are filled with a pattern."""
    clipped = [e for e in elements(svg) if e.tag == "path" and "clip-path" in e.attrib]
    return [e for e in clipped if "f-s" in e.attrib.get("class", "") or e.attrib.get("fill", "").startswith("url")]


def looks_in(svg: str, kind: str) -> tuple[set[object], set[object]]:
    """Every look of a series that is drawn: all of it, and what is left of it without colour."""
    found = {e.attrib["id"]: e for e in elements(svg) if "id" in e.attrib}
    if kind == "bars":
        whole = {bar.attrib.get("class") or pattern_of(found, bar.attrib["fill"]) for bar in bars_of(svg)}
        return whole, set()
    with_colour, without = set(), set()
    for group in (e for e in elements(svg) if e.tag == "g" and len(e) > 1 and e[0].tag == "path"):
        line, marker = group[0], group.find(".//use")
        if marker is not None and re.fullmatch(r"s-s\d", line.attrib.get("class", "")):
            shape = found[marker.attrib["href"][1:]].attrib["d"], line.attrib.get("stroke-dasharray")
            with_colour.add((line.attrib["class"], *shape))
            without.add(shape)
    return with_colour, without


def pattern_of(found: dict[str, ElementTree.Element], fill: str) -> tuple[str | None, ...]:
    pattern = found[fill.removeprefix("url(#").removesuffix(")")]
    return tuple(text for e in pattern.iter() for text in (e.attrib.get("class"), e.attrib.get("d")))


@pytest.mark.parametrize("kind", ["line", "bars"])
def test_twenty_series_are_told_apart_in_the_picture(kind: str) -> None:
    many = [f"m{i}" for i in range(20)]
    drawing = draw(figure(kind=kind), sweep(methods=many), many, "f")
    assert drawing is not None
    with_colour, without = looks_in(drawing.svg, kind)
    assert len(with_colour) == len(many)
    assert kind == "bars" or len(without) == len(many)


@pytest.mark.parametrize("slug", find_cards(ROOT))
def test_no_two_series_of_a_committed_result_look_alike(slug: str) -> None:
    card = load_card(find_cards(ROOT)[slug])
    paths = [path for profile in ("gpu", "standard") if (path := result_path(ROOT, profile, slug)).exists()]
    results = [load_result(path) for path in paths]
    found = [each for f in card.figures for r in results if (each := find(f, r)) is not None]
    series = series_of(found, list(card.methods))
    for each in found:
        names = [name for name in series[each.figure.by] if name in each.groups]
        keys = {tuple(looks.key(series[each.figure.by].index(name)).values()) for name in names}
        assert len(keys) == len(names), f"{slug}: two series of {each.figure.title!r} look alike"


@pytest.mark.parametrize("kind", ["line", "bars"])
@pytest.mark.parametrize("log", [False, True])
def test_a_drawing_carries_no_style_no_colour_and_only_known_elements(kind: str, log: bool) -> None:
    drawing = draw(figure(kind=kind, log_x=log, log_y=log), sweep(), METHODS, "fig0")
    assert drawing is not None
    assert not re.search(r"style|#0000|DOCTYPE|xmlns|font-family|<!--", drawing.svg)
    tags = {element.tag for element in elements(drawing.svg)}
    assert tags <= {"svg", "title", "desc", "defs", "g", "path", "use", "text", "clipPath", "rect", "pattern"}


def test_ids_of_two_drawings_never_meet_and_every_reference_is_met() -> None:
    texts = [str(draw(figure(), sweep(), METHODS, prefix).svg) for prefix in ("fig0", "fig1")]  # type: ignore[union-attr]
    ids = [re.findall(r'\bid="([^"]+)"', text) for text in texts]
    assert not set(ids[0]) & set(ids[1])
    for own, text in zip(ids, texts, strict=True):
        assert len(own) == len(set(own))
        assert set(re.findall(r'href="#([^"]+)"', text) + re.findall(r"url\(#([^)]+)\)", text)) <= set(own)


def test_drawing_twice_gives_the_same_bytes() -> None:
    assert draw(figure(), sweep(), METHODS, "f") == draw(figure(), sweep(), METHODS, "f")


def test_a_method_keeps_its_look_in_all_figures_of_a_paper() -> None:
    every, alone = (find(figure(title=t), sweep(methods=m)) for t, m in (("all", METHODS), ("one", ["pres"])))
    assert every is not None
    assert alone is not None
    series = series_of([every, alone], METHODS)
    together, single = (draw_found(found, series, "f") for found in (every, alone))
    assert single.lines[0].style == {line.name: line.style for line in together.lines}["pres"] == 1
    assert "s-s2" in single.svg
    assert "s-s1" not in single.svg


def test_any_two_looks_differ_in_more_than_colour() -> None:
    styles = range(32)
    assert len({(looks.marker_of(s), looks.dashes_of(s)) for s in styles}) == len(styles)
    assert len({(looks.colour_of(s), looks.hatch_of(s)) for s in styles}) == len(styles)
    assert len({tuple(looks.key(s).values()) for s in styles}) == len(styles)
    assert all(looks.marker_of(s) != looks.marker_of(s + looks.COLOURS) for s in styles)


def test_numbers_of_the_table_are_the_means_of_the_picture() -> None:
    drawing = draw(figure(where={"dataset": "otc"}), sweep(), METHODS, "f")
    assert drawing is not None
    (first, cells) = drawing.tables[0].lines[0]
    assert (first, drawing.y_label) == ("50", "ap (%)")
    assert [cell and round(cell.mean or 0, 6) for cell in cells] == [74.9, 74.8, 74.7]


def test_a_log_axis_names_the_sizes_that_were_run() -> None:
    drawing = draw(figure(log_x=True), sweep(), METHODS, "f")
    assert drawing is not None
    texts = [element.text for element in elements(drawing.svg) if element.tag == "text"]
    assert texts[:3] == ["50", "200", "800"]


def test_a_log_axis_is_not_asked_to_show_zero_or_less() -> None:
    found = result(
        [Row("sweep", "ap", value, "plain", {"batch": batch}) for batch, value in ((0, 1.0), (2, -1.0), (4, 3.0))]
    )
    drawing = draw(figure(log_x=True, log_y=True), found, METHODS, "f")
    assert drawing is not None
    assert "nan" not in drawing.svg
    assert [name for name, _ in drawing.tables[0].lines] == ["0", "2", "4"]


def test_whole_numbers_on_an_axis_stay_whole() -> None:
    for batches in ((1,), (1, 2, 3)):
        drawing = draw(figure(), sweep(batches=batches), METHODS, "f")
        assert drawing is not None
        texts = [element.text for element in elements(drawing.svg) if element.tag == "text"]
        assert texts[: len(batches) + 1] == [*map(str, batches), "batch"]


def test_words_on_the_x_axis_stand_side_by_side() -> None:
    drawing = draw(figure(), sweep(batches=("small", "large")), METHODS, "f")
    assert drawing is not None
    assert {"small", "large"} <= {element.text for element in elements(drawing.svg)}


def test_bars_with_nothing_beside_them_are_wide_and_stand_over_their_names() -> None:
    drawing = draw(figure(x="method", kind="bars"), sweep(batches=(100,)), METHODS, "f")
    assert drawing is not None
    bars = bars_of(drawing.svg)
    spans = []
    for bar in bars:
        xs = [float(x) for x, _ in re.findall(r"([\d.]+) ([\d.]+)", bar.attrib["d"])]
        spans.append((min(xs), max(xs)))
    centres = [(low + high) / 2 for low, high in spans]
    spacing = centres[1] - centres[0]
    assert [b - a for a, b in itertools.pairwise(centres)] == pytest.approx([spacing] * (len(METHODS) - 1), abs=0.1)
    assert all(high - low > 0.6 * spacing for low, high in spans)


def test_a_dollar_or_a_tag_in_a_label_stays_text() -> None:
    drawing = draw(figure(x_label="cost $x_1$ <b> & \x07", y_label="</svg><script>"), sweep(), METHODS, "f")
    assert drawing is not None
    texts = [element.text for element in elements(drawing.svg)]
    assert "cost $x_1$ <b> & \N{REPLACEMENT CHARACTER}" in texts
    assert "<script" not in drawing.svg


def test_a_curve_is_thinned_and_keeps_its_ends() -> None:
    curve = Curve(
        "sweep", "loss", "epoch", [float(e) for e in range(1000)], [1.0 / (e + 1) for e in range(1000)], "plain"
    )
    drawing = draw(figure(x="epoch", y="loss"), result([], [curve]), METHODS, "f")
    assert drawing is not None
    xs = [x for x, _ in drawing.lines[0].points]
    assert len(xs) == MOST_POINTS
    assert (xs[0], xs[-1]) == (0.0, 999.0)


def test_missing_values_are_told_and_not_drawn_as_something() -> None:
    rows = [*sweep().rows, Row("sweep", "ap", None, "plain", {"batch": 3200}, reason="diverged")]
    drawing = draw(figure(), result(rows), METHODS, "f")
    assert drawing is not None
    assert drawing.notes == ["1 missing value is not drawn; the table says where."]


def test_knobs_that_are_averaged_are_named() -> None:
    drawing = draw(figure(by="dataset"), sweep(), METHODS, "f")
    assert drawing is not None
    assert drawing.averaged == ["method"]
    assert draw(figure(), sweep(), METHODS, "f").averaged == []  # type: ignore[union-attr]


def test_lines_of_a_knob_are_named_by_it_and_without_it_there_is_one() -> None:
    names = {
        by: [line.name for line in draw(figure(by=by), sweep(), METHODS, "f").lines] for by in ("dataset", "width")
    }  # type: ignore[union-attr]
    assert names == {"dataset": ["dataset otc"], "width": ["all"]}


def test_a_figure_without_measurements_is_not_drawn() -> None:
    assert draw(figure(y="nothing"), sweep(), METHODS, "f") is None
    assert draw(figure(where={"dataset": "other"}), sweep(), METHODS, "f") is None


def scattered(points: dict[str, np.ndarray], name: str = "points") -> Result:
    run = Run("sweep", "standard", seed=0)
    for method, array in points.items():
        run.artifact("samples", {name: array}, method=method, depth=2)
    return dataclasses.replace(result([]), artifacts=run.artifacts)


def test_a_scatter_has_a_panel_for_each_method_and_the_same_axes_everywhere() -> None:
    points = {"pres": np.array([[0.0, 1.0], [2.0, 3.0]]), "plain": np.full((2 * MOST_SCATTERED, 2), 0.5)}
    drawing = draw(figure(kind="scatter", x=None, y="samples", where={"depth": 2}), scattered(points), METHODS, "f")
    assert drawing is not None
    texts = [element.text for element in elements(drawing.svg) if element.tag == "text"]
    assert [text for text in texts if text in METHODS] == ["plain", "pres"]
    ticks = [text for text in texts if text not in METHODS]
    assert ticks == ticks[: len(ticks) // 2] * 2
    drawn = sum(element.tag == "use" and element.attrib.get("class") == "f-s1" for element in elements(drawing.svg))
    assert drawn == MOST_SCATTERED + 2
    assert drawing.notes[0].startswith(f"At most {MOST_SCATTERED} points")
    elsewhere = figure(kind="scatter", x=None, y="samples", where={"depth": 3})
    assert draw(elsewhere, scattered(points), METHODS, "f") is None


@pytest.mark.parametrize(
    ("name", "array"), [("xy", np.zeros((3, 2))), ("points", np.zeros((3, 3))), ("points", np.full((3, 2), np.nan))]
)
def test_a_scatter_of_something_else_is_refused(name: str, array: np.ndarray) -> None:
    with pytest.raises(RecordError, match=r"kind scatter draws its array `points`, finite and of shape \(n, 2\)"):
        draw(figure(kind="scatter", x=None, y="samples"), scattered({"pres": array}, name), METHODS, "f")


def test_images_are_tiled_and_embedded_as_they_are() -> None:
    drawn = np.linspace(-1, 1, 3 * 4 * 5).reshape(3, 4, 5)
    run = Run("sweep", "standard", seed=0)
    run.artifact("samples", {"images": np.tile(drawn, (30, 1, 1))}, method="pres")
    run.artifact("samples", {"images": drawn[:1]}, method="plain")
    of = figure(kind="images", x=None, y="samples")
    drawing = draw(of, dataclasses.replace(result([]), artifacts=run.artifacts), METHODS, "f")
    assert drawing is not None
    images = [element for element in elements(drawing.svg) if element.tag == "image"]
    png = [Image.open(io.BytesIO(base64.b64decode(e.attrib["href"].partition(",")[2]))) for e in images]
    assert [picture.size for picture in png] == [(SIDE * 6 - 1, 4), (SIDE * 6 - 1, SIDE * 5 - 1)]
    plain, pres = (np.asarray(picture.convert("L")) for picture in png)
    wanted = np.round((drawn + 1) / 2 * 255)
    assert np.abs(plain[:4, :5] - wanted[0]).max() <= 1
    assert np.abs(pres[-4:, -5:] - wanted[(SIDE**2 - 1) % 3]).max() <= 1
    assert not plain[:, 6:].any()
    with pytest.raises(RecordError, match=r"kind images draws its array `images`, finite and of shape \(n, height"):
        draw(of, scattered({"pres": np.zeros((3, 2))}, "images"), METHODS, "f")


def test_a_scatter_has_no_x_and_every_other_figure_has_one() -> None:
    with pytest.raises(ValidationError, match="kind scatter draws the artifact y as it is"):
        figure(kind="scatter", x="batch")
    with pytest.raises(ValidationError, match="a figure of kind bars needs x"):
        figure(kind="bars", x=None)


def test_a_picture_is_named_for_those_who_do_not_see_it() -> None:
    drawing = draw(figure(), sweep(), METHODS, "f")
    assert drawing is not None
    root = elements(drawing.svg)[0]
    names = {element.attrib.get("id"): element.text for element in root}
    assert [names[name] for name in root.attrib["aria-labelledby"].split()] == [
        "AP by batch",
        "ap (%) against batch for plain, pres, pres_s. The numbers follow as a table.",
    ]


def test_printable_keeps_every_letter_of_every_language() -> None:
    assert printable("Größe μ 大小 \ud800") == "Größe μ 大小 \N{REPLACEMENT CHARACTER}"


def test_a_curve_over_another_axis_or_of_another_experiment_is_not_drawn() -> None:
    curves = [Curve("sweep", "loss", "epoch", [1.0, 2.0], [3.0, 2.0], "plain"),
              Curve("sweep", "loss", "seconds", [10.0, 20.0], [9.0, 8.0], "plain"),
              Curve("other", "loss", "epoch", [5.0, 6.0], [9.0, 8.0], "plain")]  # fmt: skip
    drawing = draw(figure(x="epoch", y="loss"), result([], curves), METHODS, "f")
    assert drawing is not None
    assert [x for x, _ in drawing.lines[0].points] == [1.0, 2.0]


def test_measurements_of_another_experiment_are_not_drawn() -> None:
    rows = [*sweep().rows, Row("other", "ap", 1.0, "plain", {"batch": 5, "dataset": "otc"}, unit="%")]
    drawing = draw(figure(), result(rows), METHODS, "f")
    assert drawing is not None
    assert [x for x, _ in drawing.lines[0].points] == [50, 200, 800]


def test_a_band_reaches_as_far_up_as_down() -> None:
    rows = [Row("sweep", "ap", 50.0 + offset, "plain", {"batch": batch}, seed)
            for batch in (1, 2) for seed, offset in enumerate((-1.0, 0.0, 1.0))]  # fmt: skip
    drawing = draw(figure(), result(rows), METHODS, "f")
    assert drawing is not None
    found = elements(drawing.svg)
    (band,) = [e for e in found if e.tag == "use" and "fill-opacity" in e.attrib]
    (shape,) = [e.attrib["d"] for e in found if e.attrib.get("id") == band.attrib["href"][1:]]
    heights = [float(y) + float(band.attrib["y"]) for _, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", shape)]
    (line,) = [e.attrib["d"] for e in found if e.attrib.get("class") == "s-s1"]
    middle = float(line.split()[2])
    assert min(heights) < middle < max(heights)
    assert middle - min(heights) == pytest.approx(max(heights) - middle, abs=0.05)


def test_samples_are_those_of_the_first_replicate() -> None:
    artifacts = [dataclasses.replace(scattered({"pres": np.zeros((n, 2)) + n}).artifacts[0], seed=seed)
                 for seed, n in ((0, 3), (1, 5))]  # fmt: skip
    of = figure(kind="scatter", x=None, y="samples")
    drawing = draw(of, dataclasses.replace(result([]), artifacts=artifacts), METHODS, "f")
    assert drawing is not None
    assert sum(element.tag == "use" and element.attrib.get("class") == "f-s1" for element in elements(drawing.svg)) == 3


@pytest.mark.parametrize("content", ["UEsFBgAA", "AAAA", "", "not base64!", "k05VTVBZ"])
def test_a_damaged_artifact_is_named(content: str) -> None:
    damaged = dataclasses.replace(result([]), artifacts=[Artifact("sweep", "samples", content, "pres", {}, 0)])
    with pytest.raises(RecordError, match=r"artifact 'samples' of sweep"):
        draw(figure(kind="scatter", x=None, y="samples"), damaged, METHODS, "f")


def test_a_label_that_is_cut_says_so_and_titles_hold_no_control_characters() -> None:
    assert (short_label("abcdef", 6), short_label("abcdefg", 6)) == ("abcdef", "abcde…")
    empty = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><path d="M0.123456 1.999999" /></svg>'
    drawn = inline_svg(empty, "f", "a\x07b", "c\x1bd")
    assert [e.text for e in elements(drawn)[1:3]] == ["a\N{REPLACEMENT CHARACTER}b", "c\N{REPLACEMENT CHARACTER}d"]
    assert 'd="M0.12 2"' in drawn


def means(values: dict[object, float | None], unit: str = "", seeds: tuple[float, ...] = (0.0,)) -> Result:
    return result([Row("sweep", "ap", None if v is None else v + seed, "plain", {"batch": x}, i, unit=unit,
                       reason="failed" if v is None else None)
                   for x, v in values.items() for i, seed in enumerate(seeds)])  # fmt: skip


def drawn_lines(svg: str) -> list[ElementTree.Element]:
    return [e for e in elements(svg) if e.tag == "path" and e.attrib.get("class") == "s-s1"]


def test_a_line_breaks_where_a_value_is_missing() -> None:
    whole, broken = (
        draw(figure(), means({1: 1.0, 2: middle, 3: 1.0, 4: 2.0, 5: 1.0}), METHODS, "f") for middle in (2.0, None)
    )
    assert whole is not None
    assert broken is not None
    points = [len(re.findall("[ML]", line.attrib["d"])) for line in drawn_lines(broken.svg)]
    assert (len(drawn_lines(whole.svg)), points) == (1, [1, 3])


def test_where_a_series_was_not_run_only_a_hairline_passes_and_a_note_says_so() -> None:
    rows = [*sweep(methods=["pres"]).rows, *means({50: 70.0, 800: 71.0}).rows]
    drawing = draw(figure(), result(rows), METHODS, "f")
    assert drawing is not None
    widths = [float(line.attrib["stroke-width"]) for line in drawn_lines(drawing.svg)]
    assert sorted(widths)[0] < 1 < sorted(widths)[-1]
    assert drawing.notes == ["A hairline spans values at which a series was not run."]
    runs = [line.attrib["d"] for line in drawn_lines(drawing.svg) if float(line.attrib["stroke-width"]) > 1]
    assert [len(re.findall("[ML]", run)) for run in runs] == [1, 1]


def test_missing_values_of_a_long_curve_break_it_though_it_is_thinned() -> None:
    values: list[float | None] = [1.0] * 1000
    values[487] = None
    curve = Curve("sweep", "loss", "epoch", [float(e) for e in range(1000)], values, "plain")
    drawing = draw(figure(x="epoch", y="loss"), result([], [curve]), METHODS, "f")
    assert drawing is not None
    assert len(drawn_lines(drawing.svg)) == 2


@pytest.mark.parametrize(
    ("unit", "value", "ends"), [("s", 0.1, 0), ("B", 1.0, 0), ("%", 99.0, 100), ("points", 0.1, None)]
)
@pytest.mark.parametrize("kind", ["line", "bars"])
def test_no_interval_below_zero_seconds_or_above_a_hundred_percent(
    kind: str, unit: str, value: float, ends: int | None
) -> None:
    wide = means({1: value, 2: value}, unit, (-0.9, 0.0, 0.9))
    drawing = draw(figure(kind=kind, y_label="y"), wide, METHODS, "f")
    assert drawing is not None
    svg = elements(drawing.svg)
    texts = [float((e.text or "").replace("\N{MINUS SIGN}", "-")) for e in svg
             if e.tag == "text" and re.fullmatch("[\N{MINUS SIGN}0-9.]+", e.text or "")]  # fmt: skip
    if ends is None:
        assert min(texts) < 0
    else:
        assert min(texts) >= 0
        assert max(texts) <= 100


def test_bytes_are_in_one_unit_an_axis_and_so_is_the_table() -> None:
    drawing = draw(figure(y_label="peak (bytes)"), means({1: 2.5e6, 2: 500.0}, "B"), METHODS, "f")
    assert drawing is not None
    assert drawing.y_label == "peak (MB)"
    assert [cells[0].mean for _, cells in drawing.tables[0].lines if cells[0]] == [2.5, 0.0005]
    along = figure(x="tensor_bytes", x_label="bytes of the tensor")
    rows = [Row("sweep", "ap", 1.0, "plain", {"tensor_bytes": 4000 * i}) for i in (1, 2)]
    drawing = draw(along, result(rows), METHODS, "f")
    assert drawing is not None
    assert drawing.x_label == "kB of the tensor"
    assert [name for name, _ in drawing.tables[0].lines] == ["4", "8"]


@pytest.mark.parametrize(("text", "unit", "label"), [
    ("accuracy", "%", "accuracy (%)"), ("accuracy (%)", "%", "accuracy (%)"), ("gain", "points", "gain (points)"),
    ("seconds (modelled)", "s", "seconds (modelled)"), ("steps", "s", "steps (s)"), ("loss of `f`", "", "loss of f"),
    ("gain (%)", "points", "gain (points)"),
])  # fmt: skip
def test_an_axis_names_its_unit_once_and_tells_points_from_percent(text: str, unit: str, label: str) -> None:
    assert axis_label(text, unit, unit) == label


def card_with(claims: list[dict[str, object]], **figures: object) -> Card:
    """A card whose claims report 80 % of the method `pres`."""
    base = {"kind": "value", "experiment": "sweep", "metric": "ap", "target": 75.0, "within": 1.0,
            "replicate": {"unit": "seed", "n": 3}, "value": "pres"}  # fmt: skip
    names = [f"c-{i}" for i in range(len(claims))]
    card = Card(
        title="t", authors="a", venue="v", idea="i", setting_of_paper="s",
        methods=dict.fromkeys(METHODS, "baseline"),
        reported={"r": Reported(value=76.0, unit="%", source="Table 1", known="second-hand")},
        claims={name: Claim(says="s", why="w", reported="r", untested="not yet") for name in names},
        figures=(figure(**figures),),
    )  # fmt: skip
    for name, claim in zip(names, claims, strict=True):
        card = with_tests(card, name, [{**base, **claim}], untested=None)
    return card


def test_the_papers_number_is_drawn_where_the_figure_shows_what_it_is_about() -> None:
    (drawing,) = draw_all(card_with([{"where": {"batch": 200}}]), [sweep()])
    (mark,) = drawing.marks
    assert (mark.series, mark.x, mark.value, mark.weak) == ("pres", 200, 76.0, "second-hand")
    assert 's-s2"' in drawing.svg
    assert (
        mark_text(mark, drawing.figure, drawing.unit)
        == "pres, batch 200: 76\N{NARROW NO-BREAK SPACE}% (Table 1, second-hand)"
    )
    (line,) = draw_all(card_with([{}]), [sweep()])[0].marks
    assert line.x is None
    assert "reported 76" in draw_all(card_with([{}]), [sweep()])[0].svg


@pytest.mark.parametrize("claim", [
    {"value": "pres - plain"}, {"metric": "auc"}, {"where": {"dataset": "other"}}, {"where": {"batch": 7}},
    {"experiment": "other"}, {"value": "unknown"}, {"value": "pres.auc"},
])  # fmt: skip
def test_a_number_about_something_else_is_not_drawn(claim: dict[str, object]) -> None:
    (drawing,) = draw_all(card_with([claim]), [sweep()])
    assert drawing.marks == []


def test_a_number_far_from_ours_is_told_and_does_not_flatten_the_picture() -> None:
    card = card_with([{}])
    far = {"r": card.reported["r"].model_copy(update={"value": 1.0})}
    (drawing,) = draw_all(card.model_copy(update={"reported": far}), [sweep()])
    assert drawing.marks == []
    assert [note for note in drawing.notes if note.startswith("The reported 1")]


def grid(sizes: tuple[int, ...] = (1, 2, 3)) -> Result:
    return result([
        Row("sweep", "ap", 10.0 * w + d + 0.1 * seed, method, {"width": w, "depth": d}, seed, unit="%")
        for w in sizes for d in sizes for seed in (0, 1) for method in ("plain", "pres") if (w, d) != (2, 3)
    ])  # fmt: skip


def test_a_heatmap_has_a_panel_a_colour_bar_and_a_table_for_each_series() -> None:
    of = figure(kind="heatmap", x="width", y="depth", colour="ap")
    drawing = draw(of, grid(), METHODS, "f")
    assert drawing is not None
    texts = [e.text for e in elements(drawing.svg) if e.tag == "text"]
    assert [text for text in texts if text in METHODS] == ["plain", "pres"]
    assert texts.count("11.1") == 2  # readable in its cell
    assert "depth (upwards); colour: ap (%)" in texts
    assert [table.name for table in drawing.tables] == ["plain", "pres"]
    lines = drawing.tables[0].lines
    assert [name for name, _ in lines] == ["1", "2", "3"]
    assert lines[1][1][2] is None
    fills = {e.attrib["fill"] for e in elements(drawing.svg) if e.attrib.get("fill", "").startswith("#")}
    assert len(fills) > 9
    crowded = draw(of, grid(tuple(range(1, 12))), METHODS, "f")
    assert crowded is not None
    assert "11.1" not in [e.text for e in elements(crowded.svg)]


def test_a_heatmap_is_validated_on_the_card() -> None:
    with pytest.raises(ValidationError, match="`colour` is the metric of a figure of kind heatmap"):
        figure(kind="heatmap", y="depth")
    with pytest.raises(ValidationError, match="`colour` is the metric of a figure of kind heatmap"):
        figure(colour="ap")
    with pytest.raises(ValidationError, match="a heatmap has a cell for each x and y"):
        figure(kind="heatmap", y="batch", colour="ap")


def test_curves_that_coincide_are_told() -> None:
    rows = [dataclasses.replace(row, value=1.0) for row in sweep().rows]
    drawing = draw(figure(), result(rows), METHODS, "f")
    assert drawing is not None
    assert "plain and pres coincide." in drawing.notes

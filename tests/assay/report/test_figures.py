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

from assay.card import Figure
from assay.errors import RecordError
from assay.experiment import Run
from assay.record import Artifact, Curve, Result, Row
from assay.report.figures import MOST_POINTS, draw, key_shape
from assay.report.samples import MOST_POINTS as MOST_SCATTERED
from assay.report.samples import SIDE
from assay.report.svg import MARKERS, inline_svg, printable, short_label

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


@pytest.mark.parametrize("kind", ["line", "bars"])
@pytest.mark.parametrize("log", [False, True])
def test_a_drawing_carries_no_style_no_colour_and_only_known_elements(kind: str, log: bool) -> None:
    drawing = draw(figure(kind=kind, log_x=log, log_y=log), sweep(), METHODS, "fig0")
    assert drawing is not None
    assert not re.search(r"style|#0000|DOCTYPE|xmlns|font-family|<!--", drawing.svg)
    tags = {element.tag for element in elements(drawing.svg)}
    assert tags <= {"svg", "title", "desc", "defs", "g", "path", "use", "text", "clipPath", "rect"}


def test_ids_of_two_drawings_never_meet_and_every_reference_is_met() -> None:
    texts = [str(draw(figure(), sweep(), METHODS, prefix).svg) for prefix in ("fig0", "fig1")]  # type: ignore[union-attr]
    ids = [re.findall(r'\bid="([^"]+)"', text) for text in texts]
    assert not set(ids[0]) & set(ids[1])
    for own, text in zip(ids, texts, strict=True):
        assert len(own) == len(set(own))
        assert set(re.findall(r'href="#([^"]+)"', text) + re.findall(r"url\(#([^)]+)\)", text)) <= set(own)


def test_drawing_twice_gives_the_same_bytes() -> None:
    assert draw(figure(), sweep(), METHODS, "f") == draw(figure(), sweep(), METHODS, "f")


def test_a_method_keeps_its_colour_whichever_others_are_drawn() -> None:
    alone = draw(figure(), sweep(methods=["pres"]), METHODS, "f")
    together = draw(figure(), sweep(), METHODS, "f")
    assert alone is not None
    assert together is not None
    assert alone.lines[0].style == {line.name: line.style for line in together.lines}["pres"] == 1
    assert "s-s2" in alone.svg
    assert "s-s1" not in alone.svg


def test_every_marker_has_its_own_shape_in_the_key() -> None:
    assert len({key_shape(style) for style in range(len(MARKERS))}) == len(MARKERS)


def test_numbers_of_the_table_are_the_means_of_the_picture() -> None:
    drawing = draw(figure(where={"dataset": "otc"}), sweep(), METHODS, "f")
    assert drawing is not None
    (first, cells) = drawing.cells[0]
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
    assert [name for name, _ in drawing.cells] == ["0", "2", "4"]


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
    bars = [e for e in elements(drawing.svg) if e.tag == "path" and re.search(r"\bf-s\d", e.attrib.get("class", ""))]
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
    assert len(drawing.xs) == MOST_POINTS
    assert (drawing.xs[0], drawing.xs[-1]) == (0.0, 999.0)


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
    assert drawing.xs == [1.0, 2.0]


def test_measurements_of_another_experiment_are_not_drawn() -> None:
    rows = [*sweep().rows, Row("other", "ap", 1.0, "plain", {"batch": 5, "dataset": "otc"}, unit="%")]
    drawing = draw(figure(), result(rows), METHODS, "f")
    assert drawing is not None
    assert drawing.xs == [50, 200, 800]


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

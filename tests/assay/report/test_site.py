from __future__ import annotations

import base64
import hashlib
import re
import time
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from assay.errors import RecordError
from assay.report.site import HERE, caption_of, links_of, paragraphs, provenance_text, q_value, sentence, write_site
from assay.report.tables import measurement_tables
from tests.assay.report.example import ATTACK, Example, hostile, many, with_own_checks, with_simulation


def written(example: Example, out: Path) -> dict[str, str]:
    write_site(example.cards, example.results, example.verdicts, out)
    return {str(path.relative_to(out)): path.read_text(encoding="utf-8") for path in sorted(out.rglob("*.html"))}


@pytest.fixture(scope="module")
def pages(example: Example, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return written(example, tmp_path_factory.mktemp("site"))


def text_of(page: str) -> str:
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_there_is_a_page_for_each_paper_and_one_for_all(pages: dict[str, str]) -> None:
    assert set(pages) == {
        "index.html", "claims.html", "papers/dagnn.html", "papers/pres.html", "topics/dynamic-graphs.html",
        "topics/graph-networks.html", "data/bitcoin_otc.html", "data/csbm.html",
    }  # fmt: skip


def test_writing_twice_gives_the_same_bytes(example: Example, pages: dict[str, str], tmp_path: Path) -> None:
    assert written(example, tmp_path) == pages


def test_the_page_of_a_paper_that_is_gone_goes_too(example: Example, tmp_path: Path) -> None:
    written(example, tmp_path)
    left = written(replace(example, cards={"pres": example.cards["pres"]}), tmp_path)
    assert {name for name in left if "/" in name} == {
        "papers/pres.html", "topics/dynamic-graphs.html", "data/bitcoin_otc.html",
    }  # fmt: skip


def test_every_link_inside_the_site_arrives(pages: dict[str, str]) -> None:
    for name, page in pages.items():
        for target in re.findall(r'<a [^>]*href="([^"]+)"', page):
            if target.startswith("https://") or re.search(r"\.(csv|json|svg)$", target):  # see test_downloads
                continue
            file, _, anchor = target.partition("#")
            place = Path(name).parent.joinpath(file) if file else Path(name)
            arrived = pages[re.sub(r"\w+/\.\./", "", str(place))]
            assert not anchor or "=" in anchor or f'id="{anchor}"' in arrived, target


def test_ids_of_a_page_are_unique(pages: dict[str, str]) -> None:
    for page in pages.values():
        ids = re.findall(r'\bid="([^"]+)"', page)
        assert len(ids) == len(set(ids))


def test_the_policy_allows_exactly_the_style_and_script_of_the_page(pages: dict[str, str]) -> None:
    for page in pages.values():
        policy = unescape(re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1])  # type: ignore[index]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        for tag in ("style", "script"):
            for content in re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL):
                digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
                assert f"{tag}-src 'sha256-{digest}'" in policy
        assert not re.search(r"<[^>]+\s(style|on\w+)=", page)


def test_no_page_asks_anything_of_a_network(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert not re.search(r"\bsrc=|@import|url\((?!#)|<(?:iframe|object|embed|img|base|form [^>]*action)\b", page)
        assert re.findall(r"<link [^>]*>", page) == [
            page[page.index("<link") : page.index(">", page.index("<link")) + 1]
        ]
        assert '<link rel="icon" href="data:image/svg+xml' in page


def test_the_paper_page_says_all_that_a_verdict_rests_on(pages: dict[str, str]) -> None:
    text = text_of(pages["papers/pres.html"])
    for said in (
        "PRES: Toward Scalable Memory-Based Dynamic Graph Neural Networks", "Su, Zou, Wu", "ICLR 2024",
        "arXiv:2402.04284", "pres proposed", "“enables MDGNNs to use up to 4 times larger",
        "≥ 2.5 , because the reported 3.4 is the best", "up to 3.4", "5 processes", "10 seeds", "abstract",
        "The equations of the text; the released code detaches", "Bitcoin-OTC, first 15,000 events",
        "WIKI, REDDIT, MOOC", "MemoryError: 12 GiB", "3f1c0d9a5b7e42f08d6c1b2a9e8f7d6c5b4a3928 (clean)",
        "AMD EPYC 7763", "2026-03-14 09:26 UTC", "7 min 11 s", "torch 2.13.0", "batches 1, 2, 4, 8",
        "assay run pres --profile standard", "git checkout 3f1c0d9a5b7e", "71.25", "0 to 9",
    ):  # fmt: skip
        assert said in text, said


def test_a_number_from_memory_is_flagged(pages: dict[str, str]) -> None:
    for name in ("index.html", "papers/dagnn.html"):
        assert '<span class="chip flag">from memory</span>' in pages[name]
    assert "chip flag" not in pages["papers/pres.html"]


def test_quick_is_marked_wherever_a_verdict_rests_on_it(pages: dict[str, str]) -> None:
    rows = re.findall(r'<tr role="row" data-verdict.*?</tr>', pages["claims.html"], re.DOTALL)
    quick = [row for row in rows if 'data-profile="quick"' in row]
    assert len(quick) == 3
    assert all("quick: a small run" in row for row in quick)
    assert not any("a small run" in row for row in rows if row not in quick)
    assert pages["papers/dagnn.html"].count("quick: a small run") == 3 + 1  # each claim's, and the headline's


def test_simulated_claims_stand_apart_from_measured_ones(
    example: Example, pages: dict[str, str], tmp_path: Path
) -> None:
    found = written(with_simulation(example), tmp_path)
    page = found["papers/pres.html"]
    apart = page[page.index('id="simulated"') : page.index('id="figures"')]
    assert re.findall(r'<article class="claim" id="([^"]+)"', apart) == ["claim-prediction-error"]
    assert "All of it is simulated, not measured." in text_of(page)
    assert found["claims.html"].count(">simulated</span>") == 1
    for page in pages.values():
        assert "simulated" not in text_of(page)


def test_our_own_checks_stand_and_count_apart_from_the_papers_claims(example: Example, tmp_path: Path) -> None:
    found = written(with_own_checks(example), tmp_path)
    index = found["index.html"]
    anchors = r'data-of="ours".*?href="papers/\w+\.html#(claim-[^"]+)"'
    assert re.findall(anchors, found["claims.html"], re.DOTALL) == [
        "claim-appnp-equal", "claim-discontinuity", "claim-released-code-equivalence",
    ]  # fmt: skip
    assert found["claims.html"].count('data-of="paper"') == 6
    for page in (index, *(text for name, text in found.items() if name.startswith("topics/"))):
        assert "#claim-discontinuity" not in page
    text = text_of(index)
    assert "6 claims of 2 papers, run side by side" in text
    assert "2 of the verdicts rest on a quick run" in text  # a third one is a check of ours
    assert "Apart from these, 3 checks of our own , which no paper claims: 3 reproduced." in text
    page = found["papers/pres.html"]
    apart = page[page.index('id="own"') : page.index('id="figures"')]
    assert re.findall(r'<article class="claim" id="([^"]+)"', apart) == [
        "claim-discontinuity",
        "claim-released-code-equivalence",
    ]
    assert apart.count('<span class="chip">our own check</span>') == page.count("our own check</span>") == 2


def test_a_bar_moved_after_the_run_shows_on_the_front_page(
    example: Example, pages: dict[str, str], tmp_path: Path
) -> None:
    found = written(with_own_checks(example), tmp_path)
    for name in ("index.html", "claims.html", "papers/pres.html"):
        assert "card changed since the run</span>" in found[name]
        assert "card changed since the run" not in pages[name]


def test_the_counts_keep_quick_runs_apart(pages: dict[str, str]) -> None:
    assert (
        "2 reproduced and 2 on quick runs 2 direction only 0 inconclusive and 1 on quick runs 1 contradicted 1 untested"
        in text_of(pages["index.html"])
    )


def test_the_scoreboard_says_what_chance_alone_would_give(pages: dict[str, str]) -> None:
    text = text_of(pages["index.html"])
    assert "7 of the papers’ claims were judged by an interval" in text
    assert "2.5% of them, about 0.18 , would read reproduced by chance" in text


@pytest.mark.parametrize("word", ["reproduced", "direction only", "inconclusive", "contradicted", "untested"])
def test_a_verdict_is_told_by_word_and_shape_and_not_by_colour_alone(pages: dict[str, str], word: str) -> None:
    tone = word.split()[0]
    badge = (
        rf'<span class="badge {tone}"><svg class="icon" aria-hidden="true"><use href="#i-{tone}"/></svg>{word}</span>'
    )
    assert badge in pages["index.html"]
    assert pages["index.html"].count(f'<symbol id="i-{tone}"') == 1


def test_without_results_the_page_says_how_to_run(example: Example, tmp_path: Path) -> None:
    pages = written(Example(example.cards, {}, []), tmp_path)
    text = text_of(pages["index.html"])
    assert "No results yet" in text
    assert "assay run dagnn --profile quick" in text
    assert "Nothing has been run yet." in text_of(pages["papers/pres.html"])
    assert "not run yet" in text_of(pages["papers/dagnn.html"])


def test_without_any_card_there_is_still_a_page(tmp_path: Path) -> None:
    assert "assay new SLUG" in text_of(written(Example({}, {}, []), tmp_path)["index.html"])


def test_missing_values_and_unknown_provenance_are_said(example: Example, tmp_path: Path) -> None:
    bare = replace(example.results["dagnn", "quick"], provenance={}, parameters={}, replicates={})
    page = text_of(written(replace(example, results={("dagnn", "quick"): bare}), tmp_path)["papers/dagnn.html"])
    assert "commit not recorded" in page
    assert "missing: not finite: nan" in page
    assert "n 2, 1 missing" in page


def test_uncommitted_changes_are_shown(example: Example, tmp_path: Path) -> None:
    result = example.results["pres", "standard"]
    dirty = replace(result, provenance={**result.provenance, "dirty": True})
    assert dict(provenance_text(dirty))["commit"].endswith("(with uncommitted changes)")
    results = {**example.results, ("pres", "standard"): dirty}
    page = text_of(written(replace(example, results=results), tmp_path)["papers/pres.html"])
    assert "git checkout 3f1c0d9a5b7e # the run had uncommitted changes on top of it assay run pres" in page


def test_a_slug_that_is_no_file_name_is_refused(example: Example, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cannot name a page"):
        write_site({"../../etc": example.cards["pres"]}, {}, [], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_web_addresses_become_links(example: Example) -> None:
    card = example.cards["pres"]
    assert links_of(card) == [
        ("arXiv:2402.04284", "https://arxiv.org/abs/2402.04284"),
        ("official code", "https://github.com/jwsu825/MDGNN_BS"),
    ]
    assert links_of(card.model_copy(update={"arxiv": '"><b>', "url": "javascript:1", "code": "file:///etc"})) == []


def test_every_text_of_a_card_is_inert(tmp_path: Path) -> None:
    pages = written(hostile(), tmp_path)
    for page in pages.values():
        assert page.count("owned=1") > 10
        assert "{{7*7}}" in page
        assert "javascript:" not in page
        assert "<img" not in page
        assert page.count("<script") == page.count("</script") == ("<form" in page)
        assert page.count("</title>") == 1 + page.count("<title id=")


def test_the_attack_is_one_for_a_page_without_escaping() -> None:
    assert "<script>" in ATTACK
    assert ATTACK.startswith("'\"")


def seconds_to_write(papers: int, folder: Path) -> tuple[float, dict[str, str]]:
    example = many(folder / "cards", papers=papers, claims=8)
    start = time.process_time()
    pages = written(example, folder / "site")
    return time.process_time() - start, pages


def test_fifty_one_papers_take_three_times_as_long_as_seventeen_and_stay_small(tmp_path: Path) -> None:
    """Not nine times, as where each page looks at all others."""
    few, _ = seconds_to_write(17, tmp_path / "few")
    more, pages = seconds_to_write(51, tmp_path / "many")
    assert more < 6 * few
    sizes = {name: len(page.encode()) for name, page in pages.items()}
    assert len([name for name in pages if name.startswith("papers/")]) == 51
    assert sizes["index.html"] < 200_000
    assert sum(sizes.values()) < 52 * 100_000


def variables(dark: bool) -> dict[str, str]:
    css = (HERE / "static" / "site.css").read_text()
    light_block, dark_block = (
        found[1] for found in re.finditer(r":root \{(.*?)\}", css[: css.index("* {")], re.DOTALL)
    )
    colours = re.compile(r"--([\w-]+): (#[0-9a-f]{6})")
    return dict(colours.findall(light_block)) | (dict(colours.findall(dark_block)) if dark else {})


def contrast(one: str, two: str) -> float:
    """The contrast ratio of WCAG 2.2, from relative luminances."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


TONES = ("reproduced", "direction", "inconclusive", "contradicted", "untested")
TEXT = [(ink, ground) for ink in ("ink", "muted", "link", *TONES) for ground in ("page", "surface")] + [
    *((tone, f"{tone}-soft") for tone in TONES), ("ink", "code"), ("note-ink", "note"),
]  # fmt: skip
SHAPES = [(f"s{i}", "page") for i in range(1, 9)] + [
    ("edge", "page"), ("edge", "surface"), ("focus", "page"), ("focus", "surface"), ("ink", "reproduced-soft"),
    *((tone, "reproduced-soft") for tone in TONES),
]  # fmt: skip


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_shapes_keep_their_contrast(dark: bool) -> None:
    colour = variables(dark)
    assert {pair: round(contrast(colour[pair[0]], colour[pair[1]]), 2) for pair in TEXT
            if contrast(colour[pair[0]], colour[pair[1]]) < 4.5} == {}  # fmt: skip
    assert {pair: round(contrast(colour[pair[0]], colour[pair[1]]), 2) for pair in SHAPES
            if contrast(colour[pair[0]], colour[pair[1]]) < 3} == {}  # fmt: skip


def test_contrast_is_what_the_guideline_says() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_both_modes_define_every_colour() -> None:
    css = (HERE / "static" / "site.css").read_text()
    dark = css[css.index("prefers-color-scheme: dark") : css.index("* {")]
    assert set(re.findall(r"--([\w-]+): #", dark)) == set(variables(dark=False))
    assert set(re.findall(r"var\(--([\w-]+)\)", css)) <= set(variables(dark=False)) | {"sans", "serif", "mono"}


def test_texts_of_a_file_become_paragraphs_and_sentences() -> None:
    assert paragraphs("one\ntwo\n\nthree\n- four\n- five") == ["one two", "three", "- four", "- five"]
    assert sentence("below -0.5, not >= 2-3") == "Below −0.5, not ≥ 2-3."
    assert sentence("") == ""
    assert [q_value(q) for q in (0.0001, 0.0123, 0.456)] == ["< 0.001", "0.012", "0.46"]


def test_a_table_says_what_it_holds(example: Example) -> None:
    result = example.results["dagnn", "quick"]
    (table,) = measurement_tables(result.rows, list(example.cards["dagnn"].methods))
    assert text_of(caption_of(table)) == "accuracy (%) depth_sweep, measured; dataset csbm"


def test_a_figure_is_drawn_from_the_largest_profile_and_the_newest_day_is_told(
    example: Example, tmp_path: Path
) -> None:
    older = replace(example.results["pres", "quick"], provenance={"date": "2025-01-01T00:00:00+00:00"})
    large = replace(example.results["pres", "quick"], rows=example.results["pres", "standard"].rows)
    results = {**example.results, ("pres", "quick"): replace(large, provenance=older.provenance)}
    page = written(replace(example, results=results), tmp_path)["papers/pres.html"]
    figures = text_of(page[page.index('id="figures"') : page.index('id="settings"')])
    assert "standard profile; mean over replicates" in figures
    assert "quick profile" not in figures
    assert "Newest result: 2026-03-14." in text_of(page)

"""A card says what it means, or an error says where it does not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from assay.card import Card, find_cards, load_card
from assay.errors import CardError

CLAIM = """
  better:
    says: good beats bad.
    kind: effect
    experiment: toy
    metric: score
    value: good - bad
    replicate: {unit: seed, changes: init, n: 5}
    bar: ">= 1"
    why: a test
"""
HEAD = """title: A toy
authors: Nobody
venue: Nowhere 2020
idea: None.
setting_of_paper: none
methods: {good: proposed, bad: baseline}
claims:"""


def card(tmp_path: Path, text: str) -> Card:
    path = tmp_path / "toy" / "paper.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return load_card(path)


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


def test_a_card_is_read_with_its_slug(tmp_path: Path) -> None:
    read = card(tmp_path, HEAD + CLAIM)
    assert read.slug == "toy"
    assert read.claims["better"].bar is not None
    assert read.claims["better"].bar.threshold == 1.0


@pytest.mark.parametrize(
    ("old", "new", "field", "message"),
    [
        ("why: a test", "why: a test\n    colour: red", "claims.better.colour", "unknown field"),
        ("kind: effect", "kind: feeling", "claims.better.kind", "Input should be"),
        ('bar: ">= 1"', "bar: at least 1", "claims.better.bar", "operator and a number"),
        ('bar: ">= 1"', "stat: mean", "claims.better", "needs a 'bar'"),
        ("venue: Nowhere 2020\n", "", "venue", "required"),
        ("metric: score", "where: {a: 1}", "claims.better", "'metric' is missing"),
        ("value: good - bad", "value: good - ugly", "claims.better", "no method 'ugly'"),
        ("value: good - bad", "value: good -", "claims.better", "in 'value'"),
        ("value: good - bad", "value: __import__('os')", "claims.better", "in 'value'"),
        ("why: a test", "why: a test\n    over: {depth: some}", "claims.better.over.depth", "a rule is"),
        ("why: a test", "why: a test\n    reported: nowhere", "claims.better.reported", "no number 'nowhere'"),
        ("why: a test", 'why: a test\n    direction: ">= 2"', "claims.better", "stricter than 'bar'"),
        ("why: a test", 'why: a test\n    contradicted: "> 0"', "claims.better", "same way as 'bar'"),
        ("says: good", "says: good\n    says: good", "claims.better.says", "is given twice"),
        ("proposed, bad", "invented, bad", "methods.good", "Input should be"),
        ("n: 5}", "n: none}", "claims.better.replicate.n", "valid integer"),
    ],
)
def test_errors_name_file_line_and_field(tmp_path: Path, old: str, new: str, field: str, message: str) -> None:
    text = (HEAD + CLAIM).replace(old, new)
    with pytest.raises(CardError) as caught:
        card(tmp_path, text)
    first = str(caught.value).splitlines()[0]
    path, line, named, *_ = first.split(":")
    assert path == str(tmp_path / "toy" / "paper.yaml")
    assert named.strip() == field
    assert message in str(caught.value)
    last = field.split(".")[-1]
    if f"{last}:" in text and field != "venue":
        candidates = [n for n, content in enumerate(text.splitlines(), 1) if f"{last}:" in content]
        assert int(line) in candidates


def test_an_experiment_that_the_paper_does_not_declare_is_an_error_and_not_an_untested_claim(tmp_path: Path) -> None:
    text = HEAD + CLAIM + "figures:\n  - {title: A, experiment: sweep, x: n, y: score}\n"
    card(tmp_path, text)
    experiments = tmp_path / "toy" / "experiments.py"
    experiments.write_text("@experiment(quick=dict())\ndef toy(run): ...\ndef sweep(run): ...\n")
    with pytest.raises(CardError, match=rf":{line_of(text, 'title: A,')}: figures.0.experiment: no .*'sweep'.*are toy"):
        card(tmp_path, text)
    experiments.write_text("@experiment(quick=dict())\ndef toys(run): ...\n")
    with pytest.raises(CardError, match=rf":{line_of(text, 'experiment: toy')}: claims.better.experiment: no .*'toy'"):
        card(tmp_path, text)


def test_invalid_yaml_is_reported_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"paper\.yaml:2: not valid YAML"):
        card(tmp_path, "title: [unclosed\nauthors: x: y\n")


def test_yaml_cannot_construct_python_objects(tmp_path: Path) -> None:
    with pytest.raises((CardError, yaml.YAMLError)):
        card(tmp_path, 'title: !!python/object/apply:os.system ["true"]\n')


def test_parts_inherit_what_they_do_not_set(tmp_path: Path) -> None:
    claim = CLAIM.replace("value: good - bad", 'where: {depth: 2}\n    all: [{value: good, where: {width: 8}}, '
                          '{value: bad, bar: "> 3", core: true}]')  # fmt: skip
    first, second = card(tmp_path, HEAD + claim).claims["better"].tests()
    assert first.where == {"depth": 2, "width": 8}
    assert first.bar is not None
    assert second.bar is not None
    assert (first.bar.threshold, second.bar.threshold) == (1, 3)
    assert second.core
    assert second.metric == "score"


def test_a_slope_part_replaces_an_inherited_value(tmp_path: Path) -> None:
    claim = CLAIM.replace("kind: effect", "kind: trend\n    all: [{slope: log good ~ log n}]")
    (test,) = card(tmp_path, HEAD + claim).claims["better"].tests()
    assert test.value is None
    assert test.slope_parts()[1:] == ("log", "n")


def test_whose_claim_it_is_stands_on_the_card_and_decides_nothing(tmp_path: Path) -> None:
    plain = card(tmp_path, HEAD + CLAIM).claims["better"]
    own = card(tmp_path, (HEAD + CLAIM).replace("says:", "of: ours\n    says:")).claims["better"]
    assert (plain.of, own.of) == ("paper", "ours")
    assert plain.hash() == own.hash()
    with pytest.raises(CardError, match=r"claims\.better\.of: Input should be 'paper' or 'ours'"):
        card(tmp_path, (HEAD + CLAIM).replace("says:", "of: theirs\n    says:"))


def test_hash_follows_what_decides_and_nothing_else(tmp_path: Path) -> None:
    def digest(text: str) -> str:
        return card(tmp_path, text).claims["better"].hash()

    base = digest(HEAD + CLAIM)
    assert digest((HEAD + CLAIM).replace("good beats bad", "good is better than bad")) == base
    assert digest((HEAD + CLAIM).replace("why: a test", "why: another reason")) == base
    for old, new in ((">= 1", ">= 0.9"), ("n: 5", "n: 6"), ("good - bad", "bad - good"), ("score", "loss"),
                     ("why: a test", "why: a test\n    profiles: [gpu]"),
                     ("why: a test", "why: a test\n    untested: no data")):  # fmt: skip
        assert digest((HEAD + CLAIM).replace(old, new)) != base, new


@pytest.mark.parametrize(
    ("kind", "region", "problem"),
    [
        ("equivalence", 'margin: 0.01\n    bar: ">= -5"', "'bar' and 'margin' exclude each other"),
        ("value", 'target: 1\n    within: 0.5\n    bar: ">= 1"', "'bar' and 'target' exclude each other"),
        ("equivalence", "margin: 1\n    target: 0\n    within: 1", "'target' and 'margin' exclude each other"),
        ("equivalence", 'bar: ">= 1"', "a claim of kind 'equivalence' needs a 'margin', and no 'bar'"),
        ("value", "margin: 1", "a claim of kind 'value' needs 'target' and 'within', and no 'margin'"),
        ("value", "target: 1", "a target needs 'within'"),
        ("effect", 'bar: ">= 1"\n    outside: 2', "'outside' does not belong to a bar"),
        ("effect", 'bar: ">= 1"\n    within: 2', "'within' does not belong to a bar"),
        ("equivalence", 'margin: 1\n    direction: "> 0"', "'direction' does not belong to a margin"),
        ("value", 'target: 1\n    within: 1\n    contradicted: "< 0"', "'contradicted' does not belong to a target"),
        ("effect", 'bar: ">= 1"\n    tail: false', "'tail' decides nothing here"),
        ("effect", 'bar: ">= 1"\n    censored_at: 5', "a censored value has no mean"),
        ("rate", "target: 0\n    within: 1", "a claim of kind 'rate' needs a 'bar', and no 'target'"),
    ],
)  # fmt: skip
def test_a_field_that_would_be_ignored_is_an_error(tmp_path: Path, kind: str, region: str, problem: str) -> None:
    text = (HEAD + CLAIM).replace("kind: effect", f"kind: {kind}").replace('bar: ">= 1"', region)
    with pytest.raises(CardError, match=rf"paper\.yaml:8: claims\.better: {problem}"):
        card(tmp_path, text)


@pytest.mark.parametrize(
    ("kind", "region", "problem"),
    [
        ("effect", 'bar: ">= 1"\n    direction: "< 0"', "'direction' points the other way than 'bar'"),
        ("effect", 'bar: ">= 1"\n    contradicted: "< 2"', "'contradicted' overlaps with 'bar' or 'direction'"),
        ("effect", 'bar: ">= 1"\n    direction: "> 0"\n    contradicted: "< 0.5"', "'contradicted' overlaps"),
        ("effect", 'bar: "<= 1"\n    contradicted: "> 0"', "'contradicted' overlaps"),
        ("value", "target: 1\n    within: 2\n    outside: 1", "'outside' is narrower"),
        ("equivalence", "margin: 2\n    outside: 1", "'outside' is narrower"),
        ("trend", 'bar: ">= 1"', "a claim of kind 'trend' needs a 'slope'"),
    ],
)  # fmt: skip
def test_thresholds_that_contradict_one_another_fail(tmp_path: Path, kind: str, region: str, problem: str) -> None:
    text = (HEAD + CLAIM).replace("kind: effect", f"kind: {kind}").replace('bar: ">= 1"', region)
    with pytest.raises(CardError, match=rf"paper\.yaml:8: claims\.better: {problem}"):
        card(tmp_path, text)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("changes: init, n: 5", "changes: split, n_test: 3", "n_test and n_train are given together"),
        ("value: good - bad", "slope: log good ~ n", "a slope is written"),
        ("value: good - bad", "slope: good ~ log n", "a slope is written"),
        ("kind: effect", "kind: rate\n    slope: good ~ n", "give either 'value' or 'slope'"),
        ("venue:", "reported: {r: {value: 1, low: 0, source: s, known: paper}}\nvenue:", "give 'value', or 'low'"),
        ("venue:", "reported: {r: {source: s, known: paper}}\nvenue:", "give 'value', or 'low'"),
        ("venue:", "headline: [worse]\nvenue:", "headline: no claim 'worse'; there are better"),
        ("says: good", "of: ours\n    says: good", "headline: 'better' is a check of ours"),
        ("venue:", "search: {ugly: {lr: [1]}}\nvenue:", r":\d+: search\.ugly: no method 'ugly'"),
    ],
)  # fmt: skip
def test_what_belongs_together_is_asked_for(tmp_path: Path, old: str, new: str, problem: str) -> None:
    head = HEAD.replace("title: A toy", "title: A toy\nheadline: [better]" if "of: ours" in new else "title: A toy")
    with pytest.raises(CardError, match=problem):
        card(tmp_path, (head + CLAIM).replace(old, new, 1))


def test_an_error_in_a_list_names_the_line_of_its_item(tmp_path: Path) -> None:
    text = HEAD + CLAIM + "figures:\n  - {title: A, experiment: toy, x: n, y: score}\n  - {title: B, x: n, y: score}\n"
    with pytest.raises(CardError, match=rf":{line_of(text, 'title: B')}: figures\.1\.experiment: this field is req"):
        card(tmp_path, text)


def test_only_a_folder_named_like_a_module_is_a_paper(tmp_path: Path) -> None:
    for name in ("good", "Bad-one", "_hidden"):
        (tmp_path / "methods" / name).mkdir(parents=True)
        (tmp_path / "methods" / name / "paper.yaml").write_text(HEAD + CLAIM)
    assert list(find_cards(tmp_path)) == ["good"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("replicate: {unit: seed, changes: init, n: 5}", "replicate: {unit: seed, pairs: 30}", "replicate.pairs"),
        ("changes: init, n: 5", "changes: init, n_test: 3, n_train: 9", "replicate.n_test"),
        ("replicate: {unit: seed, changes: init, n: 5}", "replicate: exact\n    stat: median", "stat"),
        ("replicate: {unit: seed, changes: init, n: 5}", "replicate: exact\n    resolution: 1", "resolution"),
    ],
)
def test_what_a_replicate_does_not_use_is_an_error(tmp_path: Path, old: str, new: str, problem: str) -> None:
    with pytest.raises(CardError, match=rf"'{problem}' decides nothing here"):
        card(tmp_path, (HEAD + CLAIM).replace(old, new))


def test_a_part_with_a_region_of_its_own_inherits_no_other(tmp_path: Path) -> None:
    claim = CLAIM.replace('bar: ">= 1"', "target: 1\n    within: 0.5\n    outside: 2").replace(
        "value: good - bad",
        'all: [{value: good}, {value: good, target: 3}, {kind: effect, value: bad, bar: "> 3"},\n'
        "          {kind: equivalence, value: good - bad, margin: 1}]",
    )
    first, second, third, fourth = card(tmp_path, HEAD + claim.replace("effect", "value", 1)).claims["better"].tests()
    assert (first.target, first.within, first.outside) == (1, 0.5, 2)
    assert (second.target, second.within, second.outside) == (3, 0.5, 2)
    assert (third.region(), third.within, third.outside) == ("bar", None, None)
    assert (fourth.region(), fourth.target, fourth.outside) == ("margin", None, None)


def test_a_region_that_no_part_inherits_is_an_error(tmp_path: Path) -> None:
    claim = CLAIM.replace("value: good - bad", 'all: [{value: good, bar: "> 1"}, {value: bad, bar: "> 2"}]')
    card(tmp_path, HEAD + claim)  # the same region, overridden part by part
    claim = claim.replace('bar: ">= 1"', "target: 1\n    within: 1")
    with pytest.raises(CardError, match="every part has a region of its own, so 'target' would be ignored"):
        card(tmp_path, HEAD + claim)


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan", "1e999"])
@pytest.mark.parametrize(
    ("kind", "region"),
    [
        ("value", "target: {}\n    within: 1"),
        ("value", "target: 1\n    within: {}"),
        ("equivalence", "margin: {}"),
        ("effect", 'bar: ">= {}"'),
    ],
)
def test_no_bar_target_or_margin_is_infinite_or_nan(tmp_path: Path, kind: str, region: str, number: str) -> None:
    text = (HEAD + CLAIM).replace("kind: effect", f"kind: {kind}").replace('bar: ">= 1"', region.format(number))
    with pytest.raises(CardError, match=r"paper\.yaml:\d+: claims\.better\.(target|within|margin|bar)"):
        card(tmp_path, text)


def laughs(levels: int) -> str:
    lines = ["    a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"    a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (HEAD + "\n  better:\n" + laughs(9), r":\d+: claims\.better\.a\d.*: an alias"),
        ("title: &a [*a]\n", r":1: title.*: an alias is part of itself"),
        ("title: &a {b: *a}\n", r":1: title.*: an alias is part of itself"),
        ("title: " + "[" * 5_000 + "]" * 5_000, r":1: is nested more than 12 levels deep"),
        ("title: " + "[" * 900 + "]" * 900, r":1: is nested more than 12 levels deep"),
        ("title: x\nvenue: " + "9" * 10_000, r":2: venue: a number has at most 30 characters, not 10,000"),
        ("title: x\n" + "# a comment\n" * 30_000, r"is larger than 256 KiB"),
        ('title: x\nvenue: "a\\eb"', r":2: venue: holds the control character '\\x1b'"),
        ("title: x\nno: y", r":2: card: the name of a field is a word, not `no`, which YAML reads as another type"),
        ("title: x\n? [a, b]\n: y", r":2: card: the name of a field is a word, not a list or a mapping"),
        ("title: x\nvenue: 2020-99-99", r":2: venue: cannot be read"),
        ("title: !!binary aGVsbG8=", r":1: tags .*binary"),
        ("title: !!python/object/apply:os.system [id]", r":1: tags .*python"),
        ("title: x\nvenue: {<<: {a: 1}}", r":2: venue"),
        (HEAD + CLAIM.replace("metric: score", "metric: score\n    where: {lr: 1e-3}"),
         r":13: claims\.better\.where\.lr: '1e-3' is read as text by YAML: write 0\.001"),
        (HEAD + CLAIM.replace("value: good - bad", "slope: log good" + " " * 3_000 + "x log n"), "at most 500"),
        (HEAD + CLAIM.replace("value: good - bad", "slope: good" + " " * 400 + "~ x y"), r":8: claims\.better"),
        (HEAD + CLAIM.replace("value: good - bad", f"value: '{' ' * 3_000}good'"), "at most 500"),
        (HEAD + CLAIM.replace("value: good - bad", f"value: '{'(' * 200}good{')' * 200}'"), "levels deep"),
        (HEAD + CLAIM.replace("value: good - bad", f"value: good - {'9' * 400}"), "too large"),
        ((HEAD + CLAIM).replace("good: proposed", "log: proposed"), r":6: methods\.log: 'log' means something else"),
        ((HEAD + CLAIM).replace("good: proposed", "value: proposed"), r":6: methods\.value: 'value' means"),
    ],
)  # fmt: skip
def test_a_card_that_would_cost_or_mean_more_than_it_looks_is_refused_at_its_line(
    tmp_path: Path, text: str, problem: str
) -> None:
    start = time.process_time()
    with pytest.raises(CardError, match=problem):
        card(tmp_path, text)
    usual = time.process_time()
    card(tmp_path, HEAD + CLAIM)
    assert usual - start < 1000 * (time.process_time() - usual)  # at once: as long as a thousand small cards at most


def test_an_alias_that_is_written_out_in_no_time_is_allowed(tmp_path: Path) -> None:
    read = card(tmp_path, HEAD + CLAIM + "search:\n  good: &space {lr: [0.1, 1.0]}\n  bad: *space\n")
    assert read.search["good"] == read.search["bad"] == {"lr": (0.1, 1.0)}


def test_experiments_that_are_no_python_are_named_with_file_and_line(tmp_path: Path) -> None:
    card(tmp_path, HEAD + CLAIM)
    experiments = tmp_path / "toy" / "experiments.py"
    experiments.write_text("import torch\ndef toy(run:\n")
    with pytest.raises(CardError, match=r"toy/experiments\.py:2: is no Python"):
        card(tmp_path, HEAD + CLAIM)
    experiments.write_bytes(b"\xff\xfe\n")
    with pytest.raises(CardError, match=r"toy/experiments\.py: cannot be read"):
        card(tmp_path, HEAD + CLAIM)

"""A card says what it means, or an error says where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from assay.card import Card, load_card
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
    for old, new in ((">= 1", ">= 0.9"), ("n: 5", "n: 6"), ("good - bad", "bad - good"), ("score", "loss")):
        assert digest((HEAD + CLAIM).replace(old, new)) != base, new

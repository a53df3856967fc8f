"""Expressions on cards are read by a small grammar; nothing on a card ever runs."""

from __future__ import annotations

import builtins
import math
import random

import numpy as np
import pytest

from assay.errors import AssayError
from assay.expression import Atom, Binary, Expression, ExpressionError, Log, Number, Unary, parse, parse_atom

VALUES = {"a": 8.0, "b": 2.0, "c": 5.0}


def value_of(text: str) -> float:
    return float(parse(text).evaluate(lambda atom: VALUES[atom.name]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a - b", 6.0),
        ("a - b - c", 1.0),
        ("a - (b - c)", 11.0),
        ("a / b / c", 0.8),
        ("a / (b * c)", 0.8),
        ("1 - b / a", 0.75),
        ("a + b * c", 18.0),
        ("-a + b", -6.0),
        ("-a * -b", 16.0),
        ("2e1 * .5 - 1.5", 8.5),
        ("log(a / b)", math.log(4)),
        ("100 * (a - b) / b", 300.0),
    ],
)
def test_arithmetic_has_the_usual_precedence(text: str, expected: float) -> None:
    assert value_of(text) == pytest.approx(expected, rel=1e-15)


def test_an_atom_carries_metric_and_knobs_of_every_kind() -> None:
    atom = parse_atom("pres.time_s[batch=4, lr=-1e-3, fused=true, mode='two words', dataset=bitcoin-otc]")
    assert (atom.name, atom.metric) == ("pres", "time_s")
    assert atom.knobs == {"batch": 4, "lr": -1e-3, "fused": True, "mode": "two words", "dataset": "bitcoin-otc"}
    assert type(atom.knobs["batch"]) is int
    assert type(atom.knobs["fused"]) is bool


def test_atoms_are_listed_once_in_order_of_appearance() -> None:
    names = [str(atom) for atom in parse("b[k=1] / a - log(b[k=1] * b[k=2])").atoms()]
    assert names == ["b[k=1]", "a", "b[k=2]"]


def test_evaluation_keeps_whole_numbers_whole_and_works_on_arrays() -> None:
    big = 2**60
    assert parse("a - b").evaluate(lambda atom: big + 1 if atom.name == "a" else big) == 1
    ratio = parse("a / b").evaluate(lambda atom: np.array([8.0, 9.0]) if atom.name == "a" else np.array([2.0, 3.0]))
    np.testing.assert_array_equal(ratio, [4.0, 3.0])


def random_expression(rng: random.Random, depth: int) -> Expression:
    kind = rng.choice(("number", "atom", "atom") if depth == 0 else ("binary", "binary", "unary", "log", "atom"))
    if kind == "number":
        return Number(rng.choice((0, 3, 2.5, 1e-9, 4e20)))
    if kind == "atom":
        scalars = (1, -2, 1.0, -0.5, True, False, "word", "a b", "true", "it's", "3", "x-y")
        index = tuple((knob, rng.choice(scalars)) for knob in rng.sample(["k", "n", "dataset"], rng.randrange(3)))
        return Atom(rng.choice(("a", "gcn_2", "value")), rng.choice((None, "ap")), index)
    if kind == "binary":
        return Binary(rng.choice("+-*/"), random_expression(rng, depth - 1), random_expression(rng, depth - 1))  # type: ignore[arg-type]
    return (Unary if kind == "unary" else Log)(random_expression(rng, depth - 1))


def test_what_is_printed_reads_back_as_the_same_expression() -> None:
    rng = random.Random(0)
    for _ in range(500):
        expression = random_expression(rng, depth=4)
        text = str(expression)
        if len(text) <= 500:
            assert repr(parse(text)) == repr(expression), text


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "().__class__",
        "a.__class__",
        "a.__class__.__mro__",
        "lambda: a",
        "f'{a}'",
        "`a`",
        "exec(a)",
        "eval('a')",
        "open('x')",
        "a if b else c",
        "[a for a in b]",
        "a[__k=1]",
        "a['k']",
        "a[k=[1]]",
        "a[k=open('x')]",
        "a; b",
        "a\\b",
        "a := b",
        "a == b",
        "a and b",
        "@a",
        "a.b.c",
        "a.b()",
        "a()",
        "log.b",
        "log(a)(b)",
        "log(a, b)",
        "{a}",
        "'a'",
        "true.x[",
        "\x00",
        "é",
    ],
)
def test_an_expression_that_tries_to_run_code_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def trap(*arguments: object, **keywords: object) -> object:
        raise AssertionError("a card's text reached Python's evaluator")

    for name in ("eval", "exec", "compile", "open"):
        monkeypatch.setattr(builtins, name, trap)
    with pytest.raises(ExpressionError):
        parse(text)


@pytest.mark.parametrize(
    ("text", "column", "problem"),
    [
        ("", 0, "expected a method"),
        ("a - * b", 4, "expected a method"),
        ("a b", 2, "expected an operator"),
        ("(a - b", 6, "expected `)`"),
        ("a.b.c", 3, "at most one `.`"),
        ("a[batch]", 7, "expected `=`"),
        ("a[batch=]", 8, "expected a value"),
        ("a[k=1, k=2]", 7, "set twice"),
        ("a[k=1", 5, "expected `]`"),
        ("a ** b", 3, "expected a method"),
        ("exp(a)", 3, "only log(...)"),
        ("a - 1e999", 4, "too large"),
        ("12abc", 0, "no meaning"),
        ("a - __b", 4, "cannot be the name"),
    ],
)
def test_an_error_points_at_its_column(text: str, column: int, problem: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert caught.value.column == column
    assert problem in str(caught.value)
    shown, caret = str(caught.value).splitlines()[-2:]
    assert shown == f"  {text}"
    assert caret.index("^") == 2 + column


def test_the_caret_stays_under_its_column_in_a_long_expression() -> None:
    text = " + ".join(["method"] * 30) + " + ? + " + " + ".join(["method"] * 10)
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    shown, caret = str(caught.value).splitlines()[-2:]
    assert shown[caret.index("^")] == "?"


def test_length_and_depth_are_limited() -> None:
    with pytest.raises(ExpressionError, match="at most 500 characters"):
        parse("a" * 501)
    with pytest.raises(ExpressionError, match="30 levels deep"):
        parse("(" * 31 + "a" + ")" * 31)
    with pytest.raises(ExpressionError, match="30 levels deep"):
        parse("-" * 400 + "a")
    assert parse("(" * 29 + "a" + ")" * 29) == Atom("a")
    assert len(parse("+".join("a" * 250)).atoms()) == 1


def test_a_race_key_is_one_atom() -> None:
    assert parse_atom("plain[batch_multiple=1]") == Atom("plain", None, (("batch_multiple", 1),))
    with pytest.raises(ExpressionError, match="no arithmetic"):
        parse_atom("plain / pres")


def test_only_a_text_is_an_expression() -> None:
    with pytest.raises(AssayError, match="is a text"):
        parse(3)  # type: ignore[arg-type]


def test_division_by_zero_and_the_logarithm_of_zero_say_what_is_wrong() -> None:
    with pytest.raises(AssayError, match="division by zero; `b` is 0"):
        parse("a / b").evaluate(lambda atom: 0)
    with pytest.raises(AssayError, match="logarithm of a value <= 0"):
        parse("log(a)").evaluate(lambda atom: np.array([1.0, 0.0]))

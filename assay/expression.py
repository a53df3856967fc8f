"""Expressions of a card: what is compared, written over method names.

    pres[batch=4] - plain[batch=1]        1 - direct / staged        log(fast.time_s)

Grammar (read by hand below; no text is ever handed to Python's own evaluator):

    sum     := product (("+" | "-") product)*
    product := unary (("*" | "/") unary)*
    unary   := "-" unary | primary
    primary := NUMBER | "log" "(" sum ")" | "(" sum ")" | atom
    atom    := NAME ["." METRIC] ["[" KNOB "=" SCALAR ("," KNOB "=" SCALAR)* "]"]
    scalar  := NUMBER | "-" NUMBER | "true" | "false" | WORD | "'" text "'"
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from assay.errors import AssayError

Scalar = str | int | float | bool
Lookup = Callable[["Atom"], Any]

MAX_CHARACTERS = 500
MAX_NESTING = 30

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])
      | (?P<name>[A-Za-z_]\w*)
      | (?P<string>'[^'\n]*'|"[^"\n]*")
      | (?P<symbol>[-+*/()\[\],=.])
    )""",
    re.VERBOSE | re.ASCII,
)
_WORD = re.compile(r"[A-Za-z_](?:[\w-]*\w)?", re.ASCII)


class ExpressionError(AssayError):
    """An expression that cannot be read; the message points at the column."""

    def __init__(self, problem: str, text: str, column: int) -> None:
        self.problem, self.text, self.column = problem, text, column
        start = max(0, column - 60)
        shown = text[start : column + 60].replace("\n", " ").replace("\t", " ")
        super().__init__(f"{problem}, at column {column + 1}:\n  {shown}\n  {' ' * (column - start)}^")


@dataclass(frozen=True)
class Number:
    value: int | float

    def __str__(self) -> str:
        return repr(self.value)

    def atoms(self) -> tuple[Atom, ...]:
        return ()

    def evaluate(self, lookup: Lookup) -> Any:
        return self.value


@dataclass(frozen=True)
class Atom:
    """One method (or `value`: rows without a method), at the knobs of the index, in one metric."""

    name: str
    metric: str | None = None
    index: tuple[tuple[str, Scalar], ...] = ()

    def __str__(self) -> str:
        metric = f".{self.metric}" if self.metric else ""
        knobs = ", ".join(f"{knob}={_scalar_text(value)}" for knob, value in self.index)
        return f"{self.name}{metric}[{knobs}]" if knobs else f"{self.name}{metric}"

    @property
    def knobs(self) -> dict[str, Scalar]:
        return dict(self.index)

    def atoms(self) -> tuple[Atom, ...]:
        return (self,)

    def evaluate(self, lookup: Lookup) -> Any:
        return lookup(self)


@dataclass(frozen=True)
class Unary:
    """Minus."""

    operand: Expression

    def __str__(self) -> str:
        return f"-{_bracketed(self.operand, isinstance(self.operand, Binary))}"

    def atoms(self) -> tuple[Atom, ...]:
        return self.operand.atoms()

    def evaluate(self, lookup: Lookup) -> Any:
        return -self.operand.evaluate(lookup)


@dataclass(frozen=True)
class Binary:
    operator: Literal["+", "-", "*", "/"]
    left: Expression
    right: Expression

    def __str__(self) -> str:
        weak = self.operator in "*/"
        left = _bracketed(self.left, weak and _is_sum(self.left))
        right = _bracketed(self.right, isinstance(self.right, Binary) and (weak or _is_sum(self.right)))
        return f"{left} {self.operator} {right}"

    def atoms(self) -> tuple[Atom, ...]:
        return tuple(dict.fromkeys(self.left.atoms() + self.right.atoms()))

    def evaluate(self, lookup: Lookup) -> Any:
        a, b = self.left.evaluate(lookup), self.right.evaluate(lookup)
        with np.errstate(all="ignore"):
            if self.operator == "+":
                return a + b
            if self.operator == "-":
                return a - b
            if self.operator == "*":
                return a * b
            try:
                return a / b
            except ZeroDivisionError:
                raise AssayError(f"{self}: division by zero; `{self.right}` is 0") from None


@dataclass(frozen=True)
class Log:
    """The natural logarithm."""

    operand: Expression

    def __str__(self) -> str:
        return f"log({self.operand})"

    def atoms(self) -> tuple[Atom, ...]:
        return self.operand.atoms()

    def evaluate(self, lookup: Lookup) -> Any:
        value = np.asarray(self.operand.evaluate(lookup), dtype=float)
        if np.any((value <= 0) & np.isfinite(value)):
            raise AssayError(f"{self}: the logarithm of a value <= 0")
        return np.log(value)[()]


Expression = Number | Atom | Unary | Binary | Log


def parse(text: str) -> Expression:
    """Read an expression. Raises `ExpressionError` with the column where reading stopped."""
    parser = _Parser(text)
    expression = parser.sum()
    parser.end()
    return expression


def parse_atom(text: str) -> Atom:
    """Read one atom and nothing else, as in the keys of a race: `pres[batch_multiple=4]`."""
    expression = parse(text)
    if not isinstance(expression, Atom):
        raise ExpressionError("expected one method, such as `pres[batch=4]`, and no arithmetic", text, 0)
    return expression


def parse_scalar(text: str) -> Scalar:
    """Read the value of a knob and nothing else: `64`, `-0.5`, `true`, `bitcoin-otc`, `'a -> b'`."""
    parser = _Parser(text)
    value = parser.scalar()
    parser.end()
    return value


def _is_sum(expression: Expression) -> bool:
    return isinstance(expression, Binary) and expression.operator in "+-"


def _bracketed(expression: Expression, needed: bool) -> str:
    return f"({expression})" if needed else str(expression)


def _scalar_text(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if _WORD.fullmatch(value) and value not in ("true", "false"):
            return value
        return f'"{value}"' if "'" in value else f"'{value}'"
    return repr(value)


def check_length(text: str) -> None:
    if not isinstance(text, str):
        raise AssayError(f"an expression is a text such as 'a - b', not {text!r}")
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(f"an expression has at most {MAX_CHARACTERS} characters", text, MAX_CHARACTERS)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    column: int


def _tokens(text: str) -> Iterator[_Token]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            rest = text[position:].lstrip()
            if not rest:
                break
            column = len(text) - len(rest)
            raise ExpressionError(f"`{rest[0]}` has no meaning here", text, column)
        kind = str(match.lastgroup)
        yield _Token(kind, match[kind], match.start(kind))
        position = match.end()
    yield _Token("end", "", len(text))


class _Parser:
    def __init__(self, text: str) -> None:
        check_length(text)
        self.text = text
        self.tokens = list(_tokens(text))
        self.position = 0
        self.nesting = 0

    @property
    def next(self) -> _Token:
        return self.tokens[self.position]

    def advance(self) -> _Token:
        token = self.next
        self.position += 1
        return token

    def accept(self, symbols: str) -> _Token | None:
        token = self.next
        return self.advance() if token.kind == "symbol" and token.text in symbols else None

    def expect(self, symbol: str) -> None:
        if not self.accept(symbol):
            self.fail(f"expected `{symbol}`")

    def fail(self, problem: str, token: _Token | None = None) -> None:
        raise ExpressionError(problem, self.text, (token or self.next).column)

    def end(self) -> None:
        token = self.next
        if token.kind == "symbol" and token.text == "(":
            self.fail("only log(...) can be called")
        if token.kind == "symbol" and token.text == ".":
            self.fail("a name has at most one `.`: `method.metric`")
        if token.kind != "end":
            self.fail(f"expected an operator or the end, not `{token.text}`")

    def sum(self) -> Expression:
        expression = self.product()
        while token := self.accept("+-"):
            expression = Binary(token.text, expression, self.product())  # type: ignore[arg-type]
        return expression

    def product(self) -> Expression:
        expression = self.unary()
        while token := self.accept("*/"):
            expression = Binary(token.text, expression, self.unary())  # type: ignore[arg-type]
        return expression

    def unary(self) -> Expression:
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            self.fail(f"more than {MAX_NESTING} levels deep")
        expression: Expression = Unary(self.unary()) if self.accept("-") else self.primary()
        self.nesting -= 1
        return expression

    def primary(self) -> Expression:
        token = self.next
        if token.kind == "number":
            return Number(self.number())
        if token.kind == "name" and token.text == "log":
            self.advance()
            return Log(self.group())
        if token.kind == "name":
            return self.atom()
        if token.kind == "symbol" and token.text == "(":
            return self.group()
        self.fail("expected a method, a number, `(` or log(...)")
        raise AssertionError

    def group(self) -> Expression:
        self.expect("(")
        expression = self.sum()
        self.expect(")")
        return expression

    def atom(self) -> Atom:
        name = self.name("a method")
        metric = self.name("a metric") if self.accept(".") else None
        index: dict[str, Scalar] = {}
        if self.accept("["):
            while True:
                token = self.next
                knob = self.name("a knob")
                if knob in index:
                    self.fail(f"knob `{knob}` is set twice", token)
                self.expect("=")
                index[knob] = self.scalar()
                if not self.accept(","):
                    break
            self.expect("]")
        return Atom(name, metric, tuple(index.items()))

    def name(self, what: str) -> str:
        token = self.next
        if token.kind != "name":
            self.fail(f"expected {what}")
        if token.text.startswith("__") or token.text == "log":
            self.fail(f"`{token.text}` cannot be the name of {what}")
        return self.advance().text

    def scalar(self) -> Scalar:
        token = self.next
        if self.accept("-"):
            return -self.number()
        if token.kind == "number":
            return self.number()
        if token.kind == "string":
            return self.advance().text[1:-1]
        if token.kind == "name":
            return self.word()
        self.fail("expected a value: a number, true, false, a word or a quoted text")
        raise AssertionError

    def word(self) -> Scalar:
        """A bare word; hyphens belong to it (`dataset=bitcoin-otc`) where no space is in between."""
        start = self.next.column
        match = _WORD.match(self.text, start)
        assert match is not None
        while self.next.kind != "end" and self.next.column < match.end():
            self.advance()
        return {"true": True, "false": False}.get(match[0], match[0])

    def number(self) -> int | float:
        token = self.next
        if token.kind != "number":
            self.fail("expected a number")
        # a longer integer is not exact as a float either, and need not be
        value = int(token.text) if token.text.isdigit() and len(token.text) <= 18 else float(token.text)
        if not math.isfinite(value):
            self.fail(f"`{token.text[:20]}` is too large")
        self.advance()
        return value

"""Ratios on a card: which expressions are one, and the exact way to logarithms and back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from assay.errors import AssayError
from assay.expression import Atom, Binary, Expression, Number, Unary


@dataclass(frozen=True)
class RatioForm:
    """An expression that equals `offset + scale * ratio`, with a ratio of positive metrics.

    It is reduced as log(ratio) and carried back through this link. The link is monotone, so an interval's ends are
    exact: `1 - a / b` has offset 1 and scale -1, and the interval of its saving comes from that of log(a / b).
    """

    ratio: Expression
    offset: float = 0.0
    scale: float = 1.0

    @property
    def no_effect(self) -> float:
        """The value where the ratio is 1: 1 for `a / b`, 0 for `1 - a / b`."""
        return self.offset + self.scale

    @property
    def rises(self) -> bool:
        return self.scale > 0

    def back(self, log_ratio: np.ndarray) -> np.ndarray:
        """From log(ratio) to the value of the expression."""
        with np.errstate(over="ignore"):
            return np.asarray(self.offset + self.scale * np.exp(log_ratio))

    def to_log(self, value: float) -> float:
        """The log(ratio) that gives this value; infinite where no positive ratio gives it."""
        ratio = (value - self.offset) / self.scale
        return math.log(ratio) if ratio > 0 else -math.inf


def ratio_form(expression: Expression) -> RatioForm | None:
    """The expression as `offset + scale * ratio`, or None where it is no such thing.

    A ratio is a product or quotient of atoms (or of sums of atoms), with an atom above the line and one below.
    """
    if isinstance(expression, Unary):
        inner = ratio_form(expression.operand)
        return inner and RatioForm(inner.ratio, -inner.offset, -inner.scale)
    if not isinstance(expression, Binary):
        return None
    left, right = _constant(expression.left), _constant(expression.right)
    if left is None and right is None:
        above, below = _sides(expression)
        is_ratio = expression.operator in "*/" and _is_positive(expression) and above and below
        return RatioForm(expression) if is_ratio else None
    constant, other = (right, expression.left) if left is None else (left, expression.right)
    inner = ratio_form(other)
    if inner is None or constant is None:
        return None
    return _shifted(inner, expression.operator, constant, constant_first=left is not None)


def _shifted(inner: RatioForm, operator: str, constant: float, *, constant_first: bool) -> RatioForm | None:
    if operator == "+":
        return RatioForm(inner.ratio, inner.offset + constant, inner.scale)
    if operator == "-" and constant_first:
        return RatioForm(inner.ratio, constant - inner.offset, -inner.scale)
    if operator == "-":
        return RatioForm(inner.ratio, inner.offset - constant, inner.scale)
    if constant == 0 or (operator == "/" and constant_first):
        return None
    factor = constant if operator == "*" else 1 / constant
    return RatioForm(inner.ratio, inner.offset * factor, inner.scale * factor)


def _constant(expression: Expression) -> float | None:
    if expression.atoms():
        return None
    try:
        value = float(expression.evaluate(lambda atom: math.nan))
    except AssayError:  # 1 / 0, which says so where the claim is evaluated
        return None
    return value if math.isfinite(value) else None


def _is_positive(expression: Expression) -> bool:
    """Whether positive metrics can only make it positive: no minus and no log anywhere."""
    if isinstance(expression, Binary):
        return expression.operator != "-" and _is_positive(expression.left) and _is_positive(expression.right)
    return isinstance(expression, Atom) or (isinstance(expression, Number) and expression.value > 0)


def _sides(expression: Expression) -> tuple[bool, bool]:
    """Whether an atom stands above the line, and whether one stands below it."""
    if isinstance(expression, Binary) and expression.operator in "*/":
        left, right = _sides(expression.left), _sides(expression.right)
        if expression.operator == "/":
            right = right[::-1]
        return left[0] or right[0], left[1] or right[1]
    return bool(expression.atoms()), False

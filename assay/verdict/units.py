"""Units of one test: rows that are added, compared or divided are in one unit, for nothing here converts any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assay.expression import Atom, Binary, Expression, Log, Unary
from assay.record import Row
from assay.verdict.stats import VerdictError

# different sizes of one thing, whose ratio would be off by a power of ten
_SCALES = (
    {"ns", "us", "\N{MICRO SIGN}s", "ms", "s", "min", "h"},
    {"B", "byte", "bytes", "kB", "KB", "KiB", "MB", "MiB", "GB", "GiB", "TB", "TiB"},
    {"bit", "kbit", "Mbit", "Gbit"},
    {"J", "mJ", "kJ", "Wh", "kWh"},
    {"%", "points", "pp", "fraction", "share"},
)


def common_unit(expression: Expression, rows: Mapping[str, Sequence[Row]]) -> str:
    """The unit that all rows of a test have, or "" where they have none or several. `rows` are those of each atom.

    Raises VerdictError where rows of one metric, or terms of one sum, have different units, or where a ratio divides
    one size of a unit by another, such as ms by s.
    """
    units: dict[str, str] = {}
    of_metric: dict[str, str] = {}
    for atom, found in rows.items():
        for row in found:
            first = of_metric.setdefault(row.metric, row.unit)
            if row.unit != first:
                raise VerdictError(
                    f"{row.metric} is in {_named(first)} in some rows and in {_named(row.unit)} in others: "
                    "record it in one unit"
                )
            units[atom] = row.unit
    _unit(expression, units)
    different = set(units.values())
    return different.pop() if len(different) == 1 else ""


def _unit(expression: Expression, units: Mapping[str, str]) -> str | None:
    """The unit of an expression; None for a plain number, which fits any, and for products of units."""
    if isinstance(expression, Atom):
        return units.get(str(expression))
    if isinstance(expression, Unary):
        return _unit(expression.operand, units)
    if isinstance(expression, Log):
        _unit(expression.operand, units)
        return None
    if not isinstance(expression, Binary):
        return None
    left, right = _unit(expression.left, units), _unit(expression.right, units)
    if left is None or right is None:
        return None if expression.operator == "/" and left is None else left or right
    if expression.operator in "+-" and left != right:
        raise VerdictError(f"`{expression}` adds {_named(left)} and {_named(right)}: record both in one unit")
    if left != right and any({left, right} <= scale for scale in _SCALES):
        raise VerdictError(f"`{expression}` has {_named(left)} and {_named(right)}: record both in one unit")
    return left if expression.operator in "+-" else None


def _named(unit: str) -> str:
    return unit or "no unit"

"""What arguments of public functions are checked for, before anything native sees them.

check_sizes("DAGNN", in_channels=in_channels, num_layers=num_layers)
check_sizes("DAGNN", least=0, K=K)
check_probabilities("DAGNN", dropout=dropout)
check_option("SheafConv", "maps", maps, ("diagonal", "general"))
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection

import torch


def check_sizes(where: str, *, least: int = 1, **sizes: int) -> None:
    """Whole numbers of at least `least`: widths, layers, steps, classes.

    Raises:
        TypeError: one is no whole number.
        ValueError: one is below `least`.
    """
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, numbers.Integral):
            raise TypeError(f"{where}: {name} must be a whole number; got {size!r}")
        if size < least:
            raise ValueError(f"{where}: {name} must be at least {least}; got {size}")


def check_numbers(where: str, *, above: float = -math.inf, least: float = -math.inf, most: float = math.inf,
                  **values: float) -> None:  # fmt: skip
    """Finite real numbers, greater than `above`, at least `least`, at most `most`: rates, tolerances, temperatures.

    Raises:
        TypeError: one is no real number.
        ValueError: one is not finite or out of range.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError(f"{where}: {name} must be a number; got {value!r}")
        if not math.isfinite(value) or value <= above or value < least or value > most:
            lower = f"above {above:g}" if above > -math.inf else f"at least {least:g}" if least > -math.inf else ""
            upper = f"at most {most:g}" if most < math.inf else ""
            bounds = " and ".join(filter(None, (lower, upper))) or "finite"
            raise ValueError(f"{where}: {name} must be {bounds}; got {value}")


def check_probabilities(where: str, **values: float) -> None:
    """Numbers in [0, 1]. Raises as `check_numbers`."""
    check_numbers(where, least=0.0, most=1.0, **values)


def check_option(where: str, name: str, value: object, options: Collection[object]) -> None:
    """One of a few names. Raises ValueError that lists them."""
    if value not in options:
        known = ", ".join(repr(option) for option in options)
        raise ValueError(f"{where}: {name} must be one of {known}; got {value!r}")


def refuse_to_derive_again(name: str) -> None:
    """For the head of a backward that would be silently wrong if it were differentiated (`create_graph=True`).

    torch's `once_differentiable` says nothing where the incoming derivative is a constant, as that of a plain sum.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(f"{name}: has a first derivative only; ask for it without create_graph=True")

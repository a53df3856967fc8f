"""Unusual inputs, one table for all papers: each is taken as torch takes it, or refused in one clear sentence.

    assert_takes_or_refuses(lambda x, edge_index: model(x, edge_index), x=x, edge_index=edge_index)
    assert_takes_or_refuses(DAGNN, in_channels=4, hidden_channels=8, out_channels=3, K=2, dropout=0.5)

The arguments are good ones. Each is replaced in turn by what the table has for its kind.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import assay

REFUSALS = (ValueError, IndexError, TypeError)
EQUAL, EITHER, REFUSED = "gives the same numbers or is refused", "is taken or refused", "is refused"


@dataclass(frozen=True)
class Unusual:
    """A value in place of a good one, and what has to happen."""

    name: str
    value: Any
    outcome: str
    tolerance: float = 1e-5


def unusual(name: str, value: Any) -> Iterator[Unusual]:
    """What the table has for an argument of this name and kind."""
    if isinstance(value, Tensor) and value.dtype == torch.bool:
        yield from _masks(value)
    elif isinstance(value, Tensor) and name == "edge_index":
        yield from _arcs(value)
    elif isinstance(value, Tensor) and value.is_floating_point():
        yield from _numbers(value)
    elif isinstance(value, Tensor):
        yield Unusual("int32", value.int(), EQUAL)
        yield Unusual("floats", value.double() + 0.5, REFUSED)
    elif isinstance(value, str):
        yield Unusual("misspelt", f"{value}x", REFUSED)
        yield Unusual("None", None, EITHER)
    elif isinstance(value, bool):
        return
    elif isinstance(value, int):
        yield Unusual("negative", -1, REFUSED)
        yield Unusual("zero", 0, EITHER)
        yield Unusual("a fraction", value + 0.5, REFUSED)
    elif isinstance(value, float):
        yield Unusual("NaN", float("nan"), REFUSED)
        yield Unusual("negative", -1.0, REFUSED)


def _numbers(x: Tensor) -> Iterator[Unusual]:
    yield Unusual("float64", x.double(), EQUAL)
    yield Unusual("bfloat16", x.bfloat16(), EQUAL, tolerance=0.1)
    yield Unusual("integers", x.long(), EITHER)
    yield Unusual("no rows", x[:0], EITHER)
    if x.numel():
        poisoned = x.clone()
        poisoned.view(-1)[0] = float("nan")
        yield Unusual("a NaN", poisoned, "shows in the result or is refused")


def _arcs(edge_index: Tensor) -> Iterator[Unusual]:
    far, negative = edge_index.clone(), edge_index.clone()
    far[1, -1], negative[0, 0] = 10_000, -1
    yield Unusual("int32", edge_index.int(), EQUAL)
    yield Unusual("floats", edge_index.float(), REFUSED)
    yield Unusual("a node out of range", far, REFUSED)
    yield Unusual("a negative node", negative, REFUSED)
    yield Unusual("three rows", torch.cat([edge_index, edge_index[:1]]), REFUSED)
    yield Unusual("no arcs", edge_index[:, :0], EITHER)
    size = int(edge_index.max()) + 1
    adjacency = torch.sparse_coo_tensor(edge_index.flip(0), torch.ones(edge_index.shape[1]), (size, size))
    yield Unusual("a sparse adj_t", adjacency.coalesce(), EITHER)


def _masks(mask: Tensor) -> Iterator[Unusual]:
    yield Unusual("indices in place of booleans", mask.nonzero().flatten(), EQUAL)
    yield Unusual("zeros and ones in place of booleans", mask.long(), REFUSED)
    yield Unusual("too short", mask[:-1], REFUSED)
    yield Unusual("nobody", torch.zeros_like(mask), EITHER)


def assert_takes_or_refuses(call: Callable[..., Any], /, *, free: Collection[str] = (), **good: Any) -> None:
    """Replace each argument in turn by every unusual value of its kind.

    Args:
        call: a public class, function, or a call of a model. It is called by keyword, seeded.
        free: arguments for which every value of their type is a good one (a seed, a dimension).
        good: arguments that are taken.
    """
    expected = _numbers_of(_call(call, good))
    problems = []
    for name, value in good.items():
        for case in unusual(name, value):
            if name not in free and (problem := _problem(call, {**good, name: case.value}, case, expected)):
                problems.append(f"{name}: {case.name} {case.outcome}, but {problem}")
    assert not problems, "\n".join(problems)


def _call(call: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    copies = {k: v.clone() if isinstance(v, Tensor) and v.layout == torch.strided else v for k, v in arguments.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(**copies)


def _problem(call: Callable[..., Any], arguments: dict[str, Any], case: Unusual, expected: list[Tensor]) -> str | None:
    """What is wrong with the outcome, or None."""
    try:
        found = _numbers_of(_call(call, arguments))
    except REFUSALS as error:
        return _unclear(error)
    except RuntimeError as error:
        # torch's own sentence about two dtypes that differ is as clear as any of ours
        return None if "dtype" in str(error) else f"it ends in {type(error).__name__}: {str(error)[:120]}"
    if case.outcome == REFUSED:
        return "it is taken"
    if case.outcome == EQUAL:
        return None if _close(found, expected, case.tolerance) else "the numbers differ"
    if case.outcome == EITHER or not expected:
        return None
    return None if any(not t.isfinite().all() for t in found) else "it is hidden"


def _unclear(error: Exception) -> str | None:
    """A refusal is a sentence, and comes from our code or from Python's own check of a call, not from native code."""
    text = str(error)
    if not text or "\n" in text.strip() or len(text) > 400:
        return f"its message is not one sentence: {text[:120]!r}"
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    ours = Path(last).is_relative_to(assay.ROOT) and ".venv" not in Path(last).parts
    return None if ours or isinstance(error, TypeError) else f"{last} refuses it: {text[:120]}"


def _numbers_of(result: Any) -> list[Tensor]:
    """The floating-point tensors in a result, whatever holds them. A module has none: its weights are random."""
    if isinstance(result, Tensor):
        return [result.detach()] if result.is_floating_point() else []
    if isinstance(result, float):
        return [torch.tensor(result)]
    if isinstance(result, dict):
        result = list(result.values())
    return [t for item in result for t in _numbers_of(item)] if isinstance(result, list | tuple) else []


def _close(found: list[Tensor], expected: list[Tensor], tolerance: float) -> bool:
    return len(found) == len(expected) and all(
        a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=tolerance, atol=tolerance)
        for a, b in zip(found, expected, strict=True)
    )

"""Every hand-written backward pass against its plain twin: values, derivatives, and what a second one gives."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods.shared import kernels
from methods.shared.sheaf import SheafIndex
from methods.sheaf_recsys.baselines import AttentionGraph

EDGES = torch.tensor([[0, 1, 0, 2], [1, 2, 2, 3]])
INDEX, NO_EDGES = SheafIndex(EDGES, 5), SheafIndex(EDGES[:, :0], 3)
BOTH_ARCS = torch.cat([EDGES, EDGES.flip(0)], dim=1)
STENCIL = torch.tensor([[2.0, -1, 0], [0, 2, -1]], dtype=torch.float64)


def real(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def positive(num: int, dim: int) -> Tensor:
    root = torch.randn(num, dim, dim, dtype=torch.float64)
    return (root @ root.mT + torch.eye(dim)).requires_grad_()


def weights(inputs: int, width: int) -> list[Tensor]:
    return [weight.detach().requires_grad_() for weight in nn.GRUCell(inputs, width).double().parameters()]


# name -> arguments of several shapes, among them the least ones
CASES: dict[str, Callable[[], list[tuple[Any, ...]]]] = {
    "linear": lambda: [(real(3, n), lambda x: STENCIL @ x, lambda g: STENCIL.T @ g) for n in (4, 1, 0)],
    "laplacian_product": lambda: [
        (real(4, 2, 2), positive(5, 2), real(10, 3), INDEX.pattern(2, True, True)),
        (real(4), real(5), real(5, 1), INDEX.pattern(1, False, False)),
        (real(0, 3), real(3, 3), real(9, 2), NO_EDGES.pattern(3, False, False)),
    ],
    "pairs": lambda: [(real(5, 3), real(5, 3), INDEX), (real(3, 1), real(3, 1), NO_EDGES)],
    "matrix_inverse_sqrt": lambda: [(positive(n, d),) for n, d in ((4, 3), (1, 1), (0, 2))],
    "cosine_of_time": lambda: [(real(*shape).detach(), real(d), real(d)) for shape, d in (((5, 2), 3), ((1,), 1))],
    "rows_of": lambda: [(real(4, 3), torch.tensor(rows, dtype=torch.int64)) for rows in ([2, 0, 2, 3], [1], [])],
    "gru_update": lambda: [(real(n, 5).detach(), real(n, 3).detach(), *weights(5, 3)) for n in (4, 1, 0)],
    "attend": lambda: [
        (real(2, 4, 3), real(6, 3), torch.tensor([0, 0, 0, 2, 3, 3]), None),
        (real(2, 4, 3), real(6, 3), torch.tensor([0, 0, 0, 1, 3, 3]), (torch.rand(2, 6) > 0.3).double() / 0.7),
        (real(1, 1, 1), real(1, 1), torch.tensor([0]), None),
    ],
    "reflections": lambda: [(real(d - 1, d, n),) for d, n in ((4, 3), (2, 1), (3, 0))],
    "gather": lambda: [(real(8 + n), real(n, c), AttentionGraph(BOTH_ARCS, n)) for n, c in ((5, 3), (4, 1))],
    "monomials": lambda: [(real(batch, n, d), degree) for batch, n, d, degree in ((2, 3, 2, 3), (1, 1, 1, 2))],
}


def pairs_of_twins() -> dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]]:
    found = {}
    for info in pkgutil.iter_modules(kernels.__path__, f"{kernels.__name__}."):
        module = importlib.import_module(info.name)
        fast = [name for name, x in vars(module).items() if inspect.isfunction(x) and f"plain_{name}" in vars(module)]
        assert fast, f"{info.name} has no pair"
        found |= {name: (getattr(module, name), getattr(module, f"plain_{name}")) for name in fast}
        classes = [x for x in vars(module).values() if inspect.isclass(x) and issubclass(x, torch.autograd.Function)]
        assert len(classes) == len(fast), f"{info.name}: one hand-written backward pass for each pair"
    return found


TWINS = pairs_of_twins()
every = pytest.mark.parametrize("name", sorted(TWINS))


@every
def test_a_kernel_equals_its_plain_twin_in_values_and_derivatives(name: str) -> None:
    torch.manual_seed(0)
    fast, plain = TWINS[name]
    assert inspect.signature(fast) == inspect.signature(plain)
    for case in CASES[name]():
        given = [x for x in case if isinstance(x, Tensor) and x.requires_grad]
        got, wanted = fast(*case), plain(*case)
        torch.testing.assert_close(got, wanted)
        slope = torch.randn_like(wanted)
        derivatives = [torch.autograd.grad(y, given, slope) for y in (got, wanted)]
        for of_fast, of_plain in zip(*derivatives, strict=True):
            torch.testing.assert_close(of_fast, of_plain)


@every
def test_a_second_derivative_is_right_or_refused(name: str) -> None:
    torch.manual_seed(0)
    fast, plain = TWINS[name]
    case = CASES[name]()[0]
    given = [x for x in case if isinstance(x, Tensor) and x.requires_grad]

    def twice(function: Callable[..., Tensor], outer: Callable[[Tensor], Tensor]) -> list[Tensor]:
        first = torch.autograd.grad(outer(function(*case)), given, create_graph=True)
        squares = sum(x.square().sum() for x in first)
        found = torch.autograd.grad(squares, given, allow_unused=True) if squares.requires_grad else [None] * len(given)
        return [torch.zeros_like(x) if y is None else y for x, y in zip(given, found, strict=True)]

    for outer in (torch.sum, lambda y: y.square().sum()):  # what comes back in is a constant, and a function
        wanted = twice(plain, outer)
        try:
            got = twice(fast, outer)
        except RuntimeError as error:
            if "has a first derivative only" in str(error) or "once_differentiable" in str(error):
                continue
            raise
        for of_fast, of_plain in zip(got, wanted, strict=True):
            torch.testing.assert_close(of_fast, of_plain)

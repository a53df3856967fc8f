"""Operators and their SBP signatures.

A *signature* says which SBPs of the inputs give which SBP of the output, if every device just runs the operator on what
it holds. Data parallelism, tensor parallelism and their mixtures are nothing but choices of signatures. For Y = A W:

    A      W      Y
    S(0)   B      S(0)    data parallelism
    B      S(1)   S(1)    column tensor parallelism
    S(1)   S(0)   P       row tensor parallelism
    P      B      P
    B      P      P
    B      B      B

What is in no row is illegal: relu of partial values, for one, since relu(a + b) is not relu(a) + relu(b). On a mesh of
several dimensions each dimension takes a row of its own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.oneflow.sbp import P_MAX, B, NdSbp, P, Region, S, Sbp

Shape = tuple[int, ...]


class IllegalSignature(ValueError):
    """No signature of the operator has these inputs."""


@dataclass(frozen=True)
class Signature:
    inputs: tuple[Sbp, ...]
    output: Sbp

    def __str__(self) -> str:
        return f"{', '.join(map(str, self.inputs))} -> {self.output}"


@dataclass(frozen=True)
class NdSignature:
    """One signature for each dimension of the mesh, seen by tensor."""

    inputs: tuple[NdSbp, ...]
    output: NdSbp

    @classmethod
    def of(cls, rows: Sequence[Signature]) -> NdSignature:
        inputs = tuple(zip(*(row.inputs for row in rows), strict=True))
        return cls(inputs, tuple(row.output for row in rows))

    def __str__(self) -> str:
        return f"{', '.join(map(str, self.inputs))} -> {self.output}"


@dataclass(frozen=True, eq=False)
class Op:
    """An operator of one output.

    signatures: in the order in which ties are broken. function: (*tensors) -> Tensor, on global and on local tensors
    alike. shape: of the output, from those of the inputs. flops: of one call, from the shapes of inputs and output.
    indexed: (input, axis) whose position in the global tensor the function must know; it is given as `start`.
    """

    name: str
    signatures: tuple[Signature, ...]
    function: Callable[..., Tensor]
    shape: Callable[..., Shape] = lambda *shapes: shapes[0]
    flops: Callable[[Sequence[Shape], Shape], float] = lambda inputs, output: float(math.prod(output))
    indexed: tuple[int, int] | None = None

    def __call__(self, *tensors: Tensor) -> Tensor:
        """On global tensors."""
        return self.function(*tensors)

    def local(self, tensors: Sequence[Tensor], regions: Sequence[Region]) -> Tensor:
        """On what a device holds: the regions of the inputs that `tensors` are."""
        if self.indexed is None:
            return self.function(*tensors)
        tensor, axis = self.indexed
        return self.function(*tensors, start=regions[tensor][axis][0])

    def infer(self, *inputs: Sbp) -> Sbp:
        """The output's SBP along one dimension of the mesh. Raises IllegalSignature."""
        for signature in self.signatures:
            if signature.inputs == inputs:
                return signature.output
        legal = "; ".join(map(str, self.signatures))
        given = ", ".join(map(str, inputs))
        raise IllegalSignature(f"{self.name} of ({given}) has no signature; box an input to one of: {legal}")

    def infer_nd(self, *inputs: NdSbp) -> NdSbp:
        """The same for a mesh of several dimensions, each on its own. Raises IllegalSignature."""
        return tuple(self.infer(*along) for along in zip(*inputs, strict=True))

    def nd_signatures(self, dimensions: int) -> list[NdSignature]:
        """Every choice of one signature for each dimension of the mesh, but those that mix sums and maxima."""
        chosen = (NdSignature.of(rows) for rows in itertools.product(self.signatures, repeat=dimensions))
        return [signature for signature in chosen if not _mixes(signature)]


def _mixes(signature: NdSignature) -> bool:
    return any(len({a.combine for a in sbp if a.kind == "P"}) > 1 for sbp in (*signature.inputs, signature.output))


def _rows(*rows: Sequence[Sbp]) -> tuple[Signature, ...]:
    """Each row: the inputs' SBPs, then the output's."""
    return tuple(Signature(tuple(row[:-1]), row[-1]) for row in rows)


def _split_alike(ndim: int, inputs: int) -> list[tuple[Sbp, ...]]:
    return [(S(axis),) * (inputs + 1) for axis in range(ndim)]


def matmul(transpose_a: bool = False, transpose_b: bool = False) -> Op:
    """Y = A W, or of the transposes: dA = dY W^T and dW = A^T dY are matmuls too."""
    m, k = (S(1), S(0)) if transpose_a else (S(0), S(1))  # what splits A's rows, and its columns
    j, n = (S(1), S(0)) if transpose_b else (S(0), S(1))
    rows = _rows((m, B, S(0)), (B, n, S(1)), (k, j, P), (P, B, P), (B, P, P), (B, B, B))

    def function(a: Tensor, b: Tensor) -> Tensor:
        return (a.t() if transpose_a else a) @ (b.t() if transpose_b else b)

    def shape(a: Shape, b: Shape) -> Shape:
        return a[1 if transpose_a else 0], b[0 if transpose_b else 1]

    def flops(inputs: Sequence[Shape], output: Shape) -> float:
        return 2.0 * math.prod(output) * inputs[0][0 if transpose_a else 1]

    return Op("matmul", rows, function, shape, flops)


def unary(name: str, function: Callable[[Tensor], Tensor], ndim: int = 2) -> Op:
    """An element-wise function that is not linear: partial values are illegal."""
    return Op(name, _rows(*_split_alike(ndim, 1), (B, B)), function)


def relu(ndim: int = 2) -> Op:
    return unary("relu", torch.relu, ndim)


def exp(ndim: int = 2) -> Op:
    return unary("exp", torch.exp, ndim)


def log(ndim: int = 1) -> Op:
    return unary("log", torch.log, ndim)


def scale(factor: float, ndim: int = 2) -> Op:
    """Linear, so the scaled partial values are those of the scaled tensor."""
    return Op("scale", _rows(*_split_alike(ndim, 1), (P, P), (B, B)), lambda x: factor * x)


def identity(ndim: int = 2) -> Op:
    """A place where a tensor with several readers can be boxed once for all of them."""
    return Op("identity", _rows(*_split_alike(ndim, 1), (P, P), (B, B)), lambda x: x)


def transpose() -> Op:
    return Op("transpose", _rows((S(0), S(1)), (S(1), S(0)), (P, P), (B, B)), lambda x: x.t(), lambda s: (s[1], s[0]))


def add(ndim: int = 2) -> Op:
    return Op("add", _rows(*_split_alike(ndim, 2), (P, P, P), (B, B, B)), torch.add)


def subtract(ndim: int = 2, factor: float = 1.0) -> Op:
    """x - factor * y."""
    rows = _rows(*_split_alike(ndim, 2), (P, P, P), (B, B, B))
    return Op("subtract", rows, lambda x, y: x - factor * y)


def multiply(ndim: int = 2) -> Op:
    """Linear in each input, so one of them may be partial."""
    rows = _rows(*_split_alike(ndim, 2), (P, B, P), (B, P, P), (B, B, B))
    return Op("multiply", rows, torch.mul)


def relu_grad(ndim: int = 2) -> Op:
    """dZ = dY where Z > 0: linear in dY."""
    rows = _rows(*_split_alike(ndim, 2), (P, B, P), (B, B, B))
    return Op("relu_grad", rows, lambda dy, z: torch.where(z > 0, dy, 0))


def bias_add() -> Op:
    """X (m, n) + b (n,)."""
    return Op("bias_add", _rows((S(0), B, S(0)), (S(1), S(0), S(1)), (P, P, P), (B, B, B)), torch.add)


def row_subtract() -> Op:
    """X (m, n) - v (m,), a value for each row."""
    rows = _rows((S(0), S(0), S(0)), (S(1), B, S(1)), (P, P, P), (B, B, B))
    return Op("row_subtract", rows, lambda x, v: x - v[:, None])


def row_divide() -> Op:
    """X (m, n) / v (m,): linear in X."""
    rows = _rows((S(0), S(0), S(0)), (S(1), B, S(1)), (P, B, P), (B, B, B))
    return Op("row_divide", rows, lambda x, v: x / v[:, None])


def reduce_sum(axis: int, ndim: int = 2) -> Op:
    return _reduce("reduce_sum", lambda x: x.sum(axis), axis, ndim, P)


def reduce_max(axis: int, ndim: int = 2) -> Op:
    def function(x: Tensor) -> Tensor:
        if x.shape[axis]:
            return x.amax(axis)
        return x.new_full((*x.shape[:axis], *x.shape[axis + 1 :]), P_MAX.neutral)  # more devices than columns

    return _reduce("reduce_max", function, axis, ndim, P_MAX)


def fetch() -> Op:
    """What every device wants to know, such as a loss: a consumer that takes copies only."""
    return Op("fetch", _rows((B, B)), lambda x: x)


def _reduce(name: str, function: Callable[[Tensor], Tensor], axis: int, ndim: int, partial: Sbp) -> Op:
    kept = [(S(k), S(k - (k > axis))) for k in range(ndim) if k != axis]

    def flops(inputs: Sequence[Shape], output: Shape) -> float:
        return float(math.prod(inputs[0]))

    rows = _rows(*kept, (S(axis), partial), (partial, partial), (B, B))
    return Op(name, rows, function, lambda s: (*s[:axis], *s[axis + 1 :]), flops)


def embedding(num_rows: int) -> Op:
    """Rows of a table (num_rows, d) by ids (m,). A device with some rows of the table gives zeros for the other ids."""

    def function(table: Tensor, ids: Tensor, start: int = 0) -> Tensor:
        _check_ids("embedding", ids, num_rows)
        here = (ids >= start) & (ids < start + len(table))
        if not len(table):
            return table.new_zeros(len(ids), table.shape[1])
        return torch.where(here[:, None], table[torch.where(here, ids - start, 0)], 0)

    rows = _rows((B, S(0), S(0)), (S(1), B, S(1)), (S(0), B, P), (P, B, P), (B, B, B))
    return Op("embedding", rows, function, lambda table, ids: (ids[0], table[1]), indexed=(0, 0))


def take_label(classes: int) -> Op:
    """X[i, label_i] of X (m, classes) and labels (m,). A device with some of the classes gives zeros for the others.

    What is not taken may be infinite: a masked class has the logit -inf.
    """

    def function(x: Tensor, labels: Tensor, start: int = 0) -> Tensor:
        _check_ids("take_label", labels, classes)
        return torch.where(_one_hot(labels, start, x), x, 0).sum(1)

    rows = _rows((S(0), S(0), S(0)), (S(1), B, P), (P, B, P), (B, B, B))
    return Op("take_label", rows, function, lambda x, labels: labels, indexed=(0, 1))


def subtract_one_hot(classes: int) -> Op:
    """X (m, classes) less 1 at each row's label: what softmax cross-entropy sends back."""

    def function(x: Tensor, labels: Tensor, start: int = 0) -> Tensor:
        _check_ids("subtract_one_hot", labels, classes)
        return x - _one_hot(labels, start, x).to(x.dtype)

    rows = _rows((S(0), S(0), S(0)), (S(1), B, S(1)), (B, B, B))
    return Op("subtract_one_hot", rows, function, indexed=(0, 1))


def _one_hot(labels: Tensor, start: int, x: Tensor) -> Tensor:
    classes = torch.arange(start, start + x.shape[1], device=x.device)
    return labels[:, None] == classes


def _check_ids(where: str, ids: Tensor, count: int) -> None:
    """Raise TypeError or IndexError for ids that do not name one of `count` rows or classes; torch's -100 does not."""
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise TypeError(f"{where}: ids and labels are whole numbers, not {ids.dtype}")
    wrong = ((ids < 0) | (ids >= count)).nonzero()
    if len(wrong):
        place = int(wrong[0])
        raise IndexError(f"{where}: id {place} is {int(ids[place])}; ids go from 0 to {count - 1}, and each counts")


def softmax_cross_entropy() -> Op:
    """Loss of each row of logits (m, c) with labels (m,). Split classes need two stages: `graph.cross_entropy`."""

    def function(x: Tensor, labels: Tensor) -> Tensor:
        _check_ids("softmax_cross_entropy", labels, x.shape[1])
        return F.cross_entropy(x, labels, reduction="none")

    return Op("softmax_cross_entropy", _rows((S(0), S(0), S(0)), (B, B, B)), function, lambda x, y: y)

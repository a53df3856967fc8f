"""The contenders: ways to compute tensor attention, exactly or not, and networks with and without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from assay.contenders import Contender
from methods.tensor_attention import match
from methods.tensor_attention.baselines import (
    loop_attention,
    naive_attention,
    sampled_attention,
    sdpa_attention,
    top_attention,
)
from methods.tensor_attention.fast_attention import fast_tensor_attention
from methods.tensor_attention.inputs import Inputs
from methods.tensor_attention.match import MatchNet
from methods.tensor_attention.tensor_attention import tensor_attention


def _on_flat(attention: Callable[..., Tensor], **fixed: Any) -> Callable[..., Callable[[], Tensor]]:
    """Inputs, and options such as a degree or a number of pairs -> the call that is timed or measured."""
    return lambda x, **options: partial(attention, *x.flat(), **fixed, **options)


def _naive(x: Inputs) -> Callable[[], Tensor]:
    return partial(naive_attention, x.q, x.keys, x.values)


CONTENDERS = {
    "exact": Contender(_on_flat(tensor_attention)),
    "loop": Contender(_on_flat(loop_attention)),
    "sdpa": Contender(_on_flat(sdpa_attention)),
    "naive": Contender(_naive),
    "fast": Contender(_on_flat(fast_tensor_attention, polynomial="chebyshev")),
    "fast_taylor": Contender(_on_flat(fast_tensor_attention, polynomial="taylor")),
    "sampled": Contender(_on_flat(sampled_attention)),
    "top_pairs": Contender(_on_flat(top_attention)),
}
"""Name on the card -> `build(inputs, **options)`, the call that gives (n_q, e)."""

EXACT = ("exact", "loop", "sdpa", "naive")
APPROXIMATE = ("fast", "fast_taylor")


@dataclass(frozen=True)
class Recipe:
    """A network for triples or pairs, and how it is trained: Adam on fresh tokens at every step.

    Attributes:
        order: 3 attends to pairs of tokens, 2 to tokens.
        width: of embeddings and of attention.
    """

    order: int = 3
    width: int = 24
    steps: int = 600
    batch: int = 128
    lr: float = 3e-3


@dataclass(frozen=True)
class Puzzle:
    """Which tokens of n, drawn from 0 .. modulus - 1, are in a triple ("match3") or a pair that sums to zero."""

    task: match.Task
    modulus: int
    n: int


NETWORKS = {
    name: Contender(lambda puzzle, recipe: MatchNet(puzzle.modulus, recipe.width, recipe.order), Recipe(order, width))
    for name, (order, width) in {"exact": (3, 24), "ordinary": (2, 24), "ordinary_wide": (2, 32)}.items()
}
"""The networks of `trained`, all by one recipe; the wide one has no fewer parameters than that with triples."""


def train(name: str, puzzle: Puzzle, recipe: Recipe, device: Any = "cpu") -> tuple[MatchNet, list[float]]:
    """Build a network and train it; returns it and its loss at every step, in nats a token."""
    model = NETWORKS[name].build(puzzle, recipe).to(device)
    return model, match.train(model, puzzle.task, puzzle.modulus, puzzle.n, recipe.steps, recipe.batch, recipe.lr)


def example(seed: int = 0) -> Puzzle:
    """Which of four tokens has a partner, modulo 8."""
    return Puzzle("match2", 8, 4)

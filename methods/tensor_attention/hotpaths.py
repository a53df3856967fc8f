"""What is tracked over commits: one set-up and one call each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from methods.tensor_attention.fast_attention import fast_tensor_attention
from methods.tensor_attention.inputs import uniform
from methods.tensor_attention.match import MatchNet, train
from methods.tensor_attention.tensor_attention import tensor_attention

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _inputs(n: int) -> tuple[Tensor, ...]:
    return uniform(n, 4, 1.0, seed=0, device=DEVICE).flat()


def exact() -> Callable[[], object]:
    return partial(tensor_attention, *_inputs(128))


def exact_step() -> Callable[[], object]:
    inputs = [x.requires_grad_() for x in _inputs(96)]
    return lambda: tensor_attention(*inputs).sum().backward()


def fast() -> Callable[[], object]:
    return partial(fast_tensor_attention, *_inputs(4096), degree=6)


def fast_step() -> Callable[[], object]:
    inputs = [x.requires_grad_() for x in _inputs(2048)]
    return lambda: fast_tensor_attention(*inputs, degree=6).sum().backward()


def match3_step() -> Callable[[], object]:
    torch.manual_seed(0)
    model = MatchNet(16, 24, order=3).to(DEVICE)
    return lambda: train(model, "match3", 16, 5, steps=1, batch=128)

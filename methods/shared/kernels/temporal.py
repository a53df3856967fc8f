"""The time encoding, the memory update and the gathers of models of temporal graphs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from methods.shared.checks import refuse_to_derive_again


def cosine_of_time(dt: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """cos(dt w + b) (..., d) of dt (...), which has no gradient; differentiable once."""
    return _CosineOfTime.apply(dt, weight, bias)


def plain_cosine_of_time(dt: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.cos(dt.detach().unsqueeze(-1) * weight + bias)


def rows_of(table: Tensor, rows: Tensor) -> Tensor:
    """Rows (P, d) of a table (N, d), for a result that becomes some columns of a wider one."""
    return _Rows.apply(table, rows)


def plain_rows_of(table: Tensor, rows: Tensor) -> Tensor:
    return table[rows]


def gru_update(message: Tensor, memory: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    """`nn.GRUCell` of its weights: message (U, m), memory (U, d) -> (U, d). Differentiable once, in the weights alone:
    message and memory come from earlier batches and carry no gradient."""
    return _GRUUpdate.apply(message, memory, w_ih, w_hh, b_ih, b_hh)


def plain_gru_update(message: Tensor, memory: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return torch.gru_cell(message.detach(), memory.detach(), w_ih, w_hh, b_ih, b_hh)


class _CosineOfTime(torch.autograd.Function):
    """The phase is computed in turns and whole turns are dropped: a cosine of millions of radians takes twice as long,
    and the rounding is the same. The derivative reuses the phase.
    """

    @staticmethod
    def forward(ctx: Any, dt: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        turns = torch.addcmul(bias / math.tau, dt.unsqueeze(-1), weight / math.tau)
        phase = turns.frac_().mul_(math.tau)
        ctx.save_for_backward(dt, phase)
        return torch.cos(phase)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor]:
        refuse_to_derive_again("CosineOfTime")
        dt, phase = ctx.saved_tensors
        slope = torch.sin(phase).mul_(grad).flatten(0, -2)
        return None, -(dt.flatten() @ slope), -slope.sum(0)


class _Rows(torch.autograd.Function):
    """The gradient of columns is strided, and adding strided rows up takes six times as long as copying them first."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.height = len(table)
        return table.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return grad.new_zeros(ctx.height, grad.shape[1]).index_add_(0, rows, grad.contiguous()), None


class _GRUUpdate(torch.autograd.Function):
    """The gradient by hand, in a third of the operations."""

    @staticmethod
    def forward(
        ctx: Any, message: Tensor, memory: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
    ) -> Tensor:
        split = 2 * memory.shape[1]
        of_message, of_memory = torch.addmm(b_ih, message, w_ih.T), torch.addmm(b_hh, memory, w_hh.T)
        gates = (of_message[:, :split] + of_memory[:, :split]).sigmoid_()
        reset, keep = gates.chunk(2, dim=1)
        recalled = of_memory[:, split:]
        candidate = torch.addcmul(of_message[:, split:], reset, recalled).tanh_()
        ctx.save_for_backward(message, memory, gates, recalled, candidate)
        return torch.lerp(candidate, memory, keep)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor, Tensor, Tensor, Tensor]:
        refuse_to_derive_again("GRUUpdate")
        message, memory, gates, recalled, candidate = ctx.saved_tensors
        reset, keep = gates.chunk(2, dim=1)
        of_candidate = grad * (1 - keep) * (1 - candidate.square())
        of_gates = torch.cat([of_candidate * recalled, grad * (memory - candidate)], dim=1) * gates * (1 - gates)
        of_message = torch.cat([of_gates, of_candidate], dim=1)
        of_memory = torch.cat([of_gates, of_candidate * reset], dim=1)
        return None, None, of_message.T @ message, of_memory.T @ memory, of_message.sum(0), of_memory.sum(0)

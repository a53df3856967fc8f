"""Tensor attention (Alman & Song, ICLR 2024): attention over pairs of keys, exact and in nearly linear time."""

from methods.tensor_attention.fast_attention import degree_for, error_bound, fast_attention, fast_tensor_attention
from methods.tensor_attention.match import match2_unit, match3_unit
from methods.tensor_attention.tensor_attention import tensor_attention

__all__ = [
    "degree_for",
    "error_bound",
    "fast_attention",
    "fast_tensor_attention",
    "match2_unit",
    "match3_unit",
    "tensor_attention",
]

"""Tensor attention (Alman & Song, ICLR 2024): attention over pairs of keys, exact and in nearly linear time.

On your own queries, keys and values; the approximation has a guaranteed error where entries are small:

    import torch
    from methods.tensor_attention import fast_tensor_attention, tensor_attention

    q, k1, k2 = (torch.rand(8, 4) for _ in range(3))
    v1, v2 = torch.rand(8, 4), torch.rand(8, 4)
    exact = tensor_attention(q, k1, k2, v1, v2)  # (8, 4)
    fast = fast_tensor_attention(q, k1, k2, v1, v2, error=1e-3)
"""

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

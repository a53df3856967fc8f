"""The interpreted copy of a module of kernels stands beside the module, and leaves it and the environment alone."""

from __future__ import annotations

import os

import pytest

from methods.pytorch_direct import kernels as gather_kernels
from methods.shared.interpreter import interpreted
from methods.tensor_attention import kernels as attention_kernels


@pytest.mark.skipif(gather_kernels.triton is None, reason="Triton is not installed")
def test_each_module_has_one_interpreted_copy() -> None:
    before = dict(os.environ), gather_kernels.INTERPRETED
    copies = [interpreted(kernels) for kernels in (gather_kernels, attention_kernels, gather_kernels)]
    assert (dict(os.environ), gather_kernels.INTERPRETED) == before
    assert copies[0] is copies[2]
    assert copies[0] not in (copies[1], gather_kernels)
    assert all(copy.INTERPRETED for copy in copies)

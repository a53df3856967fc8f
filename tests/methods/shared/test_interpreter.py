"""The interpreted copy of a module of kernels stands beside the module, and leaves it and the environment alone."""

from __future__ import annotations

import importlib
import math
import os
import sys
from pathlib import Path

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


@pytest.mark.parametrize("wrong", [3, "kernels", sys, math], ids=str)
def test_what_is_no_module_in_a_file_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match="needs a module of kernels in a Python file"):
        interpreted(wrong)  # type: ignore[arg-type]


@pytest.mark.skipif(gather_kernels.triton is None, reason="Triton is not installed")
def test_a_module_that_fails_leaves_the_environment_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "once.py").write_text("import os\nif os.environ.get('TRITON_INTERPRET'): raise ArithmeticError\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TRITON_INTERPRET", "")
    with pytest.raises(ArithmeticError):
        interpreted(importlib.import_module("once"))
    assert os.environ["TRITON_INTERPRET"] == ""

"""Triton kernels on CPU tensors, through Triton's interpreter: exactly, and slowly.

For checking kernels where there is no GPU; a time taken there says nothing.
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from types import ModuleType


@cache
def interpreted(kernels: ModuleType) -> ModuleType:
    """A module of kernels once more, beside the compiled one, its kernels run by the interpreter.

    Triton decides when a kernel is declared, by the variable `TRITON_INTERPRET`: the module's file is run again with
    it. Kernels that Triton itself declares (`tl.max`, `tl.sum`, ...) do not follow.

    Raises:
        RuntimeError: Triton is not installed.
    """
    if importlib.util.find_spec("triton") is None:
        raise RuntimeError("interpreted: Triton is not installed (pip install triton)")
    assert kernels.__file__ is not None
    spec = importlib.util.spec_from_file_location(f"{kernels.__name__}_interpreted", kernels.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"
    try:
        spec.loader.exec_module(module)
    finally:
        if before is None:
            del os.environ["TRITON_INTERPRET"]
        else:
            os.environ["TRITON_INTERPRET"] = before
    return module

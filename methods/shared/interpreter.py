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
    it. Kernels that other modules declare, Triton's own (`tl.max`, `tl.sum`, ...) among them, do not follow.

    Raises:
        RuntimeError: Triton is not installed.
        TypeError: no module, or one without a Python file.
    """
    if not isinstance(kernels, ModuleType) or not str(getattr(kernels, "__file__", None)).endswith(".py"):
        raise TypeError(f"interpreted: needs a module of kernels in a Python file, not {kernels!r}")
    if importlib.util.find_spec("triton") is None:
        raise RuntimeError("interpreted: Triton is not installed (pip install triton)")
    spec = importlib.util.spec_from_file_location(f"{kernels.__name__}_interpreted", kernels.__file__)
    assert spec is not None
    assert spec.loader is not None  # a Python file has one
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

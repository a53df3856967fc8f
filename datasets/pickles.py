"""Read pickles of unknown origin without running what they say.

A pickle is a program: it may name any function of any installed package and call it. Here it may name only
what is on the list below: plain containers and numbers, numpy arrays, scipy CSR and CSC matrices. All else is
refused before it is looked up. A hostile pickle can still ask for a lot of memory, and numpy trusts the dtypes
that it is given, so this comes after the check of the sha256, not instead of it.
"""

from __future__ import annotations

import collections
import pickle
from pathlib import Path
from typing import IO, ClassVar, Literal

import numpy as np

from assay.errors import DataError


def load_pickle(path: Path, encoding: Literal["ASCII", "latin1", "bytes"] = "ASCII") -> object:
    """Read one pickled object made of plain containers, numpy arrays and scipy CSR/CSC matrices.

    Args:
        path: the file.
        encoding: how to read the 8-bit strings of a Python 2 pickle; its arrays need "latin1".

    Raises:
        DataError: the pickle asks for something that is not allowed (the message says what), or is damaged.
    """
    with path.open("rb") as stream:
        try:
            return _Restricted(stream, encoding=encoding).load()
        except _Refused as error:
            raise DataError(
                f"{path}: refused, because this pickle asks for {error}. Only plain containers, numpy arrays "
                "and scipy CSR/CSC matrices are read, since anything else can run code; that was not run. "
                "Get the file from its upstream and compare its sha256."
            ) from None
        except Exception as error:
            # A damaged pickle can fail in any way, in the unpickler or in the constructors that it calls.
            hint = " (a Python 2 pickle needs encoding='latin1')" if isinstance(error, UnicodeDecodeError) else ""
            raise DataError(f"{path}: not a pickle that can be read: {type(error).__name__}: {error}{hint}") from error


class _Refused(Exception):
    """Says what a pickle asked for and does not get."""


class _Restricted(pickle._Unpickler):
    """The Python unpickler, because the C one has no hook where state is written into an object."""

    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        super().__init__(stream, encoding=encoding)

    def find_class(self, module: str, name: str) -> object:
        # Never the inherited look-up: it imports modules, and importing runs code.
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if (module, name) in _SPARSE:
            return _sparse_class(name)
        raise _Refused(f"the global {module}.{name}")

    def get_extension(self, code: int) -> None:
        # The inherited one hands out what another unpickler has looked up before.
        raise _Refused(f"the registered extension {code}")

    def persistent_load(self, pid: object) -> object:
        raise _Refused(f"the outside object {pid!r}")

    def load_build(self) -> None:
        target = self.stack[-2]
        if callable(target):
            # State written into a class or a function would change it for the whole process.
            raise _Refused(f"new attributes for {target!r}")
        super().load_build()
        if type(target).__module__.startswith("scipy.sparse"):
            # Its compiled loops trust the indices; a wrong one would read outside the array.
            type(target).check_format(target, full_check=True)

    dispatch[pickle.BUILD[0]] = load_build


def _sparse_class(name: str) -> type:
    import scipy.sparse

    return getattr(scipy.sparse, name)


def _encode_latin1(text: str, encoding: str) -> bytes:
    """Python 3 writes bytes into protocol 2 as an encoded string; a data file needs no other codec."""
    if encoding != "latin1":
        raise _Refused(f"the codec {encoding!r}")
    return text.encode("latin1")


def _allowed() -> dict[tuple[str, str], object]:
    plain = (list, dict, set, frozenset, tuple, bool, int, float, complex, str, bytes, bytearray)
    allowed: dict[tuple[str, str], object] = {
        (module, cls.__name__): cls for module in ("builtins", "__builtin__") for cls in plain
    }
    allowed["__builtin__", "unicode"] = str
    allowed["__builtin__", "long"] = int
    allowed["collections", "defaultdict"] = collections.defaultdict
    allowed["collections", "OrderedDict"] = collections.OrderedDict
    allowed["_codecs", "encode"] = _encode_latin1
    allowed["numpy", "ndarray"] = np.ndarray
    allowed["numpy", "dtype"] = np.dtype
    # Taken from what numpy itself writes, because the modules that hold them were renamed in numpy 2.
    of_numpy = {
        "multiarray": (np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]),
        "numeric": (np.empty(0).__reduce_ex__(5)[0],),
    }
    for module, functions in of_numpy.items():
        for function in functions:
            for core in ("numpy.core", "numpy._core"):
                allowed[f"{core}.{module}", function.__name__] = function
    return allowed


_ALLOWED = _allowed()
_SPARSE = {
    (f"scipy.sparse.{prefix}{kind}", f"{kind}_{form}")
    for prefix in ("", "_")
    for kind in ("csr", "csc")
    for form in ("matrix", "array")
}

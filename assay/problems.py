"""What is wrong with one paper stops no other: it is named at once, and the command's exit code says so at its end.

2 where something could not be done, 1 where something that was done failed; 0 with `--exit-zero`, for a pipeline whose
other stages go on and whose last one is `assay check`.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from assay import ROOT
from assay.errors import AssayError
from assay.terminal import err, say

_named: dict[str, None] = {}
_failed: list[str] = []


def forget() -> None:
    """Begin a command."""
    _named.clear()
    _failed.clear()


def any_named() -> bool:
    return bool(_named)


def failed(what: str) -> None:
    """Note what was done and failed; it has been said already, or is part of what the command prints."""
    _failed.append(what)


def exit_code() -> int:
    return 2 if _named else 1 if _failed else 0


def name(problem: str) -> None:
    """Say a problem on stderr, once."""
    if problem not in _named:
        _named[problem] = None
        say(err, f"assay: {problem}")


@contextmanager
def named(what: str) -> Iterator[None]:
    """Name what is raised inside, whatever it is, and go on after the block."""
    try:
        yield
    except typer.Exit:
        raise
    except Exception as error:
        name(f"{what}: {explain(error)}")


def explain(error: Exception) -> str:
    """An error of the harness as it is; another one with its type, and the line of a paper's code that it came from."""
    if isinstance(error, AssayError):
        return str(error)
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_relative(error.filename)}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    of_papers = [frame for frame in frames if Path(frame.filename).is_relative_to(ROOT / "methods")]
    at = of_papers or [frame for frame in frames if Path(frame.filename).is_relative_to(ROOT)]
    return f"{_relative(at[-1].filename)}:{at[-1].lineno}: {said}" if at else said


def _relative(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else file


def known(wanted: list[str], known: Any, what: str) -> None:
    """Raise AssayError for a name that there is not, with what comes close."""
    for name in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(known) or 'none'}"
            raise AssayError(f"no {what} '{name}'; {hint}")

"""Which pages are as their inputs are, so that only the others are drawn: figures are most of a report's time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from assay.record import write_atomically

NAME = ".stamps.json"
DRAWN_WITH = ("jinja2", "markupsafe", "matplotlib", "numpy")


class Stamps:
    """For each group of pages the digest of what it was made from, and the digests of its files.

    They lie beside the pages. Where they are missing or damaged, everything is drawn.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            found = json.loads((folder / NAME).read_text(encoding="utf-8"))
            self._known = {str(name): (str(made), dict(files)) for name, (made, files) in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            self._known = {}
        self._now: dict[str, tuple[str, dict[str, str]]] = {}

    def kept(self, group: str, made_from: str) -> list[str]:
        """The files of a group, if all are there as they were made from the same inputs; else none."""
        before, files = self._known.get(group, ("", {}))
        if before != made_from or any(_digest(self._folder / name) != digest for name, digest in files.items()):
            return []
        self._now[group] = (before, files)
        return list(files)

    def drawn(self, group: str, made_from: str, files: Mapping[str, str]) -> None:
        """The files of a group, name -> text, have just been written."""
        of_files = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}
        self._now[group] = (made_from, of_files)

    def save(self) -> None:
        write_atomically(self._folder / NAME, json.dumps(self._now, sort_keys=True) + "\n")


def digest_of(files: Iterable[Path], *others: object) -> str:
    """Of the contents of files, which may be missing, and of what else a page shows."""
    parts = [f"{file.name} {_digest(file)}" for file in files] + [repr(other) for other in others]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def code_digest(package: Path) -> str:
    """Of the code and templates of the harness, and of the libraries that draw."""
    files = sorted(path for path in package.rglob("*") if path.suffix in (".py", ".html", ".css", ".js"))
    return digest_of(files, [(name, metadata.version(name)) for name in DRAWN_WITH])


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return "missing"

"""What an earlier command has worked out, kept so that the next one need not: in `.assay/`, and safe to delete.

Each entry has a key, the digest of all that it was made of, and counts only under that key. The first line of the file
is the checksum of the rest: a damaged file is as good as none.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from assay.errors import RecordError
from assay.record import write_atomically

MOST = 20_000  # entries; the oldest go first


class Remembered:
    """Entries of one file, by name, each a key and a value that JSON can hold."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[str, tuple[str, Any]] = {}
        self._changed = False
        with suppress(OSError, ValueError, TypeError, AttributeError):
            checksum, _, content = path.read_bytes().partition(b"\n")
            if checksum.decode() == digest_of(content):
                self._entries = {name: (key, value) for name, (key, value) in json.loads(content).items()}

    def get(self, name: str, key: str) -> Any:
        """The value that was kept under this name and key, or None."""
        found = self._entries.get(name)
        return found[1] if found is not None and found[0] == key else None

    def put(self, name: str, key: str, value: Any) -> None:
        self._entries.pop(name, None)
        self._entries[name] = (key, value)
        self._changed = True

    def save(self) -> None:
        """Where nothing can be written (a full disk, a folder of another user), the next command works it out again."""
        if not self._changed:
            return
        content = json.dumps(dict(list(self._entries.items())[-MOST:])).encode()
        with suppress(RecordError):
            write_atomically(self.path, digest_of(content).encode() + b"\n" + content)
        self._changed = False


def digest_of(*parts: bytes | str) -> str:
    """Of all parts in their order; no two lists of parts have one digest."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode(errors="surrogatepass") if isinstance(part, str) else part
        digest.update(b"%d:" % len(content) + content)
    return digest.hexdigest()


def digest_of_files(paths: Iterable[Path]) -> str:
    """Of their names and contents; one that cannot be read counts as absent."""
    return digest_of(*(part for path in paths for part in (path.name, _content(path))))


@functools.cache
def digest_of_code(*places: Path) -> str:
    """Of all Python files, templates and styles at these places, once in a process: code does not change under it."""
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*.*")))]
    return digest_of_files(file for file in files if "__pycache__" not in file.parts)


def _content(path: Path) -> bytes:
    try:
        return b"1" + path.read_bytes()
    except OSError:
        return b""

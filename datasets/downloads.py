"""What arrives from a server is not trusted: it has a most size, packed and unpacked, and no name of it is used."""

from __future__ import annotations

import gzip
import importlib.util
import stat
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from assay.errors import DataError

ZIP_FACTOR, ZIP_MORE = 10, 1 << 20  # how much larger than the file an archive with it, and with others, may be
MOST_MEMBERS = 10_000
HTTP_TIMEOUT_S = 60


class WrongContent(DataError):
    """A source that delivered something else than the file; worth telling even if the next source has it."""


class Capped:
    """A file that takes no more than `most` bytes, whatever the server says or sends. words: the size, for a person."""

    def __init__(self, out: IO[bytes], most: int, words: str) -> None:
        self._out, self._left, self._words = out, most, words

    def write(self, chunk: bytes) -> None:
        self._left -= len(chunk)
        if self._left < 0:
            raise WrongContent(f"expected {self._words}, found more bytes; the download was stopped there")
        self._out.write(chunk)

    def flush(self) -> None:
        self._out.flush()


def download(url: str, out: Capped) -> None:
    """What the address serves, with a bar on a terminal. Raises DataError without pooch, and what pooch raises."""
    try:
        import pooch
    except ImportError as error:
        raise DataError("pooch is not installed, so nothing can be downloaded: pip install pooch") from error
    progress = sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None
    pooch.HTTPDownloader(progressbar=progress, timeout=HTTP_TIMEOUT_S)(url, out, None)


def most_bytes(url: str, unpacked_bytes: int) -> int:
    """The most that a download of a file of so many bytes can have, by the ending of its address."""
    if url.endswith(".gz"):
        return unpacked_bytes + unpacked_bytes // 100 + 1000  # what gzip adds to a file that it cannot make smaller
    return ZIP_FACTOR * unpacked_bytes + ZIP_MORE if url.endswith(".zip") else unpacked_bytes


@contextmanager
def unpacked(path: Path, url: str, name: str) -> Iterator[IO[bytes]]:
    """What was downloaded, as a stream that the reader must stop: an archive can unpack without end."""
    if url.endswith(".gz"):
        with gzip.open(path, "rb") as unzipped:
            yield cast(IO[bytes], unzipped)
    elif url.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            count = len(archive.infolist())
            if count > MOST_MEMBERS:
                raise DataError(f"the archive holds {count:,} files, more than {MOST_MEMBERS:,}")
            members = [member for member in archive.infolist() if Path(member.filename).name == name]
            if len(members) != 1:
                raise DataError(f"the archive holds {len(members)} files named {name}, wanted one")
            if stat.S_ISLNK(members[0].external_attr >> 16):
                raise DataError(f"{name} is a link in the archive, not a file")
            with archive.open(members[0]) as stream:
                yield stream
    else:
        with path.open("rb") as stream:
            yield stream


def opened_anew(path: Path) -> IO[bytes]:
    """A new file for writing. What has its name goes; a link that lies there is not followed."""
    path.unlink(missing_ok=True)
    return path.open("xb")

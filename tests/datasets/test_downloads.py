"""What a server may send: too much, an archive that is a trap, an odd one. The next source is tried, and nothing else
is written."""

from __future__ import annotations

import gzip
import io
import os
import random
import stat
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from assay.errors import DataError
from datasets import downloads, sources
from datasets.sources import File
from tests.datasets.conftest import Server


def names_in(cache: Path) -> list[str]:
    return sorted(p.name for p in (cache / "films").iterdir() if not p.name.endswith(".lock"))


def archive(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members:
            zipped.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("ending", ["", ".gz", ".zip"])
def test_a_server_that_sends_without_end_is_cut_off(cache: Path, file: File, server: Server, ending: str) -> None:
    server.endless = True
    url = server.serve("ml.inter" + ending, b"x" * 1000, promised=10**12)
    with pytest.raises(
        DataError, match=rf"{url}: refused: expected 2\.0 MB, found more bytes; the download was stopped"
    ):
        sources.get("films", replace(file, urls=(url,)))
    assert names_in(cache) == []


def test_a_file_of_about_a_size_is_cut_off_at_twice_that(cache: Path, server: Server) -> None:
    """Where no hash is known, the size is about right only."""
    file = File("log.csv", None, 3_000_000, urls=(server.serve("log.csv", bytes(5_900_000)),))
    assert sources.get("films", file).stat().st_size == 5_900_000
    server.endless = True
    url = server.serve("other.csv", b"x" * 1000, promised=10**12)
    with pytest.raises(DataError, match=r"about 3\.0 MB, found more bytes"):
        sources.get("films", replace(file, name="other.csv", urls=(url,)))


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: archive(("ml.inter", data))], ids=["gz", "zip"])
@pytest.mark.parametrize("known", [True, False])
def test_an_archive_that_unpacks_without_end_is_stopped(
    cache: Path, server: Server, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes], known: bool
) -> None:
    written = []
    monkeypatch.setattr(sources, "CHUNK_BYTES", 1 << 16)
    copy = sources._copy_and_hash

    def watched(*arguments: object, **options: object) -> tuple[int, str]:
        size, digest = copy(*arguments, **options)
        written.append(size)
        return size, digest

    monkeypatch.setattr(sources, "_copy_and_hash", watched)
    ending = ".gz" if pack is gzip.compress else ".zip"
    url = server.serve("ml" + ending, pack(bytes(50_000_000)))
    file = File("ml.inter", "0" * 64 if known else None, 100_000, urls=(url,))
    with pytest.raises(DataError, match=f"{url}: refused: expected .*found more bytes"):
        sources.get("films", file)
    most = 100_000 if known else 200_000 + (1 << 16)
    assert len(written) == 1
    assert most < written[0] <= most + (1 << 16)
    assert names_in(cache) == []


@pytest.mark.parametrize("size", [0, 1, 1000, 3_000_000])
def test_what_cannot_be_made_smaller_may_arrive_packed_and_with_other_files(size: int) -> None:
    noise = random.Random(0).randbytes(size)
    assert len(gzip.compress(noise)) <= downloads.most_bytes("a/file.gz", size)
    others = archive(("file", noise), *((f"other{number}", noise) for number in range(8)))
    assert size < len(others) <= downloads.most_bytes("a/file.zip", size)
    assert downloads.most_bytes("a/file", size) == size


def with_symlink() -> bytes:
    link = zipfile.ZipInfo("folder/ml.inter")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return archive((link, b"/etc/passwd"))


def encrypted(content: bytes) -> bytes:
    data = bytearray(archive(("ml.inter", content)))
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + at] |= 1
    return bytes(data)


def with_method(content: bytes, method: int) -> bytes:
    data = bytearray(archive(("ml.inter", content)))
    for magic, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        place = data.index(magic) + at
        data[place : place + 2] = struct.pack("<H", method)
    return bytes(data)


ODD = {
    "empty": lambda data: archive(),
    "no archive": lambda data: b"PK" + data[:1000],
    "cut": lambda data: archive(("ml.inter", data))[:-40],
    "garbage inside": lambda data: archive(("ml.inter", data)).replace(data[:0] + b"PK\x01\x02", b"PK\x01\x09", 1),
    "the file twice": lambda data: archive(("a/ml.inter", data), ("b/ml.inter", data)),
    "a link": lambda data: with_symlink(),
    "encrypted": encrypted,
    "an unknown method": lambda data: with_method(data, 99),
    "another method": lambda data: with_method(data, zipfile.ZIP_LZMA),
    "bzip2 that is none": lambda data: with_method(data, zipfile.ZIP_BZIP2),
    "another file": lambda data: archive(("ml.inter", data[::-1])),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_after_an_odd_archive_the_next_source_is_tried(
    cache: Path, file: File, content: bytes, server: Server, odd: Callable[[bytes], bytes]
) -> None:
    urls = (server.serve("odd.zip", odd(content)), server.serve("ml.inter", content))
    assert sources.get("films", replace(file, urls=urls)).read_bytes() == content
    assert names_in(cache) == ["ml.inter"]
    (cache / "films" / "ml.inter").unlink()
    with pytest.raises(DataError, match=rf"could not be had; tried:\n.*\n  - {urls[0]}: \S"):
        sources.get("films", replace(file, urls=urls[:1]))


def test_an_archive_of_very_many_files_is_refused(cache: Path, file: File, content: bytes, server: Server) -> None:
    many = archive(("ml.inter", content), *((f"{number}", b"") for number in range(downloads.MOST_MEMBERS)))
    with pytest.raises(DataError, match="the archive holds 10,001 files, more than 10,000"):
        sources.get("films", replace(file, urls=(server.serve("ml.zip", many),)))


@pytest.mark.parametrize("name", ["../../ml.inter", "/tmp/../ml.inter", "a/../../../ml.inter"])
def test_no_name_in_an_archive_says_where_anything_is_written(
    tmp_path: Path, cache: Path, file: File, content: bytes, server: Server, name: str
) -> None:
    outside = sorted(tmp_path.iterdir())
    packed = archive((name, content), ("../../evil", b"evil"))
    assert sources.get("films", replace(file, urls=(server.serve("ml.zip", packed),))).read_bytes() == content
    assert names_in(cache) == ["ml.inter"]
    assert sorted(set(tmp_path.iterdir()) - {cache}) == outside


@pytest.mark.parametrize("planted", [".ml.inter.part", ".ml.inter.download", ".ml.inter.sha256.part"])
@pytest.mark.parametrize("known", [True, False])
def test_a_link_that_lies_where_a_download_is_written_is_not_followed(
    tmp_path: Path, cache: Path, file: File, content: bytes, server: Server, planted: str, known: bool
) -> None:
    victim = tmp_path / "victim"
    if planted.endswith("download"):
        victim.mkdir()
        (victim / "arrived").write_text("precious")
    else:
        victim.write_text("precious")
    (cache / "films").mkdir(parents=True)
    (cache / "films" / planted).symlink_to(victim)
    file = replace(file, urls=(server.serve("ml.inter", content),), sha256=file.sha256 if known else None)
    assert sources.get("films", file).read_bytes() == content
    assert not (cache / "films" / "ml.inter").is_symlink()
    kept = victim / "arrived" if victim.is_dir() else victim
    assert kept.read_text() == "precious"
    assert not os.path.lexists(cache / "films" / ".ml.inter.part")


def test_a_link_in_an_archive_is_no_file_where_no_hash_would_tell(cache: Path, server: Server) -> None:
    url = server.serve("ml.zip", with_symlink())
    with pytest.raises(DataError, match=r"ml\.inter is a link in the archive, not a file"):
        sources.get("films", File("ml.inter", None, 1000, urls=(url,)))

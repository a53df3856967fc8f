"""Bitcoin OTC and Alpha: the format always, the real files where a mirror has them."""

from __future__ import annotations

import csv
import hashlib
import os
from pathlib import Path

import pytest

import datasets
from datasets import sources
from datasets.bitcoin import load_bitcoin
from datasets.temporal import EventStream

needs_mirror = pytest.mark.skipif(
    not os.environ.get("ASSAY_MIRROR"), reason="Bitcoin data comes from upstream or a mirror: set ASSAY_MIRROR"
)


def test_a_file_of_the_format_is_read_in_stable_order_of_time(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("7188,1,10,200\n430,1,-10,100.25\n1,430,3,200\n3134,7188,1,100.25\n")
    events = load_bitcoin(path)
    assert events.t.tolist() == [100.25, 100.25, 200, 200]
    assert events.edge_features[:, 0].tolist() == [-10, 1, 10, 3]
    assert list(zip(events.src.tolist(), events.dst.tolist(), strict=True)) == [(0, 1), (2, 3), (3, 1), (1, 0)]
    assert (events.num_nodes, events.num_src) == (4, None)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Mirror data stays out of the checkout, its cache included.
    monkeypatch.setattr(sources, "CACHE", tmp_path / "data")
    return tmp_path / "data"


@needs_mirror
@pytest.mark.parametrize(
    ("name", "events", "nodes", "sources_", "targets", "total_rating", "ties"),
    [
        ("bitcoin_otc", 35_592, 5_881, 4_814, 5_858, 36_020, 0),
        ("bitcoin_alpha", 24_186, 3_783, 3_286, 3_754, 35_407, 22_539),
    ],
)
def test_sizes_are_the_published_ones(
    name: str, events: int, nodes: int, sources_: int, targets: int, total_rating: int, ties: int, cache: Path
) -> None:
    stream: EventStream = datasets.load(name)
    assert (len(stream), stream.num_nodes) == (events, nodes)
    assert (len(stream.src.unique()), len(stream.dst.unique())) == (sources_, targets)
    assert int(stream.edge_features.sum()) == total_rating
    assert int((stream.t[1:] == stream.t[:-1]).sum()) == ties
    assert not (stream.src == stream.dst).any()


@needs_mirror
@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("bitcoin_otc", (0, 1, 4, 1289241911.72836), (2, 1453684323.75728)),
        ("bitcoin_alpha", (0, 1, 1, 1289192400.0), (5, 1453438800.0)),
    ],
)
def test_first_and_last_events(name: str, first: tuple[float, ...], last: tuple[float, float], cache: Path) -> None:
    stream: EventStream = datasets.load(name)
    assert (int(stream.src[0]), int(stream.dst[0]), int(stream.edge_features[0, 0]), float(stream.t[0])) == first
    assert (int(stream.edge_features[-1, 0]), float(stream.t[-1])) == last


@needs_mirror
@pytest.mark.parametrize("name", ["bitcoin_otc", "bitcoin_alpha"])
def test_every_event_is_a_line_of_the_file_in_stable_order(name: str, cache: Path) -> None:
    path = datasets.fetch(name)[0]
    assert path.parent == cache / name
    file = datasets.info(name).files[0]
    assert (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()) == (file.size_bytes, file.sha256)
    with path.open(newline="") as stream:
        rows = sorted(csv.reader(stream), key=lambda row: float(row[3]))
    number: dict[str, int] = {}
    for row in rows:
        for node in row[:2]:
            number.setdefault(node, len(number))
    events: EventStream = datasets.load(name)
    assert events.src.tolist() == [number[row[0]] for row in rows]
    assert events.dst.tolist() == [number[row[1]] for row in rows]
    assert events.t.tolist() == [float(row[3]) for row in rows]
    assert events.edge_features[:, 0].tolist() == [float(row[2]) for row in rows]


@needs_mirror
@pytest.mark.parametrize("name", ["bitcoin_otc", "bitcoin_alpha"])
@pytest.mark.parametrize("damage", [lambda data: data[:-30], lambda data: data[:50] + b"9" + data[51:]])
def test_a_damaged_mirror_file_never_reaches_the_loader(
    name: str, damage: object, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = datasets.info(name).files[0]
    genuine = (Path(os.environ["ASSAY_MIRROR"]) / file.mirror).read_bytes()
    copy = tmp_path / "mirror" / file.mirror
    copy.parent.mkdir(parents=True)
    copy.write_bytes(damage(genuine))
    monkeypatch.setenv("ASSAY_MIRROR", str(tmp_path / "mirror"))
    # Upstream is left out: what counts is that the damaged copy is refused, wherever the test runs.
    with pytest.raises(sources.DataError, match=f"mirror {copy}: refused: expected {file.size_bytes} bytes"):
        sources.get(name, sources.File(file.name, file.sha256, file.size_bytes, mirror=file.mirror))

"""JODIE's format, on files that these tests write; the real ones are too big to fetch here."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import datasets
from assay.errors import DataError
from datasets import jodie
from datasets.jodie import read_jodie

HEADER = "user_id,item_id,timestamp,state_label,comma_separated_list_of_features\n"
LINES = [
    "0,0,0.0,0,-0.175,0.5,1e-3",
    "1,0,36.0,0,0.1,-0.2,0.3",
    "0,1,36.0,1,7,8,9",
    "2,5,1289241911.72836,0,0,0,0",
]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "small.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\r\n"])
def test_a_file_of_the_format_is_read(tmp_path: Path, end: str) -> None:
    events = read_jodie(write(tmp_path, HEADER + "\n".join(LINES) + end))
    assert events.src.tolist() == [0, 1, 0, 2]
    assert events.dst.tolist() == [3, 3, 4, 5]
    assert (events.num_nodes, events.num_src) == (6, 3)
    assert events.t.tolist() == [0.0, 36.0, 36.0, 1289241911.72836]
    wanted = np.array([[-0.175, 0.5, 1e-3], [0.1, -0.2, 0.3], [7, 8, 9], [0, 0, 0]], dtype=np.float32)
    assert np.array_equal(events.edge_features.numpy(), wanted)


def test_a_file_without_features_is_read(tmp_path: Path) -> None:
    events = read_jodie(write(tmp_path, HEADER + "4,9,1.5,0\n4,8,2.5,1\n"))
    assert events.edge_features.shape == (2, 0)
    assert events.t.tolist() == [1.5, 2.5]


@pytest.mark.parametrize("chunk_rows", [1, 3, 4, 50])
def test_chunks_make_no_difference(tmp_path: Path, chunk_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jodie, "CHUNK_ROWS", chunk_rows)
    events = read_jodie(write(tmp_path, HEADER + "\n".join(LINES) + "\n" * 5))
    assert events.t.tolist() == [0.0, 36.0, 36.0, 1289241911.72836]
    assert events.edge_features[2].tolist() == [7, 8, 9]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "0,0,0.0,0,1\nx,0,1.0,0,1\n", "lines 2 to 3: not in JODIE's format: could not convert string 'x'"),
        (HEADER + "0,0,0.0,0,1\n1.5,0,1.0,0,1\n", r"not in JODIE's format: 1\.5 is no user or item id"),
        (HEADER + "0,0,0.0,0,1\n1,0,nan,0,1\n", r"event 1 has time nan.*line k \+ 2"),
        (HEADER + "0,0,0.0,0,1\n1,0,1.0,0,inf\n", "event 1 holds a value that is not finite"),
        (HEADER + "0,0,0.0,0,1,2\n1,0,3.0,0,1\n", "number of columns changed from 6 to 5"),
        (HEADER + "0,0,0.0,0,1\n1,0,3.0,0,1,2\n", "number of columns changed from 5 to 6"),
        (HEADER + "0,0,0.0,0,1\n" * jodie.CHUNK_ROWS + "1,0,3.0,0\n", r"lines 5002 to 5002: .* 4 columns instead of 5"),
        (HEADER + "0,0,0.0\n", "line 2 has 3 columns"),
        (HEADER, "line 2 has 1 columns"),
        ("", "line 2 has 1 columns"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DataError, match=message) as caught:
        read_jodie(path)
    assert str(path) in str(caught.value)


def test_reading_needs_little_more_memory_than_the_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, features = 20_000, 60
    line = ",".join(["0.123456789"] * features)
    path = write(tmp_path, HEADER + "".join(f"{k % 100},{k % 30},{k}.0,0,{line}\n" for k in range(rows)))
    monkeypatch.setattr(jodie, "CHUNK_ROWS", 1_000)
    read_jodie(path)  # what is imported on first use is no part of the reading
    tracemalloc.start()
    events = read_jodie(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    needed = events.edge_features.numel() * 4 + len(events) * 3 * 8
    assert needed < peak < 1.6 * needed


@pytest.mark.parametrize(
    ("name", "events", "nodes"),
    [("wiki", 157_474, 9_227), ("reddit", 672_447, 10_984), ("mooc", 411_749, 7_144), ("lastfm", 1_293_103, 1_980)],
)
def test_a_cut_file_is_not_taken_for_the_published_data(tmp_path: Path, name: str, events: int, nodes: int) -> None:
    path = write(tmp_path, HEADER + "\n".join(LINES))
    with pytest.raises(DataError) as caught:
        datasets.info(name).loader(path)
    assert str(caught.value) == (
        f"{path}: holds 4 events of 6 nodes, but the published data has {events} of {nodes}; it is damaged or another "
        "version: delete it and small.csv.sha256, and fetch it again"
    )


def test_a_file_with_the_published_numbers_is_accepted(tmp_path: Path) -> None:
    users, items, rows = 980, 1_000, 1_293_103
    k = np.arange(rows)
    table = np.stack([k % users, k % items, k, np.zeros(rows, int)], axis=1)
    path = tmp_path / "lastfm.csv"
    np.savetxt(path, table, fmt="%d", delimiter=",", header=HEADER.strip(), comments="")
    stream = datasets.info("lastfm").loader(path)
    assert (len(stream), stream.num_src, stream.num_nodes) == (1_293_103, 980, 1_980)


def test_where_the_files_come_from() -> None:
    urls = [file.urls for name in ("wiki", "reddit", "mooc", "lastfm") for file in datasets.info(name).files]
    names = ["wikipedia", "reddit", "mooc", "lastfm"]
    assert urls == [(f"http://snap.stanford.edu/jodie/{name}.csv",) for name in names]

"""The four interaction streams of JODIE: Wikipedia edits, Reddit posts, MOOC actions, LastFM listens.

Format of a file: one header line, then lines `user_id,item_id,timestamp,state_label,feature,feature,...` in
the order of time. The header's last entry stands for all features, so it does not say how many there are.

Upstream publishes no hashes: a file is trusted when it is first fetched (see `sources.py`), and its numbers
of events and nodes are compared with the published ones each time it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from assay.errors import DataError
from datasets.sources import Dataset, File

if TYPE_CHECKING:
    from datasets.temporal import EventStream

CHUNK_ROWS = 5_000
_CITATION = (
    "S. Kumar, X. Zhang, J. Leskovec, "
    '"Predicting Dynamic Embedding Trajectory in Temporal Interaction Networks", KDD 2019'
)


def read_jodie(path: Path) -> EventStream:
    """Read a file of JODIE's format as a bipartite stream: users -> items.

    Time as in the file (seconds); all features of a line are edge features; the state label is not read. Read
    in chunks into arrays of the final size: the peak is the stream itself and one chunk.

    Raises:
        DataError: a line that does not have the format, or has another number of features than the first.
    """
    # Listing data sets must not import torch.
    from datasets.temporal import stream_from_columns

    num_rows, num_columns = _count(path)
    if num_columns < 4:
        raise DataError(f"{path}: line 2 has {num_columns} columns, needs user, item, timestamp, state label first")
    user, item = np.empty(num_rows, np.int64), np.empty(num_rows, np.int64)
    seconds, features = np.empty(num_rows, np.float64), np.empty((num_rows, num_columns - 4), np.float32)
    filled = 0
    for chunk in _chunks(path, num_columns):
        rows = slice(filled, filled + len(chunk))
        user[rows], item[rows], seconds[rows] = _whole(chunk[:, 0], path), _whole(chunk[:, 1], path), chunk[:, 2]
        features[rows] = chunk[:, 4:]
        filled += len(chunk)
    try:
        return stream_from_columns(user[:filled], item[:filled], seconds[:filled], features[:filled], bipartite=True)
    except DataError as error:
        raise DataError(f"{path}: {error}; event k is on line k + 2 of the file") from error


def _chunks(path: Path, num_columns: int) -> Iterator[np.ndarray]:
    with path.open() as stream:
        stream.readline()
        first_line = 2
        while lines := list(islice(stream, CHUNK_ROWS)):
            filled = [line for line in lines if not line.isspace()]
            try:
                if filled:
                    chunk = np.loadtxt(filled, delimiter=",", comments=None, ndmin=2)
                    if chunk.shape[1] != num_columns:
                        raise ValueError(f"{chunk.shape[1]} columns instead of {num_columns}")
                    yield chunk
            except ValueError as error:
                where = f"lines {first_line} to {first_line + len(lines) - 1}"
                raise DataError(f"{path}: {where}: not in JODIE's format: {error}") from error
            first_line += len(lines)


def _whole(labels: np.ndarray, path: Path) -> np.ndarray:
    whole = labels.astype(np.int64)
    if not np.array_equal(whole, labels):
        raise DataError(f"{path}: not in JODIE's format: {labels[whole != labels][0]} is no user or item id")
    return whole


def _count(path: Path) -> tuple[int, int]:
    """The number of data lines (too many by the blank ones), and the number of columns of the first."""
    num_lines, last = 0, b"\n"
    with path.open("rb") as stream:
        stream.readline()
        num_columns = stream.readline().count(b",") + 1
        stream.seek(0)
        while block := stream.read(1 << 20):
            num_lines += block.count(b"\n")
            last = block[-1:]
    return max(num_lines - 1 + (last != b"\n"), 0), num_columns


def _loader(num_events: int, num_nodes: int) -> Callable[[Path], EventStream]:
    def load_jodie(path: Path) -> EventStream:
        """Read the file and compare its numbers of events and nodes with the published ones."""
        stream = read_jodie(path)
        if (len(stream), stream.num_nodes) != (num_events, num_nodes):
            raise DataError(
                f"{path}: holds {len(stream)} events of {stream.num_nodes} nodes, but the published data has "
                f"{num_events} of {num_nodes}; it is damaged or another version: delete it and "
                f"{path.name}.sha256, and fetch it again"
            )
        return stream

    return load_jodie


def _dataset(name: str, upstream_name: str, about_bytes: int, num_events: int, num_nodes: int, what: str) -> Dataset:
    url = f"http://snap.stanford.edu/jodie/{upstream_name}.csv"
    file = File(
        name=f"{upstream_name}.csv",
        sha256=None,
        size_bytes=about_bytes,
        urls=(url,),
        mirror=f"jodie/{upstream_name}.csv",
    )
    return Dataset(
        name=name,
        description=f"{what}: {num_events:,} timed events of {num_nodes:,} nodes.",
        licence="none stated; distributed by SNAP for research use with citation",
        citation=_CITATION,
        upstream=url,
        files=(file,),
        loader=_loader(num_events, num_nodes),
    )


# The size of wikipedia.csv is published; the others are estimated from lines and features per line.
DATASETS = {
    "wiki": _dataset("wiki", "wikipedia", 533_000_000, 157_474, 9_227, "Users edit Wikipedia pages (172 features)"),
    "reddit": _dataset("reddit", "reddit", 2_280_000_000, 672_447, 10_984, "Users post in subreddits (172 features)"),
    "mooc": _dataset("mooc", "mooc", 40_000_000, 411_749, 7_144, "Students act on course items (4 features)"),
    "lastfm": _dataset("lastfm", "lastfm", 40_000_000, 1_293_103, 1_980, "Users listen to songs (2 features)"),
}

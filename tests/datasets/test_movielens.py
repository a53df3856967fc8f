"""MovieLens-100K as the published numbers and the file itself describe it."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import pytest
import torch

import datasets
from datasets.temporal import EventStream


@pytest.fixture(scope="module")
def path() -> Path:
    return datasets.fetch("movielens_100k")[0]


@pytest.fixture(scope="module")
def events(path: Path) -> EventStream:
    return datasets.load("movielens_100k")


def test_the_file_is_the_one_that_the_wheel_holds(path: Path) -> None:
    data = path.read_bytes()
    assert len(data) == 1_979_230
    assert hashlib.sha256(data).hexdigest() == "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"


def test_its_size_is_the_published_one(events: EventStream) -> None:
    assert (len(events), events.num_src, events.num_nodes - events.num_src) == (100_000, 943, 1_682)
    assert torch.bincount(events.edge_features[:, 0].long()).tolist() == [0, 6_110, 11_370, 27_145, 34_174, 21_201]


def test_first_and_last_events(events: EventStream) -> None:
    assert events.t[:3].tolist() == [874724710, 874724727, 874724754]
    assert events.t[-3:].tolist() == [893286638] * 3
    assert events.edge_features[[0, 1, 2, -3, -2, -1], 0].tolist() == [4, 4, 4, 3, 4, 4]
    assert events.src[:3].tolist() == [0, 0, 0]
    assert events.dst[:3].tolist() == [943, 944, 945]


def test_every_event_is_a_line_of_the_file_in_stable_order(path: Path, events: EventStream) -> None:
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream, delimiter="\t"))[1:]
    rows.sort(key=lambda row: float(row[3]))
    users, items = list(dict.fromkeys(row[0] for row in rows)), list(dict.fromkeys(row[1] for row in rows))
    user_id, item_id = {u: k for k, u in enumerate(users)}, {i: k + len(users) for k, i in enumerate(items)}
    assert events.src.tolist() == [user_id[row[0]] for row in rows]
    assert events.dst.tolist() == [item_id[row[1]] for row in rows]
    assert events.t.tolist() == [float(row[3]) for row in rows]
    assert events.edge_features[:, 0].tolist() == [float(row[2]) for row in rows]

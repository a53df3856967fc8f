"""MovieLens-100K: who rated which film, and when; with its tables, also who they are and what the films are.

The files are those that RecBole ships in its wheel: tab-separated with one header line. The ratings have `user_id:token
item_id:token rating:float timestamp:float`, 100,000 rows, not sorted by time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from assay.errors import DataError
from datasets.archives import Wheel
from datasets.sources import Dataset, File

if TYPE_CHECKING:
    import torch

    from datasets.temporal import EventStream

GENRES = ("Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
          "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
          "unknown")  # fmt: skip


class MovieLens(NamedTuple):
    """Ratings and the tables of users and films, in the order of the stream's nodes: film i is node 943 + i.

    Attributes:
        ratings: as `movielens_100k` gives them.
        age: (943,) int64, years. gender, occupation, zip_code: 943 texts.
        title: 1,682 texts. year: (1682,) float32, NaN where unknown.
        genres: (1682, 19) float32, 1 for each of a film's `GENRES`.
    """

    ratings: EventStream
    age: torch.Tensor
    gender: tuple[str, ...]
    occupation: tuple[str, ...]
    zip_code: tuple[str, ...]
    title: tuple[str, ...]
    year: torch.Tensor
    genres: torch.Tensor


def load_movielens(path: Path) -> EventStream:
    """Ratings as a bipartite stream: users -> films, seconds since 1970, the rating (1 to 5) as edge feature.

    943 users, 1,682 films, 100,000 events. Users rate in bursts of dozens of films within minutes.
    """
    # Listing data sets must not import torch, so the stream is imported where it is built.
    from datasets.temporal import stream_from_columns

    user, item, rating, seconds = np.loadtxt(path, delimiter="\t", skiprows=1, unpack=True)
    return stream_from_columns(user.astype(np.int64), item.astype(np.int64), seconds, rating[:, None], bipartite=True)


def load_tables(ratings: Path, users: Path, films: Path) -> MovieLens:
    """The ratings with what is known of users and films.

    Raises:
        DataError: a table that lacks someone or something that the ratings name, or a genre that is none.
    """
    import torch

    stream = load_movielens(ratings)
    order = np.argsort(np.loadtxt(ratings, delimiter="\t", skiprows=1, usecols=3), kind="stable")
    labels = np.loadtxt(ratings, delimiter="\t", skiprows=1, usecols=(0, 1), dtype=str)[order]
    user = _in_order(users, dict.fromkeys(labels[:, 0]), "user")
    film = _in_order(films, dict.fromkeys(labels[:, 1]), "film")
    genres = torch.zeros(len(film), len(GENRES))
    for row, (_, title, _, of_film) in enumerate(film):
        for genre in of_film.split():
            if genre not in GENRES:
                raise DataError(f"{films}: {title!r} has the genre {genre!r}, not {', '.join(GENRES)}")
            genres[row, GENRES.index(genre)] = 1
    _, age, gender, occupation, zip_code = zip(*user, strict=True)
    _, title, year, _ = zip(*film, strict=True)
    years = [float(y) if y.isdigit() else np.nan for y in year]  # one is `V`, one `unkonwn`
    return MovieLens(stream, torch.tensor([int(a) for a in age]), gender, occupation, zip_code, title,
                     torch.tensor(years), genres)  # fmt: skip


def _in_order(path: Path, labels: dict[str, None], what: str) -> list[list[str]]:
    """The rows of a table in the order of `labels`, which are its first column."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    rows = {cells[0]: cells for cells in (line.split("\t") for line in lines)}
    absent = [label for label in labels if label not in rows]
    if absent:
        raise DataError(f"{path}: has no {what} {absent[0]}, and the ratings have")
    return [rows[label] for label in labels]


def _file(name: str, sha256: str, size_bytes: int) -> File:
    return File(name, sha256, size_bytes, wheel=Wheel("recbole", "1.2.1", f"recbole/dataset_example/ml-100k/{name}"))


_LICENCE = "GroupLens terms: research use with citation, no redistribution without permission"
_CITATION = (
    'F. M. Harper, J. A. Konstan, "The MovieLens Datasets: History and Context", '
    "ACM Transactions on Interactive Intelligent Systems 5(4), 2015"
)
_UPSTREAM = "https://grouplens.org/datasets/movielens/100k/"
_RATINGS = _file("ml-100k.inter", "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff", 1_979_230)

DATASETS = {
    "movielens_100k": Dataset(
        name="movielens_100k",
        description="943 users rate 1,682 films: 100,000 timed ratings (1 edge feature).",
        licence=_LICENCE,
        citation=_CITATION,
        upstream=_UPSTREAM,
        files=(_RATINGS,),
        loader=load_movielens,
    ),
    "movielens_100k_tables": Dataset(
        name="movielens_100k_tables",
        description="MovieLens-100K with age, gender, occupation of its users and title, year, genres of its films.",
        licence=_LICENCE,
        citation=_CITATION,
        upstream=_UPSTREAM,
        files=(
            _RATINGS,
            _file("ml-100k.user", "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972", 22_697),
            _file("ml-100k.item", "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532", 66_632),
        ),
        loader=load_tables,
    ),
}

"""MovieLens-100K: who rated which film, and when.

The file is the one that RecBole ships in its wheel: tab-separated, one header line
`user_id:token item_id:token rating:float timestamp:float`, 100,000 rows, not sorted by time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets.sources import Dataset, File, Wheel

if TYPE_CHECKING:
    from datasets.temporal import EventStream


def load_movielens(path: Path) -> EventStream:
    """Ratings as a bipartite stream: users -> films, seconds since 1970, the rating (1 to 5) as edge feature.

    943 users, 1,682 films, 100,000 events. Users rate in bursts of dozens of films within minutes.
    """
    # Listing data sets must not import torch, so the stream is imported where it is built.
    from datasets.temporal import stream_from_columns

    user, item, rating, seconds = np.loadtxt(path, delimiter="\t", skiprows=1, unpack=True)
    return stream_from_columns(user.astype(np.int64), item.astype(np.int64), seconds, rating[:, None], bipartite=True)


DATASETS = {
    "movielens_100k": Dataset(
        name="movielens_100k",
        description="943 users rate 1,682 films: 100,000 timed ratings (1 edge feature).",
        licence="GroupLens terms: research use with citation, no redistribution without permission",
        citation=(
            'F. M. Harper, J. A. Konstan, "The MovieLens Datasets: History and Context", '
            "ACM Transactions on Interactive Intelligent Systems 5(4), 2015"
        ),
        upstream="https://grouplens.org/datasets/movielens/100k/",
        files=(
            File(
                name="ml-100k.inter",
                sha256="4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
                size_bytes=1_979_230,
                wheel=Wheel("recbole", "1.2.1", "recbole/dataset_example/ml-100k/ml-100k.inter"),
            ),
        ),
        loader=load_movielens,
    ),
}

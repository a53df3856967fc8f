"""Bitcoin OTC and Bitcoin Alpha: who trusts whom, and how much, on two Bitcoin exchanges.

Each line of a file is `source,target,rating,time`; there is no header. Alpha is not sorted by time and full
of equal times, so the order of the file decides between them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets.sources import Dataset, File

if TYPE_CHECKING:
    from datasets.temporal import EventStream

CITATION = (
    'S. Kumar, F. Spezzano, V. S. Subrahmanian, C. Faloutsos, "Edge Weight Prediction in Weighted Signed '
    'Networks", ICDM 2016; S. Kumar et al., "REV2: Fraudulent User Prediction in Rating Platforms", WSDM 2018'
)
LICENCE = "none stated; distributed by SNAP for research use with citation"


def load_bitcoin(path: Path) -> EventStream:
    """Ratings as a stream: rater -> rated, time in seconds since 1970, the rating (-10 to 10) as feature."""
    # Listing data sets must not import torch, so the stream is imported where it is built.
    from datasets.temporal import stream_from_columns

    source, target, rating, seconds = np.loadtxt(path, delimiter=",", unpack=True)
    return stream_from_columns(
        source.astype(np.int64), target.astype(np.int64), seconds, rating[:, None], bipartite=False
    )


DATASETS = {
    "bitcoin_otc": Dataset(
        name="bitcoin_otc",
        description="5,881 traders of Bitcoin OTC rate each other: 35,592 timed ratings (1 edge feature).",
        licence=LICENCE,
        citation=CITATION,
        upstream="https://snap.stanford.edu/data/soc-sign-bitcoin-otc.html",
        files=(
            File(
                name="soc-sign-bitcoinotc.csv",
                sha256="76bd9d8f1d3ff9a1813d9fc8e6902a0ee4d0a2f8c1003842dbc9ec79149ab60c",
                size_bytes=1_011_180,
                urls=("https://snap.stanford.edu/data/soc-sign-bitcoinotc.csv.gz",),
                mirror="bitcoin-signed/soc-sign-bitcoinotc.csv",
            ),
        ),
        loader=load_bitcoin,
    ),
    "bitcoin_alpha": Dataset(
        name="bitcoin_alpha",
        description="3,783 traders of Bitcoin Alpha rate each other: 24,186 timed ratings (1 edge feature).",
        licence=LICENCE,
        citation=CITATION,
        upstream="https://snap.stanford.edu/data/soc-sign-bitcoin-alpha.html",
        files=(
            File(
                name="soc-sign-bitcoinalpha.csv",
                sha256="1b2a970f327d0ceba0c57bd5919670257cbe4cc0704e2ddac09abc4b08e2ca4d",
                size_bytes=503_131,
                urls=("https://snap.stanford.edu/data/soc-sign-bitcoinalpha.csv.gz",),
                mirror="bitcoin-signed/soc-sign-bitcoinalpha.csv",
            ),
        ),
        loader=load_bitcoin,
    ),
}

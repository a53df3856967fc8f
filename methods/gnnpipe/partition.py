"""Where each vertex lives: ways (graph parallelism) and chunks (the pipeline), and what a way must know of the others.

Vertices are renumbered way by way and, inside a way, chunk by chunk, so that a way is one range of the new numbers and
each of its chunks a range inside it. Chunk k of the whole pipeline is the union of the k-th chunk of every way.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pymetis
import scipy.sparse as sp
import torch
from torch import Tensor

PARTITIONERS = ("metis", "order", "random")


@dataclass(frozen=True)
class Grid:
    """How workers are laid out: S stages x W ways, K chunks. Worker `rank` = stage * W + way."""

    stages: int = 1
    ways: int = 1
    chunks: int = 1

    @property
    def workers(self) -> int:
        return self.stages * self.ways


@dataclass(frozen=True)
class Partition:
    """A renumbering of N vertices for W ways of K chunks.

    order: (N,) the old number of each new one. bounds: (W, K + 1) new numbers; chunk k of way w is the range
    bounds[w, k] to bounds[w, k + 1].
    """

    order: np.ndarray
    bounds: np.ndarray

    @property
    def ways(self) -> int:
        return self.bounds.shape[0]

    @property
    def chunks(self) -> int:
        return self.bounds.shape[1] - 1

    def way_of(self) -> np.ndarray:
        """(N,) the way of each vertex, by its old number."""
        way = np.empty_like(self.order)
        way[self.order] = np.repeat(np.arange(self.ways), self.bounds[:, -1] - self.bounds[:, 0])
        return way


def make_partition(adjacency: Tensor, ways: int, chunks: int, how: str, *, seed: int = 0) -> Partition:
    """Cut a graph into ways and every way into chunks.

    Args:
        adjacency: sparse CSR (N, N), symmetric in structure; its values are not read.
        how: "metis" (least cut, first between ways, then between the chunks of each), "order" (equal ranges of the
            given numbers), or "random" (equal ranges of a random order).
        seed: of "random".

    Raises:
        ValueError: a partitioner that there is not, or more parts than vertices.
    """
    graph = to_scipy(adjacency)
    num_nodes = graph.shape[0]
    if ways * chunks > num_nodes:
        raise ValueError(f"{ways} ways of {chunks} chunks are more than the graph's {num_nodes} vertices")
    if how == "metis":
        groups = [part[piece] for part in _metis(graph, ways) for piece in _metis(graph[part][:, part], chunks)]
        if not all(map(len, groups)):
            raise ValueError(
                f"METIS cuts {num_nodes} vertices into {len(groups)} parts, one of them empty; ask for fewer"
            )
    elif how in PARTITIONERS:
        rng = np.random.default_rng(seed)
        order = rng.permutation(num_nodes) if how == "random" else np.arange(num_nodes)
        groups = [piece for part in np.array_split(order, ways) for piece in np.array_split(part, chunks)]
    else:
        raise ValueError(f"no partitioner {how!r}; there are {', '.join(PARTITIONERS)}")
    ends = np.concatenate([[0], np.cumsum([len(group) for group in groups])])
    bounds = np.stack([ends[way * chunks : (way + 1) * chunks + 1] for way in range(ways)])
    return Partition(np.concatenate(groups), bounds)


def _metis(graph: sp.csr_array, parts: int) -> list[np.ndarray]:
    """The vertices of each part, in ascending order."""
    num_nodes = graph.shape[0]
    if parts == 1:
        return [np.arange(num_nodes)]
    graph = sp.csr_array(graph - sp.diags_array(graph.diagonal()))  # METIS wants no loops
    graph.eliminate_zeros()
    _, part = pymetis.part_graph(parts, pymetis.CSRAdjacency(graph.indptr, graph.indices))
    part = np.asarray(part)
    return [np.flatnonzero(part == index) for index in range(parts)]


@dataclass(frozen=True)
class Shard:
    """What way w holds of the graph. Its columns are its own n vertices, then the m mirrors that they read.

    vertices: (n + m,) old numbers of the columns. size: n. own, mirrors: for each chunk, the slice of the columns with
    its own vertices and with its mirrors. send: for each chunk, rows (< n) that other ways mirror, by destination;
    send_splits, receive_splits: for each chunk, how many rows to and from each way. forward: for each chunk, the CSR
    rows A[chunk, :]; backward: the same rows of A's transpose.
    """

    way: int
    vertices: Tensor
    size: int
    own: list[slice]
    mirrors: list[slice]
    send: list[Tensor]
    send_splits: list[list[int]]
    receive_splits: list[list[int]]
    forward: list[Tensor]
    backward: list[Tensor]

    @property
    def chunks(self) -> int:
        return len(self.own)

    def rows(self, chunk: int) -> int:
        """How many own vertices a chunk has."""
        return self.own[chunk].stop - self.own[chunk].start

    def to(self, device: torch.device | str) -> Shard:
        moved = {name: [t.to(device) for t in getattr(self, name)] for name in ("send", "forward", "backward")}
        return Shard(**{**vars(self), **moved, "vertices": self.vertices.to(device)})


def make_shards(adjacency: Tensor, partition: Partition, ways: Iterable[int] | None = None) -> list[Shard]:
    """Cut out of a graph the parts of some ways (by default of all), on the graph's device.

    Raises:
        ValueError: a graph whose arcs do not all have their reverse: a way could not tell who reads its vertices.
    """
    graph = to_scipy(adjacency)[partition.order][:, partition.order]
    transpose = sp.csr_array(graph.T)
    graph.sort_indices()
    transpose.sort_indices()
    if not (np.array_equal(graph.indptr, transpose.indptr) and np.array_equal(graph.indices, transpose.indices)):
        raise ValueError("the graph is directed; make it undirected, e.g. by torch_geometric.utils.to_undirected")
    chosen = range(partition.ways) if ways is None else ways
    return [_shard(graph, transpose, partition, way).to(adjacency.device) for way in chosen]


def _shard(graph: sp.csr_array, transpose: sp.csr_array, partition: Partition, way: int) -> Shard:
    """graph, transpose: in the partition's numbering."""
    ways, chunks, bounds = partition.ways, partition.chunks, partition.bounds[way]
    first, last = int(bounds[0]), int(bounds[-1])
    place = np.repeat(np.arange(ways * chunks), np.diff(partition.bounds, axis=1).ravel())
    way_of, chunk_of = place // chunks, place % chunks

    own = sp.coo_array(graph[first:last])
    outside = way_of[own.col] != way
    mirrors = np.unique(own.col[outside])
    mirrors = mirrors[np.argsort(chunk_of[mirrors], kind="stable")]  # by chunk, then by way, as numbers rise with ways
    # who reads an own vertex is whoever owns one of its neighbours, for every arc has its reverse
    sent, readers = np.unique(np.stack([own.row[outside], way_of[own.col[outside]]]), axis=1)
    by_chunk = np.lexsort((sent, readers, chunk_of[sent + first]))
    sent, readers = sent[by_chunk], readers[by_chunk]
    sent_in = [chunk_of[sent + first] == k for k in range(chunks)]
    starts = np.searchsorted(chunk_of[mirrors], np.arange(chunks + 1)) + last - first
    columns, ranges = np.concatenate([np.arange(first, last), mirrors]), list(itertools.pairwise(bounds.tolist()))
    return Shard(
        way=way,
        vertices=torch.from_numpy(partition.order[columns]),
        size=last - first,
        own=[slice(a - first, b - first) for a, b in ranges],
        mirrors=[slice(a, b) for a, b in itertools.pairwise(starts.tolist())],
        send=[torch.from_numpy(sent[chosen]).long() for chosen in sent_in],
        send_splits=[np.bincount(readers[chosen], minlength=ways).tolist() for chosen in sent_in],
        receive_splits=[
            np.bincount(way_of[mirrors[chunk_of[mirrors] == k]], minlength=ways).tolist() for k in range(chunks)
        ],
        forward=[to_torch(graph[a:b][:, columns]) for a, b in ranges],
        backward=[to_torch(transpose[a:b][:, columns]) for a, b in ranges],
    )


def to_scipy(matrix: Tensor) -> sp.csr_array:
    """A sparse CSR tensor as scipy's; shares the memory of a tensor that is in main memory."""
    parts = tuple(part.cpu().numpy() for part in (matrix.values(), matrix.col_indices(), matrix.crow_indices()))
    return sp.csr_array(parts, shape=tuple(matrix.shape))


def to_torch(matrix: sp.csr_array) -> Tensor:
    """scipy's CSR as a tensor, its columns in ascending order."""
    matrix = sp.csr_array(matrix)
    matrix.sort_indices()
    pointers, columns = (torch.from_numpy(part.astype(np.int64)) for part in (matrix.indptr, matrix.indices))
    with warnings.catch_warnings(), torch.sparse.check_sparse_tensor_invariants():
        # torch calls this layout a beta in every process that uses it
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(pointers, columns, torch.from_numpy(matrix.data), size=matrix.shape)


def transposed(matrix: Tensor) -> Tensor:
    """The transpose of a sparse CSR tensor, as CSR."""
    return to_torch(sp.csr_array(to_scipy(matrix).T))

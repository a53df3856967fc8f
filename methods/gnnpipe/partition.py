"""Where each vertex lives: ways (graph parallelism) and chunks (the pipeline), and what a way must know of the others.

Vertices are renumbered way by way and, inside a way, chunk by chunk, so that a way is one range of the new numbers and
each of its chunks a range inside it. Chunk k of the whole pipeline is the union of the k-th chunk of every way.

Forward, a way reads the rows of the vertices with an arc into its own; backward, the gradients of those that its own
have an arc to. In an undirected graph these are the same vertices.
"""

from __future__ import annotations

import itertools
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pymetis
import scipy.sparse as sp
import torch
from torch import Tensor

from methods.shared.checks import check_option, check_sizes

PARTITIONERS = ("metis", "order", "random")


@dataclass(frozen=True)
class Grid:
    """How workers are laid out: S stages x W ways, K chunks. Worker `rank` = stage * W + way.

    Raises TypeError or ValueError for invalid numbers.
    """

    stages: int = 1
    ways: int = 1
    chunks: int = 1

    def __post_init__(self) -> None:
        check_sizes("Grid", stages=self.stages, ways=self.ways, chunks=self.chunks)

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
        adjacency: sparse CSR (N, N); its values are not read. METIS takes an arc for an edge.
        how: "metis" (least cut, first between ways, then between the chunks of each), "order" (equal ranges of the
            given numbers), or "random" (equal ranges of a random order).
        seed: of "random".

    Raises:
        ValueError: a partitioner that there is not, no parts, or more parts than vertices.
        TypeError: a number of parts that is no whole number, or an adjacency that is no sparse CSR tensor.
    """
    check_sizes("make_partition", ways=ways, chunks=chunks)
    check_option("make_partition", "how", how, PARTITIONERS)
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
    else:
        rng = np.random.default_rng(seed)
        order = rng.permutation(num_nodes) if how == "random" else np.arange(num_nodes)
        groups = [piece for part in np.array_split(order, ways) for piece in np.array_split(part, chunks)]
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
    if not _same_structure(graph, reverse := sp.csr_array(graph.T)):
        graph = sp.csr_array(abs(graph) + abs(reverse))
    _, part = pymetis.part_graph(parts, pymetis.CSRAdjacency(graph.indptr, graph.indices))
    part = np.asarray(part)
    return [np.flatnonzero(part == index) for index in range(parts)]


@dataclass(frozen=True)
class Halo:
    """What a way reads of others in one direction, and what others read of it.

    columns: (n + m,) old numbers: the own n vertices, then the m mirrors. mirrors: for each chunk, the slice of the
    columns with its mirrors. send: for each chunk, rows (< n) that other ways mirror, by destination; send_splits,
    receive_splits: for each chunk, how many rows to and from each way. matrices: for each chunk, its CSR rows of what
    is multiplied by, over the columns.
    """

    columns: Tensor
    mirrors: list[slice]
    send: list[Tensor]
    send_splits: list[list[int]]
    receive_splits: list[list[int]]
    matrices: list[Tensor]

    def to(self, device: torch.device | str) -> Halo:
        moved = {name: [t.to(device) for t in getattr(self, name)] for name in ("send", "matrices")}
        return Halo(**{**vars(self), **moved, "columns": self.columns.to(device)})


@dataclass(frozen=True)
class Shard:
    """What way w holds of the graph.

    size: n, of its own vertices. own: for each chunk, their slice. forward: of A, whose rows are aggregated; backward:
    of A's transpose, by which gradients go back. digest: of graph and partition, the same for all of their shards.
    """

    way: int
    size: int
    own: list[slice]
    forward: Halo
    backward: Halo
    digest: int

    @property
    def chunks(self) -> int:
        return len(self.own)

    @property
    def vertices(self) -> Tensor:
        """(n,) old numbers of the own vertices."""
        return self.forward.columns[: self.size]

    def rows(self, chunk: int) -> int:
        """How many own vertices a chunk has."""
        return self.own[chunk].stop - self.own[chunk].start

    def to(self, device: torch.device | str) -> Shard:
        return replace(self, forward=self.forward.to(device), backward=self.backward.to(device))


def make_shards(adjacency: Tensor, partition: Partition, ways: Iterable[int] | None = None) -> list[Shard]:
    """Cut out of a graph, directed or not, the parts of some ways (by default of all), on the graph's device."""
    graph = to_scipy(adjacency)[partition.order][:, partition.order]
    transpose = sp.csr_array(graph.T)
    digest = 0
    for part in (graph.indptr, graph.indices, graph.data, partition.order, partition.bounds):
        digest = zlib.crc32(np.ascontiguousarray(part).data, digest)
    chosen = range(partition.ways) if ways is None else ways
    return [_shard(graph, transpose, partition, way, digest).to(adjacency.device) for way in chosen]


def _same_structure(one: sp.csr_array, other: sp.csr_array) -> bool:
    one.sort_indices()
    other.sort_indices()
    return np.array_equal(one.indptr, other.indptr) and np.array_equal(one.indices, other.indices)


def _shard(graph: sp.csr_array, transpose: sp.csr_array, partition: Partition, way: int, digest: int) -> Shard:
    """graph, transpose: in the partition's numbering."""
    bounds = partition.bounds[way].tolist()
    return Shard(
        way=way,
        size=bounds[-1] - bounds[0],
        own=[slice(a - bounds[0], b - bounds[0]) for a, b in itertools.pairwise(bounds)],
        forward=_halo(graph, transpose, partition, way),
        backward=_halo(transpose, graph, partition, way),
        digest=digest,
    )


def _halo(matrix: sp.csr_array, transpose: sp.csr_array, partition: Partition, way: int) -> Halo:
    """Of the multiplication by `matrix`: an entry (v, u) is a row of u that v reads."""
    ways, chunks, bounds = partition.ways, partition.chunks, partition.bounds[way]
    first, last = int(bounds[0]), int(bounds[-1])
    place = np.repeat(np.arange(ways * chunks), np.diff(partition.bounds, axis=1).ravel())
    way_of, chunk_of = place // chunks, place % chunks

    reads, read_by = (sp.coo_array(part[first:last]) for part in (matrix, transpose))
    mirrors = np.unique(reads.col[way_of[reads.col] != way])
    mirrors = mirrors[np.argsort(chunk_of[mirrors], kind="stable")]  # by chunk, then by way, as numbers rise with ways
    outside = way_of[read_by.col] != way
    sent, readers = np.unique(np.stack([read_by.row[outside], way_of[read_by.col[outside]]]), axis=1)
    by_chunk = np.lexsort((sent, readers, chunk_of[sent + first]))
    sent, readers = sent[by_chunk], readers[by_chunk]
    sent_in = [chunk_of[sent + first] == k for k in range(chunks)]
    starts = np.searchsorted(chunk_of[mirrors], np.arange(chunks + 1)) + last - first
    columns = np.concatenate([np.arange(first, last), mirrors])
    return Halo(
        columns=torch.from_numpy(partition.order[columns]),
        mirrors=[slice(a, b) for a, b in itertools.pairwise(starts.tolist())],
        send=[torch.from_numpy(sent[chosen]).long() for chosen in sent_in],
        send_splits=[np.bincount(readers[chosen], minlength=ways).tolist() for chosen in sent_in],
        receive_splits=[
            np.bincount(way_of[mirrors[chunk_of[mirrors] == k]], minlength=ways).tolist() for k in range(chunks)
        ],
        matrices=[to_torch(matrix[a:b][:, columns]) for a, b in itertools.pairwise(bounds.tolist())],
    )


def to_scipy(matrix: Tensor) -> sp.csr_array:
    """A sparse CSR tensor as scipy's; shares the memory of a tensor that is in main memory.

    Raises TypeError for any other tensor.
    """
    if not isinstance(matrix, Tensor) or matrix.layout != torch.sparse_csr:
        kind = matrix.layout if isinstance(matrix, Tensor) else type(matrix).__name__
        raise TypeError(f"an adjacency must be a sparse CSR tensor, as methods.shared.graph makes them; got {kind}")
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

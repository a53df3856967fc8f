"""Static graphs: one loader for all of them, and the two adjacency matrices that graph networks multiply by.

An arc (edge_index[0], edge_index[1]) carries a message from its source to its target. Matrices have a row for each
target and a column for each source, so `adjacency @ x` is what every vertex receives.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import remove_self_loops, to_torch_csr_tensor, to_undirected

import datasets
from assay.errors import DataError
from datasets.temporal import EventStream
from methods.shared.sparse import SparseMatrix


def load_graph(name: str, **options: object) -> Data:
    """A data set as a static graph.

    A stream of events becomes the undirected graph of who ever met whom: both arcs of each pair once, no self
    loops, no features (MovieLens-100K: 2,625 vertices, 200,000 arcs).

    Args:
        name: a data set that is a graph or a stream of events.
        options: passed on to `datasets.load`.

    Raises:
        DataError: as `datasets.load`, or the data set is neither.
    """
    loaded = datasets.load(name, **options)
    if isinstance(loaded, Data):
        return loaded
    if not isinstance(loaded, EventStream):
        raise DataError(f"load_graph({name!r}): that data set is a {type(loaded).__name__}, no graph and no stream")
    edge_index, _ = remove_self_loops(torch.stack([loaded.src, loaded.dst]))
    return Data(edge_index=to_undirected(edge_index, num_nodes=loaded.num_nodes), num_nodes=loaded.num_nodes)


def normalized_adjacency(edge_index: Tensor, num_nodes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """D^-1/2 (A + I) D^-1/2 with D the row sums of A + I: the propagation of GCN (Kipf and Welling 2017, eq. 2).

    Self loops of the graph are replaced by the one of I. An isolated vertex keeps its own value.

    Args:
        edge_index: (2, A) int64; an arc that is there twice counts twice.
        num_nodes: N.
        dtype: of the values.

    Returns:
        (N, N) sparse CSR tensor.
    """
    edge_index, _ = remove_self_loops(edge_index)
    loops = torch.arange(num_nodes, device=edge_index.device)
    source, target = torch.cat([edge_index, loops.expand(2, -1)], dim=1)
    scale = torch.bincount(target, minlength=num_nodes).to(dtype).rsqrt()
    return _csr(target, source, scale[source] * scale[target], num_nodes)


def propagation(edge_index: Tensor | SparseMatrix, num_nodes: int, dtype: torch.dtype = torch.float32) -> SparseMatrix:
    """`normalized_adjacency` as a matrix that networks multiply by; one that is given already is handed back.

    So a model takes the arcs that torch-geometric's users have, or a matrix that they prepared once for all epochs.

    Raises:
        ValueError: a prepared matrix of another size.
    """
    if isinstance(edge_index, SparseMatrix):
        if edge_index.shape != (num_nodes, num_nodes):
            raise ValueError(f"a propagation of shape {tuple(edge_index.shape)} for {num_nodes} vertices")
        return edge_index
    return SparseMatrix(normalized_adjacency(edge_index, num_nodes, dtype))


def mean_adjacency(edge_index: Tensor, num_nodes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """D^-1 A with D the row sums of A, without self loops: the mean over neighbours of GraphSAGE.

    The row of a vertex without neighbours is zero, others sum to 1. Arguments and result as for
    `normalized_adjacency`.
    """
    (source, target), _ = remove_self_loops(edge_index)
    degree = torch.bincount(target, minlength=num_nodes).to(dtype)
    return _csr(target, source, degree.reciprocal()[target], num_nodes)


def _csr(row: Tensor, column: Tensor, values: Tensor, num_nodes: int) -> Tensor:
    with warnings.catch_warnings(), torch.sparse.check_sparse_tensor_invariants():
        # torch calls this layout a beta in every process that uses it
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return to_torch_csr_tensor(torch.stack([row, column]), values, num_nodes)

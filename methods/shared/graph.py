"""Static graphs: one loader for all of them, and the two adjacency matrices that graph networks multiply by.

An arc (edge_index[0], edge_index[1]) carries a message from its source to its target. Matrices have a row for each
target and a column for each source, so `adjacency @ x` is what every vertex receives.

What a user gives of a graph goes through `checked_edge_index` and `node_ids` before any native code sees it.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import is_sparse, remove_self_loops, to_edge_index, to_torch_csr_tensor, to_undirected

import datasets
from assay.errors import DataError
from datasets.temporal import EventStream
from methods.shared.sparse import SparseMatrix

IDS = (torch.int64, torch.int32, torch.int16, torch.int8)  # torch reads uint8 as a mask


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


def checked_edge_index(edge_index: Tensor, num_nodes: int) -> Tensor:
    """The arcs (2, A) int64 of a graph of `num_nodes` vertices: every id is one of 0 .. num_nodes - 1.

    Args:
        edge_index: (2, A) of whole numbers; or, as torch-geometric's layers take it, an `adj_t` (N, N), sparse, with a
            row for each target, whose stored values are all 1.
        num_nodes: N.

    Raises:
        TypeError: no tensor, or ids that are no whole numbers.
        ValueError: another shape, or an `adj_t` with weights.
        IndexError: a vertex that is not there.
    """
    if is_sparse(edge_index):
        edge_index = _arcs_of(edge_index, num_nodes)
    if not isinstance(edge_index, Tensor):
        raise TypeError(f"edge_index: needs a tensor of arcs (2, A), got a {type(edge_index).__name__}")
    if edge_index.dtype not in IDS:
        raise TypeError(f"edge_index: needs whole numbers (int64) as vertex ids, got {edge_index.dtype}")
    if edge_index.dim() != 2 or edge_index.shape[0] != 2:
        raise ValueError(f"edge_index: needs the shape (2, arcs), got {tuple(edge_index.shape)}")
    return _checked_ids(edge_index.as_subclass(Tensor).long(), num_nodes, "edge_index")


def node_ids(nodes: Tensor, num_nodes: int, name: str = "mask") -> Tensor:
    """The vertex ids (n,) int64 of a mask (N,) bool; or ids (n,), each of them once, as they come.

    Args:
        nodes: which vertices. A mask of zeros and ones that is not bool is refused rather than taken for ids.
        num_nodes: N.
        name: of the argument, for errors.

    Raises:
        TypeError: neither bool nor whole numbers.
        ValueError: a mask of another length or of several splits, or a vertex named twice.
        IndexError: a vertex that is not there.
    """
    if not isinstance(nodes, Tensor) or nodes.dtype not in (torch.bool, *IDS):
        got = nodes.dtype if isinstance(nodes, Tensor) else type(nodes).__name__
        raise TypeError(f"{name}: needs a mask of bool or vertex ids of int64, got {got}")
    if nodes.dim() != 1:
        raise ValueError(f"{name}: shape {tuple(nodes.shape)} holds several splits; choose one, as in {name}[:, split]")
    if nodes.dtype == torch.bool:
        if len(nodes) != num_nodes:
            raise ValueError(f"{name}: a mask of {len(nodes)} vertices for a graph of {num_nodes}")
        return nodes.nonzero().squeeze(1)
    ids = _checked_ids(nodes.long(), num_nodes, name)
    if len(ids) > 1 and (counts := torch.bincount(ids)).max() > 1:
        raise ValueError(f"{name}: vertex {int(counts.argmax())} is named {int(counts.max())} times; a mask is bool")
    return ids


def _checked_ids(ids: Tensor, num_nodes: int, name: str) -> Tensor:
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < num_nodes:
        place = ((ids < 0) | (ids >= num_nodes)).nonzero()[0].tolist()
        raise IndexError(f"{name}{place}: vertex {int(ids[tuple(place)])}, but ids go from 0 to {num_nodes - 1}")
    return ids


def _arcs_of(adj_t: Tensor, num_nodes: int) -> Tensor:
    """(2, A) of a sparse (N, N) matrix with a row for each target."""
    shape = tuple(adj_t.size(i) for i in range(adj_t.dim()))
    if shape != (num_nodes, num_nodes):
        raise ValueError(f"edge_index: a sparse adj_t of shape {shape} for {num_nodes} vertices")
    if isinstance(adj_t, Tensor) and adj_t.layout == torch.sparse_coo:
        adj_t = adj_t.coalesce()
    arcs, weight = to_edge_index(adj_t)
    if not bool((weight == 1).all()):
        raise ValueError("edge_index: a sparse adj_t with weights other than 1; this method's graph has none")
    return arcs.flip(0)


def normalized_adjacency(edge_index: Tensor, num_nodes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """D^-1/2 (A + I) D^-1/2 with D the row sums of A + I: the propagation of GCN (Kipf and Welling 2017, eq. 2).

    Self loops of the graph are replaced by the one of I. An isolated vertex keeps its own value.

    Args:
        edge_index: (2, A) int64, or what else `checked_edge_index` takes; an arc that is there twice counts twice.
        num_nodes: N.
        dtype: of the values; computed in float32 at least.

    Returns:
        (N, N) sparse CSR tensor.

    Raises:
        TypeError, ValueError, IndexError: as `checked_edge_index`.
    """
    edge_index, _ = remove_self_loops(checked_edge_index(edge_index, num_nodes))
    loops = torch.arange(num_nodes, device=edge_index.device)
    source, target = torch.cat([edge_index, loops.expand(2, -1)], dim=1)
    scale = torch.bincount(target, minlength=num_nodes).to(torch.promote_types(dtype, torch.float32)).rsqrt()
    return _csr(target, source, (scale[source] * scale[target]).to(dtype), num_nodes)


def propagation(edge_index: Tensor | SparseMatrix, num_nodes: int, dtype: torch.dtype = torch.float32) -> SparseMatrix:
    """`normalized_adjacency` as a matrix that networks multiply by; one that is given already is handed back.

    So a model takes the arcs that torch-geometric's users have, or a matrix that they prepared once for all epochs.

    Raises:
        ValueError: a prepared matrix of another size.
        TypeError, ValueError, IndexError: as `checked_edge_index`.
    """
    if isinstance(edge_index, SparseMatrix):
        if edge_index.shape != (num_nodes, num_nodes):
            raise ValueError(f"a propagation of shape {tuple(edge_index.shape)} for {num_nodes} vertices")
        return edge_index
    return SparseMatrix(normalized_adjacency(edge_index, num_nodes, dtype))


def limit_parts(adjacency: SparseMatrix) -> tuple[Tensor, Tensor]:
    """What the limit of A^k is made of, for the propagation A (N, N) of an undirected graph.

    Returns:
        d_i + 1 (N,) int64, read off the diagonal, which is its reciprocal: an edge that is there twice counts twice;
        and the number of each vertex's connected component (N,) int64.

    Raises:
        ValueError: the graph is directed, where A^k has another limit or none; or the matrix is no propagation.
    """
    csr = adjacency.csr
    if not adjacency.is_symmetric:
        raise ValueError("edge_index: a directed graph has no such limit of propagation; make it undirected first")
    row = torch.arange(len(csr), device=csr.device).repeat_interleave(csr.crow_indices().diff())
    diagonal = csr.values()[row == csr.col_indices()]
    if len(diagonal) != len(csr) or not bool((diagonal > 0).all()):
        raise ValueError("edge_index: a matrix with zeros on its diagonal is no propagation, which has self loops")
    graph = csr_matrix((np.ones(len(row)), csr.col_indices().cpu().numpy(), csr.crow_indices().cpu().numpy()))
    component = torch.from_numpy(connected_components(graph, directed=False)[1]) if len(csr) else row.cpu()
    return diagonal.double().reciprocal().round().long(), component.long().to(csr.device)


def mean_adjacency(edge_index: Tensor, num_nodes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """D^-1 A with D the row sums of A: the mean over neighbours of GraphSAGE.

    A vertex with a self loop is a neighbour of its own, as in torch-geometric's SAGEConv. The row of a vertex without
    neighbours is zero, others sum to 1. Arguments and result as for `normalized_adjacency`.
    """
    source, target = checked_edge_index(edge_index, num_nodes)
    degree = torch.bincount(target, minlength=num_nodes).to(torch.promote_types(dtype, torch.float32))
    return _csr(target, source, degree.reciprocal()[target].to(dtype), num_nodes)


def _csr(row: Tensor, column: Tensor, values: Tensor, num_nodes: int) -> Tensor:
    with warnings.catch_warnings(), torch.sparse.check_sparse_tensor_invariants():
        # torch calls this layout a beta in every process that uses it
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return to_torch_csr_tensor(torch.stack([row, column]), values, num_nodes)

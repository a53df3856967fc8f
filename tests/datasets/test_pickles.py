"""A pickle of unknown origin is read, or refused by name; it never runs."""

from __future__ import annotations

import collections
import os
import pickle
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from assay.errors import DataError
from datasets.pickles import load_pickle

MIRROR = os.environ.get("ASSAY_MIRROR")


class Touch:
    """Pickles as the shell command `touch <path>`."""

    def __init__(self, path: Path, call: object = os.system) -> None:
        self.path, self.call = path, call

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        if self.call is eval:
            return eval, (f"open({str(self.path)!r}, 'w').close()",)
        if self.call is subprocess.Popen:
            return subprocess.Popen, (["touch", str(self.path)],)
        return self.call, (f"touch {self.path}",)


def written(tmp_path: Path, content: object, protocol: int = 4) -> Path:
    path = tmp_path / "data.pickle"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("call", "refused"),
    [
        (os.system, r"global (posix|nt)\.system"),
        (eval, r"builtin.*\.eval"),
        (subprocess.Popen, r"(subprocess|commands)\.Popen"),
    ],
)
def test_a_pickle_that_calls_out_is_refused_and_does_not_run(
    tmp_path: Path, call: object, refused: str, protocol: int
) -> None:
    victim = tmp_path / "victim"
    hostile = pickle.dumps(Touch(victim, call), protocol)
    path = written(tmp_path, hostile)
    with pytest.raises(DataError, match=refused) as caught:
        load_pickle(path)
    assert str(path) in str(caught.value)
    assert not victim.exists()
    # The same bytes do run in an ordinary unpickler, or this test would show nothing.
    loaded = pickle.loads(hostile)
    if isinstance(loaded, subprocess.Popen):
        loaded.wait()
    assert victim.exists()


@pytest.mark.parametrize("wrap", [lambda x: [1, {"a": (x,)}], lambda x: {("k", 1): [[x]]}, lambda x: np.array([x])])
def test_a_call_hidden_deep_inside_is_refused(tmp_path: Path, wrap: object) -> None:
    victim = tmp_path / "victim"
    path = written(tmp_path, wrap(Touch(victim)))
    with pytest.raises(DataError, match="system"):
        load_pickle(path)
    assert not victim.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cnumpy\nload\n.",  # other functions of an allowed package
        b"cnumpy.testing._private.utils\nruncstring\n.",
        b"\x80\x04\x8c\x08builtins\x8c\x0elist.__class__\x93.",  # an attribute of something allowed
        b"cscipy.sparse\nload_npz\n.",
        b"(S'touch victim'\nios\nsystem\n.",  # the old way to make an instance
        b"\x82\x01.",  # the extension registry
        b"Poutside\n.",  # a persistent id
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00zipt\x52.",  # a codec that is none
    ],
)
def test_every_other_way_out_is_closed(tmp_path: Path, program: bytes) -> None:
    with pytest.raises(DataError, match="refused, because this pickle asks for the"):
        load_pickle(written(tmp_path, program))


def test_the_whole_message_names_file_and_global(tmp_path: Path) -> None:
    path = written(tmp_path, b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(DataError) as caught:
        load_pickle(path)
    assert str(caught.value) == (
        f"{path}: refused, because this pickle asks for the global os.system. Only plain containers, numpy arrays "
        "and scipy CSR/CSC matrices are read, since anything else can run code; that was not run. "
        "Get the file from its upstream and compare its sha256."
    )


def test_a_pickle_cannot_change_a_class_for_everybody(tmp_path: Path) -> None:
    before = scipy.sparse.csr_matrix.toarray
    program = b"\x80\x02cscipy.sparse._csr\ncsr_matrix\n(N}X\x07\x00\x00\x00toarrayc__builtin__\nlist\nstb."
    with pytest.raises(DataError, match="new attributes for"):
        load_pickle(written(tmp_path, program))
    assert scipy.sparse.csr_matrix.toarray is before


def test_indices_that_would_read_outside_a_matrix_are_refused(tmp_path: Path) -> None:
    matrix = scipy.sparse.csr_matrix(np.eye(3))
    matrix.indices[1] = 10**6
    with pytest.raises(DataError, match="not a pickle that can be read"):
        load_pickle(written(tmp_path, matrix))


@pytest.mark.parametrize("damage", [lambda data: data[:-40], lambda data: b"", lambda data: b"\x80\x04" + data[9:]])
def test_a_damaged_pickle_is_an_error_that_names_the_file(tmp_path: Path, damage: object) -> None:
    path = written(tmp_path, damage(pickle.dumps(np.arange(100))))
    with pytest.raises(DataError, match=r"data\.pickle: not a pickle that can be read"):
        load_pickle(path)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_what_data_sets_are_made_of_comes_back_as_it_was(tmp_path: Path, protocol: int) -> None:
    graph = collections.defaultdict(list, {0: [1, 2], 2: [0]})
    content = {
        "graph": graph,
        "ordered": collections.OrderedDict(a=1),
        "array": np.arange(6, dtype=np.int16).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "scalar": np.float32(1.5),
        "plain": [
            None,
            True,
            1,
            10**30,
            2.5,
            1 + 2j,
            "text",
            b"\xff\x00",
            b"",
            (1,),
            {3},
            frozenset({4}),
            bytearray(b"x"),
        ],
    }
    back = load_pickle(written(tmp_path, content, protocol))
    assert back["plain"] == content["plain"]
    assert back["graph"] == graph
    assert back["graph"][99] == []
    assert list(back["ordered"].items()) == [("a", 1)]
    assert back["array"].dtype == np.int16
    assert np.array_equal(back["array"], content["array"])
    assert np.array_equal(back["fortran"], content["fortran"])
    assert (back["scalar"], type(back["scalar"])) == (np.float32(1.5), np.float32)


@pytest.mark.parametrize("make", [scipy.sparse.csr_matrix, scipy.sparse.csc_matrix, scipy.sparse.csr_array])
@pytest.mark.parametrize("protocol", [2, 5])
def test_sparse_matrices_come_back_as_they_were(tmp_path: Path, make: type, protocol: int) -> None:
    dense = np.diag([1.0, 2.0, 0.0, 3.0])[:, :3]
    back = load_pickle(written(tmp_path, make(dense), protocol))
    assert type(back) is make
    assert np.array_equal(back.toarray(), dense)


def python2_array(values: list[int]) -> bytes:
    """The program that Python 2 wrote for an int32 array, with its data as an 8-bit string."""
    data = struct.pack(f"<{len(values)}i", *values)
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        + b"(K\x01K" + bytes([len(values)]) + b"\x85cnumpy\ndtype\nU\x02i4K\x00K\x01\x87R"
        + b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + b"\x89T" + struct.pack("<i", len(data)) + data + b"tb"
    )  # fmt: skip


def test_a_sparse_matrix_of_python_2_is_read_with_latin1(tmp_path: Path) -> None:
    program = (
        b"\x80\x02cscipy.sparse.csr\ncsr_matrix\n)\x81}("
        + b"U\x06formatU\x03csrU\x06_shapeK\x02K\xc9\x86"
        + b"U\x06indptr" + python2_array([0, 1, 3])
        + b"U\x07indices" + python2_array([200, 0, 199])
        + b"U\x04data" + python2_array([7, 8, -1])
        + b"U\x08maxprintK\x32ub."
    )  # fmt: skip
    path = written(tmp_path, program)
    matrix = load_pickle(path, encoding="latin1")
    assert matrix.shape == (2, 201)
    assert {(i, j): matrix[i, j] for i, j in zip(*matrix.nonzero(), strict=True)} == {
        (0, 200): 7,
        (1, 0): 8,
        (1, 199): -1,
    }
    with pytest.raises(DataError, match="encoding='latin1'"):
        load_pickle(path)


def test_a_graph_of_python_2_is_read(tmp_path: Path) -> None:
    program = b"\x80\x02ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R(K\x00](K\x01K\x02eK\x01]K\x00au."
    graph = load_pickle(written(tmp_path, program), encoding="latin1")
    assert dict(graph) == {0: [1, 2], 1: [0]}


@pytest.mark.skipif(not MIRROR, reason="genuine planetoid files are only in the mirror: set ASSAY_MIRROR")
def test_genuine_planetoid_files_are_read() -> None:
    folder = Path(MIRROR or "") / "planetoid"
    x = load_pickle(folder / "ind.cora.x", encoding="latin1")
    graph = load_pickle(folder / "ind.cora.graph", encoding="latin1")
    y = load_pickle(folder / "ind.citeseer.ally", encoding="latin1")
    assert (x.shape, x.nnz, float(x.sum())) == ((140, 1_433), 2_647, 2_647.0)
    assert len(graph) == 2_708
    assert y.shape == (2_312, 6)
    assert set(y.sum(axis=1)) <= {0, 1}

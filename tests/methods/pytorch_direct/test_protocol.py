"""Every experiment at a small size, on the CPU where there is no GPU: its rows against a direct computation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.experiment import Run
from methods.pytorch_direct import UnifiedTensor, experiments, kernels, workloads
from methods.pytorch_direct.requests import expected, ideal_lines, lines_touched, phase_pairs, requests
from methods.pytorch_direct.sampling import batches, graph_of, sample
from methods.pytorch_direct.training import GraphSAGE
from tests.methods.blindness import run_small
from tests.methods.pytorch_direct.small import made_small
from tests.methods.unusual import assert_takes_or_refuses

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MAP = {"direct": "shift", "direct_naive": "naive", "direct_rowaligned": "rowaligned"}
needs_triton = pytest.mark.skipif(kernels.triton is None, reason="Triton is not installed")


def rows_of(run: Run, metric: str) -> dict[tuple[Any, ...], Any]:
    """(method, *setting) -> value, or values where the row is repeated."""
    found: dict[tuple[Any, ...], Any] = {}
    for row in run.rows:
        if row.metric == metric:
            found.setdefault((row.method, *row.setting.values()), []).append(row.value)
    return {key: values[0] if len(values) == 1 else values for key, values in found.items()}


@pytest.fixture
def small_graph() -> Iterator[None]:
    with made_small():
        yield


def test_the_request_model_records_each_map_under_its_method() -> None:
    run = run_small("pytorch_direct", "request_model", widths=[100, 128, 602])
    mean, worst, departure = (rows_of(run, name) for name in ("requests_per_row", "worst_excess", "departure"))
    for width in (100, 128, 602):
        assert mean[None, width] == pytest.approx(float(ideal_lines(width)), rel=1e-12)
        lines = lines_touched(width, phase_pairs(width)[1])
        for method, mapping in MAP.items():
            assert mean[method, width] == pytest.approx(float(expected(mapping, width)), rel=1e-12)
            counted = workloads_count(mapping, width)
            assert worst[method, width] == int((counted - lines).max())
        assert departure["direct_naive", width] < 1e-9 > departure[None, width]
    assert worst["direct", 602] == 2 < worst["direct_naive", 602]


def workloads_count(mapping: str, width: int) -> Tensor:
    from methods.pytorch_direct.requests import count

    return count(mapping, width, *phase_pairs(width))


@pytest.mark.usefixtures("small_graph")
def test_the_request_stream_is_that_of_the_batches_of_its_seed() -> None:
    run = run_small("pytorch_direct", "request_stream", seed=3, widths=[100], batch_size=20, fanouts=[2, 3], steps=2)
    graph, _ = workloads.load(run)
    generator = torch.Generator().manual_seed(3)
    seeds = torch.randperm(2_000, generator=generator)[:40]
    nodes = [batch.nodes for batch in batches(graph, seeds, 20, (2, 3), generator)]
    for method, mapping in MAP.items():
        counts = torch.cat([requests(mapping, 100, part) for part in nodes]).double()
        assert rows_of(run, "requests_per_row")[method, 100] == pytest.approx(float(counts.mean()), rel=1e-12)


def test_traffic_is_three_passes_or_one_and_the_index() -> None:
    run = run_small("pytorch_direct", "traffic", table_rows=300, rows=100)
    host, link = rows_of(run, "host_bytes_per_byte"), rows_of(run, "link_bytes_per_byte")
    index = 8 / 2408
    assert host == pytest.approx({("staged",): 3, ("staged_pinned",): 3, ("direct",): 1 + index, ("resident",): index})
    assert link == pytest.approx({("staged",): 1, ("staged_pinned",): 1, ("direct",): 1 + index, ("resident",): index})
    if DEVICE.type == "cpu":
        peak = rows_of(run, "peak_bytes")
        assert peak["staged",] >= 100 * 2408 > peak["direct",]


@needs_triton
def test_kernels_are_compared_with_the_rows_on_indices_of_four_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_small("pytorch_direct", "kernel_identity", widths=[33], rows=8)
    wrong = rows_of(run, "wrong_elements")
    assert wrong == {(m, 33, kind): 0 for m in MAP for kind in ("random", "sorted", "repeated", "ends")}
    asked = []
    monkeypatch.setattr(experiments, "by_kernel", lambda name, table, device: asked.append(name) or Wrong(table))
    run = run_small("pytorch_direct", "kernel_identity", widths=[33], rows=8)
    assert asked == list(MAP)
    assert set(rows_of(run, "wrong_elements").values()) == {2}


class Wrong:
    """Leaves one element unwritten, and another wrong."""

    def __init__(self, table: Tensor) -> None:
        self.table = table

    def gather_into(self, out: Tensor, index: Tensor) -> Tensor:
        right = self.table[index].flatten()[1:]
        out.view(-1)[1:] = right.to(out.device)
        out.view(-1)[2] += 1
        return out


def test_the_scripts_differ_in_two_lines_and_another_seed_shows() -> None:
    run = run_small("pytorch_direct", "two_line_change", num_nodes=2_000, steps=3)
    assert rows_of(run, "changed_lines") == {(None,): 2}
    assert rows_of(run, "different_losses") == {("direct",): 0, ("staged",): 3}


@needs_triton
@pytest.mark.usefixtures("small_graph")
def test_losses_of_every_path_are_compared_with_the_staged_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    small = dict(width=40, batch_size=4, fanouts=[1, 2], steps=2)
    run = run_small("pytorch_direct", "loss_identity", **small)
    paths = ("staged", "staged_pinned", "resident", *MAP, "direct_prefetched")
    assert rows_of(run, "different_losses") == {(name,): 0 for name in paths}
    way = experiments.way_of
    monkeypatch.setattr(
        experiments, "way_of", lambda name, x, device: way(name, x + (name == "resident"), device)
    )  # fmt: skip
    run = run_small("pytorch_direct", "loss_identity", **small)
    assert rows_of(run, "different_losses") == {(name,): 2 * (name == "resident") for name in paths}


THREE = {"staged", "staged_pinned", "direct"}
RACES: dict[str, tuple[dict[str, Any], set[str], list[dict[str, Any]]]] = {
    "row_sweep": (dict(table_rows=200, rows=[16, 64]), THREE, [dict(rows=16), dict(rows=64)]),
    "transfer_cpu": (dict(table_rows=200, rows=[16], widths=[64, 513]), THREE,
                     [dict(width=64, rows=16), dict(width=513, rows=16)]),
    "fetch_peer": (dict(table_rows=200, rows=16), {"direct", "torch_select", "pyg_fetch"}, [{}]),
    "contention": (dict(table_rows=200, rows=16, busy=[0, 1]), THREE, [dict(hogs=0), dict(hogs=1)]),
    "contention_gpu": (dict(table_gib=0.001, rows=16, busy=[0]), THREE, [dict(hogs=0)]),
    "transfer": (dict(table_gib=0.001, rows=[16], widths=[64, 602]), THREE,
                 [dict(width=64, rows=16), dict(width=602, rows=16)]),
    "alignment": (dict(table_gib=0.001, widths=[128, 602]), {*MAP, "torch_alias", "pinned_copy"},
                  [dict(width=128), dict(width=602)]),
    "training": (dict(num_nodes=2_000, widths=[8], batch_size=20, fanouts=[2, 3], steps=2),
                 {*THREE, "resident", "direct_prefetched"}, [dict(width=8)]),
    "training_power": (dict(num_nodes=2_000, batch_size=20, fanouts=[2, 3], steps=1, seconds=0.01),
                       {"staged", "direct"}, [{}]),
}  # fmt: skip
CPU_SECONDS = {
    "fetch_cpu": dict(batch_size=20, fanouts=[2, 3], steps=2),
    "fetch_gpu": dict(batch_size=20, fanouts=[2, 3], steps=2),
}


busy: list[int] = []  # how many processes were to run beside a race


@pytest.fixture
def contenders(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What an experiment hands to a race, instead of the race."""
    raced: list[tuple[dict[str, Any], dict[str, Any]]] = []
    monkeypatch.setattr(Run, "race", lambda run, calls, pairs, warmup=0, **setting: raced.append((calls, setting)))
    monkeypatch.setattr(experiments, "cpu_seconds", lambda run, calls, pairs: raced.append((calls, {})))
    monkeypatch.setattr(experiments, "hogs", lambda number: nullcontext(busy.append(number)))
    busy.clear()
    return raced


@pytest.mark.usefixtures("small_graph")
@pytest.mark.parametrize("name", [*RACES, *CPU_SECONDS])
def test_a_race_is_between_its_paths_at_every_setting_and_all_gather_the_same(
    name: str, contenders: list[tuple[dict[str, Any], dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of the same table at the same index, which the seed draws, with repetitions nowhere; equal losses."""
    monkeypatch.setattr(workloads, "host_table", numbered)
    monkeypatch.setattr(experiments, "host_table", numbered)
    parameters, methods, settings = RACES.get(name, (CPU_SECONDS.get(name), THREE, [{}]))
    run_small("pytorch_direct", name, seed=5, pairs=1, **(parameters or {}))
    assert [setting for _, setting in contenders] == settings
    assert busy == [setting["hogs"] for setting in settings if "hogs" in setting]
    for calls, setting in contenders:
        assert set(calls) == methods
        results = {method: seeded(call) for method, call in calls.items() if method != "pinned_copy"}
        tensors = {method: out.clone() for method, out in results.items() if isinstance(out, Tensor)}
        reference = next(iter(tensors.values()), None)
        assert all(torch.equal(out, reference) for out in tensors.values())
        if reference is not None and "rows" in setting:
            assert len(reference) == len(reference[:, 0].unique()) == setting["rows"]
            assert reference.shape[1] == setting.get("width", 602)


def seeded(call: Any) -> Any:
    torch.manual_seed(0)  # of dropout
    return call()


def numbered(rows: int, width: int) -> Tensor:
    return torch.arange(rows * width, dtype=torch.float32).view(rows, width)


def test_unusual_inputs_are_taken_or_refused() -> None:
    x, index = torch.rand(10, 4), torch.tensor([3, 0, 9])
    assert_takes_or_refuses(lambda x, index: UnifiedTensor(x)[index].cpu(), x=x, index=index)
    assert_takes_or_refuses(lambda mapping: UnifiedTensor(x, mapping=mapping)[index].cpu(), mapping="naive")
    assert_takes_or_refuses(GraphSAGE, in_channels=3, num_classes=2, hidden_channels=4, num_layers=2)
    assert_takes_or_refuses(lambda width, mapping: requests(mapping, width, index).double(), width=5, mapping="shift")
    edge_index = torch.tensor([[0, 1, 2], [1, 2, 0]])
    assert_takes_or_refuses(graph_of, edge_index=edge_index, num_nodes=3)
    graph = graph_of(edge_index, 3)
    assert_takes_or_refuses(lambda seeds, fanout: sample(graph, seeds, (fanout,), torch.Generator()).nodes.double(),
                            seeds=torch.tensor([0, 2]), fanout=2)  # fmt: skip


@pytest.mark.parametrize(("wrong", "message"), [
    (lambda u: u[torch.tensor([10])], "the index runs from 10 to 10; rows are 0 to 9"),
    (lambda u: u[torch.tensor([-1])], "the index runs from -1 to -1"),
    (lambda u: u[torch.tensor([True] * 10)], "an index is a tensor of int64"),
    (lambda u: u.__setitem__(torch.tensor([1]), torch.zeros(1, 3)), r"rows must be torch.float32 \(1, 4\); got"),
    (lambda u: u.__setitem__(torch.tensor([1]), torch.zeros(1, 4, dtype=torch.float64)), r"got torch.float64 \(1, 4\)"),
    (lambda u: UnifiedTensor(torch.eye(3).to_sparse()), "layout torch.sparse_coo"),
    (lambda u: UnifiedTensor(torch.eye(3), device="meta"), "device must be one of 'cuda', 'cpu'; got 'meta'"),
])  # fmt: skip
def test_what_cannot_be_gathered_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises((ValueError, IndexError, TypeError), match=message):
        wrong(UnifiedTensor(torch.rand(10, 4), "cpu"))

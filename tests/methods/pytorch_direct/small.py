"""Every experiment of PyTorch-Direct made small, on the CPU: nothing of it is chosen by a score."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from datasets.power_law import NUM_CLASSES
from methods.pytorch_direct import experiments, workloads
from methods.pytorch_direct.sampling import graph_of
from methods.shared.graph import load_graph

_BATCHES = dict(batch_size=20, fanouts=[2, 3], steps=2)
_COUNTS: dict[str, dict[str, Any]] = {
    "request_model": dict(widths=[100, 128, 602]),
    "request_stream": dict(widths=[100], **_BATCHES),
    "traffic": dict(table_rows=300, rows=100),
    "kernel_identity": dict(widths=[33], rows=8),
    "two_line_change": dict(num_nodes=500, steps=2),
    "loss_identity": dict(width=40, batch_size=4, fanouts=[1, 2], steps=2),
}
_CLOCKS: dict[str, dict[str, Any]] = {
    "row_sweep": dict(table_rows=200, rows=[16, 64], pairs=1),
    "transfer_cpu": dict(table_rows=200, rows=[16], widths=[64, 513], pairs=1),
    "fetch_peer": dict(table_rows=200, rows=16, pairs=1),
    "fetch_cpu": dict(**_BATCHES, pairs=1),
    "contention": dict(table_rows=200, rows=16, busy=[0, 1], pairs=1),
}
UNTRAINED = _COUNTS | _CLOCKS
WITHOUT = {**dict.fromkeys(_COUNTS, "counts and bits"), **dict.fromkeys(_CLOCKS, "clocks; the labels are made up")}
ELSEWHERE = ("fetch_gpu", "contention_gpu", "transfer", "alignment", "training", "training_power")
WITHOUT |= dict.fromkeys(ELSEWHERE, "clocks of a GPU")


@contextmanager
def made_small() -> Iterator[None]:
    """The power-law graph of 2,000 vertices in the place of the job's."""
    graph = graph_of(load_graph("power_law", num_nodes=2_000).edge_index, 2_000)
    with pytest.MonkeyPatch.context() as patch:
        for module in (workloads, experiments):
            patch.setattr(module, "load", lambda run, **_: (graph, torch.arange(2_000) % NUM_CLASSES))
        yield

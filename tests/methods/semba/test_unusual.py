"""Unusual arguments of the public classes and functions are taken or refused in one sentence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import TemporalData

from datasets.temporal import EventStream
from methods.semba import SEMBA, TGN, fit, make_task, test
from methods.shared.temporal import NeighborIndex
from tests.methods.unusual import assert_takes_or_refuses

test.__test__ = False  # ours, not pytest's
NODES = 6


def stream(events: int = 40) -> EventStream:
    k = torch.arange(events)
    weight = torch.where(k % 3 == 0, -2.0, 1.0).unsqueeze(1)
    return EventStream(k % NODES, (k + 1 + k // NODES) % NODES, k.double(), weight, NODES)


@pytest.mark.parametrize("kind", [SEMBA, TGN])
def test_a_model_checks_its_sizes(kind: Any) -> None:
    sizes = dict(memory_dim=4, time_dim=2, heads=2, dropout=0.5, num_neighbors=3)
    assert_takes_or_refuses(kind, num_nodes=NODES, out_channels=8, num_scores=1, **sizes)


@pytest.mark.parametrize("kind", [SEMBA, TGN])
def test_an_embedding_checks_its_nodes_and_events(kind: Any) -> None:
    index = NeighborIndex(stream())

    def embedded(nodes: Tensor, first: int, last: int) -> Tensor:
        torch.manual_seed(0)
        return kind(NODES, 8, memory_dim=4, heads=2).eval().embed(nodes, index, first, last)[0]

    assert_takes_or_refuses(embedded, nodes=torch.arange(4), first=20, last=30)
    for nodes in ([-1, 2], [0, NODES]):
        with pytest.raises(IndexError, match=r"is outside 0 \.\. 5"):
            embedded(torch.tensor(nodes), 20, 30)
    for nodes in ([2, 1], [1, 1]):
        with pytest.raises(ValueError, match="distinct and ascending"):
            embedded(torch.tensor(nodes), 20, 30)
    with pytest.raises(IndexError, match=r"events 20 \.\. 41"):
        embedded(torch.arange(2), 20, 41)


def test_fit_and_test_check_their_arguments() -> None:
    task = make_task(stream())

    def fitted(kind: str, epochs: int, batch_size: int, lr: float) -> Tensor:
        torch.manual_seed(0)
        model = SEMBA(NODES, 8, memory_dim=4, heads=2)
        fit(model, task, kind, epochs=epochs, batch_size=batch_size, lr=lr, seed=0)
        return test(model, task, kind, batch_size).logits

    assert_takes_or_refuses(fitted, kind="sign_class", epochs=1, batch_size=10, lr=0.01)


def test_a_users_stream_is_checked() -> None:
    def split(src: Tensor, dst: Tensor, t: Tensor, msg: Tensor) -> list[Tensor]:
        task = make_task(TemporalData(src=src, dst=dst, t=t, msg=msg))
        return [task.stream.t, task.stream.edge_features]

    whole = stream()
    assert_takes_or_refuses(split, src=whole.src, dst=whole.dst, t=whole.t, msg=whole.edge_features)
    for events in (0, 1, 2):
        with pytest.raises(ValueError, match="make_task: "):
            make_task(stream(events))

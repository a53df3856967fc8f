"""Unusual arguments of the public classes are taken or refused in one sentence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from datasets.temporal import EventStream
from methods.pres import APAN, JODIE, PRES, TGN
from methods.pres.training import fit, make_task
from methods.shared.temporal import Batch, NeighborIndex
from tests.methods.unusual import assert_takes_or_refuses

NODES = 9
GAPS = ((3.0, 2.0), (5.0, 4.0))


def stream(events: int = 40) -> EventStream:
    k = torch.arange(events)
    return EventStream(k % 4, 4 + k * k % 5, k.double(), torch.sin(k.double()).float().view(-1, 1), NODES)


@pytest.mark.parametrize("kind", [TGN, JODIE, APAN])
def test_a_model_checks_its_sizes(kind: Any) -> None:
    options: dict[str, Any] = dict(gaps=GAPS) if kind is JODIE else dict(heads=2, dropout=0.1)
    assert_takes_or_refuses(kind, num_nodes=NODES, edge_dim=1, dim=4, num_neighbors=3, **options)


def test_pres_checks_its_numbers() -> None:
    assert_takes_or_refuses(PRES, num_nodes=NODES, dim=4, gamma=0.9, beta=0.1, time_unit=1.0)


@pytest.mark.parametrize("kind", [TGN, JODIE, APAN])
@pytest.mark.parametrize("pres", [False, True])
def test_a_batch_is_checked_before_it_is_scored(kind: Any, pres: bool) -> None:
    def logits(src: Tensor, dst: Tensor, t: Tensor, edge_features: Tensor, negatives: Tensor) -> Tensor:
        torch.manual_seed(0)
        gaps = dict(gaps=GAPS) if kind is JODIE else {}
        model = kind(NODES, 1, 4, correction=PRES(NODES, 4) if pres else None, **gaps).eval()
        index = NeighborIndex(stream())
        model.advance(Batch(*(getattr(stream(30), name) for name in ("src", "dst", "t", "edge_features"))), index)
        batch = Batch(src, dst, t, edge_features)
        step = model.score(batch, negatives, index)
        model.commit(batch, step, index)
        return torch.cat([step.logits, model.score(batch, negatives, index).logits])

    last = stream(40)
    good = {name: getattr(last, name)[30:] for name in ("src", "dst", "t", "edge_features")}
    negatives = good["dst"].flip(0).unsqueeze(0)
    assert_takes_or_refuses(logits, **good, negatives=negatives)
    for name in ("src", "dst", "negatives"):
        for wrong in (-1, NODES):
            arguments = {
                **good,
                "negatives": negatives,
                name: torch.full_like({**good, "negatives": negatives}[name], wrong),
            }
            with pytest.raises(IndexError, match=f"has node {wrong}, outside 0 .. 8"):
                logits(**arguments)


def test_a_stream_without_a_part_is_refused_and_so_are_sizes_of_a_fit() -> None:
    for events in (0, 1, 2):
        with pytest.raises(ValueError, match="make_task: "):
            make_task(stream(events))
    task = make_task(stream())

    def fitted(**options: Any) -> list[float]:
        torch.manual_seed(0)
        return fit(TGN(NODES, 1, 4), task, seed=0, **options).loss

    assert_takes_or_refuses(fitted, epochs=1, batch_size=10, lr=0.01, patience=2)


@pytest.mark.parametrize("sizes", [(5, 8), (9, 4)])
def test_a_correction_of_other_sizes_is_refused(sizes: tuple[int, int]) -> None:
    nodes, width = sizes
    with pytest.raises(
        ValueError, match=f"TGN: correction is made for {nodes} nodes of width {width}; this model has 9"
    ):
        TGN(9, 1, 8, correction=PRES(nodes, width))


@pytest.mark.parametrize("gap", [(0.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_gaps_that_cannot_be_divided_by_are_refused(gap: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"JODIE: .* gap of destinations must be"):
        JODIE(9, 1, 8, gaps=((0.0, 1.0), gap))

"""Golden numbers of the released code, jwsu825/MDGNN_BS at c97e0a0: two epochs of training, then unseen events.

Weights, stream and negatives come from formulas, dropout is 0. The released code ran with `n_layers=1, n_heads=2,
message_function="identity", aggregator_type="last"`, its node 0 being the padding; width 4, 2 edge features, 3
neighbours, Adam with a rate of 0.01, batches of 10.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
import torch
from torch import Tensor

from datasets.temporal import EventStream
from methods.pres.baselines import JODIE, TGN, MemoryModel
from methods.pres.layers import MergeLayer, OneQueryAttention
from methods.pres.released import ReleasedPRES
from methods.pres.training import gap_statistics, train_batch
from methods.shared.temporal import NeighborIndex, batches, select

NODES, WIDTH, FEATURES, EVENTS, TRAIN = 8, 4, 2, 40, 30


def stream() -> EventStream:
    k = torch.arange(EVENTS)
    src, dst = 1 + (5 * k + k * k // 3) % 4, 5 + (3 * k + k * k // 5) % 4
    features = torch.sin(0.37 * torch.arange(EVENTS * FEATURES).double() + 0.11).float().view(EVENTS, FEATURES)
    return EventStream(src, dst, (k % 3).cumsum(0).double(), features, NODES + 1)


def negatives() -> Tensor:
    k = torch.arange(EVENTS)
    return 5 + (7 * k + k // 2) % 4


def tensors() -> Iterator[Tensor]:
    """The numbers that fill the i-th tensor of the released code's model, endless."""
    for i in count():
        yield 0.8 * torch.sin(1.1 * torch.arange(300).double() + 0.11 + i).float()


def fill(numbers: Iterator[Tensor], *weights: Tensor) -> None:
    for weight in weights:
        weight.data.copy_(next(numbers)[: weight.numel()].view_as(weight))


def fill_merge(numbers: Iterator[Tensor], layer: MergeLayer) -> None:
    fill(numbers, layer.hidden.weight, layer.hidden.bias, layer.out.weight, layer.out.bias)


def fill_attention(numbers: Iterator[Tensor], attention: OneQueryAttention, query_dim: int, key_dim: int) -> None:
    """From the tensors of `nn.MultiheadAttention`, in its order."""
    heads, width = 2, query_dim // 2
    q, k, v = torch.empty(query_dim, query_dim), torch.empty(query_dim, key_dim), torch.empty(query_dim, key_dim)
    bias, out, out_bias = torch.empty(3, heads, width), torch.empty(query_dim, query_dim), torch.empty(query_dim)
    fill(numbers, q, k, v, bias, out, out_bias)
    with torch.no_grad():
        attention.query[:, :-1] = q.T.view(query_dim, heads, width).transpose(0, 1)
        attention.key[:, :, :-1] = k.view(heads, width, key_dim)
        attention.value[:, :-1] = v.T.view(key_dim, heads, width).transpose(0, 1)
        attention.query[:, -1], attention.key[:, :, -1], attention.value[:, -1] = bias
        attention.out.copy_(out.T.view(heads, width, query_dim))
        attention.out_bias.copy_(out_bias)


def model(kind: type[MemoryModel], released: bool) -> MemoryModel:
    gaps = {"gaps": gap_statistics(select(stream(), torch.arange(EVENTS) < TRAIN))} if kind is JODIE else {"dropout": 0}
    ours, numbers = kind(NODES + 1, FEATURES, WIDTH, num_neighbors=3, **gaps), tensors()
    ours.correction = ReleasedPRES(NODES + 1, WIDTH) if released else None
    cell = ours.updater
    fill(numbers, ours.time_encoder.bias, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
    if isinstance(ours, TGN):
        fill_merge(numbers, ours.merge)
        fill_attention(numbers, ours.attention, 2 * WIDTH, 2 * WIDTH + FEATURES)
    else:
        fill(numbers, ours.projection.weight, ours.projection.bias)
    fill_merge(numbers, ours.decoder)
    return ours


# losses of six batches; probabilities of four true and two negative pairs; memory of node 1; weights of the cell
GOLDEN = {
    (TGN, False): (
        [2.5207283, 2.4922514, 1.8118416, 1.5495658, 1.3139596, 1.4394991],
        [0.5374371, 0.5187702, 0.5442045, 0.5031661, 0.4842628, 0.5515659],
        [-0.1006393, 0.784505, -0.5454699, 0.9762504],
        [0.7024035, 0.6603489, -0.1423163, -0.7453492],
    ),
    (TGN, True): (
        [2.6207283, 2.5571897, 1.7456498, 1.6389056, 1.4044214, 1.8728486],
        [0.7585499, 0.693777, 0.7501402, 0.7206795, 0.5981462, 0.7664779],
        [0.4858531, 0.8981957, -0.6744465, 0.9935071],
        [0.7371029, 0.6505853, -0.1134185, -0.7552217],
    ),
    (JODIE, False): (
        [1.4282351, 1.9606645, 1.9651965, 1.4136927, 1.703505, 1.7619348],
        [0.2689258, 0.2433991, 0.3150682, 0.5451795, 0.2326658, 0.1980255],
        [0.2163787, -0.9892654, 0.4290089, -0.1506974],
        [0.6978085, 0.6620963, -0.154113, -0.7435198],
    ),
    (JODIE, True): (
        [1.5282351, 1.5070134, 2.7330186, 1.6207285, 2.0900612, 2.402823],
        [0.4168181, 0.3461696, 0.145348, 0.019609, 0.4282276, 0.0901899],
        [-0.1402399, -0.9520807, 0.4656568, -0.6509313],
        [0.6961501, 0.6625497, -0.154595, -0.7431907],
    ),
}


@pytest.mark.parametrize(("kind", "released"), list(GOLDEN))
def test_training_equals_the_released_codes(kind: type[MemoryModel], released: bool) -> None:
    ours, events, drawn = model(kind, released), stream(), negatives().unsqueeze(0)
    index, optimizer = NeighborIndex(events), torch.optim.Adam(ours.parameters(), lr=0.01)
    losses = []
    for _ in range(2):
        ours.reset()
        for first, batch in zip(range(0, TRAIN, 10), batches(events, 10, 0, TRAIN), strict=True):
            losses.append(train_batch(ours.train(), optimizer, batch, drawn[:, first : first + 10], index))
    with torch.no_grad():
        (batch,) = batches(events, 10, TRAIN)
        step = ours.eval().score(batch, drawn[:, TRAIN:], index)
        ours.commit(batch, step, index)
    found = [torch.stack(losses), step.logits.sigmoid().flatten()[[0, 1, 4, 9, 10, 13]], ours.memory[1],
             ours.updater.weight_ih.flatten()[:4]]  # fmt: skip
    for got, wanted in zip(found, GOLDEN[kind, released], strict=True):
        torch.testing.assert_close(got.detach(), torch.tensor(wanted), rtol=1e-5, atol=1e-6)

"""Golden numbers of the released code, claws-lab/semba at ae75932: two epochs of `sign_class`, each evaluated.

Weights and stream come from formulas, dropout is 0. The released code ran with `STGNN("semba", "sign_class", 8, 10, 8,
2, memory_dim=4, time_dim=3, dropout=0)` and node features of zeros; batches of 6, 24 events of training and 12 of
evaluation. By gradient descent with a rate of 0.1: the keys have no gradient in the first batch, where each node has
one neighbour, and Adam would make steps of the rounding errors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from datasets.temporal import EventStream
from methods.semba.released import ReleasedSEMBA, two_sided
from methods.semba.tasks import make_task
from methods.semba.training import numbered, score, train_batch

USERS, EVENTS, TRAIN, SIZE = 5, 36, 24, 6


def stream() -> EventStream:
    k = torch.arange(EVENTS)
    src = (5 * k + k * k // 3) % USERS
    dst = (src + 1 + (k * k // 4) % (USERS - 1)) % USERS
    weight = ((7 * k) % 10 + 1) * torch.where((k * k // 5) % 3 == 0, -1, 1)
    return two_sided(EventStream(src, dst, (k % 3).cumsum(0).double(), weight.float().view(-1, 1), USERS))


def model() -> ReleasedSEMBA:
    ours = ReleasedSEMBA(2 * USERS, 8, memory_dim=4, time_dim=3, dropout=0.0)
    weights: list[Tensor] = [ours.time_encoder.lin.weight, ours.time_encoder.lin.bias]
    for cell in ours.memory.cells:
        weights += [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
    attention = ours.attention
    for lin in (attention.lin_key, attention.lin_query, attention.lin_value, attention.lin_skip):
        weights += [lin.weight, lin.bias]
    weights += [attention.lin_edge.weight, ours.head.weight, ours.head.bias]
    for i, weight in enumerate(weights):
        numbers = 0.8 * torch.sin(1.1 * torch.arange(weight.numel()).double() + 0.11 + i)
        weight.data.copy_(numbers.float().view_as(weight))
    return ours


LOSSES = [1.6366867, 3.2539158, 4.5501924, 6.2845969, 1.4182894, 1.530537, 0.4919635, 0.1576171]
PROBABILITIES = [
    0.2602332, 0.8125073, 0.0423727, 0.3221562, 0.0435009, 0.0302538,
    0.0731277, 0.3208659, 0.0141853, 0.9436975, 0.0731277, 0.6578854,
]  # fmt: skip
FRIENDS_OF_1 = [0.280441, 0.3587214, -0.7663744, -0.6934748]
ENEMIES_OF_2_AS_RATED = [0.8386878, 0.9869685, 0.9984089, 0.8206705]
WEIGHTS = [-0.1375783, 0.6398824, -0.5063362, -0.7817294]  # of the second GRU, and of the keys


def test_training_and_evaluation_equal_the_released_codes() -> None:
    ours, task = model(), make_task(stream())
    optimizer, losses = torch.optim.SGD(ours.parameters(), lr=0.1), []
    for _ in range(2):
        ours.train()
        ours.reset()
        for first, batch in numbered(task, SIZE, 0, TRAIN):
            losses.append(train_batch(ours, optimizer, task, "sign_class", first, batch, torch.Generator()))
        logits = []
        ours.eval()
        with torch.no_grad():
            for first, batch in numbered(task, SIZE, TRAIN, EVENTS):
                (scores,), measured = score(ours, task, first, batch)
                ours.commit(batch, measured)
                logits.append(scores[:, 0])
    memory = ours.memory.memory
    weights = torch.cat([ours.memory.cells[1].weight_ih.flatten()[:2], ours.attention.lin_key.weight.flatten()[:2]])
    for got, wanted in (
        (torch.stack(losses), LOSSES), (torch.cat(logits).sigmoid(), PROBABILITIES), (memory[0, 1], FRIENDS_OF_1),
        (memory[1, USERS + 2], ENEMIES_OF_2_AS_RATED), (weights, WEIGHTS),
    ):  # fmt: skip
        torch.testing.assert_close(got.detach(), torch.tensor(wanted), rtol=1e-5, atol=1e-6)

"""Match3, a task that one unit of tensor attention solves and one of ordinary attention does not; and Match2.

Tokens x_1 ... x_n in Z_m; a token's label says whether it is part of a tuple that sums to zero modulo m:

    Match3: y_i = 1 iff some j, l (any, i too) have x_i + x_j + x_l = 0        Match2: ... some j has x_i + x_j = 0

A unit that needs no training writes each token as an angle th = 2 pi x / m, C = cos th, S = sin th. Then

    Q = c [C, -C, -S, -S, 1],  K1 = [C, S, C, S, 0],  K2 = [C, S, S, C, 0]                                   (10)

has the logit c cos(th_i + th_j + th_l): c where the triple sums to zero, at most c cos(2 pi / m) elsewhere. One blank
key more, K1 = [0, 0, 0, 0, tau], K2 = [0, 0, 0, 0, 1], has the logit c tau halfway between; with value 0 for the blank
and 1 for tokens, the output is above 1/2 iff a triple exists, once c outweighs the (n + 1)^2 others. Entries of about
c^{1/3}, far from the small ones that `fast_attention.py` needs: the price of a sharp answer.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.shared.checks import check_sizes
from methods.tensor_attention.tensor_attention import tensor_attention

Task = Literal["match2", "match3"]


def match_labels(tokens: Tensor, modulus: int, task: Task) -> Tensor:
    """y of every token: (..., n) integers -> (..., n) bool."""
    sums = tokens[..., :, None] + tokens[..., None, :]
    if task == "match3":
        sums = (sums[..., None] + tokens[..., None, None, :]).flatten(-2)
    return (sums % modulus == 0).any(dim=-1)


def match3_unit(tokens: Tensor, modulus: int) -> Tensor:
    """The output of the constructed unit (10), (batch, n) float64, for tokens (batch, n), integers modulo `modulus`.

    Raises:
        TypeError, ValueError: a modulus below 2, or tokens that are no integers (batch, n).
    """
    vectors = match3_vectors(tokens, modulus)
    values, scale = _values(tokens), _sharpness(modulus, tokens.shape[1])
    # tokens are weighed in pairs with the blank too: those have value 0 and logit 0, below the blank's own
    return tensor_attention(*vectors, values, values, scale=scale).squeeze(-1)


def match3_vectors(tokens: Tensor, modulus: int) -> tuple[Tensor, Tensor, Tensor]:
    """Q / c (batch, n, 5), K1 and K2 (batch, n + 1, 5) of (10), the blank key last."""
    cos, sin, one, zero = _angles(tokens, modulus)
    q = torch.stack([cos, -cos, -sin, -sin, one], dim=-1)
    k1 = _with_blank(torch.stack([cos, sin, cos, sin, zero], dim=-1), _threshold(modulus))
    k2 = _with_blank(torch.stack([cos, sin, sin, cos, zero], dim=-1), 1.0)
    return q, k1, k2


def match2_unit(tokens: Tensor, modulus: int) -> Tensor:
    """The same for Match2, by one unit of ordinary attention: its logit is c cos(th_i + th_j)."""
    cos, sin, one, zero = _angles(tokens, modulus)
    q = torch.stack([cos, -sin, one], dim=-1)
    k = _with_blank(torch.stack([cos, sin, zero], dim=-1), _threshold(modulus))
    scale = _sharpness(modulus, tokens.shape[1])
    return F.scaled_dot_product_attention(q, k, _values(tokens), scale=scale).squeeze(-1)


def _angles(tokens: Tensor, modulus: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    check_sizes("match unit", least=2, modulus=modulus)
    if tokens.is_floating_point() or tokens.dim() != 2 or 0 in tokens.shape:
        raise ValueError(f"match unit: tokens must be integers (batch, n); got {tokens.dtype} {tuple(tokens.shape)}")
    angle = 2 * math.pi / modulus * tokens.double()
    return angle.cos(), angle.sin(), torch.ones_like(angle), torch.zeros_like(angle)


def _with_blank(keys: Tensor, last: float) -> Tensor:
    blank = F.pad(torch.full_like(keys[:, :1, :1], last), (keys.shape[-1] - 1, 0))
    return torch.cat([keys, blank], dim=1)


def _values(tokens: Tensor) -> Tensor:
    return F.pad(torch.ones(*tokens.shape, 1, dtype=torch.float64, device=tokens.device), (0, 0, 0, 1))


def _threshold(modulus: int) -> float:
    """tau: halfway between cos 0 and the next cosine that a sum can have."""
    return 1 - (1 - math.cos(2 * math.pi / modulus)) / 2


def _sharpness(modulus: int, n: int) -> float:
    """c: the blank's weight is 20 times that of all triples that miss, together."""
    return 2 * math.log(20 * (n + 1) ** 2) / (1 - math.cos(2 * math.pi / modulus))


class MatchNet(nn.Module):
    """One attention layer over learned token embeddings, and a perceptron on the token beside what it attended to.

    (batch, n) integers in [0, vocabulary) -> logits (batch, n) of the label. order: 3 attends to pairs of tokens, 2 to
    tokens; a learned blank token can be attended to in both.
    """

    def __init__(self, vocabulary: int, width: int, order: Literal[2, 3]) -> None:
        super().__init__()
        self.order = order
        self.embedding = nn.Embedding(vocabulary, width)
        self.blank = nn.Parameter(torch.randn(1, 1, width))
        self.query = nn.Linear(width, width, bias=False)
        self.keys = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(order - 1))
        self.values = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(order - 1))
        self.head = nn.Sequential(
            nn.Linear(2 * width, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
        )  # fmt: skip

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        seen = torch.cat([x, self.blank.expand(len(x), -1, -1)], dim=1)
        keys, values = ([project(seen) for project in some] for some in (self.keys, self.values))
        scale = x.shape[-1] ** -0.5
        if self.order == 3:
            attended = tensor_attention(self.query(x), *keys, *values, scale=scale)
        else:
            attended = F.scaled_dot_product_attention(self.query(x), *keys, *values, scale=scale)
        return self.head(torch.cat([x, attended], dim=-1)).squeeze(-1)


def train(model: MatchNet, task: Task, modulus: int, n: int, steps: int, batch: int, lr: float = 3e-3) -> list[float]:
    """Adam on fresh uniform tokens at every step; the loss of each, nats a token."""
    device = model.blank.device
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=lr), []
    for _ in range(steps):
        tokens = torch.randint(modulus, (batch, n), device=device)
        loss = F.binary_cross_entropy_with_logits(model(tokens), match_labels(tokens, modulus, task).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@torch.no_grad()
def balanced_accuracy(model: MatchNet, task: Task, modulus: int, n: int, draws: int) -> float:
    """The mean of the shares of positive and of negative tokens that are told right, over fresh uniform tokens."""
    tokens = torch.randint(modulus, (draws, n), device=model.blank.device)
    labels, found = match_labels(tokens, modulus, task), model(tokens) > 0
    return 0.5 * float(found[labels].float().mean() + (~found[~labels]).float().mean())

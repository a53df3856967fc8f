"""Autoregressive models with exact likelihoods: the small stand-ins for the paper's VAR."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SoftmaxChain(nn.Module):
    """p(x) p(y | x) on a grid of S x S cells: a table of logits for x, a perceptron for y given x."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.zeros(size))
        self.second = nn.Sequential(nn.Embedding(size, hidden), nn.SiLU(), nn.Linear(hidden, size))

    def log_table(self) -> Tensor:
        """log p of every cell, (S, S)."""
        rows = torch.arange(len(self.first), device=self.first.device)
        return F.log_softmax(self.first, dim=0).unsqueeze(1) + F.log_softmax(self.second(rows), dim=1)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p (N,) of cells (N, 2) int64."""
        return self.log_table()[x[:, 0], x[:, 1]]

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Cells (n, 2) int64, one coordinate after the other."""
        first = torch.multinomial(self.first.softmax(dim=0), n, replacement=True)
        second = torch.multinomial(self.second(first).softmax(dim=1), 1).squeeze(1)
        return torch.stack([first, second], dim=1)


class MADE(nn.Module):
    """Masked autoencoder over D bits (Germain et al., ICML 2015) with one hidden layer: p(x) = prod_d p(x_d | x_<d)."""

    def __init__(self, bits: int, hidden: int) -> None:
        super().__init__()
        self.input, self.output = nn.Linear(bits, hidden), nn.Linear(hidden, bits)
        degree = torch.arange(hidden) % (bits - 1)  # a hidden unit of degree m sees bits 0..m, and is seen by bits > m
        order = torch.arange(bits)
        self.register_buffer("input_mask", (order <= degree.unsqueeze(1)).float())
        self.register_buffer("output_mask", (degree < order.unsqueeze(1)).float())

    def logits(self, x: Tensor) -> Tensor:
        """Logits (N, D) of each bit being one, given the bits before it."""
        hidden = F.linear(x, self.input.weight * self.input_mask, self.input.bias).relu()
        return F.linear(hidden, self.output.weight * self.output_mask, self.output.bias)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p (N,) of bits x (N, D), 0.0 or 1.0."""
        return -F.binary_cross_entropy_with_logits(self.logits(x), x, reduction="none").sum(dim=1)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Bits (n, D). Each new bit is added to the hidden layer's input, so all of them cost about one pass."""
        input_weight, output_weight = self.input.weight * self.input_mask, self.output.weight * self.output_mask
        hidden = self.input.bias.expand(n, -1).clone()
        bits = []
        for d in range(len(output_weight)):
            bit = torch.bernoulli(torch.sigmoid(hidden.relu() @ output_weight[d] + self.output.bias[d]))
            hidden.addr_(bit, input_weight[:, d])
            bits.append(bit)
        return torch.stack(bits, dim=1)

"""What training remembers in bytes, and what its gradients reach."""

from __future__ import annotations

import torch
from torch import nn

from methods.shared.accounting import reached_parameters, saved_bytes, training_bytes


def test_the_count_of_memory_is_the_papers() -> None:
    """Linear(3, 2) on a given input (5, 3): 8 numbers with gradient and two moments; relu keeps its output (5, 2)."""
    linear, x = nn.Linear(3, 2), torch.rand(5, 3)

    def step() -> None:
        torch.relu(linear(x)).sum().backward()

    assert training_bytes(linear, step, [x]) == 4 * (4 * 8 + 5 * 2)
    assert saved_bytes(step, linear.parameters()) == 4 * (5 * 3 + 5 * 2)


def test_a_storage_that_is_kept_twice_counts_once() -> None:
    x = torch.rand(6, requires_grad=True)
    doubled = 2 * x
    assert saved_bytes(lambda: doubled[:3] * doubled[3:]) == 4 * 6


def test_a_loss_reaches_what_no_detach_cuts_off() -> None:
    below, above = nn.Linear(2, 2), nn.Linear(2, 1)
    x = torch.rand(3, 2)
    assert reached_parameters(above(below(x)).sum()) == {*below.parameters(), *above.parameters()}
    assert reached_parameters(above(below(x).detach()).sum()) == set(above.parameters())

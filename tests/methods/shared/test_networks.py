"""Networks of a batch never meet: each is trained as it would be alone."""

from __future__ import annotations

import torch

from methods.shared.networks import Networks, cross_entropy, gradient_descent


def trained(networks: Networks, lr: torch.Tensor) -> list[torch.Tensor]:
    x, y = torch.randn(60, 5, generator=torch.Generator().manual_seed(1)), torch.arange(60) % 3
    rates = torch.ones(networks.depth), torch.full((networks.depth,), 2.0)
    gradient_descent(networks, x, y, cross_entropy, 20, lr, rates, momentum=0.9)
    return networks.parameters()


def test_a_network_of_a_batch_is_trained_as_it_is_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    batch = Networks.draw(torch.tanh, [5, 16, 3], 20, 0.1, 1.0, generator)
    start = [parameter.clone() for parameter in batch.parameters()]
    lr = torch.linspace(0.01, 0.3, 20)
    of_batch = trained(batch, lr)
    for s in (0, 7, 19):
        weights, biases = ([p[s : s + 1].clone() for p in part] for part in (start[:2], start[2:]))
        alone = trained(Networks(torch.tanh, weights, biases), lr[s : s + 1])
        for one, all_of_them, before in zip(alone, of_batch, start, strict=True):
            torch.testing.assert_close(one[0], all_of_them[s], rtol=1e-6, atol=1e-6)
            assert not torch.equal(one[0], before[s])

"""Three training steps of the official code, github.com/SamuelHorvath/Maestro-LoD at
0003014a94f78a63e48d971b773b40b00277a207: its layers, hierarchical lasso and shrinking, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from methods.maestro import LowRankConv2d, LowRankLinear, group_lasso, importances, lod_loss, ranks_of, shrink


def wave(*shape: int, phase: float = 0.0) -> Tensor:
    size = torch.Size(shape).numel()
    return torch.sin(0.37 * torch.arange(size).double() ** 2 + 0.11 + phase).view(*shape)


def test_steps_of_lod_with_the_lasso_and_shrinking_are_the_official_code_s() -> None:
    """A strided convolution and two linear layers, each cut once. Phases follow the official order: in, out, bias."""
    layers = {"0": LowRankConv2d(2, 5, 3, stride=2, padding=1), "3": LowRankLinear(20, 7), "5": LowRankLinear(7, 3)}
    net = nn.Sequential(layers["0"], nn.ReLU(), nn.Flatten(), layers["3"], nn.ReLU(), layers["5"]).double()
    with torch.no_grad():
        for k, layer in enumerate(layers.values()):
            layer.V.copy_(0.4 * wave(*layer.V.T.shape, phase=3 * k).T)
            layer.U.copy_(0.4 * wave(*layer.U.shape, phase=3 * k + 1))
            layer.bias.copy_(0.4 * wave(len(layer.bias), phase=3 * k + 2))
    x, y = wave(4, 2, 4, 4, phase=9), torch.tensor([0, 2, 1, 2])
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=1e-3)
    losses = []
    for name, rank in (("0", 2), ("3", 4), ("5", 1)):
        optimizer.zero_grad()
        loss = lod_loss(net, x, y, name, rank) + 0.01 * group_lasso(net)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == pytest.approx([1.6550276775635615, 1.6688438051712262, 1.6267011069607307], rel=1e-9)
    first = [0.36666188316781945, 0.14872869799895083, 0.06738034496364403]
    assert net(x)[0].tolist() == pytest.approx(first, rel=1e-8)
    assert group_lasso(net).item() == pytest.approx(47.80157914808905, rel=1e-9)
    of_conv = [4.002341523503749, 3.3083084898539337, 2.3267782382856743, 1.5177802016696011, 0.6121789536433818]
    assert importances(layers["0"]).tolist() == pytest.approx(of_conv, rel=1e-9)
    of_last = [0.9339100978564782, 0.5744070106352221, 0.241528322598014]
    assert importances(layers["5"]).tolist() == pytest.approx(of_last, rel=1e-9)
    assert list(shrink(net, 3.0).values()) == list(ranks_of(net).values()) == [2, 5, 0]
    first = [0.2962535362182553, 0.2790380370517308, 0.06966700135012191]
    assert net(x)[0].tolist() == pytest.approx(first, rel=1e-8)

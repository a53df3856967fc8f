"""Numbers of the official code, github.com/ayano721/2023_DCDM at 8cee1c5c0f55399990c0f73113564eda31a68264.

Its layers and loss (src/train.py) ran in float64 on the box of 8^3 cells, its solver (lib/conjugate_gradient.py) on the
box of 12^2. Tensorflow has no float64 average pooling on a CPU; there the mean of eight strided slices took its place.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from methods.dcdm import DirectionNet, loss, solve
from methods.dcdm.lanczos import lanczos
from methods.dcdm.poisson import system


def wave(size: int, phase: float, amplitude: float) -> torch.Tensor:
    return torch.from_numpy(amplitude * np.sin(0.37 * np.arange(size) ** 2 + 0.11 + phase))


def network(layout: int) -> DirectionNet:
    """Weights by formula: layer by layer, kernel and bias, of about Glorot's size."""
    net = DirectionNet(3, layout).double()
    for k, p in enumerate(net.parameters()):
        fan = sum(p.shape[:2]) * p[0, 0].numel() if p.dim() > 1 else 0
        p.data.copy_(wave(p.numel(), k, (6 / fan) ** 0.5 if fan else 0.1).view_as(p))
    return net


def right_hand_sides() -> torch.Tensor:
    r = torch.stack([wave(512, 0, 1), wave(512, 1, 1) * torch.cos(0.05 * torch.arange(512).double())])
    return (r / r.norm(dim=1, keepdim=True)).view(2, 8, 8, 8)


NETWORKS = {
    64: dict(
        entries=[-0.938378682218485, -1.8435772336096454, -2.2516278444681928, -0.8211062949734034],
        norm=52.15931677512079, loss=0.997885330859411, gradient=0.1709214682190964,
        by_layer=[0.007787083266886651, 0.027658245474116477, 0.05505674108487929, 0.004790050007652439,
                  1.4246001350386693e-05], after=0.9960109333675728,
        moved=[0.002014464615427848, 0.000399409342647981, 0.007289097546790313, 0.0003919571282072791,
               8.183408732797409e-05],
    ),
    128: dict(
        entries=[3.052998621853444, 9.367953076367968, 8.003581131039205, 1.8643760536451413],
        norm=195.20066171514605, loss=0.99817811932427, gradient=0.14423538827427348,
        by_layer=[0.0026182107812524023, 0.012787676752922436, 0.013851600055782676, 0.004387589966435341,
                  0.00029043100530077237], after=0.9952182084981427,
        moved=[0.0019529226690916171, 0.0003990258032666783, 0.006871709356151443, 0.0003894896959552676,
               9.892224492674163e-05],
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", [64, 128])
def test_network_loss_and_gradient_are_those_of_the_official_code(layout: int) -> None:
    net, r, golden = network(layout), right_hand_sides(), NETWORKS[layout]
    out = net(r)
    assert out[0].flatten()[[0, 100, 300, 511]].tolist() == pytest.approx(golden["entries"], rel=1e-9)
    assert float(out.detach().norm()) == pytest.approx(golden["norm"], rel=1e-9)
    value = loss(system("box", 8, 3), r, out)
    value.backward()
    gradients = [p.grad for p in net.parameters()]
    assert float(value.detach()) == pytest.approx(golden["loss"], rel=1e-9)
    assert float(torch.cat([g.flatten() for g in gradients]).norm()) == pytest.approx(golden["gradient"], rel=1e-8)
    assert [float(gradients[i].norm()) for i in (0, 1, 8, -2, -1)] == pytest.approx(golden["by_layer"], rel=1e-8)


@pytest.mark.parametrize("layout", [64, 128])
def test_a_step_of_training_is_the_official_code_s(layout: int) -> None:
    """Keras' Adam adds 1e-7 to the root before its bias is taken out: in a first step, torch's with an epsilon larger
    by 1 / sqrt(1 - 0.999). Keras holds that 0.999 in float32, hence 1e-5."""
    net, r, A = network(layout), right_hand_sides(), system("box", 8, 3)
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, eps=1e-7 / 0.001**0.5)
    loss(A, r, net(r)).backward()
    optimizer.step()
    moved = [float((p.detach() - q).norm()) for p, q in zip(net.parameters(), before, strict=True)]
    assert [moved[i] for i in (0, 1, 8, -2, -1)] == pytest.approx(NETWORKS[layout]["moved"], rel=1e-5)
    assert float(loss(A, r, net(r)).detach()) == pytest.approx(NETWORKS[layout]["after"], rel=1e-6)


def test_the_iteration_is_the_official_code_s() -> None:
    """From a direction that is neither linear nor symmetric, so that both coefficients of the conjugation count."""
    b, bend = wave(144, 0, 1).view(12, 12), torch.sin(0.37 * torch.arange(144).double() + 0.11).view(12, 12)
    found = solve(system("box", 12), b, lambda r: r * (1 + 0.5 * bend) + 0.3 * abs(r), tol=1e-30, max_iterations=25)
    assert found.fallbacks == 0
    golden = {1: 0.603803286638235, 2: 0.39491337445468366, 3: 0.31289399055211287, 5: 0.22625799542752878,
              10: 0.06695986728167859, 20: 0.011819038229365912}  # fmt: skip
    assert [found.residuals[k] for k in golden] == pytest.approx(list(golden.values()), rel=1e-8)
    x = found.x.flatten()[[0, 77, 143]].tolist()
    assert x == pytest.approx([0.11557532086506278, 1.1785762042462105, 0.3233139125283674], rel=1e-8)


def test_lanczos_is_the_official_code_s() -> None:
    A = system("box", 12)
    _, diagonal, off = lanczos(A, A @ wave(144, 0, 1).view(12, 12), 10)
    assert diagonal.tolist() == pytest.approx(
        [5.502830987384143, 4.969917464117334, 4.407652524058618, 4.43763640598087, 3.8262126670154055,
         4.130421592560653, 3.988180939955577, 3.854470448862945, 4.25905943026118, 3.8471898215460514], rel=1e-9,
    )  # fmt: skip
    assert off.tolist() == pytest.approx(
        [1.6214438385959484, 1.7566703922980742, 1.9600460537478779, 1.6730664961887989, 1.8416625243454772,
         2.0092677777703436, 2.077033263332954, 1.764079995476236, 2.1598251083557516], rel=1e-9,
    )  # fmt: skip

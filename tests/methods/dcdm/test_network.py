"""The network of the paper, by its parameters and by what a convolution must do."""

from __future__ import annotations

import pytest
import torch

from methods.dcdm.network import DirectionNet


@pytest.mark.parametrize(("layout", "parameters"), [(64, 97_457), (128, 152_881)])
def test_the_two_models_have_the_paper_s_number_of_parameters(layout: int, parameters: int) -> None:
    assert sum(p.numel() for p in DirectionNet(3, layout).parameters()) == parameters


@pytest.mark.parametrize("layout", [64, 128])
def test_one_set_of_weights_fits_every_even_grid(layout: int) -> None:
    flat, deep = DirectionNet(2, layout, channels=4), DirectionNet(3, layout, channels=2)
    for size in (16, 32, 64):
        assert flat(torch.randn(2, size, size)).shape == (2, size, size)
        assert deep(torch.randn(1, size, size, 16)).shape == (1, size, size, 16)
    with pytest.raises(ValueError, match="even"):
        flat(torch.randn(1, 16, 15))


def test_weights_start_as_glorot_s_and_biases_at_zero() -> None:
    torch.manual_seed(0)
    network = DirectionNet(3)
    inner = torch.cat([layer.weight.flatten() for layer in network.fine])
    assert abs(inner.std().item() - (2 / (2 * 16 * 27)) ** 0.5) < 1e-3
    assert not any(p.any() for name, p in network.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize(("layout", "expected"), [(64, 4 * (2 * 2**3 + 2)), (128, 8 * (4 * 2**5 + 4))])
def test_residual_additions_are_where_the_paper_has_them(layout: int, expected: int) -> None:
    """Layers that copy turn a grid of ones into what the additions make of it, counted by hand."""
    network = DirectionNet(2, layout, channels=1)
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.data.zero_()
            layer.weight.data[:, :, layer.kernel_size[0] // 2, layer.kernel_size[1] // 2] = 1
    assert torch.equal(network(torch.ones(1, 8, 8)), torch.full((1, 8, 8), float(expected)))
    assert torch.equal(network(-torch.ones(1, 8, 8)), torch.full((1, 8, 8), 0.0))  # the first ReLU


def test_the_network_moves_with_the_image_by_two_cells() -> None:
    """A shift by the pooling's two cells shifts the output, where the border's padding is far."""
    torch.manual_seed(0)
    network = DirectionNet(2, channels=4).double()
    r = torch.zeros(1, 96, 96, dtype=torch.float64)
    r[:, 46:50, 46:50] = torch.randn(1, 4, 4, dtype=torch.float64)
    out, moved = network(r), network(r.roll((2, 4), (1, 2)))
    assert torch.allclose(moved[:, 30:66, 30:66], out.roll((2, 4), (1, 2))[:, 30:66, 30:66], atol=1e-12)


def test_biases_make_the_network_other_than_linear() -> None:
    torch.manual_seed(0)
    network = DirectionNet(2, channels=4)
    r = torch.randn(1, 8, 8)
    assert not torch.allclose(network(-r), -network(r), atol=1e-3)

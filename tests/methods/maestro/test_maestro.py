"""Maestro by its algebra: factors that change nothing, an order that rotations break, a lasso that bites at the end."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from methods.maestro import (
    LowRankConv2d,
    LowRankLinear,
    RankSampler,
    decompose,
    group_lasso,
    importances,
    lod_loss,
    low_rank_layers,
    ranks_of,
    shrink,
    truncated,
)
from methods.maestro.layers import share_of, spectral_factors
from methods.maestro.linear import (
    SAMPLE_VALUES,
    TARGET_VALUES,
    column_importances,
    data_ordered_problem,
    largest_angle,
    learn,
    matrix_of,
    prefix_error,
    prefixes,
    svd_terms,
)
from methods.shared.hosts import lenet, mlp, resnet18


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class Attention(nn.Module):
    """One head with projections of its own, as transformers have them."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(nn.functional.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x)))


def one_layer(layer: nn.Linear | nn.Conv2d, share: float = 1.0) -> LowRankLinear | LowRankConv2d:
    found = decompose(layer, share=share)
    assert isinstance(found, (LowRankLinear, LowRankConv2d))
    return found


@pytest.mark.parametrize(
    ("model", "shape"),
    [(mlp(), (5, 1, 8, 8)), (lenet(), (5, 1, 28, 28)), (resnet18(8), (5, 1, 16, 16)), (Attention(), (5, 7, 12)),
     (nn.Conv2d(3, 7, 3, stride=2, padding=1), (2, 3, 11, 9)), (nn.Conv2d(2, 9, (3, 1), dilation=2), (2, 2, 9, 9)),
     (nn.Conv2d(2, 30, 3, padding="same", bias=False), (2, 2, 9, 9))],
    ids=["mlp", "lenet", "resnet18", "attention", "conv stride 2", "conv dilated", "wide conv"],
)  # fmt: skip
def test_factorising_changes_no_output_and_leaves_the_original_alone(model: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    factorised = decompose(model.eval())
    torch.testing.assert_close(factorised(x), model(x), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_full_ranks_are_the_smaller_side_of_each_matrix() -> None:
    assert list(ranks_of(decompose(lenet())).values()) == [6, 16, 120, 84, 10]
    assert one_layer(nn.Conv2d(1, 40, 5)).rank == 25
    assert list(ranks_of(decompose(Attention())).values()) == [12] * 4


@pytest.mark.parametrize("b", [0, 1, 2, 4, 6])
def test_a_cut_layer_is_the_product_of_its_first_columns_and_keeps_its_bias(b: int) -> None:
    linear, conv = one_layer(nn.Linear(9, 6)), one_layer(nn.Conv2d(2, 6, 3, stride=2, padding=1))
    x, image = torch.randn(4, 9), torch.randn(4, 2, 7, 8)
    with truncated(linear, b), truncated(conv, b):
        found, found_image = linear(x), conv(image)
    torch.testing.assert_close(found, x @ (linear.U[:, :b] @ linear.V[:, :b].T).T + linear.bias)
    kernel = (conv.U[:, :b] @ conv.V[:, :b].T).reshape(6, 2, 3, 3)
    torch.testing.assert_close(
        found_image, nn.functional.conv2d(image, kernel, conv.bias, 2, 1), rtol=1e-4, atol=1e-5
    )  # fmt: skip
    assert linear.rank_in_use == 6  # only inside


def test_the_first_columns_of_the_start_are_the_truncated_svd() -> None:
    linear = nn.Linear(9, 6)
    P, S, Qt = torch.linalg.svd(linear.weight)
    wanted = P[:, :2] @ S[:2].diag() @ Qt[:2]
    torch.testing.assert_close(one_layer(linear, share=1 / 3).weight, wanted)


def test_gradients_reach_the_columns_in_use_and_no_others() -> None:
    layer = one_layer(nn.Linear(30, 20))
    with truncated(layer, 4):
        layer(torch.randn(3, 30)).square().sum().backward()
    for factor in (layer.U, layer.V):
        assert factor.grad[:, :4].abs().min() > 0
        assert factor.grad[:, 4:].abs().max() == 0


def test_layers_that_cannot_be_factorised_stay_and_the_user_is_told_of_fused_attention() -> None:
    layers: dict[str, nn.Module] = {
        "grouped": nn.Conv2d(4, 4, 3, groups=4), "mirrored": nn.Conv2d(4, 4, 3, padding_mode="reflect"),
        "table": nn.Embedding(5, 4), "plain": nn.Linear(4, 5), "tied": nn.Linear(4, 5),
    }  # fmt: skip
    kept = nn.ModuleDict(layers)
    kept["tied"].weight = kept["table"].weight
    assert list(low_rank_layers(decompose(kept))) == ["plain"]
    assert list(low_rank_layers(decompose(mlp(), skip=["1", "5"]))) == ["3"]
    with pytest.raises(ValueError, match="no layer 'head' to skip"):
        decompose(mlp(), skip=["head"])
    with pytest.raises(ValueError, match="fuses its projections"):
        decompose(nn.TransformerEncoderLayer(8, 2))


def test_a_layer_that_is_used_in_two_places_stays_one_layer() -> None:
    shared = nn.Linear(5, 5)
    factorised = decompose(nn.Sequential(shared, nn.ReLU(), shared))
    assert factorised[0] is factorised[2]
    assert isinstance(factorised[0], LowRankLinear)


def test_a_factorised_layer_keeps_its_ranks_when_it_is_saved() -> None:
    model = decompose(mlp())
    low_rank_layers(model)["3"].rank = 7
    copy = decompose(mlp())
    copy.load_state_dict(model.state_dict())
    assert ranks_of(copy) == ranks_of(model)


def test_a_cycle_of_the_sampler_has_every_pair_once() -> None:
    model = decompose(lenet())
    sampler, total = RankSampler(model), sum(ranks_of(model).values())
    for _ in range(2):
        cycle = [next(sampler) for _ in range(total)]
        assert sorted(cycle) == sorted((name, b) for name, r in ranks_of(model).items() for b in range(1, r + 1))
    # a layer is drawn in the share r_i / sum r
    assert Counter(name for name, _ in cycle) == ranks_of(model)
    assert cycle != [next(sampler) for _ in range(total)]


def test_the_sampler_takes_the_ranks_that_are_left() -> None:
    model = decompose(mlp())
    sampler = RankSampler(model)
    for layer in low_rank_layers(model).values():
        layer.rank = 2
    sampler.rebuild()
    assert max(b for _, b in (next(sampler) for _ in range(6))) == 2
    for layer in low_rank_layers(model).values():
        layer.rank = 0
    sampler.rebuild()
    with pytest.raises(ValueError, match="lower lambda_gl"):
        next(sampler)


def test_the_lasso_of_unit_factors_of_rank_three_is_8_2925() -> None:
    layer = LowRankLinear(3, 3)
    with torch.no_grad():
        layer.U.copy_(torch.eye(3))
        layer.V.copy_(torch.eye(3))
    penalty = group_lasso(layer)
    assert penalty.item() == pytest.approx(2 * (3**0.5 + 2**0.5 + 1), abs=1e-5)
    assert penalty.item() == pytest.approx(8.2925, abs=1e-4)
    penalty.backward()
    pull = layer.U.grad.norm(dim=0)
    assert pull[0] < pull[1] < pull[2]


def test_the_lasso_has_a_finite_gradient_where_columns_are_zero() -> None:
    layer = LowRankLinear(4, 4)
    with torch.no_grad():
        layer.U[:, 2:] = 0
        layer.V[:, 2:] = 0
    group_lasso(layer).backward()
    assert layer.U.grad.isfinite().all()
    assert layer.V.grad.isfinite().all()


def test_importance_of_suffixes_never_rises_and_shrinking_leaves_a_prefix() -> None:
    layer = LowRankLinear(20, 20)
    assert (importances(layer).diff() <= 0).all()
    torch.testing.assert_close(importances(layer)[5], layer.U[:, 5:].norm() * layer.V[:, 5:].norm())
    before = layer.state_dict()["U"].clone()
    with torch.no_grad():
        layer.U[:, 12:] = 1e-9
        layer.V[:, 3] = 0  # a dead column before live ones stays
    assert shrink(layer) == {"": 12}
    torch.testing.assert_close(layer.U[:, :12], before[:, :12], rtol=0, atol=0)
    layer(torch.randn(2, 20)).sum().backward()
    assert layer.U.grad[:, 12:].abs().max() == 0
    assert layer.U.shape == (20, 20)  # stored still, for the optimizer


def prefix_losses(U: Tensor, V: Tensor, A: Tensor) -> Tensor:
    return torch.stack([(U[:, :b] @ V[:, :b].T - A).square().sum() for b in range(1, U.shape[1] + 1)])


def test_the_ordered_loss_is_stationary_at_the_svd_and_not_after_a_rotation_that_the_plain_loss_does_not_see() -> None:
    A = matrix_of((5.0, 4.0, 2.0, 1.0), 9, 6).double()
    U, V = (f[:, :4].requires_grad_() for f in spectral_factors(A))
    gradients = torch.autograd.grad(prefix_losses(U, V, A).sum(), (U, V))
    assert max(g.abs().max() for g in gradients) < 1e-9
    R = torch.linalg.qr(torch.randn(4, 4, dtype=torch.double))[0]
    UR, VR = ((f.detach() @ R).requires_grad_() for f in (U, V))
    gradients = torch.autograd.grad(prefix_losses(UR, VR, A).sum(), (UR, VR))
    assert min(g.abs().max() for g in gradients) > 0.1
    assert abs(prefix_losses(UR, VR, A)[-1] - prefix_losses(U, V, A)[-1]) < 1e-9


def test_at_the_svd_the_gradient_of_every_single_prefix_vanishes() -> None:
    A = matrix_of((5.0, 4.0, 2.0), 9, 6).double()
    U, V = (f[:, :3].requires_grad_() for f in spectral_factors(A))
    for loss in prefix_losses(U, V, A):
        gradients = torch.autograd.grad(loss, (U, V), retain_graph=True)
        assert max(g.abs().max() for g in gradients) < 1e-9


def test_without_a_full_pass_the_loss_is_that_of_the_cut_net_and_with_one_the_full_net_is_its_teacher() -> None:
    model, x, y = decompose(mlp()), torch.randn(8, 1, 8, 8), torch.randint(10, (8,))
    layer, entropy = low_rank_layers(model)["3"], nn.functional.cross_entropy
    whole = model(x)
    with truncated(layer, 3):
        cut = model(x)
    torch.testing.assert_close(lod_loss(model, x, y, layer, 3), entropy(cut, y))
    wanted = entropy(whole, y) + entropy(cut, whole.softmax(1))
    torch.testing.assert_close(lod_loss(model, x, y, layer, 3, full_pass=True), wanted)
    wanted = entropy(whole, y) + entropy(cut, whole.detach().softmax(1))  # the teacher does not learn from its pupil
    gradients = [torch.autograd.grad(loss, layer.U, retain_graph=True)[0]
                 for loss in (lod_loss(model, x, y, layer, 3, full_pass=True), wanted)]  # fmt: skip
    torch.testing.assert_close(*gradients)


def test_share_of_ranks_is_rounded_up_but_not_by_rounding_errors() -> None:
    assert [share_of(p, r) for p, r in ((0.25, 10), (0.25, 84), (0.07, 100), (0.01, 6), (1.0, 84))] == [3, 21, 7, 1, 84]


def test_lod_recovers_the_svd_of_a_linear_target_and_plain_factors_do_not() -> None:
    errors = {}
    for ordered in (True, False):
        torch.manual_seed(1)
        target = matrix_of(TARGET_VALUES, 6, 9)
        layer = LowRankLinear(9, 6, bias=False)
        learn(layer, torch.eye(9), target.T, 2000, 0.5, ordered=ordered)
        errors[ordered] = prefix_error(layer, prefixes(svd_terms(target, 3)))
    assert errors[True] <= 0.03
    assert errors[False] >= 0.2


def test_lod_recovers_pca_of_a_linear_autoencoder_with_the_rank_of_the_samples() -> None:
    x = matrix_of(SAMPLE_VALUES, 3, 10)
    axes = torch.linalg.svd(x, full_matrices=False)[2].T
    layer = LowRankLinear(10, 10, bias=False)
    learn(layer, x, x, 2500, 0.1, ordered=True, columns_penalty=1e-2)
    assert max(largest_angle(layer.U.detach()[:, :k], axes[:, :k]) for k in (1, 2, 3)) < 5
    found = column_importances(layer)
    assert found[:3] == pytest.approx([0.998, 0.996, 0.980], abs=0.01)  # near 1, as the notebook's
    assert found[3:].max() < 1e-6


def test_lod_follows_the_order_of_the_data_where_it_is_not_that_of_the_matrix() -> None:
    terms, x, y = data_ordered_problem()
    torch.testing.assert_close(terms.sum(0) @ x.T, y.T)
    layer = LowRankLinear(9, 6, bias=False)
    learn(layer, x, y, 3000, 3.0, ordered=True)
    seen = torch.linalg.svd(x, full_matrices=False)[2]
    assert prefix_error(layer, prefixes(terms.flip(0)), within=seen.T @ seen) < 0.1
    assert prefix_error(layer, prefixes(terms), within=seen.T @ seen) > 0.5
    assert column_importances(layer)[:3] == pytest.approx([3, 6, 9], abs=0.2)


def test_angles_between_spans_are_principal_angles() -> None:
    axes = torch.eye(4)
    tilted = axes[:, :1] * torch.cos(torch.tensor(0.1)) + axes[:, 2:3] * torch.sin(torch.tensor(0.1))
    assert largest_angle(axes[:, :2], torch.cat([tilted, axes[:, 1:2]], 1)) == pytest.approx(180 / torch.pi * 0.1)
    assert largest_angle(axes[:, :2], axes[:, [1, 0]]) == pytest.approx(0, abs=1e-6)

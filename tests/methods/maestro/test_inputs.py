"""The documented lines run as they stand; what is unusual is taken or refused; what diverges is no small net."""

from __future__ import annotations

import textwrap
from itertools import islice

import pytest
import torch
from torch import nn

from methods import maestro
from methods.maestro import (
    LowRankConv2d,
    LowRankLinear,
    RankSampler,
    Recipe,
    decompose,
    greedy_ranks,
    group_lasso,
    lod_loss,
    low_rank_layers,
    shrink,
    truncated,
    uniform_ranks,
)
from methods.maestro import maestro as module
from methods.maestro.training import Images, accuracy
from methods.shared.batchnorm import recalibrate_batch_norm
from tests.methods.unusual import assert_takes_or_refuses


def dense() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


X, Y = torch.randn(9, 6, generator=torch.Generator().manual_seed(1)), torch.arange(9) % 3


def test_the_docstring_s_four_lines_train_a_model_of_the_user() -> None:
    lines = [line for line in (module.__doc__ or "").splitlines() if line.startswith("    ")][:4]
    assert lines[0].strip().startswith("model = decompose(dense)")
    plain = dense()
    names = {**vars(maestro), "torch": torch, "dense": plain, "batches": [(X, Y)] * 60}
    exec(textwrap.dedent("\n".join(lines)), names)
    before, after = (nn.functional.cross_entropy(model(X), Y) for model in (plain, names["model"]))
    assert low_rank_layers(names["model"])
    assert after < before - 0.01


def test_the_sampler_names_layers_that_the_loss_finds() -> None:
    model = decompose(dense())
    for layer, rank in islice(RankSampler(model), 9):
        by_name = lod_loss(model, X, Y, layer, rank)
        assert torch.equal(by_name, lod_loss(model, X, Y, low_rank_layers(model)[layer], rank))
    with pytest.raises(ValueError, match="'1' is no factorised layer; the model has 0, 2"):
        lod_loss(model, X, Y, "1", 1)
    with pytest.raises(ValueError, match="has 6 columns, so it cannot be cut to 7"):
        lod_loss(model, X, Y, "0", 7)


def test_what_has_diverged_is_refused_or_counts_as_wrong() -> None:
    model = decompose(dense())
    with torch.no_grad():
        model[0].U[0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="layer '0'"):
        shrink(model)
    assert accuracy(model, Images(X, 0 * Y)) == 0
    with pytest.raises(FloatingPointError, match="no cut"):
        next(greedy_ranks(model, lambda: torch.nan, {"0": 1, "2": 1}))
    losses = iter([1.0, torch.nan, 5.0])  # whole, layer 0 cut, layer 2 cut
    assert next(greedy_ranks(model, lambda: next(losses), {"0": 1, "2": 1})) == {"0": 6, "2": 2}


def test_unusual_inputs_are_taken_or_refused() -> None:
    model = decompose(dense())
    assert_takes_or_refuses(lambda x, y, layer, rank: lod_loss(model, x, y, layer, rank), x=X, y=Y, layer="0", rank=2)
    assert_takes_or_refuses(LowRankLinear, in_features=4, out_features=3, rank=2)
    assert_takes_or_refuses(LowRankConv2d, in_channels=2, out_channels=3, kernel_size=3, rank=2)
    assert_takes_or_refuses(lambda share: list(decompose(dense(), share=share).parameters()), share=0.5)
    assert_takes_or_refuses(lambda share: uniform_ranks(model, share), share=0.5)
    assert_takes_or_refuses(lambda threshold: shrink(decompose(dense()), threshold), threshold=0.1)
    assert_takes_or_refuses(Recipe, lr=0.1, epochs=2, batch_size=3, momentum=0.9, weight_decay=0.1)
    assert_takes_or_refuses(lambda step: next(greedy_ranks(model, lambda: 1.0, {"0": 1, "2": 1}, step)), step=0.1)

    def cut(rank: int) -> torch.Tensor:
        with truncated(model[0], rank):
            return model(X)

    assert_takes_or_refuses(cut, rank=2)
    recipe = Recipe(lr=0.01, epochs=1, batch_size=4)
    assert_takes_or_refuses(lambda rank: maestro.deploy(model, {"0": rank})(X), rank=2)
    assert_takes_or_refuses(lambda lambda_gl: maestro.train_maestro(dense(), Images(X, Y), recipe, lambda_gl).model(X),
                            lambda_gl=1e-3)  # fmt: skip

    def fitted(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        net = dense()
        maestro.fit(net, Images(x, y), recipe)
        return net(X)

    assert_takes_or_refuses(fitted, x=X, y=Y)
    with pytest.raises(ValueError, match="no factorised layer"):
        group_lasso(dense())
    with pytest.raises(ValueError, match="without a batch"):
        recalibrate_batch_norm(nn.BatchNorm1d(2), [])


def test_training_is_sgd_with_the_recipe_s_momentum_weight_decay_and_rates() -> None:
    model, w, moving = nn.Linear(1, 1, bias=False), 1.0, 0.0
    nn.init.ones_(model.weight)
    recipe = Recipe(lr=0.1, epochs=4, batch_size=1, momentum=0.5, weight_decay=0.2, decay=True)
    maestro.fit(model, Images(torch.zeros(1, 1), torch.zeros(1)), recipe, lambda m, x, y: 3 * m.weight.sum())
    for lr in (0.1, 0.1, 0.01, 0.001):
        moving = 0.5 * moving + 3 + 0.2 * w
        w -= lr * moving
    assert model.weight.item() == pytest.approx(w, rel=1e-5)

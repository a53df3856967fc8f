"""Whatever a user may hand in is taken as torch-geometric takes it or refused in a sentence."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from methods.adpa import ADPA, amud, amud_score
from methods.adpa.adpa import propagate
from methods.adpa.amud import pattern_r2, spread
from methods.adpa.baselines import SIGN, DirGNN
from tests.methods.unusual import assert_takes_or_refuses

GENERATOR = torch.Generator().manual_seed(0)
X, ARCS = torch.rand(30, 5, generator=GENERATOR), torch.randint(30, (2, 90), generator=GENERATOR).unique(dim=1)
Y, KNOWN = torch.arange(30) % 3, torch.arange(30) % 2 == 0


def score(edge_index: Tensor, y: Tensor, mask: Tensor, kind: str) -> float:
    return amud_score(edge_index, y, mask, kind)  # type: ignore[arg-type]


def test_amud_takes_masks_and_ids_alike_and_refuses_what_is_neither() -> None:
    assert_takes_or_refuses(score, edge_index=ARCS, y=Y, mask=KNOWN, kind="pairs")
    ids = KNOWN.nonzero().squeeze(1)
    assert amud(ARCS, Y, ids) == amud(ARCS, Y, KNOWN) != amud(ARCS, Y)
    assert pattern_r2(ARCS, Y, ids.flip(0)) == pytest.approx(pattern_r2(ARCS, Y, KNOWN))


def test_networks_take_or_refuse_unusual_graphs() -> None:
    torch.manual_seed(0)
    for model in (ADPA(5, 8, 3).eval(), SIGN(5, 8, 3).eval(), DirGNN(5, 8, 3).eval()):
        assert_takes_or_refuses(lambda x, edge_index, model=model: model(x, edge_index), x=X, edge_index=ARCS)
        out = model(X, ARCS)
        torch.testing.assert_close(model.double()(X.double(), ARCS).float(), out, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(model.bfloat16()(X.bfloat16(), ARCS).float(), out, rtol=0.1, atol=0.1)


def test_sizes_exponents_and_options_are_checked() -> None:
    good = dict(in_channels=5, hidden_channels=8, out_channels=3, K=2, num_layers=1, dropout=0.5, norm="official")
    assert_takes_or_refuses(ADPA, **good)
    with pytest.raises(ValueError, match=r"norm must be one of 'rows_columns', 'official'; got 'oficial'"):
        ADPA(5, 8, 3, norm="oficial")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"a pattern must be one of 'A', .*; got 'AAA'"):
        ADPA(5, 8, 3, patterns=["A", "AAA"])
    with pytest.raises(ValueError, match="r must be finite; got nan"):
        propagate(X, ARCS, 2, float("nan"))
    with pytest.raises(ValueError, match="kind must be one of"):
        spread([0.1, 0.2], "other")  # type: ignore[arg-type]


def test_an_adj_t_is_the_graph_that_torch_geometric_makes_of_it() -> None:
    adj_t = torch.sparse_coo_tensor(ARCS.flip(0), torch.ones(ARCS.shape[1]), (30, 30)).coalesce()
    model = ADPA(5, 8, 3).eval()
    assert torch.equal(model(X, adj_t), model(X, ARCS))
    assert amud(adj_t, Y) == amud(ARCS, Y)


def test_features_propagated_for_another_network_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(6, 1, 30, 5\), but this network takes \(6, 2, 30, 5\)"):
        ADPA(5, 4, 3, K=2)(X, propagate(X, ARCS, 1))

"""The released code's own numbers: github.com/xkLi-Allen/AMUD-ADPA at 974193a, `models/directed_graph_model/adpa.py`.

Run in float64, without dropout, at its shipped r, learning rate and weight decay, on a directed ring of nine vertices
with three chords. Features are sin(0.37 i + 0.11) for entry i; of each tensor k of weights half of
sin(0.37 i + 0.11 + k). Both of its slips are on: `norm="official"` and `official_view=True`.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from methods.adpa import ADPA
from methods.adpa.training import RECIPES, optimizer_of
from tests.methods.golden import formula

N, FEATURES, HIDDEN, CLASSES, K, R = 9, 4, 5, 3, 3, 0.42749
_RING = torch.arange(N)
ARCS = torch.cat([torch.stack([_RING, (_RING + 1) % N]), torch.tensor([[0, 2, 7], [4, 7, 2]])], dim=1)
# of each pattern: the sum of magnitudes after each step, and vertex 7 after the third
PROPAGATED = {
    "A": ([16.8507262, 4.025104517, 0.308505228], [0.010947697, 0.007147721, 0.002380334, -0.00270922]),
    "AT": ([15.950139648, 3.440069236, 0.248024344], [-0.011451183, -0.008276742, -0.003982083, 0.000851532]),
    "AA": ([18.534013376, 4.029598754, 0.240550957], [0.009674731, 0.010291786, 0.009515896, 0.007452074]),
    "AAT": ([13.252181699, 3.926816721, 0.387822785], [0.0014285, 0.00473538, 0.007401348, 0.009065579]),
    "ATA": ([20.274275851, 6.214566921, 0.612716796], [0.029893028, 0.032011818, 0.029797958, 0.023551085]),
    "ATAT": ([11.159732385, 2.506018223, 0.158461058], [0.00066486, 0.004508735, 0.007742373, 0.009928118]),
}
LOGITS = [
    [-0.141760197, -0.374798068, -0.549285507],
    [-0.16949565, -0.391916333, -0.553298009],
    [-0.054914233, -0.283678309, -0.467138522],
]
# sums of the magnitudes of the gradient, and of the weights after one step of Adam
STEP = {
    "attention": (0.006734091706, 31.19346252),
    "attention_bias": (0.0003078827751, 1.814871532),
    "weights.0": (0.08797059358, 36.60942331),
    "weights.1": (0.1403810083, 46.43719647),
    "biases.0": (0.03437271698, 9.272967112),
    "biases.1": (0.05707043914, 10.15223792),
    "theta": (0.07752665631, 2.098450713),
    "classifier.weight": (0.5093923988, 29.97533329),
    "classifier.bias": (0.1542449209, 1.100350667),
}


X, Y = formula(N, FEATURES), torch.arange(N) % CLASSES


def released(**options: object) -> ADPA:
    options = {"norm": "official", "official_view": True, **options}
    model = ADPA(FEATURES, HIDDEN, CLASSES, K=K, num_layers=2, dropout=0.0, r=R, **options).double()  # type: ignore[arg-type]
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for k, name in enumerate(STEP):
            parameters[name].copy_(0.5 * formula(*parameters[name].shape, k=k))
    return model


@pytest.mark.parametrize("pattern", PROPAGATED)
def test_features_walk_along_each_pattern_as_in_the_released_code(pattern: str) -> None:
    sums, vertex = PROPAGATED[pattern]
    model = released(patterns=list(PROPAGATED))
    steps = model.propagate(X, ARCS)[list(PROPAGATED).index(pattern)]
    assert [float(step.abs().sum()) for step in steps] == pytest.approx(sums, rel=1e-7)
    assert steps[2, 7].tolist() == pytest.approx(vertex, abs=1e-9)


def test_logits_are_the_released_codes_with_its_slips_and_others_without() -> None:
    out = released()(X, ARCS)
    torch.testing.assert_close(out[:3], torch.tensor(LOGITS, dtype=torch.float64), rtol=1e-6, atol=1e-9)
    assert float(out.detach().abs().sum()) == pytest.approx(9.378881954334199, rel=1e-9)
    for option in ({"norm": "rows_columns"}, {"official_view": False}, {"decay": False}):
        assert not torch.allclose(released(**option)(X, ARCS), out, rtol=1e-4), option


def test_one_training_step_is_the_released_codes() -> None:
    model = released()
    loss = F.cross_entropy(model(X, ARCS)[:5], Y[:5])
    assert loss.item() == pytest.approx(1.0789397193855828, rel=1e-9)
    loss.backward()
    optimizer_of(model, RECIPES["shipped"]).step()
    parameters = dict(model.named_parameters())
    assert parameters.keys() == STEP.keys()
    for name, wanted in STEP.items():
        found = [float(t.abs().sum()) for t in (parameters[name].grad, parameters[name].detach())]
        assert found == pytest.approx(wanted, rel=1e-7), name
    assert float(model(X, ARCS).detach().abs().sum()) == pytest.approx(6.741675002137996, rel=1e-7)

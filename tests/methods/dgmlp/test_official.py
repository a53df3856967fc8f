"""The released code's own numbers: github.com/zwt233/DGMLP at 88e05b4, `src/train.py` and `src/models.py`.

Run in float64, without dropout, on a ring of nine vertices with two chords, a pair and a vertex alone. Features and
weights are sin(0.37 i + 0.11 + k) for entry i of tensor k (features: k = 0; weights are halved). Its ResMLP and
DenseMLP use one inner matrix three times, its GCNs have no bias and one ReLU more, behind the last layer; its ResGCN
names an undefined variable (x9), for which x4 was put.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.dgmlp import ResidualMLP, node_smoothing_levels, smoothed_features, stationary_state
from methods.dgmlp.contenders import CONTENDERS
from methods.dgmlp.training import Recipe, Task, fit_rows
from methods.shared.gcn import GCN
from methods.shared.graph import propagation
from methods.shared.node_classification import Masks
from tests.methods.golden import formula

N, FEATURES, CLASSES, K = 12, 4, 3, 3
_RING = torch.arange(9)
_ONCE = torch.cat([torch.stack([_RING, (_RING + 1) % 9]), torch.tensor([[0, 2, 9], [4, 7, 10]])], dim=1)
EDGES = torch.cat([_ONCE, _ONCE.flip(0)], dim=1)
Y = torch.arange(N) % CLASSES


X = formula(N, FEATURES)


def fill(*parameters: nn.Parameter) -> None:
    with torch.no_grad():
        for k, parameter in enumerate(parameters):
            parameter.copy_(0.5 * formula(*parameter.shape, k=k))


def close(found: Tensor, wanted: list[list[float]]) -> None:
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-6, atol=1e-8)


def test_where_propagation_ends_is_the_released_codes_in_each_component() -> None:
    close(
        stationary_state(X, EDGES)[[0, 9, 11]],
        [
            [-0.04336427169898463, -0.016541584188017096, 0.012519929142719537, 0.03988692879763162],
            [0.7380705563313568, 0.6793571444150249, 0.5286959300105546, 0.3064782017038826],
            [-0.6303754259983063, -0.8684348446387863, -0.9889556810694329, -0.9756260054681576],
        ],
    )


def test_levels_and_smoothed_features_are_the_released_codes() -> None:
    close(
        node_smoothing_levels(X, EDGES, K)[[0, 9]],
        [[0.5732498, 0.580698439, 0.48343143, 0.40215802], [0.058775726, 0, 0, 0]],
    )
    features = smoothed_features(X, EDGES, K)
    close(
        features[[0, 4, 9, 11]],
        [
            [0.048094283, 0.270672365, 0.456616213, 0.580759198],
            [-0.062989861, 0.116938462, 0.281039712, 0.407103557],
            [0.743851798, 0.748397485, 0.651651083, 0.466706764],
            [-0.630375426, -0.868434845, -0.988955681, -0.975626005],
        ],
    )
    assert float(features.abs().sum()) == pytest.approx(18.80631667853458, rel=1e-9)


def test_one_training_step_is_the_released_codes() -> None:
    """The first history entry is the loss before the step, and the weights are those after it."""
    model = ResidualMLP(FEATURES, 0, CLASSES, dropout=0.0).double()
    fill(*model.parameters())
    masks = Masks(torch.arange(6), torch.tensor([6, 7]), torch.tensor([8, 9]))
    task = Task(X, Y, propagation(EDGES, N, torch.float64), masks, CLASSES)
    recipe, gradients = Recipe(K, 0.0, lr=0.2, weight_decay=5e-3, epochs=1), []
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(lambda p: gradients.append(float(p.grad.abs().sum())))
    fitted = fit_rows(model, smoothed_features(X, EDGES, K), task, recipe)
    assert fitted.history.train_loss == pytest.approx([1.0480505680739545], rel=1e-9)
    assert sorted(gradients) == pytest.approx([0.06319401994933313, 0.5006013415124142], rel=1e-9)
    weights = [float(p.detach().abs().sum()) for p in model.parameters()]
    assert weights == pytest.approx([3.989519212036658, 1.2264278963462873], rel=1e-7)


@pytest.mark.parametrize(
    ("build", "first", "total"),
    [
        (lambda: ResidualMLP(FEATURES, 5, CLASSES, 5), [-9.423853131, -2.904286998, -0.056431329], -125.10364514870251),
        (
            lambda: GCN(FEATURES, 5, CLASSES, [0] * 5, residual="dense"),
            [-20.316439677, -6.866925682, -0.001042219],
            -266.63041207685376,
        ),
    ],
)
def test_perceptrons_with_skip_connections_are_the_released_codes_where_inner_matrices_are_one(
    build: type[nn.Module], first: list[float], total: float
) -> None:
    model = build().double().eval()
    outer, inner, last = model.linears[0], model.linears[1], model.linears[4]
    model.linears[2] = model.linears[3] = inner
    fill(*outer.parameters(), *inner.parameters(), *last.parameters())
    out = F.log_softmax(model(X) if isinstance(model, ResidualMLP) else model(X, EDGES), dim=1)
    close(out[0], first)
    assert float(out.detach().sum()) == pytest.approx(total, rel=1e-9)


def test_resgcn_is_the_released_codes_but_for_its_last_relu() -> None:
    model = GCN(FEATURES, 5, CLASSES, [1] * 5, residual="res").double().eval()
    with torch.no_grad():  # theirs are (in, out)
        for k, linear in enumerate(model.linears):
            linear.weight.copy_(0.5 * formula(*linear.weight.T.shape, k=k).T)
    out = F.log_softmax(F.relu(model(X, EDGES)), dim=1)
    close(out[0], [-1.100264099, -1.10016698, -1.09541348])
    assert float(out.detach().sum()) == pytest.approx(-39.551400122374396, rel=1e-9)


def test_recipes_are_those_of_its_run_script() -> None:
    found = {name: (r.K, r.dropout, r.lr, r.weight_decay, r.epochs) for name, r in CONTENDERS["dgmlp"].recipe.items()}
    assert {name: found[name] for name in ("cora", "citeseer", "pubmed")} == {
        "cora": (20, 0.2, 0.2, 5e-3, 200),
        "citeseer": (15, 0.1, 0.1, 5e-2, 200),
        "pubmed": (20, 0.5, 0.2, 5e-5, 200),
    }

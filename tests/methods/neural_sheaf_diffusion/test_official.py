"""Golden numbers of twitter-research/neural-sheaf-diffusion, commit 11e21b5 (models/disc_models.py and exp/run.py).

Its networks were run in float64 with the weights and inputs of `formula`, which needs no random generator: the
log-probabilities of node 4, the loss, the norms of the gradients of the first sheaf learner and of the encoder; then,
after one step of Adam (lr 0.02, decay 0.03 of the sheaf learners and 0.01 of the rest), the log-probabilities and the
loss. General maps ran in evaluation mode, since that code perturbs them in training.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from methods.neural_sheaf_diffusion import NSD
from tests.methods.golden import formula

NODES, FEATURES, CLASSES, CHANNELS = 6, 5, 3, 4  # node 5 is isolated
EDGES = torch.tensor([[0, 0, 1, 2, 3, 1], [1, 2, 2, 3, 4, 4]])
CASES: dict[str, tuple[dict[str, Any], list[float]]] = {
    "diagonal": (
        dict(maps="diagonal", stalk_dim=3, add_lp=True, second_linear=True),
        [-1.2676998846, -1.6560141449, -0.6393726386, 1.6320461858, 3.42285e-05, 2.2495256521, -0.7003699541,
         -1.0451828434, -1.8840665182, 0.9781532672],
    ),
    "diagonal, sparse learner of even rows": (
        dict(maps="diagonal", stalk_dim=2, sparse_learner=True),
        [-0.9588654791, -1.7108953399, -0.8301851969, 1.2788317971, 0.0281910908, 0.8157544037, -1.010520282,
         -1.1387850329, -1.1527644864, 1.0205331261],
    ),
    "orthogonal as on Texas: weights, sparse learner of odd rows": (
        dict(maps="orthogonal", stalk_dim=3, edge_weights=True, sparse_learner=True),
        [-0.7796231398, -0.7276920784, -2.8404613339, 1.4108369349, 0.0031079459, 1.0219809836, -1.0123158991,
         -0.5185791341, -3.1879185718, 1.0625977516],
    ),
    "orthogonal with weights and both fixed rows": (
        dict(maps="orthogonal", stalk_dim=2, edge_weights=True, add_lp=True, add_hp=True),
        [-1.2430657865, -1.0594117036, -1.0082911022, 1.0868877324, 5.34965e-05, 0.4096969992, -0.9635190437,
         -0.8806381643, -1.5899595226, 0.7999543205],
    ),
    "cayley": (
        dict(maps="orthogonal", stalk_dim=3, orthogonal="cayley"),
        [-0.695529838, -0.8332533103, -2.7096977149, 1.4048859884, 0.1442721707, 1.1217717643, -0.8639610022,
         -0.6249826851, -3.1409880888, 0.9193001084],
    ),
    "exponential": (
        dict(maps="orthogonal", stalk_dim=3, orthogonal="exponential"),
        [-0.7038075449, -0.8261613194, -2.6945095663, 1.3918322458, 0.1974547059, 1.1840930008, -0.845388452,
         -0.6386637202, -3.1556201599, 0.8944755113],
    ),
    "general": (
        dict(maps="general", stalk_dim=2, add_hp=True),
        [-0.4718905033, -1.1170794197, -3.0170770508, 1.4484772924, 0.048810544, 0.8642444753, -0.7180126518,
         -0.7375404077, -3.381672134, 1.0306214195],
    ),
}  # fmt: skip


def halved(parameter: Tensor, k: int) -> None:
    parameter.copy_(formula(*parameter.shape, k=k) / 2)


def network(options: dict[str, Any]) -> NSD:
    model = NSD(FEATURES, CHANNELS, CLASSES, num_layers=2, dropout=0.0, **options).double()
    with torch.no_grad():
        linears = [model.encoder, model.decoder, *([] if model.second is None else [model.second])]
        for k, linear in enumerate(linears):
            halved(linear.weight, 2 * k)
            halved(linear.bias, 2 * k + 1)
        for k, layer in enumerate(model.layers):
            halved(layer.left, 6 + 10 * k)
            halved(layer.right, 7 + 10 * k)
            halved(layer.epsilon, 8 + 10 * k)
            for learner, place in ((layer.sheaf, 9), (layer.weigher, 10)):
                if learner is not None:  # theirs is one matrix [V_1 V_2]
                    both = formula(learner.num_params, 2 * learner.weight.shape[1], k=place + 10 * k) / 2
                    learner.weight.copy_(torch.cat(both.chunk(2, dim=1)))
    return model


@pytest.mark.parametrize("case", CASES)
def test_a_step_of_training_is_that_of_the_papers_code(case: str) -> None:
    options, golden = CASES[case]
    model, x, y = network(options), formula(NODES, FEATURES), torch.arange(NODES) % CLASSES
    optimizer = torch.optim.Adam(model.parameter_groups(0.01, 0.03), lr=0.02, fused=True)
    found = []
    for _ in range(2):
        logits = model(x, EDGES)
        loss = F.cross_entropy(logits, y)
        found += [*logits[4].log_softmax(0).tolist(), loss.item()]
        loss.backward()
        if len(found) == 4:
            found += [float(model.layers[0].sheaf.weight.grad.norm()), float(model.encoder.weight.grad.norm())]
        optimizer.step()
        optimizer.zero_grad()
    assert found == pytest.approx(golden, rel=1e-6, abs=1e-9)

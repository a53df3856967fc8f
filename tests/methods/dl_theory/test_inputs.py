"""What is out of range is refused by name, before it becomes a NaN of the theory."""

from __future__ import annotations

import pytest
import torch

from methods import dl_theory as dl
from tests.methods.unusual import assert_takes_or_refuses

RELU, TANH = dl.ACTIVATIONS["relu"], dl.ACTIVATIONS["tanh"]


def test_unusual_inputs_are_taken_or_refused() -> None:
    assert_takes_or_refuses(lambda activation, gamma: dl.critical_point(activation, gamma).C_W, activation="relu",
                            gamma=0.5)  # fmt: skip
    assert_takes_or_refuses(lambda depth, C_b, C_W, gamma: dl.kernel_recursion(RELU, 1.0, depth, C_b, C_W, gamma),
                            depth=3, C_b=0.1, C_W=2.0, gamma=0.5)  # fmt: skip
    assert_takes_or_refuses(lambda depth: dl.depth_scaled_rates(dl.critical_point("tanh"), depth)[0], depth=4)
    assert_takes_or_refuses(lambda width, depth: dl.metric_variance(RELU, width, depth), width=5, depth=3)
    assert_takes_or_refuses(dl.linear_metric_moment, order=2, width=5, depth=3)
    assert_takes_or_refuses(dl.rectifier_log_variance, width=5)
    assert_takes_or_refuses(dl.optimal_aspect_ratio, nu=5.0, n_L=2)
    assert_takes_or_refuses(lambda n_A, n_B: dl.truncated_information(0.1, n_A, n_B), n_A=1, n_B=2)
    assert_takes_or_refuses(dl.mixture_information, G=torch.rand(9) + 0.5, n_A=1, n_B=2)
    assert_takes_or_refuses(dl.log_normal_information, v=0.1, n_A=1, n_B=2)
    assert_takes_or_refuses(lambda K1, width, depth, nets, C_b, C_W: dl.metric_chain(
        TANH, K1, width, depth, nets, C_b, C_W), K1=1.0, width=4, depth=3, nets=5, C_b=0.0, C_W=1.0)  # fmt: skip
    assert_takes_or_refuses(lambda nets, C_b, C_W: dl.Networks.draw(TANH, [3, 4, 2], nets, C_b, C_W).weights, nets=2,
                            C_b=0.1, C_W=1.0)  # fmt: skip
    assert_takes_or_refuses(lambda lr: dl.parameter_groups(torch.nn.Linear(2, 1), "tanh", lr)[0]["lr"], lr=0.1)
    assert_takes_or_refuses(lambda K: dl.mean_square(TANH, K), K=torch.rand(3))
    with pytest.raises(ValueError, match="K is a variance"):
        dl.mean_square(TANH, -1.0)

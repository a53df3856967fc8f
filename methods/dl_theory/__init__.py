"""The Principles of Deep Learning Theory (Roberts, Yaida, Hanin; Cambridge University Press 2022).

The critical initialisation of your own net, and what signals do in it:

    import torch
    from methods.dl_theory import critical_init_, critical_point

    layers = [torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)]
    net = critical_init_(torch.nn.Sequential(*layers), "tanh")
    y = net(torch.rand(5, 8))  # (5, 1)
    variance_of_weights = critical_point("tanh").C_W  # times 1 / width
"""

from methods.dl_theory.activations import ACTIVATIONS, Activation, activation_of, leaky_relu
from methods.dl_theory.closed_forms import linear_metric_moment, metric_variance, rectifier_log_variance, vertex_slope
from methods.dl_theory.criticality import (
    CriticalPoint,
    NoCriticalPoint,
    critical_init_,
    critical_point,
    depth_scaled_rates,
    kernel_decay,
    parameter_groups,
)
from methods.dl_theory.ensembles import metric_chain, pair_covariance, preactivation_chain, weight_matrix_chain
from methods.dl_theory.expectations import (
    chi_parallel,
    chi_perpendicular,
    gaussian_mean,
    mean_square,
    square_variance,
)
from methods.dl_theory.information import (
    log_normal_information,
    mixture_information,
    optimal_aspect_ratio,
    truncated_information,
)
from methods.dl_theory.ntk import batched_ntk, empirical_ntk, relative_change
from methods.dl_theory.recursions import kernel_recursion, ntk_recursion, vertex_recursion
from methods.shared.networks import Networks, gradient_descent

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "CriticalPoint",
    "Networks",
    "NoCriticalPoint",
    "activation_of",
    "batched_ntk",
    "chi_parallel",
    "chi_perpendicular",
    "critical_init_",
    "critical_point",
    "depth_scaled_rates",
    "empirical_ntk",
    "gaussian_mean",
    "gradient_descent",
    "kernel_decay",
    "kernel_recursion",
    "leaky_relu",
    "linear_metric_moment",
    "log_normal_information",
    "mean_square",
    "metric_chain",
    "metric_variance",
    "mixture_information",
    "ntk_recursion",
    "optimal_aspect_ratio",
    "pair_covariance",
    "parameter_groups",
    "preactivation_chain",
    "rectifier_log_variance",
    "relative_change",
    "square_variance",
    "truncated_information",
    "vertex_recursion",
    "vertex_slope",
    "weight_matrix_chain",
]

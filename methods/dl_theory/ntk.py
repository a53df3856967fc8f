"""The neural tangent kernel of real networks, at initialisation and after training.

    H_ij(x, x') = sum over parameters mu of lambda_mu df_i(x)/d theta_mu df_j(x')/d theta_mu

with the rates lambda_W / n_in for weights and lambda_b for biases. At infinite width it neither differs between
networks nor moves in training, and a network learns no representation; at finite width both happen, by O(l/n).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from methods.dl_theory.criticality import linear_layers
from methods.shared.checks import check_numbers
from methods.shared.networks import Networks


def empirical_ntk(
    module: nn.Module, x1: Tensor, x2: Tensor | None = None, lambda_b: float = 1.0, lambda_W: float = 1.0
) -> Tensor:
    """NTK of one perceptron by automatic differentiation.

    Args:
        module: maps (N, n_0) to (N, n_L); its parameters are those of `nn.Linear`s.
        x1, x2: inputs; x2 = x1 where None.

    Returns:
        (N1, N2, n_L, n_L).

    Raises:
        ValueError: a parameter outside the linear layers, which has no rate; a rate that is not finite or below 0.
    """
    check_numbers("empirical_ntk", least=0.0, lambda_b=lambda_b, lambda_W=lambda_W)
    rates = {}
    for layer in linear_layers(module):
        rates[id(layer.weight)] = lambda_W / layer.in_features
        rates[id(layer.bias)] = lambda_b
    parameters = {name: parameter.detach() for name, parameter in module.named_parameters()}
    if unknown := [name for name, parameter in module.named_parameters() if id(parameter) not in rates]:
        raise ValueError(f"{unknown[0]} belongs to no nn.Linear: only perceptrons have the rates lambda_W and lambda_b")
    rate_of = {name: rates[id(parameter)] for name, parameter in module.named_parameters()}

    def output(values: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(module, values, (x[None],))[0]

    def jacobian(x: Tensor) -> dict[str, Tensor]:
        return vmap(jacrev(output), in_dims=(None, 0))(parameters, x)

    J1 = jacobian(x1)
    J2 = J1 if x2 is None else jacobian(x2)
    return sum(
        rate_of[name] * torch.einsum("aip,bjp->abij", J1[name].flatten(2), J2[name].flatten(2)) for name in parameters
    )  # type: ignore[return-value]


def batched_ntk(networks: Networks, x: Tensor, lambda_b: float = 1.0, lambda_W: float = 1.0) -> Tensor:
    """NTK of the first output of each network, (nets, N, N), without a Jacobian.

    With the inputs A^(l) of a layer and the derivatives B^(l) of the output by its preactivations, the layer's part is
    (B B^T) * (lambda_W/n_in A A^T + lambda_b), elementwise. Raises ValueError for a rate that is not finite or below 0.
    """
    check_numbers("batched_ntk", least=0.0, lambda_b=lambda_b, lambda_W=lambda_W)
    with torch.enable_grad():
        for b in networks.biases:
            b.requires_grad_()  # so that preactivations belong to a graph
        inputs, preactivations = networks.signals(x)
        signals = torch.autograd.grad(preactivations[-1][..., 0].sum(), preactivations)
        for b in networks.biases:
            b.requires_grad_(False)
    return sum(
        (B @ B.mT) * (lambda_W / A.shape[2] * (A @ A.mT) + lambda_b)
        for A, B in zip((a.detach() for a in inputs), signals, strict=True)
    )  # type: ignore[return-value]


def relative_change(before: Tensor, after: Tensor) -> Tensor:
    """|after - before| / |before| in the Frobenius norm, over the last two dimensions. Raises ValueError."""
    if before.shape != after.shape or not before.is_floating_point():
        raise ValueError(f"relative_change: wants two kernels of floats and of one shape; got {before.dtype} "
                         f"{tuple(before.shape)} and {tuple(after.shape)}")  # fmt: skip
    return torch.linalg.matrix_norm(after - before) / torch.linalg.matrix_norm(before)

"""Sampled networks against the theory, layer by layer, and trained networks against their depth-to-width ratio.

A replicate is a seed, and a seed is a block of networks: a variance over networks is one number of a block. Experiments
without a data set look at one input, of which the theory knows nothing but its norm, or at two (`off_criticality`).
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

import datasets
from assay.experiment import MethodRows, Run, experiment
from methods.dl_theory.activations import ACTIVATIONS, Activation
from methods.dl_theory.baselines import OFF_CRITICAL, infinite_width_vertex
from methods.dl_theory.closed_forms import metric_variance, rectifier_log_variance, vertex_slope
from methods.dl_theory.contenders import CONTENDERS, Recipe, train
from methods.dl_theory.criticality import critical_point, kernel_decay
from methods.dl_theory.ensembles import (
    distance_chain,
    metric_chain,
    pair_covariance,
    relative_variance,
    slope_through_origin,
    weight_matrix_chain,
)
from methods.dl_theory.expectations import chi_perpendicular
from methods.dl_theory.information import (
    leading_information,
    log_normal_information,
    mixture_information,
    optimal_aspect_ratio,
    truncated_information,
)
from methods.dl_theory.ntk import batched_ntk, relative_change
from methods.dl_theory.recursions import kernel_recursion, ntk_recursion, vertex_recursion
from methods.dl_theory.training import Task, unit_rows, width_of
from methods.shared.networks import Networks, gradient_descent, half_squares

NTK_EXAMPLES = 24  # of two classes
NTK_STEPS = 60
NTK_BLOCK = 50  # networks in memory at once


def theory_lines(sigma: Activation, C_W: float, depth: int) -> tuple[Tensor, Tensor]:
    """Kernel and normalised vertex V/K^2 of the recursions from K^(1) = 1, (depth,) each, with C_b = 0."""
    K = kernel_recursion(sigma, 1.0, depth, 0.0, C_W)
    return K, vertex_recursion(sigma, K, C_W) / K**2


def shown(depth: int) -> Tensor:
    """At most 40 of the layers 1 to depth, for a figure; indices from 0."""
    return torch.linspace(0, depth - 1, min(depth, 40)).round().long()


@experiment(quick=dict(datasets=[]), standard=dict(datasets=[]))
def constants(run: Run) -> None:
    """The critical points that the solver finds, by activation."""
    for name in ("linear", "relu", "tanh", "sin", "gelu", "swish"):
        point = critical_point(name)
        with run.method("theory", activation=name) as m:
            m.record("C_b", point.C_b, evidence="counted")
            m.record("C_W", point.C_W, evidence="counted")
            if point.K is not None:
                m.record("K", point.K, evidence="counted")


@experiment(
    quick=dict(replicates=3, datasets=[], widths=[50, 200], nets=4_000),
    standard=dict(replicates=6, datasets=[], widths=[50, 100, 200, 400], nets=25_000),
    gpu=dict(replicates=6, datasets=[], widths=[50, 100, 200, 400, 1024, 2048], nets=40_000),
)
def fluctuations(run: Run, widths: list[int], nets: int) -> None:
    """Var(G)/E[G]^2 against (l-1)/n up to a tenth, for critical networks of several widths.

    `slope` is fitted to log(1 + Var/E^2), which is straight in l where layers multiply independently; `plain_slope` to
    Var/E^2 itself, which bends upwards as exp(nu r) - 1.
    """
    for name in ("relu", "linear", "tanh"):
        sigma, C_W = ACTIVATIONS[name], critical_point(name).C_W
        for n in widths:
            depth = n // 10 + 1
            ratio, at = torch.arange(depth, dtype=torch.float64) / n, shown(depth)
            with run.method("networks", activation=name, n=n) as m:
                v = relative_variance(metric_chain(sigma, 1.0, n, depth, nets, 0.0, C_W, device=run.device)).cpu()
                m["slope"] = slope_through_origin(ratio, torch.log1p(v))
                m["plain_slope"] = slope_through_origin(ratio, v)
                m["at_a_tenth"] = float(v[-1])
                m.curve("fluctuation", x=ratio[at].tolist(), y=v[at].tolist(), x_name="ratio")
        x = ratio[at]  # those of the widest
        with run.method("theory", activation=name) as m:
            m.curve("fluctuation", x=x.tolist(), y=(vertex_slope(sigma) * x).tolist(), x_name="ratio")
        with run.method("infinite_width", activation=name) as m:
            m.curve("fluctuation", x=x.tolist(), y=infinite_width_vertex(x).tolist(), x_name="ratio")


@experiment(
    standard=dict(replicates=6, datasets=[], n=50, layers=[5, 10, 15, 50], nets=400_000),
)
def exact_width(run: Run, n: int, layers: list[int], nets: int) -> None:
    """Var(G)/E[G]^2 over the formula that is exact at every width, and Var(log G) over the exact one of ReLU."""
    for name in ("relu", "linear"):
        sigma, C_W = ACTIVATIONS[name], critical_point(name).C_W
        G = metric_chain(sigma, 1.0, n, max(layers) + 1, nets, 0.0, C_W)
        for multiplied in layers:
            with run.method("networks", activation=name, multiplied=multiplied) as m:
                if multiplied <= 0.3 * n:
                    exact = metric_variance(sigma, n, multiplied + 1)
                    m["over_exact"] = float(relative_variance(G[multiplied])) / exact
                elif name == "relu":  # the tail of G is too heavy for its variance
                    m["log_over_exact"] = float(G[multiplied].log().var()) / multiplied / rectifier_log_variance(n)


@experiment(
    standard=dict(replicates=6, datasets=[], n=64, depth=32, nets=2_000),
)
def full_weights(run: Run, n: int, depth: int, nets: int) -> None:
    """Var(log mean_i sigma(z_i)^2) of networks with all weights drawn, and of the chain that draws none."""
    for name in ("relu", "tanh"):
        sigma, C_W = ACTIVATIONS[name], critical_point(name).C_W
        with run.method("networks", activation=name) as m:
            G = metric_chain(sigma, 1.0, n, depth + 1, nets, 0.0, C_W)
            m["log_variance"] = float(G[-1].log().var())
        with run.method("weights", activation=name) as m:
            x = torch.full((1, n), 1 / math.sqrt(C_W))
            (*_, z) = weight_matrix_chain(sigma, x, n, depth, nets, 0.0, C_W)
            m["log_variance"] = float(sigma(z).square().mean(dim=2).log().var())


@experiment(
    quick=dict(datasets=[], layers=[50, 100, 200, 400, 1000]),
    standard=dict(datasets=[], layers=[50, 75, 100, 150, 200, 350, 600, 1000]),
)
def power_laws(run: Run, layers: list[int]) -> None:
    """Kernels and vertices of the recursions to a thousand layers, from K^(1) = 1."""
    for name in ("tanh", "sin"):
        sigma = ACTIVATIONS[name]
        K, v = theory_lines(sigma, critical_point(sigma).C_W, max(layers))
        for layer in layers:
            with run.method("theory", activation=name, layer=layer) as m:
                kernel = float(K[layer - 1])
                m.record("kernel", kernel, evidence="counted")
                m.record("scaled_kernel", kernel_decay(sigma) * layer * kernel, evidence="counted")
                m.record("vertex_slope", float(v[layer - 1]) / layer, evidence="counted")


@experiment(
    quick=dict(replicates=3, datasets=[], n=200, depth=20, nets=1_000),
    standard=dict(replicates=6, datasets=[], n=1000, depth=100, nets=6_000),
)
def universality(run: Run, n: int, depth: int, nets: int) -> None:
    """Kernel and fluctuations of tanh, sin and ReLU networks at the last layer, beside the recursions."""
    for name in ("tanh", "sin", "relu"):
        sigma, C_W = ACTIVATIONS[name], critical_point(name).C_W
        K = kernel_recursion(sigma, 1.0, depth, 0.0, C_W)
        at = shown(depth)
        layer = (at + 1).tolist()
        scale = kernel_decay(sigma) * (at + 1) if name != "relu" else torch.ones(len(at))
        with run.method("networks", activation=name) as m:
            G = metric_chain(sigma, 1.0, n, depth, nets, 0.0, C_W)
            m["vertex_slope"] = float(relative_variance(G[-1]).log1p()) * n / depth
            m["kernel_over_recursion"] = float(G[-1].mean() / K[-1])
            m.curve("scaled_kernel", x=layer, y=(scale * G.mean(dim=1)[at]).tolist(), x_name="layer")
        with run.method("theory", activation=name) as m:
            m.curve("scaled_kernel", x=layer, y=(scale * K[at]).tolist(), x_name="layer")


@experiment(
    quick=dict(replicates=3, datasets=[], n=200, depth=11, nets=100),
    standard=dict(replicates=6, datasets=[], n=1000, depth=21, nets=1_000),
)
def off_criticality(run: Run, n: int, depth: int, nets: int) -> None:
    """Rates a layer at which the kernel and the distance of two near inputs move, below, at and above criticality.

    `kernel_rate` is log(E[G^(L)]/E[G^(1)])/(L-1), `distance_rate` the same of the mean square distance; `theory` has
    the recursion's kernel and the mean of log chi_perp(K^(l)), which for ReLU are both log(C_W/2).
    """
    for name in ("relu", "tanh"):
        sigma, critical = ACTIVATIONS[name], critical_point(name).C_W
        low, high = OFF_CRITICAL[name]
        for which, C_W in (("below", low), ("critical", critical), ("above", high)):
            K = kernel_recursion(sigma, 1.0, depth, 0.0, C_W)
            setting = {"activation": name, "side": which}
            with run.method("networks", **setting) as m:
                distance, norm = distance_chain(sigma, 1.0, 1e-3, n, depth, nets, 0.0, C_W)
                kernel, distance = norm.mean(dim=1), distance.mean(dim=1)
                m["kernel_rate"] = float((kernel[-1] / kernel[0]).log()) / (depth - 1)
                m["distance_rate"] = float((distance[-1] / distance[0]).log()) / (depth - 1)
                m.curve("kernel", x=list(range(1, depth + 1)), y=kernel.tolist(), x_name="layer")
            with run.method("theory", **setting) as m:
                m.record("kernel_rate", float((K[-1] / K[0]).log()) / (depth - 1), evidence="counted")
                chi = chi_perpendicular(sigma, K[:-1], C_W)
                m.record("distance_rate", float(chi.log().mean()), evidence="counted")
                m.curve("kernel", x=list(range(1, depth + 1)), y=K.tolist(), x_name="layer")


@experiment(
    quick=dict(replicates=3, datasets=[], n=200, depth=6, nets=2_000, gammas=[0.0, 0.5, 0.95]),
    standard=dict(replicates=6, datasets=[], n=200, depth=11, nets=50_000, gammas=[0.0, 0.5, 0.7, 0.9, 0.95]),
)
def skip_connections(run: Run, n: int, depth: int, nets: int, gammas: list[float]) -> None:
    """nu(gamma): the slope of cov(z_i^2, z_j^2)/K^2 in l/n, from its logarithm at the last layer.

    Beside it the book's formula (`theory`) and the recursion with what the skip carries along (`recursion`).
    """
    for name in ("linear", "relu"):
        sigma = ACTIVATIONS[name]
        for gamma in gammas:
            C_W = critical_point(sigma, gamma).C_W
            with run.method("networks", activation=name, gamma=gamma) as m:
                v = pair_covariance(sigma, 1.0, n, depth, nets, 0.0, C_W, gamma)
                m["nu"] = float(v[-1].log1p()) * n / (depth - 1)
            with run.method("theory", activation=name, gamma=gamma) as m:
                m.record("nu", vertex_slope(sigma, gamma), evidence="counted")
            with run.method("recursion", activation=name, gamma=gamma) as m:
                V = vertex_recursion(sigma, torch.ones(depth, dtype=torch.float64), C_W, gamma)
                m.record("nu", float(V[-1]) / (depth - 1), evidence="counted")


@experiment(
    quick=dict(replicates=3, datasets=[], wide=500, n=100, nets=1_000),
    standard=dict(replicates=6, datasets=[], wide=1000, n=100, nets=10_000),
)
def mutual_information(run: Run, wide: int, n: int, nets: int) -> None:
    """Mutual information of output neurons, exact given the metrics of sampled ReLU networks.

    `over_leading`: over (n_A n_B / 8) v^2 of the networks' own v, three layers of width `wide`. `information` of two
    neurons: at the depth nearest to r* of width n (`peak`), and at four and sixteen times that.
    """
    sigma = ACTIVATIONS["relu"]
    for n_A, n_B in ((1, 1), (2, 2)):
        with run.method("networks", outputs=n_A + n_B) as m:
            G = metric_chain(sigma, 1.0, wide, 3, nets, 0.0, 2.0)[-1]
            leading = leading_information(relative_variance(G), n_A, n_B)
            m["over_leading"] = mixture_information(G, n_A, n_B) / float(leading)
    at_peak = round(optimal_aspect_ratio(vertex_slope(sigma), 2) * n)
    layers = {"peak": at_peak, "four_peaks": 4 * at_peak, "sixteen_peaks": 16 * at_peak}
    depths = [at_peak * k for k in (1, 2, 3, 4, 6, 8, 12, 16)]
    ratios = [k / n for k in depths]
    with run.method("networks") as m:
        G = metric_chain(sigma, 1.0, n, max(depths) + 1, nets, 0.0, 2.0)
        found = {k: mixture_information(G[k], 1, 1) for k in depths}
        m.curve("information", x=ratios, y=list(found.values()), x_name="ratio", unit="nat")
    for at, k in layers.items():
        with run.method("networks", at=at) as m:
            m.record("information", found[k], unit="nat")
        with run.method("theory", at=at) as m:
            series = truncated_information(vertex_slope(sigma) * k / n, 1, 1)
            m.record("information", float(series), unit="nat", evidence="counted")
        with run.method("log_normal", at=at) as m:
            v = metric_variance(sigma, n, k + 1)
            m.record("information", log_normal_information(v, 1, 1), unit="nat", evidence="counted")
    v = [vertex_slope(sigma) * ratio for ratio in ratios]
    with run.method("theory") as m:
        in_view = [(r, float(truncated_information(x, 1, 1))) for r, x in zip(ratios, v, strict=True) if x < 0.5]
        m.curve("information", x=[r for r, _ in in_view], y=[y for _, y in in_view], x_name="ratio", unit="nat")
    with run.method("log_normal") as m:
        exact = [log_normal_information(metric_variance(sigma, n, k + 1), 1, 1) for k in depths]
        m.curve("information", x=ratios, y=exact, x_name="ratio", unit="nat")


@experiment(
    standard=dict(replicates=6, datasets=[], nets=1_000,
                  shapes=[[32, 4], [64, 4], [128, 4], [256, 4], [512, 4], [128, 16]]),
)  # fmt: skip
def ntk_at_initialisation(run: Run, nets: int, shapes: list[list[int]]) -> None:
    """The NTK of one input over networks of each shape (n, L): mean over the recursion's, and relative variance."""
    for name in ("relu", "tanh"):
        sigma, point = ACTIVATIONS[name], critical_point(name)
        for n, depth in shapes:
            K = kernel_recursion(sigma, point.C_W, depth, 0.0, point.C_W)  # |x|^2 = n_0
            theta = ntk_recursion(sigma, K, 0.0, point.C_W, 0.0, 1.0)[-1]
            with run.method("networks", activation=name, n=n, depth=depth) as m:
                blocks = []
                for _ in range(0, nets, NTK_BLOCK):
                    networks = Networks.draw(sigma, [64] + [n] * (depth - 1) + [1], NTK_BLOCK, 0.0, point.C_W)
                    blocks.append(batched_ntk(networks, torch.ones(1, 64), 0.0, 1.0).flatten())
                ntk = torch.cat(blocks)
                m["ntk_over_recursion"] = float(ntk.mean() / theta)
                m["ntk_variance"] = float(ntk.var() / ntk.mean().square())


def two_classes(run: Run) -> tuple[Tensor, Tensor]:
    """24 images of the first two classes, centred, of norm |x|^2 = n_0, and targets of 1 and -1, (24, 1)."""
    images = datasets.load(run.dataset)
    rows = torch.cat([(images.train_y == label).nonzero()[: NTK_EXAMPLES // 2, 0] for label in (0, 1)])
    x = images.train_x[rows].flatten(1)
    y = 1.0 - 2.0 * images.train_y[rows, None]
    return unit_rows(x - x.mean(dim=0)).to(run.device), y.to(run.device)


@experiment(
    quick=dict(replicates=3, widths=[32, 64, 128, 256, 512], depths=[2], nets=3),
    standard=dict(replicates=6, widths=[32, 64, 128, 256, 512], depths=[2, 4], nets=20),
    gpu=dict(replicates=6, widths=[64, 128, 256, 512, 1024], depths=[2, 4], nets=10),
)
def ntk_change(run: Run, widths: list[int], depths: list[int], nets: int) -> None:
    """Relative change of the NTK by 60 full-batch steps of half the squared error, lr = 1 over its top eigenvalue."""
    x, y = two_classes(run)
    for name in ("tanh", "relu"):
        sigma, point = ACTIVATIONS[name], critical_point(name)
        for depth in depths:
            for n in widths:
                with run.method("networks", activation=name, depth=depth, n=n) as m:
                    widths_of = [x.shape[1], *[n] * (depth - 1), 1]
                    networks = Networks.draw(sigma, widths_of, nets, point.C_b, point.C_W).to(run.device)
                    before = batched_ntk(networks, x, 0.0, 1.0)
                    lr = 1 / torch.linalg.eigvalsh(before)[:, -1]
                    rates = torch.zeros(depth), torch.ones(depth)  # weights only: C_b = 0
                    gradient_descent(networks, x, y, half_squares, NTK_STEPS, lr, rates)
                    m["ntk_change"] = float(relative_change(before, batched_ntk(networks, x, 0.0, 1.0)).mean())


@experiment(
    quick=dict(replicates=3, depths=[5, 20], n=32, steps=60, lrs=[0.03, 0.3, 3.0]),
    standard=dict(replicates=6, depths=[5, 20, 50], n=128, steps=300, lrs=[3e-4, 3e-3, 0.03, 0.3, 3.0, 30.0]),
    gpu=dict(replicates=6, depths=[5, 20, 50, 100], n=512, steps=5000, lrs=[3e-4, 3e-3, 0.03, 0.3, 3.0, 30.0]),
    timeout=3600,
)  # fmt: skip
def deep_training(run: Run, depths: list[int], n: int, steps: int, lrs: list[float]) -> None:
    """Test accuracy of ReLU networks against depth under four initialisations, all with depth-scaled rates.

    PyTorch's initialisation trains with one rate for all parameters too, as its users have it (`plain_sgd`).
    """
    task = Task.of(datasets.load(run.dataset), run.device)
    for depth in depths:
        for name, contender in CONTENDERS.items():
            with run.method(name, depth=depth) as m:
                recipe = replace(contender.recipe, depth=depth, width=n, steps=steps, lrs=tuple(lrs))
                trained(m, name, task, recipe)


def trained(m: MethodRows, name: str, task: Task, recipe: Recipe) -> dict[str, float]:
    """Train a contender, and record what validation chose and what that took."""
    networks, found = train(name, task, recipe)
    for metric, value in found.items():
        m[metric] = value
    parameters = sum(parameter[0].numel() for parameter in networks.parameters())
    for metric, value in (("parameters", parameters), ("steps", recipe.steps), ("trials", len(recipe.lrs))):
        m.record(metric, value, evidence="counted")
    return found


@experiment(
    quick=dict(replicates=3, weights=5_000, depths=[2, 6, 32], steps=50, lrs=[0.3, 1.0, 3.0], nets=1),
    standard=dict(replicates=6, weights=20_000, depths=[2, 3, 4, 6, 8, 12, 20, 32], steps=300,
                  lrs=[0.1, 0.3, 1.0, 3.0, 10.0], nets=2),
    gpu=dict(replicates=6, weights=1_000_000, depths=[2, 3, 4, 6, 8, 12, 20, 32, 64], steps=5000,
             lrs=[0.1, 0.3, 1.0, 3.0, 10.0], nets=2),
    timeout=3600,
)  # fmt: skip
def aspect_ratio(run: Run, weights: int, depths: list[int], steps: int, lrs: list[float], nets: int) -> None:
    """Test accuracy of critical networks with a fixed number of weights, from wide and shallow to narrow and deep."""
    task = Task.of(datasets.load(run.dataset), run.device)
    for name in ("relu", "tanh"):
        ratios, found = [], []
        for depth in depths:
            with run.method("critical", activation=name, depth=depth) as m:
                n = width_of(weights, depth, task.test[0].shape[1], task.classes)
                found.append(trained(m, "critical", task, Recipe(depth, n, steps, tuple(lrs), nets, name)))
                m.record("ratio", depth / n, evidence="counted")
                ratios.append(depth / n)
        with run.method("critical", activation=name) as m:
            m.curve("accuracy_by_ratio", x=ratios, y=[r["accuracy"] for r in found], x_name="ratio", unit="%")
            chosen = max(range(len(depths)), key=lambda i: found[i]["validation_accuracy"])
            m["best_ratio"] = ratios[chosen]

"""ADPA: the operators, the attention over hops, and what the network must not depend on."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.utils import to_undirected

from methods.adpa import ADPA
from methods.adpa.adpa import (
    FACTORS,
    PATTERNS,
    Norm,
    adjacency,
    decay_factor,
    hop_attention,
    multiply,
    propagate,
    scales,
)
from methods.adpa.baselines import PlainADPA

# what a pattern becomes when all arcs are reversed
REVERSED = {"A": "AT", "AT": "A", "AA": "ATAT", "AAT": "ATA", "ATA": "AAT", "ATAT": "AA"}
PATH = torch.tensor([[0, 1], [1, 2]])


def digraph(num_nodes: int = 30, arcs: int = 90, features: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_nodes, features, generator=generator, dtype=torch.float64)
    return x, torch.randint(num_nodes, (2, arcs), generator=generator)


def operator(pattern: str, edge_index: Tensor, num_nodes: int, r: float, norm: Norm) -> Tensor:
    """D_row^(r-1) M D_col^(-r) as a dense matrix: one step without decay from the identity."""
    identity = torch.eye(num_nodes, dtype=torch.float64)
    return propagate(identity, edge_index, 1, r, [pattern], norm=norm, decay=False)[0, 0]


def close(a: Tensor, b: Tensor | list[list[float]], atol: float = 1e-12) -> bool:
    return torch.allclose(a, torch.as_tensor(b, dtype=a.dtype), atol=atol, rtol=0)


def network(**options: object) -> ADPA:
    torch.manual_seed(0)
    return ADPA(5, 4, 3, **options).double().eval()  # type: ignore[arg-type]


def test_official_normalisation_of_a_path_loses_the_only_two_hop_pair() -> None:
    assert close(operator("A", PATH, 3, 0.5, "official"), [[0.5, 0.5, 0], [0, 0.5, 0.5**0.5], [0, 0, 1]])
    assert close(operator("AAT", PATH, 3, 0.5, "official"), [[1, 0, 0], [0, 1, 0], [0, 0, 0]])
    assert close(operator("AA", PATH, 3, 0.5, "official"), torch.zeros(3, 3))
    assert close(operator("AA", PATH, 3, 0.5, "rows_columns"), [[0, 0, 1], [0, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("r", [0.0, 0.25, 0.5, 1.0])
def test_an_operator_is_the_formed_product_between_its_row_and_column_degrees(pattern: str, r: float) -> None:
    _, edge_index = digraph()
    a = np.zeros((30, 30))
    a[edge_index[0], edge_index[1]] = 1
    np.fill_diagonal(a, 0)
    sides = [{"A": a, "AT": a.T}[factor] for factor in FACTORS[pattern]]
    m = sides[0] @ sides[1] if len(sides) == 2 else sides[0] + np.eye(30)
    with np.errstate(divide="ignore"):
        left, right = m.sum(1) ** (r - 1), m.sum(0) ** -r
    left[np.isinf(left)], right[np.isinf(right)] = 0, 0
    expected = torch.from_numpy(left[:, None] * m * right)
    assert close(operator(pattern, edge_index, 30, r, "rows_columns"), expected)


def test_with_r_0_each_row_is_an_average() -> None:
    _, edge_index = digraph(arcs=300)
    for pattern in PATTERNS:
        assert close(operator(pattern, edge_index, 30, 0.0, "rows_columns").sum(1), torch.ones(30))


def test_on_a_symmetric_graph_both_normalisations_agree() -> None:
    edge_index = to_undirected(digraph()[1])
    for pattern in PATTERNS:
        both = [operator(pattern, edge_index, 30, 0.3, norm) for norm in ("rows_columns", "official")]
        assert close(both[0], both[1])


def test_decay_is_that_of_the_released_code_and_turns_negative() -> None:
    assert [round(decay_factor(k), 6) for k in range(4)] == [1.000001, 0.306854, -0.098611, -0.386293]
    x, edge_index = digraph()
    one, two, three = propagate(x, edge_index, 3, patterns=["A"])[0]
    a = adjacency(edge_index, len(x), x.dtype)
    left, right = scales("A", a, 0.5)
    assert close(one, left * multiply("A", a, right * (1.000001 * x)))
    assert close(three, decay_factor(2) * left * multiply("A", a, right * two))


def test_steps_are_those_of_torch_sparse_products_and_keep_gradients_of_the_features() -> None:
    x, edge_index = digraph()
    x.requires_grad_()
    propagate(x, edge_index, 2).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("K", [0, 1, 3])
def test_attention_without_weights_takes_the_mean_of_the_hops(K: int) -> None:
    hops = list(torch.randn(K + 1, 7, 5, dtype=torch.float64))
    fused = hop_attention(hops, torch.zeros(K + 2, 5, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64))
    assert close(fused, sum(hops) / (K + 1))


def test_hop_weights_sum_to_one_for_every_vertex() -> None:
    torch.manual_seed(0)
    ones = [torch.ones(7, 5)] * 3  # a weighted mean of equal hops is that hop, only if the weights sum to 1
    for view in (False, True):
        assert close(hop_attention(ones, torch.randn(4, 5), torch.tensor(0.1), view), torch.ones(7, 5), 1e-6)


def naive(hops: list[Tensor], a: Tensor, bias: Tensor) -> Tensor:
    """As the formula is written: one vertex, one hop at a time."""
    rows = []
    for i in range(len(hops[0])):
        reference = torch.cat([hop[i] for hop in hops])
        scores = torch.stack([torch.sigmoid(a @ torch.cat([reference, hop[i]]) + bias) for hop in hops])
        rows.append(sum(weight * hop[i] for weight, hop in zip(torch.softmax(scores, 0), hops, strict=True)))
    return torch.stack(rows)


@pytest.mark.parametrize("K", [0, 1, 2, 4])
def test_attention_by_blocks_equals_the_concatenation(K: int) -> None:
    torch.manual_seed(K)
    hops, blocks, bias = list(torch.randn(K + 1, 9, 6)), torch.randn(K + 2, 6), torch.randn(())
    assert close(hop_attention(hops, blocks, bias), naive(hops, blocks.flatten(), bias), 1e-5)


def test_official_view_differs_but_for_one_vertex_no_steps_or_no_weights() -> None:
    torch.manual_seed(0)
    bias = torch.tensor(0.2)

    def both(hops: Tensor, blocks: Tensor) -> tuple[Tensor, Tensor]:
        return hop_attention(list(hops), blocks, bias), hop_attention(list(hops), blocks, bias, official_view=True)

    for hops, blocks in (
        (torch.randn(3, 1, 4), torch.randn(4, 4)),  # one vertex
        (torch.randn(1, 6, 4), torch.randn(2, 4)),  # K = 0
        (torch.randn(3, 6, 4), torch.zeros(4, 4)),  # a = 0
    ):
        correct, official = both(hops, blocks)
        assert close(correct, official, 1e-6)
    correct, official = both(torch.randn(3, 4, 4), torch.randn(4, 4))
    assert not close(correct, official, 1e-3)
    # equal vertices do not save it: scores a a a a b b b b c c c c are read as aaa, abb, bbc, ccc
    alike = torch.randn(3, 1, 4).expand(3, 4, 4)
    correct, official = both(alike, torch.randn(4, 4))
    assert close(official[0], alike.mean(0)[0], 1e-6)
    assert not close(correct[0], official[0], 1e-4)


def test_reversing_all_arcs_is_undone_by_swapping_the_patterns_parameters() -> None:
    x, edge_index = digraph()
    model = network(K=2)
    expected = model(x, edge_index)
    # A with A^T, AA with A^TA^T, AA^T with A^TA
    swap = [PATTERNS.index(REVERSED[pattern]) for pattern in PATTERNS]
    channels = [0, *[1 + g for g in swap]]
    swapped = copy.deepcopy(model)
    with torch.no_grad():
        swapped.attention.copy_(model.attention[swap])
        swapped.attention_bias.copy_(model.attention_bias[swap])
        swapped.weights[0].copy_(model.weights[0][channels])
        swapped.biases[0].copy_(model.biases[0][channels])
        swapped.theta.copy_(model.theta[channels])
        columns = model.classifier.weight.unflatten(1, (7, 4))
        swapped.classifier.weight.copy_(columns[:, channels].flatten(1))
    assert close(swapped(x, edge_index.flip(0)), expected)
    assert not close(model(x, edge_index.flip(0)), expected, 1e-3)


def test_without_steps_the_graph_is_not_used() -> None:
    x, edge_index = digraph()
    model = network(K=0)
    assert torch.equal(model(x, edge_index), model(x, edge_index[:, :1]))
    # seven perceptrons on X, whose outputs are scaled, put side by side and classified
    linear = [torch.relu(x @ w.T + b) for w, b in zip(model.weights[0], model.biases[0], strict=True)]
    h = torch.cat([t * part for t, part in zip(model.theta, linear, strict=True)], dim=1)
    assert close(model(x, edge_index), model.classifier(h))


@pytest.mark.parametrize("num_layers", [1, 3])
def test_features_propagated_beforehand_give_the_same_logits(num_layers: int) -> None:
    x, edge_index = digraph()
    model = network(K=2, num_layers=num_layers)
    hops = model.propagate(x, edge_index)
    assert hops.shape == (6, 2, 30, 5)
    assert torch.equal(model(x, edge_index), model(x, hops))
    # no row depends on another once they are propagated, so some rows can be trained on alone
    assert close(model(x[3:9], hops[:, :, 3:9]), model(x, hops)[3:9])


def test_the_plain_composition_of_torch_layers_has_the_same_output_and_gradients() -> None:
    x, edge_index = digraph()
    ours, plain = network(K=2), PlainADPA(5, 4, 3, K=2).double().eval()
    with torch.no_grad():
        for scorer, blocks, bias in zip(plain.scorers, ours.attention, ours.attention_bias, strict=True):
            scorer.weight.copy_(blocks.flatten().unsqueeze(0))
            scorer.bias.copy_(bias)
        for linear, weight, bias in zip(plain.linears, ours.weights[0], ours.biases[0], strict=True):
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)
        plain.theta.copy_(ours.theta)
        plain.classifier.load_state_dict(ours.classifier.state_dict())
    hops = ours.propagate(x, edge_index)
    outputs = ours(x, hops), plain(x, hops)
    assert close(*outputs)
    for output in outputs:
        nn.functional.cross_entropy(output, torch.arange(30) % 3).backward()
    assert close(ours.attention.grad.flatten(1), torch.cat([scorer.weight.grad for scorer in plain.scorers]))
    assert close(ours.theta.grad, plain.theta.grad)
    assert close(ours.weights[0].grad, torch.stack([linear.weight.grad for linear in plain.linears]))


def test_gradients_are_right_in_float64() -> None:
    x, edge_index = digraph(num_nodes=6, arcs=12)
    model = network(K=2, patterns=["A", "AAT"])
    names = [name for name, _ in model.named_parameters()]

    def loss(*parameters: Tensor) -> Tensor:
        given = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(model, given, (x, edge_index)).logsumexp(1)

    assert torch.autograd.gradcheck(loss, tuple(model.parameters()))


def test_dropout_is_on_only_in_training() -> None:
    x, edge_index = digraph()
    model = network(dropout=0.9)
    assert torch.equal(model(x, edge_index), model(x, edge_index))
    model.train()
    assert not torch.equal(model(x, edge_index), model(x, edge_index))

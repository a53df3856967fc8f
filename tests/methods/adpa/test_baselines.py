"""The baselines are what they say they are."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.adpa.baselines import SIGN, DirGNN, PyGDirGNN
from methods.shared.graph import normalized_adjacency


def digraph(num_nodes: int = 30, arcs: int = 90) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(num_nodes, 5, generator=generator)
    arcs_of = torch.randint(num_nodes, (2, arcs), generator=generator)
    return x, torch.unique(torch.cat([arcs_of, torch.tensor([[3], [3]])], dim=1), dim=1)


def test_dir_gnn_equals_torch_geometrics_layer_in_output_and_gradients() -> None:
    x, edge_index = digraph()
    torch.manual_seed(0)
    ours, theirs = DirGNN(5, 4, 3).eval(), PyGDirGNN(5, 4, 3).eval()
    with torch.no_grad():
        for conv, into, out_of, own in zip(theirs.convs, ours.into, ours.out_of, ours.own, strict=True):
            conv.conv_in.lin_l.load_state_dict(into.state_dict())
            conv.conv_out.lin_l.load_state_dict(out_of.state_dict())
            conv.lin.load_state_dict(own.state_dict())
        theirs.classifier.load_state_dict(ours.classifier.state_dict())
    outputs = ours(x, edge_index), theirs(x, edge_index)
    assert torch.allclose(*outputs, atol=1e-6)
    for output in outputs:
        output.square().sum().backward()
    assert torch.allclose(ours.into[0].weight.grad, theirs.convs[0].conv_in.lin_l.weight.grad, atol=1e-5)
    assert torch.allclose(ours.out_of[1].weight.grad, theirs.convs[1].conv_out.lin_l.weight.grad, atol=1e-5)


def test_dir_gnn_sees_directions() -> None:
    x, edge_index = digraph()
    torch.manual_seed(0)
    model = DirGNN(5, 4, 3).eval()
    assert torch.equal(model(x, edge_index), model(x, DirGNN.propagations(edge_index, len(x))))
    assert not torch.allclose(model(x, edge_index), model(x, edge_index.flip(0)), atol=1e-4)


def test_sign_classifies_the_powers_of_gcns_propagation() -> None:
    x, edge_index = digraph()
    torch.manual_seed(0)
    model = SIGN(5, 4, 3, K=2).eval()
    p = normalized_adjacency(edge_index, len(x)).to_dense()
    steps = [x, p @ x, p @ p @ x]
    h = torch.cat([torch.relu(linear(step)) for linear, step in zip(model.hops, steps, strict=True)], dim=1)
    assert torch.allclose(model(x, edge_index), model.classifier(h), atol=1e-6)
    assert torch.equal(model(x, edge_index), model(x, model.propagate(x, edge_index)))

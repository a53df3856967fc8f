"""Training: GraphSAGE's equation, and losses that do not depend on how features arrive."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from assay import ROOT
from assay.experiment import Run
from datasets.power_law import NUM_CLASSES, hashed_features
from methods.pytorch_direct import kernels, train_direct, train_staged
from methods.pytorch_direct.contenders import BASELINES, MAPPING, way_of
from methods.pytorch_direct.experiments import changed_lines
from methods.pytorch_direct.sampling import Batch, Layer, batches, graph_of
from methods.pytorch_direct.training import GraphSAGE, MeanConv, Rows, in_turn, prefetched, train
from methods.pytorch_direct.workloads import Interpreted, trainings

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NODES, WIDTH, CLASSES, STEPS = 120, 37, 4, 8


@pytest.fixture(scope="module")
def parts() -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    graph = graph_of(torch.randint(NODES, (2, 900), generator=generator), NODES)
    return list(batches(graph, torch.arange(NODES), NODES // STEPS, (3, 4), generator))


@pytest.fixture(scope="module")
def features() -> Tensor:
    return hashed_features(torch.arange(NODES), WIDTH)


def losses(way: Rows, parts: list[Batch], ahead: bool = False) -> Tensor:
    torch.manual_seed(0)
    model = GraphSAGE(WIDTH, CLASSES).to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    there = [part.to(DEVICE) for part in parts]
    rows = prefetched(way, there) if ahead else in_turn(way, there)
    return train(model, optimizer, there, rows, (torch.arange(NODES) % CLASSES).to(DEVICE)).cpu()


def test_a_layer_is_own_weights_plus_the_mean_of_the_neighbours() -> None:
    torch.manual_seed(0)
    conv, x = MeanConv(3, 2), torch.rand(4, 3)
    layer = Layer(torch.tensor([1, 3]), torch.tensor([0, 2, 3]), torch.tensor([0, 3]))
    got = conv(x, layer)
    mean = x[[0, 2, 3]].mean(dim=0)
    torch.testing.assert_close(got[0], conv.own.weight @ x[1] + conv.own.bias + conv.neighbor.weight @ mean)
    torch.testing.assert_close(got[1], conv.own.weight @ x[3] + conv.own.bias)  # no neighbours


def test_the_recipe_is_the_official_examples(parts: list[Batch], features: Tensor) -> None:
    """Two layers of width 16, ReLU and dropout 0.5 between them, mean cross-entropy, Adam with 0.003."""
    labels, torch_seed = torch.arange(NODES) % NUM_CLASSES, 4
    run = Run("training", "quick", seed=torch_seed)
    found = trainings(run, {"staged": way_of("staged", features, run.device)}, parts, labels)["staged"]
    torch.manual_seed(torch_seed)
    model = GraphSAGE(WIDTH, NUM_CLASSES, hidden_channels=16, num_layers=2).to(run.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    first, second = model.convs
    expected = []
    torch.manual_seed(0)
    for part in (part.to(run.device) for part in parts):
        hidden = torch.relu(first(features[part.nodes].to(run.device), part.layers[0]))
        logits = second(torch.dropout(hidden, 0.5, train=True), part.layers[1])
        loss = torch.nn.functional.cross_entropy(logits, labels[part.seeds].to(run.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    torch.manual_seed(0)
    assert found().tolist() == expected


@pytest.mark.parametrize("name", [*BASELINES, *MAPPING])
def test_losses_are_the_same_bits_whatever_the_path(name: str, parts: list[Batch], features: Tensor) -> None:
    staged = losses(way_of("staged", features, DEVICE), parts)
    assert torch.equal(losses(way_of(name, features, DEVICE), parts, ahead=name.endswith("_prefetched")), staged)
    assert len(staged) == STEPS
    assert bool(staged.isfinite().all())


@pytest.mark.skipif(kernels.triton is None, reason="Triton is not installed")
@pytest.mark.skipif(DEVICE.type == "cuda", reason="the compiled kernels are tested above")
@pytest.mark.parametrize("mapping", kernels.MAPPINGS)
def test_losses_are_the_same_bits_by_interpreted_kernels(mapping: str, parts: list[Batch], features: Tensor) -> None:
    assert torch.equal(losses(Interpreted(features, mapping), parts), losses(way_of("staged", features, DEVICE), parts))


def test_a_wrong_row_changes_the_losses(parts: list[Batch], features: Tensor) -> None:
    other = features.clone()
    other[parts[0].nodes[0]] += 1
    assert not torch.equal(
        losses(way_of("staged", other, DEVICE), parts), losses(way_of("staged", features, DEVICE), parts)
    )


def test_prefetched_rows_are_those_of_each_batch_in_turn(parts: list[Batch], features: Tensor) -> None:
    way = way_of("direct", features, DEVICE)
    for part, rows in zip(parts, prefetched(way, parts), strict=True):
        assert torch.equal(rows.cpu(), features[part.nodes])
    assert list(prefetched(way, [])) == []


def test_leaving_a_prefetched_epoch_early_leaves_nothing_running(parts: list[Batch], features: Tensor) -> None:
    iterator = prefetched(way_of("direct", features, DEVICE), parts)
    assert torch.equal(next(iterator).cpu(), features[parts[0].nodes])
    iterator.close()


def test_two_changed_lines_make_the_staged_script_direct() -> None:
    assert changed_lines(Path(train_staged.__file__), Path(train_direct.__file__)) == 2


def test_both_scripts_print_the_same_losses() -> None:
    call = "print([loss.hex() for loss in main(num_nodes=2_000, width=50, steps=4)])"
    printed = [
        subprocess.run(
            [sys.executable, "-c", f"from methods.pytorch_direct.{name} import main; {call}"],
            cwd=ROOT, text=True, capture_output=True, check=True,
        ).stdout
        for name in ("train_staged", "train_direct")
    ]  # fmt: skip
    assert printed[0] == printed[1]
    assert printed[0].count("0x") == 4

"""What is tracked over commits: one set-up and one call each."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from methods.neural_sheaf_diffusion.nsd import NSD, Maps
from methods.shared.sheaf import SheafIndex

NODES, EDGES, FEATURES, CLASSES = 1_000, 8_000, 64, 5
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _step(maps: Maps) -> Callable[[], object]:
    torch.manual_seed(0)
    index = SheafIndex(torch.randint(NODES, (2, EDGES)).to(DEVICE), NODES)
    x, y = torch.randn(NODES, FEATURES, device=DEVICE), torch.randint(CLASSES, (NODES,), device=DEVICE)
    model = NSD(FEATURES, 16, CLASSES, num_layers=2, stalk_dim=3, maps=maps).to(DEVICE).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x, index), y).backward()
        optimizer.step()

    return step


def diagonal_step() -> Callable[[], object]:
    return _step("diagonal")


def orthogonal_step() -> Callable[[], object]:
    return _step("orthogonal")


def general_step() -> Callable[[], object]:
    return _step("general")


def index_of_graph() -> Callable[[], object]:
    arcs = torch.randint(NODES, (2, EDGES), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    return lambda: SheafIndex(arcs, NODES).pattern(3, True, True)

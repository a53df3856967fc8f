"""Train GraphSAGE on features in host memory: `train_staged.py` and, with two lines changed, `train_direct.py`.

Staged, the CPU gathers the rows of a batch and a copy brings them to the device. Direct, the device reads them itself,
and `.to(device)` finds nothing left to do. Run one with `python -m methods.pytorch_direct.train_staged`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from datasets.power_law import NUM_CLASSES, hashed_features
from methods.pytorch_direct.pytorch_direct import UnifiedTensor
from methods.pytorch_direct.sampling import batches, graph_of
from methods.pytorch_direct.training import LEARNING_RATE, GraphSAGE
from methods.shared.graph import load_graph


def main(num_nodes: int = 20_000, width: int = 602, steps: int = 20, seed: int = 0) -> list[float]:
    """Train for some steps of 100 seeds each; returns the losses."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = load_graph("power_law", num_nodes=num_nodes)
    graph = graph_of(data.edge_index, num_nodes)
    features = UnifiedTensor(hashed_features(torch.arange(num_nodes), width))
    torch.manual_seed(seed)
    model = GraphSAGE(width, NUM_CLASSES).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for batch in batches(graph, torch.arange(100 * steps), 100, (5, 10), generator):
        batch = batch.to(device)
        x = features[batch.nodes].to(device)
        loss = F.cross_entropy(model(x, batch.layers), data.y[batch.seeds].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    for loss in main():
        print(loss)

"""GNNPipe: Scaling Deep GNN Training with Pipelined Model Parallelism (Chen, Chen, Qian; 2023).

Train on your own graph in four chunks that pass through two stages, here in one process:

    import torch
    from torch_geometric.data import Data
    from methods.gnnpipe import Model, fit, make_partition, make_task, pipeline

    once, mask = torch.randint(40, (2, 100)), torch.ones(40, dtype=torch.bool)
    edge_index = torch.cat([once, once.flip(0)], dim=1)
    masks = dict(train_mask=mask, val_mask=mask, test_mask=mask)
    task = make_task(Data(torch.rand(40, 6), edge_index, y=torch.arange(40) % 3, **masks), "gcn")
    partition = make_partition(task.adjacency, 1, 4, "metis")
    engine, blocks = pipeline(task, Model("gcn", num_layers=2, hidden_channels=8), 2, partition)
    losses = fit(engine, blocks, task, epochs=3, every=1).losses
"""

from methods.gnnpipe.gnnpipe import GNNPipe, Stage, Techniques
from methods.gnnpipe.partition import Grid, make_partition, make_shards
from methods.gnnpipe.training import Model, fit, make_task, pipeline, worker

__all__ = [
    "GNNPipe",
    "Grid",
    "Model",
    "Stage",
    "Techniques",
    "fit",
    "make_partition",
    "make_shards",
    "make_task",
    "pipeline",
    "worker",
]

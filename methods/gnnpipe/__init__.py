"""GNNPipe: Scaling Deep GNN Training with Pipelined Model Parallelism (Chen, Chen, Qian; 2023)."""

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

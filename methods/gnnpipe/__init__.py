"""GNNPipe: Scaling Deep GNN Training with Pipelined Model Parallelism (Chen, Chen, Qian; 2023)."""

from methods.gnnpipe.gnnpipe import GNNPipe, Stage, Techniques

__all__ = ["GNNPipe", "Stage", "Techniques"]

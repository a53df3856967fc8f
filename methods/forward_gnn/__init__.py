"""ForwardGNN: Forward Learning of Graph Neural Networks (Park et al.; ICLR 2024)."""

from methods.forward_gnn.forward_gnn import ForwardGNN
from methods.forward_gnn.link_prediction import LinkForwardGNN
from methods.forward_gnn.top_down import Top2Input, Top2Loss
from methods.forward_gnn.training import Protocol

__all__ = ["ForwardGNN", "LinkForwardGNN", "Protocol", "Top2Input", "Top2Loss"]

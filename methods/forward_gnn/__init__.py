"""ForwardGNN: Forward Learning of Graph Neural Networks (Park et al.; ICLR 2024).

Train on your own graph without backpropagation through layers, and predict a class for every node:

    import torch
    from torch_geometric.data import Data
    from methods.forward_gnn import ForwardGNN, Protocol

    edge_index = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 4, 4, 5], [1, 0, 2, 1, 3, 2, 4, 3, 5, 4]])
    train_mask, val_mask = torch.arange(6) < 4, torch.arange(6) >= 4
    data = Data(torch.rand(6, 8), edge_index, y=torch.arange(6) % 2, train_mask=train_mask, val_mask=val_mask)
    model = ForwardGNN(in_channels=8, hidden_channels=16, num_layers=2, num_classes=2)
    history = model.fit(data, Protocol(epochs=20))
    classes = model.predict(data)  # (6,)
"""

from methods.forward_gnn.forward_gnn import ForwardGNN
from methods.forward_gnn.link_prediction import LinkForwardGNN
from methods.forward_gnn.top_down import Top2Input, Top2Loss
from methods.forward_gnn.training import Protocol

__all__ = ["ForwardGNN", "LinkForwardGNN", "Protocol", "Top2Input", "Top2Loss"]

"""Sheaf Neural Networks for Graph-based Recommender Systems (Purificato, Cassara, Lio, Silvestri; 2023).

The two best new items for each user of your own data; users are the nodes 0 to 2, items the nodes 3 to 6:

    import torch
    from methods.sheaf_recsys import SheafRecommender

    edge_index = torch.tensor([[0, 0, 1, 1, 2, 3, 4, 4, 5, 6], [3, 4, 4, 5, 6, 0, 0, 1, 1, 2]])
    model = SheafRecommender(num_nodes=7, embedding_dim=16, num_layers=2)
    scores = model(edge_index, edge_index)  # (10,), of a pair of nodes each
    items = model.recommend(edge_index, src_index=torch.arange(3), dst_index=torch.arange(3, 7), k=2)
"""

from methods.sheaf_recsys.sheaf_recsys import SheafConv, SheafRecommender

__all__ = ["SheafConv", "SheafRecommender"]

"""AMUD and ADPA: Breaking the Entanglement of Homophily and Heterophily (Sun et al.; ICDE 2024).

Whether your own digraph should keep its directions, and logits for its vertices:

    import torch
    from methods.adpa import ADPA, amud_score

    x, edge_index = torch.rand(6, 4), torch.tensor([[0, 1, 2, 3, 4, 5, 0], [1, 2, 3, 4, 5, 0, 3]])
    y = torch.tensor([0, 1, 0, 1, 0, 1])
    score = amud_score(edge_index, y)  # above 0.5: keep them
    model = ADPA(in_channels=4, hidden_channels=8, out_channels=2, K=2)
    logits = model(x, edge_index)  # (6, 2)
"""

from methods.adpa.adpa import ADPA
from methods.adpa.amud import AMUDReport, amud, amud_score

__all__ = ["ADPA", "AMUDReport", "amud", "amud_score"]

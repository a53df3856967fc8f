"""PRES: Toward Scalable Memory-Based Dynamic Graph Neural Networks (Su, Zou, Wu; ICLR 2024).

A TGN with PRES attached, trained on your own stream in large temporal batches and scored on the last 15 % of it:

    import torch
    from datasets.temporal import EventStream
    from methods.pres import PRES, TGN, fit, make_task, test

    ends, t, features = torch.randint(20, (2, 400)), torch.arange(400.0).double(), torch.rand(400, 3)
    task = make_task(EventStream(ends[0], ends[1], t, features, num_nodes=20))
    model = TGN(20, edge_dim=3, dim=16, correction=PRES(20, dim=16, time_unit=task.time_unit))
    history = fit(model, task, epochs=2, batch_size=100, seed=0)
    ap = test(model, task).random.ap
"""

from methods.pres.baselines import APAN, JODIE, TGN
from methods.pres.pres import PRES
from methods.pres.training import fit, make_task, test

__all__ = ["APAN", "JODIE", "PRES", "TGN", "fit", "make_task", "test"]

"""SEMBA: Representation Learning in Continuous-Time Dynamic Signed Networks (Sharma et al., CIKM 2023).

Train on your own stream of signed events and score what comes last. `make_task` takes a torch-geometric TemporalData
whose msg (E, 1) is the signed weight:

    import torch
    from torch_geometric.data import TemporalData
    from methods.semba import SEMBA, fit, make_task, test

    ends, sign = torch.randint(20, (2, 400)), 1.0 - 2.0 * (torch.rand(400, 1) < 0.3)
    task = make_task(TemporalData(src=ends[0], dst=ends[1], t=torch.arange(400), msg=sign))
    model = SEMBA(task.stream.num_nodes, 16)
    history = fit(model, task, "sign_class", epochs=2, batch_size=100, lr=0.01, seed=0)
    logits = test(model, task, "sign_class", batch_size=100).logits  # (E, 1), of the last 15 % of the events
"""

from methods.semba.baselines import TGN
from methods.semba.semba import SEMBA
from methods.semba.tasks import make_task
from methods.semba.training import fit, test

__all__ = ["SEMBA", "TGN", "fit", "make_task", "test"]

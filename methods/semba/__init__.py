"""SEMBA: Representation Learning in Continuous-Time Dynamic Signed Networks (Sharma et al., CIKM 2023).

task = make_task(data)  # an EventStream, or a torch-geometric TemporalData whose msg (E, 1) is the signed weight
model = SEMBA(task.stream.num_nodes)
fit(model, task, "sign_class", epochs=10, batch_size=1_000, lr=0.01, seed=0)
answers = test(model, task, "sign_class", batch_size=1_000)
"""

from methods.semba.baselines import TGN
from methods.semba.semba import SEMBA
from methods.semba.tasks import make_task
from methods.semba.training import fit, test

__all__ = ["SEMBA", "TGN", "fit", "make_task", "test"]

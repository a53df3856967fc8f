"""A data set, a host and a recipe, with every contender trained on them once."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

import datasets
from assay.experiment import MethodRows, Run, seed_everything
from methods.maestro.contenders import CONTENDERS, Plan, Task, train
from methods.maestro.deployment import deploy, greedy_ranks
from methods.maestro.layers import ranks_of
from methods.maestro.training import Images, Trained, accuracy, mean_loss
from methods.shared.accounting import counted, parameter_count
from methods.shared.batchnorm import recalibrate_batch_norm
from methods.shared.hosts import HOSTS

Ranks = dict[str, int]
VALIDATION = 2_000  # images at most; 198 of the digits
GREEDY_IMAGES = 500  # of them for each trial cut
# Maestro at full rank without a lasso is tuned as `maestro_chosen`, with a lasso at Pufferfish's size as `maestro`.
TUNED_AS = {"separate": "plain_factorised", "maestro": "maestro_chosen"}


class Study:
    """One data set and the net that is trained on it.

    Attributes:
        train, val, test: images; those for validation follow the first `train_size` of the training part.
    """

    def __init__(self, run: Run, host: str, train_size: int) -> None:
        self.run, self.host, self.train_size = run, host, train_size
        found = datasets.load(run.dataset)
        val = slice(train_size, train_size + VALIDATION)
        mean, deviation = found.train_x[:train_size].mean(), found.train_x[:train_size].std()
        self.train, self.val, self.test = (
            Images(((x - mean) / deviation).to(run.device), y.to(run.device))
            for x, y in (
                (found.train_x[:train_size], found.train_y[:train_size]),
                (found.train_x[val], found.train_y[val]),
                (found.test_x, found.test_y),
            )
        )

    def dense(self) -> nn.Module:
        """An untrained host; the same for every contender of a replicate."""
        seed_everything(self.run.seed)
        return HOSTS[self.host]().to(self.run.device)

    def trained(self, name: str, plan: Plan | None = None, **changes: float) -> Trained:
        """A contender after its training, from the cache where another experiment has trained it.

        Args:
            plan: in place of `self.plan`.
            changes: fields of the plan with other values.
        """
        plan = replace(plan or self.plan(TUNED_AS.get(name, name)), **changes)

        def build() -> dict[str, object]:
            result = train(name, Task(self.dense(), self.train), plan)
            return {"state": result.model.state_dict(), "macs": result.macs, "ranks": result.ranks}

        kept = self.run.cached(f"{name} {self.host} {self.train_size} {plan}", build)
        model = CONTENDERS[name].build(self.dense(), plan)
        model.load_state_dict(kept["state"])
        return Trained(model, kept["macs"], kept["ranks"])

    def plan(self, name: str) -> Plan:
        """The host's, for LeNet with what tuning has found for a contender."""
        plan = CONTENDERS[name].recipe_on(self.host)
        return replace(plan, **self.run.tuned(name)) if self.host == "lenet" else plan

    def record(self, m: MethodRows, model: nn.Module, ranks: Ranks | None = None, prefix: str = "") -> None:
        """Test accuracy, parameters and MACs of an example, of the deployed net."""
        net = self._deployed(model, ranks)
        m.record(f"{prefix}accuracy", accuracy(net, self.test), unit="%")
        m.record(f"{prefix}parameters", parameter_count(net), evidence="counted")
        m.record(f"{prefix}macs", counted(net, self.test.x[:1]).macs, evidence="counted")

    def val_accuracy(self, model: nn.Module, ranks: Ranks | None = None) -> float:
        return accuracy(self._deployed(model, ranks), self.val)

    def _deployed(self, model: nn.Module, ranks: Ranks | None) -> nn.Module:
        net = deploy(model, ranks)
        recalibrate_batch_norm(net, self.train.x.split(500))
        return net

    def fitted(self, model: nn.Module, budgets: list[float]) -> dict[float, Ranks]:
        """Budget, a number of parameters -> the first ranks of the greedy path that keep to it.

        The path is that of the loss on a part of the validation images.

        Raises:
            ValueError: a budget below that of a net of ranks 1.
        """
        some = Images(self.val.x[:GREEDY_IMAGES], self.val.y[:GREEDY_IMAGES])
        path = greedy_ranks(model, lambda: mean_loss(model, some), counted(model, some.x[:1]).positions)
        found, ranks = {}, ranks_of(model)
        for budget in sorted(budgets, reverse=True):
            while parameter_count(deploy(model, ranks)) > budget:
                step = next(path, None)
                if step is None:
                    raise ValueError(f"footprint: no ranks of this net keep to {budget:.0f} parameters")
                ranks = step
            found[budget] = ranks
        return found

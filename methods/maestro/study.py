"""A data set, a host and a recipe, with every contender trained on them once."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

import datasets
from assay.experiment import MethodRows, Run, seed_everything
from methods.maestro.accounting import counted, parameter_count
from methods.maestro.baselines import pufferfish_form, train_dense, train_factorised, train_pufferfish
from methods.maestro.deployment import deploy, greedy_ranks, recalibrate_batch_norm
from methods.maestro.layers import decompose, ranks_of
from methods.maestro.models import HOSTS
from methods.maestro.training import Images, Recipe, Trained, accuracy, mean_loss, train_maestro

Ranks = dict[str, int]
VALIDATION = 2_000  # images at most; 198 of the digits
GREEDY_IMAGES = 500  # of them for each trial cut
TRAIN = {
    "dense": train_dense, "plain_factorised": train_factorised, "separate": train_factorised,
    "pufferfish": train_pufferfish, "maestro": train_maestro, "maestro_full_pass": train_maestro,
}  # fmt: skip
# Maestro at full rank without a lasso is tuned as `maestro_chosen`, with a lasso at Pufferfish's size as `maestro`.
SAME_KNOBS = {"separate": "plain_factorised", "maestro": "maestro_chosen"}
# The paper's for ResNet18. The learning rates of LeNet are tuned, that of the perceptron is one for all.
RECIPES = {
    "mlp": Recipe(lr=0.02, epochs=10, batch_size=32),
    "lenet": Recipe(lr=0.01, epochs=6, batch_size=64),
    "resnet18": Recipe(lr=0.1, epochs=30, weight_decay=1e-4, decay=True),
}
PUFFERFISH_WARMUP = {"mlp": 3, "resnet18": 10}  # epochs; LeNet's is tuned


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

    def trained(self, name: str, knobs: dict[str, float] | None = None, **options: float) -> Trained:
        """A contender after its training, from the cache where another experiment has trained it.

        Args:
            knobs: in place of `self.knobs`.
            options: `lambda_gl` of Maestro, `share` of `separate`.
        """
        knobs = self.knobs(SAME_KNOBS.get(name, name)) if knobs is None else knobs
        if name == "pufferfish":
            options["warmup"] = int(knobs["warmup"])
        elif name == "maestro":
            options.setdefault("lambda_gl", 0.0)  # one key, and one training, whether it is named or not
        elif name == "maestro_full_pass":
            options["full_pass"] = True
        recipe = replace(RECIPES[self.host], lr=knobs["lr"])

        def build() -> dict[str, object]:
            result = TRAIN[name](self.dense(), self.train, recipe, **options)  # type: ignore[operator]
            return {"state": result.model.state_dict(), "macs": result.macs, "ranks": result.ranks}

        key = f"{name} {self.host} {self.train_size} {recipe} {sorted(options.items())}"
        kept = self.run.cached(key, build)
        model = self._form(name, options.get("share", 1.0))
        model.load_state_dict(kept["state"])
        return Trained(model, kept["macs"], kept["ranks"])

    def knobs(self, name: str) -> dict[str, float]:
        """Learning rate, and Pufferfish's warm-up and the lasso at a given footprint where they are a method's."""
        if self.host == "lenet":
            return self.run.tuned(name)
        return {"lr": RECIPES[self.host].lr, "warmup": PUFFERFISH_WARMUP[self.host], "lambda_gl": 0.0}

    def _form(self, name: str, share: float) -> nn.Module:
        dense = self.dense()
        if name == "dense":
            return dense
        return pufferfish_form(dense) if name == "pufferfish" else decompose(dense, share=share)

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

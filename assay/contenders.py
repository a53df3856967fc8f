"""Contenders are data: what builds one, its recipe, what is searched for it, and the budget that this may take.

    CONTENDERS = {
        "gcn": Contender(gcn, recipe=Recipe(depth=2, dropout=0.5), space=dict(weight_decay=[5e-4, 5e-3])),
        "mlp": Contender(mlp, recipe={"cora": Recipe(depth=2, dropout=0.5), "pubmed": Recipe(depth=3, dropout=0.2)}),
    }
    model = CONTENDERS["gcn"].build(task, CONTENDERS["gcn"].recipe_on("cora"))

Whether all get the same is then counted (`spent`) and shown beside the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from assay.experiment import MethodRows

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Contender:
    """One method of a paper, ready to be built.

    Attributes:
        build: makes it, freshly initialised: `build(task, recipe)`. What a task is belongs to the paper.
        recipe: its hyper-parameters, a dataclass; or one for each data set, by name, `""` for all others.
        space: fields of the recipe -> the values that a search may give them.
        trials: how many settings of the space are tried, drawn at random; None tries all of them.
        less: why it is given fewer trials or steps than the method that it is compared with, where it is.
    """

    build: Callable[..., Any]
    recipe: Any = None
    space: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    trials: int | None = None
    less: str = ""

    def recipe_on(self, dataset: str | None) -> Any:
        """The recipe on a data set. Raises ValueError where none is known for it."""
        if not isinstance(self.recipe, Mapping):
            return self.recipe
        found = self.recipe.get(str(dataset), self.recipe.get(""))
        if found is None:
            raise ValueError(f"no recipe on data set {dataset!r}; there is one on {', '.join(self.recipe)}")
        return found


def parameters_of(model: nn.Module) -> int:
    """Parameters that are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def spent(m: MethodRows, model: nn.Module, *, steps: int, trials: int = 1) -> None:
    """Record beside a score what it took: rows `parameters`, `steps` (of each trial) and `trials`, all counted."""
    for metric, value in (("parameters", parameters_of(model)), ("steps", steps), ("trials", trials)):
        m.record(metric, value, evidence="counted")

"""A contender's recipe is found by the data set, and what it took stands in counted rows."""

from __future__ import annotations

import pytest
from torch import nn

from assay.contenders import Contender, spent
from assay.experiment import Run


def test_a_recipe_is_that_of_the_data_set_or_the_one_for_all_others() -> None:
    one, many = Contender(nn.Linear, recipe="same"), Contender(nn.Linear, recipe={"cora": "own", "": "usual"})
    assert [one.recipe_on("cora"), one.recipe_on(None), many.recipe_on("cora"), many.recipe_on("pubmed")] == [
        "same", "same", "own", "usual",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no recipe on data set 'pubmed'; there is one on cora"):
        Contender(nn.Linear, recipe={"cora": "own"}).recipe_on("pubmed")


def test_what_was_spent_is_counted_without_what_is_frozen() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    model[1].requires_grad_(False)
    run = Run("fit", "quick", 0)
    with run.method("net", depth=2) as m:
        spent(m, model, steps=7, trials=3)
    rows = {row.metric: (row.value, row.evidence, row.setting) for row in run.rows if row.metric != "wall_s"}
    at = {"depth": 2}
    assert rows == {"parameters": (8, "counted", at), "steps": (7, "counted", at), "trials": (3, "counted", at)}

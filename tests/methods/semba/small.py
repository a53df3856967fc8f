"""Every experiment of SEMBA made small, and its test events."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from methods.semba import experiments
from methods.semba.contenders import Recipe
from methods.semba.experiments import ABLATIONS, COMPARED
from tests.methods.blindness import other_test_events

SIZE: dict[str, Any] = dict(events=400, batch_size=100, width=8, epochs=2)
SMALL: dict[str, dict[str, Any]] = {
    "sign_class": SIZE | dict(dataset="movielens_100k", methods=COMPARED, extra={"movielens_100k": ABLATIONS}),
    "link_pred": SIZE | dict(dataset="movielens_100k", methods=["semba", "tgn", "semba_leak", "semba_released"]),
    "other_tasks": SIZE | dict(dataset="movielens_100k"),
    "factions": SIZE,
}
RACE = dict(dataset="movielens_100k", batch_size=50, warm=100, length=100, pairs=1)
UNTRAINED = {"throughput_peer": RACE}
WITHOUT = {"throughput_peer": "times"}
TEST_METRICS = {"auc", "auc_transductive", "auc_inductive", "negative_f1", "auc_matched", "macro_f1", "rmse", "pearson"}
_RECIPE = Recipe(width=8, neighbors=2, epochs=1, batch_size=100)
RECIPES = {"semba": _RECIPE, "tgn": _RECIPE}
FIXED = {
    "width": "has to be a multiple of eight",
    "plateau": "waits for six epochs; see test_the_released_rate_is_halved_while_the_validation_loss_falls",
}
FREE = ("seed",)


def test_data_permuted() -> AbstractContextManager[None]:
    return other_test_events(experiments)

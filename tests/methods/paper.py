"""A paper as `test_every_paper.py` sees it: its experiments made small, and its test data permuted.

`tests/methods/<slug>/small.py` may hold any of

    SMALL               experiment that chooses something -> `dataset` and parameters that make it small
    UNTRAINED           the same for the others
    WITHOUT             experiment -> why it has nothing to be blind to
    TEST_METRICS        the metrics that are computed from the test data
    SEALED              experiments of SMALL that end before the test begins: not one of their rows may change
    ELSEWHERE           experiments that need what a test has not (a GPU)
    made_small()        a context in which recipes are short and no file is needed
    test_data_permuted()   a context in which the test's labels, targets or later events are permuted
    RECIPES             contender -> recipe by which `contenders.train` trains on `contenders.example()`
    FIXED               field of a recipe -> why it does not change that fit
    FREE                arguments of the docstring's lines for which every value is a good one (a seed)

Where there is none, an experiment is run with the smallest numbers of its smallest profile, on the data of that
profile, and test labels are permuted where data sets are loaded.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import Tensor, nn

import assay
import datasets
from assay.card import load_card
from assay.experiment import Experiment, seed_everything
from tests.methods.blindness import experiments

EVERY = sorted(path.parent.name for path in (assay.ROOT / "methods").glob("*/paper.yaml"))
LENGTHS = ("epochs", "steps", "rounds", "pairs", "trials", "patience", "repeats", "warmup")
SMALLEST = 2


class Paper:
    """See above."""

    def __init__(self, slug: str) -> None:
        found = importlib.util.find_spec(f"tests.methods.{slug}.small")
        support: Any = importlib.import_module(f"tests.methods.{slug}.small") if found else SimpleNamespace()
        self.untrained: Mapping[str, dict[str, Any]] = getattr(support, "UNTRAINED", {})
        self.without: Mapping[str, str] = getattr(support, "WITHOUT", {})
        self.elsewhere = getattr(support, "ELSEWHERE", ())
        self.sealed = getattr(support, "SEALED", ())
        self.small: Mapping[str, dict[str, Any]] = {
            name: smallest(slug, found)
            for name, found in experiments(slug).items()
            if name not in self.untrained and name not in self.elsewhere
        } | getattr(support, "SMALL", {})
        self.test_metrics = getattr(support, "TEST_METRICS", {"accuracy"})
        self.made_small: Callable[[], AbstractContextManager[None]] = getattr(support, "made_small", nullcontext)
        self.test_data_permuted: Callable[[], AbstractContextManager[None]] = getattr(
            support, "test_data_permuted", test_data_permuted
        )
        self.fixed: Mapping[str, str] = getattr(support, "FIXED", {})
        self.free = getattr(support, "FREE", ())
        self._support = support
        self.slug = slug

    @staticmethod
    def card_path(slug: str) -> Path:
        return assay.ROOT / "methods" / slug / "paper.yaml"

    def recipes(self) -> dict[str, Any]:
        """Contender -> recipe, of those that `contenders.train` can train on `contenders.example()`."""
        return getattr(self._support, "RECIPES", {})

    def fitted(self, name: str, recipe: Any, seed: int = 0) -> list[float]:
        """All numbers of what training gives."""
        seed_everything(seed)
        contenders = importlib.import_module(f"methods.{self.slug}.contenders")
        train, example = contenders.train, contenders.example()
        own = {"seed": seed} if "seed" in inspect.signature(train).parameters else {}
        return numbers_of(train(name, example, recipe, **own))


def smallest(slug: str, found: Experiment) -> dict[str, Any]:
    """The parameters of the smallest profile, with the shortest lengths and two of each list."""
    profile = next(profile for profile in ("quick", "standard", "gpu") if profile in found.profiles)
    of_card = getattr(load_card(Paper.card_path(slug)).datasets, profile)
    small = {name: _short(name, value) for name, value in found.parameters(profile).items()}
    return {"dataset": found.datasets(profile, of_card)[0], **small}


def _short(name: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return value[:SMALLEST]
    if isinstance(value, dict):
        return {key: _short(name, part) for key, part in value.items()}
    long = isinstance(value, int) and not isinstance(value, bool) and any(word in name for word in LENGTHS)
    return min(value, SMALLEST) if long else value


@contextmanager
def test_data_permuted() -> Iterator[None]:
    """Labels of a graph's test vertices, test images and their classes, whatever a data set has of these."""
    load = datasets.load

    def others(name: str, **options: Any) -> Any:
        data = load(name, **options)
        if getattr(data, "test_mask", None) is not None:
            data = data.clone()
            test = data.test_mask if data.test_mask.dim() == 1 else data.test_mask.all(dim=1)
            nodes = test.nonzero().squeeze(1)
            data.y[nodes] = data.y[nodes.roll(1)]
        elif hasattr(data, "test_x"):
            data = data._replace(test_x=data.test_x.flip(2), test_y=data.test_y.roll(1))
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", others)
        yield


def numbers_of(result: Any) -> list[float]:
    """Every number in tensors, modules, dataclasses and containers, in order."""
    if isinstance(result, Tensor):
        return [] if result.is_sparse else result.detach().double().flatten().tolist()
    if isinstance(result, nn.Module):
        return [number for tensor in result.state_dict().values() for number in numbers_of(tensor)]
    if isinstance(result, bool | int | float):
        return [float(result)]
    if is_dataclass(result):
        return [number for field in fields(result) for number in numbers_of(getattr(result, field.name))]
    if isinstance(result, Mapping):
        result = list(result.values())
    return [number for part in result for number in numbers_of(part)] if isinstance(result, list | tuple) else []

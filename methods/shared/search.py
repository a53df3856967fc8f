"""Search of hyper-parameters with a counted budget, by validation only.

    found = search(lambda s: fit(build(**s), data), grid(lr=[1e-3, 1e-2]), by=lambda fitted: fitted.val_accuracy)
    found.best.settings, found.best.result, found.trials

An experiment never chooses by hand, so that none can choose on test data, and how much each contender was given is
counted where it is spent.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from assay.contenders import Contender

Settings = dict[str, Any]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Trial(Generic[Result]):
    """One setting, its validation score (higher is better; -inf where it diverged), and what its run gave."""

    settings: Settings
    score: float
    result: Result | None


@dataclass(frozen=True)
class Search(Generic[Result]):
    """All trials, in the order in which they were run. The first of equal ones is the best."""

    tried: list[Trial[Result]]

    @property
    def trials(self) -> int:
        """The budget that was spent."""
        return len(self.tried)

    @property
    def best(self) -> Trial[Result]:
        return max(self.tried, key=lambda trial: trial.score)


def grid(**space: Sequence[Any]) -> list[Settings]:
    """Every combination, the last knob fastest. Raises ValueError where a knob has no value."""
    empty = [knob for knob, values in space.items() if not len(values)]
    if empty:
        raise ValueError(f"grid: knob {empty[0]!r} has no value to try")
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]


def sample(space: Mapping[str, Sequence[Any]], trials: int, seed: int | str) -> list[Settings]:
    """So many settings of a grid at random, no two alike; all of them where the grid has no more.

    Raises:
        ValueError: trials below 1, or a knob without a value.
    """
    if trials < 1:
        raise ValueError(f"sample: trials must be at least 1; got {trials}")
    every = grid(**space)
    return random.Random(seed).sample(every, min(trials, len(every)))


def search(
    run: Callable[[Settings], Result],
    settings: Iterable[Settings],
    by: Callable[[Result], float],
    *,
    lower: bool = False,
) -> Search[Result]:
    """Run every setting; a trial that diverges counts as the worst, and no other is drawn in its place.

    Args:
        run: trains one setting. A FloatingPointError that it raises is a trial that has diverged.
        settings: what is tried, in order.
        by: the validation score of what `run` returned.
        lower: whether a lower score is the better one; scores are then kept with their sign turned.

    Raises:
        ValueError: nothing to try.
        FloatingPointError: no trial has a finite score.
    """
    tried: list[Trial[Result]] = []
    for setting in settings:
        try:
            result = run(setting)
        except FloatingPointError:
            tried.append(Trial(setting, -math.inf, None))
            continue
        score = -float(by(result)) if lower else float(by(result))
        tried.append(Trial(setting, score if math.isfinite(score) else -math.inf, result))
    if not tried:
        raise ValueError("search: no setting to try")
    if all(trial.score == -math.inf for trial in tried):
        raise FloatingPointError(f"search: none of {len(tried)} trials gave a finite validation score")
    return Search(tried)


def search_space(
    contender: Contender, train: Callable[[Any], Result], recipe: Any, by: Callable[[Result], float]
) -> Search[Result]:
    """Train a contender's recipe with each setting of its space in place of its own.

    Args:
        contender: its `space` is tried whole, or `trials` settings of it, drawn at random, the same in every call.
        train: a recipe -> what its training gave.
        recipe: what is changed, by `dataclasses.replace`.
        by: the validation score of a training; higher is better.
    """
    settings = grid(**contender.space) if contender.trials is None else sample(contender.space, contender.trials, 0)
    return search(lambda changes: train(replace(recipe, **changes)), settings, by)

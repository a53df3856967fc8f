"""Fair tuning: every method gets the same number of trials, judged by validation only.

The paper's `contenders.py` gives each method its search space (`CONTENDERS[name].space`), its `experiments.py` the
score of one trial,

    def validation_score(method: str, hyperparameters: dict, seed: int) -> float     # higher is better

and the outcome is committed as `methods/<slug>/tuned.json` with the budget that was spent.
"""

from __future__ import annotations

import importlib
import itertools
import json
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.card import Card, Scalar
from assay.errors import AssayError
from assay.experiment import seed_everything
from assay.processes import set_threads
from assay.provenance import git
from assay.record import write_atomically
from assay.terminal import steps

FIRST_SEED = 1000  # replicates use 0..n-1: no seed is ever both tuned on and reported

Score = Callable[[str, dict[str, Scalar], int], float]


def tune(root: Path, card: Card, trials: int) -> Path:
    """Try as many settings of each method, drawn at random from its space; returns the path of `tuned.json`.

    Raises:
        AssayError: where no contender of the paper has a search space, or the paper no `validation_score`.
    """
    spaces = _spaces(card.slug)
    module = importlib.import_module(f"methods.{card.slug}.experiments")
    score: Score | None = getattr(module, "validation_score", None)
    if score is None:
        raise AssayError(f"{module.__file__}: has no function validation_score(method, hyperparameters, seed)")
    set_threads(1)  # as experiments run unless they say otherwise
    drawn = {method: _draw(method, space, trials) for method, space in spaces.items()}
    with steps(f"{card.slug} tune", sum(map(len, drawn.values()))) as advance:
        best = {method: _search(score, method, settings, advance) for method, settings in drawn.items()}
    path = root / "methods" / card.slug / "tuned.json"
    found = {"trials": trials, "first_seed": FIRST_SEED, "commit": git(root, "rev-parse", "HEAD"), "methods": best}
    write_atomically(path, json.dumps(found, indent=1, allow_nan=False) + "\n")
    return path


def _spaces(slug: str) -> dict[str, Mapping[str, Sequence[Scalar]]]:
    """Method -> knob -> values, of the contenders that have a search space."""
    place = f"methods.{slug}.contenders"
    try:
        contenders = importlib.import_module(place).CONTENDERS
    except (ModuleNotFoundError, AttributeError) as error:
        raise AssayError(f"{place}: gives no CONTENDERS: {error}; `assay tune` searches the space of each") from error
    spaces = {name: contender.space for name, contender in contenders.items() if contender.space}
    if not spaces:
        raise AssayError(f"{place}: no contender has a `space`; give each method its knobs and their values")
    return spaces


def _draw(method: str, space: Mapping[str, Sequence[Scalar]], trials: int) -> list[dict[str, Scalar]]:
    """Settings at random, no two alike; all of them where the space has no more."""
    every = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
    return random.Random(method).sample(every, min(trials, len(every)))


def _search(score: Score, method: str, drawn: list[dict[str, Scalar]], advance: Callable[[], None]) -> dict[str, Any]:
    """The best setting. One that diverges scores worst; no other is drawn in its place."""
    start, best_score, best = time.perf_counter(), -math.inf, None
    for seed, hyperparameters in enumerate(drawn, FIRST_SEED):
        seed_everything(seed)
        value = score(method, hyperparameters, seed)
        if math.isfinite(value) and value > best_score:
            best_score, best = value, hyperparameters
        advance()
    if best is None:
        raise AssayError(
            f"method {method}: none of {len(drawn)} trials gave a finite validation score; widen its `space`"
        )
    seconds = round(time.perf_counter() - start, 1)
    return {"hyperparameters": best, "score": best_score, "trials": len(drawn), "seconds": seconds}


def load_tuned(folder: Path, method: str) -> dict[str, Any]:
    """Hyperparameters of a method from the paper's committed `tuned.json`."""
    path = folder / "tuned.json"
    try:
        return dict(json.loads(path.read_text())["methods"][method]["hyperparameters"])
    except (OSError, ValueError, KeyError) as error:
        raise AssayError(f"{path}: no tuned hyperparameters of '{method}': {error}; run `assay tune`") from error

"""Fair tuning: every method gets the same number of trials, judged by validation only.

The card gives each method its search space; the paper's `experiments.py` gives the score of one trial,

    def validation_score(method: str, hyperparameters: dict, seed: int) -> float     # higher is better

and the outcome is committed as `methods/<slug>/tuned.json` with the budget that was spent.
"""

from __future__ import annotations

import importlib
import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from assay.card import Card, Scalar
from assay.errors import AssayError
from assay.experiment import seed_everything
from assay.provenance import git
from assay.record import write_atomically
from assay.terminal import steps

FIRST_SEED = 1000  # replicates use 0..n-1: no seed is ever both tuned on and reported

Score = Callable[[str, dict[str, Scalar], int], float]


def tune(root: Path, card: Card, trials: int) -> Path:
    """Search each method's space at random; returns the path of `tuned.json`.

    Raises:
        AssayError: where the card has no `search`, or the paper no `validation_score`.
    """
    if not card.search:
        raise AssayError(f"{card.path}: has no 'search'; give each method its knobs and their values")
    module = importlib.import_module(f"methods.{card.slug}.experiments")
    score: Score | None = getattr(module, "validation_score", None)
    if score is None:
        raise AssayError(f"{module.__file__}: has no function validation_score(method, hyperparameters, seed)")
    torch.set_num_threads(1)  # as experiments run unless they say otherwise
    with steps(f"{card.slug} tune", trials * len(card.search)) as advance:
        best = {method: _search(score, method, space, trials, advance) for method, space in card.search.items()}
    path = root / "methods" / card.slug / "tuned.json"
    found = {"trials": trials, "first_seed": FIRST_SEED, "commit": git(root, "rev-parse", "HEAD"), "methods": best}
    write_atomically(path, json.dumps(found, indent=1, allow_nan=False) + "\n")
    return path


def _search(score: Score, method: str, space: dict[str, tuple[Scalar, ...]], trials: int,
            advance: Callable[[], None]) -> dict[str, Any]:  # fmt: skip
    """The best of `trials` random draws. A trial that diverges scores worst; it is not drawn again."""
    start, best_score, best = time.perf_counter(), -math.inf, None
    for seed in range(FIRST_SEED, FIRST_SEED + trials):
        draw = random.Random(f"{method} {seed}")
        hyperparameters = {knob: draw.choice(values) for knob, values in space.items()}
        seed_everything(seed)
        value = score(method, hyperparameters, seed)
        if math.isfinite(value) and value > best_score:
            best_score, best = value, hyperparameters
        advance()
    if best is None:
        raise AssayError(f"method {method}: none of {trials} trials gave a finite validation score; widen its 'search'")
    return {"hyperparameters": best, "score": best_score, "seconds": round(time.perf_counter() - start, 1)}


def load_tuned(folder: Path, method: str) -> dict[str, Any]:
    """Hyperparameters of a method from the paper's committed `tuned.json`."""
    path = folder / "tuned.json"
    try:
        return dict(json.loads(path.read_text())["methods"][method]["hyperparameters"])
    except (OSError, ValueError, KeyError) as error:
        raise AssayError(f"{path}: no tuned hyperparameters of '{method}': {error}; run `assay tune`") from error

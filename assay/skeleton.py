"""`assay new <slug>`: a paper's folder and its test file, which pass as they are and are then replaced part by part."""

from __future__ import annotations

import datetime
import keyword
from importlib.util import find_spec
from pathlib import Path
from string import Template

from assay.card import SLUG
from assay.errors import AssayError
from assay.record import write_atomically

YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"}
GRAMMAR = {"log", "value", "rank", "method"}  # of expressions, slopes and figures
TAKEN = {"shared", "baselines", "contenders", "experiments", "hotpaths", "constant", "tensor", "run", "callable"}

CARD = """\
title: "$name: the paper's title"
authors: First Author, Second Author
venue: Conference 2020
topic: other
data: points on a line
headline: [error-is-cut]
idea: >
  What the paper does, in a few lines that a reader from another field can follow.
setting_of_paper: Data sets, widths, hardware and budgets of the paper.
setting_of_ours:
  quick: A line through noisy points, 3 seeds.
methods: {$slug: proposed, constant: baseline}
datasets: {}
experiments:
  fit: {metrics: {mse: ""}, replicate: 3 seeds changing data}
claims:
  error-is-cut:
    says: The proposed method at least halves the squared error of the baseline.
    test: constant / $slug >= 2, mean noise, from fit
    why: the paper reports a cut by half
    reported: 2 x; Table 1, from memory
figures:
  - {title: Error against noise, experiment: fit, x: noise, y: mse, log_y: true}
"""

METHOD = '''\
"""$name: the paper's idea in a few lines, with the equations that this file implements.

Eq. 1: y = w x + b
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class $name(nn.Module):
    """A line through points: title of the paper (venue, arXiv), Eq. 1.

    Shapes:
        x: (N,), no unit.
        returns: (N,), in the unit of y.

    Raises:
        ValueError: x of another shape.
    """

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 1 or not len(x):
            raise ValueError(f"x has shape {tuple(x.shape)}; it is (N,), N at least 1")
        if not x.dtype.is_floating_point or not x.isfinite().all():
            raise ValueError("x holds something else than finite floating-point numbers")
        return self.line(x[:, None].to(self.line.weight.dtype))[:, 0]


def main() -> None:
    """Fit a noisy line and print how it goes."""
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 64)
    y = 2 * x + 0.1 * torch.randn(64)
    model = $name()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for step in range(1, 101):
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 25 == 0:
            print(f"step {step:3}  squared error {loss:.4f}  slope {model.line.weight.item():.3f} (true: 2)")
'''

BASELINES = '''\
"""What $name is compared with."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Constant(nn.Module):
    """Predicts one number whatever x is. x: (N,); returns: (N,)."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.level.expand_as(x)
'''

CONTENDERS = '''\
"""The contenders of $name's experiments: who is compared, by which recipe, on which task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from assay.contenders import Contender
from methods.$slug.baselines import Constant
from methods.$slug.$slug import $name


@dataclass(frozen=True)
class Recipe:
    """How a contender is trained: Adam's rate, and steps on all points at once."""

    lr: float = 0.1
    steps: int = 100


CONTENDERS = {
    "$slug": Contender(lambda task, recipe: $name(), Recipe()),
    "constant": Contender(lambda task, recipe: Constant(), Recipe()),
}


class Task(NamedTuple):
    """Points of a line, of which those to test are seen by no training. Shapes: (64,) to train, (64,) to test."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


def make_task(noise: float, seed: int) -> Task:
    """y = 2 x + noise."""
    generator = torch.Generator().manual_seed(seed)
    x, test_x = torch.linspace(-1, 1, 64), torch.linspace(-0.99, 0.99, 64)
    y, test_y = (2 * at + noise * torch.randn(64, generator=generator) for at in (x, test_x))
    return Task(x, y, test_x, test_y)


def example() -> Task:
    return make_task(0.1, 0)


def train(name: str, task: Task, recipe: Recipe) -> nn.Module:
    """A contender, trained."""
    model: nn.Module = CONTENDERS[name].build(task, recipe)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr)
    for _ in range(recipe.steps):
        loss = nn.functional.mse_loss(model(task.x), task.y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model
'''

EXPERIMENTS = '''\
"""The experiments of $name."""

from __future__ import annotations

import torch

from assay.contenders import spent
from assay.experiment import Run, experiment
from methods.$slug.contenders import CONTENDERS, make_task, train


@experiment(quick=dict(replicates=3, datasets=[], noises=[0.1, 0.3]))
def fit(run: Run, noises: list[float]) -> None:
    """All contenders on the same points; a replicate is new data."""
    for noise in noises:
        task = make_task(noise, run.seed)
        for name, contender in CONTENDERS.items():
            with run.method(name, noise=noise) as m:
                model = train(name, task, contender.recipe)
                with torch.no_grad():
                    m["mse"] = (model(task.test_x) - task.test_y).square().mean()
                spent(m, model, steps=contender.recipe.steps)
'''

MAIN = '''\
"""`python -m methods.$slug`"""

from methods.$slug.$slug import main

main()
'''

NOTES = """\
# Notes on $name

What was looked at before a bar was fixed, what was changed after a run and why. Dates are those on which it was written
down.

## $date

* Begun; the bar was fixed before any run.
"""

HOTPATHS = '''\
"""What is tracked over commits: one set-up and one call each."""

from __future__ import annotations

from collections.abc import Callable

import torch

from methods.$slug.$slug import $name


def forward() -> Callable[[], object]:
    model, x = $name(), torch.linspace(-1, 1, 4096)
    return lambda: model(x)
'''

TEST = '''\
"""$name, as statements about the paper."""

from __future__ import annotations

import torch

from methods.$slug import $name


def test_prediction_is_linear_in_x() -> None:
    torch.manual_seed(0)
    model, x = $name(), torch.tensor([0.0, 1.0, 2.0])
    y = model(x)
    torch.testing.assert_close(y[2] - y[1], y[1] - y[0])
'''


SMALL = '''\
"""The experiments of $name made small, for the tests that all papers share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from methods.$slug import experiments
from methods.$slug.contenders import Recipe, Task

SMALL = {"fit": dict(noises=[0.1])}
TEST_METRICS = {"mse"}
RECIPES = {"$slug": Recipe(steps=5)}


@contextmanager
def test_data_permuted() -> Iterator[None]:
    """What is tested is shifted, before anything sees it."""
    make_task = experiments.make_task

    def permuted(noise: float, seed: int) -> Task:
        task = make_task(noise, seed)
        return task._replace(test_y=task.test_y.roll(1))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "make_task", permuted)
        yield
'''

INIT = '''\
"""The paper's title (authors; venue): $name.

At points of your own:

    import torch
    from methods.$slug import $name

    x = torch.linspace(-1, 1, 5)
    model = $name()
    y = model(x)  # (5,)
"""

from methods.$slug.$slug import $name

__all__ = ["$name"]
'''


def _why_not(slug: str) -> str | None:
    """What else the name means, where it would become a module, a key on a card and a name in expressions."""
    if keyword.iskeyword(slug) or keyword.issoftkeyword(slug):
        return "it is a word of Python"
    if slug in YAML_WORDS:
        return "on a card YAML reads it as true, false or nothing"
    if slug in GRAMMAR:
        return "it has a meaning of its own on a card"
    if slug in TAKEN:
        return "a paper's folder has a file or a class of this name"
    if find_spec(slug) is not None:
        return "a module of this name can be imported already"
    return None


def create(root: Path, slug: str) -> list[Path]:
    """Write the folder and the test file; returns the files. Raises AssayError where they exist or the name is bad."""
    if not SLUG.fullmatch(slug):
        raise AssayError(f"'{slug}' is no slug: lower-case letters, digits and _, beginning with a letter")
    if reason := _why_not(slug):
        raise AssayError(f"a paper cannot be called '{slug}': {reason}; choose another name, such as '{slug}_net'")
    folder = root / "methods" / slug
    if folder.exists():
        raise AssayError(f"{folder} exists already; a paper is one folder, edit it there")
    name = "".join(part.capitalize() for part in slug.split("_"))
    methods = root / "methods" / "__init__.py"
    begun = {} if methods.exists() else {methods: '"""The papers of this project, a folder each."""\n'}
    texts = begun | {
        folder / "paper.yaml": CARD,
        folder / "__init__.py": INIT,
        folder / "__main__.py": MAIN,
        folder / f"{slug}.py": METHOD,
        folder / "baselines.py": BASELINES,
        folder / "contenders.py": CONTENDERS,
        folder / "experiments.py": EXPERIMENTS,
        folder / "hotpaths.py": HOTPATHS,
        folder / "NOTES.md": NOTES,
        root / "tests" / "methods" / slug / "small.py": SMALL,
        root / "tests" / "methods" / slug / f"test_{slug}.py": TEST,
    }
    for path, text in texts.items():
        write_atomically(path, Template(text).substitute(slug=slug, name=name, date=datetime.date.today()))
    return list(texts)
